"""A clock: what was said about it, what it owes, and how much of its time is used.

All of it goes by event time, never by arrival: a promise is kept when what was promised happened at or before the due
time, whenever anybody heard of it. Nothing that counts is stored as a number of seconds: a clock is when it started,
what held from when on, when it was paused and when it ended; everything else is worked out from that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from events.case import (
    Category,
    ClockAccount,
    ClockKind,
    ClockPause,
    ClockSpan,
    ClockWarning,
)
from events.event import named, replace
from events.operations import PromisePublished
from services.escalation import calendars
from services.escalation.calendars import Timetable

ALWAYS = Timetable.of(((None, calendars.Calendar("UTC", ((calendars.Window(0, calendars.DAY_MINUTES),),) * 7)),))
"""All time counts: also where nothing is promised."""

SECOND = timedelta(seconds=1)


class ClockState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    BREACHED = "breached"
    """Not stopped yet, and the due time has passed."""
    NO_WORKING_TIME = "no_working_time"
    """It is never due: its calendar has less working time than was promised within 10 years."""
    STOPPED = "stopped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Promise:
    """A version of a promise, as cases pin it."""

    ref: str
    """id@version."""
    content: PromisePublished
    published_at: datetime | None = field(default=None, compare=False)
    """None where it is not published yet."""


Pins = tuple[tuple[int, tuple[str, ...]], ...]
"""(from this episode on, id@version of what it is judged by), rising; none: nothing was pinned yet."""


def pinned(pins: Pins, episode: int, refs: tuple[str, ...]) -> Pins:
    """With these pinned from that episode on."""
    return (*(pin for pin in pins if pin[0] < episode), (episode, refs))


@dataclass(frozen=True)
class Span:
    """What holds from `since` on: nothing is promised where the promise is None."""

    since: datetime
    promise: str | None = None
    """id@version."""
    calendar: str | None = None
    """id@version."""
    target_s: int | None = None


@dataclass(frozen=True)
class Pause:
    since: datetime
    until: datetime | None
    """None while it lasts."""
    reason: Category
    ignored_since: datetime | None = None
    """When the customer came in during the pause, as far as it has ended."""
    ignored_s: int = 0
    """Whole seconds of working time after that."""


Key = tuple[ClockKind, int, int]
"""(kind, episode, turn)."""


@dataclass(frozen=True)
class Clock:
    """One obligation to one customer, or one unit's or partner's time with a case."""

    kind: ClockKind
    episode: int
    turn: int
    started_at: datetime
    spans: tuple[Span, ...]
    pauses: tuple[Pause, ...] = ()
    owner: str | None = None
    ended_at: datetime | None = None
    cancelled: bool = False
    due_at: datetime | None = None
    """None where nothing is promised, or while a pause lasts that began before it."""
    tzdata: str | None = None
    """The version of the time zone data that the due time was computed with."""
    warnings: tuple[ClockWarning, ...] = ()
    """Those not said yet."""
    fires: bool = True
    warned: frozenset[int] = frozenset()
    """Percentages that were ever warned of."""
    breached_at: datetime | None = None
    """The due time that was called breached; None when that was taken back."""
    breach_said: bool = False
    """Whether `clock.breached` was ever said: it is not said twice."""
    kept: bool | None = None
    """As it was said when the clock ended."""
    elapsed_s: int | None = None
    """As it was said when the clock ended."""

    @property
    def key(self) -> Key:
        return (self.kind, self.episode, self.turn)

    @property
    def span(self) -> Span:
        """What holds now."""
        return self.spans[-1]

    @property
    def running(self) -> bool:
        return self.ended_at is None

    @property
    def paused(self) -> bool:
        return self.running and bool(self.pauses) and self.pauses[-1].until is None

    @property
    def state(self) -> ClockState:
        if not self.running:
            return ClockState.CANCELLED if self.cancelled else ClockState.STOPPED
        if self.breached_at is not None:
            return ClockState.BREACHED
        if self.paused:
            return ClockState.PAUSED
        never = self.span.target_s is not None and self.due_at is None
        return ClockState.NO_WORKING_TIME if never else ClockState.RUNNING

    @property
    def verdict(self) -> bool | None:
        """Whether the promise was kept; None while that is open, or where nothing was promised."""
        if not self.running:
            return self.kept
        return None if self.breached_at is None else False


@dataclass(frozen=True)
class Times:
    """The arithmetic of clocks over the calendars they were promised with."""

    timetables: Mapping[str, Timetable]
    """id@version → its timetable."""
    tzdata: str | None = None
    """The version of the time zone data."""

    def timetable(self, span: Span) -> Timetable:
        return ALWAYS if span.calendar is None else self.timetables[span.calendar]

    def counted(self, clock: Clock, until: datetime | None) -> Iterator[tuple[datetime, datetime]]:
        """What counted from the clock's start up to `until`, each piece by the calendar that held then. Without `until`
        it looks 10 years beyond the last change."""
        pauses = [(pause.since, pause.until) for pause in clock.pauses]
        end = until or clock.spans[-1].since + calendars.HORIZON
        for span, after in pairwise((*clock.spans, None)):
            if span is None or span.since >= end:
                return
            last = end if after is None else min(after.since, end)
            yield from calendars.counted(self.timetable(span), max(span.since, clock.started_at), last, pauses)

    def elapsed(self, clock: Clock, at: datetime) -> timedelta:
        """Time used at `at`, or at the clock's end if that was before."""
        until = at if clock.ended_at is None else min(at, clock.ended_at)
        return sum((closes - opens for opens, closes in self.counted(clock, until)), timedelta())

    def reached(self, clock: Clock, used: Iterable[timedelta]) -> dict[timedelta, datetime | None]:
        """For each of these the first moment at which so much time is used; None while a pause lasts before it, or
        where the calendar has no such moment in 10 years."""
        ahead, found, gone = sorted(set(used)), dict[timedelta, datetime | None](), timedelta()
        for opens, closes in self.counted(clock, None):
            while ahead and ahead[0] - gone <= closes - opens:
                share = ahead.pop(0)
                found[share] = opens + (share - gone)
            if not ahead:
                break
            gone += closes - opens
        return found | dict.fromkeys(ahead)

    def owing(self, clock: Clock, percents: Sequence[int]) -> Clock:
        """The clock with its due time and the warnings that are still to come."""
        if clock.span.target_s is None:
            return replace(clock, due_at=None, tzdata=None, warnings=())
        target = timedelta(seconds=clock.span.target_s)
        shares = {percent: target * percent / 100 for percent in percents if percent not in clock.warned}
        moments = self.reached(clock, (target, *shares.values()))
        ahead = ((percent, moments[share]) for percent, share in shares.items())
        warnings = tuple(ClockWarning(percent=percent, at=at) for percent, at in ahead if at is not None)
        due_at = moments[target]
        return replace(clock, due_at=due_at, tzdata=self.tzdata if due_at else None, warnings=warnings)

    def elapsed_s(self, clock: Clock, at: datetime) -> int:
        """Whole seconds used."""
        return self.elapsed(clock, at) // SECOND

    def remaining_s(self, clock: Clock, at: datetime) -> int | None:
        """Whole seconds left of the target, never below 0; None where nothing is promised."""
        target = clock.span.target_s
        return None if target is None else max(0, target - self.elapsed_s(clock, at))

    def ignoring(self, clock: Clock, contacts: Sequence[datetime]) -> Clock:
        """The clock with what its pauses, those that have ended, ignored of the customer's coming in."""
        return replace(clock, pauses=tuple(self._ignoring(clock, pause, contacts) for pause in clock.pauses))

    def _ignoring(self, clock: Clock, pause: Pause, contacts: Sequence[datetime]) -> Pause:
        until = pause.until
        since = None if until is None else min((at for at in contacts if pause.since <= at < until), default=None)
        if until is None or since is None:
            return pause
        whole = replace(clock, pauses=tuple(p for p in clock.pauses if p.since < pause.since), ended_at=None)
        used = (self.elapsed(whole, until) - self.elapsed(whole, since)) // SECOND
        return replace(pause, ignored_since=since, ignored_s=used)


