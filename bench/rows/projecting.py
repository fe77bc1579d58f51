"""Log → view: consume, fold, upsert `case_facts`, against fetching and decoding the same records; and its rebuild."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from statistics import median
from time import perf_counter

import psutil

from bench.ground import EMBEDDED, KAFKA, Ground, until
from bench.history import records
from bench.measure import cpu_s, in_turns, rate, watching
from bench.report import Row
from events.consume import BATCH, Consumer
from events.event import CASES
from events.log import Lane, Log
from events.wire import ENVELOPE, VOCABULARY, Record, envelope
from services.metrics.service import SERVICE as METRICS
from services.metrics.views import CASE_FACTS
from services.runtime import Host

VIEW_RATIO, VIEW_RATE, REBUILD_RATE, FLAT = 0.15, 10_000, 20_000, 0.2
ROUNDS = 3
CHUNK = 1000
COPIED = 100_000
"""Records the COPY yardstick takes; its speed does not depend on how many."""


async def measure(ground: Ground, sizes: list[int], largest: int) -> AsyncIterator[Row]:
    """Both rows on both engines; the rebuild also of `largest` events where the log is in PostgreSQL."""
    for name in (EMBEDDED, KAFKA) if ground.broker else (EMBEDDED,):
        last: float | None = None
        for events in sorted({*sizes, largest} if name == EMBEDDED else {*sizes}):
            async with ground.engine(name) as engine, ground.host(METRICS, engine) as host:
                filled = await fill(host, events)
                if events in sizes:
                    yield await _view(ground, host, name, filled)
                await _pass_over(host)
                row, last = await _rebuild(ground, host, name, filled, last)
                yield row


async def fill(host: Host, events: int) -> int:
    """Put at least so many records of whole walks into the log; answers how many."""
    made, count = records(events), 0
    async with host.database.writers.acquire() as conn:
        while chunk := list(islice(made, CHUNK)):
            async with conn.transaction():
                ends = await host.log.append(conn, chunk)
            await host.log.grew(chunk, ends)
            count += len(chunk)
    return count


# --------------------------------------------------------------------------------------------------------- log to view


async def _view(ground: Ground, host: Host, engine: str, events: int) -> Row:
    async with watching(ground.pids(consumer=psutil.Process().pid)) as watched:
        pairs = await in_turns(ROUNDS, lambda: consumed(host, events), lambda: _decoded(host.log, events))
    ours = median(pairs.subject)
    return Row(
        "log → view: consume, fold, upsert case_facts",
        f"{events:,} events",
        engine,
        f"{ours:,.0f} events/s",
        f"fetched and decoded: {median(pairs.yardstick):,.0f}/s",
        pairs.spread,
        f"{VIEW_RATIO} and {VIEW_RATE:,}/s",
        pairs.ratio >= VIEW_RATIO and ours >= VIEW_RATE,
        watched.memory,
    )


async def consumed(host: Host, events: int) -> float:
    """Events per second of the service's own consumer, from an empty view until it has read everything."""
    await emptied(host)
    consumer = Consumer(host.views_consumer.name, host.database, host.log, host.projector, VOCABULARY)

    async def until_read() -> None:
        running = asyncio.create_task(consumer.run())
        try:
            await until(lambda: _has_read(host, events), 600)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    found = await rate(events, until_read())
    await consumer.release()
    parked = await host.database.readers.fetchval("select count(*) from parked")
    assert parked == 0, f"{parked} records are parked: what was measured is not the work"
    return found


async def _has_read(host: Host, events: int) -> bool:
    read = await host.database.readers.fetchval(
        "select coalesce(sum(next_offset), 0) from lane where consumer = $1 and topic = $2",
        host.views_consumer.name,
        CASES,
    )
    return int(read) >= events


async def emptied(host: Host) -> str:
    """Make the view as if nothing had been read yet; answers its table."""
    table = await host.database.readers.fetchval("select table_name from view where name = $1", CASE_FACTS.name)
    await host.database.writers.execute(f"truncate {table}, history, seen")
    await host.database.writers.execute("update lane set next_offset = 0, last_id = null")
    return str(table)


