"""Working time: the cases a calendar must get right, its properties, and a second opinion minute by minute."""

from __future__ import annotations

import random
import shutil
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from events.errors import Invalid
from services.escalation.calendars import (
    DAYS,
    ZERO,
    Calendar,
    NoWorkingTime,
    Pause,
    Timetable,
    Why,
    Window,
    Windows,
    due,
    due_in_days,
    elapsed,
    merged,
    segments,
)
from services.escalation.decide import reckoning
from services.process import only_the_wheel
from tests.escalation.naive import Minutes
from tests.escalation.test_calendars_oracles import timetable

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)

NINE_TO_SIX = (Window.parse("09:00", "18:00"),)
ALL_DAY = (Window.parse("00:00", "24:00"),)


def office(tz: str = "Europe/Berlin", hours: Windows = NINE_TO_SIX, days: int = 5, **more: Any) -> Timetable:
    """Open on the first `days` days of the week."""
    return Timetable.of([(None, Calendar(tz, every(hours, days), **more))])


def every(hours: Windows, days: int = 7) -> tuple[Windows, Windows, Windows, Windows, Windows, Windows, Windows]:
    mon, tue, wed, thu, fri, sat, sun = (hours if n < days else () for n in range(7))
    return mon, tue, wed, thu, fri, sat, sun


def windows(*texts: str) -> Windows:
    """`09:00-12:00` and so on."""
    return tuple(Window.parse(*text.split("-")) for text in texts)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --------------------------------------------------------------------------------------------------- the known cases


def test_a_day_in_spring_on_which_the_clocks_go_forward_inside_a_window_is_an_hour_shorter() -> None:
    hours = office(hours=windows("00:00-08:00"), days=7)
    assert elapsed(hours, at("2026-03-29T00:00+01:00"), at("2026-03-30T00:00+02:00")) == 7 * HOUR


def test_a_day_in_autumn_on_which_the_clocks_go_back_inside_a_window_is_an_hour_longer() -> None:
    hours = office(hours=windows("00:00-08:00"), days=7)
    assert elapsed(hours, at("2026-10-25T00:00+02:00"), at("2026-10-26T00:00+01:00")) == 9 * HOUR


def test_a_window_that_opens_in_the_skipped_hour_opens_as_much_later() -> None:
    hours = office(hours=windows("02:30-10:00"), days=7)
    assert due(hours, at("2026-03-29T00:00+01:00"), HOUR) == at("2026-03-29T04:30+02:00")


def test_a_window_within_the_skipped_hour_opens_at_no_time() -> None:
    hours = office(hours=windows("02:00-03:00"), days=7)
    assert elapsed(hours, at("2026-03-29T00:00+01:00"), at("2026-03-30T00:00+02:00")) == ZERO
    assert elapsed(hours, at("2026-03-28T00:00+01:00"), at("2026-03-29T00:00+01:00")) == HOUR


def test_an_edge_in_the_doubled_hour_is_the_first_of_the_two() -> None:
    opens, closes = office(hours=windows("02:30-04:00"), days=7), office(hours=windows("01:00-02:30"), days=7)
    begin, end = at("2026-10-25T00:00+02:00"), at("2026-10-26T00:00+01:00")
    assert elapsed(opens, begin, end) == 2.5 * HOUR
    assert elapsed(closes, begin, end) == 1.5 * HOUR


def test_half_an_hour_skipped_is_half_an_hour() -> None:
    hours = office("Australia/Lord_Howe", windows("00:00-04:00"), days=7)
    assert elapsed(hours, at("2026-10-04T00:00+10:30"), at("2026-10-05T00:00+11:00")) == 3.5 * HOUR
    assert elapsed(hours, at("2026-04-05T00:00+11:00"), at("2026-04-06T00:00+10:30")) == 4.5 * HOUR


def test_a_date_the_zone_skipped_opens_at_no_time() -> None:
    hours = office("Pacific/Apia", hours=NINE_TO_SIX, days=5)  # no Friday 30 December 2011; the 31st is a Saturday
    assert elapsed(hours, at("2011-12-29T00:00-10:00"), at("2012-01-01T00:00+14:00")) == 9 * HOUR
    assert due_in_days(hours, at("2011-12-29T10:00-10:00"), 1).date == date(2012, 1, 2)


