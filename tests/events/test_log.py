"""What the log promises: no reader skips a record, none sees two of a case in the wrong order."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import AIOKafkaConnection
from confluent_kafka import Consumer as PlainConsumer
from confluent_kafka import TopicPartition

from events.case import CaseOpened, CaseResolved
from events.errors import Invalid, Unavailable
from events.event import CASES
from events.kafka_log import KafkaLog
from events.log import LANES, Log
from events.recent import RECENT, RECENT_CHARS, Recent
from events.relay import RelayFailed
from events.store import Change
from events.testing import recorded
from events.wire import Record, partition_of, record
from services.runtime import Host
from tests.conftest import Engine, delete_topics
from tests.events.conftest import World
from tests.events.test_consume import caught_up, has
from tests.events.toy import CASE, INTAKE, in_partition, open_case, resolve
from tests.given import an
from tests.until import until


async def read_all(log: Log, only: frozenset[str] | None = None, limit: int = 1000) -> list[Record]:
    """Every record of the log that it gives when asked for these types, lane after lane."""
    reader, records = log.reader(None), list[Record]()
    try:
        ends = {lane: end for lane, end in (await log.ends()).items() if end}
        for lane, end in sorted(ends.items()):
            at = 0
            while at < end:
                found = (await reader.fetch({lane: at}, limit, wait_s=1.0, only=only)).get(lane, [])
                records += [r for r in found if isinstance(r, Record)]
                at = found[-1].offset + 1 if found else at
    finally:
        await reader.close()
    return records


async def sent(host: Host) -> bool:
    return not await host.database.readers.fetchval("select count(*) from outbox")


def opening(case_id: str) -> Change:
    return Change((CASE(case_id),), open_case, "key:t")


def resolving(case_id: str) -> Change:
    return Change((CASE(case_id),), resolve, "key:t")


async def in_log(host: Host, count: int) -> bool:
    return len(await read_all(host.log)) >= count


async def test_a_record_that_commits_after_a_later_one_is_not_skipped(world: World) -> None:
    """The first interleaving of polling by serial id: T2 draws its number first and commits last."""
    async with world.running(INTAKE) as hosts:
        host, early, late = hosts["intake"], str(uuid4()), str(uuid4())
        async with host.database.writers.acquire() as one, host.database.writers.acquire() as other:
            t2 = one.transaction()
            await t2.start()
            await host.store.apply(one, [opening(early)])
            async with other.transaction():
                await host.store.apply(other, [opening(late)])
            await until(partial(in_log, host, 1))
            assert [r.subject for r in await read_all(host.log)] == [late]
            await t2.commit()
        await until(partial(in_log, host, 2))
        assert {r.subject for r in await read_all(host.log)} == {early, late}


async def test_a_stream_is_never_seen_in_another_order_than_its_own(world: World) -> None:
    """The second interleaving: T1 is older than T2 but appends to the same case after it, beside a third that stays
    open."""
    async with world.running(INTAKE) as hosts:
        host, case_id = hosts["intake"], str(uuid4())
        async with (
            host.database.writers.acquire() as one,
            host.database.writers.acquire() as other,
            host.database.writers.acquire() as third,
        ):
            t1, t3 = one.transaction(), third.transaction()
            await t1.start()
            await one.execute("insert into once values ('scope', 'takes an early transaction id', '', '{}')")
            async with other.transaction():
                await host.store.apply(other, [opening(case_id)])
            await t3.start()
            await host.store.apply(third, [opening(str(uuid4()))])
            await host.store.apply(one, [resolving(case_id)])
            await t1.commit()
            await until(partial(in_log, host, 2))
            mine = [r for r in await read_all(host.log) if r.subject == case_id]
            assert [r.sequence for r in mine] == [1, 2]
            await t3.commit()


async def test_offsets_are_gapless_and_each_case_in_order_under_parallel_writers(world: World) -> None:
    async with world.running(INTAKE) as hosts:
        host = hosts["intake"]
        cases = [str(uuid4()) for _ in range(100)]

        async def live(case_id: str) -> None:
            await host.store.change(CASE(case_id), decision=open_case, actor="key:t")
            await host.store.change(CASE(case_id), decision=resolve, actor="key:t")

        await asyncio.gather(*map(live, cases))
        await until(partial(in_log, host, 200))
        records = await read_all(host.log)
        assert len({r.id for r in records}) == 200
        for case_id in cases:
            mine = [r for r in records if r.subject == case_id]
            assert [r.sequence for r in mine] == [1, 2]
            assert {r.partition for r in mine} == {partition_of(case_id)}
        for lane in LANES:
            offsets = [r.offset for r in records if (r.topic, r.partition) == lane]
            assert offsets == list(range(len(offsets)))


async def test_a_reader_of_some_types_gets_these_and_how_far_each_lane_was_read(world: World) -> None:
    async with world.running(INTAKE) as hosts:
        host = hosts["intake"]
        for case_id in [str(uuid4()) for _ in range(30)]:
            await host.store.change(CASE(case_id), decision=open_case, actor="key:t")
            await host.store.change(CASE(case_id), decision=resolve, actor="key:t")
        await until(partial(in_log, host, 60))
        records = await read_all(host.log)
        last = {r.partition: r for r in records}
        for wanted in (frozenset({CaseOpened.TYPE}), frozenset({CaseResolved.TYPE}), frozenset[str]()):
            given = await read_all(host.log, wanted)
            assert given == [r for r in records if r.type in wanted or r is last[r.partition]]
            by_twos = await read_all(host.log, wanted, limit=2)
            assert [r for r in by_twos if r.type in wanted] == [r for r in records if r.type in wanted]


async def test_what_a_clock_that_was_hours_ahead_recorded_reaches_the_log(world: World) -> None:
    """A broker refuses timestamps that are more than an hour ahead of its own clock."""
    async with world.running(INTAKE) as hosts:
        host, case_id = hosts["intake"], str(uuid4())
        await host.store.change(CASE(case_id), decision=open_case, actor="key:t")
        await host.database.writers.execute("update stream set recorded_at = recorded_at + interval '3 hours'")
        (ahead,) = (await host.store.change(CASE(case_id), decision=resolve, actor="key:t")).events
        await until(partial(sent, host))
        assert [r.recorded_at for r in await read_all(host.log) if r.id == ahead.id] == [ahead.recorded_at]


async def test_a_plain_librdkafka_consumer_reads_our_records(kafka: str, database: str, tmp_path: Any) -> None:
    """Somebody else's client, nothing of ours: key, partition, CloudEvents headers, JSON value."""
    world = World(Engine("kafka", database, kafka, f"plain{uuid4().hex[:8]}"), tmp_path)
    async with world.running(INTAKE) as hosts:
        case_id = str(uuid4())
        changed = await hosts["intake"].store.change(CASE(case_id), decision=open_case, actor="key:t")
        await until(partial(sent, hosts["intake"]))
        message = await asyncio.to_thread(_consume_one, kafka, world.engine.namespace + CASES)
        headers = {name: value.decode() for name, value in message.headers()}
        assert message.key().decode() == case_id
        assert message.partition() == partition_of(case_id)
        assert headers["ce_id"] == changed.events[0].id
        assert headers["ce_type"] == "casewalk.case.opened.v1"
        assert headers["ce_source"] == "urn:casewalk:intake"
        assert headers["ce_sequence"] == "00000000000000000001"
        assert b'"market":"de"' in message.value()
        assert b"parcel" not in message.value(), "personal text is sealed"
    await delete_topics(kafka, world.engine.namespace)


