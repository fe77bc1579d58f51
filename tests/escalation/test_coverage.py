"""Coverage: whom the ladders leave without help, and what is refused when a ladder is published."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from events.case import CaseClassified, CaseOpened, CaseTakenOver, UnitKind
from events.errors import Invalid
from events.operations import Applies, LadderPublished, OwnerRule, RotaPublished, Rung, UnitPublished, WeeklyShift
from events.testing import CASE_ID, folding, given
from services.escalation.decide.configuration import LADDER
from services.escalation.decide.coverage import Known, Unit, coverage, publish_ladder
from services.escalation.decide.ladders import Ladder
from services.escalation.service import STANDARD_LADDER
from services.escalation.views.coverage import KNOWN_UNITS, PLACES, PlaceRow, UnitRow
from tests.escalation.test_ladders import SECOND_LINE, SWAT
from tests.given import an

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ALL = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ROUND_THE_CLOCK = RotaPublished(
    version=1,
    unit_id="escalation",
    tz="UTC",
    weekly=(WeeklyShift(days=ALL, opens="00:00", closes="24:00", agents=("olga",)),),
)
EIGHT_TO_SIX = ROUND_THE_CLOCK.model_copy(
    update={"weekly": (WeeklyShift(days=ALL, opens="08:00", closes="18:00", agents=("olga",)),)}
)
UNITS = {
    "escalation": Unit("escalation", UnitKind.ESCALATION),
    "swat": Unit("swat", UnitKind.ESCALATION, ("de",)),
    "general": Unit("general", UnitKind.FRONT_END, ("de", "fr")),
}
STANDARD = Ladder("standard", STANDARD_LADDER)
SEEN = {("de", "delivery"), ("fr", "return")}


def missing(
    rotas: dict[str, RotaPublished], *ladders: Ladder, units: dict[str, Unit] = UNITS
) -> dict[tuple[str, str], tuple[str, ...]]:
    """What is missing in every place."""
    return {line.place: line.missing for line in coverage(SEEN, units, ladders, rotas, NOON)}


def test_every_place_seen_or_named_has_its_line() -> None:
    general = {"general": UNITS["general"], "escalation": UNITS["escalation"]}
    assert set(missing({}, STANDARD, units=general)) == {
        ("de", "delivery"),
        ("de", "return"),
        ("fr", "delivery"),
        ("fr", "return"),
    }
    polish = Ladder("pl", STANDARD_LADDER.model_copy(update={"applies": Applies(markets=("pl",), journeys=("loan",))}))
    assert ("pl", "loan") in missing({}, STANDARD, polish, units={"escalation": UNITS["escalation"]})


def test_a_place_with_ladder_unit_and_somebody_all_night_misses_nothing() -> None:
    assert set(missing({"escalation": ROUND_THE_CLOCK}, STANDARD).values()) == {()}


def test_a_night_without_anybody_is_a_gap_with_its_hours() -> None:
    (line,) = coverage(
        {("de", "loan")}, {"escalation": UNITS["escalation"]}, (STANDARD,), {"escalation": EIGHT_TO_SIX}, NOON
    )
    assert line.missing == ("rota",)
    (duty,) = line.duties
    assert duty.night is not None
    assert (duty.on_duty, list(duty.uncovered)) == ((), [duty.night])


def test_a_unit_without_a_rota_is_a_gap() -> None:
    assert set(missing({}, STANDARD).values()) == {("rota",)}


def test_a_place_whose_ladder_leads_to_no_escalation_unit_of_its_market_misses_the_unit() -> None:
    to_swat = Ladder("standard", STANDARD_LADDER.model_copy(update={"unit_id": "swat"}))
    rotas = {"swat": ROUND_THE_CLOCK}
    assert missing(rotas, to_swat)["de", "delivery"] == ()
    assert missing(rotas, to_swat)["fr", "return"] == ("unit", "rota")
    front_end = Ladder("standard", STANDARD_LADDER.model_copy(update={"unit_id": "general"}))
    assert missing(rotas, front_end)["de", "delivery"] == ("unit", "rota")


def test_a_place_without_a_ladder_misses_it_also_where_one_is_only_for_the_few() -> None:
    vip = Ladder("vip", STANDARD_LADDER.model_copy(update={"applies": Applies(tiers=("vip",))}))
    assert set(missing({"escalation": ROUND_THE_CLOCK}, vip).values()) == {("ladder",)}


# ----------------------------------------------------------------------------------------------------------- publishing


def publishing(*rungs: Rung, rotas: dict[str, RotaPublished] | None = None) -> Any:
    wanted = LadderPublished(version=1, unit_id=rungs[0].unit_id, rungs=rungs)
    known = Known(UNITS, rotas or {})
    return given(LADDER, subject="ladder:standard").when(partial(publish_ladder, wanted), looked=known)


GOOD = SECOND_LINE.model_copy(update={"unit_id": "escalation"})


def test_a_ladder_to_escalation_units_is_published() -> None:
    publishing(GOOD, SWAT, rotas={"swat": ROUND_THE_CLOCK}).then_types(LadderPublished)


def test_a_ladder_that_names_units_that_are_none_for_escalations_is_refused_with_the_list() -> None:
    nobody = GOOD.model_copy(update={"unit_id": "nobody"})
    front_end = SWAT.model_copy(update={"unit_id": "general", "owner_rule": OwnerRule.FIRST_TO_ACKNOWLEDGE})
    error = publishing(nobody, front_end).rejects(Invalid, "no unit called nobody")
    assert error.facts["wrong"] == [
        "rung second-line: there is no unit called nobody",
        "rung swat: general is no escalation unit but of kind front_end",
    ]


def test_a_duty_that_nobody_does_is_refused_at_publish_time() -> None:
    publishing(SWAT).rejects(Invalid, "swat has no rota")
    gap = WeeklyShift(days=("sat",), opens="20:00", closes="08:00")
    open_shift = ROUND_THE_CLOCK.model_copy(update={"weekly": (*ROUND_THE_CLOCK.weekly, gap)})
    publishing(SWAT, rotas={"swat": open_shift}).rejects(Invalid, "nobody of swat is on duty sat 20:00–08:00")


def test_a_ladder_without_rungs_is_held_to_the_same() -> None:
    wanted = STANDARD_LADDER.model_copy(update={"unit_id": "general"})
    decided = given(LADDER, subject="ladder:standard").when(partial(publish_ladder, wanted), looked=Known(UNITS, {}))
    decided.rejects(Invalid, "general is no escalation unit")


def replacing(wanted: LadderPublished, *ladders: Ladder, rotas: dict[str, RotaPublished] | None = None) -> Any:
    """The standard ladder is published while these are in force."""
    known = Known(UNITS, rotas or {}, frozenset(SEEN), ladders, "standard")
    return given(LADDER, subject="ladder:standard").when(partial(publish_ladder, wanted), now=NOON, looked=known)


TO_SWAT = STANDARD_LADDER.model_copy(update={"unit_id": "swat"})


def test_a_ladder_for_a_market_none_of_its_units_serves_is_refused() -> None:
    german_and_french = TO_SWAT.model_copy(update={"applies": Applies(markets=("de", "fr"))})
    error = replacing(german_and_french).rejects(Invalid, "applies to fr")
    assert error.facts["wrong"] == ["it applies to fr, which no escalation unit of it serves"]
    replacing(TO_SWAT.model_copy(update={"applies": Applies(markets=("de",))})).then_types(LadderPublished)


def test_a_version_that_leaves_a_place_without_the_help_it_had_is_refused_with_the_list() -> None:
    error = replacing(TO_SWAT, STANDARD, rotas={"escalation": ROUND_THE_CLOCK}).rejects(Invalid, "would be left")
    assert error.facts["wrong"] == [
        "de/delivery would be left without rota",
        "de/return would be left without rota",
        "fr/delivery would be left without unit and rota",
        "fr/return would be left without unit and rota",
    ]
    german = STANDARD_LADDER.model_copy(update={"applies": Applies(markets=("de",))})
    replacing(german, STANDARD).rejects(Invalid, "fr/return would be left without ladder")


def test_what_a_place_missed_before_refuses_nothing() -> None:
    two = LadderPublished(version=1, unit_id="escalation", rungs=(GOOD,))
    replacing(two, STANDARD).then_types(LadderPublished)
    replacing(TO_SWAT, Ladder("standard", TO_SWAT.model_copy(update={"unit_id": "general"}))).then_types(
        LadderPublished
    )


def test_the_same_content_again_is_not_held_to_anything_new() -> None:
    past = given(LADDER, STANDARD_LADDER, subject="ladder:standard")
    past.when(partial(publish_ladder, STANDARD_LADDER), looked=Known({}, {})).nothing()


# ------------------------------------------------------------------------------------------------------------ the views


def test_a_place_is_where_the_case_came_from_with_what_it_is_about_now() -> None:
    opened = an(CaseOpened, market="de", journey="delivery")
    row = PlaceRow(CASE_ID, "de", "delivery")
    folding(PLACES, opened).row_is(row)
    classified = an(CaseClassified, journey="return")
    folding(PLACES, opened, classified).row_is(replace(row, journey="return"))
    folding(PLACES, an(CaseTakenOver, market="se", journey="incident")).row_is(
        replace(row, market="se", journey="incident")
    )


@pytest.mark.parametrize("kind", list(UnitKind))
def test_a_unit_is_known_as_it_was_published_last(kind: UnitKind) -> None:
    last = UnitPublished(version=2, name="SWAT", kind=kind, markets=("de",))
    row = UnitRow("unit:swat", "swat", kind, ("de",))
    folding(KNOWN_UNITS, an(UnitPublished), last, subject="unit:swat").row_is(row)
