"""Recovery, as docs/operating.md has it: a store or a log that is lost or older than the other is brought up to it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from events.errors import Invalid, Reused
from events.event import CASES
from events.kafka_log import KafkaLog
from events.log import Lane, Log
from events.postgres_log import PostgresLog
from events.recovery import Recovered
from events.store import Once
from events.wire import PARTITIONS, Record
from services.runtime import Host
from services.runtime.app import _metrics as metrics
from services.runtime.broker import Broker
from services.runtime.postgres import EmbeddedPostgres
from tests.backups import copy, dump, execute, lose, restore
from tests.conftest import Engine, delete_topics
from tests.events.conftest import World
from tests.events.test_log import read_all
from tests.events.toy import CASE, INTAKE, in_partition, offer, open_case, resolve
from tests.until import until

LONG = timedelta(hours=1)

ONCE = Once("key:t POST /toys", "the first", b"fingerprint", {"case_id": "1"})


async def opened(host: Host, n: int = 8, **more: Any) -> list[str]:
    """Cases that were opened and answered: one in each partition from the first on."""
    cases = [in_partition(i % PARTITIONS) for i in range(n)]
    opening = [host.store.change(CASE(case_id), decision=open_case, actor="key:t", **more) for case_id in cases]
    await asyncio.gather(*opening)
    return cases


async def settled(hosts: dict[str, Host], limit_s: float = 20) -> None:
    """Until everything recorded is on the log and everybody has handled it; nothing moved while we looked."""

    async def at_once() -> bool:
        ends = await next(iter(hosts.values())).log.ends()
        for host in hosts.values():
            rows = await host.database.readers.fetch("select topic, partition, next_offset from lane")
            if any(row["next_offset"] < ends.get((row["topic"], row["partition"]), 0) for row in rows):
                return False
        unsent = [await host.database.readers.fetchval("select count(*) from outbox") for host in hosts.values()]
        return not any(unsent) and ends == await next(iter(hosts.values())).log.ends()

    await until(at_once, limit_s=limit_s)


async def says(host: Host) -> list[tuple[str, ...]]:
    """Everything the log says, whatever the order of the lanes; repeats too."""
    return sorted(said(r) for r in await read_all(host.log))


def said(r: Record) -> tuple[str, ...]:
    return (r.source, r.topic, r.subject, f"{r.sequence:09}", r.id, r.type, r.recorded_at.isoformat(), r.data)


async def without_relay(host: Host) -> None:
    """From here on the outbox keeps what is appended."""
    (relay,) = [task for task in host._tasks if task.get_name() == f"{host.service.name} relay"]
    relay.cancel()
    await asyncio.gather(relay, return_exceptions=True)


async def events_of(host: Host) -> list[Any]:
    return await host.database.readers.fetch("select * from events")


async def everything_is_equal(hosts: dict[str, Host]) -> None:
    """The log is what the stores hold, each event once to whoever drops repeats; views are what a replay makes."""
    await settled(hosts)
    log = set(await says(next(iter(hosts.values()))))
    stored = {
        (name, *(str(row[column]) for column in ("topic", "subject")), f"{row['sequence']:09}", str(row["id"]))
        for name, host in hosts.items()
        for row in await events_of(host)
    }
    assert {record[:5] for record in log} == stored
    for host in hosts.values():
        heads = await host.database.readers.fetch(
            "select s.version, (select count(*) from events e where (e.topic, e.subject) = (s.topic, s.subject)) as n"
            " from stream s"
        )
        assert all(row["version"] == row["n"] for row in heads)
        assert not await host.database.readers.fetchval("select count(*) from parked")
        for view in host.replay.named("all"):
            verdict = await host.replay.verify(view)
            assert verdict.equal, verdict


# ---------------------------------------------------------------------------------------------- what gets lost, and how


async def lose_log(engine: Engine) -> None:
    if engine.kafka is None:
        await execute(engine, "drop schema log cascade")
    else:
        await delete_topics(engine.kafka, engine.namespace)


STORE = ("events", "stream", "outbox", "relayed")

KEEP = "create schema older;" + "".join(f"create table older.{t} as table intake.{t};" for t in STORE)

PUT_BACK = (
    "begin;"
    + "".join(f"lock table intake.{t}; delete from intake.{t}; insert into intake.{t} table older.{t};" for t in STORE)
    + "commit; select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'casewalk:intake:%'"
)
"""The store as a stand-by that was behind would have it. The readers' places stay: theirs went on for a moment."""


