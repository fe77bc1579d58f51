"""Doors to the work: what waits, who was asked, and what agents answer."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import ConfigDict, Field

from events.case import Priority, UnitKind
from events.errors import Invalid, Unknown
from events.event import Label, Ref
from events.operations import Role
from events.store import Changed
from services.router import decide, views
from services.router.organigram import AGENT
from services.router.work import CASE, Status, Work
from services.runtime import Host
from services.web import (
    Answer,
    Caller,
    CaseId,
    Cursor,
    Door,
    Limit,
    Order,
    cursor,
    next_link,
    parse_cursor,
    written,
)

InHand = Literal[Status.WAITING, Status.OFFERED, Status.ASSIGNED]
IN_HAND: tuple[Status, ...] = (Status.WAITING, Status.OFFERED, Status.ASSIGNED)

CaseInPath = Annotated[CaseId, Path(description="The case's id.", examples=["0195571e-8a00-7000-8000-000000000001"])]
ActingAgent = Annotated[
    Ref | None, Field(default=None, description="Who acts. An agent's key acts for its holder, who may be left out.")
]
OfferId = Annotated[Ref | None, Field(default=None, description="Which offer is meant: 409 if it is over.")]


class AcceptOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"agent_id": "anna"}]})

    offer_id: OfferId
    agent_id: ActingAgent


class DeclineOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"agent_id": "anna", "reason": "not my product"}]})

    offer_id: OfferId
    agent_id: ActingAgent
    reason: Label = "declined"


class TransferOrder(Order):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"queue_id": "general", "reason": "needs a refund specialist"}]}
    )

    queue_id: Ref
    reason: Label
    agent_id: ActingAgent


class ReleaseOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "my shift is over"}]})

    reason: Label
    agent_id: ActingAgent


class WorkAnswer(Answer):
    """A case as routing sees it."""

    case_id: str
    status: Status
    priority: Priority
    channel: str | None
    market: str | None
    language: str | None
    journey: str | None
    queue_id: str
    unit_id: str
    unit_kind: UnitKind
    enqueued_at: datetime | None = Field(description="Since when it has its place in the queue.")
    agent_id: str | None = Field(description="Who was asked, or owns it.")
    offer_id: str | None
    due_at: datetime | None = Field(description="When the open offer ends.")
    declined_by: list[str]

    @classmethod
    def of(cls, work: Work | Any) -> "WorkAnswer":
        """From a state or a row."""
        values = dict(work) if not isinstance(work, Work) else {name: getattr(work, name) for name in cls.model_fields}
        return cls.model_validate({**values, "declined_by": list(values["declined_by"])})


class WorkList(Answer):
    items: list[WorkAnswer]


def add(router: APIRouter, door: Door) -> None:
    """What waits for agents, and what they do with it."""
    for room in (_reading, _answering, _moving):
        room(router, door.host, door)


def _reading(router: APIRouter, host: Host, door: Door) -> None:
    @router.get("/v1/work", summary="List the work")
    async def get_work(
        request: Request,
        response: Response,
        agent: Annotated[Ref | None, Query(description="Offered to this agent, or owned by them.")] = None,
        queue: Annotated[Ref | None, Query()] = None,
        status: Annotated[InHand | None, Query()] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
        caller: Caller = door.caller(Role.AGENT, Role.LEAD, Role.READER),
    ) -> WorkList:
        """Waiting, offered and assigned cases: the most urgent first, then the oldest. An agent's key sees its own."""
        if caller.principal.role is Role.AGENT:
            agent = _acting(caller, agent)
        statuses = IN_HAND if status is None else (status,)
        rows = await host.database.rows(views.work(_after(cursor), limit + 1, statuses, agent, queue))
        next_link(request, response, _cursor(rows[limit - 1]) if len(rows) > limit else None)
        return WorkList(items=[WorkAnswer.of(row) for row in rows[:limit]])

    @router.get("/v1/work/{case_id}", summary="Where a case is")
    async def get_one(
        case_id: CaseInPath, response: Response, caller: Caller = door.caller(Role.AGENT, Role.LEAD, Role.READER)
    ) -> WorkAnswer:
        """404 until the case was routed for the first time."""
        work, version = await host.store.state(CASE(case_id))
        if work.status is Status.NONE:
            raise Unknown(f"the router has no case {case_id}")
        response.headers["ETag"] = f'"{version}"'
        return WorkAnswer.of(work)


