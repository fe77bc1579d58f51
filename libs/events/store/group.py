"""A group: changes that are decided and appended in one transaction, none of which harms another."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from events.database import Connection
from events.errors import CasewalkError, Invalid, Reused, Stale
from events.event import Event, Recorded
from events.failpoint import at as failpoint
from events.store.faults import ONE_CHANGES_FAULT, PASSING, explained, taken
from events.store.shapes import AHEAD, OLDEST, Change, Changed, Fold, New, Outcome, Retry, Stream, position
from events.views.project import fold_inline
from events.views.rows import hold
from events.wire import ENVELOPE, Record, envelope, record, traceparent

if TYPE_CHECKING:
    from events.store import Store

_EXTEND = ", ".join(ENVELOPE)

_LOCK = (
    "with k as (select * from unnest($1::text[], $2::text[]) k (topic, subject)),"
    " held as materialized (select s.topic, s.subject, s.version, s.recorded_at from stream s"
    " join k on s.topic = k.topic and s.subject = k.subject order by s.topic, s.subject for update of s {})"
    " select * from held {} union all select null, null, null, clock_timestamp()"
)
_LOCK_ALL = _LOCK.format("", "")
_LOCK_FREE = _LOCK.format(
    "skip locked",
    "union all select s.topic, s.subject, null, null from stream s"
    " join k on s.topic = k.topic and s.subject = k.subject",
)
"""Heads that are there; every one that could be locked, with its version; and the time after that."""

Key = tuple[str, str]
"""(topic, subject)."""


@dataclass
class _Head:
    version: int = 0
    recorded_at: datetime = OLDEST


@dataclass
class _Draft:
    change: Change
    events: list[Recorded[Any]]
    records: list[Record] = field(default_factory=list)


class Group:
    """One transaction's changes. The caller begins and commits; `decide` does everything between.

    A change that cannot be stored breaks all of it, which is then to be rolled back; `apart` keeps it from that, for
    two more round trips: savepoints.
    """

    def __init__(self, store: Store, conn: Connection, changes: Sequence[Change], apart: bool) -> None:
        self.store, self.conn, self.changes, self.apart = store, conn, changes, apart
        self.outcomes: dict[int, Outcome] = {}
        self.heads: dict[Key, _Head] = {}
        self.states: dict[tuple[Key, int], Any] = {}
        """By stream and the identity of the fold."""
        self.tables: dict[str, str] = {}
        self.now = OLDEST

    async def decide(self, wait: bool) -> list[Outcome]:
        """One outcome per change, in order. With `wait` locked heads are waited for, in order of their keys; without,
        changes over them come back as `Retry`."""
        if self.store.inline:
            self.tables = await hold(self.conn, self.store.inline)
        busy = await self._lock(wait)
        waiting = []
        for i, change in enumerate(self.changes):
            if any(stream.key in busy for stream in change.streams):
                self.outcomes[i] = Retry()
            else:
                waiting.append(i)
        while waiting:
            wave, waiting = self._disjoint(waiting)
            await self._wave(wave)
        return [self.outcomes[i] for i in range(len(self.changes))]

    # --------------------------------------------------------------------------------------------------------- heads

    async def _lock(self, wait: bool) -> set[Key]:
        """Lock every head there is, and then read the clock; answers the keys somebody else holds."""
        keys = sorted({stream.key for change in self.changes for stream in change.streams})
        rows = await self.conn.fetch(_LOCK_ALL if wait else _LOCK_FREE, *_columns(keys))
        there: set[Key] = set()
        for topic, subject, version, at in rows:
            if topic is None:
                self.now = at
            elif version is None:
                there.add((topic, subject))
            else:
                self.heads[topic, subject] = _Head(version, at)
        busy = there - self.heads.keys()
        self.heads |= {key: _Head() for key in keys if key not in self.heads}
        return busy

    def _disjoint(self, waiting: list[int]) -> tuple[list[int], list[int]]:
        """Split into changes that share no head or idempotency key with an earlier one, and the rest, in order."""
        taken: set[Key] = set()
        wave: list[int] = []
        rest: list[int] = []
        for i in waiting:
            keys = {stream.key for stream in self.changes[i].streams}
            once = self.changes[i].once
            if once is not None:
                keys.add((f"once {once.scope}", once.key))
            (rest if keys & taken else wave).append(i)
            taken |= keys
        return wave, rest

    # --------------------------------------------------------------------------------------------------------- a wave

    async def _wave(self, wave: list[int], again: bool = False) -> None:
        """Changes over disjoint heads: together if they can be, else, apart, each under a savepoint of its own."""
        if not self.apart:
            self.outcomes |= await self._decide_and_write(wave)
            return
        try:
            async with self.conn.transaction():
                self.outcomes |= await self._decide_and_write(wave)
        except ONE_CHANGES_FAULT as error:
            if isinstance(error, PASSING):
                raise
            if len(wave) > 1:
                for i in wave:
                    await self._wave([i])
            elif taken(error, self.changes[wave[0]]) and not again:
                await self._wave(wave, again=True)  # another process was faster under this key; its answer is there now
            else:
                self.outcomes[wave[0]] = explained(error, self.changes[wave[0]])

    async def _decide_and_write(self, wave: list[int]) -> dict[int, Outcome]:
        outcomes: dict[int, Outcome] = {}
        drafts: dict[int, _Draft] = {}
        changes = [self.changes[i] for i in wave]
        await self._fold(changes)
        answered, caused = await self._answered(changes), await self._caused(changes)
        for i in wave:
            change = self.changes[i]
            try:
                if change.once is not None and (change.once.scope, change.once.key) in answered:
                    outcomes[i] = self._repeat(change, answered[change.once.scope, change.once.key])
                elif change.cause is not None and change.event_id(0) in caused:
                    outcomes[i] = self._unchanged(change)
                else:
                    drafts[i] = await self._draft(change)
            except CasewalkError as error:
                outcomes[i] = error
        outcomes |= await self._seal_and_encode(drafts)
        done = {i: draft for i, draft in drafts.items() if i not in outcomes}
        outcomes |= {i: self._changed(draft) for i, draft in done.items()}  # a fold may fail: before anything moves
        await self._write(list(done.values()))
        return outcomes

    async def _fold(self, changes: list[Change]) -> None:
        """The state of every (stream, fold): what the store remembers, plus what was appended since."""
        behind: dict[Key, list[tuple[Fold[Any], int]]] = {}
        for stream in {stream for change in changes for stream in change.streams}:
            version, state = self.store.remembered(stream, self.heads[stream.key].version)
            self.states[stream.key, id(stream.fold)] = state
            if version < self.heads[stream.key].version:
                behind.setdefault(stream.key, []).append((stream.fold, version))
        if not behind:
            return
        rows = await self.conn.fetch(
            "select e.* from events e join unnest($1::text[], $2::text[], $3::bigint[]) k (topic, subject, after)"
            " on e.topic = k.topic and e.subject = k.subject and e.sequence > k.after"
            " order by e.topic, e.subject, e.sequence",
            *_columns(list(behind)),
            [min(version for _, version in folds) for folds in behind.values()],
        )
        for row in rows:
            event, key = self.store.recorded(row), (row["topic"], row["subject"])
            for fold, version in behind[key]:
                if event.sequence > version:
                    self.states[key, id(fold)] = fold.evolve(self.states[key, id(fold)], event)

    async def _answered(self, changes: list[Change]) -> dict[Key, asyncpg.Record]:
        """The idempotency records these changes' keys have already."""
        keyed = [(change.once.scope, change.once.key) for change in changes if change.once is not None]
        if not keyed:
            return {}
        rows = await self.conn.fetch(
            "select o.* from once o join unnest($1::text[], $2::text[]) k (scope, key)"
            " on o.scope = k.scope and o.key = k.key",
            *_columns(keyed),
        )
        return {(row["scope"], row["key"]): row for row in rows}

    async def _caused(self, changes: list[Change]) -> set[str]:
        """The first ids of reactions that were recorded before: their cause is done, whatever a cursor says."""
        first = [change.event_id(0) for change in changes if change.cause is not None]
        if not first:
            return set()
        rows = await self.conn.fetch("select id from events where id = any($1::uuid[])", first)
        return {str(row["id"]) for row in rows}

    def _repeat(self, change: Change, first: asyncpg.Record) -> Changed:
        assert change.once is not None
        if first["fingerprint"] != change.once.fingerprint:
            raise Reused("this Idempotency-Key was used for another request")
        return dataclasses.replace(self._unchanged(change), answer=json.loads(first["answer"]))

    def _unchanged(self, change: Change) -> Changed:
        version = self.heads[change.streams[0].key].version
        place = position(self.store.source, *change.streams[0].key, version)
        return Changed((), version, place, tuple(self.states[s.key, id(s.fold)] for s in change.streams))

    # ------------------------------------------------------------------------------------------------------ decisions

    async def _draft(self, change: Change) -> _Draft:
        head = self.heads[change.streams[0].key]
        if change.expected is not None and change.expected != head.version:
            raise Stale(f"this is version {head.version} by now, not {change.expected}", version=head.version)
        looked = () if change.look is None else (await change.look(self.conn),)
        now = max(self.now, *(self.heads[stream.key].recorded_at for stream in change.streams))
        if change.cause is not None:
            now = max(now, change.cause.recorded_at + timedelta(microseconds=1))
        wanted = change.decision(now, *(self.states[s.key, id(s.fold)] for s in change.streams), *looked)
        return _Draft(change, self._recorded(change, wanted, now))

    def _recorded(self, change: Change, wanted: Sequence[Event | New], now: datetime) -> list[Recorded[Any]]:
        drafted: list[Recorded[Any]] = []
        last = {stream.key: dataclasses.replace(self.heads[stream.key]) for stream in change.streams}
        trace = traceparent(change.cause.traceparent if change.cause else "")
        ours = change.actor == f"service:{self.store.source}"
        for index, item in enumerate(wanted):
            new = item if isinstance(item, New) else New(item)
            stream = change.streams[new.stream]
            self._check_writer(new.event, stream)
            head = last[stream.key]
            head.version, head.recorded_at = head.version + 1, max(now, head.recorded_at + timedelta(microseconds=1))
            event_id = new.id or change.event_id(index)
            flow = change.cause or (drafted[0] if drafted else None)
            drafted.append(
                Recorded(
                    event_id,
                    self.store.source,
                    *stream.key,
                    head.version,
                    _possible(new.occurred_at or now, None if ours else now),
                    head.recorded_at,
                    change.actor,
                    event_id if flow is None else flow.correlation_id,
                    change.cause.id if change.cause else None,
                    new.event,
                    trace,
                )
            )
        return drafted

    def _check_writer(self, event: Event, stream: Stream[Any]) -> None:
        if self.store.source != event.WRITER or stream.fold.topic != event.TOPIC:
            raise TypeError(f"{self.store.source} cannot say {event.TYPE} on {stream.fold.topic}")

    async def _seal_and_encode(self, drafts: dict[int, _Draft]) -> dict[int, Outcome]:
        """Personal texts are sealed and events become JSON; answers the changes for which that cannot be."""
        refused: dict[int, Outcome] = {}
        sealed = await self.store.keyring.seal(self.conn, {e.id: e.data for d in drafts.values() for e in d.events})
        for i, draft in drafts.items():
            try:
                draft.events = [_with(e, sealed[e.id]) for e in draft.events]
                draft.records = [record(e) for e in draft.events]
            except CasewalkError as error:
                refused[i] = error
        return refused

    # -------------------------------------------------------------------------------------------------------- writing

    async def _write(self, drafts: list[_Draft]) -> None:
        records = [r for draft in drafts for r in draft.records]
        if records:
            await self._move_heads(records)
            failpoint("store.after_heads")
            await self.conn.execute(
                f"with new as (insert into events ({_EXTEND})"
                " select * from unnest($1::text[], $2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::timestamptz[],"
                " $7::timestamptz[], $8::text[], $9::uuid[], $10::uuid[], $11::text[], $12::text[]))"
                " insert into outbox (topic, subject, sequence, recorded_at, partition)"
                " select * from unnest($1::text[], $2::text[], $3::bigint[], $7::timestamptz[], $13::smallint[])",
                *_columns([envelope(r) for r in records]),
                [r.partition for r in records],
            )
            failpoint("store.after_events")
        keyed = [draft.change.once for draft in drafts if draft.change.once is not None]
        if keyed:
            await self.conn.execute(
                "insert into once (scope, key, fingerprint, answer)"
                " select * from unnest($1::text[], $2::text[], $3::bytea[], $4::text[])",
                *_columns([(once.scope, once.key, once.fingerprint, json.dumps(once.answer)) for once in keyed]),
            )
        events = [e for draft in drafts for e in draft.events]
        for view in self.store.inline:
            mine = [event for event in events if event.data.TYPE in view.types]
            if mine:
                await fold_inline(self.conn, view, self.tables[view.name], mine)
        for event in events:  # later waves of the group go on from here
            self.heads[event.topic, event.subject] = _Head(event.sequence, event.recorded_at)

    async def _move_heads(self, records: list[Record]) -> None:
        """Compare and set: a head that is not where we folded it means that somebody else won, and we decide again."""
        last = {(r.topic, r.subject): r for r in records}
        status = await self.conn.execute(
            "with k as (select * from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[])"
            "  k (topic, subject, before, after, recorded_at)),"
            " old as (update stream s set version = k.after, recorded_at = k.recorded_at from k"
            "  where k.before > 0 and s.topic = k.topic and s.subject = k.subject and s.version = k.before"
            "  returning 1),"
            " new as (insert into stream (topic, subject, version, recorded_at)"
            "  select topic, subject, after, recorded_at from k where before = 0 order by topic, subject"
            "  on conflict do nothing returning 1)"
            " select 1 from old union all select 1 from new",
            *_columns(
                [(*key, self.heads[key].version, last[key].sequence, last[key].recorded_at) for key in sorted(last)]
            ),
        )
        if status != f"SELECT {len(last)}":
            raise Retry

    def _changed(self, draft: _Draft) -> Changed:
        """What the change comes to."""
        baselines = tuple(self._baseline(stream, draft.events) for stream in draft.change.streams)
        stream, version, _ = baselines[0]
        place = position(self.store.source, *stream.key, version)
        return Changed(tuple(draft.events), version, place, tuple(state for *_, state in baselines), None, baselines)

    def _baseline(self, stream: Stream[Any], events: list[Recorded[Any]]) -> tuple[Stream[Any], int, Any]:
        state, version = self.states[stream.key, id(stream.fold)], self.heads[stream.key].version
        for event in events:
            if (event.topic, event.subject) == stream.key:
                state, version = stream.fold.evolve(state, event), event.sequence
        return stream, version, state


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows as columns, for unnest."""
    return [list(column) for column in zip(*rows, strict=True)]


def _possible(occurred_at: datetime, now: datetime | None) -> datetime:
    """`now` is None where a service speaks of itself: of what a clock recorded that may have gone back since."""
    if now is not None and occurred_at > now + AHEAD:
        raise Invalid(f"{occurred_at.isoformat()} is more than 5 minutes ahead of our clock")
    if occurred_at < OLDEST:
        raise Invalid(f"{occurred_at.isoformat()} is before 1970")
    return occurred_at


def _with(event: Recorded[Any], data: Event | CasewalkError) -> Recorded[Any]:
    if isinstance(data, CasewalkError):
        raise data
    return event if data is event.data else event._replace(data=data)
