"""Recovery: a restore, a refill and the start after a crash are one path.

What a service recorded and what the log holds of it are made the same again: what the store lacks is taken from the
log, what the log lacks goes into the outbox once more, what it has leaves the outbox. Ids, sequences and ciphertext
stay as they were, so that whoever reads drops what is a repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from events.database import PATIENT, Connection, connect, insert
from events.errors import Invalid, Unavailable
from events.event import Event
from events.lanes import Position
from events.log import LANES, Lane, Log, Reader
from events.store import Store
from events.wire import ENVELOPE, Broken, Record, envelope, partition_of

BATCH = 5000

_KNOWN = """
select topic, partition, next_offset, last_id, true as relayed from relayed union all
select topic, partition, next_offset, last_id, false from lane where consumer = any($1) and next_offset > 0
"""
"""Places whose record the service remembers. Only below the relay's place is everything known to be in the store: who
reads does not look whether it is, and may have gone on for a moment after the database was replaced."""

_LACKING = (
    "from found f where not exists (select from events e"
    " where (e.id, e.sequence, e.recorded_at) = (f.id, f.sequence, f.recorded_at))"
)

_OUTBOX = {
    "topic": "text",
    "subject": "text",
    "sequence": "bigint",
    "recorded_at": "timestamptz",
    "partition": "smallint",
}

_HEADS = """
insert into stream (topic, subject, version, recorded_at)
    select distinct on (topic, subject) topic, subject, sequence, recorded_at from found
    order by topic, subject, sequence desc
on conflict (topic, subject) do update set version = excluded.version, recorded_at = excluded.recorded_at
    where stream.version < excluded.version
