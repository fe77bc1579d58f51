"""Import: another system's history through REST until figures show its last row, against validating the same rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from time import perf_counter

from bench.ground import ADMIN_KEY, EMBEDDED, Ground, Serving
from bench.history import PROFILE, write_history
from bench.measure import watching
from bench.report import Row
from bench.serving import WHOLE
from services.commands.client import Client, Doors
from services.commands.importing import PATIENCE_S, ROWS_PER_CHUNK, lines_of, ndjson, send_and_see
from services.commands.profiles import load_profile
from services.every import SERVICES

AT_LEAST, FLAT = 3000, 0.2
STEADY_FROM = 100_000
"""Rows below which starting counts too much to speak of flat."""

VALIDATED = 50_000
"""Rows the yardstick takes at most; its speed does not depend on how many."""


async def measure(ground: Ground, sizes: list[int]) -> AsyncIterator[Row]:
    """With all five services in one process, as `casewalk up` runs them; every size into an empty installation."""
    last: float | None = None
    for rows in sizes:
        file = ground.directory / f"history-{rows}.csv"
        write_history(file, rows)
        names = tuple(service.name for service in SERVICES)
        async with ground.engine(EMBEDDED) as engine, ground.serving(engine, WHOLE, *names) as serving:
            validated = await _validated(serving, file, min(rows, VALIDATED))
            async with watching(ground.pids(server=serving.pid)) as watched:
                ours = await _imported(serving, file, rows)
        file.unlink()
        growth = "" if last is None else f", {ours / last:.2f} of the size before's"
        flat = last is None or rows <= STEADY_FROM or abs(ours / last - 1) <= FLAT
        yield Row(
            "import through REST until the figures show the last row",
            f"{rows:,} rows",
            EMBEDDED,
            f"{ours:,.0f} rows/s{growth}",
            f"validated only: {validated:,.0f}/s",
            f"{ours / validated:.2f}",
            f"{AT_LEAST:,}/s, flat ± {FLAT:.0%}",
            ours >= AT_LEAST and flat,
            watched.memory,
        )
        last = ours


async def _imported(serving: Serving, file: Path, rows: int) -> float:
    began = perf_counter()
    imported = await send_and_see(_client(serving), load_profile(PROFILE), f"bench-{rows}", file, rows)
    assert imported.recorded == rows, imported
    return rows / (perf_counter() - began)


async def _validated(serving: Serving, file: Path, rows: int) -> float:
    """Rows per second of the same client in front of a door that writes nothing."""
    left = islice(load_profile(PROFILE).rows(lines_of(file)), rows)
    began = perf_counter()
    async with _client(serving) as client:
        while chunk := list(islice(left, ROWS_PER_CHUNK)):
            await client.post_lines("/v1/imports/validated", ndjson(chunk), profile=PROFILE, import_id="bench")
    return rows / (perf_counter() - began)


def _client(serving: Serving) -> Client:
    return Client(Doors.at(serving.url), ADMIN_KEY, patience_s=PATIENCE_S)
