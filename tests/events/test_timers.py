"""What timers promise: an obligation fires once, and never while something that stops it may still be on its way."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from events.case import CaseAssigned, OfferExpired, UnitKind
from events.event import CASES, Event
from events.log import Mark
from events.store import Change
from events.wire import partition_of
from services.runtime import Host
from tests.events.conftest import World
from tests.events.toy import CASE, DUES, INTAKE, ROUTER, Toy, offer, open_case
from tests.until import until

SOON = timedelta(milliseconds=300)


async def fired(host: Host, case_id: str) -> list[Any]:
    return [e for e in await host.store.events(CASES, case_id) if e.data.TYPE == OfferExpired.TYPE]


def accept(now: Any, toy: Toy) -> list[Event]:
    return [CaseAssigned(offer_id="o1", agent_id="anna", queue_id="q", unit_id="u", unit_kind=UnitKind.FRONT_END)]


async def test_a_timer_fires_once_under_two_processes_and_says_when_it_was_due(world: World) -> None:
    async with world.running() as hosts, world.running(ROUTER) as more:
        cases = [str(uuid4()) for _ in range(30)]
        stores = [hosts["router"].store, more["router"].store]
        await asyncio.gather(
            *(
                s.change(CASE(c), decision=partial(offer, SOON), actor="key:t")
                for c, s in zip(cases, stores * 15, strict=True)
            )
        )
        for case_id in cases:
            (event,) = await until(partial(fired, hosts["router"], case_id))
            (offered, *_) = await hosts["router"].store.events(CASES, case_id)
            assert event.occurred_at == offered.data.expires_at
        verdict = await hosts["router"].replay.verify(DUES)
        assert verdict.equal
        assert verdict.rows == 0


async def test_what_was_stopped_in_time_does_not_fire(world: World) -> None:
    async with world.running() as hosts:
        store = hosts["router"].store
        stopped, runs_out = str(uuid4()), str(uuid4())
        for case_id in (stopped, runs_out):
            await store.change(CASE(case_id), decision=partial(offer, SOON), actor="key:t")
        await store.change(CASE(stopped), decision=accept, actor="key:t")
        await until(partial(fired, hosts["router"], runs_out))
        assert await fired(hosts["router"], stopped) == []


async def test_no_mark_no_firing_and_the_silent_source_is_named(world: World) -> None:
    """The intake that could stop the offer is not running: nobody knows what it recorded."""
    async with world.running(ROUTER) as hosts:
        host, case_id = hosts["router"], str(uuid4())
        changed = await host.store.change(CASE(case_id), decision=partial(offer, timedelta(0)), actor="key:t")
        await host.wait_for(changed.position)

        async def named() -> bool:
            assert host.reactor.firing is not None
            return host.reactor.firing.silent == {DUES.name: "intake"}

        await until(named)
        assert await fired(host, case_id) == []
        async with world.running(INTAKE):
            await until(partial(fired, host, case_id))


async def test_nothing_fires_while_an_append_of_the_source_is_open(world: World) -> None:
    """The mark stays before what may still commit; the deadline passes; only then does it move on."""
    async with world.running() as hosts:
        router, intake = hosts["router"], hosts["intake"]
        case_id = str(uuid4())
        async with intake.database.writers.acquire() as conn:
            transaction = conn.transaction()
            await transaction.start()
            await intake.store.apply(conn, [Change((CASE(str(uuid4())),), open_case, "key:t")])
            opened_at = await conn.fetchval("select xact_start from pg_stat_activity where pid = pg_backend_pid()")
            await router.store.change(CASE(case_id), decision=partial(offer, timedelta(0)), actor="key:t")

            async def newer_marks() -> bool:
                """Two marks later the intake still says nothing about the time after its open append began."""
                mark = (await router.log.marks()).get("intake")
                now = await router.database.readers.fetchval("select clock_timestamp()")
                return mark is not None and mark.at < opened_at and (now - opened_at) > timedelta(seconds=3)

            await until(newer_marks)
            assert await fired(router, case_id) == []
            await transaction.commit()
        await until(partial(fired, router, case_id))


async def test_after_a_clock_went_back_nothing_fires_before_it_is_due(world: World) -> None:
    """What was stated of the future before does not count, and what is stated since does."""
    async with world.running(ROUTER) as hosts:
        router, due, early = hosts["router"], str(uuid4()), str(uuid4())
        while partition_of(early) != partition_of(due):  # what is due in a lane fires together
            early = str(uuid4())
        now = await router.database.readers.fetchval("select clock_timestamp()")
        await router.log.state_mark(Mark("intake", now + timedelta(hours=2), {}))
        soon = timedelta(minutes=1)  # what is further ahead the store would refuse anyway, as no time of ours
        await router.store.change(CASE(early), decision=partial(offer, soon), actor="key:t")
        await router.store.change(CASE(due), decision=partial(offer, timedelta(0)), actor="key:t")
        await until(partial(fired, router, due))
        assert await fired(router, early) == []
        back = Mark("intake", now - timedelta(hours=1), {})
        await router.log.state_mark(back)

        async def heard() -> bool:
            return (await router.log.marks()).get("intake") == back

        await until(heard)


async def test_nothing_fires_before_the_lane_has_read_what_the_mark_speaks_of(world: World) -> None:
    async with world.running(ROUTER) as hosts:
        router, case_id = hosts["router"], str(uuid4())
        lane = (CASES, partition_of(case_id))
        now = await router.database.readers.fetchval("select clock_timestamp()")
        ahead = Mark("intake", now + timedelta(hours=2), {lane: 10_000})
        await router.log.state_mark(ahead)

        async def heard() -> bool:
            return (await router.log.marks()).get("intake") == ahead

        await until(heard)
        await router.store.change(CASE(case_id), decision=partial(offer, timedelta(0)), actor="key:t")
        elsewhere = str(uuid4())
        while partition_of(elsewhere) == partition_of(case_id):
            elsewhere = str(uuid4())
        await router.store.change(CASE(elsewhere), decision=partial(offer, timedelta(0)), actor="key:t")
        await until(partial(fired, router, elsewhere))
        assert await fired(router, case_id) == []


async def test_a_parked_case_fires_nothing_until_it_is_released(world: World) -> None:
    async with world.running() as hosts:
        router, parked, free = hosts["router"], str(uuid4()), str(uuid4())
        await router.database.writers.execute(
            "insert into parked (consumer, topic, partition, subject, source, sequence, id, body, error)"
            " values ('router.reactor', $1, $2, $3, 'intake', 1, $4, '{}', 'for the test')",
            CASES,
            partition_of(parked),
            parked,
            uuid4(),
        )
        for case_id in (parked, free):
            await router.store.change(CASE(case_id), decision=partial(offer, timedelta(0)), actor="key:t")
        await until(partial(fired, router, free))
        assert await fired(router, parked) == []
        await router.database.writers.execute("delete from parked")
        await until(partial(fired, router, parked))
