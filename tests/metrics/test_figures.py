"""Figures over case facts: exact, limited, split, and honest about what is missing."""

import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from events.case import Category, Priority
from events.errors import Invalid
from services.metrics.definitions import FIGURES
from services.metrics.facts import CaseFacts, Verdict
from services.metrics.figures import Asked, Bucket, By, Dimension, parse_where, statement
from services.metrics.views import DEFINITIONS
from tests.metrics import naive
from tests.metrics.stored import stored

NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)


def random_facts(chance: random.Random, number: int) -> CaseFacts:
    """Any row the table could hold, whether a walk could lead to it or not."""

    def maybe(value: Any) -> Any:
        return chance.choice([None, value, value])

    steps = chance.choice([0, 1, 1, 2, 5, 123])
    duration_us = chance.choice([0, 1, naive.DAY_US, naive.DAY_US + 1, chance.randrange(800 * naive.DAY_US)])
    units = tuple(chance.sample(["general", "parcels", "V5 3rd"], chance.randrange(4)))
    opened_at = maybe(NEW_YEAR + timedelta(microseconds=chance.randrange(-20 * naive.DAY_US, 20 * naive.DAY_US)))
    return CaseFacts(
        case_id=f"case-{number}",
        category=chance.choice(list(Category)),
        opened_at=opened_at,
        opened_on=opened_at and opened_at.date(),
        channel=maybe(chance.choice(["email", "chat"])),
        market=maybe(chance.choice(["de", "at", "fr"])),
        language=maybe("de"),
        journey=maybe("delivery"),
        priority=maybe(chance.choice(list(Priority))),
        tier=maybe(chance.choice(["gold", "silver"])),
        queue_id=maybe("general"),
        unit_id=maybe(chance.choice(["general", 'O\'Neill "2"'])),
        import_id=maybe(chance.choice(["import-1", "import-2"])),
        steps=steps,
        duration_us=duration_us,
        longest_gap_us=duration_us // 2,
        handovers=chance.choice([0, 0, 1, 2, 3, 31]),
        codes=tuple(chance.sample(["a", "b", "c"], chance.randrange(1, 4))),
        units=units,
        first_line=maybe(chance.choice(list(Verdict))),
        resolutions=chance.choice([0, 1, 2]),
        reopened=chance.choice([True, False]),
        first_response_us=maybe(chance.randrange(naive.DAY_US)),
        response_kept=chance.choice(list(Verdict)),
        csat=maybe(chance.randrange(1, 6)),
        nps=maybe(chance.randrange(11)),
        in_time=chance.choice(list(Verdict)),
        accepted=chance.choice(list(Verdict)),
        solved_alone=chance.choice(list(Verdict)),
        clock_episode=chance.choice([0, 1, 1]),
        ignored_s=chance.choice([0, 0, 60, 3600]),
        escalated=chance.choice(list(Verdict)),
        escalations=(escalations := chance.choice([0, 0, 1, 3])),
        escalations_returned=chance.randrange(escalations + 1),
    )


def assert_equal(answered: dict[str, Any], expected: dict[str, naive.Answer]) -> None:
    assert set(answered) == set(expected)
    for name, parts in expected.items():
        figure = {part: value for part, value in answered[name].items() if part not in ("definition", "missing")}
        assert set(figure) == set(parts), name
        for part, value in parts.items():
            place = f"{name}.{part}: {figure[part]} is not {value}"
            if value is None or isinstance(value, int):
                assert figure[part] == value, place
            else:
                # Answered to six places; a tie in the seventh may fall either way.
                assert abs(Fraction(str(figure[part])) - value) <= Fraction(6, 10**7), place


@pytest.fixture(params=[1, 2])
def cases(request: pytest.FixtureRequest) -> list[CaseFacts]:
    chance = random.Random(request.param)
    return [random_facts(chance, number) for number in range(400)]


async def test_figures_are_what_plain_counting_gives(cases: list[CaseFacts], database: str) -> None:
    async with stored(database, cases) as table:
        assert_equal(await table.figures(), naive.figures(cases))


async def test_every_group_is_what_plain_counting_gives(cases: list[CaseFacts], database: str) -> None:
    async with stored(database, cases) as table:
        for by in (*Dimension, *Bucket):
            expected = naive.groups(cases, by.value)
            answered = await table.figures(Asked(by=by))
            assert answered["by"] == by
            assert list(answered["groups"]) == sorted(expected)
            for value, group in expected.items():
                assert_equal(answered["groups"][value], naive.figures(group))


def test_questions_of_one_form_share_a_statement() -> None:
    german, austrian = (Asked({Dimension.MARKET: [market]}, until=NEW_YEAR) for market in ("de", "at"))

    assert statement(german.form) is statement(austrian.form)
    assert german.values != austrian.values


async def test_conditions_limit_the_cases(cases: list[CaseFacts], database: str) -> None:
    asked = Asked(
        {Dimension.MARKET: ["de", "at"], Dimension.CHANNEL: ["email"]},
        from_=NEW_YEAR - timedelta(days=10),
        until=NEW_YEAR,
    )
    chosen = [
        case
        for case in cases
        if case.market in ("de", "at")
        and case.channel == "email"
        and case.opened_at is not None
        and NEW_YEAR - timedelta(days=10) <= case.opened_at < NEW_YEAR
    ]
    assert chosen

    async with stored(database, cases) as table:
        assert_equal(await table.figures(asked), naive.figures(chosen))


async def test_the_bounds_of_a_period_meet_without_overlap(database: str) -> None:
    cases = [CaseFacts(str(n), steps=1, opened_at=NEW_YEAR + timedelta(microseconds=n)) for n in (-1, 0, 1)]

    async with stored(database, cases) as table:
        before = await table.figures(Asked(until=NEW_YEAR))
        since = await table.figures(Asked(from_=NEW_YEAR))

    assert (before["cases"]["value"], since["cases"]["value"]) == (1, 2)


@pytest.mark.parametrize("by", [None, Dimension.MARKET, Bucket.DAY])
async def test_without_cases_counts_are_zero_and_everything_else_is_missing(by: By | None, database: str) -> None:
    async with stored(database, [CaseFacts("clocks-only", clock_episode=1)]) as table:
        answered = await table.figures(Asked(by=by))

    if by is not None:
        assert answered == {"by": by, "groups": {}}
        return
    assert_equal(answered, naive.figures([]))
    zero = {name for name, figure in answered.items() if "missing" not in figure}
    assert zero == {"cases", "events", "backlog", "resolved_cases"}


async def test_a_value_that_nobody_has_is_no_error(database: str) -> None:
    async with stored(database, [CaseFacts("one", steps=1)]) as table:
        answered = await table.figures(Asked({Dimension.UNIT: ["'; drop table case_facts; --"]}))

    assert answered["cases"]["value"] == 0


def test_conditions_are_read_as_dimension_and_value() -> None:
    assert parse_where(["market=de", "unit=a=b", "market=at"]) == {
        Dimension.MARKET: ["de", "at"],
        Dimension.UNIT: ["a=b"],
    }


@pytest.mark.parametrize("condition", ["market", "=de", "market=", "country=de", "Market=de"])
def test_a_condition_on_nothing_we_know_is_refused(condition: str) -> None:
    with pytest.raises(Invalid, match="the dimension one of import, market"):
        parse_where([condition])


def test_every_figure_has_one_published_definition_that_its_answers_name() -> None:
    assert len({figure.id for figure in FIGURES}) == len(FIGURES)
    for figure in FIGURES:
        event = figure.published()
        assert figure.definition == f"{figure.id}@{event.version}"
        assert DEFINITIONS.topic == event.TOPIC
