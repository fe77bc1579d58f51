"""kill -9 before and after every await of store, relay, consumer, timer and import, while clients go on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.conftest import Engine
from tests.faults.crashing import World
from tests.faults.points import all_points
from tests.faults.report import Report

KILLS, KILLS_IN_ALL = 2, 500
"""At each point, and together at least; on each engine."""

WATCHED_S = 30.0
"""How long a life is watched to learn which points it passes."""

SELDOM = 10
"""A point that was passed less often while it was watched is killed at when it is passed next."""

REACH_LIMIT_S = 30.0
MISSES = 5

UNPASSED = {
    "store._commit asyncio.sleep": "waits where another process holds every head",
    "relay._hold_and_relay asyncio.sleep": "waits where another process is the relay",
    "consume.run asyncio.sleep": "waits where the database or the log is away",
    "consume.run asyncio.TaskGroup | after exit": "follows where a consumer is outdated; the others are cancelled",
    "consume._fetch self.log.ends": "looks whether a client that gives nothing is stuck",
    "consume._fetch reader.renew": "replaces a client that is stuck",
    "consume.handle project.remember": "a reactor that keeps its past does it; escalation, which has one, does not run",
}
"""What points begin with that the load need not pass, and what happens there: nothing is written at any of them but
the last, whose row is written in the transaction that every other point of the consumer cuts."""


class Phase(StrEnum):
    """When in a process's life a point is passed; the best moment for a kill first."""

    LOAD = "load"
    START = "start"
    STOP = "stop"


@dataclass(frozen=True)
class Place:
    """A point that the process of a service passes."""

    service: str
    point: str
    phase: Phase


