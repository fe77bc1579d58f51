"""Very many clocks that run at once: each that is due is called broken soon and once, and a replay calls none."""

from __future__ import annotations

import asyncio
import json
import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest

from services.__main__ import SERVICES
from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine
from tests.faults.report import Report
from tests.until import until

TARGET = timedelta(hours=2)
"""Of the first response: far longer than it takes to open the cases, so that they are due one by one afterwards."""

AT_ONCE = 64
"""Requests under way."""

LAG_LIMIT_S = 2.0


@dataclass(frozen=True)
class Size:
    cases: int
    """Two promised clocks run in each."""
    due_per_s: int
    due_for_s: int

    @property
    def due(self) -> int:
        return self.due_per_s * self.due_for_s


SAMPLE = Size(cases=300, due_per_s=60, due_for_s=3)
FULL = Size(cases=50_000, due_per_s=500, due_for_s=40)

PROMISE = {
    "name": "Standard",
    "warnings": [99],
    "targets": [
        {"clock": clock, "priority": priority, "target_s": int(target.total_seconds())}
        for clock, target in (("first_response", TARGET), ("resolution", timedelta(days=300)))
        for priority in ("urgent", "high", "normal", "low")
    ],
}


@pytest.mark.timeout(1800)
async def test_very_many_clocks_fire_soon_and_once_and_a_replay_fires_none(
    engine: Engine, tmp_path: Path, full: bool, report: Report
) -> None:
    size = FULL if full else SAMPLE
    async with casewalk(engine, tmp_path, SERVICES) as here:
        (await here.admin.put("/v1/promises/standard", json=PROMISE)).raise_for_status()
        await here.settled()
        first_due = await all_opened(here, size)
        async with marks_heard(here) as heard:
            await until(lambda: breached_up_to(here, size.due), limit_s=size.due_for_s + 60)
        before = await said(here)
        lags_s = await lags(here, heard)

        rebuilt = await replayed(here)
        assert await said(here) == before, "a replay said something"

    assert before["casewalk.case.clock_breached.v1"] == size.due == len(lags_s["after the mark"])
    rows = [(name, *(quantile(values, q) for q in (0.5, 0.99)), max(values)) for name, values in sorted(lags_s.items())]
    report.table(
        f"Clocks that fire, {engine.name}",
        ("lag", "p50 s", "p99 s", "max s"),
        [[name, *(f"{value:.2f}" for value in values)] for name, *values in rows],
        f"{2 * size.cases:,} promised clocks run in {size.cases:,} cases; {size.due:,} of them came due,"
        f" {size.due_per_s} a second from {first_due:%H:%M:%S} on, and were broken once each. Rebuilding every view of"
        f" every service from {rebuilt:,} events said nothing.",
    )
    assert not full or quantile(lags_s["after the mark"], 0.99) <= LAG_LIMIT_S


async def all_opened(here: Casewalk, size: Size) -> datetime:
    """Open the cases; the first response of the last `size.due` of them is due at this moment, and then one by one."""
    now, began = datetime.now(UTC), monotonic()
    rest = size.cases - size.due
    await opened(here, [now] * rest)
    await here.settled()
    took_s = (monotonic() - began) / rest * size.due
    first_due = datetime.now(UTC) + timedelta(seconds=1.5 * took_s + 3)
    await opened(here, [first_due - TARGET + timedelta(seconds=n / size.due_per_s) for n in range(size.due)])
    await here.settled()
    assert datetime.now(UTC) < first_due, "the cases were opened too slowly to watch them come due"
    return first_due


async def opened(here: Casewalk, moments: Sequence[datetime]) -> None:
    """A case for each of these moments, some requests at a time."""
    left = iter(moments)

    async def some() -> None:
        for at in left:
            answer = await here.admin.post("/v1/cases", json=ORDER | {"occurred_at": at.isoformat()})
            assert answer.status_code == 201, answer.text

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())


ORDER = {
    "channel": "email",
    "market": "de",
    "language": "de",
    "journey": "delivery",
    "subject": "Where is my parcel?",
    "body": "It should have been here on Friday.",
    "customer": {"external_id": "crm-1"},
}


async def breached_up_to(here: Casewalk, count: int) -> bool:
    return (await said(here))["casewalk.case.clock_breached.v1"] >= count


async def said(here: Casewalk) -> Counter[str]:
    """Type → how many events escalation has recorded."""
    rows = await here.hosts["escalation"].database.readers.fetch("select type, count(*) from events group by type")
    return Counter({row["type"]: row["count"] for row in rows})


@asynccontextmanager
async def marks_heard(here: Casewalk) -> AsyncIterator[list[tuple[datetime, datetime]]]:
    """(mark, when it was there): how far every service had said that its word was complete."""
    heard: list[tuple[datetime, datetime]] = []

    async def listen() -> None:
        while True:
            marks = await here.hosts["escalation"].log.marks()
            mark = min(marks[source].at for source in ("intake", "router", "vendor"))
            if not heard or mark > heard[-1][0]:
                heard.append((mark, datetime.now(UTC)))
            await asyncio.sleep(0.01)

    task = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        task.cancel()


async def lags(here: Casewalk, heard: Sequence[tuple[datetime, datetime]]) -> dict[str, list[float]]:
    """Seconds from when a clock was due, and from when that was certain, until it was called broken."""
    rows = await here.hosts["escalation"].database.readers.fetch(
        "select recorded_at, data from events where type = 'casewalk.case.clock_breached.v1' order by recorded_at"
    )
    marks = [mark for mark, _ in heard]
    lags_s: dict[str, list[float]] = {"after it was due": [], "after the mark": []}
    for row in rows:
        due_at = datetime.fromisoformat(json.loads(row["data"])["due_at"])
        certain_at = heard[min(bisect_left(marks, due_at), len(heard) - 1)][1]
        lags_s["after it was due"].append((row["recorded_at"] - due_at).total_seconds())
        lags_s["after the mark"].append(max(0.0, (row["recorded_at"] - certain_at).total_seconds()))
    return lags_s


async def replayed(here: Casewalk) -> int:
    """Rebuild and verify everything; how many events there are."""
    for host in here.hosts.values():
        for view in host.replay.named("all"):
            await host.replay.rebuild(view)
            assert (await host.replay.verify(view)).equal, view.name
    await here.settled()
    return sum((await here.hosts["escalation"].log.ends()).values())


def quantile(values: Sequence[float], share: float) -> float:
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]