def log_of(engine: Engine) -> Log:
    if engine.kafka is None:
        return PostgresLog(engine.dsn)
    return KafkaLog(engine.kafka, engine.namespace)


async def older_log(engine: Engine, records: Sequence[Record]) -> None:
    """The log again, with only these records."""
    await lose_log(engine)
    log = log_of(engine)
    await log.start()
    conn = await asyncpg.connect(engine.dsn)
    try:
        async with conn.transaction():
            await log.append(conn, records)
    finally:
        await conn.close()
        await log.stop()


def lane_of(r: Record) -> Lane:
    return (r.topic, r.partition)


def columns(records: Iterable[Record]) -> tuple[list[str], list[int]]:
    """The subjects and the sequences."""
    chosen = list(records)
    return [r.subject for r in chosen], [r.sequence for r in chosen]


def first_half(records: Sequence[Record]) -> list[Record]:
    """The first half of every lane."""
    length = Counter(map(lane_of, records))
    return [r for r in records if r.offset < length[lane_of(r)] // 2]


# ------------------------------------------------------------------------------------------------------- a lost store


@pytest.mark.parametrize("service", ["intake", "router"])
async def test_a_service_restored_from_its_backup_is_brought_up_to_the_log(
    world: World, service: str, tmp_path: Path
) -> None:
    async with world.running() as hosts:
        before = await opened(hosts["intake"])
        await settled(hosts)
    dump(world.engine, service, tmp_path / "backup")
    async with world.running() as hosts:
        for case_id in before:
            await hosts["intake"].store.change(CASE(case_id), decision=resolve, actor="key:t")
            await hosts["router"].store.change(CASE(case_id), decision=partial(offer, LONG), actor="key:t")
        await opened(hosts["intake"])
        await settled(hosts)
        log = await says(hosts["intake"])
    await lose(world.engine, service)
    restore(world.engine, tmp_path / "backup")
    async with world.running() as hosts:
        await everything_is_equal(hosts)
        assert await says(hosts["intake"]) == log, "nothing was said again, and nothing else"
        await opened(hosts["intake"])
        await everything_is_equal(hosts)


async def test_without_a_backup_the_log_alone_brings_back_every_event_and_view(world: World) -> None:
    async with world.running() as hosts:
        for case_id in await opened(hosts["intake"]):
            await hosts["intake"].store.change(CASE(case_id), decision=resolve, actor="key:t")
        (once,) = await opened(hosts["intake"], 1, once=ONCE)
        await settled(hosts)
        log = await says(hosts["intake"])
    await lose(world.engine, "intake")
    async with world.running() as hosts:
        await everything_is_equal(hosts)
        assert await says(hosts["intake"]) == log
        with pytest.raises(Reused):  # what was answered is not known any more, but nothing happens twice
            await opened(hosts["intake"], 1, once=ONCE)
        assert len(await hosts["intake"].store.events(CASES, once)) == 1


async def test_only_what_was_still_in_the_lost_outbox_is_lost(world: World) -> None:
    """How many events that was, and since when, metrics have told."""
    async with world.running() as hosts:
        await opened(hosts["intake"])
        await settled(hosts)
        await without_relay(hosts["intake"])
        began = datetime.now(UTC)
        unsent = await opened(hosts["intake"], 3)
        page = (await metrics([hosts["intake"]])).decode()
        told = {sample.name: sample.value for family in families(page) for sample in family.samples}
        assert told["casewalk_outbox_rows"] == len(unsent)
        assert 0 < told["casewalk_outbox_age_seconds"] < (datetime.now(UTC) - began).total_seconds()
        known = {record[2] for record in await says(hosts["intake"])}
    await lose(world.engine, "intake")
    async with world.running() as hosts:
        await everything_is_equal(hosts)
        cases = {row["subject"] for row in await hosts["intake"].database.readers.fetch("select subject from stream")}
        assert cases == known
        assert not cases & set(unsent)


async def test_a_process_whose_database_came_back_as_an_older_one_ends(world: World) -> None:
    async with world.running() as hosts:
        await opened(hosts["intake"])
        await settled(hosts)
        await execute(world.engine, KEEP)
        await opened(hosts["intake"])
        await settled(hosts)
        await execute(world.engine, PUT_BACK)
        await asyncio.wait_for(hosts["intake"].part_ended.wait(), 20)
        assert "events of intake that its database lacks" in str(hosts["intake"].died)
    async with world.running() as hosts:
        await everything_is_equal(hosts)


async def test_what_was_said_again_on_an_older_state_gives_way_to_what_the_log_says(world: World) -> None:
    async with world.running() as hosts:
        await opened(hosts["intake"])
        await settled(hosts)
        log = await says(hosts["intake"])
    await execute(
        world.engine, "delete from router.relayed; update router.events set recorded_at = recorded_at + interval '1 s'"
    )
    async with world.running() as hosts:
        await everything_is_equal(hosts)
        assert await says(hosts["intake"]) == log
        times = {row["recorded_at"].isoformat() for row in await events_of(hosts["router"])}
        assert times == {record[6] for record in log if record[0] == "router"}


async def test_a_service_that_went_on_from_an_older_state_is_told_to_restore_again(
    world: World, tmp_path: Path
) -> None:
    async with world.running() as hosts:
        (case_id,) = await opened(hosts["intake"], 1)
        await settled(hosts)
    dump(world.engine, "intake", tmp_path / "backup")
    async with world.running() as hosts:
        await hosts["intake"].store.change(CASE(case_id), decision=resolve, actor="key:t")
        await settled(hosts)
    await lose(world.engine, "intake")
    restore(world.engine, tmp_path / "backup")
    await execute(
        world.engine,
        "insert into intake.events select topic, subject, sequence + 1, gen_random_uuid(), type, occurred_at,"
        " recorded_at, actor, correlation_id, causation_id, traceparent, data from intake.events where sequence = 1",
    )
    with pytest.raises(Invalid, match="on an older state than the log's"):
        async with world.running():
            pass


# --------------------------------------------------------------------------------------------------------- a lost log


async def test_a_lost_log_is_refilled_from_the_services_own_events(world: World) -> None:
    async with world.running() as hosts:
        cases = await opened(hosts["intake"])
        await settled(hosts)
        log = await says(hosts["intake"])
        await without_relay(hosts["intake"])
        for case_id in cases:  # an outbox that has something left: what was sent before must be sent before again
            await hosts["intake"].store.change(CASE(case_id), decision=resolve, actor="key:t")
    await lose_log(world.engine)
    async with world.running(INTAKE) as hosts:  # the other one comes later: places of the old log mean nothing
        await settled(hosts)
    async with world.running() as hosts:
        await everything_is_equal(hosts)
        refilled = await says(hosts["intake"])
        assert set(log) < set(refilled)
        assert len(refilled) == len(log) + len(cases), "each once"
        await opened(hosts["intake"])
        await everything_is_equal(hosts)


async def test_a_log_older_than_the_services_gets_what_it_lacks(world: World) -> None:
    async with world.running() as hosts:
        await opened(hosts["intake"], 40)
        await settled(hosts)
        log = await says(hosts["intake"])
        records = await read_all(hosts["intake"].log)
    await older_log(world.engine, first_half(records))
    async with world.running() as hosts:
        await everything_is_equal(hosts)
        assert await says(hosts["intake"]) == log
        await opened(hosts["intake"])
        await everything_is_equal(hosts)


async def test_another_log_that_is_no_shorter_is_noticed(world: World) -> None:
    async with world.running() as hosts:
        await opened(hosts["intake"], 40)
        await settled(hosts)
        log = await says(hosts["intake"])
        half = first_half(await read_all(hosts["intake"].log))
    await older_log(world.engine, [*half, *half, *half])
    async with world.running() as hosts:
        await everything_is_equal(hosts)
        assert set(await says(hosts["intake"])) == set(log)


async def test_what_was_sent_before_a_crash_leaves_the_outbox(world: World) -> None:
    """The relay died between sending and saying so, and the readers beside it were faster than its end."""
    async with world.running(INTAKE) as hosts:
        host = hosts["intake"]
        await opened(host)
        await settled(hosts)
        relayed = await host.database.readers.fetch("select * from relayed")
        await opened(host)
        await settled(hosts)
        await without_relay(host)
        log = await says(host)
        sent = {(row["topic"], row["partition"]): row["next_offset"] for row in relayed}
        async with host.database.writers.acquire() as conn, conn.transaction():
            for (topic, partition), end in sent.items():
                await conn.execute(
                    "insert into outbox (topic, partition, subject, sequence, recorded_at)"
                    " select $1, $2, r.subject, r.sequence, now() from unnest($3::text[], $4::bigint[])"
                    " r (subject, sequence)",
                    topic,
                    partition,
                    *columns(
                        r for r in await read_all(host.log) if lane_of(r) == (topic, partition) and r.offset >= end
                    ),
                )
            assert await conn.fetchval("select count(*) from outbox")
            await conn.execute("delete from relayed")
            await conn.executemany("insert into relayed values ($1, $2, $3, $4)", [tuple(row) for row in relayed])
        assert await host.recovery.run(adopt=False) == Recovered(0, 0, frozenset())
        assert not await host.database.readers.fetchval("select count(*) from outbox")
    async with world.running(INTAKE) as hosts:
        assert await says(hosts["intake"]) == log


async def test_a_start_after_which_nothing_is_missing_changes_nothing(world: World) -> None:
    async with world.running() as hosts:
        await opened(hosts["intake"])
        await settled(hosts)
    async with world.running() as hosts:
        for host in hosts.values():
            assert await host.recovery.run(adopt=True) == Recovered(0, 0, frozenset())


# ------------------------------------------------------------------------------------------- a broker, a data directory


async def test_a_broker_that_lost_its_disk_is_refilled(kafka: str, database: str, tmp_path: Path) -> None:
    """As docs/operating.md has it, except that nobody stopped the services before."""
    with Broker.start(tmp_path / "kafka") as broker:
        world = World(Engine("kafka", database, broker.bootstrap, "lost"), tmp_path)
        async with world.running() as hosts:
            await opened(hosts["intake"])
            await settled(hosts)
            log = await says(hosts["intake"])
            broker.kill()
            shutil.rmtree(tmp_path / "kafka" / "node-1" / "data")
            during = await opened(hosts["intake"], 3)
        broker.restart()
        async with world.running() as hosts:
            await everything_is_equal(hosts)
            refilled = await says(hosts["intake"])
            assert set(log) < set(refilled)
            assert {record[2] for record in refilled} > set(during)
            assert len(refilled) == len(set(refilled))


async def test_a_data_directory_put_back_as_it_was_is_brought_up_to_the_log(kafka: str, tmp_path: Path) -> None:
    """A cold copy has the system identifier and the timeline of the database it replaces: only the log can tell."""
    namespace = f"copy{uuid4().hex[:8]}"
    directory = Path(tempfile.mkdtemp(prefix="casewalk-"))
    try:
        world = partial(_copied, directory / "postgres", kafka, namespace, tmp_path)
        async with world() as hosts:
            await opened(hosts["intake"])
            await settled(hosts)
        copy(directory / "postgres", directory / "backup")
        async with world() as hosts:
            await opened(hosts["intake"])
            await settled(hosts)
            log = await says(hosts["intake"])
        shutil.rmtree(directory / "postgres")
        copy(directory / "backup", directory / "postgres")
        async with world() as hosts:
            await everything_is_equal(hosts)
            assert await says(hosts["intake"]) == log
    finally:
        shutil.rmtree(directory)
        await delete_topics(kafka, namespace)


@asynccontextmanager
async def _copied(directory: Path, kafka: str, namespace: str, data: Path) -> AsyncIterator[dict[str, Host]]:
    with EmbeddedPostgres.start(directory) as postgres:
        postgres.create_database("casewalk")
        async with World(Engine("kafka", postgres.dsn(), kafka, namespace), data).running() as hosts:
            yield hosts
