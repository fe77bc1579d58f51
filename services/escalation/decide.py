"""What escalation knows about a case, and what it decides about it.

Everything escalation says about one case is one stream: its clocks, and the escalation of its latest episode.
A rule that leads to an escalation belongs in `react.py`, what a person may ask for is decided here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import product
from typing import TypeVar

from events.case import (
    CaseEscalated,
    ClockBreached,
    ClockKind,
    ClockStarted,
    ClockStopped,
    ClockWarned,
    EscalationAcknowledged,
    EscalationResolved,
    EscalationReturned,
    Priority,
)
from events.errors import Invalid, Refused, Unknown
from events.event import CASES, OPERATIONS, CaseEvent, Event, Recorded
from events.operations import CalendarPublished, LadderPublished, PromisePublished
from events.store import Fold
from services.escalation import clocks
from services.escalation.clocks import Clock

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


@dataclass(frozen=True, slots=True)
class Case:
    """A case as escalation knows it."""

    case_id: str
    clocks: tuple[Clock, ...] = ()
    escalations: tuple[Escalation, ...] = ()
    """At most one per episode, in order; all but the last have ended."""

    @property
    def escalation(self) -> Escalation | None:
        """The latest."""
        return self.escalations[-1] if self.escalations else None

    def latest(self, kind: ClockKind) -> Clock | None:
        """The clock of the latest episode that has one of this kind."""
        return max((c for c in self.clocks if c.kind is kind), key=lambda clock: clock.episode, default=None)

    @property
    def running(self) -> tuple[Clock, ...]:
        return tuple(clock for clock in self.clocks if clock.stopped_at is None)


def evolve(case: Case, event: Recorded[CaseEvent]) -> Case:
    """The case after one more event of escalation's own."""
    escalation = escalated(case.escalation, event)
    if escalation is not None:
        before = case.escalations if isinstance(event.data, CaseEscalated) else case.escalations[:-1]
        case = replace(case, escalations=(*before, escalation))
    match event.data:
        case ClockStarted() as data:
            return replace(case, clocks=(*case.clocks, clocks.started(event.subject, data, event.occurred_at)))
        case ClockWarned() | ClockBreached() | ClockStopped() as data:
            which = (data.clock, data.episode)
            return replace(
                case,
                clocks=tuple(
                    clocks.advance(clock, data, event.occurred_at) if (clock.kind, clock.episode) == which else clock
                    for clock in case.clocks
                ),
            )
        case _:
            return case


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


FOLD = Fold(CASES, Case, evolve)

# ------------------------------------------------------------------------------------------------------- escalations


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


# ----------------------------------------------------------------------------------------------------- configuration

V = TypeVar("V", CalendarPublished, PromisePublished, LadderPublished)


def _latest(version: V | None, event: Recorded[V]) -> V | None:
    return event.data


def _none(subject: str) -> None:
    return None


CALENDAR: Fold[CalendarPublished | None] = Fold(OPERATIONS, _none, _latest)
PROMISE: Fold[PromisePublished | None] = Fold(OPERATIONS, _none, _latest)
LADDER: Fold[LadderPublished | None] = Fold(OPERATIONS, _none, _latest)


def publish(wanted: V, now: datetime, current: V | None) -> list[Event]:
    """`wanted` as the next version, whatever version it says itself; no event if nothing would change."""
    if current is not None and wanted.model_copy(update={"version": current.version}) == current:
        return []
    return [wanted.model_copy(update={"version": 1 if current is None else current.version + 1})]


def publish_promise(
    wanted: PromisePublished, now: datetime, current: PromisePublished | None, calendar: str | None
) -> list[Event]:
    """The next version of a promise, on this calendar version. Raises Invalid for a missing or double target."""
    if calendar is None:
        raise Invalid(f"calendar: there is none called {wanted.calendar}")
    named = Counter((target.clock, target.priority) for target in wanted.targets)
    missing = [f"{clock}/{priority}" for clock, priority in product(ClockKind, Priority) if not named[clock, priority]]
    if missing:
        raise Invalid("targets: every clock needs one for every priority; missing: " + ", ".join(missing))
    double = [f"{clock}/{priority}" for (clock, priority), times in named.items() if times > 1]
    if double:
        raise Invalid("targets: one target for each clock and priority; more than one: " + ", ".join(double))
    return publish(wanted.model_copy(update={"calendar": calendar}), now, current)
