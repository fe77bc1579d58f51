"""Promises: which cases they are made to, what they say, and what a version must say before it is published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from events.case import Case, Category, ClockKind, Priority
from events.errors import Invalid
from events.event import Event
from events.operations import Cases, PromiseKind, PromisePause, PromisePublished
from services.escalation.calendars import NoWorkingTime, Timetable, due
from services.escalation.clocks import Promise
from services.escalation.decide.configuration import publish

FIELDS = ("channels", "markets", "languages", "journeys", "priorities", "tiers")

PAUSES: dict[ClockKind, tuple[Category, ...]] = {
    ClockKind.HANDLING: (Category.WAITING_CUSTOMER, Category.WAITING_PARTNER),
    ClockKind.REQUESTER_WAIT: (Category.WAITING_CUSTOMER,),
}
"""What stops a clock of a kind from counting where its promise does not say."""

PAUSABLE = (Category.WAITING_CUSTOMER, Category.WAITING_PARTNER, Category.WAITING_INTERNAL)

# ------------------------------------------------------------------------------------------------------------- reading


def holds(condition: Cases, case: Case) -> bool:
    """Whether the case is one of these."""
    values = (case.channel, case.market, case.language, case.journey, case.priority, case.tier)
    return all(not wanted or value in wanted for wanted, value in zip(_fields(condition), values, strict=True))


def applies(promise: PromisePublished, case: Case) -> bool:
    """Whether the promise is made to the case as it is."""
    return holds(promise.start, case) and not (promise.stop is not None and holds(promise.stop, case))


def target_of(promise: PromisePublished, kind: ClockKind, case: Case) -> int | None:
    """Seconds, if the promise names a target for such a clock of this case."""
    fitting = [
        (target.market is not None, target.tier is not None, target.target_s)
        for target in promise.targets
        if target.clock is kind
        and target.priority is (case.priority or Priority.NORMAL)
        and target.tier in (None, case.tier)
        and target.market in (None, case.market)
    ]
    return max(fitting)[-1] if fitting else None


def pauses_of(promise: PromisePublished | None, kind: ClockKind, case: Case) -> tuple[Category, ...]:
    """In which categories such a clock of this case does not count."""
    named = [pause for pause in promise.pauses if kind in pause.clocks] if promise is not None else []
    if not named:
        return PAUSES.get(kind, ())
    return tuple(category for pause in named if holds(pause.when, case) for category in pause.categories)


def in_order(promises: Sequence[Promise]) -> tuple[Promise, ...]:
    """As they are asked whether they apply: who is made to fewer cases first, then by id."""
    return tuple(sorted(promises, key=lambda promise: (-_said(promise.content.start), promise.ref)))


def _fields(condition: Cases) -> tuple[tuple[str, ...], ...]:
    return tuple(getattr(condition, name) for name in FIELDS)


def _said(condition: Cases) -> int:
    return sum(bool(values) for values in _fields(condition))


def within(inner: Cases, outer: Cases) -> bool:
    """Whether every case of `inner` is one of `outer`."""
    return all(
        not whole or (part and set(part) <= set(whole))
        for part, whole in zip(_fields(inner), _fields(outer), strict=True)
    )


# ---------------------------------------------------------------------------------------------------------- publishing


@dataclass(frozen=True, slots=True)
class PinnedCalendar:
    """The calendar version that a promise is published on."""

    ref: str
    """id@version."""
    timetable: Timetable


def publish_promise(
    wanted: PromisePublished, now: datetime, current: PromisePublished | None, calendar: PinnedCalendar | None
) -> list[Event]:
    """The next version of a promise, on this calendar version.

    Raises Invalid for a missing or double target, a promise that ends where it begins, a pause where it does not apply,
    and NoWorkingTime where the calendar has less than the longest target within 10 years from now.
    """
    if calendar is None:
        raise Invalid(f"calendar: there is none called {wanted.calendar}")
    _check_targets(wanted)
    if wanted.stop is not None and within(wanted.start, wanted.stop):
        raise Invalid("stop: every case the promise is made to is also one it is not made to; it would never hold")
    for pause in wanted.pauses:
        _check_pause(wanted, pause)
    if list(wanted.warnings) != sorted(set(wanted.warnings)):
        raise Invalid("warnings: name each percentage once, rising")
    _check_calendar(wanted, now, calendar)
    return publish(wanted.model_copy(update={"calendar": calendar.ref}), now, current)


def _check_calendar(wanted: PromisePublished, now: datetime, calendar: PinnedCalendar) -> None:
    longest = timedelta(seconds=max(target.target_s for target in wanted.targets))
    try:
        due(calendar.timetable, now, longest)
    except NoWorkingTime:
        why = f"has less than {longest} of working time in 10 years from {now:%Y-%m-%d}; no clock would ever be due"
        raise NoWorkingTime(f"calendar: {calendar.ref} {why}") from None


def _check_targets(wanted: PromisePublished) -> None:
    named = Counter((t.clock, t.priority, t.tier, t.market) for t in wanted.targets)
    double = ["/".join(filter(None, key)) for key, times in named.items() if times > 1]
    if double:
        raise Invalid("targets: one for each clock, priority, tier and market; more than one: " + ", ".join(double))
    clocks = {target.clock: None for target in wanted.targets}
    missing = [f"{clock}/{p}" for clock in clocks for p in Priority if not named[clock, p, None, None]]
    if missing:
        every = "every clock needs one for every priority, for any tier and market"
        raise Invalid(f"targets: {every}; missing: " + ", ".join(missing))
    for clock in clocks:
        if (clock is ClockKind.OWNERSHIP) is (wanted.kind is PromiseKind.CUSTOMER):
            raise Invalid(f"targets: a promise of kind {wanted.kind} has no {clock} clock")


def _check_pause(wanted: PromisePublished, pause: PromisePause) -> None:
    merged = pause.when.model_copy(
        update={name: getattr(pause.when, name) or getattr(wanted.start, name) for name in FIELDS}
    )
    if not within(merged, wanted.start):
        raise Invalid("pauses: a pause is for cases the promise is not made to")
    other = [category for category in pause.categories if category not in PAUSABLE]
    if other:
        raise Invalid(f"pauses: a case that is {', '.join(other)} waits for nobody")