SAMPLE = [
    Place("intake", "store._transaction conn.transaction | before exit", Phase.LOAD),
    Place("router", "relay._move self.log.append | after", Phase.LOAD),
    Place("metrics", "consume._transaction conn.transaction | after exit", Phase.LOAD),
    Place("router", "timers._fire conn.transaction | before exit", Phase.LOAD),
    Place("intake", "intake.api.imports._record asyncio.gather | before", Phase.LOAD),
]
"""The points that matter most."""


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
    """Kills the processes of one world at one point after the other."""

    def __init__(self, world: World) -> None:
        self.world, self.rows = world, dict[str, Row]()
        self.lives: dict[str, str] = {}
        """What cases of a life are marked with → where that life ended."""
        self.passes: dict[str, Counter[str]] = {}
        """Service → point → how often it was passed in a life that was watched under load."""

    async def watch(self) -> list[Place]:
        """A life of each process under load, from its start to its end in order: what it passes, and when; under load
        if it can be."""
        world = self.world
        await world.end(signal.SIGKILL)
        await world.start()
        begun = {name: await parent.count() for name, parent in world.parents.items()}
        await asyncio.sleep(WATCHED_S)
        self.passes = {name: await parent.count() - begun[name] for name, parent in world.parents.items()}
        await world.end(signal.SIGTERM)
        places = []
        for name, parent in world.parents.items():
            for point in parent.passed:
                unloaded = Phase.START if begun[name][point] else Phase.STOP
                places.append(Place(name, point, Phase.LOAD if self.passes[name][point] else unloaded))
        return places

    async def kill(self, places: Iterable[Place]) -> None:
        """Kill at each of these places, as often as it is named."""
        left = Counter(places)
        for place in [place for place in left.elements() if place.phase is not Phase.LOAD]:
            del left[place]
            await self._kill_at(place)
        while left and sum(row.missed for row in self.rows.values()) < MISSES:
            await self._kill_at_one_of(left)

    async def _kill_at(self, place: Place) -> None:
        """Let a process die at a point that it passes at its start or its end, and see another one take over."""
        parent = self.world.parents[place.service]
        if place.phase is Phase.START:
            await parent.end()
            await self.world.order(place.service, arm=place.point)
        else:
            await parent.tell(f"arm {place.point}")
            await parent.end(signal.SIGTERM)
        await self._dies(place.service, [place.point])

    async def _kill_at_one_of(self, left: Counter[Place]) -> None:
        """Let a process die under load, at whichever of its points that are left it passes first, or some passes later:
        the fewer of them the rarer it is."""
        service = self.world.random.choice(list(left)).service
        points = [place.point for place in left if place.service == service]
        often = self.passes.get(service, Counter())
        times = {point: self.world.random.randint(1, min(5, 1 + often[point] // SELDOM)) for point in points}
        await self.world.parents[service].tell("arm " + ",".join(f"{point}:{n}" for point, n in times.items()))
        point = await self._dies(service, points)
        if point is not None:
            left -= Counter([Place(service, point, Phase.LOAD)])

    async def _dies(self, service: str, points: list[str]) -> str | None:
        """Where it died, and another one has taken over; None if it had to be killed elsewhere."""
        world, parent = self.world, self.world.parents[service]
        world.point = f"life {len(self.lives) + 1}"
        died = await parent.ended(REACH_LIMIT_S) and parent.status == -signal.SIGKILL
        point = parent.died_at if died else points[0]
        row = self.rows.setdefault(point, Row())
        if died:
            row.kills += 1
        else:
            assert parent.status in (None, 0), f"{service} ended by itself: {parent.status}"
            row.missed += 1
            await parent.end()
        self.lives[world.point] = point
        died_at = time.monotonic()
        await world.order(service)
        await world.recovered()
        row.recovered_s.append(time.monotonic() - died_at)
        return point if died else None

    async def settle(self) -> None:
        """The last processes live on until all is done; then walks, figures, log and views must equal the ledger."""
        await self.world.settle()
        await self.world.end(signal.SIGTERM)
        await self.world.start(picky=False)
        await self.world.settle()
        for life, (lost, doubled) in (await self.world.account()).items():
            row = self.rows.setdefault(self.lives.get(life, life), Row())
            row.lost += lost
            row.doubled += doubled


def planned(places: Iterable[Place]) -> list[Place]:
    """Where to kill so that each point has its kills: under load if it can be, and in turn in all who pass it then."""
    best: dict[str, list[Place]] = {}
    for place in sorted(places, key=lambda place: list(Phase).index(place.phase)):
        if place.phase is best.setdefault(place.point, [place])[0].phase and place not in best[place.point]:
            best[place.point].append(place)
    plan = [place for able in best.values() for place in islice(cycle(able), KILLS)]
    loaded = [place for place in plan if place.phase is Phase.LOAD]
    return [*plan, *islice(cycle(loaded), max(0, KILLS_IN_ALL - len(plan)))]


def tell(report: Report, engine: Engine, done: Matrix) -> None:
    """One line per point, and their sum."""
    points = set(all_points())
    lines = [_line(point, [row]) for point, row in sorted(done.rows.items()) if point in points]
    everything = _line(f"all {len(lines)} points", list(done.rows.values()))
    report.table(
        f"kill -9 around every await, {engine.name}",
        ("point", "kills", "lost", "doubled", "s to recover"),
        [everything, *lines],
        f"{len(done.world.ledger):,} cases. {done.world.unanswered:,} requests lost their answer to a kill and were"
        " sent again. Recovered: a new process took over, and a new case went all the way; start and leases of 1 s"
        " included, and of several kills the longest.",
    )


def _line(point: str, rows: list[Row]) -> tuple[object, ...]:
    seconds = max((s for row in rows for s in row.recovered_s), default=0.0)
    return (point, *(sum(getattr(row, name) for row in rows) for name in ("kills", "lost", "doubled")), seconds)


async def whole_plan(matrix: Matrix) -> list[Place]:
    """Every point twice, and 500 kills."""
    places = [place for place in await matrix.watch() if not place.point.startswith(tuple(UNPASSED))]
    passed = {place.point for place in places}
    unpassed = [p for p in all_points() if p not in passed and not p.startswith(tuple(UNPASSED))]
    assert unpassed == [], "nobody gets there: let the load pass them, or say why it does not"
    await matrix.world.start()
    plan = planned(places)
    assert len(plan) >= KILLS_IN_ALL
    assert Counter(place.point for place in plan) >= Counter(dict.fromkeys(passed, KILLS))
    return plan


def lost_or_doubled(done: Matrix) -> dict[str, Row]:
    return {point: row for point, row in done.rows.items() if row.lost or row.doubled}


@pytest.mark.sample
def test_the_points_named_here_are_points() -> None:
    points = list(all_points())
    assert {place.point for place in SAMPLE} <= set(points)
    assert [start for start in UNPASSED if not any(point.startswith(start) for point in points)] == []


@pytest.mark.sample
@pytest.mark.timeout(2400)
async def test_a_kill_before_or_after_any_await_loses_and_doubles_nothing(
    engine: Engine, tmp_path: Path, report: Report, full: bool
) -> None:
    async with World.warm(engine, tmp_path, seed=1) as world:
        done = Matrix(world)
        async with world.load():
            places = await whole_plan(done) if full else SAMPLE
            await done.kill(places)
        await done.settle()

    tell(report, engine, done)
    assert lost_or_doubled(done) == {}, done.world.odd
    asked, killed = Counter(place.point for place in places), Counter({p: row.kills for p, row in done.rows.items()})
    assert asked - killed == Counter()
