"""Promises: what a version must say before it is published."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from itertools import product

from events.case import ClockKind, Priority
from events.errors import Invalid
from events.event import Event
from events.operations import PromisePublished
from services.escalation.decide.configuration import publish


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
