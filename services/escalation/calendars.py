"""Working time: when it counts, how much of it lies between two moments, and when so much of it has passed.

A calendar's windows are local wall-clock times of its zone, generated per local date and turned into half-open UTC
intervals; everything after that is arithmetic of instants. A window's edge in a skipped or doubled hour is what
`zoneinfo` calls fold 0 (RFC 5545's rule): 02:30 that does not exist is 03:30, 02:30 that comes twice is the first.
A window that closes at or before it opens runs past midnight and belongs to the date on which it opens; `24:00` is the
end of the day. An exception decides its date, then a holiday (closed), then the weekday.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from events.errors import Invalid

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""Monday is 0, as `date.weekday` counts."""

HORIZON = timedelta(days=3653)
"""10 years: whoever finds too little working time in them has a calendar that cannot be right."""

DAY_MINUTES = 1440

Span = tuple[datetime, datetime]
"""A half-open interval of instants in UTC."""

Pause = tuple[datetime, datetime | None]
"""From (inclusive) to (exclusive); None while it lasts."""

ZERO = timedelta()


class NoWorkingTime(Invalid):
    """The calendar has less working time within the horizon than was asked for: its owner must mend it."""

    kind = "no-working-time"


@dataclass(frozen=True, slots=True)
class Window:
    """Minutes after the local midnight of its date; `closes` is after `opens`, perhaps on the next day."""

    opens: int
    closes: int

    @classmethod
    def parse(cls, opens: str, closes: str) -> Window:
        """Of `09:00` and `18:00`. Raises Invalid."""
        first, last = _minutes(opens), _minutes(closes)
        if first == DAY_MINUTES:
            raise Invalid("a window cannot open at 24:00; write 00:00 on the next day")
        return cls(first, last if last > first else last + DAY_MINUTES)


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    if len(hours) != 2 or len(minutes) != 2 or not (hours + minutes).isascii() or not (hours + minutes).isdecimal():
        raise Invalid(f"{text!r} is no time of day; write 09:00, or 24:00 for the end of the day")
    value = int(hours) * 60 + int(minutes)
    if value > DAY_MINUTES or int(minutes) > 59:
        raise Invalid(f"{text!r} is no time of day; the last is 24:00")
    return value


Windows = tuple[Window, ...]


