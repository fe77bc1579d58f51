"""`python -m bench.soak`: all five services under a steady load for long, and whether anything drifts.

First the rate at which cases can be opened and get to the end of their walk is measured, then half of it is kept up. A
line is fitted to memory, connections and outbox age; what the first quarter does, while caches fill, is not judged.
Exit code 0 when the load was kept up and all three are flat within the limits below, else 1.
"""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from statistics import linear_regression, mean
from time import perf_counter

import asyncpg
import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from bench.bodies import opening
from bench.ground import ADMIN_KEY, EMBEDDED, Ground, Serving, ends_in_order, until
from bench.measure import memory_mib
from bench.plot import Curve, draw
from bench.report import machine
from bench.serving import WHOLE
from bench.wire import Doors
from services.every import SERVICES
from services.process import collect_seldom, only_the_wheel

MEASURED, MEASURED_PER_MINUTE = 3000, 250
"""Cases by which the rate is measured: at most, and for every minute of a shorter run."""

SAMPLE_S = 1.0
RESOLVED_AFTER_S = 5.0
DRAINED_WITHIN_S = 300.0
UNJUDGED = 0.25
KEPT_UP = 0.98
"""The share of the cases that must have been opened in time."""

PLOT = Path(__file__).resolve().parents[1] / "docs" / "soak.svg"


@dataclass(frozen=True)
class Limit:
    """How much a curve may rise: over the judged time by its fitted line, and how high it may be on average."""

    name: str
    unit: str
    rise: float
    share: bool = False
    """The rise is a share of the average, not an absolute number."""
    average: float | None = None


LIMITS = (
    Limit("memory of the server", "MiB", 0.10, share=True),
    Limit("database connections", "", 2.0),
    Limit("outbox age", "s", 0.2, average=0.5),
)


@dataclass
class Samples:
    """What was seen, second by second."""

    at_s: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: {limit.name: [] for limit in LIMITS})
    begun: int = 0
    opened: int = 0
    """In time."""
    refused: int = 0


async def main(given: list[str]) -> int:
    parser = ArgumentParser("make soak ARGS=…", description="Keep half the measured rate up, and look for drift.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--plot", type=Path, default=PLOT, help="where the plot is written (docs/soak.svg)")
    asked = parser.parse_args(given)
    ends_in_order()
    names = tuple(service.name for service in SERVICES)
    with Ground.laid(kafka=False) as ground:
        async with ground.engine(EMBEDDED) as engine, ground.serving(engine, WHOLE, *names) as serving:
            conn = await asyncpg.connect(engine.dsn)
            doors = Doors(serving.port, ADMIN_KEY)
            per_s = await _half_the_rate(doors, conn, min(MEASURED, int(MEASURED_PER_MINUTE * asked.minutes)))
            samples = await _kept_up(serving, doors, conn, per_s, asked.minutes * 60)
            doors.close()
            await conn.close()
    return _judge(samples, per_s, asked.minutes, asked.plot)


async def _half_the_rate(doors: Doors, conn: asyncpg.Connection, cases: int) -> float:
    """Half of how many cases a second are opened and resolved, with everything that follows from them handled too."""
    began, measured = perf_counter(), Samples()
    async with asyncio.TaskGroup() as group:
        for n in range(cases):
            group.create_task(_live(n, f"measured-{n}", doors, measured, ends=began))
    await until(lambda: _handled(conn), DRAINED_WITHIN_S)
    assert measured.refused == 0, "some were refused while the rate was measured"
    return cases / (perf_counter() - began) / 2


async def _handled(conn: asyncpg.Connection) -> bool:
    """Whether every service has sent everything and read everything."""
    ends = {(r["topic"], r["partition"]): r["next_offset"] for r in await conn.fetch("select * from log.head")}
    for service in SERVICES:
        if await conn.fetchval(f"select count(*) from {service.name}.outbox"):
            return False
        read = await conn.fetch(f"select topic, partition, next_offset from {service.name}.lane")
        if any(row["next_offset"] < ends[row["topic"], row["partition"]] for row in read):
            return False
    return True


