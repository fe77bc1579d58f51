"""Replay: every view rebuilt beside the running one and switched in, and every view compared with what it should be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from events.database import PATIENT, Connection, Database, connect
from events.errors import Invalid, Unavailable
from events.event import Recorded
from events.log import Lane, Log, Reader
from events.views import View, rows
from events.views.project import Projector, by_subject, fold, remember
from events.views.rows import Saved
from events.wire import PARTITIONS, Record, Vocabulary, stored

R = TypeVar("R")

BATCH = 5000
TOGETHER = 50_000
"""Records held in memory at once, if a partition has not more by itself."""

Span = tuple[int, int]
"""From this offset to below that one."""

SMALL = 2000
"""Records left to catch up with that the switch may take along."""

Tick = Callable[[int], None]
"""Told how many records were read, for progress bars."""


@dataclass(frozen=True)
class Verdict:
    """Whether a view is what a replay makes of the same events."""

    view: str
    version: int
    rows: int
    different: tuple[str, ...]
    """The first subjects whose rows differ."""
    parked: tuple[str, ...]
    """Subjects that were left out because something of theirs is parked."""

    @property
    def equal(self) -> bool:
        return not self.different


@dataclass
class _Past:
    """What a rebuild reads of the log, and whom it left out because something of theirs was parked."""

    reader: Reader
    view: View[Any]
    types: frozenset[str]
    fills_history: bool
    tick: Tick
    left_out: set[str] = field(default_factory=set)


class Replay:
    """Rebuilds and verifies the views of one service, while it runs."""

    def __init__(
        self, database: Database, log: Log, projector: Projector, inline: Sequence[View[Any]], consumer: str
    ) -> None:
        self.database, self.log, self.projector, self.consumer = database, log, projector, consumer
        self.inline = tuple(inline)
        self.vocabulary: Vocabulary = projector.vocabulary
        self._connection = asyncio.Semaphore(1)
        """One connection of a service is for this: who verifies while it is taken waits."""

    def named(self, name: str) -> list[View[Any]]:
        """The view of that name, or every view for `all`. Raises Invalid."""
        views = [*self.projector.views, *self.inline]
        found = [view for view in views if name in ("all", view.name)]
        if not found:
            raise Invalid(f"there is no view {name} here; there are {', '.join(view.name for view in views)}")
        return found

    async def prepare(self) -> None:
        """At start: build what is new or has a higher version, refuse what changed without one, or went back."""
        known = {row["name"]: row for row in await self.database.readers.fetch("select * from view")}
        to_build: list[View[Any]] = []
        for view in [*self.projector.views, *self.inline]:
            row = known.get(view.name)
            if row is None or row["version"] < view.version:
                to_build.append(view)
            elif row["version"] > view.version:
                raise Invalid(f"view {view.name} is active in version {row['version']}; this program is older")
            elif row["declaration"] != view.declaration:
                raise Invalid(f"view {view.name} changed and still has version {view.version}; give it the next one")
        if to_build:
            async with self._connected("rebuild") as (conn, reader):
                for view in to_build:
                    await self._rebuild(conn, reader, view)

    # ------------------------------------------------------------------------------------------------------- rebuild

    async def rebuild(self, view: View[Any], tick: Tick = lambda _: None) -> int:
        """Build the view anew beside the active one and switch; answers how many rows it has."""
        async with self._connected("rebuild") as (conn, reader):
            return await self._rebuild(conn, reader, view, tick)

    async def _rebuild(self, conn: Connection, reader: Reader, view: View[Any], tick: Tick = lambda _: None) -> int:
        await self._alone(conn, view, "pg_advisory_lock")
        async with conn.transaction():
            build = 1 + (await conn.fetchval("select max(build) from view where name = $1", view.name) or 0)
            table = f"{view.name}_{view.version}_{build}"
            await conn.execute(f"drop table if exists {table}")
            await rows.create(conn, view, table)
            if view.inline:
                await self._rebuild_inline(conn, view, table, build, tick)
            else:
                await self._rebuild_projected(conn, reader, view, table, build, tick)
            return int(await conn.fetchval(f"select count(*) from {table}"))

    @asynccontextmanager
    async def _connected(self, purpose: str) -> AsyncIterator[tuple[Connection, Reader]]:
        async with self._connection:
            conn = await connect(self.database.dsn, self.database.service, purpose, **PATIENT)
            reader = self.log.reader(None)
            try:
                yield conn, reader
            finally:
                try:
                    await reader.close()
                finally:
                    await conn.close()

    async def _rebuild_projected(
        self, conn: Connection, reader: Reader, view: View[R], table: str, build: int, tick: Tick
    ) -> None:
        offsets = await self._offsets(self.database.readers, view.topic)
        fills_history = not await self._history_has(conn, view)
        types = self.projector.reads if fills_history else view.types
        past = _Past(reader, view, types, fills_history, tick)
        for spans in _portions({p: (0, end) for p, end in offsets.items()}):
            events = await self._took_effect(conn, past, spans)
            folded = (fold(view, group) for group in by_subject(events).values())
            await rows.copy(conn, view, table, [row for row in folded if row is not None])
        await rows.index(conn, view, table)
        await self._catch_up(conn, past, table, offsets)
        await self._switch(conn, view, build, table)

    async def _took_effect(self, conn: Connection, past: _Past, spans: dict[int, Span]) -> list[Recorded[Any]]:
        """What the view reads in these spans, without what is parked; `history` gets what it lacks."""
        parked = await self._parked(conn, past.view.topic, list(spans))
        past.left_out |= set(parked.values())
        events = await self._read(
            past.reader, past.view.topic, spans, past.types, past.tick, lambda r: r.id not in parked
        )
        if past.fills_history:
            await remember(conn, events, over=True)
        return [event for event in events if event.data.TYPE in past.view.types]

    async def _catch_up(self, conn: Connection, past: _Past, table: str, offsets: dict[int, int]) -> None:
        """Follow the live consumer until little is left, then hold it still and take the rest."""
        held = False
        while not held:
            now = await self._offsets(self.database.readers, past.view.topic)
            held = sum(now.values()) - sum(offsets.values()) <= SMALL
            if held:
                now = await self._offsets(conn, past.view.topic, lock=True)
            for spans in _portions({p: (offsets.get(p, 0), end) for p, end in now.items()}):
                events = await self._took_effect(conn, past, spans)
                for start in range(0, len(events), BATCH):
                    await self.projector.fold_into(conn, past.view, table, events[start : start + BATCH])
            offsets = now
        # What was parked may have been released since it was left out, which moves no offset.
        await self.projector.fold_anew(conn, past.view, table, sorted(past.left_out))

    async def _rebuild_inline(self, conn: Connection, view: View[R], table: str, build: int, tick: Tick) -> None:
        """From the service's own events. Appends wait for the switch only, not for the build."""
        await self._fold_streams(conn, view, table, None, tick)
        await rows.index(conn, view, table)
        await conn.execute("select from view where name = $1 for update", view.name)
        behind = await conn.fetch(
            f"select s.subject from stream s left join {table} t on t.{view.subject} = s.subject"
            " where s.topic = $1 and (t.folded_to is null or t.folded_to::bigint < s.version)",
            view.topic,
        )
        await self._fold_streams(conn, view, table, [row["subject"] for row in behind], tick)
        await self._switch(conn, view, build, table)

    async def _fold_streams(
        self, conn: Connection, view: View[R], table: str, only: Sequence[str] | None, tick: Tick
    ) -> None:
        if only is not None:  # a row may have gone since the first pass
            await conn.execute(f"delete from {table} where {view.subject} = any($1)", only)
            if not only:
                return
        batch: list[Saved[R]] = []
        async for folded in _streams(conn, view, self.database.service, self.vocabulary, only, tick):
            batch.append(folded)
            if len(batch) >= BATCH:
                await rows.save(conn, view, table, batch)
                batch = []
        await rows.save(conn, view, table, batch)

    async def _switch(self, conn: Connection, view: View[Any], build: int, table: str) -> None:
        before = await rows.activate(conn, view, build, table)
        if before is not None and before != table:
            await conn.execute(f"drop table {before}")

    async def _history_has(self, conn: Connection, view: View[Any]) -> bool:
        """Whether `history` holds every event of the types this view reads already. Inline views put none there, and a
        view that is no longer declared stopped to."""
        known = await conn.fetchval(
            "select array(select distinct unnest(types) from view where name = any($1))",
            [projected.name for projected in self.projector.views],
        )
        return view.types <= set(known)

    async def _alone(self, conn: Connection, view: View[Any], lock: str) -> None:
        """One rebuild of a view at a time and none while it is verified, however long that takes: the switch would wait
        for the verifier, and every reader for the switch. Held until the connection is closed."""
        await conn.execute("set lock_timeout = 0")
        await conn.execute(f"select {lock}(hashtext($1))", f"{self.database.service}.{view.name}")
        await conn.execute(f"set lock_timeout = '{PATIENT['lock_timeout']}'")

    # -------------------------------------------------------------------------------------------------------- verify

    async def verify(self, view: View[Any], tick: Tick = lambda _: None) -> Verdict:
        """Compare the view's rows, at one moment, with a replay of the same events."""
        async with self._connected("verify") as (conn, reader):
            await self._alone(conn, view, "pg_advisory_lock_shared")
            async with conn.transaction(isolation="repeatable_read", readonly=True):
                table = await conn.fetchval("select table_name from view where name = $1", view.name)
                if view.inline:
                    return await self._compare_inline(conn, view, str(table), tick)
                return await self._compare_projected(conn, reader, view, str(table), tick)

    async def _compare_projected(
        self, conn: Connection, reader: Reader, view: View[R], table: str, tick: Tick
    ) -> Verdict:
        different: list[str] = []
        parked: list[str] = []
        count = 0
        offsets = await self._offsets(conn, view.topic)
        for spans in _portions({p: (0, end) for p, end in offsets.items()}):
            actual = await _rows_of(conn, view, table, list(spans))
            left_out = await self._parked_subjects(conn, view.topic, list(spans))
            events = await self._read(reader, view.topic, spans, view.types, tick, partial(_not_about, left_out))
            expected = {subject: fold(view, group) for subject, group in by_subject(events).items()}
            count += len(actual)
            parked += sorted(left_out)
            different += _differences(actual, expected, left_out)
        return Verdict(view.name, view.version, count, tuple(different[:20]), tuple(parked))

    async def _compare_inline(self, conn: Connection, view: View[R], table: str, tick: Tick) -> Verdict:
        streams = _streams(conn, view, self.database.service, self.vocabulary, None, tick)
        expected = {getattr(folded.row, view.subject): folded async for folded in streams}
        actual = await _rows_of(conn, view, table, list(range(PARTITIONS)))
        return Verdict(view.name, view.version, len(actual), tuple(_differences(actual, expected, set())[:20]), ())

    # ------------------------------------------------------------------------------------------------------- reading

    async def _offsets(self, conn: Any, topic: str, lock: bool = False) -> dict[int, int]:
        found = await conn.fetch(
            "select partition, next_offset from lane where consumer = $1 and topic = $2 order by partition"
            + (" for update" if lock else ""),
            self.consumer,
            topic,
        )
        return {row["partition"]: row["next_offset"] for row in found}

    async def _read(
        self,
        reader: Reader,
        topic: str,
        spans: dict[int, Span],
        types: frozenset[str],
        tick: Tick,
        wanted: Callable[[Record], bool],
    ) -> list[Recorded[Any]]:
        """The events of these types in the partitions' spans of offsets, each once; what is not `wanted` is not even
        decoded, for it may be parked because nobody can."""
        events: dict[tuple[str, str, int], Recorded[Any]] = {}
        at: dict[Lane, int] = {(topic, p): start for p, (start, end) in spans.items() if start < end}
        only = self.vocabulary.read_as(types)
        waited = 0
        while at:
            found = await reader.fetch(at, BATCH, wait_s=1.0, only=only)
            waited = 0 if found else waited + 1
            if waited > 20:
                raise Unavailable(f"the log does not give {topic} from {at} on")
            for lane, records in found.items():
                end = spans[lane[1]][1]
                for r in records:
                    if r.offset >= end or not isinstance(r, Record) or self.vocabulary.newest(r.type) not in types:
                        continue
                    if wanted(r):
                        events.setdefault((r.source, r.subject, r.sequence), self.vocabulary.recorded(r))
                start, at[lane] = at[lane], records[-1].offset + 1
                tick(at[lane] - start)
                if at[lane] >= end:
                    del at[lane]
        return list(events.values())

    async def _parked(self, conn: Connection, topic: str, partitions: list[int]) -> dict[str, str]:
        """Parked event's id → its subject."""
        found = await conn.fetch(
            "select id, subject from parked"
            " where consumer = $1 and topic = $2 and partition = any($3) and id is not null",
            self.consumer,
            topic,
            partitions,
        )
        return {str(row["id"]): str(row["subject"]) for row in found}

    async def _parked_subjects(self, conn: Connection, topic: str, partitions: list[int]) -> set[str]:
        """Cases of which something is parked; what a record without a readable source says of its key is no case."""
        found = await conn.fetch(
            "select distinct subject from parked"
            " where consumer = $1 and topic = $2 and partition = any($3) and source is not null",
            self.consumer,
            topic,
            partitions,
        )
        return {row["subject"] for row in found}


