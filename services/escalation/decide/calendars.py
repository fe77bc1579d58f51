"""Calendars: what a version says, and what it must say before it is published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import available_timezones

from events.errors import Invalid
from events.event import Event
from events.operations import CalendarPublished, Hours
from services.escalation.calendars import DAYS, Calendar, NoWorkingTime, Timetable, Window, Windows, due
from services.escalation.decide.configuration import publish

ALL_DAY: Windows = (Window.parse("00:00", "24:00"),)

# ------------------------------------------------------------------------------------------------------------- reading


def calendar_of(content: CalendarPublished) -> Calendar:
    """When time counts by this version. Raises Invalid for what no zone and no clock shows."""
    if content.always:
        return Calendar("UTC", (ALL_DAY,) * 7)
    if content.tz not in _zones():
        raise Invalid(f"tz: there is no time zone called {content.tz}; write an IANA name such as Europe/Berlin")
    mon, tue, wed, thu, fri, sat, sun = (_windows(getattr(content.weekly, day)) for day in DAYS)
    exceptions = tuple((own.on, _windows(own.hours)) for own in content.exceptions)
    return Calendar(content.tz, (mon, tue, wed, thu, fri, sat, sun), frozenset(content.holidays), exceptions)


def timetable_of(versions: Iterable[CalendarPublished]) -> Timetable:
    """A calendar as of the last of `versions`, which are all up to that one, in order."""
    return Timetable.of([(content.valid_from, calendar_of(content)) for content in versions])


def _windows(hours: Sequence[Hours]) -> Windows:
    return tuple(Window.parse(one.opens, one.closes) for one in hours)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


# ---------------------------------------------------------------------------------------------------------- publishing


def publish_calendar(wanted: CalendarPublished, now: datetime, current: CalendarPublished | None) -> list[Event]:
    """The next version of a calendar; where it does not say from when on, a later one counts from now on.

    Raises Invalid, and NoWorkingTime where it opens at no time within 10 years from the moment on that it counts from.
    """
    opens_at_all(wanted, wanted.valid_from or now)
    if wanted.valid_from is None and current is not None:
        same = wanted.model_copy(update={"valid_from": current.valid_from, "version": current.version})
        wanted = current if same == current else wanted.model_copy(update={"valid_from": now})
    return publish(wanted, now, current)


def opens_at_all(content: CalendarPublished, since: datetime) -> None:
    """Raises Invalid or NoWorkingTime where the version, alone, opens at no time within 10 years from `since`."""
    try:
        due(Timetable.of([(None, calendar_of(content))]), since, timedelta(microseconds=1))
    except NoWorkingTime:
        raise NoWorkingTime(f"the calendar opens at no time within 10 years from {since:%Y-%m-%d}") from None
