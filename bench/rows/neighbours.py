"""Beside libraries others would take: `eventsourcing` appends and reads, `faststream` consumes; the same events, the
same PostgreSQL and broker. Left out where they are not installed: `make bench` has an environment with them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from statistics import median
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

from bench.ground import EMBEDDED, KAFKA, Engine, Ground, until
from bench.history import BEGAN
from bench.measure import in_turns, rate, watching
from bench.report import Row
from bench.rows.projecting import consumed, emptied, fill
from events.case import CaseQueued, Priority, UnitKind
from events.event import CASES
from events.store import Store
from events.views import rows
from events.views.project import by_subject, fold
from events.wire import VOCABULARY, Record, from_kafka
from services.metrics.service import SERVICE as METRICS
from services.metrics.views import CASE_FACTS
from services.router.service import SERVICE as ROUTER
from services.router.work import CASE
from services.runtime import Host

ROUNDS = 3
WRITERS = 64
LONG = 10
"""Events of a stream that is read."""

QUEUED = CaseQueued(
    queue_id="general", unit_id="general", unit_kind=UnitKind.FRONT_END, routing_table="main@1", rule="default",
    priority=Priority.NORMAL, reason="routed", channel="email", market="de", language="de", journey="delivery",
)  # fmt: skip


async def measure(ground: Ground, sizes: list[int]) -> AsyncIterator[Row]:
    """Nothing is promised here: the rows say where we stand."""
    if find_spec("eventsourcing"):
        for events in sizes:
            async with ground.engine(EMBEDDED) as engine, ground.host(replace(ROUTER, inline=()), engine) as host:
                async for row in _appends_and_reads(ground, engine, host, events):
                    yield row
    if find_spec("faststream") and ground.broker is not None:
        for events in sizes:
            async with ground.engine(KAFKA) as engine, ground.host(METRICS, engine) as host:
                yield await _consumes(ground, engine, host, await fill(host, events))


# ---------------------------------------------------------------------------------------------------- append and read


async def _appends_and_reads(ground: Ground, engine: Engine, host: Host, events: int) -> AsyncIterator[Row]:
    theirs = await asyncio.to_thread(_their_cases, engine.dsn)
    committing = asyncio.create_task(host.store.run())
    try:
        for writers, count in ((1, events // 20), (WRITERS, events // 5)):
            async with watching(_both(ground)) as watched:
                row = await _append_row(host.store, theirs, writers, count, events)
            yield replace(row, memory=watched.memory)
        async with watching(_both(ground)) as watched:
            row = await _read_row(host.store, theirs, max(20, events // 100), events)
        yield replace(row, memory=watched.memory)
    finally:
        committing.cancel()
        await asyncio.to_thread(theirs.close)


def _both(ground: Ground) -> dict[str, int]:
    """The libraries run in this process, as we do."""
    return ground.pids(**{"bench with both": os.getpid()})


async def _append_row(store: Store, theirs: TheirCases, writers: int, count: int, events: int) -> Row:
    with ThreadPoolExecutor(writers) as threads:
        pairs = await in_turns(
            ROUNDS,
            lambda: rate(count, _append(store, writers, count)),
            lambda: rate(count, _in_threads(threads, theirs.append, count)),
        )
    return Row(
        f"append one durable event to a new stream, {writers} at a time",
        f"{events:,} events",
        EMBEDDED,
        f"{median(pairs.subject):,.0f}/s",
        f"eventsourcing: {median(pairs.yardstick):,.0f}/s",
        pairs.spread,
    )


async def _read_row(store: Store, theirs: TheirCases, count: int, events: int) -> Row:
    our_streams = [await _long(store) for _ in range(count)]
    their_streams = await asyncio.to_thread(lambda: [theirs.long() for _ in range(count)])

    async def read() -> None:
        for case_id in our_streams:
            _, version = await store.state(CASE(case_id))
            assert version == LONG

    def read_theirs() -> None:
        for case_id in their_streams:
            assert theirs.version(case_id) == LONG

    pairs = await in_turns(
        ROUNDS,
        lambda: rate(count * LONG, read()),
        lambda: rate(count * LONG, asyncio.to_thread(read_theirs)),
    )
    return Row(
        f"read and fold a stream of {LONG} events",
        f"{events:,} events",
        EMBEDDED,
        f"{median(pairs.subject):,.0f} events/s",
        f"eventsourcing: {median(pairs.yardstick):,.0f}/s",
        pairs.spread,
    )


async def _append(store: Store, writers: int, count: int) -> None:
    left = iter(range(count))

    async def write() -> None:
        for _ in left:
            await store.change(CASE(str(uuid4())), decision=lambda now, work: [QUEUED], actor="service:router")

    await asyncio.gather(*(write() for _ in range(writers)))


async def _long(store: Store) -> str:
    case_id = str(uuid4())
    await store.change(CASE(case_id), decision=lambda now, work: [QUEUED] * LONG, actor="service:router")
    return case_id


async def _in_threads(threads: ThreadPoolExecutor, work: Callable[[], object], count: int) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(threads, work) for _ in range(count)))


@dataclass(frozen=True)
class TheirCases:
    """The same stream as an aggregate of `eventsourcing`."""

    append: Callable[[], object]
    long: Callable[[], UUID]
    version: Callable[[UUID], int]
    close: Callable[[], None]


@cache
def _their_case() -> Any:
    """Their aggregate; made once, because they keep a class by its name and bear no second one."""
    from eventsourcing.domain import Aggregate, event

    class TheirCase(Aggregate):
        @event("Begun")
        def __init__(self, data: str, at: str) -> None:
            self.data = data

        @event("Queued")
        def queue(self, data: str, at: str) -> None:
            self.data = data

    return TheirCase


def _their_cases(dsn: str) -> TheirCases:
    from eventsourcing.application import Application

    class App(Application[UUID]):
        snapshotting_intervals = None

    data, at = QUEUED.model_dump_json(), BEGAN.isoformat()
    app = App(env=_environment(dsn))

    def long() -> UUID:
        theirs = _their_case()(data, at)
        for _ in range(LONG - 1):
            theirs.queue(data, at)
        app.save(theirs)
        made: UUID = theirs.id
        return made

    def append() -> object:
        return app.save(_their_case()(data, at))

    def version(case_id: UUID) -> int:
        theirs: Any = app.repository.get(case_id)
        return int(theirs.version)

    return TheirCases(append, long, version, app.close)


def _environment(dsn: str) -> dict[str, str]:
    parts = urlsplit(dsn)
    host = parse_qs(parts.query).get("host", [parts.hostname or ""])[0]
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path.lstrip("/"),
        "POSTGRES_HOST": host,
        "POSTGRES_PORT": str(parts.port or parse_qs(parts.query).get("port", ["5432"])[0]),
        "POSTGRES_USER": parts.username or "",
        "POSTGRES_PASSWORD": parts.password or "",
        "POSTGRES_POOL_SIZE": "20",
        "POSTGRES_MAX_OVERFLOW": str(WRITERS),
        "POSTGRES_SCHEMA": "public",
        "PATH": os.environ["PATH"],
    }


# ------------------------------------------------------------------------------------------------------------- consume


async def _consumes(ground: Ground, engine: Engine, host: Host, events: int) -> Row:
    async with watching(_both(ground)) as watched:
        pairs = await in_turns(ROUNDS, lambda: consumed(host, events), lambda: _faststream(engine, host, events))
    return Row(
        "consume, fold, upsert case_facts",
        f"{events:,} events",
        KAFKA,
        f"{median(pairs.subject):,.0f} events/s",
        f"faststream, no offsets and no repeats dropped: {median(pairs.yardstick):,.0f}/s",
        pairs.spread,
        memory=watched.memory,
    )


async def _faststream(engine: Engine, host: Host, events: int) -> float:
    """Its batch subscriber, and the same fold and upsert in a transaction per batch."""
    from faststream.kafka import KafkaBroker
    from faststream.kafka.annotations import KafkaMessage

    table, done = await emptied(host), 0
    broker = KafkaBroker(engine.kafka, logger=None)

    @broker.subscriber(engine.namespace + CASES, batch=True, max_records=500, auto_offset_reset="earliest")
    async def take(message: KafkaMessage) -> None:
        nonlocal done
        raw: Any = message.raw_message
        read = [from_kafka(CASES, r.partition, r.offset, r.key, r.headers, r.value) for r in raw]
        await _upsert(host, table, [record for record in read if isinstance(record, Record)])
        done += len(read)

    async def all_read() -> bool:
        return done >= events

    async def until_read() -> None:
        await broker.start()
        try:
            await until(all_read, 600)
        finally:
            await broker.stop()

    return await rate(events, until_read())


async def _upsert(host: Host, table: str, read: list[Record]) -> None:
    batch = by_subject(VOCABULARY.recorded(record) for record in read)
    async with host.database.writers.acquire() as conn, conn.transaction():
        saved = await rows.load(conn, CASE_FACTS, table, list(batch))
        folded = [
            fold(CASE_FACTS, group, saved[subject].row if subject in saved else None)
            for subject, group in batch.items()
        ]
        await rows.save(conn, CASE_FACTS, table, [row for row in folded if row is not None])
