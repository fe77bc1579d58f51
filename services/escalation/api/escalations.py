"""Escalations are asked for, owned, resolved and handed back."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field

from events.database import Connection
from events.errors import Invalid
from events.event import Label, Ref
from events.operations import LadderPublished, Role
from events.store import Decision
from services.escalation.decide import escalations as decide
from services.escalation.decide.case import FOLD
from services.escalation.decide.escalations import Escalation, Outcome, Status
from services.escalation.react.escalations import STANDARD
from services.escalation.views import escalations as views
from services.escalation.views import ladders
from services.web import Answer, Caller, CaseId, Cursor, Door, Limit, Order, next_link, parse_cursor, written
from services.web import cursor as cursor_of

EscalationId = Annotated[
    str,
    Path(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\.[1-9][0-9]{0,8}$",
        description="The case id, a dot, the episode.",
    ),
]


class EscalateOrder(Order):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"case_id": "0195571e-8a00-7000-8000-000000000001", "reason": "the customer is stranded abroad"}
            ]
        }
    )

    case_id: CaseId
    reason: Label


class AcknowledgeOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"owner": "olga"}, {}]})

    owner: Ref | None = Field(default=None, description="The agent who owns the case now; left out: the key's holder.")


class ResolveOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "solved"}, {}]})

    code: Ref = "solved"


class ReturnOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "the partner has to answer first"}]})

    reason: Label


class EscalationAnswer(Answer):
    escalation_id: str
    case_id: str
    episode: int
    unit_id: str
    status: Status
    trigger: str = Field(description="The kind of the breached clock, or `asked`.")
    reason: str
    ladder: str | None = Field(description="id@version of the ladder that decided; null when a person asked.")
    owner: str | None
    opened_at: AwareDatetime
    acknowledged_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    outcome: Outcome | None = Field(description="How it ended; `overtaken`: the case was resolved without the unit.")


class Escalations(Answer):
    items: list[EscalationAnswer]


def _escalation(escalation: Escalation) -> EscalationAnswer:
    return EscalationAnswer(**{name: getattr(escalation, name) for name in EscalationAnswer.model_fields})


def _position(text: str | None) -> tuple[datetime, str] | None:
    values = parse_cursor(text, 2)
    if values is None:
        return None
    try:
        return datetime.fromisoformat(values[0]).astimezone(UTC), str(UUID(values[1]))
    except (ValueError, OverflowError) as error:
        raise Invalid("this cursor is not one of ours") from error


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/escalations`."""
    host, works = door.host, door.caller(Role.AGENT, Role.LEAD)

    @router.get("/v1/escalations", summary="Escalations, the longest open first")
    async def escalations(
        request: Request,
        response: Response,
        caller: Annotated[Caller, door.caller(Role.READER, Role.AGENT, Role.LEAD)],
        status: Annotated[Status | None, Query(description="Only these.")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Escalations:
        """Each case's latest escalation, in the order in which they were opened."""
        rows = await host.database.rows(views.page_of_escalations(status, limit, _position(cursor)))
        items = [views.ESCALATIONS.decode(row) for row in rows[:limit]]
        next_link(request, response, _after(items[-1]) if len(rows) > limit else None)
        return Escalations(items=[_escalation(item) for item in items])

    @router.post(
        "/v1/escalations",
        summary="Escalate a case",
        status_code=201,
        responses={200: {"model": EscalationAnswer, "description": "The case is escalated already."}},
    )
    async def escalate(
        order: EscalateOrder,
        response: Response,
        caller: Annotated[Caller, door.caller(Role.CHANNEL, Role.AGENT, Role.LEAD)],
    ) -> EscalationAnswer:
        """Ask the ladder's unit to take the case over. Once per episode: while it is open, asking again changes nothing
        and answers 200; a resolved case, or one that was handed back in this episode, is refused."""

        async def look(conn: Connection) -> LadderPublished | None:
            found = await ladders.ladder_in_force(conn, STANDARD)
            return None if found is None else found[1]

        changed = await host.store.change(
            FOLD(order.case_id),
            decision=partial(decide.escalate, order.reason),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 201, case_id=order.case_id),
            look=look,
        )
        if changed.answer is None and not changed.events:
            response.status_code = 200
        written(response, changed)
        return _escalation(changed.states[0].escalation)

    async def change(
        escalation_id: str, order: Order, caller: Caller, response: Response, decision: Decision
    ) -> EscalationAnswer:
        changed = await host.store.change(
            FOLD(escalation_id.partition(".")[0]),
            decision=decision,
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, escalation_id=escalation_id),
        )
        written(response, changed)
        return _escalation(decide.named(escalation_id, changed.states[0]))

    @router.post("/v1/escalations/{escalation_id}:acknowledge", summary="Own an escalated case")
    async def acknowledge(
        escalation_id: EscalationId, order: AcknowledgeOrder, response: Response, caller: Annotated[Caller, works]
    ) -> EscalationAnswer:
        """From here on the owner is responsible until the case is resolved or handed back."""
        owner = _owner(order, caller)
        return await change(escalation_id, order, caller, response, partial(decide.acknowledge, escalation_id, owner))

    @router.post("/v1/escalations/{escalation_id}:resolve", summary="Bring an escalated case to an end")
    async def resolve(
        escalation_id: EscalationId, order: ResolveOrder, response: Response, caller: Annotated[Caller, works]
    ) -> EscalationAnswer:
        """The owner solved it. The case itself is resolved a moment later, by intake."""
        return await change(escalation_id, order, caller, response, partial(decide.resolve, escalation_id, order.code))

    @router.post("/v1/escalations/{escalation_id}:return", summary="Hand an escalated case back")
    async def hand_back(
        escalation_id: EscalationId, order: ReturnOrder, response: Response, caller: Annotated[Caller, works]
    ) -> EscalationAnswer:
        """The case goes back to the queue it came from, with the reason. The episode is not escalated again."""
        return await change(
            escalation_id, order, caller, response, partial(decide.hand_back, escalation_id, order.reason)
        )


def _owner(order: AcknowledgeOrder, caller: Caller) -> str:
    """Who is to own the case: an agent's key acts for its holder only, any other key says for whom."""
    principal = caller.principal
    if principal.role is Role.AGENT:
        if order.owner not in (None, principal.holder):
            raise HTTPException(403, f"this key acts for {principal.holder} only")
        return principal.holder or principal.key_id
    if order.owner is None:
        raise Invalid("owner: say which agent owns the case now")
    return order.owner


def _after(escalation: Escalation) -> str:
    return cursor_of(escalation.opened_at.isoformat(), escalation.case_id)