async def _decoded(log: Log, events: int) -> float:
    return await rate(events, _decode(log))


async def _decode(log: Log) -> int:
    count = 0
    async for fetched in _batches(log):
        for record in fetched:
            VOCABULARY.recorded(record)
        count += len(fetched)
    return count


async def _batches(log: Log) -> AsyncIterator[list[Record]]:
    """Everything on the topic, as a consumer fetches it."""
    reader = log.reader(None)
    ends = {lane: end for lane, end in (await log.ends()).items() if lane[0] == CASES and end}
    at: dict[Lane, int] = dict.fromkeys(ends, 0)
    try:
        while at:
            found = await reader.fetch(at, BATCH, wait_s=1.0)
            for lane, some in found.items():
                yield [one for one in some if isinstance(one, Record)]
                at[lane] = some[-1].offset + 1
                if at[lane] >= ends[lane]:
                    del at[lane]
    finally:
        await reader.close()


# ------------------------------------------------------------------------------------------------------------- rebuild


async def _pass_over(host: Host) -> None:
    """As if the consumer had read everything: a rebuild reads the log as far as that, and nothing else."""
    ends = [(host.views_consumer.name, *lane, end) for lane, end in (await host.log.ends()).items()]
    async with host.database.writers.acquire() as conn:
        await conn.executemany(
            "insert into lane (consumer, topic, partition, next_offset) values ($1, $2, $3, $4)"
            " on conflict (consumer, topic, partition) do update set next_offset = excluded.next_offset",
            ends,
        )


async def _rebuild(ground: Ground, host: Host, engine: str, events: int, before: float | None) -> tuple[Row, float]:
    """The row, and events per second; `before` is what a tenth of the events came to."""
    some = await _first(host.log, COPIED)
    bench, used_s = psutil.Process(), list[float]()  # the servers are its children

    async def rebuilt() -> float:
        began_s = cpu_s(bench)
        found = await rate(events, host.replay.rebuild(CASE_FACTS))
        used_s.append(cpu_s(bench) - began_s)
        return found

    async with watching(ground.pids(rebuilder=bench.pid)) as watched:
        pairs = await in_turns(1 if events > 500_000 else ROUNDS, rebuilt, lambda: _copied(host, some))
    ours, per_core = median(pairs.subject), events / median(used_s)
    growth = "" if before is None else f", {ours / before:.2f} of the size before's"
    flat = before is None or events <= COPIED or abs(ours / before - 1) <= FLAT
    return Row(
        "rebuild of case_facts",
        f"{events:,} events",
        engine,
        f"{ours:,.0f} events/s, {per_core:,.0f} per core{growth}",
        f"COPY of the records: {median(pairs.yardstick):,.0f}/s",
        pairs.spread,
        f"{REBUILD_RATE:,}/s per core, flat ± {FLAT:.0%}",
        per_core >= REBUILD_RATE and flat,
        watched.memory,
    ), ours


async def _first(log: Log, count: int) -> list[Record]:
    some: list[Record] = []
    async for batch in _batches(log):
        some += batch
        if len(some) >= count:
            break
    return some[:count]


async def _copied(host: Host, some: list[Record]) -> float:
    """Records per second of COPY, in the rebuild's portions, into a table like the log's without indexes."""
    async with host.database.writers.acquire() as conn:
        await conn.execute("drop table if exists copied; create table copied (like history)")
        began = perf_counter()
        async with conn.transaction():
            for chunk in _chunks(some):
                rows = [("", record.source, *envelope(record)) for record in chunk]
                await conn.copy_records_to_table("copied", columns=("key", "source", *ENVELOPE), records=rows)
        return len(some) / (perf_counter() - began)


def _chunks(some: list[Record]) -> Iterator[list[Record]]:
    for start in range(0, len(some), CHUNK * 5):
        yield some[start : start + CHUNK * 5]
