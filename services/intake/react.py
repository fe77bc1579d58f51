"""What others say that goes for the case: a partner's, an escalation unit's or an issue's resolution is the case's
resolution, and what is told to all customers of an issue is a message of the case."""

from __future__ import annotations

from datetime import datetime

from events.case import CaseIssueMessage, CaseIssueResolved, EscalationResolved, PartnerResolved
from events.consume import Reactor
from events.event import Recorded
from events.store import New
from services.intake.decide import cases
from services.intake.decide.cases import Life, Message, Resolver

Resolved = PartnerResolved | EscalationResolved | CaseIssueResolved


def react(event: Recorded[Resolved | CaseIssueMessage], looked: None, now: datetime, life: Life) -> list[New]:
    """Send what all are told, resolve what has its answer."""
    match event.data:
        case CaseIssueMessage(message_id=message_id, body=body):
            return _tell(message_id, body, now, life)
        case PartnerResolved(code=code):
            return _resolve("partner", code, event.occurred_at, now, life)
        case EscalationResolved(code=code) | CaseIssueResolved(code=code):
            return _resolve("escalation", code, event.occurred_at, now, life)


def _tell(message_id: str, body: str, now: datetime, life: Life) -> list[New]:
    """The case's customer is told, where the case still takes messages. It is a machine's: no first response."""
    if not life.case.live or life.closed:
        return []
    return cases.send(Message(message_id, body, automatic=True), None, now, life)


def _resolve(by: Resolver, code: str, at: datetime, now: datetime, life: Life) -> list[New]:
    """Resolve the episode that is open, unless what ended was an earlier one: the case has moved on since."""
    late = life.moved_at is not None and at < life.moved_at
    if not life.case.live or life.ended or (late and life.case.episode > 1):
        return []
    return cases.resolve(by, code, None if late else at, now, life)


REACTOR = Reactor(
    "resolutions", (PartnerResolved, EscalationResolved, CaseIssueMessage, CaseIssueResolved), cases.FOLD, react
)
