"""The figures of small logs are those counted by hand, to the printed place; those of the real logs are looked at where
they are imported, in tests/test_import.py."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from services.metrics.facts import CaseFacts
from services.metrics.figures import Asked, Dimension
from tests.metrics.samples import HELPDESK, SAMPLES, VINST, Sample, printed
from tests.metrics.stored import facts_of, stored

Facts = Mapping[str, list[CaseFacts]]


@pytest.fixture(autouse=True)
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CASEWALK_SAMPLE_LOGS", raising=False)


@pytest.fixture
def facts(small_logs: None) -> Facts:
    """The case facts of each log."""
    return {sample.profile: facts_of(sample.events()) for sample in SAMPLES}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.profile)
async def test_the_figures_of_an_imported_log_are_those_counted_by_hand(
    sample: Sample, facts: Facts, database: str
) -> None:
    async with stored(database, facts[sample.profile]) as table:
        figures = await table.figures()

    assert printed(figures, sample.figures) == sample.figures


async def test_two_imports_keep_their_own_figures(facts: Facts, database: str) -> None:
    async with stored(database, [row for rows in facts.values() for row in rows]) as table:
        of_vinst = await table.figures(Asked({Dimension.IMPORT: [VINST.profile]}))
        split = await table.figures(Asked(by=Dimension.IMPORT))

    assert printed(of_vinst, VINST.figures) == VINST.figures
    assert split["groups"][VINST.profile] == of_vinst
    assert printed(split["groups"][HELPDESK.profile], HELPDESK.figures) == HELPDESK.figures


async def test_what_a_log_does_not_say_is_missing_and_not_zero(facts: Facts, database: str) -> None:
    async with stored(database, facts[HELPDESK.profile]) as table:
        figures = await table.figures()

    for name in ("promise_kept", "first_response", "accepted", "csat", "nps", "escalated", "first_line_alone"):
        figure = figures[name]
        parts = {part for part in figure if part not in ("n", "definition", "missing")}
        assert figure["n"] == 0
        assert figure["missing"]
        assert {figure[part] for part in parts} == {None}, name


def test_a_named_but_missing_log_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CASEWALK_SAMPLE_LOGS", str(tmp_path))

    with pytest.raises(AssertionError, match=r"there is no bpic2013_incidents\.csv\.gz"):
        next(VINST.lines())
