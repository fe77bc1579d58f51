"""What the machinery promises where several things happen at once: ends, races, switches, and what stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from events import parking
from events.case import CaseClosed, CaseOffered, CaseOpened, CaseQueued, CaseResolved, OfferExpired
from events.database import Connection
from events.errors import Unavailable
from events.event import CASES, Event, Recorded
from events.kafka_log import KafkaLog
from events.log import LANES, Log
from events.relay import RelayFailed
from events.store import Change, Changed, Fold, Once, Retry
from events.views import View, rows
from events.views.project import Projector, history
from events.views.replay import Replay
from events.wire import VOCABULARY, partition_of
from services.runtime import Host
from services.runtime.broker import Broker
from tests.commands.conftest import free_port
from tests.conftest import Engine, Postgres, _execute, delete_topics
from tests.events.conftest import World
from tests.events.test_consume import caught_up, consuming, has, made, parked, picky, row, send
from tests.events.toy import (
    CASE,
    COUNTS,
    DUES,
    INTAKE,
    ROUTER,
    Toy,
    count,
    in_partition,
    offer,
    open_case,
    queued,
    resolve,
)
from tests.faults.line import Line
from tests.until import until

SOON = timedelta(0)


async def waits_for_a_lock(host: Host, purpose: str) -> bool:
    """Whether a connection of the service with this purpose waits for somebody else's lock."""
    waiting = await host.database.readers.fetchval(
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = $1"
        " and wait_event_type = 'Lock'",
        f"casewalk:{host.service.name}:{purpose}",
    )
    return bool(waiting)


def without_projector(host: Host) -> Host:
    """The host whose own projector is out of the way: the test brings its own."""
    for task in host._tasks:
        if task.get_name() == f"{host.service.name} views":
            task.cancel()
    return host


@asynccontextmanager
async def held_lane(host: Host, consumer: str, partition: int) -> AsyncIterator[None]:
    """Somebody is in the middle of a transaction in this lane."""
    async with host.database.writers.acquire() as conn, conn.transaction():
        await conn.execute(
            "select from lane where consumer = $1 and topic = $2 and partition = $3 for update",
            consumer,
            CASES,
            partition,
        )
        yield


# -------------------------------------------------------------------------------------------------------------- store


async def test_who_asks_after_the_store_has_ended_is_told_so_at_once(world: World) -> None:
    async with world.running(INTAKE) as hosts:
        store = hosts["intake"].store
        (task,) = [task for task in hosts["intake"]._tasks if task.get_name() == "intake store"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await store.change(CASE(str(uuid4())), decision=open_case, actor="key:t")


async def test_nobody_waits_for_ever_when_the_store_ends_while_a_caller_gives_up(world: World) -> None:
    async with world.running(INTAKE) as hosts:
        host, (gone, waits, queues) = hosts["intake"], (str(uuid4()) for _ in range(3))
        (task,) = [task for task in host._tasks if task.get_name() == "intake store"]
        async with host.database.writers.acquire() as conn, conn.transaction():
            await conn.execute("lock table stream in access exclusive mode")
            open_one = partial(host.store.change, decision=open_case, actor="key:t")
            callers = [asyncio.create_task(open_one(CASE(case_id))) for case_id in (gone, waits)]
            await until(partial(waits_for_a_lock, host, "write"))
            callers.append(asyncio.create_task(open_one(CASE(queues))))
            callers[0].cancel()
            await asyncio.gather(callers[0], return_exceptions=True)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(answer) for answer in answers] == [asyncio.CancelledError, Unavailable, Unavailable]


async def test_a_decision_that_fails_in_any_way_harms_no_other(world: World) -> None:
    def endless(now: datetime, toy: Toy) -> list[Event]:
        return endless(now, toy)

    async with world.running(INTAKE) as hosts:
        store = hosts["intake"].store
        bad, good = await asyncio.gather(
            store.change(CASE(str(uuid4())), decision=endless, actor="key:t"),
            store.change(CASE(str(uuid4())), decision=open_case, actor="key:t"),
            return_exceptions=True,
        )
        assert isinstance(bad, RecursionError)
        assert isinstance(good, Changed)
        assert hosts["intake"].died is None


