"""What escalation knows about a case: all it says about one is one stream: clocks and escalations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from events.case import (
    ClockBreached,
    ClockCancelled,
    ClockEvent,
    ClockKind,
    ClockPaused,
    ClockRestated,
    ClockResumed,
    ClockRetargeted,
    ClockStarted,
    ClockStopped,
    ClockWarned,
    PromisesPinned,
)
from events.event import CASES, CaseEvent, Recorded, replace
from events.store import Fold
from services.escalation import clocks
from services.escalation.clocks import Clock, Key, Pause, Pins, Span
from services.escalation.decide.escalations import Escalation, all_escalations

NO_CLOCKS: Mapping[Key, Clock] = MappingProxyType({})


@dataclass(frozen=True)
class Case:
    """A case as escalation knows it."""

    case_id: str
    pins: Pins = ()
    """What it is judged by, in the order in which they are asked whether they apply."""
    clocks: Mapping[Key, Clock] = field(default_factory=lambda: NO_CLOCKS)
    escalations: tuple[Escalation, ...] = ()
    """In order; all but the last have ended."""

    @property
    def promises(self) -> tuple[str, ...]:
        """What the latest episode is judged by: id@version."""
        return self.pins[-1][1] if self.pins else ()

    @property
    def pinned(self) -> frozenset[str]:
        """All that any of its episodes is judged by."""
        return frozenset(ref for _, refs in self.pins for ref in refs)

    @property
    def escalation(self) -> Escalation | None:
        """The latest."""
        return self.escalations[-1] if self.escalations else None

    def latest(self, kind: ClockKind) -> Clock | None:
        """The clock of the latest episode that has one of this kind; another system's history has none."""
        return max(
            (c for c in self.clocks.values() if c.kind is kind and c.fires), key=lambda clock: clock.key, default=None
        )

    @property
    def running(self) -> tuple[Clock, ...]:
        return tuple(clock for clock in self.clocks.values() if clock.running)


def evolve(case: Case, event: Recorded[CaseEvent]) -> Case:
    """The case after one more event of escalation's own."""
    escalations = all_escalations(case.escalations, event)
    if escalations != case.escalations:
        case = replace(case, escalations=escalations)
    match event.data:
        case PromisesPinned() as data:
            return replace(case, pins=clocks.pinned(case.pins, data.episode, data.promises))
        case ClockEvent() as data:
            key = (data.clock, data.episode, data.turn)
            clock = ticked(case.clocks.get(key), key, event)
            return case if clock is None else replace(case, clocks=MappingProxyType({**case.clocks, key: clock}))
        case _:
            return case


def ticked(clock: Clock | None, key: Key, event: Recorded[CaseEvent]) -> Clock | None:
    """The clock after one more of its events."""
    data, at = event.data, event.occurred_at
    if isinstance(data, ClockStarted):
        span = Span(at, data.promise, data.calendar, data.target_s)
        clock = Clock(*key, at, (span,), (), data.owner, fires=data.fires)
        return replace(clock, due_at=data.due_at, tzdata=data.tzdata, warnings=data.warnings)
    if isinstance(data, ClockRestated):
        return clocks.restored(clock, key, data.after)
    if clock is None:
        return None
    match data:
        case ClockPaused():
            pause = Pause(at, None, data.reason)
            return replace(clock, pauses=(*clock.pauses, pause), due_at=data.due_at, tzdata=data.tzdata, warnings=())
        case ClockResumed():
            clock = replace(clock, pauses=_resumed(clock, at, data))
            return replace(clock, due_at=data.due_at, tzdata=data.tzdata, warnings=data.warnings)
        case ClockRetargeted():
            spans = (*clock.spans, Span(at, data.promise, data.calendar, data.target_s))
            return replace(clock, spans=spans, due_at=data.due_at, tzdata=data.tzdata, warnings=data.warnings)
        case ClockWarned():
            left = tuple(warning for warning in clock.warnings if warning.percent != data.percent)
            return replace(clock, warnings=left, warned=clock.warned | {data.percent})
        case ClockBreached():
            return replace(clock, breached_at=data.due_at, breach_said=True, warnings=())
        case ClockStopped() | ClockCancelled():
            return _ended(clock, data, at)
        case _:
            return clock


def _resumed(clock: Clock, at: datetime, data: ClockResumed | ClockStopped | ClockCancelled) -> tuple[Pause, ...]:
    """The pauses, the last of which ended."""
    *before, last = clock.pauses
    return (*before, replace(last, until=at, ignored_since=data.ignored_since, ignored_s=data.ignored_s))


def _ended(clock: Clock, data: ClockStopped | ClockCancelled, at: datetime) -> Clock:
    pauses = _resumed(clock, at, data) if clock.paused else clock.pauses
    ended = replace(clock, pauses=pauses, ended_at=at, kept=data.kept, warnings=())
    if isinstance(data, ClockCancelled):
        return replace(ended, cancelled=True)
    return replace(ended, due_at=data.due_at, tzdata=data.tzdata, elapsed_s=data.elapsed_s)


FOLD = Fold(CASES, Case, evolve)
