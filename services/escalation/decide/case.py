"""What escalation knows about a case: all it says about one is one stream: clocks and escalations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from events.case import CaseEscalated, ClockBreached, ClockKind, ClockStarted, ClockStopped, ClockWarned
from events.event import CASES, CaseEvent, Recorded
from events.store import Fold
from services.escalation import clocks
from services.escalation.clocks import Clock
from services.escalation.decide.escalations import Escalation, escalated


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


FOLD = Fold(CASES, Case, evolve)
