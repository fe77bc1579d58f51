"""Never more than an agent's capacity: a thousand cases, fifty agents, two router processes, one of which is killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from events.case import CaseOffered, CaseResolved
from services.router.service import SERVICE
from tests.conftest import Engine
from tests.given import an
from tests.router.world import World, world
from tests.until import until

CASES, AGENTS = 1000, 50
CAPACITY = {f"agent-{n}": 1 + n % 5 for n in range(AGENTS)}
ROOM = sum(CAPACITY.values())

AT_ONCE = 64
"""Requests of one caller under way: more than 128 are a flood."""

HELD = "select agent_id, count(*) as load from work where status in ('offered', 'assigned') group by agent_id"


@asynccontextmanager
async def router_process(engine: Engine, directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A router in a process of its own; it is killed at the end of the block, if not before."""
    arguments = (engine.dsn, engine.kafka or "", engine.namespace, str(directory))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.router.another", *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"running\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def overbooked(here: World) -> list[str]:
    """Agents who hold more than their capacity in one snapshot of the database."""
    rows = await here.router.database.readers.fetch(HELD)
    return [f"{row['agent_id']} holds {row['load']}" for row in rows if row["load"] > CAPACITY[row["agent_id"]]]


async def watch(here: World) -> list[str]:
    """Look until somebody is overbooked."""
    return await until(lambda: overbooked(here), limit_s=240)


async def held(here: World) -> dict[str, int]:
    return {row["agent_id"]: row["load"] for row in await here.router.database.readers.fetch(HELD)}


async def waiting_for(here: World, status: str) -> list[Any]:
    return list(await here.router.database.readers.fetch("select * from work where status = $1", status))


async def loads_seen(here: World) -> dict[str, list[int]]:
    """The load each agent had before each of their offers, as the offers say it."""
    rows = await here.router.database.readers.fetch("select * from events where type = $1", CaseOffered.TYPE)
    offers: list[Any] = [here.router.store.recorded(row).data for row in rows]
    return {name: sorted(offer.load for offer in offers if offer.agent_id == name) for name in CAPACITY}


async def take_and_resolve(here: World) -> None:
    """Every agent accepts what they are offered and brings it to an end."""
    offered = await waiting_for(here, "offered")

    turns = asyncio.Semaphore(AT_ONCE)

    async def one(case_id: str, agent_id: str) -> None:
        async with turns:
            answer = await here.lead.post(f"/v1/work/{case_id}:accept", json={"agent_id": agent_id})
        assert answer.status_code == 200, answer.text
        await here.say(case_id, an(CaseResolved))

    await asyncio.gather(*(one(row["case_id"], row["agent_id"]) for row in offered))


@pytest.mark.timeout(240)
async def test_no_agent_ever_holds_more_than_their_capacity(engine: Engine, tmp_path: Path) -> None:
    doors_only = replace(SERVICE, duties=())
    async with (
        world(engine, tmp_path, router=doors_only) as here,
        router_process(engine, tmp_path),
        router_process(engine, tmp_path) as doomed,
    ):
        for name, capacity in CAPACITY.items():
            await here.agent(name, capacity=capacity)
        watching = asyncio.create_task(watch(here))
        await asyncio.gather(*(here.open_case() for _ in range(CASES)))

        await until(lambda: _full(here), limit_s=60)
        assert await held(here) == CAPACITY
        assert await loads_seen(here) == {name: list(range(capacity)) for name, capacity in CAPACITY.items()}

        doomed.kill()
        while len(await waiting_for(here, "done")) < CASES:
            await take_and_resolve(here)
            await until(lambda: _nobody_idle(here), limit_s=60)

        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching


async def _full(here: World) -> bool:
    return sum((await held(here)).values()) >= ROOM


async def _nobody_idle(here: World) -> bool:
    """Offers are open, or every case is done."""
    counts = {status: len(await waiting_for(here, status)) for status in ("offered", "done")}
    return counts["offered"] > 0 or counts["done"] == CASES
