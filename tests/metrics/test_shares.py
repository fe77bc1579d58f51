"""A figure case by case: the cases add up to the figure, and each says why it counts or does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from events.case import (
    CaseObserved,
    CaseOpened,
    CaseResolved,
    Category,
    ClockAccount,
    ClockBreached,
    ClockCancelled,
    ClockKind,
    ClockRestated,
    ClockSpan,
    ClockStarted,
    ClockStopped,
)
from events.event import CaseEvent
from events.testing import START, recorded
from services.metrics import shares
from services.metrics.facts import CaseFacts
from services.metrics.figures import Asked, Dimension
from services.metrics.shares import SHARES
from tests.given import an
from tests.metrics.stored import Stored, facts_of, stored
from tests.metrics.test_figures import cases

__all__ = ["cases"]

HOUR = timedelta(hours=1)
RESOLUTION: dict[str, Any] = {"clock": ClockKind.RESOLUTION, "episode": 1, "turn": 0}
STARTED = an(ClockStarted, **RESOLUTION, promise="gold@1", due_at=START + HOUR, fires=True)
STOPPED = an(ClockStopped, **RESOLUTION, promise="gold@1", due_at=START + HOUR, kept=True)
OBSERVED = an(CaseObserved, category=Category.IN_PROGRESS, import_id="import-1")


def told(**account: Any) -> ClockRestated:
    spans = (ClockSpan(since=START, promise="gold@1", calendar="always@1", target_s=3600),)
    return ClockRestated(**RESOLUTION, reason="imported", after=ClockAccount(started_at=START, spans=spans, **account))


def facts(*happened: CaseEvent) -> list[CaseFacts]:
    return facts_of(recorded(one, sequence=n + 1, at=START + n * HOUR) for n, one in enumerate(happened))


async def rows(table: Stored, figure: str, asked: Asked, counted: bool | None = None, page: int = 50) -> list[Any]:
    """All pages."""
    found: list[Any] = []
    while True:
        after = found[-1]["case_id"] if found else None
        some = await table.rows(shares.statement(SHARES[figure], asked.form, counted, after, page), asked)
        found += some
        if len(some) < page:
            return found


@pytest.mark.parametrize("figure", SHARES)
async def test_the_cases_add_up_to_the_figure(figure: str, cases: list[CaseFacts], database: str) -> None:
    walked = [replace(case, reopened=case.reopened and case.resolutions > 0) for case in cases]
    async with stored(database, walked) as table:
        for asked in (Asked(), Asked({Dimension.MARKET: ["de", "at"]})):
            whole = (await table.figures(asked))[figure]
            every = await rows(table, figure, asked)
            counted = [row for row in every if row["counted"]]
            yes = sum(row["verdict"] == "yes" for row in counted)
            assert (len(counted), 100 * yes / len(counted)) == (whole["n"], pytest.approx(whole["percent"]))
            assert yes == whole.get("cases", yes)
            assert [row["case_id"] for row in every] == sorted({row["case_id"] for row in every})
            assert await rows(table, figure, asked, counted=True) == counted
            assert await rows(table, figure, asked, counted=False) == [row for row in every if not row["counted"]]


@pytest.mark.parametrize(
    ("happened", "verdict", "why"),
    [
        ([an(CaseOpened), STARTED, STOPPED], "yes", "resolved in time"),
        ([an(CaseOpened), STARTED, STOPPED.model_copy(update={"kept": False})], "no", "resolved too late"),
        (
            [an(CaseOpened), STARTED, an(ClockBreached, **RESOLUTION, promise="gold@1", due_at=START + HOUR)],
            "no",
            "the clock is over its due time and runs",
        ),
        ([an(CaseOpened), STARTED], "unknown", "the clock still runs"),
        ([an(CaseOpened)], "unknown", "this episode has no clock yet"),
        (
            [an(CaseOpened), an(ClockStarted, **RESOLUTION, promise=None, due_at=None), an(CaseResolved, episode=1)],
            "unknown",
            "nothing is promised",
        ),
        (
            [an(CaseOpened), STARTED, ClockCancelled(**RESOLUTION, reason="closed")],
            "unknown",
            "the case ended without a resolution",
        ),
        ([OBSERVED], "unknown", "imported without promises"),
        ([OBSERVED, told(fires=False)], "unknown", "the imported history ends before the case does"),
        ([OBSERVED, told(fires=False, ended_at=START, kept=True)], "yes", "resolved in time"),
    ],
)
async def test_a_case_says_why_its_promise_counts_or_does_not(
    happened: list[CaseEvent], verdict: str, why: str, database: str
) -> None:
    async with stored(database, facts(*happened)) as table:
        (row,) = await rows(table, "promise_kept", Asked())
    assert (row["verdict"], SHARES["promise_kept"].why(row)) == (verdict, why)


async def test_a_case_that_is_not_asked_about_says_so(database: str) -> None:
    async with stored(database, facts(an(CaseOpened))) as table:
        (row,) = await rows(table, "reopened", Asked())
    assert (row["counted"], SHARES["reopened"].why(row)) == (False, "never resolved")


async def test_the_promise_and_the_times_are_those_of_the_last_clock(database: str) -> None:
    second = RESOLUTION | {"episode": 2}
    happened = [an(CaseOpened), STARTED, STOPPED, an(ClockStarted, **second, promise="gold@2", due_at=START + 9 * HOUR)]
    async with stored(database, facts(*happened)) as table:
        (row,) = await rows(table, "promise_kept", Asked())
    told_of = (row["clock_promise"], row["clock_due_at"], row["clock_ended_at"])
    assert told_of == ("gold@2", START + 9 * HOUR, None)
