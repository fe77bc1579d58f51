"""Escalations: an escalation unit is asked, owns the case, and ends it or hands it back.

A rule that leads to an escalation belongs in `react.py`, what a person may ask for is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from events.case import (
    CaseEscalated,
    ClockKind,
    ClockStopped,
    EscalationAcknowledged,
    EscalationResolved,
    EscalationReturned,
)
from events.errors import Refused, Unknown
from events.event import CaseEvent, Event, Recorded
from events.operations import LadderPublished

if TYPE_CHECKING:
    from services.escalation.decide.case import Case

ASKED = "asked"
"""The trigger of an escalation that a person asked for."""


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


@dataclass(frozen=True, slots=True)
class Escalation:
    """An escalation. A case is escalated at most once per episode."""

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


def escalated(latest: Escalation | None, event: Recorded[CaseEvent]) -> Escalation | None:
    """The case's latest escalation after one more event. It ends with its episode's resolution clock at the latest."""
    data, at = event.data, event.occurred_at
    if isinstance(data, CaseEscalated):
        return Escalation(
            event.subject,
            data.escalation_id,
            data.episode,
            data.unit_id,
            Status.OPEN,
            data.trigger,
            data.reason,
            data.ladder,
            at,
        )
    if latest is None or latest.status is Status.ENDED:
        return latest
    match data:
        case EscalationAcknowledged():
            return replace(latest, status=Status.ACKNOWLEDGED, owner=data.owner, acknowledged_at=at)
        case EscalationResolved():
            return _ended(latest, Outcome.RESOLVED, at)
        case EscalationReturned():
            return _ended(latest, Outcome.RETURNED, at)
        case ClockStopped(clock=ClockKind.RESOLUTION) if data.episode >= latest.episode:
            return _ended(latest, Outcome.OVERTAKEN, at)
        case _:
            return latest


def _ended(escalation: Escalation, outcome: Outcome, at: datetime) -> Escalation:
    return replace(escalation, status=Status.ENDED, outcome=outcome, ended_at=at)


# ---------------------------------------------------------------------------------------------------------- decisions


def escalate(reason: str, now: datetime, case: Case, ladder: LadderPublished | None) -> list[Event]:
    """A person asks for the ladder's unit. No event while an escalation of this episode is open already.

    Raises Unknown for a case without clocks, Refused for a resolved case or a second escalation in one episode.
    """
    clock = case.latest(ClockKind.RESOLUTION)
    if clock is None:
        raise Unknown("there is no case with clocks under this id")
    if clock.stopped_at is not None:
        raise Refused("the case is resolved; reopen it before you escalate it")
    if ladder is None:
        raise Refused("no ladder is published, so nobody would take the case")
    if case.escalation is None or case.escalation.episode < clock.episode:
        return [_escalated(case, clock.episode, ladder, None, ASKED, reason)]
    if case.escalation.status is not Status.ENDED:
        return []
    raise Refused(f"episode {clock.episode} was escalated before and is {case.escalation.outcome}; it is not again")


def climb(clock: ClockKind, episode: int, case: Case, ladder: LadderPublished, ref: str) -> list[Event]:
    """A breached clock leads to an escalation where the ladder says so, once per episode, while it is unresolved."""
    resolution = case.latest(ClockKind.RESOLUTION)
    unresolved = resolution is not None and resolution.episode == episode and resolution.stopped_at is None
    before = case.escalation is not None and case.escalation.episode >= episode
    if clock not in ladder.on_breach or not unresolved or before:
        return []
    reason = f"the {clock.replace('_', ' ')} promise was not kept"
    return [_escalated(case, episode, ladder, ref, clock, reason)]


def _escalated(
    case: Case, episode: int, ladder: LadderPublished, ref: str | None, trigger: str, reason: str
) -> CaseEscalated:
    return CaseEscalated(
        escalation_id=f"{case.case_id}.{episode}",
        episode=episode,
        unit_id=ladder.unit_id,
        ladder=ref,
        trigger=trigger,
        reason=reason,
    )


def acknowledge(escalation_id: str, owner: str, now: datetime, case: Case) -> list[Event]:
    """`owner` owns the case from here; the same owner again is no event. Raises Unknown, Refused."""
    escalation = _active(escalation_id, case)
    if escalation.status is Status.OPEN:
        return [EscalationAcknowledged(escalation_id=escalation_id, unit_id=escalation.unit_id, owner=owner)]
    if escalation.owner == owner:
        return []
    raise Refused(f"{escalation.owner} acknowledged this escalation before")


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
    return [EscalationReturned(escalation_id=escalation_id, unit_id=escalation.unit_id, reason=reason)]


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
        case None:
            return escalation
