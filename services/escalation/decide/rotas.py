"""Duty rotas: who of a unit is on duty when, and when nobody is.

Times are local to the rota's zone. What is said of a date replaces the shifts that its weekday begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from events.errors import Invalid
from events.event import Event
from events.operations import RotaPublished, Shift
from services.escalation.calendars import DAYS, Calendar, Span, Window
from services.escalation.decide.configuration import publish

NIGHT = (22 * 60, 30 * 60)
"""From 22:00 to 06:00, in minutes after midnight."""


def on_duty(rota: RotaPublished, at: datetime) -> tuple[str, ...]:
    """Who is on duty then, in the order in which the rota names them."""
    zone = _zone(rota)
    today = zone.local(at).date()
    days = (today - timedelta(days=1), today)
    found = [agent for opens, closes, agents in shifts(rota, days) if opens <= at < closes for agent in agents]
    return tuple(dict.fromkeys(found))


def shifts(rota: RotaPublished, days: Sequence[date]) -> Iterator[tuple[datetime, datetime, tuple[str, ...]]]:
    """The shifts that begin on these local dates, as half-open intervals of instants with who is on duty."""
    zone = _zone(rota)
    for day in days:
        dated = [shift for shift in rota.dated if shift.date == day.isoformat()]
        weekly = [shift for shift in rota.weekly if DAYS[day.weekday()] in shift.days]
        for shift in dated or weekly:
            window = Window.parse(shift.opens, shift.closes)
            yield zone.instant(day, window.opens), zone.instant(day, window.closes), shift.agents


def local_date(rota: RotaPublished, at: datetime) -> date:
    """The date that is on the calendar then, where the rota is."""
    return _zone(rota).local(at).date()


def tonight(rota: RotaPublished, now: datetime) -> Span:
    """The night that lasts, or the next one, by the rota's zone."""
    zone = _zone(rota)
    day = zone.local(now).date() - timedelta(days=1)
    while (night := (zone.instant(day, NIGHT[0]), zone.instant(day, NIGHT[1])))[1] <= now:
        day += timedelta(days=1)
    return night


def uncovered(rota: RotaPublished, since: datetime, until: datetime) -> list[Span]:
    """When nobody is on duty within [since, until)."""
    zone = _zone(rota)
    first, last = zone.local(since).date() - timedelta(days=1), zone.local(until).date()
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    found: list[Span] = []
    at = since
    for opens, closes in sorted((opens, closes) for opens, closes, agents in shifts(rota, days) if agents):
        if closes <= at or opens >= until:
            continue
        if opens > at:
            found.append((at, opens))
        at = max(at, closes)
    return [*found, (at, until)] if at < until else found


def _zone(rota: RotaPublished) -> Calendar:
    return Calendar(rota.tz, ((),) * 7)


# ----------------------------------------------------------------------------------------------------------- publishing


def empty_windows(rota: RotaPublished) -> list[str]:
    """The windows for which nobody was found yet, in words."""
    weekly = [(", ".join(shift.days), shift) for shift in rota.weekly]
    named: list[tuple[str, Shift]] = [*weekly, *((shift.date, shift) for shift in rota.dated)]
    return [f"{days} {shift.opens}–{shift.closes}" for days, shift in named if not shift.agents]


def publish_rota(wanted: RotaPublished, now: datetime, current: RotaPublished | None, relied_on: bool) -> list[Event]:
    """The next version of a unit's rota. `relied_on`: a rung in force leaves the ownership to it. Raises Invalid."""
    wrong = list(_wrong(wanted))
    if relied_on:
        wrong += [f"nobody is on duty {window}, and a ladder relies on this rota" for window in empty_windows(wanted)]
    if wrong:
        raise Invalid("; ".join(wrong), wrong=wrong)
    return publish(wanted, now, current)


def _wrong(rota: RotaPublished) -> Iterator[str]:
    try:
        ZoneInfo(rota.tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield f"tz: there is no time zone called {rota.tz}"
    for shift in (*rota.weekly, *rota.dated):
        try:
            Window.parse(shift.opens, shift.closes)
        except Invalid as error:
            yield error.message
    for weekly in rota.weekly:
        yield from (f"days: {day} is none of {', '.join(DAYS)}" for day in weekly.days if day not in DAYS)
    for dated in rota.dated:
        try:
            date.fromisoformat(dated.date)
        except ValueError:
            yield f"date: {dated.date} is no date such as 2026-12-24"
    if not rota.weekly and not rota.dated:
        yield "weekly, dated: name at least one shift"
