"""The store: decisions become events, once, in order, many of them in one commit.

A change locks the heads of its streams, folds what happened in them, asks a pure decision what happens next, and
appends it together with the outbox rows and the inline views. Changes that arrive together share one transaction.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

from events.database import Connection, Database
from events.errors import CasewalkError, Unavailable
from events.event import Recorded
from events.failpoint import at as failpoint
from events.privacy import Keyring
from events.store.faults import LOST_RACE, ONE_CHANGES_FAULT, PASSING
from events.store.group import Group
from events.store.shapes import (
    Change,
    Changed,
    Decision,
    Fold,
    New,
    Once,
    Outcome,
    Retry,
    Stream,
    parse_position,
    position,
)
from events.views import View
from events.wire import VOCABULARY, Vocabulary, stored

__all__ = [
    "PASSING",
    "TABLES",
    "Change",
    "Changed",
    "Decision",
    "Fold",
    "New",
    "Once",
    "Outcome",
    "Retry",
    "Store",
    "Stream",
    "parse_position",
    "position",
]

S = TypeVar("S")

TABLES = """
create table if not exists {schema}.stream (
    topic       text collate "C" not null,
    subject     text collate "C" not null,
    version     bigint not null check (version > 0),
    recorded_at timestamptz not null,
    primary key (topic, subject)
);
create table if not exists {schema}.events (
    topic          text collate "C" not null,
    subject        text collate "C" not null,
    sequence       bigint not null,
    id             uuid not null unique,
    type           text collate "C" not null,
    occurred_at    timestamptz not null,
    recorded_at    timestamptz not null,
    actor          text collate "C" not null,
    correlation_id uuid not null,
    causation_id   uuid,
    traceparent    text collate "C" not null,
    data           text not null,
    primary key (topic, subject, sequence)
);
create index if not exists events_recorded_at on {schema}.events (recorded_at, topic, subject, sequence);
create sequence if not exists {schema}.outbox_position cache 1;
create table if not exists {schema}.outbox (
    position    bigint primary key default nextval('{schema}.outbox_position'),
    topic       text collate "C" not null,
    partition   smallint not null,
    subject     text collate "C" not null,
    sequence    bigint not null,
    recorded_at timestamptz not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
create table if not exists {schema}.once (
    scope       text collate "C" not null,
    key         text collate "C" not null,
    fingerprint bytea not null,
    answer      text not null,
    created_at  timestamptz not null default clock_timestamp(),
    primary key (scope, key)
);
create index if not exists once_created_at on {schema}.once (created_at);
"""

MAX_GROUP = 256
"""Changes in one commit."""

REMEMBERED_STATES = 20_000


@dataclass
class _Waiting:
    change: Change
    future: asyncio.Future[Changed]
    tries: int = 0


MAX_TRIES = 400
"""Groups a change may be passed over in, because somebody else holds its heads."""


class Store:
    """The events one service writes, with the inline views its decisions need."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        inline: Sequence[View[Any]] = (),
        vocabulary: Vocabulary = VOCABULARY,
    ) -> None:
        self.database, self.keyring, self.inline, self.vocabulary = database, keyring, tuple(inline), vocabulary
        self.source = database.service
        self.appended = asyncio.Event()
        """Set after every commit with events; the relay waits for it."""
        self.asked = 0
        """Changes that callers asked for."""
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._remembered: OrderedDict[Stream[Any], tuple[int, Any]] = OrderedDict()
        self._ended = False

    # ------------------------------------------------------------------------------------------------ for callers

    async def change(self, *streams: Stream[Any], decision: Decision, actor: str, **more: Any) -> Changed:
        """Decide over `streams` and append what happens, in the next commit.

        `more` are the other fields of `Change`. Returns when it is durable. Raises what the decision raises, Stale
        when `expected` is not the version, Reused for another request under a used key, Unavailable when the streams
        stay busy or the database is away; then nothing happened, or everything did under the same ids.
        """
        if self._ended:
            raise Unavailable("this service is stopping; try again")
        future: asyncio.Future[Changed] = asyncio.get_running_loop().create_future()
        self.asked += 1
        self._queue.append(_Waiting(Change(tuple(streams), decision, actor, **more), future))
        self._arrived.set()
        return await future

    async def state(self, stream: Stream[S]) -> tuple[S, int]:
        """The stream's state and version as committed now; version 0 means that there is nothing."""
        events = await self.events(*stream.key)
        return stream.fold.over(stream.subject, events), len(events)

    async def events(self, topic: str, subject: str, after: int = 0) -> list[Recorded[Any]]:
        """The stream's events with a higher sequence than `after`, in order."""
        rows = await self.database.readers.fetch(
            "select * from events where topic = $1 and subject = $2 and sequence > $3 order by sequence",
            topic,
            subject,
            after,
        )
        return [self.recorded(row) for row in rows]

    async def run(self) -> None:
        """Commit groups until cancelled; then whoever still waits is told so."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._queue:
                    group = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_GROUP))]
                    await self._commit([waiting for waiting in group if not waiting.future.done()])
        finally:
            self._ended = True
            _refuse(self._queue, Unavailable("this service is stopping; try again"))

    # ------------------------------------------------------------------------------------------- for our own rooms

    async def apply(
        self, conn: Connection, changes: Sequence[Change], wait: bool = True, apart: bool = True
    ) -> list[Outcome]:
        """Decide and append inside the caller's transaction; one outcome per change, in order.

        With `wait` locked heads are waited for, in order of their keys; without, changes over them come back as
        `Retry`. A change that is refused harms no other; with `apart` neither does one that fails, without it is raised
        what it failed with and the transaction is lost. The caller must call `committed` after its commit.
        """
        return await Group(self, conn, changes, apart).decide(wait) if changes else []

    def committed(self, outcomes: Iterable[Outcome]) -> None:
        """Remember the committed states and wake the relay."""
        for outcome in outcomes:
            if isinstance(outcome, Changed) and outcome.events:
                self.appended.set()
                for stream, version, state in outcome.baselines:
                    self._remembered[stream] = (version, state)
                    self._remembered.move_to_end(stream)
        while len(self._remembered) > REMEMBERED_STATES:
            self._remembered.popitem(last=False)

    def remembered(self, stream: Stream[S], version: int) -> tuple[int, S]:
        """(version, state) of the stream as committed at some time, not newer than `version`. A baseline only: the
        head decides, and what came after is read."""
        found = self._remembered.get(stream)
        if found is None or found[0] > version:
            return 0, stream.fold.initial(stream.subject)
        return found

    def recorded(self, row: asyncpg.Record) -> Recorded[Any]:
        """A row of `events` as an event of ours."""
        return self.vocabulary.recorded(stored(row, self.source))

    # ------------------------------------------------------------------------------------------------ group commit

    async def _commit(self, group: list[_Waiting]) -> None:
        if not group:
            return
        outcomes: list[Outcome]
        try:
            outcomes = await self._in_one(group)
            self.committed(outcomes)
        except LOST_RACE:
            outcomes = [Retry()] * len(group)
        except (asyncpg.PostgresError, *PASSING) as error:
            outcomes = [_away(error)] * len(group)
        except CasewalkError as error:
            outcomes = [error] * len(group)
        except BaseException as error:
            _refuse(group, _away(error))
            raise
        if not self._answer(group, outcomes):
            await asyncio.sleep(random.uniform(0.002, 0.010))  # somebody else holds every head: let them finish

    async def _in_one(self, group: list[_Waiting]) -> list[Outcome]:
        """One transaction; where a change breaks it, another in which it breaks nothing but itself."""
        changes = [waiting.change for waiting in group]
        async with self.database.writers.acquire() as conn:
            try:
                outcomes = await self._transaction(conn, changes, apart=False)
            except ONE_CHANGES_FAULT as error:
                if isinstance(error, PASSING):
                    raise
                outcomes = await self._transaction(conn, changes, apart=True)
            failpoint("store.after_commit")
        return outcomes

    async def _transaction(self, conn: Connection, changes: Sequence[Change], apart: bool) -> list[Outcome]:
        async with conn.transaction():
            outcomes = await self.apply(conn, changes, wait=False, apart=apart)
            failpoint("store.before_commit")
        return outcomes

    def _answer(self, group: list[_Waiting], outcomes: list[Outcome]) -> bool:
        """Tell every caller; queue the losers of a race again. False when nobody could be told."""
        told = False
        for waiting, outcome in zip(group, outcomes, strict=True):
            again = isinstance(outcome, Retry) and waiting.tries < MAX_TRIES
            told = told or not again
            if waiting.future.done():
                continue
            if again:
                waiting.tries += 1
                self._queue.append(waiting)
            elif isinstance(outcome, Changed):
                waiting.future.set_result(outcome)
            elif isinstance(outcome, Retry):
                waiting.future.set_exception(Unavailable("what this request is about stays busy; try again"))
            else:
                waiting.future.set_exception(outcome)
        return told


def _refuse(group: Iterable[_Waiting], why: Unavailable) -> None:
    for waiting in group:
        if not waiting.future.done():
            waiting.future.set_exception(why)


def _away(error: BaseException) -> Unavailable:
    unavailable = Unavailable("the database is not answering; nothing is lost, try again")
    unavailable.__cause__ = error
    return unavailable