def _consume_one(bootstrap: str, topic: str) -> Any:
    consumer = PlainConsumer({"bootstrap.servers": bootstrap, "group.id": uuid4().hex, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, p, 0) for p in range(12)])
        for _ in range(30):
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                return message
        raise AssertionError("nothing arrived in 30 s")
    finally:
        consumer.close()


@pytest.mark.parametrize(
    ("partitions", "configs", "why"),
    [
        (3, {"retention.ms": "-1"}, "3 partitions"),
        (12, {"retention.ms": "-1", "cleanup.policy": "compact"}, "cleanup.policy=compact"),
        (12, {"retention.ms": "86400000"}, "retention.ms=86400000"),
    ],
)
async def test_a_topic_that_would_lose_or_mix_history_is_refused(
    kafka: str, partitions: int, configs: dict[str, str], why: str
) -> None:
    namespace = f"bad{uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(namespace + CASES, partitions, 1, topic_configs=configs)])
        log = KafkaLog(kafka, namespace)
        with pytest.raises(Invalid, match=why):
            await log.start()
        await log.stop()
    finally:
        await admin.delete_topics([t for t in await admin.list_topics() if t.startswith(namespace)])
        await admin.close()


async def test_topics_that_one_lost_broker_takes_along_are_warned_of(kafka: str) -> None:
    """The run's broker is alone, so every topic has the one copy; `faults/test_brokers.py` has three."""
    namespace = f"few{uuid4().hex[:8]}"
    log = KafkaLog(kafka, namespace)
    assert not log.warnings()
    await log.start()
    await log.stop()
    copies, in_sync = f"{namespace}{CASES} has 1 of 3 copies", f"{namespace}{CASES} has min.insync.replicas=1, not 2"
    assert [len([warning for warning in log.warnings() if why in warning]) for why in (copies, in_sync)] == [1, 1]
    assert len(log.warnings()) == 4, "two topics hold history"
    await delete_topics(kafka, namespace)


