"""What happens elsewhere and what escalation makes of it: clocks start and stop, and a breach climbs the ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from events.case import (
    CaseOpened,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    ClockBreached,
    ClockKind,
    MessageSent,
    Priority,
)
from events.consume import Reactor
from events.database import Connection
from events.event import CaseEvent, Event, Recorded
from events.operations import LadderPublished
from events.store import New
from events.timers import Timers
from services.escalation import clocks
from services.escalation.clocks import Promise
from services.escalation.decide import escalations
from services.escalation.decide.case import FOLD, Case
from services.escalation.views import configuration
from services.escalation.views.clocks import CLOCKS

STANDARD = "standard"
"""The promise and the ladder that apply to every case."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The versions in force."""

    promise: Promise | None
    ladder: tuple[str, LadderPublished] | None
    """id@version and its content."""


async def look(conn: Connection, events: Sequence[Recorded[CaseEvent]]) -> Rules:
    """The promise and the ladder in force now, which is when the clocks they are pinned to start."""
    return Rules(
        await configuration.promise_in_force(conn, STANDARD), await configuration.ladder_in_force(conn, STANDARD)
    )


def react(event: Recorded[CaseEvent], rules: Rules, now: datetime, case: Case) -> Sequence[Event | New]:
    """Start, stop and escalate by event time."""
    at = event.occurred_at
    match event.data:
        case CaseOpened() as data:
            return _begin(case, rules.promise, data.priority, 1, at)
        case CaseTakenOver() as data:
            return _begin(case, rules.promise, data.priority, data.episode, at)
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
        case ClockBreached() as data if rules.ladder is not None:
            ref, ladder = rules.ladder
            return escalations.climb(data.clock, data.episode, case, ladder, ref)
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
    reads=(CaseOpened, CaseTakenOver, MessageSent, CaseResolved, CaseReopened, ClockBreached),
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