def _answering(router: APIRouter, host: Host, door: Door) -> None:
    @router.post("/v1/work/{case_id}:accept", summary="Accept an offer")
    async def accept(
        case_id: CaseInPath, order: AcceptOrder, response: Response, caller: Caller = door.caller(Role.AGENT, Role.LEAD)
    ) -> WorkAnswer:
        """The agent owns the case from here. 409 when it is not offered to them, or not any more."""
        agent_id = _acting(caller, order.agent_id)
        changed = await host.store.change(
            CASE(case_id),
            AGENT(agent_id),
            decision=partial(decide.accept, agent_id, order.offer_id),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, case_id=case_id),
            look=partial(views.load, agent_id),
        )
        return _answer(response, changed)

    @router.post("/v1/work/{case_id}:decline", summary="Decline an offer")
    async def decline(
        case_id: CaseInPath,
        order: DeclineOrder,
        response: Response,
        caller: Caller = door.caller(Role.AGENT, Role.LEAD),
    ) -> WorkAnswer:
        """The case keeps its place and is offered to somebody else; this agent is not asked again in this queue."""
        agent_id = _acting(caller, order.agent_id)
        changed = await host.store.change(
            CASE(case_id),
            decision=partial(decide.decline, agent_id, order.offer_id, order.reason),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, case_id=case_id),
        )
        return _answer(response, changed)


def _moving(router: APIRouter, host: Host, door: Door) -> None:
    @router.post("/v1/work/{case_id}:transfer", summary="Transfer a case to another queue")
    async def transfer(
        case_id: CaseInPath,
        order: TransferOrder,
        response: Response,
        caller: Caller = door.caller(Role.AGENT, Role.LEAD),
    ) -> WorkAnswer:
        """By the agent who owns it, or by a lead, who may also move what waits or is offered."""
        changed = await host.store.change(
            CASE(case_id),
            decision=partial(decide.transfer, _acting_or_lead(caller, order.agent_id), order.queue_id, order.reason),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, case_id=case_id),
            look=views.chart,
        )
        return _answer(response, changed)

    @router.post("/v1/work/{case_id}:release", summary="Put a case back into its queue")
    async def release(
        case_id: CaseInPath,
        order: ReleaseOrder,
        response: Response,
        caller: Caller = door.caller(Role.AGENT, Role.LEAD),
    ) -> WorkAnswer:
        """The agent who owned it has the capacity back and is not asked again in this queue."""
        changed = await host.store.change(
            CASE(case_id),
            decision=partial(decide.release, _acting_or_lead(caller, order.agent_id), order.reason),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, case_id=case_id),
            look=views.chart,
        )
        return _answer(response, changed)


def _acting(caller: Caller, agent_id: str | None) -> str:
    """Whose act this is. Raises 403 for another agent's key, Invalid where nobody is named."""
    acting = _acting_or_lead(caller, agent_id)
    if acting is None:
        raise Invalid("say whose answer this is: agent_id")
    return acting


def _acting_or_lead(caller: Caller, agent_id: str | None) -> str | None:
    if caller.principal.role is not Role.AGENT:
        return agent_id
    if agent_id not in (None, caller.principal.holder):
        raise HTTPException(403, "an agent's key acts for its holder only")
    return caller.principal.holder


def _answer(response: Response, changed: Changed) -> WorkAnswer:
    written(response, changed)
    return WorkAnswer.of(changed.states[0])


def _cursor(row: Any) -> str:
    return cursor(str(row["rank"]), row["enqueued_at"].isoformat(), row["case_id"])


def _after(text: str | None) -> tuple[int, datetime, str] | None:
    values = parse_cursor(text, 3)
    if values is None:
        return None
    rank, enqueued_at, case_id = values
    try:
        after = (int(rank), datetime.fromisoformat(enqueued_at), case_id)
    except ValueError as error:
        raise Invalid("this cursor is not one of ours") from error
    if not 0 <= after[0] < 10 or after[1].tzinfo is None:
        raise Invalid("this cursor is not one of ours")
    return after
