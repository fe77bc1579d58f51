"""kill -9 before and after every await of store, relay, consumer, timer and import, while clients go on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import cycle, islice
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.conftest import Engine
from tests.faults.crashing import Parent, World
from tests.faults.load import Promised
from tests.faults.points import all_points
from tests.faults.report import Report

KILLS, KILLS_IN_ALL = 2, 500
"""At each point, and together at least; on each engine."""

WATCHED_S = 30.0
"""How long a life is watched to learn which points it passes."""

REACH_LIMIT_S = 30.0
STOP_LIMIT_S = 20.0

UNPASSED = {
    "store._commit asyncio.sleep": "waits where another process holds every head",
    "relay._hold_and_relay asyncio.sleep": "waits where another process is the relay",
    "consume.run asyncio.sleep": "waits where the database or the log is away",
    "consume._fetch self.log.ends": "looks whether a client that gives nothing is stuck",
    "consume._fetch reader.renew": "replaces a client that is stuck",
    "consume.handle project.remember": "a reactor that keeps its past does it; escalation, which has one, does not run",
}
"""What points begin with that the load need not pass, and what happens there: nothing is written at any of them but
the last, whose row is written in the transaction that every other point of the consumer cuts."""

SAMPLE = (
    "store._transaction conn.transaction | before exit",
    "relay._move self.log.append | after",
    "consume._transaction conn.transaction | after exit",
    "timers._fire conn.transaction | before exit",
    "intake.api.imports._record asyncio.gather | before",
)


class Phase(StrEnum):
    """When in a process's life a point is passed."""

    START = "start"
    LOAD = "load"
    STOP = "stop"


@dataclass
class Row:
    """What came of the kills at one point."""

    kills: int = 0
    missed: int = 0
    """How often the process had to be killed elsewhere, because it did not come by in time."""
    lost: int = 0
    doubled: int = 0
    recovered_s: list[float] = field(default_factory=list)


class Matrix:
    """Kills one world's process at one point after the other."""

    def __init__(self, world: World) -> None:
        self.world, self.rows = world, dict[str, Row]()
        self.lives: dict[str, str] = {}
        """What cases of a life are marked with → where that life ended."""

    async def watch(self) -> dict[str, Phase]:
        """A life under load, from its start to its end in order: point → when it is passed, under load if it can be."""
        world = self.world
        await self._end()
        await world.start()
        await world.recovered()
        begun = await world.passed()
        await asyncio.sleep(WATCHED_S)
        loaded = await world.passed()
        await self._end(signal.SIGTERM)
        phases = dict.fromkeys(world.parent.passed, Phase.STOP) | dict.fromkeys(begun, Phase.START)
        return phases | {point: Phase.LOAD for point in loaded if loaded[point] > begun[point]}

    async def kill(self, point: str, phase: Phase) -> None:
        """Let a process die at a point that it passes at its start or its end, and see another one take over."""
        world = self.world
        if phase is Phase.START:
            await self._end()
            await world.start(arm=point)
        else:
            await world.parent.tell(f"arm {point}")
            await world.parent.kill(signal.SIGTERM)
        await self._dies([point])

    async def kill_under_load(self, left: Counter[str]) -> None:
        """Let one process after the other die at whichever of the points it passes first that are left, until none is,
        or none comes by any more."""
        while left:
            await self.world.parent.tell("arm " + ",".join(f"{p}:{self.world.random.randint(1, 5)}" for p in left))
            point = await self._dies(list(left))
            if point is None:
                return
            if left[point] > 0:  # the other world may have been as fast
                left[point] -= 1
            left += Counter()  # keeps what is above zero

    async def _dies(self, points: list[str]) -> str | None:
        """Where it died, and another one has taken over; None if it had to be killed elsewhere."""
        world = self.world
        world.point = f"life {len(self.lives) + 1}"
        died = await world.parent.ended(REACH_LIMIT_S) and world.parent.status == -signal.SIGKILL
        point = world.parent.died_at if died else points[0]
        row = self.rows.setdefault(point, Row())
        if died:
            row.kills += 1
        else:
            row.missed += 1
            await self._end()
        self.lives[world.point] = point
        died_at = time.monotonic()
        await world.start()
        await world.recovered()
        row.recovered_s.append(time.monotonic() - died_at)
        return point if died else None

    async def settle(self) -> None:
        """The last process lives on until all is done; then walks, figures, log and views must equal the ledger."""
        await self.world.settle()
        await self._end(signal.SIGTERM)
        await self.world.start(picky=False)
        await self.world.recovered()
        await self.world.settle()
        for life, (lost, doubled) in (await self.world.account()).items():
            row = self.rows.setdefault(self.lives.get(life, life), Row())
            row.lost += lost
            row.doubled += doubled

    async def _end(self, number: signal.Signals = signal.SIGKILL) -> None:
        await self.world.parent.kill(number)
        assert await self.world.parent.ended(STOP_LIMIT_S), "it does not stop"


