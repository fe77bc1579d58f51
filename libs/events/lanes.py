"""Lanes: one row per consumer and partition holds its offset and its lease; streams' last sequences drop repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from events.database import Connection
from events.log import LANES, Lane

TABLES = """
create table if not exists {schema}.lane (
    consumer    text collate "C" not null,
    topic       text collate "C" not null,
    partition   smallint not null,
    next_offset bigint not null default 0,
    last_id     uuid,
    owner       text collate "C",
    until       timestamptz not null default '-infinity',
    primary key (consumer, topic, partition)
);
create table if not exists {schema}.worker (
    consumer text collate "C" not null,
    owner    text collate "C" not null,
    until    timestamptz not null,
    primary key (consumer, owner)
);
create table if not exists {schema}.seen (
    consumer text collate "C" not null,
    source   text collate "C" not null,
    topic    text collate "C" not null,
    subject  text collate "C" not null,
    sequence bigint not null,
    id       uuid,
    primary key (consumer, topic, subject, source)
);
"""
"""`last_id` is the id of the record before `next_offset`: if another stands there, the log is another log."""

LEASE_S = 10.0
"""How long a lane stays a worker's after it last said that it lives, on the database's clock."""


_OVER = "(until < clock_timestamp() or until > {until}::timestamptz + interval '1 minute')"
"""A lease that ends later than any could was taken by a clock that has gone back since: whoever had it may be dead."""


@dataclass(frozen=True, slots=True)
class Position:
    next_offset: int
    last_id: str | None


async def prepare(conn: Connection, consumer: str) -> None:
    """Make sure that the consumer has a row per lane."""
    await conn.executemany(
        "insert into lane (consumer, topic, partition) values ($1, $2, $3) on conflict do nothing",
        [(consumer, *lane) for lane in LANES],
    )


async def lease(conn: Connection, consumer: str, owner: str, lease_s: float = LEASE_S) -> dict[Lane, int]:
    """Renew what is ours, take our fair share of what is free, give back what is too much; lane → next offset.

    The fair share is the lanes divided by the workers alive, rounded up.
    """
    async with conn.transaction():
        until = await conn.fetchval("select clock_timestamp() + make_interval(secs => $1)", lease_s)
        await conn.execute(
            "insert into worker values ($1, $2, $3) on conflict (consumer, owner) do update set until = excluded.until",
            consumer,
            owner,
            until,
        )
        await conn.execute(f"delete from worker where consumer = $1 and {_OVER.format(until='$2')}", consumer, until)
        workers = await conn.fetchval("select count(*) from worker where consumer = $1", consumer)
        share = -(-len(LANES) // max(1, workers))
        await conn.execute(
            "update lane l set owner = null, until = '-infinity' from (select topic, partition from lane"
            " where consumer = $1 and owner = $2 order by partition, topic offset $3 for update skip locked) m"
            " where l.consumer = $1 and l.topic = m.topic and l.partition = m.partition",
            consumer,
            owner,
            share,
        )
        await conn.execute(
            "update lane l set owner = $2, until = $4 from (select topic, partition from lane"
            f" where consumer = $1 and (owner = $2 or {_OVER.format(until='$4')})"
            " order by owner is distinct from $2, partition, topic limit $3 for update skip locked) m"
            " where l.consumer = $1 and l.topic = m.topic and l.partition = m.partition",
            consumer,
            owner,
            share,
            until,
        )
        return await mine(conn, consumer, owner)


async def mine(conn: Connection, consumer: str, owner: str) -> dict[Lane, int]:
    """Lane → next offset, for the lanes this worker has leased."""
    rows = await conn.fetch(
        "select topic, partition, next_offset from lane"
        " where consumer = $1 and owner = $2 and until > clock_timestamp()",
        consumer,
        owner,
    )
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def release(conn: Connection, consumer: str, owner: str) -> None:
    """Give all lanes back."""
    await conn.execute(
        "update lane set owner = null, until = '-infinity' where consumer = $1 and owner = $2", consumer, owner
    )
    await conn.execute("delete from worker where consumer = $1 and owner = $2", consumer, owner)


async def lock(conn: Connection, consumer: str, owner: str, lanes: Sequence[Lane]) -> dict[Lane, Position]:
    """Lock lane rows until the transaction ends; those that are another worker's by now are left out."""
    rows = await conn.fetch(
        "select l.topic, l.partition, l.next_offset, l.last_id from lane l"
        " join unnest($2::text[], $3::smallint[]) k (topic, partition) using (topic, partition)"
        " where l.consumer = $1 and l.owner = $4 order by l.topic, l.partition for update of l",
        consumer,
        [topic for topic, _ in lanes],
        [partition for _, partition in lanes],
        owner,
    )
    return {
        (r["topic"], r["partition"]): Position(r["next_offset"], None if r["last_id"] is None else str(r["last_id"]))
        for r in rows
    }


async def move(
    conn: Connection,
    consumer: str,
    moved: Mapping[Lane, Position],
    last: Mapping[tuple[str, str, str], tuple[int, str]],
) -> None:
    """Store the next offsets of locked lanes and the last sequences of streams."""
    await conn.execute(
        f"with remembered as ({_REMEMBER})"
        " update lane l set next_offset = k.next_offset, last_id = k.last_id"
        " from unnest($7::text[], $8::smallint[], $9::bigint[], $10::uuid[]) k (topic, partition, next_offset, last_id)"
        " where l.consumer = $1 and l.topic = k.topic and l.partition = k.partition",
        consumer,
        *_columns(last),
        [topic for topic, _ in moved],
        [partition for _, partition in moved],
        [position.next_offset for position in moved.values()],
        [position.last_id for position in moved.values()],
    )


async def remember(conn: Connection, consumer: str, last: Mapping[tuple[str, str, str], tuple[int, str]]) -> None:
    """Store the last sequences of streams: (source, topic, subject) → (sequence, id)."""
    await conn.execute(_REMEMBER, consumer, *_columns(last))


_REMEMBER = (
    "insert into seen (consumer, source, topic, subject, sequence, id)"
    " select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::uuid[])"
    " on conflict (consumer, topic, subject, source) do update set sequence = excluded.sequence, id = excluded.id"
)


def _columns(last: Mapping[tuple[str, str, str], tuple[int, str]]) -> list[list[Any]]:
    rows = [(*stream, sequence, event_id or None) for stream, (sequence, event_id) in sorted(last.items())]
    return [list(column) for column in zip(*rows, strict=True)] or [[], [], [], [], []]
