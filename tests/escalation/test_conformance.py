"""The 24 cases that service-level clocks get wrong elsewhere, each on a clock: when it is due, and that it breaks then.

The first rows are one clock, its calendar and its pauses; what needs more than that is a test of its own. Their names
are those of the reference; `test_the_suite_is_whole` counts them.
"""

from __future__ import annotations

import shutil
import sys
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from events.case import (
    CaseClassified,
    CaseOpened,
    CaseReopened,
    CaseResolved,
    Category,
    ClockBreached,
    ClockKind,
    ClockRestated,
    MessageReceived,
    MessageSent,
    Priority,
)
from services.escalation.calendars import Calendar, Timetable, Window, Windows
from services.escalation.clocks import ALWAYS, Promise
from services.process import only_the_wheel
from tests.casewalk import Casewalk
from tests.escalation.hearing import HOUR, SECOND, Hearing, every, local, opened, promise
from tests.escalation.test_doors import clocks
from tests.escalation.test_doors import opened as came_in
from tests.given import an

NAMES = (
    "spring-forward inside window",
    "fall-back inside window",
    "window crossing the skipped hour",
    "due exactly at window end",
    "start exactly at window end",
    "start on holiday",
    "holiday shorter than a day",
    "holiday in one of two markets",
    "lunch split",
    "overnight shift",
    "24x7",
    "zero-window week",
    "leap day",
    "year end",
    "zone rule change between start and due",
    "pause across a weekend",
    "pause starting outside hours",
    "two pauses in one minute",
    "resume by customer at night",
    "reopen after breach",
    "priority raised after 3 h with retroactive start and pause",
    "calendar edited mid-case",
    "case moved between calendars",
    "merge of a breached into a fresh case",
)

HANDLING, RESOLUTION = ClockKind.HANDLING, ClockKind.RESOLUTION
MICROSECOND = timedelta(microseconds=1)
QUESTION = an(MessageSent, visibility="public", automatic=False, waits_for="customer")
CONTACT = an(MessageReceived)


def windows(*texts: str) -> Windows:
    return tuple(Window.parse(*text.split("-")) for text in texts)


def calendar(*texts: str, tz: str = "Europe/Berlin", days: int = 5, **more: object) -> Timetable:
    """Open in these windows on the first `days` days of the week."""
    mon, tue, wed, thu, fri, sat, sun = (windows(*texts) if n < days else () for n in range(7))
    return Timetable.of([(None, Calendar(tz, (mon, tue, wed, thu, fri, sat, sun), **more))])  # type: ignore[arg-type]


def days(*texts: str) -> frozenset[date]:
    return frozenset(date.fromisoformat(text) for text in texts)


def agreed(hours: float, ref: str = "office@1", on: str = "office@1", **more: object) -> Promise:
    """So many hours to handle a case, without those in which the customer is waited for."""
    pauses = [{"clocks": [HANDLING], "categories": [Category.WAITING_CUSTOMER]}]
    return promise(ref, calendar=on, targets=every(HANDLING, hours), pauses=pauses, **more)


def begun(start: datetime, hours: float, office: Timetable, **fields: object) -> Hearing:
    case = Hearing([agreed(hours)], timetables={"office@1": office})
    return case.hear(an(CaseOpened, **{"priority": Priority.HIGH, "tier": None} | fields), start)


def breaks_exactly_at(case: Hearing, due: datetime, kind: ClockKind = HANDLING, episode: int = 1) -> None:
    """Not a moment before, and once."""
    assert case.clock(kind, episode).due_at == due
    case.fire(due - MICROSECOND)
    assert not [e for e in case.events(ClockBreached) if (e.clock, e.episode) == (kind, episode)]
    case.fire(due).fire(due + 1000 * HOUR)
    (breach,) = [one for one in case.said if isinstance(one.data, ClockBreached) and one.data.clock is kind]
    assert (breach.occurred_at, breach.data.episode) == (due, episode)


@dataclass(frozen=True)
class Row:
    name: str
    office: Timetable
    start: str
    hours: float
    due: str
    pauses: Sequence[tuple[str, str]] = ()


NINE = calendar("09:00-17:00")
NIGHT = calendar("22:00-06:00", days=7)
EASTER = days("2026-04-03", "2026-04-06")
CHRISTMAS = calendar(
    "09:00-17:00",
    holidays=days("2026-12-25"),
    exceptions=((date(2026, 12, 24), windows("09:00-12:00")),),
)
CLOSED_WEEK = calendar(
    "09:00-17:00", holidays=days(*(f"2026-03-{n}" for n in (30, 31)), "2026-04-01", "2026-04-02") | EASTER
)