@dataclass(frozen=True)
class Calendar:
    """When time counts: one version of a calendar."""

    tz: str
    """IANA name."""
    weekly: tuple[Windows, Windows, Windows, Windows, Windows, Windows, Windows]
    holidays: frozenset[date] = frozenset()
    exceptions: tuple[tuple[date, Windows], ...] = ()
    """Own opening hours of single dates; none: closed."""
    _exceptions: Mapping[date, Windows] = field(init=False, compare=False, repr=False)
    _zone: ZoneInfo = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_exceptions", dict(self.exceptions))
        object.__setattr__(self, "_zone", ZoneInfo(self.tz))

    def windows(self, day: date) -> Windows:
        """What the date opens."""
        own = self._exceptions.get(day)
        if own is not None:
            return own
        return () if day in self.holidays else self.weekly[day.weekday()]

    def closed_because(self, day: date) -> str:
        """Why the date opens no window, or not all day."""
        if day in self._exceptions:
            return "exception"
        return "holiday" if day in self.holidays else "outside working hours"

    def spans(self, day: date) -> list[Span]:
        """The date's windows as instants, those that a skipped hour leaves empty left out."""
        found = ((self.instant(day, w.opens), self.instant(day, w.closes)) for w in self.windows(day))
        return [(opens, closes) for opens, closes in found if opens < closes]

    def instant(self, day: date, minutes: int) -> datetime:
        """Minutes after the date's local midnight on the wall clock, as an instant."""
        on = day + timedelta(days=minutes // DAY_MINUTES)
        wall = time(minutes % DAY_MINUTES // 60, minutes % 60)
        return datetime.combine(on, wall, self._zone).astimezone(UTC)

    def local(self, at: datetime) -> datetime:
        return at.astimezone(self._zone)


@dataclass(frozen=True)
class Timetable:
    """A calendar as of one of its versions: every version up to that one counts from its own moment on.

    `versions` holds (valid from, calendar), rising; the first one counts since ever.
    """

    versions: tuple[tuple[datetime, Calendar], ...]

    @classmethod
    def of(cls, versions: Sequence[tuple[datetime | None, Calendar]]) -> Timetable:
        """Of the versions in the order they were published: a later one replaces whatever was to count from its moment
        on, and the first counts since ever."""
        kept: list[tuple[datetime, Calendar]] = []
        for valid_from, calendar in versions:
            since = valid_from if valid_from is not None and kept else datetime.min.replace(tzinfo=UTC)
            kept = [*((at, one) for at, one in kept if at < since), (since, calendar)]
        return cls(tuple(kept))

    def at(self, moment: datetime) -> Calendar:
        """The calendar that counts then."""
        return self.versions[bisect_right(self.versions, moment, key=lambda version: version[0]) - 1][1]

    def spans(self, since: datetime, until: datetime) -> Iterator[Span]:
        """Working time within [since, until), in order, none overlapping; what touches stays apart: 24×7 never ends."""
        last: Span | None = None
        for opens, closes in self._clipped(since, until):
            if last is not None and opens < last[1]:
                last = (last[0], max(last[1], closes))
                continue
            if last is not None:
                yield last
            last = (opens, closes)
        if last is not None:
            yield last

    def _clipped(self, since: datetime, until: datetime) -> Iterator[Span]:
        ends = [*(at for at, _ in self.versions[1:]), None]
        for (valid_from, calendar), valid_to in zip(self.versions, ends, strict=True):
            first = max(since, valid_from)
            last = until if valid_to is None else min(until, valid_to)
            for opens, closes in _spans(calendar, first, last):
                yield max(opens, first), min(closes, last)


def _spans(calendar: Calendar, since: datetime, until: datetime) -> Iterator[Span]:
    """A calendar's spans that touch [since, until), by where they open."""
    year = since.year
    while since < until and year <= until.year + 1 and year <= date.max.year:
        for opens, closes in _year(calendar, year):
            if opens >= until:
                return
            if closes > since:
                yield opens, closes
        year += 1


@lru_cache(maxsize=512)
def _year(calendar: Calendar, year: int) -> tuple[Span, ...]:
    """The spans of the local dates whose windows open in this UTC year, by where they open."""
    first, last = datetime(year, 1, 1, tzinfo=UTC), date(year, 12, 31)
    day = first.date() - timedelta(days=2) if year > 1 else first.date()
    found = []
    while day <= last + timedelta(days=2):
        found += [(opens, closes) for opens, closes in calendar.spans(day) if opens.year == year]
        day += timedelta(days=1)
    return tuple(sorted(found))


# ---------------------------------------------------------------------------------------------------------- arithmetic


def merged(pauses: Sequence[Pause]) -> list[Pause]:
    """The same time as the pauses, in order, no two touching. A pause that ends before it begins is none."""
    found: list[Pause] = []
    for since, until in sorted(pauses, key=lambda pause: pause[0]):
        if until is not None and until <= since:
            continue
        if found and (found[-1][1] is None or since <= found[-1][1]):
            last = found[-1][1]
            found[-1] = (found[-1][0], None if last is None or until is None else max(last, until))
        else:
            found.append((since, until))
    return found


def counted(timetable: Timetable, start: datetime, end: datetime, pauses: Sequence[Pause] = ()) -> Iterator[Span]:
    """What counts of [start, end): working time without the pauses."""
    stops = merged(pauses)
    for opens, closes in timetable.spans(start, end):
        for since, until in stops:
            if since >= closes:
                break
            if until is not None and until <= opens:
                continue
            if since > opens:
                yield opens, since
            if until is None:
                return
            opens = until
        if opens < closes:
            yield opens, closes


def elapsed(timetable: Timetable, start: datetime, end: datetime, pauses: Sequence[Pause] = ()) -> timedelta:
    """How much working time passed; none where `end` is not after `start`."""
    return sum((closes - opens for opens, closes in counted(timetable, start, end, pauses)), ZERO)


def due(timetable: Timetable, start: datetime, target: timedelta, pauses: Sequence[Pause] = ()) -> datetime | None:
    """The first moment at which `target` of working time has passed; None while an open pause lasts before it.

    Exactly at close is the close, not the next opening. Raises NoWorkingTime.
    """
    left = target
    if left <= ZERO:
        return start
    horizon = _horizon(start)
    for opens, closes in counted(timetable, start, horizon, pauses):
        if closes - opens >= left:
            return opens + left
        left -= closes - opens
    _enough(timetable, start, target, horizon)
    if any(until is None for _, until in pauses):
        return None
    raise NoWorkingTime(f"the pauses leave less than {target} of working time in 10 years from {start:%Y-%m-%d}")


def _enough(timetable: Timetable, start: datetime, target: timedelta, horizon: datetime) -> None:
    """Whether the calendar itself, without any pause, has the time."""
    if elapsed(timetable, start, horizon) < target:
        raise NoWorkingTime(f"the calendar has less than {target} of working time in 10 years from {start:%Y-%m-%d}")


def _horizon(start: datetime) -> datetime:
    return start + HORIZON


@dataclass(frozen=True, slots=True)
class DayDue:
    """A due time in business days."""

    anchor: date
    """The local date that counts as day 0."""
    date: date
    due: datetime


def due_in_days(timetable: Timetable, start: datetime, days: int) -> DayDue:
    """The last close of the `days`-th working day after the anchor: the start's local date if that is a working day not
    yet past its last close, else the next working day. Raises NoWorkingTime."""
    calendar = timetable.at(start)
    day = calendar.local(start).date()
    end = _horizon(start)
    anchor: date | None = None
    left = days
    while (midnight := calendar.instant(day, 0)) < end:
        calendar = timetable.at(midnight)
        closes = max((closes for _, closes in calendar.spans(day)), default=None)
        if closes is not None and anchor is None:
            anchor = day if start < closes else None
        elif closes is not None:
            left -= 1
        if closes is not None and anchor is not None and left == 0:
            return DayDue(anchor, day, closes)
        day += timedelta(days=1)
    raise NoWorkingTime(f"the calendar has fewer than {days} working days in 10 years from {start:%Y-%m-%d}")


# ---------------------------------------------------------------------------------------------------------- explaining


class Why:
    """What a segment's time was."""

    COUNTED = "working time"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of time in which one thing holds."""

    since: datetime
    until: datetime
    counted: bool
    why: str
    """`working time`, `paused`, `outside working hours`, `holiday`, `exception`."""

    @property
    def seconds(self) -> float:
        return (self.until - self.since) / timedelta(seconds=1)


def segments(timetable: Timetable, start: datetime, end: datetime, pauses: Sequence[Pause] = ()) -> list[Segment]:
    """Every moment of [start, end), once, with what it was."""
    if end <= start:
        return []
    stops = merged(pauses)
    edges = {start, end}
    working = list(timetable.spans(start, end))
    edges.update(edge for span in working for edge in span)
    edges.update(edge for pause in stops for edge in pause if edge is not None and start < edge < end)
    edges.update(_midnights(timetable, start, end))
    found: list[Segment] = []
    at, stop = 0, 0
    for since, until in pairwise(sorted(edges)):
        while at < len(working) and working[at][1] <= since:
            at += 1
        while stop < len(stops) and (ended := stops[stop][1]) is not None and ended <= since:
            stop += 1
        if stop < len(stops) and stops[stop][0] <= since:
            why = Why.PAUSED
        elif at < len(working) and working[at][0] <= since:
            why = Why.COUNTED
        else:
            calendar = timetable.at(since)
            why = calendar.closed_because(calendar.local(since).date())
        if found and found[-1].why == why:
            found[-1] = Segment(found[-1].since, until, found[-1].counted, why)
        else:
            found.append(Segment(since, until, why == Why.COUNTED, why))
    return found


def _midnights(timetable: Timetable, start: datetime, end: datetime) -> Iterator[datetime]:
    """Local midnights and changes of version: where the reason for being closed can change."""
    yield from (at for at, _ in timetable.versions if start < at < end)
    calendar = timetable.at(start)
    day = calendar.local(start).date()
    while True:
        day += timedelta(days=1)
        midnight = calendar.instant(day, 0)
        if midnight >= end:
            return
        if midnight > start:
            yield midnight
        calendar = timetable.at(midnight)
