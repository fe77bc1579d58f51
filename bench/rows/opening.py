"""Opening cases: durable `POST /v1/cases`, 64 connections, against the same app that validates and writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from statistics import median
from time import time

import asyncpg

from bench.ground import EMBEDDED, Engine, Ground, Serving, load, until
from bench.measure import in_turns, watching
from bench.report import Row
from bench.serving import RELAY, WHOLE
from services.every import SERVICES

AT_LEAST = 0.5
ROUNDS = 5
FEW = 1000
"""Cases below which it is only asked whether the row still runs: one round."""
VALIDATED = 5000
"""Requests the yardstick takes at most in a turn; its speed does not depend on how many."""

DRAINED_WITHIN_S = 120.0
PATH = "/v1/cases"

ALL_FIVE = "all five services"
WHO = {
    "intake and its relay": (RELAY, ("intake",)),
    "intake with its consumers": (WHOLE, ("intake",)),
    ALL_FIVE: (WHOLE, tuple(service.name for service in SERVICES)),
}


async def measure(ground: Ground, sizes: list[int]) -> AsyncIterator[Row]:
    """The promised row, and what else runs beside it in one process: reported only, and all five services at the
    smallest size, because 100,000 cases take them 20 minutes."""
    for who, (mode, names) in WHO.items():
        for cases in sizes if who != ALL_FIVE else sizes[:1]:
            async with ground.engine(EMBEDDED) as engine, ground.serving(engine, mode, *names) as serving:
                yield await _row(ground, engine, serving, who, cases)


async def _row(ground: Ground, engine: Engine, serving: Serving, who: str, cases: int) -> Row:
    rounds = ROUNDS if cases >= FEW else 1
    part = cases // rounds
    p99_s: list[float] = []

    async def opened() -> float:
        measured = await load(serving.port, PATH, part)
        await until(lambda: _relayed(conn), DRAINED_WITHIN_S)
        p99_s.append(measured["p99"])
        return float(part / (time() - measured["began_at"]))

    async def validated() -> float:
        some = min(part, VALIDATED)
        return float(some / (await load(serving.port, f"{PATH}/validated", some))["seconds"])

    conn = await asyncpg.connect(engine.dsn)
    try:
        await load(serving.port, f"{PATH}/validated", min(500, part))
        async with watching(ground.pids(server=serving.pid)) as watched:
            pairs = await in_turns(rounds, opened, validated)
    finally:
        await conn.close()
    promised = who == next(iter(WHO))
    return Row(
        f"POST /v1/cases, 64 connections, until the log has it: {who}",
        f"{cases:,} cases",
        engine.name,
        f"{median(pairs.subject):,.0f}/s, p99 {median(p99_s) * 1000:.0f} ms",
        f"validated only: {median(pairs.yardstick):,.0f}/s",
        pairs.spread,
        f"{AT_LEAST}" if promised else "",
        pairs.ratio >= AT_LEAST if promised else None,
        watched.memory,
    )


async def _relayed(conn: asyncpg.Connection) -> bool:
    return bool(await conn.fetchval("select count(*) = 0 from intake.outbox"))
