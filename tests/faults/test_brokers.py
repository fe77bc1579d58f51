"""Three brokers, of which one, the controller and then two die under load."""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from services.runtime.broker import Broker
from tests.conftest import Engine
from tests.faults.load import POLL_S
from tests.faults.processes import EVERYTHING, RECOVERY_LIMIT_S, STOP_LIMIT_S, Processes
from tests.faults.report import Report
from tests.until import until

pytestmark = pytest.mark.broker

CASES = 10
"""That are opened while something is broken."""


@pytest.fixture
def brokers() -> Iterator[Broker]:
    with (
        tempfile.TemporaryDirectory(prefix="casewalk-") as directory,
        Broker.start(Path(directory), nodes=3) as broker,
    ):
        yield broker


@pytest.fixture
async def world(brokers: Broker, database: str, tmp_path: Path) -> AsyncIterator[Processes]:
    engine = Engine("three brokers", database, brokers.bootstrap, f"t{secrets.token_hex(5)}")
    async with Processes.running(engine, tmp_path, (EVERYTHING, EVERYTHING)) as world:
        yield world


def controller(brokers: Broker) -> int:
    """The node that leads the three, as those that live have noted it last."""
    states = [
        json.loads((brokers.directory / f"node-{n}/data/__cluster_metadata-0/quorum-state").read_text())
        for n in brokers.pids
    ]
    leader: int = max(states, key=lambda state: state["leaderEpoch"])["leaderId"]
    return leader


@pytest.mark.timeout(900)
async def test_each_broker_may_die_and_come_back_and_the_controller_too(
    brokers: Broker, world: Processes, report: Report
) -> None:
    async with world.load():
        for node in (1, 2, 3, 0):
            async with world.broken("each broker in turn" if node else "the controller"):
                dead = node or controller(brokers)
                brokers.kill(dead)
                await world.opened(CASES)
                await asyncio.to_thread(brokers.restart, dead)

    await world.loses_and_doubles_nothing(report, "Brokers killed under load")
    # Its topics have three copies, two of them in sync: nothing is warned of.
    async with httpx.AsyncClient() as client:
        health = (await client.get(f"{world.serving[0].url}/health/ready")).json()
    assert not [warning for warning in health["warnings"] if "topic" in warning]


@pytest.mark.timeout(900)
async def test_without_two_of_three_brokers_writes_are_kept_and_a_stop_stays_short(
    brokers: Broker, world: Processes, report: Report
) -> None:
    async with world.load():
        async with world.broken("two brokers at once"):
            for node in (1, 2):
                brokers.kill(node)
            await world.opened(CASES)
            waiting = await unsent(world, CASES)
            stopped_s = await world.leave(world.serving[0])
            await world.opened(CASES)
            await asyncio.to_thread(brokers.restart)
        await world.join()

    note = f"{waiting} events waited in the outbox meanwhile, and a process was stopped in {stopped_s:.1f} s."
    await world.loses_and_doubles_nothing(report, "Two of three brokers away", note)
    assert stopped_s < STOP_LIMIT_S


async def unsent(world: Processes, at_least: int) -> int:
    """Until so many events wait to be sent; how many do."""
    connection = await asyncpg.connect(world.engine.dsn)

    async def waiting() -> int:
        rows = sum([await connection.fetchval(f"select count(*) from {s}.outbox") for s in world.services])
        return rows if rows >= at_least else 0

    try:
        return await until(waiting, RECOVERY_LIMIT_S, POLL_S)
    finally:
        await connection.close()