"""

log_ = structlog.get_logger("recovery")

Erasures = Mapping[type[Event], Callable[[str], str]]
"""Type of an event that says that a person was erased → the person's name from the event's subject."""


class StoreBehind(Exception):
    """The log holds events of this service that its store lacks: it was replaced by an older one while it ran."""


@dataclass(frozen=True)
class Recovered:
    """What was done."""

    adopted: int
    """Own events that the store lacked."""
    refilled: int
    """Own events that the log lacks: they are in the outbox again."""
    others: frozenset[Lane]
    """Lanes that hold another log than the one that was read before."""


@dataclass
class _Read:
    """How far the log was read, lane by lane."""

    known: dict[Lane, dict[int, str]] = field(default_factory=dict)
    """Lane → next offset → the id of the record before it, as the service remembers them."""
    begin: dict[Lane, int] = field(default_factory=dict)
    """Lane → offset of the record known from which to look for what is not."""
    others: set[Lane] = field(default_factory=set)
    last: dict[Lane, Position] = field(default_factory=dict)

    def start(self, lane: Lane) -> int:
        """From a record known on, to see whether it still stands there; from 0 in another log."""
        return 0 if lane in self.others else self.begin.get(lane, 0)


class Recovery:
    """Brings one service's store and the log together."""

    def __init__(self, store: Store, log: Log, consumers: Sequence[str], erasures: Erasures) -> None:
        self.store, self.log, self.consumers, self.erasures = store, log, list(consumers), dict(erasures)

    async def run(self, adopt: bool) -> Recovered:
        """Compare and repair, all of it or nothing. Only what came since the service last looked is read, unless the
        log is another one.

        With `adopt` the service must not be writing; its inline views are to be rebuilt afterwards, and nobody can
        append before they are. Without, StoreBehind is raised where there would be something to adopt. Raises
        Unavailable when the log does not answer, Invalid where the store went on from an older state.
        """
        database = self.store.database
        conn = await connect(database.dsn, database.service, "recover", **PATIENT)
        reader = self.log.reader(None)
        try:
            async with conn.transaction():
                await conn.execute("select pg_advisory_xact_lock(hashtext($1))", f"recover {database.service}")
                await conn.execute(
                    "create temp table found on commit drop as select 0::smallint as partition, e.* from events e"
                    " with no data"
                )
                read = await self._read(conn, reader)
                if read.others:
                    await self.log.forget()
                done = await self._repair(conn, read, adopt)
        finally:
            try:
                await reader.close()
            finally:
                await conn.close()
        if done.adopted or done.others:
            log_.warning(
                "store and log were brought together",
                service=database.service,
                adopted=done.adopted,
                refilled=done.refilled,
                other_lanes=len(done.others),
            )
        return done

    # ------------------------------------------------------------------------------------------------------ the log

    async def _read(self, conn: Connection, reader: Reader) -> _Read:
        """Put the service's own records that it may not know into `found`."""
        read = _Read()
        for row in await conn.fetch(_KNOWN, self.consumers):
            lane = (row["topic"], row["partition"])
            read.known.setdefault(lane, {})[row["next_offset"]] = str(row["last_id"])
            if row["relayed"]:
                read.begin[lane] = row["next_offset"] - 1
        ends = await self.log.ends()  # asked last: who works beside us moves both
        read.others |= {lane for lane, known in read.known.items() if ends.get(lane, 0) < max(known)}
        at = {lane: read.start(lane) for lane in LANES if read.start(lane) < ends.get(lane, 0)}
        waited = 0
        while at:
            found = await reader.fetch(at, BATCH, wait_s=1.0)
            waited = 0 if found else waited + 1
            if waited > 20:
                raise Unavailable(f"the log does not give anything from {at} on")
            for lane, records in found.items():
                await self._take(conn, read, lane, records)
                at[lane] = read.last[lane].next_offset if lane in read.last else read.start(lane)
                if at[lane] >= ends[lane]:
                    del at[lane]
        return read

    async def _take(self, conn: Connection, read: _Read, lane: Lane, records: Sequence[Record | Broken]) -> None:
        known = {} if lane in read.others else read.known.get(lane, {})
        if any(known.get(r.offset + 1, r.id) != r.id for r in records):
            read.others.add(lane)
            read.last.pop(lane, None)
            return
        read.last[lane] = Position(records[-1].offset + 1, records[-1].id)
        mine = [r for r in records if isinstance(r, Record) and r.source == self.store.source]
        await conn.copy_records_to_table(
            "found", columns=("partition", *ENVELOPE), records=[(r.partition, *envelope(r)) for r in mine]
        )

    # ---------------------------------------------------------------------------------------------------- the store

    async def _repair(self, conn: Connection, read: _Read, adopt: bool) -> Recovered:
        # From here to the commit nobody appends and no relay moves anything: what comes later stands behind.
        await conn.execute("lock table outbox in share row exclusive mode")
        await conn.execute("create index on found (id); create index on found (topic, subject, sequence)")
        await conn.execute("analyze found")
        lacking = int(await conn.fetchval(f"select count(distinct id) {_LACKING}"))
        if lacking:
            if not adopt:
                raise StoreBehind(f"the log holds {lacking} events of {self.store.source} that its database lacks")
            await self._adopt(conn)
        await conn.execute(
            "delete from outbox o using found f"
            " where (f.topic, f.subject, f.sequence) = (o.topic, o.subject, o.sequence)"
        )
        refilled = 0
        if read.others:
            await self._start_over(conn, read.others)
            refilled = await self._refill(conn, read.others)
        await conn.executemany(
            "insert into relayed values ($1, $2, $3, $4) on conflict (topic, partition) do update"
            " set next_offset = excluded.next_offset, last_id = excluded.last_id"
            " where relayed.next_offset < excluded.next_offset",
            [(*lane, last.next_offset, last.last_id) for lane, last in sorted(read.last.items())],
        )
        return Recovered(lacking, refilled, frozenset(read.others))

    async def _adopt(self, conn: Connection) -> None:
        """Record what the log says that was recorded: as it stands there, sequences and ciphertext included."""
        # What a reactor said again on the older state, under the same id; the log's is what was said.
        await conn.execute(f"delete from events where id in (select f.id {_LACKING})")
        twice = await conn.fetchval(
            f"select f.subject {_LACKING} and exists (select from events e"
            " where (e.topic, e.subject, e.sequence) = (f.topic, f.subject, f.sequence))"
        )
        if twice is not None:
            raise Invalid(
                f"{self.store.source} wrote about {twice} on an older state than the log's: restore its database again,"
                " with all its processes stopped"
            )
        columns = ", ".join(f"f.{name}" for name in ENVELOPE)
        await conn.execute(f"insert into events select distinct on (f.id) {columns} {_LACKING} order by f.id")
        await conn.execute(_HEADS)
        # No append passes before these views are built anew from the events that are there now.
        await conn.execute("update view set version = 0 where name = any($1)", [v.name for v in self.store.inline])
        await self._erase_again(conn)

    async def _erase_again(self, conn: Connection) -> None:
        """An older store has keys that were destroyed since."""
        persons = {kind.TYPE: person for kind, person in self.erasures.items()}
        rows = await conn.fetch("select type, subject from events where type = any($1)", list(persons))
        await self.store.keyring.erase(conn, [persons[row["type"]](row["subject"]) for row in rows])

    async def _start_over(self, conn: Connection, others: set[Lane]) -> None:
        """Whoever reads these lanes begins at 0, also where a process is reading them now: it loses its lease."""
        topics, partitions = [topic for topic, _ in others], [partition for _, partition in others]
        await conn.execute(
            "update lane l set next_offset = 0, last_id = null, owner = null, until = '-infinity'"
            " from unnest($2::text[], $3::smallint[]) k (topic, partition)"
            " where l.consumer = any($1) and l.topic = k.topic and l.partition = k.partition",
            self.consumers,
            topics,
            partitions,
        )
        for table in ("relayed", "outbox"):
            await conn.execute(
                f"delete from {table} t using unnest($1::text[], $2::smallint[]) k (topic, partition)"
                " where t.topic = k.topic and t.partition = k.partition",
                topics,
                partitions,
            )

    async def _refill(self, conn: Connection, others: set[Lane]) -> int:
        """Everything of these lanes that the log lacks goes out again, in the order in which it was recorded."""
        rows: list[tuple[Any, ...]] = []
        refilled = 0
        lacking = conn.cursor(
            "select topic, subject, sequence, recorded_at from events e"
            " where not exists (select from found f where f.id = e.id)"
            " order by recorded_at, topic, subject, sequence",
            prefetch=BATCH,
        )
        async for row in lacking:
            partition = partition_of(row["subject"])
            if (row["topic"], partition) in others:
                rows.append((*row, partition))
            if len(rows) >= BATCH:
                refilled, rows = refilled + await _send_again(conn, rows), []
        return refilled + await _send_again(conn, rows)


async def _send_again(conn: Connection, rows: list[tuple[Any, ...]]) -> int:
    await insert(conn, "outbox", _OUTBOX, rows)
    return len(rows)