async def test_readers_of_one_process_that_share_what_was_fetched_read_what_the_log_holds(world: World) -> None:
    """From wherever each of them begins, and as far as the log goes, also where it was read far ahead before."""
    async with world.running(INTAKE) as hosts:
        log, store = hosts["intake"].log, hosts["intake"].store
        cases = [str(uuid4()) for _ in range(60)]
        for case_id in cases:
            await store.change(CASE(case_id), decision=open_case, actor="key:t")
        await until(lambda: in_log(hosts["intake"], len(cases)))
        whole = {(r.topic, r.partition, r.offset): r for r in await read_all(log)}
        ends = await log.ends()
        for begin in (0, 1, 2, 0):
            at = {lane: min(begin, end) for lane, end in ends.items() if end}
            wanted = {key for key in whole if key[2] >= begin}
            reader, found = log.reader(f"sharing {uuid4()}"), dict[tuple[str, int, int], Record]()
            while len(found) < len(wanted):
                for lane, records in (await reader.fetch(at, 8, wait_s=1.0)).items():
                    found |= {(*lane, r.offset): r for r in records if isinstance(r, Record)}
                    at[lane] = records[-1].offset + 1
            await reader.close()
            assert found == {key: whole[key] for key in wanted}


async def test_a_reader_misses_nothing_and_reads_nothing_twice_whenever_the_log_forgets(world: World) -> None:
    async with world.running(INTAKE) as hosts:
        log, records = hosts["intake"].log, 0
        reader = log.reader("intake.other")
        at, read = dict.fromkeys(LANES, 0), list[Record]()

        async def read_on() -> bool:
            with suppress(Unavailable):
                for lane, found in (await reader.fetch(at, 1000, wait_s=0.1)).items():
                    at[lane] = found[-1].offset + 1
                    read.extend(r for r in found if isinstance(r, Record))
            return len(read) >= records

        for _ in range(4):
            for _ in range(20):
                await hosts["intake"].store.change(CASE(str(uuid4())), decision=open_case, actor="key:t")
                records += 1
                await read_on()
            await log.forget()
        await until(read_on)
        by_lane = sorted(read, key=lambda r: (r.topic, r.partition))  # stable: each lane as it was read
        assert by_lane == await read_all(log)
        await reader.close()


