"""Parking: what could not take effect, and all that came after it about the same subject, in order, until released."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from events.database import Connection
from events.log import Lane
from events.wire import Broken, Record, moment, partition_of, rfc3339

TABLES = """
create table if not exists {schema}.parked (
    position  bigint generated always as identity primary key,
    consumer  text collate "C" not null,
    topic     text collate "C" not null,
    partition smallint not null,
    subject   text collate "C" not null,
    source    text collate "C",
    sequence  bigint,
    id        uuid,
    body      text not null,
    error     text not null,
    attempts  integer not null default 1,
    asked     boolean not null default false,
    parked_at timestamptz not null default clock_timestamp(),
    unique (consumer, topic, subject, source, sequence, id)
);
create index if not exists parked_case on {schema}.parked (consumer, topic, subject, position);
"""


@dataclass(frozen=True, slots=True)
class Parked:
    """A record that waits. `record` is None for bytes that are no event: nothing can retry those."""

    topic: str
    partition: int
    subject: str
    record: Record | None
    body: str
    error: str
    position: int = 0


def of_record(r: Record, error: str) -> Parked:
    """A record that came from the log."""
    return Parked(r.topic, r.partition, r.subject, r, _body(r), error[:2000])


def of_broken(b: Broken) -> Parked:
    """Bytes that are no event. They block nobody: their subject cannot be trusted."""
    return Parked(b.topic, b.partition, b.subject, None, b.raw, b.error[:2000])


async def park(conn: Connection, consumer: str, parked: Sequence[Parked]) -> None:
    """Park records, in order; one that waits already stays where it is."""
    if not parked:
        return
    await conn.executemany(
        "insert into parked (consumer, topic, partition, subject, source, sequence, id, body, error)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing",
        [
            (
                consumer,
                p.topic,
                p.partition,
                p.subject,
                *((None, None, None) if p.record is None else (p.record.source, p.record.sequence, p.record.id)),
                p.body,
                p.error.replace("\x00", "�"),
            )
            for p in parked
        ],
    )


async def asked(conn: Connection, consumer: str, lanes: Sequence[Lane], limit: int) -> list[tuple[str, int, str]]:
    """(topic, partition, subject) of at most `limit` cases somebody asked to be tried again in these lanes, whoever has
    waited longest first."""
    rows = await conn.fetch(
        "select p.topic, p.partition, p.subject from parked p"
        " join unnest($2::text[], $3::smallint[]) k (topic, partition) using (topic, partition)"
        " where p.consumer = $1 and p.asked group by 1, 2, 3 order by min(p.position) limit $4",
        consumer,
        [topic for topic, _ in lanes],
        [partition for _, partition in lanes],
        limit,
    )
    return [(row["topic"], row["partition"], row["subject"]) for row in rows]


async def of_case(conn: Connection, consumer: str, topic: str, subject: str) -> list[Parked]:
    """What waits about a subject, in the order it came; within one source in the order of its sequences, whatever
    order a gap was filled in."""
    rows = await conn.fetch(
        "select * from parked where consumer = $1 and topic = $2 and subject = $3 and source is not null"
        " order by position",
        consumer,
        topic,
        subject,
    )
    by_source: dict[str, list[asyncpg.Record]] = {}
    for row in sorted(rows, key=lambda row: int(row["sequence"])):
        by_source.setdefault(row["source"], []).append(row)
    return [_parked(by_source[row["source"]].pop(0)) for row in rows]


async def released(conn: Connection, parked: Parked) -> None:
    """It took effect."""
    await conn.execute("delete from parked where position = $1", parked.position)


async def failed(conn: Connection, parked: Parked, error: str) -> None:
    """It did not; it waits on, with the new reason."""
    await conn.execute(
        "update parked set error = $2, attempts = attempts + 1 where position = $1",
        parked.position,
        error[:2000].replace("\x00", "�"),
    )
    await conn.execute(
        "update parked set asked = false where consumer = (select consumer from parked where position = $1)"
        " and topic = $2 and subject = $3",
        parked.position,
        parked.topic,
        parked.subject,
    )


async def ask(conn: Connection, position: int) -> int:
    """Ask that the case behind this parked record is tried again; answers how many records wait for it (0: unknown)."""
    status = await conn.execute(
        # Locked in one order: who asks for the same case at the same moment waits, instead of dying in a deadlock.
        "update parked p set asked = true from (select p.position from parked p join parked k"
        " on p.consumer = k.consumer and p.topic = k.topic and p.subject = k.subject"
        " where k.position = $1 and k.source is not null order by p.position for update of p) o"
        " where p.position = o.position",
        position,
    )
    return int(status.rsplit(" ", 1)[1])


async def drop(conn: Connection, position: int) -> bool:
    """Throw away bytes that are no event. Events cannot be dropped."""
    return str(await conn.execute("delete from parked where position = $1 and source is null", position)) == "DELETE 1"


def _body(r: Record) -> str:
    fields = r._asdict()
    fields["occurred_at"], fields["recorded_at"] = rfc3339(r.occurred_at), rfc3339(r.recorded_at)
    return json.dumps(fields)


def _parked(row: asyncpg.Record) -> Parked:
    fields = json.loads(row["body"])
    fields["occurred_at"], fields["recorded_at"] = moment(fields["occurred_at"]), moment(fields["recorded_at"])
    r = Record(**fields)
    return Parked(r.topic, partition_of(r.subject), r.subject, r, row["body"], row["error"], row["position"])
