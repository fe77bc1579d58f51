"""Partners, contracts and share plans are published by version."""

from functools import partial
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Path, Response
from pydantic import ConfigDict, Field

from events.errors import Unknown
from events.event import Label, Ref
from events.operations import ContractPublished, PartnerRegistered, Role, Share, SharePlanPublished
from services.vendor import decide, views
from services.vendor.decide import CONTRACT, PARTNER, SHARE_PLAN
from services.web import Answer, Caller, Door, Order, written

ConfigId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Up to 100 letters, digits, `.`, `_`, `-`.")
]


class PartnerOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Swift Parcels"}]})

    name: Label


class PartnerAnswer(Answer):
    partner_id: str
    version: int
    name: str


class Partners(Answer):
    items: list[PartnerAnswer]


class ContractOrder(Order):
    """A partner handles the cases of these queues."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"partner_id": "swift", "queue_ids": ["parcels"]}]})

    partner_id: Ref
    queue_ids: tuple[Ref, ...] = Field(min_length=1, max_length=500)


class ContractAnswer(Answer):
    contract_id: str
    version: int
    partner_id: str
    queue_ids: tuple[str, ...]


class Contracts(Answer):
    items: list[ContractAnswer]


class ShareOrder(Order):
    partner_id: Ref
    percent: int = Field(ge=0, le=100)


class SharePlanOrder(Order):
    """How the cases of the queue are split; the percentages sum to 100."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"shares": [{"partner_id": "swift", "percent": 100}]}]})

    shares: tuple[ShareOrder, ...] = Field(min_length=1, max_length=100)


class SharePlanAnswer(Answer):
    queue_id: str
    version: int
    shares: tuple[ShareOrder, ...]


class SharePlans(Answer):
    items: list[SharePlanAnswer]


def _partner(partner_id: str, content: PartnerRegistered) -> PartnerAnswer:
    return PartnerAnswer(partner_id=partner_id, version=content.version, name=content.name)


def _contract(contract_id: str, content: ContractPublished) -> ContractAnswer:
    return ContractAnswer(contract_id=contract_id, **content.model_dump())


