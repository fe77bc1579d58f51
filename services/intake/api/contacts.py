"""What is said on a case, and how its life moves: messages, resolve, reopen, close, feedback."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Literal, Self
from uuid import uuid4

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field, JsonValue, model_validator

from events.case import Category
from events.database import Connection
from events.errors import Unknown
from events.event import Label, Moment, Ref, named
from events.operations import Role
from events.store import Changed, Decision
from services.intake import views
from services.intake.decide import cases as decide
from services.intake.decide.cases import Life
from services.runtime import Host
from services.web import Answer, Caller, CaseId, Door, Order, PlainText, written

_ANSWER: dict[str, JsonValue] = {
    "direction": "out",
    "body": "Ihr Paket liegt in der Filiale. Welche Anschrift sollen wir nehmen?",
    "waits_for": "customer",
}
_CONTACT: dict[str, JsonValue] = {"direction": "in", "body": "Bitte an die Rechnungsanschrift.", "channel": "chat"}


class When(Order):
    occurred_at: Moment | None = Field(default=None, description="When it happened; now, if you do not say.")


class MessageOrder(When):
    """A message of the customer (`in`), or of ours or a partner's (`out`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ANSWER, _CONTACT]})

    direction: Literal["in", "out"]
    visibility: Literal["public", "internal"] = Field(
        default="public", description="`internal`: a note among us, which no customer, partner or channel reads."
    )
    body: PlainText
    channel: Ref | None = Field(default=None, description="Where it was said; the case's own channel, if left out.")
    waits_for: Literal["customer", "internal"] | None = Field(
        default=None, description="Whom the case waits for from now on."
    )
    automatic: bool = Field(default=False, description="Written by a machine: it is no first response.")
    to: Ref | None = Field(default=None, description="The address it was sent to: the case's own, or none.")

    @model_validator(mode="after")
    def _customers_only_write(self) -> Self:
        if self.direction == "in" and (self.visibility == "internal" or self.waits_for or self.automatic):
            raise ValueError("a customer's message takes no visibility, waits_for or automatic")
        return self


class ResolveOrder(When):
    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "refunded"}]})

    code: Ref | None = Field(default=None, description="What kind of end it is; `solved`, if you do not say.")


class ReopenOrder(When):
    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "the parcel came back"}]})

    reason: Label


class CloseOrder(When):
    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "no answer for 14 days"}]})

    reason: Label = "closed"


