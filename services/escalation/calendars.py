"""Working time: when it counts, how much of it lies between two moments, and when so much of it has passed.

A calendar's windows are local wall-clock times of its zone, generated per local date and turned into half-open UTC
intervals; everything after that is arithmetic of instants. A window's edge in a skipped or doubled hour is what
`zoneinfo` calls fold 0 (RFC 5545's rule): 02:30 that does not exist is 03:30, 02:30 that comes twice is the first.
A window that closes at or before it opens runs past midnight and belongs to the date on which it opens; `24:00` is the
end of the day. An exception decides its date, then a holiday (closed), then the weekday.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import chain, islice, pairwise
from operator import itemgetter
from zoneinfo import ZoneInfo

from events.errors import Invalid

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""Monday is 0, as `date.weekday` counts."""

HORIZON = timedelta(days=3653)
"""10 years: whoever finds too little working time in them has a calendar that cannot be right."""

EVER, NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

DAY_MINUTES = 1440

REMEMBERED_YEARS = 40
"""Of one calendar."""

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
    _years: dict[int, list[Span]] = field(init=False, compare=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_exceptions", dict(self.exceptions))
        object.__setattr__(self, "_zone", ZoneInfo(self.tz))

    def windows(self, day: date) -> Windows:
        """What the date opens."""
        own = self._exceptions.get(day)
        if own is not None:
            return own
        return () if day in self.holidays else self.weekly[day.weekday()]

    def closed_because(self, day: date) -> Why:
        """Why the date opens no window, or not all day."""
        if day in self._exceptions:
            return Why.EXCEPTION
        return Why.HOLIDAY if day in self.holidays else Why.CLOSED

    @property
    def special(self) -> frozenset[date]:
        """The dates whose weekday does not decide."""
        return self.holidays | self._exceptions.keys()

    def spans(self, day: date) -> list[Span]:
        """The date's windows as instants: none that a skipped hour leaves empty, none on a date the zone skipped."""
        windows = self.windows(day)
        if not windows or self.local(self.instant(day, DAY_MINUTES // 2)).date() != day:
            return []
        found = ((self.instant(day, w.opens), self.instant(day, w.closes)) for w in windows)
        return [(opens, closes) for opens, closes in found if opens < closes]

    def instant(self, day: date, minutes: int) -> datetime:
        """Minutes after the date's local midnight on the wall clock, as an instant."""
        on = day + timedelta(days=minutes // DAY_MINUTES)
        hour, minute = divmod(minutes % DAY_MINUTES, 60)
        return datetime(on.year, on.month, on.day, hour, minute, tzinfo=self._zone).astimezone(UTC)

    def local(self, at: datetime) -> datetime:
        """The moment as the zone's clocks show it."""
        return at.astimezone(self._zone)

    def working(self, since: datetime, until: datetime) -> Iterator[Span]:
        """Working time within [since, until), in order; two spans touch at most where a year begins."""
        for year in range(since.year, until.year + 1):
            spans = self._year(year)
            for opens, closes in islice(spans, bisect_right(spans, since, key=itemgetter(1)), None):
                if opens >= until:
                    return
                yield max(opens, since), min(closes, until)

    def _year(self, year: int) -> list[Span]:
        """The working time of a UTC year. Remembered: a year costs some milliseconds."""
        known = self._years.get(year)
        if known is not None:
            return known
        begins, ends = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
        # A window of three days before may reach into the year: 24 h long, in a zone 12 h behind.
        days = (begins.date() + timedelta(days=n) for n in range(-3, (ends - begins).days + 2))
        spans = sorted(span for day in days for span in self.spans(day))
        clipped = ((max(opens, begins), min(closes, ends)) for opens, closes in spans)
        found = list(union((opens, closes) for opens, closes in clipped if opens < closes))
        if len(self._years) >= REMEMBERED_YEARS:
            self._years.clear()
        self._years[year] = found
        return found


def union(spans: Iterable[Span]) -> Iterator[Span]:
    """The same time as `spans`, which come by their beginnings; no two touch."""
    last: Span | None = None
    for opens, closes in spans:
        if last is not None and opens <= last[1]:
            last = (last[0], max(last[1], closes))
            continue
        if last is not None:
            yield last
        last = (opens, closes)
    if last is not None:
        yield last


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
            since = valid_from.astimezone(UTC) if valid_from is not None and kept else EVER
            kept = [*((at, one) for at, one in kept if at < since), (since, calendar)]
        return cls(tuple(kept))

    def at(self, moment: datetime) -> Calendar:
        """The calendar that counts then."""
        return self.versions[bisect_right(self.versions, moment, key=itemgetter(0)) - 1][1]

    def spans(self, since: datetime, until: datetime) -> Iterator[Span]:
        """Working time within [since, until), in order, no two touching."""
        since, until = since.astimezone(UTC), until.astimezone(UTC)
        return union(
            span
            for valid_from, valid_to, calendar in self._reigns()
            for span in calendar.working(max(since, valid_from), min(until, valid_to))
        )

    def last_close(self, day: date) -> datetime | None:
        """When the local date closes for the last time; None if it does not open."""
        return max(
            (
                min(closes, valid_to)
                for valid_from, valid_to, calendar in self._reigns()
                for opens, closes in calendar.spans(day)
                if max(opens, valid_from) < min(closes, valid_to)
            ),
            default=None,
        )

    def _reigns(self) -> Iterator[tuple[datetime, datetime, Calendar]]:
        ends = (*(since for since, _ in self.versions[1:]), NEVER)
        for (since, calendar), until in zip(self.versions, ends, strict=True):
            yield since, until, calendar


# ---------------------------------------------------------------------------------------------------------- arithmetic


def merged(pauses: Sequence[Pause]) -> list[Pause]:
    """The same time as the pauses, in order, no two touching. A pause that ends before it begins is none."""
    closed = ((since, NEVER if until is None else until.astimezone(UTC)) for since, until in pauses)
    spans = sorted((since.astimezone(UTC), until) for since, until in closed if since < until)
    return [(since, None if until == NEVER else until) for since, until in union(spans)]


def counted(timetable: Timetable, start: datetime, end: datetime, pauses: Sequence[Pause] = ()) -> Iterator[Span]:
    """What counts of [start, end): working time without the pauses."""
    stops, at = merged(pauses), 0
    for opens, closes in timetable.spans(start, end):
        while at < len(stops) and opens < closes and stops[at][0] < closes:
            since, until = stops[at]
            if since > opens:
                yield opens, since
            if until is None:
                return
            opens = max(opens, until)
            if until < closes:
                at += 1
        if opens < closes:
            yield opens, closes


def elapsed(timetable: Timetable, start: datetime, end: datetime, pauses: Sequence[Pause] = ()) -> timedelta:
    """How much working time passed; none where `end` is not after `start`."""
    return sum((closes - opens for opens, closes in counted(timetable, start, end, pauses)), ZERO)


def due(timetable: Timetable, start: datetime, target: timedelta, pauses: Sequence[Pause] = ()) -> datetime | None:
    """The first moment at which `target` of working time has passed; None where the pauses leave none, as an open one
    does that lasts before it.

    Exactly at close is the close, not the next opening. Raises NoWorkingTime when the calendar itself, without any
    pause, has less than the target in 10 years.
    """
    horizon = start + HORIZON
    ends = [until for _, until in pauses if until is not None]
    found = _reached(counted(timetable, start, max([start, *ends]) + HORIZON, pauses), start, target)
    if (found is None or found > horizon) and _reached(timetable.spans(start, horizon), start, target) is None:
        raise NoWorkingTime(f"the calendar has less than {target} of working time in 10 years from {start:%Y-%m-%d}")
    return found


def _reached(spans: Iterable[Span], start: datetime, target: timedelta) -> datetime | None:
    left = target
    if left <= ZERO:
        return start.astimezone(UTC)
    for opens, closes in spans:
        if closes - opens >= left:
            return opens + left
        left -= closes - opens
    return None


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
    first = timetable.at(start).local(start).date()
    anchor: date | None = None
    left = days
    for n in range(HORIZON.days):
        day = first + timedelta(days=n)
        closes = timetable.last_close(day)
        if closes is None or closes <= start:
            continue
        if anchor is None:
            anchor = day
        else:
            left -= 1
        if left == 0:
            return DayDue(anchor, day, closes)
    raise NoWorkingTime(f"the calendar has fewer than {days} working days in 10 years from {start:%Y-%m-%d}")


# ---------------------------------------------------------------------------------------------------------- explaining


class Why(StrEnum):
    """What a piece of time was."""

    COUNTED = "working time"
    PAUSED = "paused"
    CLOSED = "outside working hours"
    HOLIDAY = "holiday"
    EXCEPTION = "exception"
    """A date with hours of its own, outside of them."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of time in which one thing holds."""

    since: datetime
    until: datetime
    why: Why

    @property
    def counted(self) -> bool:
        return self.why is Why.COUNTED

    @property
    def seconds(self) -> float:
        return (self.until - self.since) / timedelta(seconds=1)


def segments(timetable: Timetable, start: datetime, end: datetime, pauses: Sequence[Pause] = ()) -> list[Segment]:
    """Every moment of [start, end), once, with what it was. A pause outside working hours is called a pause."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    stops = [(since, NEVER if until is None else until) for since, until in merged(pauses)]
    working = list(timetable.spans(start, end))
    edges = {edge for edge in chain(*stops, *working, _reasons(timetable, start, end)) if start < edge < end}
    found: list[Segment] = []
    for since, until in pairwise(sorted({start, end} | edges)) if start < end else ():
        if _within(stops, since):
            why = Why.PAUSED
        elif _within(working, since):
            why = Why.COUNTED
        else:
            calendar = timetable.at(since)
            why = calendar.closed_because(calendar.local(since).date())
        if found and found[-1].why is why:
            found[-1] = Segment(found[-1].since, until, why)
        else:
            found.append(Segment(since, until, why))
    return found


def _within(spans: Sequence[Span], at: datetime) -> bool:
    place = bisect_right(spans, at, key=itemgetter(0)) - 1
    return place >= 0 and at < spans[place][1]


def _reasons(timetable: Timetable, start: datetime, end: datetime) -> Iterator[datetime]:
    """Where the reason for being closed can change: versions, and the midnights around days that are not plain."""
    for since, calendar in timetable.versions:
        yield since
        first, last = calendar.local(start).date(), calendar.local(end).date()
        for day in calendar.special:
            if first <= day <= last:
                yield calendar.instant(day, 0)
                yield calendar.instant(day, DAY_MINUTES)
