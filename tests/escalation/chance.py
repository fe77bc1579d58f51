"""Calendars, promises and stories by chance, each made of its seed: what fails can be made again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from random import Random

from events.case import (
    CaseAssigned,
    CaseClassified,
    CaseClosed,
    CaseEscalated,
    CaseHandedOver,
    CaseQueued,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    Category,
    ClockKind,
    EscalationReturned,
    MessageReceived,
    MessageSent,
    PartnerReturned,
    Priority,
    UnitKind,
)
from events.event import CaseEvent
from events.operations import PromiseKind
from services.escalation.calendars import Calendar, Pause, Timetable, Window, Windows
from services.escalation.clocks import Promise
from tests.escalation.hearing import every, promise
from tests.given import an

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns", "UTC")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

TIMETABLES = 60
"""Different ones: a year of a calendar costs more than a thousand questions to it."""


def _windows(dice: Random) -> Windows:
    times = [(dice.randrange(96), dice.randrange(1, 97)) for _ in range(dice.choice((0, 1, 1, 1, 2, 3)))]
    return tuple(Window.parse(_time(opens), _time(closes)) for opens, closes in times)


def _time(quarter: int) -> str:
    return f"{quarter // 4:02}:{quarter % 4 * 15:02}"


def _day(dice: Random) -> date:
    return BEGIN.date() + timedelta(days=dice.randrange(400))


def _calendar(dice: Random) -> Calendar:
    mon, tue, wed, thu, fri, sat, sun = (_windows(dice) for _ in range(7))
    open_once = mon or tue or wed or thu or fri or sat or sun or (Window.parse("09:00", "17:00"),)
    return Calendar(
        dice.choice(ZONES),
        (open_once, tue, wed, thu, fri, sat, sun),
        frozenset(_day(dice) for _ in range(dice.randrange(9))),
        tuple({_day(dice): _windows(dice) for _ in range(dice.randrange(5))}.items()),
    )


@cache
def timetable(number: int) -> Timetable:
    """The timetable of that number: one to three versions of a calendar that is open on some day of the week."""
    dice = Random(number)
    later = [(moment(dice), _calendar(dice)) for _ in range(dice.randrange(3))]
    return Timetable.of([(None, _calendar(dice)), *later])


def moment(dice: Random, days: int = 400) -> datetime:
    return BEGIN + timedelta(seconds=dice.randrange(days * 86_400))


def span(dice: Random, days: float = 20) -> timedelta:
    return timedelta(seconds=dice.randrange(int(days * 86_400)))


def pauses(dice: Random, start: datetime) -> list[Pause]:
    """Some that end, in any order."""
    begun = [start + span(dice) for _ in range(dice.randrange(5))]
    return [(since, since + span(dice, 5)) for since in begun]


# --------------------------------------------------------------------------------------------------------------- cases

ANSWER = an(MessageSent, visibility="public", automatic=False, waits_for=None)

FACTS: tuple[CaseEvent, ...] = (
    ANSWER,
    an(MessageSent, visibility="public", automatic=False, waits_for="customer"),
    an(MessageSent, visibility="public", automatic=True, waits_for=None),
    an(MessageSent, visibility="internal", waits_for="customer"),
    an(MessageSent, visibility="internal", waits_for="internal"),
    an(MessageSent, visibility="internal", waits_for=None),
    an(MessageReceived),
    an(MessageReceived),
    an(CaseResolved, episode=1),
    an(CaseResolved, episode=2),
    an(CaseReopened, episode=2),
    an(CaseReopened, episode=3),
    an(CaseClosed, episode=1),
    an(CaseTakenOver, episode=2),
    an(CaseQueued, unit_id="care-de", unit_kind=UnitKind.FRONT_END),
    an(CaseQueued, unit_id="experts", unit_kind=UnitKind.BACK_END),
    an(CaseAssigned),
    an(CaseHandedOver, partner_id="acme"),
    an(PartnerReturned, partner_id="acme"),
    an(CaseEscalated, unit_id="swat"),
    an(EscalationReturned, unit_id="swat"),
    an(CaseClassified, priority=Priority.LOW, tier=None, journey=None),
    an(CaseClassified, priority=Priority.URGENT, tier="gold", journey=None),
)
"""Any of these, at any time, in any order: also what no service would say so."""

WAITING = (Category.WAITING_CUSTOMER, Category.WAITING_PARTNER, Category.WAITING_INTERNAL)
CUSTOMERS = tuple(kind for kind in ClockKind if kind is not ClockKind.OWNERSHIP)


def promises(dice: Random, version: int = 1) -> list[Promise]:
    """One for everybody, one for gold customers, one between units; each with a calendar and pauses of its own."""
    return [
        _promise(dice, f"standard@{version}", CUSTOMERS),
        _promise(dice, f"vip@{version}", CUSTOMERS, start={"tiers": ["gold"]}),
        _promise(dice, f"units@{version}", (ClockKind.OWNERSHIP,), kind=PromiseKind.INTERNAL),
    ]


def _promise(dice: Random, ref: str, kinds: tuple[ClockKind, ...], **more: object) -> Promise:
    clocks = [kind for kind in kinds if dice.random() < 0.7] or list(kinds[:1])
    slow, fast = dice.randrange(1, 200), dice.randrange(1, 40)
    targets = [target for clock in clocks for target in (*every(clock, slow / 4)[:2], *every(clock, fast / 4)[2:])]
    paused = [
        {"clocks": [clock], "categories": [one for one in WAITING if dice.random() < 0.5]}
        for clock in clocks
        if dice.random() < 0.5
    ]
    return promise(ref, calendar=f"{dice.randrange(TIMETABLES)}", targets=targets, pauses=paused, **more)
