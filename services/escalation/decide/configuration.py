"""Versions of calendars, promises and ladders: what is published replaces the version before, whole."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from itertools import product
from typing import TypeVar

from events.case import ClockKind, Priority
from events.errors import Invalid
from events.event import OPERATIONS, Event, Recorded
from events.operations import CalendarPublished, LadderPublished, PromisePublished
from events.store import Fold

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
