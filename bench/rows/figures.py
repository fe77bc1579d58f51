"""Figures over many cases: every kind of question that `/v1/figures` takes, against reading the same rows once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from statistics import median
from time import perf_counter

import asyncpg
import httpx

from bench.ground import EMBEDDED, Engine, Ground, Serving
from bench.history import VARIANTS, walk_of
from bench.measure import percentile, watching
from bench.report import Row
from bench.serving import WHOLE
from events.views import rows
from events.views.project import fold
from events.views.rows import Saved
from events.wire import VOCABULARY
from services.metrics.facts import CaseFacts
from services.metrics.views import CASE_FACTS

P95_MS = 200
FOLDED = 5 * VARIANTS
"""Cases that are folded; the others are copies of these at other times, under other ids."""
ROUNDS = 3

_MOVED = {
    "at": "{} + n * interval '1 hour'",
    "on": "((opened_at + n * interval '1 hour') at time zone 'UTC')::date",
    "us": "{} + n",
}
"""By the end of its name, what a column of the n-th copy holds: other times, days and durations."""

QUESTIONS = {
    "all": {},
    "market": {"where": "market=de"},
    "day": {"from": "2026-01-06T00:00:00Z", "until": "2026-01-07T00:00:00Z"},
    "by market": {"by": "market"},
    "by week": {"by": "week"},
    "by unit of a journey": {"by": "unit", "where": "journey=delivery"},
}


async def measure(ground: Ground, sizes: list[int]) -> AsyncIterator[Row]:
    """`sizes`: cases the figures are made of."""
    for cases in sizes:
        async with ground.engine(EMBEDDED) as engine, ground.serving(engine, WHOLE, "intake", "metrics") as serving:
            await _fill(engine, cases)
            yield await _row(ground, engine, serving, cases)


async def _row(ground: Ground, engine: Engine, serving: Serving, cases: int) -> Row:
    took_ms: dict[str, list[float]] = {name: [] for name in QUESTIONS}
    scans_ms = []
    conn = await asyncpg.connect(engine.dsn)
    async with serving.client() as client, watching(ground.pids(server=serving.pid)) as watched:
        for _ in range(ROUNDS):
            for name, question in QUESTIONS.items():
                took_ms[name].append(await _asked(client, question))
            began = perf_counter()
            await conn.fetchval("select sum(steps) from metrics.case_facts")
            scans_ms.append((perf_counter() - began) * 1000)
    await conn.close()
    p95 = percentile((ms for each in took_ms.values() for ms in each), 0.95)
    slowest = max(took_ms, key=lambda name: median(took_ms[name]))
    fastest = min(took_ms, key=lambda name: median(took_ms[name]))
    return Row(
        f"any question to /v1/figures ({len(QUESTIONS)} kinds)",
        f"{cases:,} cases",
        EMBEDDED,
        f"p95 {p95:,.0f} ms ({fastest}: {median(took_ms[fastest]):,.0f}, {slowest}: {median(took_ms[slowest]):,.0f})",
        f"one sum over the rows: {median(scans_ms):,.0f} ms",
        f"{p95 / median(scans_ms):.1f} times",
        f"p95 ≤ {P95_MS} ms",
        p95 <= P95_MS,
        watched.memory,
    )


async def _asked(client: httpx.AsyncClient, question: dict[str, str]) -> float:
    began = perf_counter()
    (await client.get("/v1/figures", params=question)).raise_for_status()
    return (perf_counter() - began) * 1000


async def _fill(engine: Engine, cases: int) -> None:
    """Facts as the service folds them, put into its table by COPY, and copied inside the database from there."""
    conn = await asyncpg.connect(engine.dsn, server_settings={"search_path": "metrics"})
    table = await conn.fetchval("select table_name from view where name = $1", CASE_FACTS.name)
    folded = min(cases, FOLDED)
    await rows.copy(conn, CASE_FACTS, table, [_facts(n) for n in range(folded)])
    columns = [name for name in (*CASE_FACTS.columns, "partition", "folded_to") if name != CASE_FACTS.subject]
    moved = [_MOVED.get(name.rpartition("_")[2], "{}").format(name) for name in columns]
    await conn.execute(
        f"insert into {table} ({CASE_FACTS.subject}, {', '.join(columns)})"
        f" select gen_random_uuid()::text, {', '.join(moved)} from {table}, generate_series(1, $1) n",
        -(-cases // folded) - 1,
    )
    await conn.execute(f"vacuum analyze {table}")
    await conn.close()


def _facts(n: int) -> Saved[CaseFacts]:
    saved = fold(CASE_FACTS, map(VOCABULARY.recorded, walk_of(n)))
    assert saved is not None
    return saved
