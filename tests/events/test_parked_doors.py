"""What is parked is seen, tried again and thrown away by REST, and an older program writes no newer view."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa
from aiokafka import AIOKafkaProducer

from events.case import CaseQueued
from events.effects import Effect, Notifier
from events.event import CASES, Recorded
from events.views.rows import Outdated
from events.wire import partition_of
from services.runtime import Host, Service, running
from tests.conftest import Engine, delete_topics
from tests.events.conftest import World
from tests.events.toy import CASE, COUNTS, DUES, INTAKE, ROUTER, offer, open_case
from tests.until import until


@asynccontextmanager
async def doors(world: World, *services: Service) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, Host]]]:
    """A client of the running services, and their hosts."""
    async with running(services, world.settings) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            yield client, app.state.hosts


async def opened(hosts: dict[str, Host]) -> str:
    case_id = str(uuid4())
    await hosts["intake"].store.change(CASE(case_id), decision=open_case, actor="key:t")
    return case_id


async def is_counted(host: Host, case_id: str) -> bool:
    return await host.database.row(sa.select(COUNTS.table).where(COUNTS.table.c.case_id == case_id)) is not None


async def items(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = await client.get("/v1/ops/router/parked")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def test_a_parked_case_is_listed_and_tried_again_by_rest_while_others_go_on(world: World) -> None:
    broken = [True]

    def fragile(event: Recorded[CaseQueued], looked: None, now: datetime) -> list[Effect]:
        if broken[0]:
            raise ValueError("this case is odd")
        return []

    odd = replace(ROUTER, notifiers=(Notifier("router.odd", (CaseQueued,), fragile),))
    async with doors(world, INTAKE, odd) as (client, hosts):
        case_id = await opened(hosts)
        (parked,) = await until(partial(items, client))
        assert (parked["subject"], "this case is odd" in parked["error"]) == (case_id, True)
        assert (await client.delete(f"/v1/ops/router/parked/{parked['id']}")).status_code == 404, "it is an event"

        broken[0] = False
        others = [asyncio.create_task(opened(hosts)) for _ in range(5)]
        asked = await client.post(f"/v1/ops/router/parked/{parked['id']}:retry")
        assert (asked.status_code, asked.json()["waiting"]) == (200, 1)

        async def nothing_is_parked() -> bool:
            return not await items(client)

        await until(nothing_is_parked)
        for other in await asyncio.gather(*others):
            await until(partial(is_counted, hosts["router"], other))
        for view in hosts["router"].replay.named("all"):
            assert (await hosts["router"].replay.verify(view)).equal


async def test_bytes_that_are_no_event_park_alone_and_can_be_thrown_away(
    database: str, kafka: str, tmp_path: Path
) -> None:
    """On Kafka: nobody but us can write into the log that is in PostgreSQL."""
    engine = Engine("kafka", database, kafka, f"t{uuid4().hex[:10]}")
    world = World(engine, tmp_path)
    async with doors(world, INTAKE, ROUTER) as (client, hosts):
        case_id = await opened(hosts)
        await until(partial(is_counted, hosts["router"], case_id))
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            topic, partition = f"{engine.namespace}{CASES}", partition_of(case_id)
            await producer.send_and_wait(topic, b"{", key=case_id.encode(), partition=partition)
        after = await opened(hosts)
        await until(partial(is_counted, hosts["router"], after))

        rows = await until(partial(items, client))
        assert {row["source"] for row in rows} == {None}
        assert (await client.post(f"/v1/ops/router/parked/{rows[0]['id']}:retry")).status_code == 404
        verdict = await hosts["router"].replay.verify(COUNTS)
        assert (verdict.equal, verdict.parked) == (True, ()), "the case under the same key is no part of the garbage"
        await hosts["router"].database.writers.execute(
            f"update {COUNTS.name}_1_1 set market = 'xx' where case_id = $1", case_id
        )
        assert (await hosts["router"].replay.verify(COUNTS)).different == (case_id,)
        for row in rows:
            assert (await client.delete(f"/v1/ops/router/parked/{row['id']}")).status_code == 200
    await delete_topics(kafka, engine.namespace)


async def test_an_older_program_writes_nothing_once_a_newer_one_has_rebuilt_its_view(world: World) -> None:
    newer = replace(ROUTER, views=(replace(COUNTS, version=2),), inline=(replace(DUES, version=2),))
    async with doors(world, INTAKE, ROUTER) as (client, hosts):
        case_id = await opened(hosts)
        await until(partial(is_counted, hosts["router"], case_id))
        async with doors(world, newer) as (_, later):
            with pytest.raises(Outdated):
                await hosts["router"].store.change(
                    CASE(case_id), decision=partial(offer, timedelta(hours=1)), actor="key:t"
                )

            async def handed_over() -> bool:
                """Something to read comes into its lanes, sooner or later; then it gives them back."""
                await opened(hosts)
                worker = hosts["router"].views_consumer.worker
                return not await later["router"].database.readers.fetchval(
                    "select count(*) from lane where owner = $1", worker
                )

            await until(handed_over, limit_s=30)
            assert (await client.get("/health/ready")).status_code == 200, "its doors stay open until it is stopped"
            await later["router"].store.change(
                CASE(case_id), decision=partial(offer, timedelta(hours=1)), actor="key:t"
            )
            for view in later["router"].replay.named("all"):
                assert (await later["router"].replay.verify(view)).equal


async def test_a_service_keeps_to_twelve_connections_however_often_it_is_asked_to_verify(world: World) -> None:
    async with doors(world, INTAKE, ROUTER) as (client, hosts):
        await opened(hosts)
        asked = [asyncio.create_task(client.get("/v1/ops/intake/verify")) for _ in range(12)]
        most = 0
        while not all(one.done() for one in asked):
            count = await hosts["router"].database.readers.fetchval(
                "select count(*) from pg_stat_activity where application_name like 'casewalk:intake:%'"
                " and datname = current_database()"
            )
            most = max(most, count)
        assert all(one.result().status_code == 200 for one in asked)
        assert 1 < most <= 12