def test_exactly_at_close_is_the_close_and_not_the_next_opening() -> None:
    assert due(office(), at("2026-03-30T14:00+02:00"), 4 * HOUR) == at("2026-03-30T18:00+02:00")


def test_what_comes_exactly_at_close_starts_to_count_at_the_next_opening() -> None:
    assert due(office(), at("2026-03-27T18:00+01:00"), HOUR) == at("2026-03-30T10:00+02:00")


def test_what_comes_on_a_holiday_starts_to_count_on_the_next_working_day() -> None:
    hours = office(holidays=frozenset({date(2026, 4, 3), date(2026, 4, 6)}))
    assert due(hours, at("2026-04-03T11:00+02:00"), HOUR) == at("2026-04-07T10:00+02:00")


def test_a_holiday_may_be_shorter_than_a_day() -> None:
    eve = date(2026, 12, 24)
    hours = office(holidays=frozenset({eve}), exceptions=((eve, windows("09:00-13:00")),))
    assert elapsed(hours, at("2026-12-24T00:00+01:00"), at("2026-12-25T00:00+01:00")) == 4 * HOUR


def test_a_holiday_of_one_market_is_none_of_the_other() -> None:
    berlin, vienna = office(holidays=frozenset({date(2026, 10, 26)})), office("Europe/Vienna")
    start = at("2026-10-26T10:00+01:00")
    assert due(berlin, start, HOUR) == at("2026-10-27T10:00+01:00")
    assert due(vienna, start, HOUR) == at("2026-10-26T11:00+01:00")


def test_lunch_does_not_count() -> None:
    hours = office(hours=windows("09:00-12:30", "13:00-18:00"))
    assert due(hours, at("2026-03-30T12:00+02:00"), HOUR) == at("2026-03-30T13:30+02:00")


def test_a_night_shift_belongs_to_the_date_on_which_it_begins() -> None:
    hours = office(hours=windows("22:00-06:00"), days=1)
    assert elapsed(hours, at("2026-03-30T00:00+02:00"), at("2026-04-06T00:00+02:00")) == 8 * HOUR
    assert due(hours, at("2026-03-31T03:00+02:00"), 3 * HOUR) == at("2026-03-31T06:00+02:00")
    nights = office(hours=windows("22:00-06:00"), holidays=frozenset({date(2026, 3, 31)}))
    assert elapsed(nights, at("2026-03-31T00:00+02:00"), at("2026-04-01T22:00+02:00")) == 6 * HOUR


def test_all_time_counts_where_all_days_are_open_all_day() -> None:
    hours = office(hours=ALL_DAY, days=7)
    assert due(hours, at("2026-03-28T12:00+01:00"), 24 * HOUR) == at("2026-03-29T13:00+02:00")
    assert len(list(hours.spans(at("2020-01-01T00:00Z"), at("2030-01-01T00:00Z")))) == 1


def test_a_window_that_closes_when_it_opens_is_a_whole_day() -> None:
    hours = office(hours=windows("09:00-09:00"), days=7)
    assert elapsed(hours, at("2026-03-28T00:00Z"), at("2026-03-30T00:00Z")) == 48 * HOUR


def test_a_week_without_a_window_is_waited_out() -> None:
    closed = tuple((date(2026, 3, 30) + timedelta(days=n), ()) for n in range(7))
    assert due(office(exceptions=closed), at("2026-03-27T17:00+01:00"), 2 * HOUR) == at("2026-04-06T10:00+02:00")