def percents_of(promise: PromisePublished) -> tuple[int, ...]:
    """At which shares of a target the promise warns."""
    return promise.warnings or (promise.warn_percent,)


def obligation(case_id: str, key: Key, what: str) -> str:
    """The id of the one event that says `what` about the clock, however many workers come to say it."""
    kind, episode, turn = key
    return named(f"{case_id}/{kind}/{episode}/{f'{turn}/' if turn else ''}{what}")


# ------------------------------------------------------------------------------------------------------------ accounts


def account(clock: Clock) -> ClockAccount:
    """The clock as an event tells it whole."""
    return ClockAccount(
        started_at=clock.started_at,
        owner=clock.owner,
        spans=tuple(
            ClockSpan(since=s.since, promise=s.promise, calendar=s.calendar, target_s=s.target_s) for s in clock.spans
        ),
        pauses=tuple(ClockPause(**{name: getattr(p, name) for name in ClockPause.model_fields}) for p in clock.pauses),
        ended_at=clock.ended_at,
        cancelled=clock.cancelled,
        due_at=clock.due_at,
        tzdata=clock.tzdata,
        warnings=clock.warnings,
        elapsed_s=clock.elapsed_s,
        kept=clock.verdict,
        fires=clock.fires,
    )


def restored(clock: Clock | None, key: Key, told: ClockAccount) -> Clock:
    """The clock after all about it was told anew; what was ever warned of and called breached stays so."""
    kind, episode, turn = key
    return Clock(
        kind,
        episode,
        turn,
        told.started_at.astimezone(UTC),
        tuple(Span(s.since.astimezone(UTC), s.promise, s.calendar, s.target_s) for s in told.spans),
        tuple(Pause(p.since, p.until, p.reason, p.ignored_since, p.ignored_s) for p in told.pauses),
        told.owner,
        told.ended_at,
        told.cancelled,
        told.due_at,
        told.tzdata,
        told.warnings,
        fires=told.fires,
        warned=clock.warned if clock is not None else frozenset(),
        breached_at=told.due_at if told.kept is False else None,
        breach_said=clock.breach_said if clock is not None else False,
        kept=told.kept if told.ended_at is not None else None,
        elapsed_s=told.elapsed_s,
    )
