"""Clocks start and stop with what happens to the case."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from events.case import CaseOpened, CaseReopened, CaseResolved, CaseTakenOver, ClockKind, MessageSent, Priority
from events.consume import Reactor
from events.database import Connection
from events.event import CaseEvent, Event, Recorded
from events.store import New
from events.timers import Timers
from services.escalation import clocks
from services.escalation.clocks import Promise
from services.escalation.decide.case import FOLD, Case
from services.escalation.views import promises
from services.escalation.views.clocks import CLOCKS

STANDARD = "standard"
"""The promise that applies to every case."""


async def look(conn: Connection, events: Sequence[Recorded[CaseEvent]]) -> Promise | None:
    """The promise in force now, which is when the clocks it is pinned to start."""
    return await promises.promise_in_force(conn, STANDARD)


def react(event: Recorded[CaseEvent], promise: Promise | None, now: datetime, case: Case) -> Sequence[Event | New]:
    """Start and stop by event time."""
    at = event.occurred_at
    match event.data:
        case CaseOpened() as data:
            return _begin(case, promise, data.priority, 1, at)
        case CaseTakenOver() as data:
            return _begin(case, promise, data.priority, data.episode, at)
        case MessageSent(visibility="public", automatic=False):
            return [
                new
                for clock in case.running
                if clock.kind is ClockKind.FIRST_RESPONSE
                for new in clocks.stop(clock, at)
            ]
        case CaseResolved() as data:
            return [new for clock in case.running if clock.episode <= data.episode for new in clocks.stop(clock, at)]
        case CaseReopened() as data:
            return _begin_again(case, data.episode, at)
        case _:
            return []


def _begin(case: Case, promise: Promise | None, priority: Priority, episode: int, at: datetime) -> list[New]:
    """Both clocks of a case that is ours from now on; without a promise there is nothing to keep."""
    if promise is None:
        return []
    running = {clock.kind for clock in case.running}
    return [
        new for kind in ClockKind if kind not in running for new in clocks.start(promise, kind, priority, episode, at)
    ]


def _begin_again(case: Case, episode: int, at: datetime) -> list[New]:
    """The resolution clock of the new episode. One that still runs goes on: nobody was given an answer."""
    before = case.latest(ClockKind.RESOLUTION)
    if before is None or before.stopped_at is None or before.episode >= episode:
        return []
    return [clocks.start_again(before, episode, at)]


REACTOR = Reactor(
    "escalation.clocks",
    reads=(CaseOpened, CaseTakenOver, MessageSent, CaseResolved, CaseReopened),
    fold=FOLD,
    decide=react,
    look=look,
)


def fire(mark: datetime, now: datetime, case: Case) -> list[New]:
    """Every warning and breach due at or before `mark`. The ladder follows when the breach comes back from the log."""
    return [new for clock in case.clocks for new in clocks.fire(clock, mark)]


TIMERS = Timers(CLOCKS, FOLD, fire, waits_for=("intake",))
"""Only intake's own record stops a clock: a partner's or the escalation unit's resolution stops it as `case.resolved`.
That record keeps the time of what it follows from, and can come after the mark: a late fact, see `clocks.py`."""