def test_no_working_time_is_an_error_and_never_a_date() -> None:
    shut = office(hours=())
    with pytest.raises(NoWorkingTime, match="10 years"):
        due(shut, at("2026-03-27T17:00Z"), HOUR)
    with pytest.raises(NoWorkingTime, match="working days"):
        due_in_days(shut, at("2026-03-27T17:00Z"), 1)
    once = office(hours=(), exceptions=((date(2026, 4, 1), NINE_TO_SIX),))
    assert due(once, at("2026-03-27T17:00Z"), 9 * HOUR) == at("2026-04-01T18:00+02:00")
    with pytest.raises(NoWorkingTime):
        due(once, at("2026-03-27T17:00Z"), 9 * HOUR + MINUTE)


def test_a_leap_day_is_a_day() -> None:
    hours = office(days=7)
    assert elapsed(hours, at("2028-02-28T00:00+01:00"), at("2028-03-01T00:00+01:00")) == 18 * HOUR
    assert due_in_days(hours, at("2028-02-28T10:00+01:00"), 1).date == date(2028, 2, 29)


def test_a_window_over_the_end_of_the_year_is_one_window() -> None:
    for tz, offset in (("Europe/Berlin", "+01:00"), ("Pacific/Kiritimati", "+14:00"), ("Pacific/Niue", "-11:00")):
        hours = office(tz, windows("20:00-08:00"), days=7)
        start = at(f"2026-12-31T19:00{offset}")
        assert list(hours.spans(start, start + 14 * HOUR)) == [(start + HOUR, start + 13 * HOUR)]
        assert list(hours.spans(start + 6 * HOUR, start + 7 * HOUR)) == [(start + 6 * HOUR, start + 7 * HOUR)]


def test_times_follow_the_rules_of_the_zone_data_at_hand(tmp_path: Path) -> None:
    """An update of the data between start and due time moves the due time: which data it was stands beside it."""
    start, before = at("2026-11-20T16:00-07:00"), office("America/Vancouver")
    assert due(before, start, 2 * HOUR) == at("2026-11-20T18:00-07:00")
    (tmp_path / "America").mkdir()
    shutil.copyfile(str(files("tzdata.zoneinfo.America") / "Los_Angeles"), tmp_path / "America" / "Vancouver")
    try:
        zoneinfo.reset_tzpath((tmp_path,))
        zoneinfo.ZoneInfo.clear_cache()
        assert due(office("America/Vancouver"), start, 2 * HOUR) == at("2026-11-20T17:00-08:00")
    finally:
        only_the_wheel()
    assert due(office("America/Vancouver"), start, 2 * HOUR) == at("2026-11-20T18:00-07:00")


def test_only_the_wheels_zones_are_reckoned_with() -> None:
    """British Columbia stays at −07:00 from November 2026 on, which older data of a system do not know."""
    assert zoneinfo.TZPATH == ()
    assert due(office("America/Vancouver"), at("2026-11-23T12:00Z"), HOUR) == at("2026-11-23T10:00-07:00")


def test_a_pause_over_a_weekend_costs_working_hours_only() -> None:
    pause = (at("2026-03-27T17:00+01:00"), at("2026-03-30T10:00+02:00"))
    assert due(office(), at("2026-03-27T16:00+01:00"), 2 * HOUR, [pause]) == at("2026-03-30T11:00+02:00")


def test_a_pause_that_starts_outside_hours_costs_what_it_covers_of_them() -> None:
    pause = (at("2026-03-30T03:00+02:00"), at("2026-03-30T10:00+02:00"))
    assert elapsed(office(), at("2026-03-30T00:00+02:00"), at("2026-03-30T12:00+02:00"), [pause]) == 2 * HOUR


def test_two_pauses_in_one_minute_are_two_pauses() -> None:
    start, second = at("2026-03-30T10:00+02:00"), timedelta(seconds=1)
    pauses = [(start + 10 * second, start + 20 * second), (start + 30 * second, start + 50 * second)]
    assert elapsed(office(), start, start + MINUTE, pauses) == 30 * second
    assert due(office(), start, MINUTE, pauses) == start + 90 * second


def test_pauses_that_overlap_are_not_counted_twice() -> None:
    start = at("2026-05-11T09:00+02:00")
    pauses = [(start + HOUR, start + 3 * HOUR), (start + 2 * HOUR, start + 4 * HOUR), (start, start - HOUR)]
    assert elapsed(office(), start, start + 9 * HOUR, pauses) == 6 * HOUR
    assert merged(pauses) == [(start + HOUR, start + 4 * HOUR)]