@asynccontextmanager
async def broken(engine: Engine, directory: Path, seed: int, before: Mapping[str, Promised]) -> AsyncIterator[Matrix]:
    """A world under load, to be killed in the block; then its account is settled, with what was promised before."""
    directory.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        parent = await stack.enter_async_context(Parent.warm(directory / "worker.log"))
        world = World(engine, directory, parent, seed)
        world.ledger.update(before)
        stack.push_async_callback(world.client.aclose)
        done = Matrix(world)
        await world.start(warm=True)
        await world.recovered()
        await world.furnish()
        await done._end(signal.SIGTERM)
        await world.start()
        await world.recovered()
        async with world.load():
            yield done
        await done.settle()


async def matrix(
    engine: Engine,
    directory: Path,
    seed: int,
    kills: Iterable[tuple[str, Phase]],
    left: Counter[str],
    before: Mapping[str, Promised] = MappingProxyType({}),
) -> Matrix:
    """Kill one world at these points of a start or an end, and under load at what is left of the others."""
    async with broken(engine, directory, seed, before) as done:
        for point, phase in kills:
            await done.kill(point, phase)
        await done.kill_under_load(left)
    return done


async def passed(engine: Engine, directory: Path) -> tuple[dict[str, Phase], dict[str, Promised]]:
    """Which points a life under load passes, and when; and what it promised."""
    async with Parent.warm(directory / "worker.log") as parent:
        world = World(engine, directory, parent, seed=0)
        await world.start()
        await world.recovered()
        await world.furnish()
        async with world.load():
            phases = await Matrix(world).watch()
            await world.start()
        await world.client.aclose()
        return phases, world.ledger


def tell(report: Report, engine: Engine, worlds: list[Matrix]) -> None:
    """One line per point over all worlds, and their sum."""
    points: dict[str, list[Row]] = {}
    for world in worlds:
        for point, row in world.rows.items():
            points.setdefault(point, []).append(row)
    lines = [_line(point, rows) for point, rows in sorted(points.items())]
    everything = _line(f"all {len(lines)} points", [row for rows in points.values() for row in rows])
    cases = sum(len(m.world.ledger) for m in worlds)
    unanswered = sum(m.world.unanswered for m in worlds)
    report.table(
        f"kill -9 around every await, {engine.name}",
        ("point", "kills", "lost", "doubled", "s to recover"),
        [everything, *lines],
        f"{cases:,} cases. {unanswered:,} requests lost their answer to a kill and were sent again. Recovered: a new"
        " process took a new case all the way; start and leases of 1 s included, and of several kills the longest.",
    )


def _line(point: str, rows: list[Row]) -> tuple[object, ...]:
    seconds = max((s for row in rows for s in row.recovered_s), default=0.0)
    return (point, *(sum(getattr(row, name) for row in rows) for name in ("kills", "lost", "doubled")), seconds)


def lost_or_doubled(worlds: list[Matrix]) -> dict[str, Row]:
    return {p: row for m in worlds for p, row in m.rows.items() if row.lost or row.doubled}


@pytest.mark.sample
def test_the_points_named_here_are_points() -> None:
    points = list(all_points())
    assert set(SAMPLE) <= set(points)
    assert [start for start in UNPASSED if not any(point.startswith(start) for point in points)] == []


@pytest.mark.timeout(300)
async def test_a_kill_at_the_points_that_matter_most_loses_and_doubles_nothing(
    engine: Engine, tmp_path: Path, report: Report
) -> None:
    done = await matrix(engine, tmp_path, 1, [], Counter(SAMPLE))

    tell(report, engine, [done])
    assert lost_or_doubled([done]) == {}
    assert [point for point in SAMPLE if not done.rows[point].kills] == []


@pytest.mark.timeout(2400)
async def test_a_kill_before_or_after_any_await_loses_and_doubles_nothing(
    engine: Engine, twin: Engine, tmp_path: Path, report: Report
) -> None:
    """Two worlds beside each other, because a start takes one core for a second."""
    phases, watched = await passed(engine, tmp_path)
    unpassed = [p for p in all_points() if p not in phases and not p.startswith(tuple(UNPASSED))]
    assert unpassed == [], "nobody gets there: let the load pass them, or say why it does not"
    kills = [(point, phase) for point, phase in phases.items() if phase is not Phase.LOAD for _ in range(KILLS)]
    left = Counter({point: KILLS for point, phase in phases.items() if phase is Phase.LOAD})
    left.update(islice(cycle(list(left)), max(0, KILLS_IN_ALL - len(kills) - left.total())))

    worlds = await asyncio.gather(
        matrix(engine, tmp_path / "one", 1, kills[::2], left, watched),
        matrix(twin, tmp_path / "two", 2, kills[1::2], left),
    )

    tell(report, engine, list(worlds))
    assert lost_or_doubled(list(worlds)) == {}
    killed = sum((Counter({point: row.kills for point, row in world.rows.items()}) for world in worlds), Counter[str]())
    assert {point: killed[point] for point in phases if killed[point] < KILLS} == {}
    assert killed.total() >= KILLS_IN_ALL
