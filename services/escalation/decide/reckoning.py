"""Questions to a timetable, answered with the segments that explain them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from events.errors import Invalid
from services.escalation.calendars import (
    HORIZON,
    ZERO,
    DayDue,
    Pause,
    Segment,
    Timetable,
    due,
    due_in_days,
    elapsed,
    merged,
    segments,
)

SECOND = timedelta(seconds=1)


class State(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    BREACHED = "breached"
    """The due time has passed."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a clock stands at a moment."""

    state: State
    elapsed: timedelta
    remaining: timedelta
    """Never negative."""


@dataclass(frozen=True, slots=True)
class Reckoned:
    """A due time and why."""

    due: datetime | None
    """None where the pauses leave none."""
    segments: list[Segment]
    """From the start to the due time, or to the moment asked about if that is later."""
    paused_since: datetime | None = None
    """The beginning of an open pause that leaves no due time."""
    standing: Standing | None = None
    days: DayDue | None = None


def by_target(
    timetable: Timetable, start: datetime, target: timedelta, pauses: Sequence[Pause], now: datetime | None
) -> Reckoned:
    """When `target` is used up and, with `now`, where the clock stands: by nothing but what is known then, so that a
    pause that has not ended yet is open. Raises NoWorkingTime, Invalid."""
    _ordered(pauses)
    if now is not None:
        _near(start, now, "now")
        pauses = [(since, until if until and until <= now else None) for since, until in pauses if since <= now]
    at = due(timetable, start, target, pauses)
    open_since = next((since for since, until in merged(pauses) if until is None), None) if at is None else None
    standing = None
    if now is not None:
        used = elapsed(timetable, start, now, pauses)
        standing = Standing(_state(at, pauses, now), used, max(ZERO, target - used))
    ends = [moment for moment in (at or open_since, now) if moment is not None]
    return Reckoned(at, _explained(timetable, start, pauses, ends), open_since, standing)


def by_days(timetable: Timetable, start: datetime, days: int, now: datetime | None) -> Reckoned:
    """When the `days`-th working day closes; what remains is the working time until then. Raises NoWorkingTime."""
    found = due_in_days(timetable, start, days)
    standing = None
    if now is not None:
        _near(start, now, "now")
        used, left = elapsed(timetable, start, now), elapsed(timetable, max(start, now), found.due)
        standing = Standing(_state(found.due, (), now), used, left)
    ends = [found.due] if now is None else [found.due, now]
    return Reckoned(found.due, _explained(timetable, start, (), ends), None, standing, found)


def between(
    timetable: Timetable, start: datetime, end: datetime, pauses: Sequence[Pause] = ()
) -> tuple[timedelta, list[Segment]]:
    """Working time within [start, end) and why; none where `end` is not after `start`. Raises Invalid."""
    _ordered(pauses)
    _near(start, end, "end")
    return elapsed(timetable, start, end, pauses), segments(timetable, start, end, pauses)


def _state(at: datetime | None, pauses: Sequence[Pause], now: datetime) -> State:
    if at is not None and now > at:
        return State.BREACHED
    return State.PAUSED if any(until is None for _, until in pauses) else State.RUNNING


def _explained(
    timetable: Timetable, start: datetime, pauses: Sequence[Pause], ends: Sequence[datetime]
) -> list[Segment]:
    """Up to the last of `ends`, with a cut at each: what is used now, and what until it is due, are sums of them."""
    found: list[Segment] = []
    for end in sorted(ends):
        found += segments(timetable, start, end, pauses)
        start = max(start, end)
    return found


def _ordered(pauses: Sequence[Pause]) -> None:
    for since, until in pauses:
        if until is not None and until < since:
            raise Invalid(f"pauses: one ends {until.astimezone(UTC):%FT%TZ}, before it begins")


def _near(start: datetime, end: datetime, name: str) -> None:
    if end - start > HORIZON:
        raise Invalid(f"{name}: more than 10 years after the start")


# ------------------------------------------------------------------------------------------------------------- writing

_DURATION = re.compile(
    r"P(?!$)(?:(?P<weeks>N)W)?(?:(?P<days>N)D)?"
    r"(?:T(?=\d)(?:(?P<hours>N)H)?(?:(?P<minutes>N)M)?(?:(?P<seconds>N)S)?)?".replace("N", r"\d+(?:[.,]\d+(?=.$))?"),
    re.ASCII,
)
"""Only the last number may have a fraction."""

LONGEST_S = 10_000_000_000
"""Some 317 years."""


def duration(text: str) -> timedelta:
    """`PT8H` and the like (ISO 8601); a day is 24 hours and a week seven days of it. Raises Invalid."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise Invalid(f"duration: {text!r} is none in weeks, days, hours, minutes and seconds; write PT8H or PT1H30M")
    parts = {name: Decimal((value or "0").replace(",", ".")) for name, value in found.groupdict().items()}
    hours = (parts["weeks"] * 7 + parts["days"]) * 24 + parts["hours"]
    total_s = (hours * 60 + parts["minutes"]) * 60 + parts["seconds"]
    if total_s > LONGEST_S:
        raise Invalid(f"duration: at most {LONGEST_S} seconds")
    return timedelta(microseconds=int(total_s * 1_000_000))


def seconds(span: timedelta) -> int | float:
    """A whole number where it is one."""
    whole, rest = divmod(span, SECOND)
    return span / SECOND if rest else whole


def local_text(timetable: Timetable, at: datetime) -> str:
    """The moment as the calendar's clocks show it: `2026-03-30T15:30:00+0200`."""
    shown = timetable.at(at).local(at)
    return shown.strftime("%Y-%m-%dT%H:%M:%S.%f%z" if shown.microsecond else "%Y-%m-%dT%H:%M:%S%z")
