"""Duty rotas: who is on duty at a moment, when nobody is, and what a rota must say."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from events.errors import Invalid
from events.operations import DatedShift, RotaPublished, WeeklyShift
from events.testing import folding, given
from services.escalation.decide.configuration import ROTA
from services.escalation.decide.rotas import on_duty, publish_rota, tonight, uncovered
from services.escalation.views import ROTAS
from tests.given import an

WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def at(day: int, hour: int, minute: int = 0, month: int = 3) -> datetime:
    """In UTC, 2026; 2 March is a Monday."""
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def rota(*shifts: WeeklyShift | DatedShift, tz: str = "Europe/Berlin") -> RotaPublished:
    return RotaPublished(
        version=1,
        unit_id="swat",
        tz=tz,
        weekly=tuple(shift for shift in shifts if isinstance(shift, WeeklyShift)),
        dated=tuple(shift for shift in shifts if isinstance(shift, DatedShift)),
    )


def weekly(opens: str, closes: str, *agents: str, days: tuple[str, ...] = WEEK) -> WeeklyShift:
    return WeeklyShift(days=days, opens=opens, closes=closes, agents=agents)


DAY, NIGHT = weekly("08:00", "20:00", "olga"), weekly("20:00", "08:00", "paul")
CHRISTMAS = DatedShift(date="2026-12-24", opens="00:00", closes="24:00", agents=("kim",))


@pytest.mark.parametrize(
    ("moment", "agents"),
    [
        (at(2, 6, 59), ("paul",)),
        (at(2, 7), ("olga",)),
        (at(2, 18, 59), ("olga",)),
        (at(2, 19), ("paul",)),
        (at(3, 0), ("paul",)),
    ],
    ids=["before it opens", "when it opens", "before it closes", "when it closes", "past midnight"],
)
def test_a_shift_lasts_from_its_opening_to_its_close_by_the_local_clock(
    moment: datetime, agents: tuple[str, ...]
) -> None:
    assert on_duty(rota(DAY, NIGHT), moment) == agents


def test_a_shift_belongs_to_the_day_on_which_it_begins() -> None:
    sunday = rota(weekly("20:00", "08:00", "paul", days=("sun",)))
    assert on_duty(sunday, at(2, 2)) == ("paul",)
    assert on_duty(sunday, at(2, 20)) == ()


def test_what_is_said_of_a_date_replaces_the_weekdays_shifts_and_not_the_night_before() -> None:
    found = rota(DAY, NIGHT, CHRISTMAS)
    assert on_duty(found, at(24, 3, month=12)) == ("paul", "kim")
    assert on_duty(found, at(24, 15, month=12)) == ("kim",)
    assert on_duty(found, at(25, 1, month=12)) == ()
    assert on_duty(found, at(25, 8, month=12)) == ("olga",)


def test_a_change_of_clocks_moves_the_shift_with_the_wall_clock() -> None:
    early = rota(weekly("02:30", "04:00", "olga"))
    assert on_duty(early, at(29, 1, 15)) == ()
    assert on_duty(early, at(29, 1, 30)) == ("olga",)


def test_several_may_be_on_duty_each_named_once() -> None:
    assert on_duty(rota(DAY, weekly("10:00", "14:00", "olga", "kim")), at(2, 10)) == ("olga", "kim")


def test_the_night_is_the_one_that_lasts_or_the_next_one() -> None:
    assert tonight(rota(DAY), at(2, 12)) == (at(2, 21), at(3, 5))
    assert tonight(rota(DAY), at(2, 23)) == (at(2, 21), at(3, 5))
    assert tonight(rota(DAY), at(3, 4, 59)) == (at(2, 21), at(3, 5))
    assert tonight(rota(DAY), at(3, 5)) == (at(3, 21), at(4, 5))


def test_what_is_uncovered_is_what_no_shift_with_somebody_covers() -> None:
    night = tonight(rota(DAY, NIGHT), at(2, 12))
    assert uncovered(rota(DAY, NIGHT), *night) == []
    assert uncovered(rota(DAY), *night) == [night]
    assert uncovered(rota(DAY, weekly("20:00", "08:00")), *night) == [night]
    half = rota(weekly("20:00", "24:00", "paul"), weekly("02:00", "03:00", "kim"))
    assert uncovered(half, *night) == [(at(2, 23), at(3, 1)), (at(3, 2), at(3, 5))]


def publishing(wanted: RotaPublished, relied_on: bool = False) -> Any:
    return given(ROTA, subject="rota:swat").when(partial(publish_rota, wanted), looked=relied_on)


def test_a_rota_is_published_by_version() -> None:
    publishing(rota(DAY, NIGHT)).then(rota(DAY, NIGHT))
    first = given(ROTA, rota(DAY), subject="rota:swat")
    first.when(partial(publish_rota, rota(DAY)), looked=False).nothing()
    (second,) = first.when(partial(publish_rota, rota(DAY, NIGHT)), looked=False).events
    assert second == rota(DAY, NIGHT).model_copy(update={"version": 2})


def test_a_window_nobody_covers_is_refused_only_where_a_ladder_relies_on_the_rota() -> None:
    empty = rota(DAY, weekly("20:00", "08:00", days=("sat", "sun")))
    publishing(empty).then(empty)
    error = publishing(empty, relied_on=True).rejects(Invalid, "sat, sun 20:00–08:00")
    assert len(error.facts["wrong"]) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (rota(DAY, tz="Europe/Atlantis"), "Europe/Atlantis"),
        (rota(DAY, tz="a/../../etc/passwd"), "no time zone"),
        (rota(weekly("8:00", "20:00", "olga")), "8:00"),
        (rota(weekly("08:00", "20:00", "olga", days=("someday",))), "someday"),
        (rota(DatedShift(date="2026-02-30", opens="08:00", closes="20:00")), "2026-02-30"),
        (rota(), "at least one shift"),
    ],
)
def test_a_rota_says_what_is_wrong_with_it(wanted: RotaPublished, why: str) -> None:
    publishing(wanted).rejects(Invalid, why)


def test_the_row_holds_what_was_published() -> None:
    row = folding(ROTAS, an(RotaPublished, version=1), rota(DAY, CHRISTMAS), subject="rota:swat").row()
    assert row is not None
    assert (row.unit_id, row.content) == ("swat", rota(DAY, CHRISTMAS))