def _share_plan(content: SharePlanPublished) -> SharePlanAnswer:
    return SharePlanAnswer(**content.model_dump())


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/partners/{id}`, `/v1/contracts` and `/v1/share-plans`."""
    _partners(router, door)
    _contracts(router, door)
    _share_plans(router, door)


def _partners(router: APIRouter, door: Door) -> None:
    host = door.host

    @router.get("/v1/partners", summary="The partners")
    async def partners(caller: Annotated[Caller, door.caller(Role.READER, Role.LEAD)]) -> Partners:
        """Every registered partner as it is now."""
        table = views.PARTNERS.table
        rows = await host.database.rows(sa.select(table).order_by(table.c.partner_id))
        items = [PartnerAnswer(partner_id=r["partner_id"], version=r["version"], name=r["name"]) for r in rows]
        return Partners(items=items)

    @router.get("/v1/partners/{partner_id}", summary="One partner")
    async def partner(
        partner_id: ConfigId, response: Response, caller: Annotated[Caller, door.caller(Role.READER, Role.LEAD)]
    ) -> PartnerAnswer:
        """As it is now; the number of changes is the `ETag`."""
        content, version = await host.store.state(PARTNER(f"partner:{partner_id}"))
        if content is None:
            raise Unknown(f"there is no partner {partner_id}")
        response.headers["ETag"] = f'"{version}"'
        return _partner(partner_id, content)

    @router.put("/v1/partners/{partner_id}", summary="Register a partner")
    async def register(
        partner_id: ConfigId,
        order: PartnerOrder,
        response: Response,
        caller: Annotated[Caller, door.caller(Role.LEAD)],
    ) -> PartnerAnswer:
        """Make a partner known, or change it. The same content again changes nothing.

        The partner comes in with a key of its own: `POST /v1/keys` with the role `partner` and this id as `holder`.
        """
        changed = await host.store.change(
            PARTNER(f"partner:{partner_id}"),
            decision=partial(decide.publish, PartnerRegistered(version=1, name=order.name)),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, partner_id=partner_id),
        )
        written(response, changed)
        return _partner(partner_id, changed.states[0])


def _contracts(router: APIRouter, door: Door) -> None:
    host, reads = door.host, door.caller(Role.READER, Role.LEAD)

    @router.get("/v1/contracts", summary="The contracts")
    async def contracts(caller: Annotated[Caller, reads]) -> Contracts:
        """The version in force of every contract."""
        table = views.CONTRACTS.table
        rows = await host.database.rows(sa.select(table).order_by(table.c.contract_id))
        decoded = [views.CONTRACTS.decode(row) for row in rows]
        return Contracts(items=[_contract(row.contract_id, row.content) for row in decoded])

    @router.get("/v1/contracts/{contract_id}", summary="One contract")
    async def contract(contract_id: ConfigId, response: Response, caller: Annotated[Caller, reads]) -> ContractAnswer:
        """The version in force; its number is the `ETag`."""
        content, version = await host.store.state(CONTRACT(f"contract:{contract_id}"))
        if content is None:
            raise Unknown(f"there is no contract {contract_id}")
        response.headers["ETag"] = f'"{version}"'
        return _contract(contract_id, content)

    @router.put("/v1/contracts/{contract_id}", summary="Publish a contract")
    async def publish(
        contract_id: ConfigId,
        order: ContractOrder,
        response: Response,
        caller: Annotated[Caller, door.caller(Role.LEAD)],
    ) -> ContractAnswer:
        """The next version: from now on the partner may get cases of these queues, by this contract of no others."""
        queue_ids = tuple(sorted(set(order.queue_ids)))
        wanted = ContractPublished(version=1, partner_id=order.partner_id, queue_ids=queue_ids)
        changed = await host.store.change(
            CONTRACT(f"contract:{contract_id}"),
            decision=partial(decide.publish_contract, wanted),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, contract_id=contract_id),
            look=views.partner_ids,
        )
        written(response, changed)
        return _contract(contract_id, changed.states[0])


def _share_plans(router: APIRouter, door: Door) -> None:
    host, reads = door.host, door.caller(Role.READER, Role.LEAD)

    @router.get("/v1/share-plans", summary="The share plans")
    async def share_plans(caller: Annotated[Caller, reads]) -> SharePlans:
        """The version in force for every queue that has one."""
        table = views.SHARE_PLANS.table
        rows = await host.database.rows(sa.select(table).order_by(table.c.queue_id))
        return SharePlans(items=[_share_plan(views.SHARE_PLANS.decode(row).content) for row in rows])

    @router.get("/v1/share-plans/{queue_id}", summary="The share plan of a queue")
    async def share_plan(queue_id: ConfigId, response: Response, caller: Annotated[Caller, reads]) -> SharePlanAnswer:
        """The version in force; its number is the `ETag`."""
        content, version = await host.store.state(SHARE_PLAN(f"share_plan:{queue_id}"))
        if content is None:
            raise Unknown(f"there is no share plan for the queue {queue_id}")
        response.headers["ETag"] = f'"{version}"'
        return _share_plan(content)

    @router.put("/v1/share-plans/{queue_id}", summary="Publish the share plan of a queue")
    async def publish(
        queue_id: ConfigId,
        order: SharePlanOrder,
        response: Response,
        caller: Annotated[Caller, door.caller(Role.LEAD)],
    ) -> SharePlanAnswer:
        """The next version; what each partner was given counts from here anew. Every partner needs a contract that
        covers the queue. A queue without a plan is split evenly between the partners whose contracts cover it."""
        shares = tuple(Share(partner_id=share.partner_id, percent=share.percent) for share in order.shares)
        changed = await host.store.change(
            SHARE_PLAN(f"share_plan:{queue_id}"),
            decision=partial(
                decide.publish_share_plan, SharePlanPublished(version=1, queue_id=queue_id, shares=shares)
            ),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, queue_id=queue_id),
            look=views.covered,
        )
        written(response, changed)
        return _share_plan(changed.states[0])
