"""The log in PostgreSQL: gapless offsets given by whoever moves the records, in one transaction with their outbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import asyncpg
import structlog

from events.database import Connection, close, insert, pool
from events.log import LANES, Lane, Mark, Progress
from events.recent import Recent
from events.wire import ENVELOPE, Broken, Record, envelope, stored

TABLES = """
create schema if not exists log;
create table if not exists log.head (
    topic       text collate "C" not null,
    partition   smallint not null,
    next_offset bigint not null default 0,
    primary key (topic, partition)
);
create table if not exists log.record (
    topic          text collate "C" not null,
    partition      smallint not null,
    "offset"       bigint not null,
    source         text collate "C" not null,
    subject        text collate "C" not null,
    sequence       bigint not null,
    id             uuid not null,
    type           text collate "C" not null,
    occurred_at    timestamptz not null,
    recorded_at    timestamptz not null,
    actor          text collate "C" not null,
    correlation_id uuid not null,
    causation_id   uuid,
    traceparent    text collate "C" not null,
    data           text not null,
    primary key (topic, partition, "offset")
);
create table if not exists log.mark (
    source  text collate "C" primary key,
    at      timestamptz not null,
    offsets text not null
);
create table if not exists log.progress (
    consumer    text collate "C" not null,
    topic       text collate "C" not null,
    partition   smallint not null,
    next_offset bigint not null,
    handled_at  timestamptz not null,
    primary key (consumer, topic, partition)
);
"""

_COLUMNS = {"partition": "smallint", '"offset"': "bigint", "source": "text", **ENVELOPE}

POLL_S = 0.05
"""How often one query asks whether another process appended."""


log_ = structlog.get_logger("log")


class PostgresLog:
    """The log tables of the one database that all embedded services share."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: asyncpg.Pool | None = None
        self.recent = Recent()
        self.fetching = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._pool = await pool(self._dsn, "log", "read", 4)
        try:
            async with self._pool.acquire() as conn, conn.transaction():
                await conn.execute("select pg_advisory_xact_lock(1129270615)")
                await conn.execute(TABLES)
                await conn.executemany(
                    "insert into log.head (topic, partition) values ($1, $2) on conflict do nothing", LANES
                )
            self.recent.ends = await self.ends()
        except BaseException:
            await close(self._pool)
            raise
        self._watching = asyncio.create_task(self._watch(), name="log watch")

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._pool is not None:
            await close(self._pool)

    @property
    def pool(self) -> asyncpg.Pool:
        assert self._pool is not None, "the log is started first"
        return self._pool

    def warnings(self) -> Sequence[str]:
        return ()

    async def append(self, conn: Connection, records: Sequence[Record]) -> dict[Lane, int]:
        lanes = _by_lane(records)
        ordered = sorted(lanes)  # heads are bumped in one order everywhere, or two relays deadlock
        rows = await conn.fetch(
            "with k as (select * from unnest($1::text[], $2::smallint[], $3::bigint[]) k (topic, partition, n)),"
            " held as (select h.topic, h.partition from log.head h join k using (topic, partition)"
            "  order by h.topic, h.partition for update of h)"
            " update log.head h set next_offset = h.next_offset + k.n from k join held using (topic, partition)"
            " where h.topic = k.topic and h.partition = k.partition returning h.topic, h.partition, h.next_offset",
            [topic for topic, _ in ordered],
            [partition for _, partition in ordered],
            [len(lanes[lane]) for lane in ordered],
        )
        ends = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
        await insert(
            conn,
            "log.record",
            _COLUMNS,
            [
                (lane[1], ends[lane] - len(batch) + i, record.source, *envelope(record))
                for lane, batch in lanes.items()
                for i, record in enumerate(batch)
            ],
        )
        return ends

    async def grew(self, records: Sequence[Record], ends: Mapping[Lane, int]) -> None:
        """Hand what was appended to this process's readers; called after the commit."""
        for lane, batch in _by_lane(records).items():
            first = ends[lane] - len(batch)
            self.recent.add({lane: [record._replace(offset=first + i) for i, record in enumerate(batch)]})
        await self.recent.heard(self._latest(ends))

    def _latest(self, ends: Mapping[Lane, int]) -> dict[Lane, int]:
        """These ends, or what is known of later ones."""
        return self.recent.ends | {lane: max(end, self.recent.ends.get(lane, 0)) for lane, end in ends.items()}

    async def _watch(self) -> None:
        """Hear what other processes appended: one small query for all readers of this one."""
        while True:
            await asyncio.sleep(POLL_S)
            known = self.recent.ends
            try:
                if await self.pool.fetchval("select sum(next_offset) from log.head") == sum(known.values()):
                    continue
                ends = await self.ends()
            except Exception as error:  # noqa: BLE001 — whatever it was, all readers wait for what is heard here
                log_.info("the log cannot be watched now", why=f"{type(error).__name__}: {error}")
                self.recent.forget()
                continue
            if self.recent.ends is not known:
                ends = self._latest(ends)  # this process appended meanwhile
            elif any(ends[lane] < end for lane, end in known.items()):
                self.recent.forget()
            await self.recent.heard(ends)

    def reader(self, consumer: str | None) -> PostgresReader:
        return PostgresReader(self, consumer)

    async def forget(self) -> None:
        self.recent.forget()

    async def ends(self) -> dict[Lane, int]:
        rows = await self.pool.fetch("select topic, partition, next_offset from log.head")
        return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    async def state_mark(self, mark: Mark) -> None:
        offsets = json.dumps([[topic, partition, offset] for (topic, partition), offset in mark.offsets.items()])
        await self.pool.execute(
            "insert into log.mark values ($1, $2, $3)"
            " on conflict (source) do update set at = excluded.at, offsets = excluded.offsets",
            mark.source,
            mark.at,
            offsets,
        )

    async def marks(self) -> dict[str, Mark]:
        rows = await self.pool.fetch("select source, at, offsets from log.mark")
        return {
            row["source"]: Mark(
                row["source"], row["at"], {(t, p): offset for t, p, offset in json.loads(row["offsets"])}
            )
            for row in rows
        }

    async def hint(self, consumer: str, offsets: Mapping[Lane, tuple[int, datetime]]) -> None:
        """What a reader's `hint` says, for `progress`."""
        await self.pool.executemany(
            "insert into log.progress values ($1, $2, $3, $4, $5) on conflict (consumer, topic, partition)"
            " do update set next_offset = excluded.next_offset, handled_at = excluded.handled_at",
            [(consumer, *lane, offset, at) for lane, (offset, at) in sorted(offsets.items())],
        )

    async def progress(self, suffix: str) -> list[Progress]:
        rows = await self.pool.fetch(
            "select p.consumer, p.topic, p.partition, h.next_offset - p.next_offset as records, p.handled_at"
            " from log.progress p join log.head h using (topic, partition)"
            " where right(p.consumer, length($1)) = $1 and h.next_offset > p.next_offset",
            suffix,
        )
        return [Progress(r["consumer"], (r["topic"], r["partition"]), r["records"], r["handled_at"]) for r in rows]


