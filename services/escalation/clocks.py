"""The arithmetic of clocks: when one warns, is due, is stopped, and whether its promise was kept.

All of it goes by event time, never by arrival: a promise is kept when what was promised happened at or before the due
time, whenever anybody heard of it. Time is 24×7, so a target's seconds are the clock's seconds.

A fact may come late: recorded after its clock was called breached, though it happened in time. `stopped` then says
`kept`, next to a breach that stands in the stream as first reported; whoever counts promises trusts the stop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import uuid5

from events.case import ClockBreached, ClockKind, ClockStarted, ClockStopped, ClockWarned, Priority
from events.operations import PromisePublished
from events.store import New
from events.wire import NAMESPACE


class ClockState(StrEnum):
    RUNNING = "running"
    BREACHED = "breached"
    """Not stopped yet, and the due time has passed."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Clock:
    """One promise to one customer: `kind` of `episode` is to happen by `due_at`."""

    case_id: str
    kind: ClockKind
    episode: int
    promise: str
    """id@version."""
    calendar: str
    """id@version."""
    target_s: int
    started_at: datetime
    warn_at: datetime
    due_at: datetime
    warned: bool = False
    breached: bool = False
    stopped_at: datetime | None = None
    stopped_kept: bool = False

    @property
    def state(self) -> ClockState:
        if self.stopped_at is not None:
            return ClockState.STOPPED
        return ClockState.BREACHED if self.breached else ClockState.RUNNING

    @property
    def kept(self) -> bool | None:
        """Whether the promise was kept; None while that is open."""
        if self.stopped_at is not None:
            return self.stopped_kept
        return False if self.breached else None

    def elapsed_s(self, now: datetime) -> int:
        """Whole seconds the clock has counted, up to its stop; 0 for a stop that happened before the start."""
        return max(0, ((self.stopped_at or now) - self.started_at) // timedelta(seconds=1))

    def remaining_s(self, now: datetime) -> int:
        """Whole seconds left of the target, never below 0."""
        return max(0, self.target_s - self.elapsed_s(now))


@dataclass(frozen=True, slots=True)
class Promise:
    """A version of a promise, as clocks pin it."""

    ref: str
    """id@version."""
    content: PromisePublished


def start(promise: Promise, kind: ClockKind, priority: Priority, episode: int, at: datetime) -> list[New]:
    """The clock of `kind` starts at `at`; none if the promise names no target for it."""
    content = promise.content
    targets = [t.target_s for t in content.targets if (t.clock, t.priority) == (kind, priority)]
    warns = [timedelta(microseconds=target_s * content.warn_percent * 10_000) for target_s in targets]
    return [
        _started(kind, episode, promise.ref, content.calendar, target_s, warn_after, at)
        for target_s, warn_after in zip(targets, warns, strict=True)
    ]


def start_again(before: Clock, episode: int, at: datetime) -> New:
    """The same promise for the next episode: a case keeps the promise version its first clock was given."""
    warn_after = before.warn_at - before.started_at
    return _started(before.kind, episode, before.promise, before.calendar, before.target_s, warn_after, at)


def _started(
    kind: ClockKind, episode: int, promise: str, calendar: str, target_s: int, warn_after: timedelta, at: datetime
) -> New:
    started = ClockStarted(
        clock=kind,
        episode=episode,
        promise=promise,
        calendar=calendar,
        target_s=target_s,
        warn_at=at + warn_after,
        due_at=at + timedelta(seconds=target_s),
    )
    return New(started, occurred_at=at)


def stop(clock: Clock, at: datetime) -> list[New]:
    """What was promised happened at `at`: in time, or late and then breached, whether or not the timer has said so."""
    if clock.stopped_at is not None:
        return []
    kept = at <= clock.due_at
    breached = [] if kept or clock.breached else [breach(clock)]
    stopped = ClockStopped(
        clock=clock.kind,
        episode=clock.episode,
        promise=clock.promise,
        due_at=clock.due_at,
        elapsed_s=replace(clock, stopped_at=at).elapsed_s(at),
        kept=kept,
    )
    return [*breached, New(stopped, occurred_at=at)]


def fire(clock: Clock, mark: datetime) -> list[New]:
    """What the clock owes for all time up to `mark` and has not said yet."""
    if clock.stopped_at is not None or clock.breached:
        return []
    said = []
    if not clock.warned and clock.warn_at <= mark:
        said.append(warn(clock))
    if clock.due_at <= mark:
        said.append(breach(clock))
    return said


def warn(clock: Clock) -> New:
    """The warning, at the moment it was due."""
    percent = round(100 * (clock.warn_at - clock.started_at) / (clock.due_at - clock.started_at))
    warned = ClockWarned(clock=clock.kind, episode=clock.episode, percent=percent, due_at=clock.due_at)
    return New(warned, occurred_at=clock.warn_at, id=_obligation(clock, "warned"))


def breach(clock: Clock) -> New:
    """The breach, at the due time. Its id is made of the obligation alone: timer and late stop cannot both write it."""
    breached = ClockBreached(clock=clock.kind, episode=clock.episode, promise=clock.promise, due_at=clock.due_at)
    return New(breached, occurred_at=clock.due_at, id=_obligation(clock, "breached"))


def _obligation(clock: Clock, what: str) -> str:
    return str(uuid5(NAMESPACE, f"{clock.case_id}/{clock.kind}/{clock.episode}/{what}"))


def started(case_id: str, data: ClockStarted, at: datetime) -> Clock:
    """The clock the event started."""
    return Clock(
        case_id,
        data.clock,
        data.episode,
        data.promise,
        data.calendar,
        data.target_s,
        at,
        data.warn_at,
        data.due_at,
    )


def advance(clock: Clock, data: ClockWarned | ClockBreached | ClockStopped, at: datetime) -> Clock:
    """The clock after one more of its events."""
    match data:
        case ClockWarned():
            return replace(clock, warned=True)
        case ClockBreached():
            return replace(clock, breached=True)
        case ClockStopped():
            return replace(clock, stopped_at=at, stopped_kept=data.kept)