def test_a_customer_who_answers_at_night_sets_the_clock_going_at_the_next_opening() -> None:
    pause = (at("2026-03-30T17:00+02:00"), at("2026-03-31T02:13+02:00"))
    assert due(office(), at("2026-03-30T16:00+02:00"), 2 * HOUR, [pause]) == at("2026-03-31T10:00+02:00")


def test_an_open_pause_leaves_no_due_time_unless_it_is_over_before() -> None:
    start = at("2026-03-30T10:00+02:00")
    assert due(office(), start, 2 * HOUR, [(start + HOUR, None)]) is None
    assert due(office(), start, HOUR, [(start + HOUR, None)]) == start + HOUR
    with pytest.raises(NoWorkingTime):
        due(office(hours=()), start, HOUR, [(start, None)])


def test_a_pause_of_years_is_no_error_of_the_calendar() -> None:
    start = at("2026-03-30T10:00+02:00")
    pause = (start, start + timedelta(days=366 * 12))
    found = due(office(), start, HOUR, [pause])
    assert found is not None
    assert elapsed(office(), start, found, [pause]) == HOUR


def test_a_calendar_edited_while_a_case_runs_counts_from_its_own_moment_on() -> None:
    shorter = Calendar("Europe/Berlin", every(windows("10:00-16:00"), 5))
    (_, before), noon = office().versions[0], at("2026-03-30T12:00+02:00")
    edited = Timetable.of([(None, before), (noon, shorter)])
    assert elapsed(edited, at("2026-03-30T00:00+02:00"), at("2026-04-01T00:00+02:00")) == (3 + 4 + 6) * HOUR
    assert edited.at(noon - MINUTE) == before
    assert edited.at(noon) == shorter
    assert due_in_days(edited, at("2026-03-30T17:00+02:00"), 0).due == at("2026-03-31T16:00+02:00")
    again = Timetable.of([(None, before), (noon, shorter), (noon - HOUR, before)])
    assert elapsed(again, at("2026-03-30T00:00+02:00"), at("2026-03-31T00:00+02:00")) == 9 * HOUR


def test_working_days_are_counted_from_the_first_on_which_anybody_could_act() -> None:
    friday = at("2026-03-27T17:59+01:00")
    assert due_in_days(office(), friday, 1).due == at("2026-03-30T18:00+02:00")
    assert due_in_days(office(), friday + MINUTE, 1).due == at("2026-03-31T18:00+02:00")
    assert due_in_days(office(), friday, 0).due == at("2026-03-27T18:00+01:00")


@pytest.mark.parametrize("text", ["9:00", "24:01", "25:00", "12:60", "", "12", "１２:00", "-1:00"])
def test_what_no_clock_shows_is_no_window(text: str) -> None:
    with pytest.raises(Invalid):
        Window.parse("00:00", text)


def test_a_window_cannot_open_at_the_end_of_a_day() -> None:
    with pytest.raises(Invalid, match="24:00"):
        Window.parse("24:00", "06:00")


def test_durations_are_iso_8601_and_a_day_is_24_hours() -> None:
    for text, span in (
        ("PT8H", 8 * HOUR),
        ("PT1H30M", 90 * MINUTE),
        ("PT90M", 90 * MINUTE),
        ("PT0S", ZERO),
        ("PT0.5S", MINUTE / 120),
        ("PT0,25S", MINUTE / 240),
        ("PT1.5H", 90 * MINUTE),
        ("P1DT2H", 26 * HOUR),
        ("P1W", 168 * HOUR),
    ):
        assert reckoning.duration(text) == span, text
    for text in (
        "",
        "P",
        "PT",
        "P1DT",
        "8H",
        "P1M",
        "P1Y",
        "-PT1H",
        "PT1H ",
        "pt1h",
        "PT1.5H1M",
        "PT.5H",
        "P１D",
        "PT1H\n",
    ):
        with pytest.raises(Invalid, match="duration"):
            reckoning.duration(text)