def test_what_was_fetched_is_forgotten_beyond_a_bound_and_never_given_across_a_gap() -> None:
    lane = (CASES, 3)

    def fetched(*offsets: int, data: str = "{}") -> dict[tuple[str, int], list[Record]]:
        like = record(recorded(an(CaseOpened)))
        return {lane: [like._replace(partition=3, offset=offset, data=data) for offset in offsets]}

    def kept(start: int, end: int) -> list[int]:
        found, behind = recent.of({lane: start}, end - start)
        assert (lane in found) != (behind == {lane: start})
        return [record.offset for record in found.get(lane, ())]

    recent = Recent()
    recent.ends = {lane: 100 + RECENT}
    recent.add(fetched(5, 6, 8))
    assert kept(5, 9) == [5, 6]
    assert kept(7, 9) == []
    recent.add(fetched(9, 10, data="x" * (RECENT_CHARS // 2)))
    assert kept(9, 11) == [9, 10]
    recent.add(fetched(11))
    assert [kept(offset, offset + 1) for offset in (8, 9, 10, 11)] == [[], [], [10], [11]]
    recent.add(fetched(*range(100, 100 + RECENT)))
    assert kept(5, 9) == []
    assert len(kept(100, 200 + RECENT)) == RECENT
    recent.forget()
    assert kept(100, 101) == []


async def test_consumers_are_handed_what_the_log_holds(world: World) -> None:
    """Embedded, a process's own relay hands it to them; on Kafka, one client does."""
    async with world.running(INTAKE) as hosts:
        host, cases = hosts["intake"], [str(uuid4()) for _ in range(20)]
        reader = host.log.reader("intake.views")
        for decision in (open_case, resolve):
            for case_id in cases:
                await host.store.change(CASE(case_id), decision=decision, actor="key:t")
        await until(partial(sent, host))
        await until(partial(caught_up, host, "intake.views"))
        ends = {lane: end for lane, end in (await host.log.ends()).items() if end}
        handed = [r for lane in sorted(ends) for r in (await reader.fetch({lane: 0}, 1000, wait_s=5))[lane]]
        await reader.close()
        assert handed == await read_all(host.log)


async def test_what_is_kept_of_another_log_is_not_read_by_whoever_is_started_over(kafka: str, database: str) -> None:
    """Another process has found the other log; the client of this one may go on in it without an error."""
    namespace, lane = f"t{uuid4().hex[:10]}", (CASES, 3)
    log = KafkaLog(kafka, namespace)
    await log.start()
    conn = await asyncpg.connect(database)
    like = record(recorded(an(CaseOpened)))._replace(partition=3)
    reader, there = log.reader("intake.views"), [like._replace(sequence=n, id=str(uuid4())) for n in (1, 2, 3)]
    at = 0

    async def read() -> list[str]:
        with suppress(Unavailable):
            return [r.id for r in (await reader.fetch({lane: at}, 10, wait_s=0.5)).get(lane, [])]
        return []

    try:
        await log.append(conn, there)
        assert await until(read) == [r.id for r in there]
        log._tail.recent.add({lane: [like._replace(offset=n, id=str(uuid4())) for n in range(3)]})
        at = 3
        assert await read() == []
        at = 0
        assert await until(read) == [r.id for r in there]
    finally:
        await reader.close()
        await conn.close()
        await log.stop()
        await delete_topics(kafka, namespace)


async def test_whatever_ends_the_client_that_follows_the_log_the_next_one_goes_on(
    kafka: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, failed = World(Engine("kafka", database, kafka, f"t{uuid4().hex[:10]}"), tmp_path), list[bytes | None]()
    async with world.running() as hosts:
        case_id = str(uuid4())

        def fail(mark: bytes | None) -> None:
            failed.append(mark)
            raise RuntimeError("for the test")

        async def has_failed() -> bool:
            return bool(failed)

        with monkeypatch.context() as patch:
            patch.setattr(hosts["intake"].log._tail, "_note_mark", fail)  # type: ignore[attr-defined]
            await until(has_failed)
        await hosts["intake"].store.change(CASE(case_id), decision=open_case, actor="key:t")
        await until(partial(has, hosts["router"], case_id, 2))


async def test_what_one_service_cannot_send_holds_up_no_other_of_its_process(kafka: str, database: str) -> None:
    """And it sends again afterwards: a client that failed may stay dead, so another one is made."""
    namespace = f"t{uuid4().hex[:10]}"
    log = KafkaLog(kafka, namespace)
    await log.start()
    conn = await asyncpg.connect(database)

    async def send(source: str) -> int:
        event = recorded(an(CaseOpened), subject=in_partition(["intake", "router"].index(source)))
        return sum((await log.append(conn, [record(event)._replace(source=source)])).values())

    try:
        assert await log.append(conn, []) == {}
        assert await send("intake") == await send("router") == 1
        await log._producers["intake"].stop()
        assert await send("router") >= 1
        with pytest.raises(RelayFailed):
            await send("intake")
        assert await send("intake") >= 1
        assert len(await read_all(log)) == 4
    finally:
        await conn.close()
        await log.stop()
        await delete_topics(kafka, namespace)


async def test_a_reader_that_is_cancelled_while_it_connects_leaves_no_connection_open(kafka: str) -> None:
    namespace = f"t{uuid4().hex[:10]}"
    log = KafkaLog(kafka, namespace)
    await log.start()
    await log.ends()
    known = open_connections()
    for halves_of_ms in range(80):
        reader = log.reader("cut short")
        fetching = asyncio.create_task(reader.fetch({LANES[0]: 0}, 1))
        await asyncio.sleep(halves_of_ms / 2000)
        fetching.cancel()
        await asyncio.wait([fetching])
        await reader.close()

    async def closed() -> bool:
        return not [connection for connection in open_connections() if connection not in known]

    await until(closed)
    await log.stop()
    await delete_topics(kafka, namespace)


def open_connections() -> list[AIOKafkaConnection]:
    """Of every client in this process, also of those that nobody knows any more."""
    return [thing for thing in gc.get_objects() if isinstance(thing, AIOKafkaConnection) and thing.connected()]
