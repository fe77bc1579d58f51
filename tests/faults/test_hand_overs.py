"""Processes that join, leave, die, fall asleep and are replaced under load."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import asyncpg
import pytest

from events.lanes import LEASE_S
from services.names import NAMES
from tests.conftest import Engine
from tests.distributed import Serving
from tests.faults.load import POLL_S
from tests.faults.processes import EVERYTHING, RECOVERY_LIMIT_S, STOP_LIMIT_S, Processes
from tests.faults.report import Report
from tests.until import until

CASES = 10
"""That are opened after each change."""

ALL_SERVICES = " ".join(NAMES)


@pytest.mark.timeout(900)
async def test_routers_join_leave_and_die_and_every_case_is_offered_once(
    engine: Engine, tmp_path: Path, report: Report
) -> None:
    """Two of them, then five, then one; only who dies without a word may leave a request unanswered."""
    async with Processes.running(engine, tmp_path, ("intake metrics", "router")) as world:
        async with world.load():
            async with world.broken("a second router joins"):
                await world.join("router")
                await world.opened(CASES)
            async with world.broken("three more join at once"):
                await asyncio.gather(*(world.join("router") for _ in range(3)))
                await world.opened(CASES)
            orderly = failed(world)
            for _ in range(2):
                async with world.broken("one of them dies"):
                    await world.die(routers(world)[0])
                    await world.opened(CASES)
            abrupt = failed(world)
            async with world.broken("two leave at once"):
                await asyncio.gather(*(world.leave(router) for router in routers(world)[1:]))
                await world.opened(CASES)
            orderly += failed(world) - abrupt

        await world.loses_and_doubles_nothing(report, "Routers join and leave under load")
        assert orderly == 0


def routers(world: Processes) -> list[Serving]:
    return [process for process in world.serving if process.service == "router"]


def failed(world: Processes) -> int:
    return world.unanswered + world.refused + world.unreached


# ----------------------------------------------------------------------------------------------------------- zombies


@pytest.mark.timeout(900)
async def test_who_slept_through_two_leases_changes_nothing_when_it_wakes(
    engine: Engine, tmp_path: Path, report: Report
) -> None:
    """Each of two processes in turn, so that the relay of every service is among those that sleep."""
    async with Processes.running(engine, tmp_path, (EVERYTHING, EVERYTHING)) as world:
        world.client.timeout = 3  # a sleeper takes connections and answers nothing
        async with world.load():
            for sleeper in list(world.serving):
                assert sleeper.process is not None
                await shared_by(world, 2)
                async with world.broken("asleep for two leases"):
                    sleeper.process.send_signal(signal.SIGSTOP)
                    await asyncio.sleep(2 * LEASE_S)  # this long, because this is what is done to it
                    await shared_by(world, 1)
                    await world.opened(CASES)
                    sleeper.process.send_signal(signal.SIGCONT)
                    await shared_by(world, 2)

        await world.loses_and_doubles_nothing(report, "Zombies")


async def shared_by(world: Processes, workers: int) -> None:
    """Until the lanes of every consumer are held by so many."""
    connection = await asyncpg.connect(world.engine.dsn)
    alive = "count(distinct owner) filter (where until > clock_timestamp())"

    async def shared() -> bool:
        for service in world.services:
            rows = await connection.fetch(f"select {alive} as owners from {service}.lane group by consumer")
            if any(row["owners"] != workers for row in rows):
                return False
        return True

    try:
        await until(shared, RECOVERY_LIMIT_S, POLL_S)
    finally:
        await connection.close()


# ---------------------------------------------------------------------------------------------------- rolling restart


@pytest.mark.timeout(900)
async def test_all_services_are_restarted_one_process_after_the_other_without_a_failed_request(
    engine: Engine, tmp_path: Path, report: Report
) -> None:
    async with Processes.running(engine, tmp_path, (ALL_SERVICES, ALL_SERVICES)) as world:
        stopped_s = await replaced(world, "a process replaced", "services")

        note = f"The slowest stop took {stopped_s:.1f} s."
        await world.loses_and_doubles_nothing(report, "Rolling restart of all services", note)
        assert failed(world) == 0
        assert stopped_s < STOP_LIMIT_S


@pytest.mark.timeout(900)
async def test_a_new_version_of_views_is_rolled_out_without_a_failed_request(
    engine: Engine, tmp_path: Path, report: Report
) -> None:
    async with Processes.running(engine, tmp_path, (EVERYTHING, EVERYTHING)) as world:
        stopped_s = await replaced(world, "a process replaced by the next version", "tests.faults.newer")

        note = f"The slowest stop took {stopped_s:.1f} s."
        await world.loses_and_doubles_nothing(report, "Rolling restart with new views", note)
        assert failed(world) == 0
        assert stopped_s < STOP_LIMIT_S


async def replaced(world: Processes, what: str, program: str) -> float:
    """Under load, for each process: another one joins, it leaves. Answers how long the slowest took to leave."""
    stopped_s = 0.0
    async with world.load():
        for process in list(world.serving):
            async with world.broken(what):
                await world.join(process.service, program)
                await world.opened(CASES)
                stopped_s = max(stopped_s, await world.leave(process))
                assert process.process is not None
                assert process.process.returncode == 0
                await world.opened(CASES)
    return stopped_s
