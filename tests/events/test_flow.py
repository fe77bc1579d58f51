"""From a decision to a view: what the machinery promises when nothing fails."""

from __future__ import annotations

import asyncio
from functools import partial
from uuid import uuid4

import sqlalchemy as sa

from services.runtime import Host
from tests.events.conftest import World
from tests.events.toy import CASE, COUNTS, open_case, resolve
from tests.until import until


async def counted(host: Host, case_id: str, events: int) -> bool:
    row = await host.database.row(sa.select(COUNTS.table).where(COUNTS.table.c.case_id == case_id))
    return row is not None and row["events"] == events


async def test_an_opened_case_is_queued_and_seen_by_every_view(world: World) -> None:
    async with world.running() as hosts:
        case_id = str(uuid4())
        await hosts["intake"].store.change(CASE(case_id), decision=open_case, actor="key:test")
        for host in hosts.values():
            await until(partial(counted, host, case_id, 2))


async def test_a_client_reads_its_own_writes(world: World) -> None:
    async with world.running() as hosts:
        case_id = str(uuid4())
        changed = await hosts["intake"].store.change(CASE(case_id), decision=open_case, actor="key:test")
        await hosts["router"].wait_for(changed.position)
        row = await hosts["router"].database.row(sa.select(COUNTS.table).where(COUNTS.table.c.case_id == case_id))
        assert row is not None
        assert row["market"] == "de"


async def test_verify_says_equal_while_cases_keep_coming(world: World) -> None:
    async with world.running() as hosts:
        stop = asyncio.Event()

        async def traffic() -> int:
            opened = 0
            while not stop.is_set():
                case_id = str(uuid4())
                await hosts["intake"].store.change(CASE(case_id), decision=open_case, actor="key:test")
                await hosts["intake"].store.change(CASE(case_id), decision=resolve, actor="key:test")
                opened += 1
            return opened

        coming = [asyncio.create_task(traffic()) for _ in range(4)]
        for _ in range(3):
            for host in hosts.values():
                for view in host.replay.named("all"):
                    verdict = await host.replay.verify(view)
                    assert verdict.equal, verdict
        stop.set()
        assert sum(await asyncio.gather(*coming)) > 0


async def test_rebuild_under_live_traffic_loses_and_doubles_nothing(world: World) -> None:
    async with world.running() as hosts:
        ids: list[str] = []
        stop = asyncio.Event()

        async def traffic() -> None:
            while not stop.is_set():
                case_id = str(uuid4())
                await hosts["intake"].store.change(CASE(case_id), decision=open_case, actor="key:test")
                ids.append(case_id)

        coming = [asyncio.create_task(traffic()) for _ in range(4)]
        for host in hosts.values():
            for view in host.replay.named("all"):
                await host.replay.rebuild(view)
        stop.set()
        await asyncio.gather(*coming)
        for host in hosts.values():

            async def all_there(host: Host = host) -> bool:
                return len(await host.database.rows(sa.select(COUNTS.table).where(COUNTS.table.c.events == 2))) == len(
                    ids
                )

            await until(all_there)
            for view in host.replay.named("all"):
                assert (await host.replay.verify(view)).equal