class FeedbackOrder(When):
    """The customer's answer to the survey: at least one of the three."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"accepted": True, "csat": 5, "nps": 9}]})

    accepted: bool | None = Field(default=None, description='"Was the answer acceptable?"')
    csat: int | None = Field(default=None, ge=1, le=5, description="Satisfaction, 1 to 5.")
    nps: int | None = Field(default=None, ge=0, le=10, description="Would recommend us, 0 to 10.")
    episode: int | None = Field(
        default=None, ge=1, le=1_000_000, description="The last one that was resolved, if you do not say."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.accepted is None and self.csat is None and self.nps is None:
            raise ValueError("say accepted, csat or nps, or several of them")
        return self


class MessageWritten(Answer):
    case_id: str
    message_id: str


class Moved(Answer):
    case_id: str
    episode: int
    category: Category


class FeedbackTaken(Answer):
    case_id: str
    episode: int


RESOLVE, CLOSE = ResolveOrder(), CloseOrder()


async def change(
    host: Host,
    case_id: str,
    decision: Decision,
    caller: Caller,
    order: Order,
    look: Callable[[Connection], Awaitable[Any]] | None = None,
) -> Changed:
    """Decide about the case, once per idempotency key. What is answered is read from the state, so nothing is kept."""
    return await host.store.change(
        decide.FOLD(case_id),
        decision=decision,
        actor=caller.actor,
        expected=caller.expected,
        once=caller.once(order, 200, case_id=case_id),
        look=look,
    )


def _moved(response: Response, changed: Changed) -> Moved:
    written(response, changed)
    life: Life = changed.states[0]
    return Moved(case_id=life.case.case_id, episode=life.case.episode, category=life.case.category)


def _message_id(caller: Caller) -> str:
    if caller.idempotency_key is None:
        return str(uuid4())
    return named(f"{caller.scope}/{caller.idempotency_key}/message")


def add(router: APIRouter, door: Door) -> None:
    """The routes below `/v1/cases/{case_id}`."""
    _add_messages(router, door)
    _add_moves(router, door)
    _add_feedback(router, door)


def _add_messages(router: APIRouter, door: Door) -> None:
    host = door.host
    writes = door.caller(Role.CHANNEL, Role.AGENT, Role.LEAD, Role.PARTNER)

    @router.post("/v1/cases/{case_id}/messages", status_code=201, summary="Write on a case")
    async def write(
        case_id: CaseId, order: MessageOrder, response: Response, caller: Annotated[Caller, writes]
    ) -> MessageWritten:
        """A message that came in or went out, or a note among us.

        A customer's message reopens a resolved case and takes over one that was only observed. A closed case takes
        none: open a new one. A partner writes on the cases that were handed to it.
        """
        if caller.principal.role is Role.PARTNER:
            access = await views.access(host.database, case_id)
            if not access.includes(Role.PARTNER, caller.principal.holder):
                raise Unknown(f"there is no case {case_id}")
        message_id = _message_id(caller)
        message = decide.Message(
            message_id,
            order.body,
            order.channel,
            order.visibility,
            order.automatic,
            order.waits_for,
            to=order.to,
        )
        decision = decide.receive if order.direction == "in" else decide.send
        written(response, await change(host, case_id, partial(decision, message, order.occurred_at), caller, order))
        return MessageWritten(case_id=case_id, message_id=message_id)


def _add_moves(router: APIRouter, door: Door) -> None:
    host = door.host
    moves = door.caller(Role.CHANNEL, Role.AGENT, Role.LEAD)
    closes = door.caller(Role.AGENT, Role.LEAD)

    @router.post("/v1/cases/{case_id}:resolve", summary="Resolve a case")
    async def resolve(
        case_id: CaseId, response: Response, caller: Annotated[Caller, moves], order: ResolveOrder = RESOLVE
    ) -> Moved:
        """The customer has an answer that ends the episode. Said by a channel's key, the customer ended it alone.

        Resolving twice is resolving once; under another `code` it is refused.
        """
        by: decide.Resolver = "customer" if caller.principal.role is Role.CHANNEL else "agent"
        decision = partial(decide.resolve, by, order.code, order.occurred_at)
        return _moved(response, await change(host, case_id, decision, caller, order))

    @router.post("/v1/cases/{case_id}:reopen", summary="Reopen a resolved case")
    async def reopen(
        case_id: CaseId, order: ReopenOrder, response: Response, caller: Annotated[Caller, moves]
    ) -> Moved:
        """The answer was not the end: the next episode begins. A closed case stays closed."""
        decision = partial(decide.reopen, order.reason, order.occurred_at)
        return _moved(response, await change(host, case_id, decision, caller, order))

    @router.post("/v1/cases/{case_id}:close", summary="Close a resolved case")
    async def close(
        case_id: CaseId, response: Response, caller: Annotated[Caller, closes], order: CloseOrder = CLOSE
    ) -> Moved:
        """Nothing more is expected; a later contact opens a new case. A case that is not resolved is not closed."""
        decision = partial(decide.close, order.reason, order.occurred_at)
        return _moved(response, await change(host, case_id, decision, caller, order))


def _add_feedback(router: APIRouter, door: Door) -> None:
    host, surveys = door.host, door.caller(Role.CHANNEL)

    @router.post("/v1/cases/{case_id}/feedback", status_code=201, summary="Take a customer's survey answer")
    async def feedback(
        case_id: CaseId, order: FeedbackOrder, response: Response, caller: Annotated[Caller, surveys]
    ) -> FeedbackTaken:
        """What the customer thought of an episode that was resolved: one answer per episode, never changed.

        Only a channel brings it; nobody judges their own work.
        """
        answer = partial(decide.feedback, order.episode, order.accepted, order.csat, order.nps)
        changed = await change(host, case_id, partial(answer, order.occurred_at), caller, order)
        written(response, changed)
        life: Life = changed.states[0]
        return FeedbackTaken(case_id=case_id, episode=order.episode or max(life.resolved))