def _by_lane(records: Iterable[Record]) -> dict[Lane, list[Record]]:
    lanes: dict[Lane, list[Record]] = {}
    for record in records:
        lanes.setdefault((record.topic, record.partition), []).append(record)
    return lanes


def _columns(positions: Mapping[Lane, int]) -> tuple[list[str], list[int], list[int]]:
    """Lane → offset, for unnest."""
    return [topic for topic, _ in positions], [partition for _, partition in positions], list(positions.values())


class PostgresReader:
    """Reads lanes by offset; gapless, so a record can only be the next one."""

    def __init__(self, log: PostgresLog, consumer: str | None) -> None:
        self._log, self._name = log, consumer

    async def fetch(
        self, positions: Mapping[Lane, int], limit: int, wait_s: float = 0.0, only: frozenset[str] | None = None
    ) -> dict[Lane, list[Record | Broken]]:
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while True:
            count = self._log.recent.count
            found = await self._look(positions, limit, only)
            left_s = until - loop.time()
            if found or left_s <= 0:
                return found
            if not await self._log.recent.later(count, left_s):
                return {}

    async def _look(
        self, positions: Mapping[Lane, int], limit: int, only: frozenset[str] | None
    ) -> dict[Lane, list[Record | Broken]]:
        if not positions:
            return {}
        per_lane = limit if len(positions) == 1 else max(1, limit // 4)
        if self._name is None:  # a rebuild or a verification is far from where the consumers are
            return await self._fetch(positions, per_lane, only)
        found, behind = self._log.recent.of(positions, per_lane)
        if behind:
            async with self._log.fetching:
                found, behind = self._log.recent.of(positions, per_lane)  # somebody else may have fetched it meanwhile
                if behind:
                    fetched = await self._fetch(behind, per_lane, None)
                    self._log.recent.add(fetched)
                    found |= fetched
        return found

    async def _fetch(
        self, positions: Mapping[Lane, int], per_lane: int, only: frozenset[str] | None
    ) -> dict[Lane, list[Record | Broken]]:
        rows = await self._log.pool.fetch(
            "select r.* from unnest($1::text[], $2::smallint[], $3::bigint[]) k (topic, partition, start)"
            " join log.head h using (topic, partition), lateral (select * from log.record r"
            "  where r.topic = k.topic and r.partition = k.partition"
            '  and r."offset" >= k.start and r."offset" < k.start + $4 and ($5::text[] is null'
            '   or r.type = any($5) or r."offset" = least(k.start + $4, h.next_offset) - 1) order by r."offset") r',
            *_columns(positions),
            per_lane,
            None if only is None else list(only),
        )
        found: dict[Lane, list[Record | Broken]] = {}
        for row in rows:
            record = stored(row, row["source"], row["partition"], row["offset"])
            found.setdefault((record.topic, record.partition), []).append(record)
        return found

    async def hint(self, offsets: Mapping[Lane, tuple[int, datetime]]) -> set[Lane]:
        if self._name is not None:
            await self._log.hint(self._name, offsets)
        return set(offsets)

    async def renew(self) -> None:
        """There are no clients of its own."""

    async def close(self) -> None:
        """Nothing is held."""