async def test_an_event_its_own_fold_cannot_take_harms_no_other_change(world: World) -> None:
    def evolve(toy: Toy, event: Recorded[Any]) -> Toy:
        if event.subject == bad:
            raise AttributeError("this fold cannot take it")
        return CASE.evolve(toy, event)

    good, bad = sorted(str(uuid4()) for _ in range(2))
    fold = Fold(CASES, Toy, evolve)
    async with world.running(INTAKE) as hosts:
        store = hosts["intake"].store
        async with store.database.writers.acquire() as conn, conn.transaction():
            outcomes = await store.apply(conn, [Change((fold(c),), open_case, "key:t") for c in (good, bad)])
        assert [type(outcome) for outcome in outcomes] == [Changed, AttributeError]
        assert len(await store.events(CASES, good)) == 1
        assert await store.events(CASES, bad) == []


async def test_two_folds_of_one_stream_are_remembered_each_for_itself(world: World) -> None:
    counting = Fold(CASES, lambda subject: 0, lambda n, event: n + 1)
    async with world.running(INTAKE) as hosts:
        store, case_id = hosts["intake"].store, str(uuid4())
        for opening in (True, False):
            changed = await store.change(
                CASE(case_id),
                counting(case_id),
                decision=lambda now, toy, n, opening=opening: open_case(now, toy) if opening else resolve(now, toy),
                actor="key:t",
            )
        assert changed.states == (Toy(case_id, (CaseOpened.TYPE, CaseResolved.TYPE)), 2)


async def test_a_fold_made_for_one_change_is_never_taken_for_another(world: World) -> None:
    """Folds may be made at run time; a later one may get the memory address of one that is gone."""

    def counting_from(start: int) -> Fold[int]:
        return Fold(CASES, lambda subject: start, lambda n, event: n + 1)

    async with world.running(INTAKE) as hosts:
        store, case_id, start = hosts["intake"].store, str(uuid4()), 0
        for start in range(0, 5000, 100):
            changed = await store.change(
                counting_from(start)(case_id), decision=lambda now, n: [CaseClosed(episode=1)], actor="key:t"
            )
            assert changed.states[0] == start + changed.version


async def test_a_stream_that_somebody_else_holds_is_not_taken_for_one_that_is_not_there(world: World) -> None:
    """Or a request about it would be refused: no such case."""
    asked: list[Toy] = []

    def ask(now: datetime, toy: Toy) -> list[Event]:
        asked.append(toy)
        return []

    async with world.running(INTAKE) as hosts:
        store, stream = hosts["intake"].store, CASE(str(uuid4()))
        await store.change(stream, decision=open_case, actor="key:t")
        writers = store.database.writers
        async with writers.acquire() as one, one.transaction(), writers.acquire() as other, other.transaction():
            await store.apply(one, [Change((stream,), resolve, "key:t")])
            (outcome,) = await store.apply(other, [Change((stream,), ask, "key:t")], wait=False)
        assert isinstance(outcome, Retry)
        assert not asked


async def test_a_concurrent_duplicate_in_another_process_gets_the_first_answer(world: World) -> None:
    async with world.running(INTAKE) as one, world.running(INTAKE) as other:
        once = Once("key:t POST /v1/things", str(uuid4()), b"body", {"status": 201, "id": "first"})
        async with one["intake"].database.writers.acquire() as conn:
            transaction = conn.transaction()
            await transaction.start()
            (first,) = await one["intake"].store.apply(
                conn, [Change((CASE(str(uuid4())),), open_case, "key:t", once=once)]
            )
            assert isinstance(first, Changed)
            again = asyncio.create_task(
                other["intake"].store.change(
                    CASE(str(uuid4())),
                    decision=open_case,
                    actor="key:t",
                    once=replace(once, answer={"status": 201, "id": "second"}),
                )
            )
            await until(partial(waits_for_a_lock, other["intake"], "write"))
            await transaction.commit()
        assert (await again).answer == {"status": 201, "id": "first"}


