"""The relay: one per service, moves outbox rows into the log in order and deletes exactly what it moved."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import asyncpg
import structlog

from events.database import Database, connect
from events.errors import Unavailable
from events.failpoint import at as failpoint
from events.log import LANES, Lane, Log, Mark
from events.recovery import Recovery
from events.store import PASSING, Store
from events.wire import Record, stored

TABLES = """
create table if not exists {schema}.relayed (
    topic       text collate "C" not null,
    partition   smallint not null,
    next_offset bigint not null,
    last_id     uuid not null,
    primary key (topic, partition)
);
"""
"""The end of every lane as the log last acknowledged it to this service's relay, and the record before it."""

BATCH = 1000
ASK_S = 0.05
ALONE_S = 0.5
"""How often the relay asks for what another process appended: the second where it sees none that could."""
MARK_EVERY_S = 1.0
NOTE_EVERY_S = 30.0
"""How often the relay notes how far the log holds nothing new of its service: a start looks from there on."""
HUNG_AFTER_S = 10

log_ = structlog.get_logger("relay")


class Relay:
    """Moves one service's events from its outbox to the log. Whoever holds the lock is the relay; others wait for it.

    The lock lives as long as the relay's own connection, which must speak every 2 s and is cut by the database after
    10 s of silence, 30 s in the middle of a statement, so a hung holder loses it. What a late one still sends has old
    sequences: readers drop it.
    """

    def __init__(self, store: Store, log: Log, recovery: Recovery) -> None:
        self.store, self.log, self.recovery = store, log, recovery
        self.database: Database = store.database
        self.holds_lock = False
        self.alone = False
        """No other process was seen to write for this service, a second ago."""
        self.oldest_unsent: datetime | None = None
        """Recorded time of the oldest row not yet in the log, as last seen."""
        self._lock_key = zlib.crc32(f"casewalk relay {self.database.service}".encode())

    async def run(self) -> None:
        """Relay until cancelled. After a lost connection or a log that was away, look what became of both and begin
        again. Raises StoreBehind where the database came back as an older one, which no process can go on with."""
        failed = False
        while True:
            try:
                if failed:
                    await self.recovery.run(adopt=False)
                failed = False
                await self._hold_and_relay()
            except (asyncpg.PostgresError, *PASSING, RelayFailed, Unavailable) as error:
                failed = True
                log_.warning(
                    "relay begins again", service=self.database.service, why=f"{type(error).__name__}: {error}"
                )
            finally:
                self.holds_lock = False
            await asyncio.sleep(0.2)

    async def _hold_and_relay(self) -> None:
        timeouts = {
            "idle_session_timeout": f"{HUNG_AFTER_S}s",
            "idle_in_transaction_session_timeout": f"{HUNG_AFTER_S}s",
            "transaction_timeout": f"{3 * HUNG_AFTER_S}s",
        }
        conn = await connect(self.database.dsn, self.database.service, "relay", **timeouts)
        try:
            lock = (0x7265, self._lock_key - (1 << 31))
            while not await conn.fetchval("select pg_try_advisory_lock($1, $2)", *lock):
                self.store.appended.clear()  # the relay in the other process finds the rows by itself
                await asyncio.sleep(0.25)
            self.holds_lock = True
            marked_at = noted_at = 0.0
            while True:
                moved = await self._move(conn)
                if (now := asyncio.get_running_loop().time()) - marked_at >= MARK_EVERY_S:
                    await self._mark(conn)
                    marked_at = now
                if not moved and now - noted_at >= NOTE_EVERY_S:
                    await self._note(conn)
                    noted_at = now
                if not moved:
                    await self._wait()
        finally:
            with suppress(asyncpg.PostgresError, *PASSING):
                await conn.close(timeout=2)

    async def _wait(self) -> None:
        """Until something was appended here, or somebody else may have."""
        try:
            async with asyncio.timeout(ALONE_S if self.alone else ASK_S):
                await self.store.appended.wait()
        except TimeoutError:
            return

    async def _move(self, conn: asyncpg.Connection) -> int:
        self.store.appended.clear()
        rows = await conn.fetch(
            "select o.position, o.partition, e.* from outbox o"
            " join events e on e.topic = o.topic and e.subject = o.subject and e.sequence = o.sequence"
            " order by o.position limit $1",
            BATCH,
        )  # before the transaction: nobody takes any of them away but the holder of the lock
        if not rows:
            self.oldest_unsent = None
            return 0
        self.oldest_unsent = rows[0]["recorded_at"]
        records = [stored(row, self.store.source, row["partition"]) for row in rows]
        async with conn.transaction():
            failpoint("relay.before_append")
            ends = await self.log.append(conn, records)
            failpoint("relay.after_append")
            await self._moved(conn, [row["position"] for row in rows], ends, records)
            failpoint("relay.before_commit")
        failpoint("relay.after_commit")
        await self.log.grew(records, ends)
        return len(rows)

    async def _moved(
        self, conn: asyncpg.Connection, positions: Sequence[int], ends: Mapping[Lane, int], records: Sequence[Record]
    ) -> None:
        """They leave the outbox, and where the log ends is kept."""
        last = {(r.topic, r.partition): r.id for r in records}
        rows = await conn.fetch(
            "with sent as (delete from outbox where position = any($5))"
            " insert into relayed select * from unnest($1::text[], $2::smallint[], $3::bigint[], $4::uuid[])"
            " on conflict (topic, partition)"
            " do update set next_offset = excluded.next_offset, last_id = excluded.last_id"
            " where relayed.next_offset < excluded.next_offset returning 1",
            [topic for topic, _ in ends],
            [partition for _, partition in ends],
            list(ends.values()),
            [last[lane] for lane in ends],
            positions,
        )
        if len(rows) != len(ends):
            raise RelayFailed("the log took records before the end it had already: it is another log")

    async def _note(self, conn: asyncpg.Connection) -> None:
        """Everything of this service that its readers have met is in its store: this connection has lasted since that
        was looked at, so the database is still the same."""
        await conn.execute(
            "insert into relayed select distinct on (topic, partition) topic, partition, next_offset, last_id from lane"
            " where next_offset > 0 order by topic, partition, next_offset desc"
            " on conflict (topic, partition) do update set next_offset = excluded.next_offset,"
            " last_id = excluded.last_id where relayed.next_offset < excluded.next_offset"
        )

    async def _mark(self, conn: asyncpg.Connection) -> None:
        """State the newest T for which everything this service recorded up to T is in the log.

        The order matters: first the clock, then the appends still open, then the outbox. What was recorded before T
        and is not in the outbox by then is in the log already; its lanes end where the log told us.
        """
        at: datetime = await conn.fetchval("select clock_timestamp()")
        ((open_since, writers),) = await conn.fetch(
            "select min(xact_start), count(*) from pg_stat_activity"
            " where datname = current_database() and application_name = $1",
            f"casewalk:{self.database.service}:write",
        )
        self.alone = writers <= self.database.writers.get_size()
        unsent = await conn.fetchval("select min(recorded_at) from outbox")
        at = min(moment - timedelta(microseconds=1) for moment in (at, open_since, unsent) if moment is not None)
        rows = await conn.fetch("select topic, partition, next_offset from relayed")
        ends = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
        await self.log.state_mark(Mark(self.database.service, at, {lane: ends.get(lane, 0) for lane in LANES}))


class RelayFailed(Exception):
    """The log did not take everything; what it took will be sent again under the same ids."""