def _portions(spans: dict[int, Span]) -> Iterator[dict[int, Span]]:
    """The partitions in portions that fit into memory together: a subject lives in one partition, so each portion is
    folded by itself."""
    portion: dict[int, Span] = {}
    size = 0
    for partition, (start, end) in sorted(spans.items()):
        if portion and size + end - start > TOGETHER:
            yield portion
            portion, size = {}, 0
        portion[partition] = (start, end)
        size += end - start
    if portion:
        yield portion


async def _rows_of(conn: Connection, view: View[R], table: str, partitions: list[int]) -> dict[str, Saved[R]]:
    found = await conn.fetch(
        f"select {', '.join(view.columns)}, folded_to from {table} where partition = any($1)", partitions
    )
    return {row[0]: rows.saved(view, row) for row in found}


async def _streams(
    conn: Connection, view: View[R], source: str, vocabulary: Vocabulary, only: Sequence[str] | None, tick: Tick
) -> AsyncIterator[Saved[R]]:
    """The inline view's rows, folded from `events` in stream order."""
    where = "" if only is None else " and subject = any($2)"
    args: list[Any] = [view.topic] if only is None else [view.topic, only]
    subject, row, sequence, count = None, None, 0, 0
    async for stored_row in conn.cursor(
        f"select * from events where topic = $1{where} order by subject, sequence", *args
    ):
        count += 1
        if stored_row["subject"] != subject:
            if row is not None:
                yield Saved(f"{sequence:020d}", row)
            subject, row, sequence = stored_row["subject"], None, 0
        if vocabulary.newest(stored_row["type"]) in view.types:
            row = view.fold(row, vocabulary.recorded(stored(stored_row, source)))
            sequence = stored_row["sequence"]
        if count % BATCH == 0:
            tick(BATCH)
    if row is not None:
        yield Saved(f"{sequence:020d}", row)


def _not_about(subjects: set[str], r: Record) -> bool:
    return r.subject not in subjects


def _differences(actual: dict[str, Saved[R]], expected: dict[str, Any], left_out: set[str]) -> list[str]:
    subjects = sorted((actual.keys() | expected.keys()) - left_out)
    return [subject for subject in subjects if actual.get(subject) != expected.get(subject)]
