"""Escalations are asked for, owned, resolved and handed back."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field

from events.database import Connection
from events.errors import Invalid
from events.event import Label, Ref
from events.operations import Role
from events.store import Decision
from services.escalation.decide import escalations as decide
from services.escalation.decide import ladders as escalating
from services.escalation.decide.case import FOLD
from services.escalation.decide.escalations import Escalation, Outcome, Status
from services.escalation.decide.ladders import Seen
from services.escalation.decide.rotas import on_duty
from services.escalation.react.escalations import seen_of
from services.escalation.views import escalations as views
from services.escalation.views.rotas import rotas_in_force
from services.web import Answer, Caller, CaseId, Cursor, Door, Limit, Order, next_link, parse_cursor, written
from services.web import cursor as cursor_of

EscalationId = Annotated[
    str,
    Path(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(\.[1-9][0-9]{0,8}){1,2}$",
        description="The case id, a dot, the episode; for what is not its first escalation, a dot and which one it is.",
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
    trigger: str = Field(description="What made the rung fire: the kind of the breached clock, `asked`, `unanswered` …")
    reason: str
    ladder: str | None = Field(description="id@version of the ladder that decided.")
    rung: str = Field(description="The ladder's rung that fired; each does once per episode.")
    acknowledge_by: AwareDatetime | None = Field(description="When the next rung is asked; null: never.")
    unanswered: bool = Field(description="Nobody acknowledged in time.")
    on_duty: tuple[str, ...] = Field(description="Who may own it, by the rota; none: whoever acknowledges first.")
    owner: str | None
    address: str | None = Field(description="Where the customer reaches the owner; null until there is one.")
    opened_at: AwareDatetime
    acknowledged_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    outcome: Outcome | None = Field(
        description="How it ended; `overtaken`: resolved without the unit; `passed_on`: a higher rung fired."
    )
    returns: int = Field(description="How often an escalation of the case was handed back.")


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
        """Ask for the lowest rung of the case's ladder that a person's asking makes fire. While an escalation is open,
        asking again changes nothing and answers 200; a resolved case, or one whose rungs have fired in this episode, is
        refused."""

        async def look(conn: Connection) -> Seen:
            return await seen_of(conn, [order.case_id])

        changed = await host.store.change(
            FOLD(order.case_id),
            decision=partial(escalating.escalate, order.reason),
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
        escalation_id: str, order: Order, caller: Caller, response: Response, decision: Decision, **more: Any
    ) -> EscalationAnswer:
        changed = await host.store.change(
            FOLD(escalation_id.partition(".")[0]),
            decision=decision,
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, escalation_id=escalation_id),
            **more,
        )
        written(response, changed)
        return _escalation(decide.named(escalation_id, changed.states[0]))

    @router.post("/v1/escalations/{escalation_id}:acknowledge", summary="Own an escalated case")
    async def acknowledge(
        escalation_id: EscalationId, order: AcknowledgeOrder, response: Response, caller: Annotated[Caller, works]
    ) -> EscalationAnswer:
        """From here on the owner is responsible until the case is resolved or handed back, and the customer reaches
        them at the case's own address. Where the ladder leaves the ownership to the rota, only whom it names may."""

        async def duty(conn: Connection) -> dict[str, tuple[str, ...]]:
            now = await conn.fetchval("select clock_timestamp()")
            return {unit_id: on_duty(rota, now) for unit_id, rota in (await rotas_in_force(conn)).items()}

        decision = partial(decide.acknowledge, escalation_id, _owner(order, caller))
        return await change(escalation_id, order, caller, response, decision, look=duty)

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
        """The case goes back to the queue it came from, with the reason, and that is counted. The rungs that fired do
        not fire again in this episode."""
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
