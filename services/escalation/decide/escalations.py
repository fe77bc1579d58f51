"""Escalations: an escalation unit is asked, owns the case, and ends it or hands it back.

What makes a rung fire is decided in `ladders.py`, what a person may do about an escalation here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from events.case import (
    CaseEscalated,
    ClockKind,
    ClockStopped,
    EscalationAcknowledged,
    EscalationResolved,
    EscalationReturned,
    EscalationUnanswered,
    address,
)
from events.errors import Refused, Unknown
from events.event import CaseEvent, Event, Recorded

if TYPE_CHECKING:
    from services.escalation.decide.case import Case

ONLY_RUNG = "first"
"""The rung of a ladder that names none, and of escalations recorded before there were any."""


NOBODY: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class Status(StrEnum):
    """Where an escalation stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    ENDED = "ended"


class Outcome(StrEnum):
    """How an escalation ended."""

    RESOLVED = "resolved"
    """The escalation unit brought the case to an end."""
    RETURNED = "returned"
    """The unit handed the case back."""
    OVERTAKEN = "overtaken"
    """The case was resolved without the unit."""
    PASSED_ON = "passed_on"
    """A higher rung of the ladder was asked before anybody owned it."""


@dataclass(frozen=True, slots=True)
class Escalation:
    """An escalation: one rung of a ladder asks one unit. At most one of a case is not ended."""

    case_id: str
    escalation_id: str
    episode: int
    unit_id: str
    status: Status
    trigger: str
    reason: str
    ladder: str | None
    opened_at: datetime
    owner: str | None = None
    acknowledged_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    rung: str = ONLY_RUNG
    acknowledge_by: datetime | None = None
    due_at: datetime | None = None
    """The same, until it is known whether anybody did."""
    unanswered: bool = False
    """Nobody acknowledged in time."""
    on_duty: tuple[str, ...] = ()
    """Who may own it; none: whoever acknowledges first."""
    address: str | None = None
    """Where the customer reaches the owner."""
    resolved: bool = False
    """The case had its answer before."""
    returns: int = 0
    """How often an escalation of the case was handed back."""


def escalated(latest: Escalation | None, event: Recorded[CaseEvent]) -> Escalation | None:
    """The case's latest escalation after one more event. It ends with its episode's resolution clock at the latest."""
    data, at = event.data, event.occurred_at
    if isinstance(data, CaseEscalated):
        return _opened(latest, data, event)
    if latest is None or latest.status is Status.ENDED:
        return latest
    match data:
        case EscalationUnanswered():
            return replace(latest, unanswered=True, due_at=None)
        case EscalationAcknowledged():
            return replace(
                latest,
                status=Status.ACKNOWLEDGED,
                owner=data.owner,
                address=data.address,
                acknowledged_at=at,
                due_at=None,
            )
        case EscalationResolved():
            return _ended(latest, Outcome.RESOLVED, at)
        case EscalationReturned(times=times):
            return replace(_ended(latest, Outcome.RETURNED, at), returns=max(times, latest.returns + 1))
        case ClockStopped(clock=ClockKind.RESOLUTION) if data.episode >= latest.episode + latest.resolved:
            return _ended(latest, Outcome.OVERTAKEN, at)
        case _:
            return latest


def _opened(latest: Escalation | None, data: CaseEscalated, event: Recorded[CaseEvent]) -> Escalation:
    return Escalation(
        event.subject,
        data.escalation_id,
        data.episode,
        data.unit_id,
        Status.OPEN,
        data.trigger,
        data.reason,
        data.ladder,
        event.occurred_at,
        rung=data.rung or ONLY_RUNG,
        acknowledge_by=data.acknowledge_by,
        due_at=data.acknowledge_by,
        on_duty=data.on_duty,
        resolved=data.resolved,
        returns=0 if latest is None else latest.returns,
    )


def _ended(escalation: Escalation, outcome: Outcome, at: datetime) -> Escalation:
    return replace(escalation, status=Status.ENDED, outcome=outcome, ended_at=at, due_at=None)


def all_escalations(before: tuple[Escalation, ...], event: Recorded[CaseEvent]) -> tuple[Escalation, ...]:
    """Every escalation of the case after one more event: a new one passes the open one on."""
    latest = escalated(before[-1] if before else None, event)
    if latest is None or not isinstance(event.data, CaseEscalated):
        return before if latest is None else (*before[:-1], latest)
    if before and before[-1].status is not Status.ENDED:
        before = (*before[:-1], _ended(before[-1], Outcome.PASSED_ON, event.occurred_at))
    return (*before, latest)


# ---------------------------------------------------------------------------------------------------------- decisions


def acknowledge(
    escalation_id: str, owner: str, now: datetime, case: Case, on_duty: Mapping[str, tuple[str, ...]] = NOBODY
) -> list[Event]:
    """`owner` owns the case from here; the same owner again is no event. Where the rota decides, those it named when
    the unit was asked and those it names now may. Raises Unknown, Refused."""
    escalation = _active(escalation_id, case)
    if escalation.owner == owner:
        return []
    if escalation.status is not Status.OPEN:
        raise Refused(f"{escalation.owner} acknowledged this escalation before")
    named_by_rota = (*escalation.on_duty, *on_duty.get(escalation.unit_id, ()))
    if escalation.on_duty and owner not in named_by_rota:
        raise Refused(f"the rota of {escalation.unit_id} says who owns it: {', '.join(dict.fromkeys(named_by_rota))}")
    return [
        EscalationAcknowledged(
            escalation_id=escalation_id, unit_id=escalation.unit_id, owner=owner, address=address(case.case_id)
        )
    ]


def resolve(escalation_id: str, code: str, now: datetime, case: Case) -> list[Event]:
    """The owner brought the case to an end; again is no event. Raises Unknown, Refused."""
    if named(escalation_id, case).outcome is Outcome.RESOLVED:
        return []
    escalation = _active(escalation_id, case)
    if escalation.owner is None:
        raise Refused("nobody owns this escalation yet; acknowledge it before you resolve it")
    return [
        EscalationResolved(escalation_id=escalation_id, unit_id=escalation.unit_id, owner=escalation.owner, code=code)
    ]


def hand_back(escalation_id: str, reason: str, now: datetime, case: Case) -> list[Event]:
    """The unit hands the case back, with the reason; again is no event. Raises Unknown, Refused."""
    if named(escalation_id, case).outcome is Outcome.RETURNED:
        return []
    escalation = _active(escalation_id, case)
    times = escalation.returns + 1
    return [EscalationReturned(escalation_id=escalation_id, unit_id=escalation.unit_id, reason=reason, times=times)]


def named(escalation_id: str, case: Case) -> Escalation:
    for escalation in case.escalations:
        if escalation.escalation_id == escalation_id:
            return escalation
    raise Unknown("there is no escalation under this id")


def _active(escalation_id: str, case: Case) -> Escalation:
    escalation = named(escalation_id, case)
    match escalation.outcome:
        case Outcome.RESOLVED:
            raise Refused("the escalation unit resolved this escalation before")
        case Outcome.RETURNED:
            raise Refused("the escalation unit handed this escalation back before")
        case Outcome.OVERTAKEN:
            raise Refused("the case was resolved meanwhile, which ended this escalation")
        case Outcome.PASSED_ON:
            now_at = case.escalations[-1]
            raise Refused(
                f"nobody owned this escalation in time; it went on to {now_at.unit_id} as {now_at.escalation_id}"
            )
        case None:
            return escalation