ROWS = (
    Row(NAMES[0], calendar("00:00-06:00", days=7), "2026-03-29 00:00", 4, "2026-03-29 05:00"),
    Row(NAMES[1], calendar("00:00-06:00", days=7), "2026-10-25 00:00", 4, "2026-10-25 03:00"),
    Row(NAMES[2], calendar("01:30-03:30", days=7), "2026-03-29 00:00", 0.75, "2026-03-29 03:15"),
    Row(NAMES[3], NINE, "2026-03-30 09:00", 8, "2026-03-30 17:00"),
    Row(NAMES[4], NINE, "2026-03-30 17:00", 1, "2026-03-31 10:00"),
    Row(NAMES[5], calendar("09:00-17:00", holidays=EASTER), "2026-04-03 10:00", 1, "2026-04-07 10:00"),
    Row(NAMES[6], CHRISTMAS, "2026-12-24 11:00", 2, "2026-12-28 10:00"),
    Row(NAMES[8], calendar("09:00-12:00", "13:00-17:00"), "2026-03-30 11:30", 1, "2026-03-30 13:30"),
    Row(NAMES[9], NIGHT, "2026-03-23 23:00", 8, "2026-03-24 23:00"),
    Row(NAMES[10], ALWAYS, "2026-03-21 22:00", 5, "2026-03-22 03:00"),
    Row(NAMES[11], CLOSED_WEEK, "2026-03-27 16:00", 2, "2026-04-07 10:00"),
    Row(NAMES[12], NINE, "2028-02-28 16:00", 9, "2028-02-29 17:00"),
    Row(NAMES[13], NIGHT, "2026-12-31 23:00", 2, "2027-01-01 01:00"),
    Row(NAMES[15], NINE, "2026-03-27 15:00", 8, "2026-03-30 17:00", [("2026-03-27 16:00", "2026-03-30 10:00")]),
    Row(NAMES[16], NINE, "2026-03-30 15:00", 8, "2026-03-31 16:00", [("2026-03-30 20:00", "2026-03-31 10:00")]),
    Row(
        NAMES[17],
        NINE,
        "2026-03-30 10:00",
        1,
        "2026-03-30 11:00:30",
        [("2026-03-30 10:30:00", "2026-03-30 10:30:10"), ("2026-03-30 10:30:20", "2026-03-30 10:30:40")],
    ),
    Row(NAMES[18], NINE, "2026-03-30 09:00", 8, "2026-03-31 14:00", [("2026-03-30 12:00", "2026-03-31 02:00")]),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_clock_breaks_exactly_when_it_is_due(row: Row) -> None:
    case = begun(local(row.start), row.hours, row.office)
    for since, until in row.pauses:
        case.hear(QUESTION, local(since)).hear(CONTACT, local(until))
    breaks_exactly_at(case, local(row.due))


def test_holiday_in_one_of_two_markets() -> None:
    both = [
        agreed(2, "de@1", "de@1", start={"markets": ["de"]}),
        agreed(2, "fr@1", "fr@1", start={"markets": ["fr"]}),
    ]
    offices = {
        "de@1": calendar("09:00-17:00", holidays=EASTER),
        "fr@1": calendar("09:00-17:00", tz="Europe/Paris", holidays=days("2026-04-06")),
    }
    for market, due in (("de", "2026-04-07 10:00"), ("fr", "2026-04-03 10:00")):
        case = Hearing(both, timetables=offices)
        case.hear(an(CaseOpened, market=market, priority=Priority.HIGH, tier=None), local("2026-04-02 16:00"))
        breaks_exactly_at(case, local(due))


def test_zone_rule_change_between_start_and_due(tmp_path: Path) -> None:
    """The clock says by which data it was due; what it owes is reckoned anew with the next thing that happens to it."""
    start = local("2026-11-20 15:00", "America/Vancouver")
    (tmp_path / "America").mkdir()
    shutil.copyfile(str(files("tzdata.zoneinfo.America") / "Los_Angeles"), tmp_path / "America" / "Vancouver")
    try:
        zoneinfo.reset_tzpath((tmp_path,))
        zoneinfo.ZoneInfo.clear_cache()
        older = calendar("09:00-18:00", tz="America/Vancouver")
    finally:
        only_the_wheel()
    newer = calendar("09:00-18:00", tz="America/Vancouver")
    case = Hearing([agreed(4)], timetables={"office@1": older}, tzdata="2025b")
    case.hear(an(CaseOpened, priority=Priority.HIGH, tier=None), start)
    before = case.clock(HANDLING)
    case.timetables, case.tzdata = {"office@1": newer}, "2026f"
    case.hear(QUESTION, start + HOUR).hear(CONTACT, start + HOUR + SECOND)
    after = case.clock(HANDLING)
    # British Columbia stays at −07:00 from that month on: its offices close an hour earlier than was known.
    assert (before.tzdata, before.due_at) == ("2025b", local("2026-11-20 19:00", "America/Vancouver"))
    assert after.tzdata == "2026f"
    breaks_exactly_at(case, local("2026-11-23 10:00:01", "America/Vancouver"))


def test_reopen_after_breach() -> None:
    """The new episode owes a whole target, and the broken promise stays broken."""
    case = opened(local("2026-03-30 09:00"), [promise("standard@1", targets=every(RESOLUTION, 8))])
    case.fire(local("2026-03-30 18:00")).hear(an(CaseResolved, episode=1), local("2026-03-30 19:00"))
    case.hear(an(CaseReopened, episode=2), local("2026-03-31 09:00"))
    assert (case.clock(RESOLUTION).verdict, case.clock(RESOLUTION, 2).verdict) == (False, None)
    assert case.clock(RESOLUTION, 2).due_at == local("2026-03-31 17:00")
    case.fire(local("2026-03-31 17:00"))
    assert [event.episode for event in case.events(ClockBreached)] == [1, 2]


def test_priority_raised_after_3_h_with_retroactive_start_and_pause() -> None:
    slow, fast = every(HANDLING, 24)[:3], every(HANDLING, 4)[3:]
    pauses = [{"clocks": [HANDLING], "categories": [Category.WAITING_CUSTOMER]}]
    case = Hearing([promise("office@1", calendar="office@1", targets=(*slow, *fast), pauses=pauses)])
    case.timetables = {"office@1": ALWAYS}
    start = local("2026-03-30 09:00")
    case.hear(an(CaseOpened, priority=Priority.NORMAL, tier=None), start)
    case.hear(QUESTION, start + HOUR).hear(CONTACT, start + 2 * HOUR)
    case.hear(an(CaseClassified, priority=Priority.URGENT, tier=None, journey=None), start + 3 * HOUR)
    breaks_exactly_at(case, start + 5 * HOUR)


def test_calendar_edited_mid_case() -> None:
    """A running clock keeps its calendar's version until somebody asks for a restatement, which is told."""
    start = local("2026-03-30 16:00")
    later = Timetable.of([(None, NINE.versions[0][1]), (start, calendar("09:00-20:00").versions[0][1])])
    case = begun(start, 2, NINE)
    case.timetables = {"office@1": NINE, "office@2": later}
    case.hear(an(MessageSent, visibility="internal", waits_for=None), start + HOUR)
    assert (case.clock(HANDLING).due_at, case.clock(HANDLING).span.calendar) == (local("2026-03-31 10:00"), "office@1")
    case.pin(agreed(2, "office@2", "office@2"), now=start + HOUR)
    (told,) = [event for event in case.events(ClockRestated) if event.clock is HANDLING]
    assert (told.before.due_at, told.after.due_at) == (local("2026-03-31 10:00"), local("2026-03-30 18:00"))
    breaks_exactly_at(case, local("2026-03-30 18:00"))


def test_case_moved_between_calendars() -> None:
    """What was used by the one calendar stays used; the rest is counted by the other."""
    gold = agreed(4, "vip@1", "always@1", start={"tiers": ["gold"]})
    case = Hearing([agreed(4), gold], timetables={"office@1": NINE, "always@1": ALWAYS})
    case.hear(an(CaseOpened, priority=Priority.HIGH, tier=None), local("2026-03-27 16:00"))
    case.hear(an(CaseClassified, tier="gold", priority=None, journey=None), local("2026-03-28 12:00"))
    assert [span.calendar for span in case.clock(HANDLING).spans] == ["office@1", "always@1"]
    breaks_exactly_at(case, local("2026-03-28 15:00"))


async def test_merge_of_a_breached_into_a_fresh_case(here: Casewalk) -> None:
    """Both keep their clocks: the broken promise stays broken, and the fresh case gets neither its due time nor its
    verdict."""
    breached, fresh = await came_in(here, ago=timedelta(hours=30)), await came_in(here)
    before = await clocks(here, fresh)
    order = {"relation": "duplicate_of", "case_id": fresh, "reason": "the customer wrote twice"}
    linked = await here.admin.post(f"/v1/cases/{breached}:link", json=order)
    assert (linked.status_code, linked.json()["category"]) == (200, "resolved")
    await here.settled()
    ended, after = await clocks(here, breached), await clocks(here, fresh)
    assert {clock["state"] for clock in ended.values()} == {"stopped"}
    assert (ended["first_response"]["kept"], ended["resolution"]["kept"]) == (False, False)
    for kind in ("first_response", "resolution"):
        assert (after[kind]["state"], after[kind]["due_at"]) == ("running", before[kind]["due_at"])
    said = await here.hosts["escalation"].store.events("casewalk.cases", breached)
    assert sum(isinstance(event.data, ClockBreached) for event in said) == 2


def test_the_suite_is_whole() -> None:
    words = {name.replace("-", " ") for name in NAMES}
    rows = {row.name.replace("-", " ") for row in ROWS}
    tests = {name.removeprefix("test_").replace("_", " ") for name in vars(sys.modules[__name__])}
    assert len(words) == 24
    assert words - rows - tests == set()
