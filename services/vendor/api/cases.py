"""The cases that lie with a partner. A partner's own key sees its own, and nothing else."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field

from events.errors import Invalid, Unknown
from events.event import Label, Ref
from events.operations import Role
from events.store import Decision
from services.vendor import decide, views
from services.vendor.api.configuration import ConfigId
from services.vendor.decide import FOLD, PARTNER, WorkOrder
from services.vendor.views import Listed
from services.web import Answer, Caller, CaseId, Cursor, Door, Limit, Order, next_link, parse_cursor, written
from services.web import cursor as cursor_of


class AcceptOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class ReturnOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "this parcel was never with us"}]})

    reason: Label


class ResolveOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "delivered"}, {}]})

    code: Ref = "solved"


class WorkOrderAnswer(Answer):
    case_id: str
    order_id: str
    partner_id: str
    queue_id: str
    unit_id: str
    contract: str = Field(description="id@version.")
    share_plan: str | None = Field(description="id@version; null where nothing but the contracts decided.")
    status: Listed = Field(description="`ended`: the case came to its end without the partner.")
    handed_over_at: AwareDatetime
    accepted_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    reason: str | None = Field(description="Why it was returned.")
    code: str | None = Field(description="How it was resolved.")


class WorkOrders(Answer):
    items: list[WorkOrderAnswer]


def _answer(order: WorkOrder, status: Listed) -> WorkOrderAnswer:
    fields: dict[str, Any] = {name: getattr(order, name) for name in WorkOrderAnswer.model_fields}
    return WorkOrderAnswer(**(fields | {"status": status}))


def _position(text: str | None) -> tuple[datetime, str] | None:
    values = parse_cursor(text, 2)
    if values is None:
        return None
    try:
        return datetime.fromisoformat(values[0]).astimezone(UTC), str(UUID(values[1]))
    except (ValueError, OverflowError) as error:
        raise Invalid("this cursor is not one of ours") from error


def _only_its_own(partner_id: str, caller: Caller) -> None:
    principal = caller.principal
    if principal.role is Role.PARTNER and principal.holder != partner_id:
        raise HTTPException(403, "this key sees the cases of its own partner only")


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/partners/{id}/cases`."""
    host, works = door.host, door.caller(Role.PARTNER, Role.LEAD)

    @router.get("/v1/partners/{partner_id}/cases", summary="A partner's cases, the longest there first")
    async def cases(
        partner_id: ConfigId,
        request: Request,
        response: Response,
        caller: Annotated[Caller, door.caller(Role.PARTNER, Role.LEAD, Role.READER)],
        status: Annotated[Listed | None, Query(description="Only these.")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> WorkOrders:
        """The cases that were handed to the partner last. One that came to its end elsewhere is listed as `ended`."""
        _only_its_own(partner_id, caller)
        partner, _ = await host.store.state(PARTNER(f"partner:{partner_id}"))
        if partner is None:
            raise Unknown(f"there is no partner {partner_id}")
        rows = await host.database.rows(views.page_of_orders(partner_id, status, limit, _position(cursor)))
        orders = [(views.ORDERS.decode(tuple(row)[:-1]), Listed(row["listed"])) for row in rows[:limit]]
        next_link(request, response, _after(orders[-1][0]) if len(rows) > limit else None)
        return WorkOrders(items=[_answer(order, listed) for order, listed in orders])

    async def change(
        partner_id: str, case_id: str, order: Order, caller: Caller, response: Response, decision: Decision
    ) -> WorkOrderAnswer:
        _only_its_own(partner_id, caller)
        changed = await host.store.change(
            FOLD(case_id),
            decision=decision,
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, case_id=case_id),
            look=partial(views.has_ended, case_id=case_id),
        )
        written(response, changed)
        done = next(o for o in reversed(changed.states[0].orders) if o.partner_id == partner_id)
        return _answer(done, Listed(done.status))

    @router.post("/v1/partners/{partner_id}/cases/{case_id}:accept", summary="Accept a case")
    async def accept(
        partner_id: ConfigId,
        case_id: CaseId,
        order: AcceptOrder,
        response: Response,
        caller: Annotated[Caller, works],
    ) -> WorkOrderAnswer:
        """The partner works on the case. Accepting twice is accepting once."""
        return await change(partner_id, case_id, order, caller, response, partial(decide.accept, partner_id))

    @router.post("/v1/partners/{partner_id}/cases/{case_id}:return", summary="Return a case")
    async def hand_back(
        partner_id: ConfigId,
        case_id: CaseId,
        order: ReturnOrder,
        response: Response,
        caller: Annotated[Caller, works],
    ) -> WorkOrderAnswer:
        """The case comes back unsolved, with the reason, and is queued with a unit that is no partner."""
        decision = partial(decide.hand_back, partner_id, order.reason)
        return await change(partner_id, case_id, order, caller, response, decision)

    @router.post("/v1/partners/{partner_id}/cases/{case_id}:resolve", summary="Resolve a case")
    async def resolve(
        partner_id: ConfigId,
        case_id: CaseId,
        order: ResolveOrder,
        response: Response,
        caller: Annotated[Caller, works],
    ) -> WorkOrderAnswer:
        """The partner brought the case to its end. The case itself is resolved a moment later, by intake."""
        decision = partial(decide.resolve, partner_id, order.code)
        return await change(partner_id, case_id, order, caller, response, decision)


def _after(order: WorkOrder) -> str:
    return cursor_of(order.handed_over_at.isoformat(), order.case_id)