async def test_a_relay_asks_often_only_while_another_process_writes_for_its_service(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as hosts:
        relay = hosts["intake"].relay
        asked: list[float] = []
        ask = relay._move

        async def counted(conn: Connection) -> int:
            asked.append(asyncio.get_running_loop().time())
            return await ask(conn)

        monkeypatch.setattr(relay, "_move", counted)

        async def pause_s() -> float:
            before = len(asked)

            async def four_times() -> bool:
                return len(asked) >= before + 4

            await until(four_times)
            return median(later - earlier for earlier, later in pairwise(asked[before:]))

        async def alone() -> bool:
            return relay.alone

        async def beside() -> bool:
            return not relay.alone

        await until(alone)
        alone_s = await pause_s()
        async with world.running(INTAKE) as others:
            await until(beside)
            assert await pause_s() < alone_s / 2
            case_id = str(uuid4())
            await others["intake"].store.change(CASE(case_id), decision=open_case, actor="key:t")
            await until(partial(has, hosts["router"], case_id, 2))
            assert relay.holds_lock
        await until(alone)


# ---------------------------------------------------------------------------------------------------------- consumers


async def test_consumers_outlive_a_database_that_takes_no_connections_for_a_while(
    world: World, engine: Engine, postgres: Postgres
) -> None:
    name = urlsplit(engine.dsn).path.lstrip("/")
    async with world.running() as hosts:
        router, intake = hosts["router"], hosts["intake"]
        await _execute(postgres, f"alter database {name} allow_connections false")
        await _execute(postgres, f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")

        async def noticed() -> bool:
            return all(c._failures > 2 or h.died for h in hosts.values() for c in (h.views_consumer, h.reactor))

        await until(noticed)
        await _execute(postgres, f"alter database {name} allow_connections true")
        case_id = str(uuid4())

        async def opened() -> bool:
            with suppress(Unavailable):
                await intake.store.change(CASE(case_id), decision=open_case, actor="key:t")
                return True
            return False

        await until(opened)
        await until(partial(has, router, case_id, 2))
        assert (router.died, intake.died) == (None, None)


async def test_a_consumer_begins_once_its_database_takes_connections(
    world: World, engine: Engine, postgres: Postgres
) -> None:
    name = urlsplit(engine.dsn).path.lstrip("/")
    async with world.running() as hosts:
        await _execute(postgres, f"alter database {name} allow_connections false")
        await _execute(postgres, f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
        async with consuming(hosts["intake"], picky(hosts["intake"])) as consumer:

            async def tried() -> bool:
                return consumer._failures > 0

            async def has_all() -> bool:
                return len(consumer._positions) == len(LANES)

            await until(tried)
            await _execute(postgres, f"alter database {name} allow_connections true")
            await until(has_all)


async def test_another_event_under_a_parked_sequence_is_kept_and_alarmed(world: World) -> None:
    async with world.running(INTAKE) as hosts:
        host, case_id = without_projector(hosts["intake"]), str(uuid4())
        handler = picky(host)
        handler.dislikes.add(case_id)
        async with consuming(host, handler):
            await send(host, made([queued()], case_id, "router"))
            (first,) = await until(partial(parked, host))
            await send(host, made([queued()], case_id, "router"))
            await until(partial(caught_up, host))
            handler.dislikes.clear()
            async with host.database.writers.acquire() as conn:
                await parking.ask(conn, first["position"])
            await until(partial(has, host, case_id, 1))
            (conflict,) = await parked(host)
            assert "another event stands under router's sequence 1" in conflict["error"]


# ------------------------------------------------------------------------------------------------------------- timers


async def test_cases_that_cannot_fire_keep_no_other_timer_waiting(world: World) -> None:
    async with world.running() as hosts:
        router, free = hosts["router"], str(uuid4())
        stuck = [str(uuid4()) for _ in range(510)]
        await router.database.writers.execute(
            "insert into parked (consumer, topic, partition, subject, source, sequence, id, body, error)"
            " select 'router.reactor', $1, p, s, 'intake', 1, gen_random_uuid(), '{}', 'for the test'"
            " from unnest($2::text[], $3::smallint[]) k (s, p)",
            CASES,
            stuck,
            [partition_of(case_id) for case_id in stuck],
        )
        expired = partial(offer, -timedelta(hours=1))
        await asyncio.gather(*(router.store.change(CASE(c), decision=expired, actor="key:t") for c in stuck))
        await router.store.change(CASE(free), decision=partial(offer, SOON), actor="key:t")

        async def fired() -> bool:
            return any(isinstance(e.data, OfferExpired) for e in await router.store.events(CASES, free))

        await until(fired)


async def test_a_timer_outlives_the_switch_of_its_view(world: World) -> None:
    async with world.running() as hosts:
        router, case_id = hosts["router"], str(uuid4())
        async with router.database.writers.acquire() as conn:
            transaction = conn.transaction()
            await transaction.start()
            before = await conn.fetchval("select table_name from view where name = $1 for update", DUES.name)
            await conn.execute(f"lock table {before} in access exclusive mode")
            await until(partial(waits_for_a_lock, router, "write"))
            await conn.execute(f"create table dues_new (like {before} including all)")
            await rows.activate(conn, DUES, 99, "dues_new")
            await conn.execute(f"drop table {before}")
            await transaction.commit()
        await router.store.change(CASE(case_id), decision=partial(offer, SOON), actor="key:t")

        async def fired() -> bool:
            return any(isinstance(e.data, OfferExpired) for e in await router.store.events(CASES, case_id))

        await until(fired)
        assert router.died is None


# -------------------------------------------------------------------------------------------------------------- views


async def test_a_record_that_does_not_decode_stops_neither_verify_nor_rebuild(world: World) -> None:
    async with world.running(INTAKE) as hosts:
        host, bad, good = hosts["intake"], str(uuid4()), str(uuid4())
        (undecodable,) = made([queued()], bad, "router")
        await send(host, [undecodable._replace(data='{"queue_id": 7}'), *made([queued()], good, "router")])
        await until(partial(has, host, good, 1))
        await until(partial(parked, host, "intake.views"))
        assert await host.replay.rebuild(COUNTS) == 1
        verdict = await host.replay.verify(COUNTS)
        assert verdict.equal
        assert verdict.parked == (bad,)


async def test_a_case_released_during_a_rebuild_is_in_the_rebuilt_view(world: World) -> None:
    async with world.running(INTAKE) as hosts:
        host, case_id = without_projector(hosts["intake"]), in_partition(7)
        handler = picky(host)
        handler.dislikes.add(case_id)
        async with consuming(host, handler):
            await send(host, made([queued(), queued()], case_id, "router"))
            waiting = await until(partial(parked, host))
            replay = Replay(host.database, host.log, handler.projector, (), "intake.picky")
            async with held_lane(host, "intake.picky", 0):
                rebuilding = asyncio.create_task(replay.rebuild(COUNTS))
                await until(partial(waits_for_a_lock, host, "rebuild"))
                handler.dislikes.clear()
                async with host.database.writers.acquire() as conn:
                    await parking.ask(conn, waiting[0]["position"])
                await until(partial(has, host, case_id, 2))
            await rebuilding
            assert (await row(host, case_id))["events"] == 2
            assert (await replay.verify(COUNTS)).equal


async def test_a_row_that_goes_during_a_rebuild_of_an_inline_view_is_gone(world: World) -> None:
    async with world.running(ROUTER) as hosts:
        host, case_id = hosts["router"], str(uuid4())

        def expire(now: datetime, toy: Toy) -> list[Event]:
            return [OfferExpired(offer_id="o1", agent_id="anna")]

        await host.store.change(CASE(case_id), decision=partial(offer, timedelta(hours=1)), actor="key:t")
        async with host.database.writers.acquire() as conn:
            transaction = conn.transaction()
            await transaction.start()
            await host.store.apply(conn, [Change((CASE(case_id),), expire, "key:t")])
            rebuilding = asyncio.create_task(host.replay.rebuild(DUES))
            await until(partial(waits_for_a_lock, host, "rebuild"))
            await transaction.commit()
        await rebuilding
        verdict = await host.replay.verify(DUES)
        assert verdict.equal
        assert verdict.rows == 0


QUEUES = View("counts", 1, COUNTS.row, (CaseQueued,), count, indexes=("market, last_at",))
OFFERS = replace(QUEUES, version=2, reads=(CaseQueued, CaseOffered))


async def test_a_view_that_starts_to_read_what_only_an_inline_view_read_gets_all_of_its_past(world: World) -> None:
    quiet = replace(ROUTER, views=(QUEUES,), timers=(), reactors=())
    case_id = str(uuid4())
    async with world.running(quiet) as hosts:
        changed = await hosts["router"].store.change(CASE(case_id), decision=partial(offer, SOON), actor="key:t")
        await hosts["router"].wait_for(changed.position)
    async with world.running(replace(quiet, views=(OFFERS,))) as hosts:
        kept = await hosts["router"].history(case_id)
        assert [event.data.TYPE for event in kept] == [CaseOffered.TYPE]


async def test_what_passes_by_the_old_version_during_a_rebuild_is_in_the_new_one_and_its_history(world: World) -> None:
    quiet = replace(ROUTER, views=(QUEUES,), timers=(), reactors=(), inline=())
    async with world.running(quiet) as hosts:
        host, case_id = hosts["router"], in_partition(7)
        consumer = host.views_consumer.name
        projector = Projector((OFFERS,), VOCABULARY)
        async with held_lane(host, consumer, 0):
            rebuilding = asyncio.create_task(Replay(host.database, host.log, projector, (), consumer).rebuild(OFFERS))
            await until(partial(waits_for_a_lock, host, "rebuild"))
            changed = await host.store.change(CASE(case_id), decision=partial(offer, SOON), actor="key:t")
            await host.wait_for(changed.position)
        await rebuilding
        async with host.database.readers.acquire() as conn:
            kept = await history(conn, CASES, [case_id], VOCABULARY)
        assert [event.data.TYPE for event in kept[case_id]] == [CaseOffered.TYPE]
        assert (await row(host, case_id))["events"] == 1


class Slow:
    """A log whose readers wait to be let on."""

    def __init__(self, log: Log) -> None:
        self.log, self.reached, self.on = log, asyncio.Event(), asyncio.Event()

    def reader(self, consumer: str | None) -> Any:
        return SlowReader(self, self.log.reader(consumer))


@dataclass
class SlowReader:
    slow: Slow
    reader: Any

    async def fetch(self, *args: Any, **more: Any) -> Any:
        self.slow.reached.set()
        await self.slow.on.wait()
        return await self.reader.fetch(*args, **more)

    async def close(self) -> None:
        await self.reader.close()


async def test_readers_do_not_wait_while_a_view_is_verified_and_rebuilt_at_once(world: World) -> None:
    async with world.running(INTAKE) as hosts:
        host, case_id = hosts["intake"], str(uuid4())
        await send(host, made([queued()], case_id, "router"))
        await until(partial(has, host, case_id, 1))
        slow: Any = Slow(host.log)
        verifying = asyncio.create_task(
            Replay(host.database, slow, host.projector, (), host.views_consumer.name).verify(COUNTS)
        )
        await slow.reached.wait()
        rebuilding = asyncio.create_task(host.replay.rebuild(COUNTS))
        await until(partial(waits_for_a_lock, host, "rebuild"))
        async with asyncio.timeout(2):
            assert (await row(host, case_id))["events"] == 1
        slow.on.set()
        assert (await verifying).equal
        await rebuilding


# -------------------------------------------------------------------------------------------------------------- kafka


@pytest.mark.broker
async def test_a_producer_whose_broker_is_gone_leaves_nothing_running_behind(tmp_path: Path) -> None:
    unused: Any = None  # Kafka appends in no transaction
    with Broker.start(tmp_path / "kafka") as broker:
        log = KafkaLog(broker.bootstrap, "gone")
        log.send_within_s, log.stop_within_s = 1.0, 0.5
        await log.start()
        await log.append(unused, made([queued()], str(uuid4()), "router"))
    with pytest.raises(RelayFailed):
        await log.append(unused, made([queued()], str(uuid4()), "router"))
    senders = [task for task in asyncio.all_tasks() if "Sender._sender_routine" in repr(task)]
    await log.stop()
    assert senders == []


@pytest.mark.broker
async def test_a_reader_whose_broker_is_gone_is_not_ended_by_its_client_and_reads_on(tmp_path: Path) -> None:
    """aiokafka's stop lets a CancelledError out that nobody asked for; a consumer would end by it, and silently."""
    unused: Any = None
    record, lane = made([queued()], str(uuid4()), "router")[0], (CASES, 0)
    with Broker.start(tmp_path / "kafka") as broker:
        log = KafkaLog(broker.bootstrap, "back")
        log.send_within_s, log.stop_within_s = 1.0, 0.5
        await log.start()
        await log.append(unused, [record._replace(partition=0)])
        reader = log.reader("intake.views")

        async def reads() -> Any:
            with suppress(Unavailable):
                return await reader.fetch({lane: 0}, 10, wait_s=0.2)

        assert await until(reads)
        broker.stop()

        async def closes() -> bool:
            await reads()
            await reader.close()
            return True

        for _ in range(3):
            assert await until(closes)
        await log.stop()


async def test_a_part_that_ends_though_nobody_stopped_the_host_is_said(world: World) -> None:
    async with world.running(INTAKE) as hosts:
        host = without_projector(hosts["intake"])

        async def said() -> bool:
            return host.died is not None and "intake views ended" in host.died

        await until(said)


@pytest.mark.broker
async def test_a_client_that_is_not_answered_asks_again_on_another_connection(tmp_path: Path) -> None:
    """Whoever gives up before the client's own time is over leaves it on a line whose other end is gone, where it would
    ask for ever."""
    port, at = free_port(), {(CASES, 0): (0, datetime.now(UTC))}
    async with Line.to(partial(asyncio.open_connection, "127.0.0.1", port)) as line:
        told = f"\nadvertised.listeners=BROKER://127.0.0.1:{line.port}\n"
        with Broker.start(tmp_path / "kafka", port=port, properties=told):
            log = KafkaLog(f"127.0.0.1:{line.port}", "hidden")
            log.answer_within_s = log.stop_within_s = 1.0
            await log.start()
            reader = log.reader("intake.views")

            async def answered() -> bool:
                with suppress(Unavailable):
                    await asyncio.gather(log.ends(), reader.hint(at), log.progress("views"))
                    return True
                return False

            await until(answered)
            assert line.half_open()
            with pytest.raises(Unavailable):
                await log.ends()
            with pytest.raises(Unavailable):
                await reader.hint(at)
            await until(answered, limit_s=10)
            await reader.close()
            await log.stop()


async def test_whoever_writes_to_a_connection_that_is_closed_already_hears_that_kafka_is_away(kafka: str) -> None:
    """uvloop has closed it, and the client does not know yet (aiokafka #1038): its reader is told in the loop's next
    round."""
    namespace, at = f"t{uuid4().hex[:10]}", {(CASES, 0): (0, datetime.now(UTC))}
    log = KafkaLog(kafka, namespace)
    await log.start()
    reader = log.reader("intake.views")

    async def answered(ask: Any) -> bool:
        with suppress(Unavailable):
            await ask()
            return True
        return False

    try:
        for ask in (log.ends, partial(reader.hint, at), partial(log.progress, "views")):
            await until(partial(answered, ask))
            for client in (log._asking, log._admin):
                assert client is not None
                for connection in client._client._conns.values():
                    connection._reader = asyncio.StreamReader()
                    connection._writer.transport.abort()
            await asyncio.sleep(0)
            with pytest.raises(Unavailable):
                await ask()
            await until(partial(answered, ask))
    finally:
        await reader.close()
        await log.stop()
        await delete_topics(kafka, namespace)