def test_every_minute_is_explained() -> None:
    eve, day = date(2026, 12, 24), date(2026, 12, 25)
    hours = office(holidays=frozenset({day}), exceptions=((eve, windows("09:00-13:00")),))
    pause = (at("2026-12-23T17:30+01:00"), at("2026-12-24T10:00+01:00"))
    found = segments(hours, at("2026-12-23T17:00+01:00"), at("2026-12-28T10:00+01:00"), [pause])
    assert [(s.why, s.seconds / 3600) for s in found] == [
        (Why.COUNTED, 0.5),
        (Why.PAUSED, 16.5),
        (Why.COUNTED, 3),
        (Why.EXCEPTION, 11),
        (Why.HOLIDAY, 24),
        (Why.CLOSED, 57),
        (Why.COUNTED, 1),
    ]


# ------------------------------------------------------------------------------------------------- the second opinion

CHANGES = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25", "2027-01-01"),
    "America/New_York": ("2026-03-08", "2026-11-01", "2028-02-29"),
    "America/St_Johns": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),
    "Africa/Cairo": ("2026-04-24", "2026-10-29"),
    "Asia/Kolkata": ("2026-08-15",),
    "Asia/Kathmandu": ("2026-12-31",),
    "Pacific/Apia": ("2011-12-30",),
    "Pacific/Chatham": ("2026-04-05", "2026-09-27"),
}
"""Dates on which something is unusual there."""

CALENDARS, CASES_EACH, WALKED_DAYS = 50, 20, 8


def _random_calendar(dice: random.Random) -> tuple[dict[str, Any], datetime]:
    tz = dice.choice(sorted(CHANGES))
    unusual = date.fromisoformat(dice.choice(CHANGES[tz]))

    def opening() -> list[list[str]]:
        kind = dice.choice(("plain", "lunch", "night", "whole", "any", "none"))
        return {
            "plain": [["09:00", "18:00"]],
            "lunch": [["08:30", "12:00"], ["12:45", "17:00"]],
            "night": [["22:00", "06:00"]],
            "whole": [["00:00", "24:00"]],
            "any": [[f"{dice.randrange(24):02}:{dice.randrange(60):02}" for _ in "oc"] for _ in range(2)],
            "none": [],
        }[kind]

    near = [str(unusual + timedelta(days=dice.randrange(-3, 4))) for _ in range(3)]
    calendar = {
        "tz": tz,
        "weekly": {day: opening() for day in DAYS},
        "holidays": near[:1],
        "exceptions": {day: opening() for day in near[1:]},
    }
    return calendar, datetime(unusual.year, unusual.month, unusual.day, tzinfo=UTC) - timedelta(days=3)


def _random_cases() -> Iterator[tuple[int, dict[str, Any], datetime, random.Random]]:
    for seed in range(CALENDARS):
        dice = random.Random(seed)
        yield seed, *_random_calendar(dice), dice


def test_a_walk_through_the_minutes_comes_to_the_same_in_1000_cases() -> None:
    compared = 0
    for seed, calendar, first, dice in _random_cases():
        hours, minutes = timetable(calendar), Minutes(calendar, first, WALKED_DAYS)
        for n in range(CASES_EACH):
            start = first + dice.randrange(3 * 1440) * MINUTE
            end = start + dice.randrange(4 * 1440) * MINUTE
            pauses: list[Pause] = []
            for _ in range(dice.randrange(3)):
                since = start + dice.randrange(-200, 2 * 1440) * MINUTE
                pauses.append((since, since + dice.randrange(900) * MINUTE if dice.random() < 0.8 else None))
            used = elapsed(hours, start, end, pauses)
            assert used == minutes.elapsed(start, end, pauses) * MINUTE, (seed, n)
            if used:
                target = dice.randrange(1, used // MINUTE + 1)
                assert due(hours, start, target * MINUTE, pauses) == minutes.due(start, target, pauses), (seed, n)
            compared += 1
    assert compared == 1000