async def _kept_up(serving: Serving, doors: Doors, conn: asyncpg.Connection, per_s: float, seconds: float) -> Samples:
    samples = Samples()
    began, ends = perf_counter(), perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        sampling = group.create_task(_sample(serving, conn, samples, began))
        while (now := perf_counter()) < ends:
            samples.begun += 1
            group.create_task(_live(samples.begun, f"soak-{samples.begun}", doors, samples, ends))
            await asyncio.sleep(max(0.0, began + samples.begun / per_s - now))
        sampling.cancel()
    return samples


async def _live(n: int, customer: str, doors: Doors, samples: Samples, ends: float) -> None:
    """Open a case and resolve it a little later, at the end at once, so that nothing heaps up that lives on."""
    status, body = await doors.post("/v1/cases", opening(n, customer))
    if status != HTTPStatus.CREATED:
        samples.refused += 1
        return
    samples.opened += perf_counter() < ends
    await asyncio.sleep(min(RESOLVED_AFTER_S, max(0.0, ends - perf_counter())))
    status, _ = await doors.post(f"/v1/cases/{json.loads(body)['case_id']}:resolve", {"code": "solved"})
    samples.refused += status != HTTPStatus.OK


async def _sample(serving: Serving, conn: asyncpg.Connection, samples: Samples, began: float) -> None:
    server = psutil.Process(serving.pid)
    oldest = " union all ".join(f"select min(recorded_at) at from {service.name}.outbox" for service in SERVICES)
    while True:
        row = await conn.fetchrow(
            "select (select count(*) from pg_stat_activity where datname = current_database()) as connections,"
            f" (select coalesce(extract(epoch from clock_timestamp() - min(at)), 0)::float8 from ({oldest}) o) as age_s"
        )
        assert row is not None
        seen = (memory_mib(server), float(row["connections"]), max(0.0, row["age_s"]))
        samples.at_s.append(perf_counter() - began)
        for limit, value in zip(LIMITS, seen, strict=True):
            samples.values[limit.name].append(value)
        await asyncio.sleep(SAMPLE_S)


# ------------------------------------------------------------------------------------------------------------- verdict


def rise(at_s: Sequence[float], values: Sequence[float]) -> float:
    """How much the fitted line (least squares) rises from the first moment to the last."""
    slope, _ = linear_regression(at_s, values)
    return slope * (at_s[-1] - at_s[0])


def is_flat(limit: Limit, at_s: Sequence[float], values: Sequence[float]) -> bool:
    """Whether the values stay within the limit."""
    allowed = limit.rise * mean(values) if limit.share else limit.rise
    low_enough = limit.average is None or mean(values) <= limit.average
    return low_enough and rise(at_s, values) <= allowed


def _judge(samples: Samples, per_s: float, minutes: float, plot: Path) -> int:
    start = int(len(samples.at_s) * UNJUDGED)
    at_s = samples.at_s[start:]
    table = Table("what", "average", "rise", "allowed", "flat", title="Soak", caption=machine())
    verdicts, curves = [], []
    for limit in LIMITS:
        values = samples.values[limit.name][start:]
        flat = is_flat(limit, at_s, values)
        verdicts.append(flat)
        allowed = f"{limit.rise:.0%} of the average" if limit.share else f"{limit.rise} {limit.unit}"
        allowed += "" if limit.average is None else f", average ≤ {limit.average} {limit.unit}"
        table.add_row(
            limit.name, f"{mean(values):.3g} {limit.unit}", f"{rise(at_s, values):+.3g} {limit.unit}", allowed,
            "yes" if flat else "NO",
        )  # fmt: skip
        curves.append(Curve(f"{limit.name}, {limit.unit}".rstrip(", "), samples.at_s, samples.values[limit.name]))
    said = f"{per_s:.0f} cases/s for {minutes:g} minutes: {samples.opened:,} opened, {samples.refused:,} refused"
    kept_up = samples.opened >= KEPT_UP * per_s * minutes * 60
    draw(plot, f"Soak: {said}", curves)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(f"{said}; the plot is {plot}", soft_wrap=True)
    if not kept_up:
        console.print("that is less than was to be kept up")
    return 0 if all(verdicts) and kept_up and not samples.refused else 1


if __name__ == "__main__":
    only_the_wheel()
    collect_seldom()
    sys.exit(uvloop.run(main(sys.argv[1:])))
