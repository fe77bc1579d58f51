"""Consumers: every record takes effect once, in order, whatever crashes; a bad record stops only its case."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any, Protocol
from uuid import uuid4

import asyncpg
import structlog

from events import lanes, parking
from events.admission import Admission, Batch
from events.database import Connection, Database
from events.errors import Unavailable
from events.event import Event, Recorded
from events.failpoint import at as failpoint
from events.log import Lane, Log, Reader
from events.store import PASSING, Change, Changed, Decision, Fold, Outcome, Retry, Store
from events.timers import Firing, Timers
from events.views import project
from events.views.rows import Outdated
from events.wire import Broken, Record, Vocabulary

BATCH = 1000  # records at once; of several lanes up to a quarter from each, where memory or PostgreSQL has them
LEASES_KEPT = 5
"""How often a lease is renewed while it lasts."""
TICK_S = 0.5
"""How often timers are looked at, and what somebody asked to be tried again; what is new is heard of at once."""
RETRIES = 20
"""Parked cases tried again in a tick: what comes in does not wait for all that somebody asked for."""
GATHER_S = 0.05
"""How long a consumer waits for more, when all it has got is of no concern to it."""
FEW, PAUSE_S = 50, 0.1
"""After a transaction over few records a consumer waits as long as it took, at most so long: one costs about as much as
fifty do, and the busier a process is, the more of them are taken together."""
HINT_EVERY_S = 0.1
HINT_AGAIN_S = 30.0
"""How long a word somebody else says about a lane that is ours by now may stand."""
QUIET_LIMIT_S = 30.0
"""How long a client may give nothing before somebody looks whether there is nothing."""
STUCK_AFTER = 20
"""Failures in a row after which a consumer says that it is stuck."""

log_ = structlog.get_logger("consume")


@dataclass(frozen=True)
class Reactor:
    """Which events of the log lead a service to say something about the same subject.

    `decide(event, looked, now, state)` is pure: `state` is the service's own stream of the subject, folded by `fold`;
    `looked` is what `look(conn, events)` read once for the whole batch (None without it). It returns events; doing a
    thing twice is not an error, it is no events. Whatever it raises parks the case.
    """

    name: str
    reads: tuple[type[Event], ...]
    fold: Fold[Any]
    decide: Decision
    look: Callable[[Connection, Sequence[Recorded[Any]]], Awaitable[Any]] | None = None
    keeps: bool = False
    """Whether everything it ever read is kept in the table `past`, these events included before `look` is called: for a
    decision that depends on all of a subject's events, in the order in which they happened."""
    wants: Callable[[Recorded[Any]], bool] | None = None
    """Which of the events it reads lead to anything (None: any); the others are neither kept nor decided on."""

    def is_for(self, event: Recorded[Any]) -> bool:
        return isinstance(event.data, self.reads) and (self.wants is None or self.wants(event))


class Handler(Protocol):
    """What a consumer does with events."""

    reads: frozenset[str]
    """Wire types, newest versions."""

    async def handle(self, conn: Connection, events: Sequence[Recorded[Any]]) -> Any:
        """Take effect inside the caller's transaction. Raising undoes all of it."""


class Reacting:
    """The handler of a service's reactors: decides and emits through the store, in the consumer's transaction."""

    def __init__(self, store: Store, reactors: Sequence[Reactor]) -> None:
        self.store, self.reactors = store, tuple(reactors)
        self.reads = frozenset(event.TYPE for reactor in reactors for event in reactor.reads)

    async def handle(self, conn: Connection, events: Sequence[Recorded[Any]]) -> list[Outcome]:
        changes = []
        for reactor in self.reactors:
            mine = [event for event in events if reactor.is_for(event)]
            if mine and reactor.keeps:
                await project.remember(conn, mine, over=True, table="past")
            looked = await reactor.look(conn, mine) if mine and reactor.look is not None else None
            changes += [self._change(reactor, event, looked) for event in mine]
        outcomes = await self.store.apply(conn, changes, apart=False)
        for outcome in outcomes:
            if not isinstance(outcome, Changed):
                raise outcome
        return outcomes

    def _change(self, reactor: Reactor, event: Recorded[Any], looked: Any) -> Change:
        return Change(
            (reactor.fold(event.subject),),
            partial(reactor.decide, event, looked),
            f"service:{self.store.source}",
            cause=event,
            consumer=reactor.name,
        )


class Consumer:
    """Reads the log in lanes it has leased and lets its handler take effect, once per record.

    One transaction: the lane rows are locked, repeats dropped by sequence, a parked case's records parked behind it,
    the handler run, the offsets moved. A failing transaction is repeated in parts; a case that fails alone is parked.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        log: Log,
        handler: Handler,
        vocabulary: Vocabulary,
        store: Store | None = None,
        timers: Sequence[Timers] = (),
        lease_s: float = lanes.LEASE_S,
    ) -> None:
        self.lease_s = lease_s
        self.name, self.database, self.log, self.handler = name, database, log, handler
        self.admission = Admission(name, handler.reads, vocabulary)
        self.store = store
        self.worker = str(uuid4())
        self.firing = None if store is None else Firing(name, self.worker, store, log, timers)
        self.moved = asyncio.Condition()
        """Notified after every transaction that moved an offset."""
        self.passed_by = 0
        self.failing: str | None = None
        """Why it makes no progress, once it failed many times in a row."""
        self._positions: dict[Lane, int] = {}
        self._handled_at: dict[Lane, datetime] = {}
        """When the last record handled was recorded."""
        self._failures, self._heard_at = 0, 0.0
        self.quiet_limit_s = QUIET_LIMIT_S

    # -------------------------------------------------------------------------------------------------------- running

    async def run(self) -> None:
        """Consume until cancelled, whatever is away. Ends when outdated; raises (a group) what ends its hints."""
        reader = self.log.reader(self.name)
        async with asyncio.TaskGroup() as beside:
            hinting = beside.create_task(self._hint(reader), name=f"{self.name} hints")
            try:
                while True:
                    try:
                        await self._consume(reader)
                    except Outdated as error:
                        log_.warning("consumer ends", consumer=self.name, why=error.message)
                        return
                    except (asyncpg.PostgresError, *PASSING, Unavailable, Retry) as error:
                        self._failed(f"{type(error).__name__}: {error}")
                        await asyncio.sleep(random.uniform(0.02, 0.2))
            finally:
                hinting.cancel()
                await reader.close()

    def _failed(self, why: str) -> None:
        self._failures += 1
        if self._failures == STUCK_AFTER:
            self.failing = f"{self.name} makes no progress: {why}"
            log_.error("consumer is stuck", consumer=self.name, why=why)
        elif self._failures < STUCK_AFTER:
            log_.info("consumer tries again", consumer=self.name, why=why)

    async def release(self) -> None:
        """Give the lanes back at once instead of letting the lease run out."""
        async with self.database.writers.acquire() as conn:
            await lanes.release(conn, self.name, self.worker)

    async def _consume(self, reader: Reader) -> None:
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        leased_at = ticked_at = -1e9
        async with self.database.writers.acquire() as conn:
            await lanes.prepare(conn, self.name)
        while True:
            if loop.time() - leased_at > self.lease_s / LEASES_KEPT:
                await self._lease()
                leased_at = loop.time()
            found = await self._fetch(reader)
            if found:
                found = await self._gathered(reader, found)
                began = loop.time()
                await self._take(found)
                if sum(map(len, found.values())) < FEW:
                    await asyncio.sleep(min(PAUSE_S, loop.time() - began))
            if loop.time() - ticked_at > TICK_S:
                await self._retry_parked()
                if self.firing is not None:
                    await self.firing.fire(self._positions)
                ticked_at = loop.time()
            self.failing, self._failures = None, 0

    async def _fetch(self, reader: Reader) -> dict[Lane, list[Record | Broken]]:
        """What comes next. A client that gives nothing for long although there is something (aiokafka #1037) is closed;
        the next fetch makes a new one."""
        found: dict[Lane, list[Record | Broken]] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(self.quiet_limit_s):
                found = await reader.fetch(self._positions, BATCH, wait_s=min(TICK_S, self.lease_s / LEASES_KEPT))
        now = asyncio.get_running_loop().time()
        if found or now - self._heard_at < self.quiet_limit_s:
            self._heard_at = now if found else self._heard_at
            return found
        self._heard_at = now
        ends = await self.log.ends()
        if any(ends.get(lane, 0) > offset for lane, offset in self._positions.items()):
            log_.warning("a stuck client is replaced", consumer=self.name)
            await reader.renew()
        return {}

    async def _gathered(
        self, reader: Reader, found: dict[Lane, list[Record | Broken]]
    ) -> dict[Lane, list[Record | Broken]]:
        """What only passes by is not worth a transaction: more of it is waited for a moment, or something read here."""
        loop = asyncio.get_running_loop()
        until = loop.time() + GATHER_S
        count = sum(map(len, found.values()))
        newest = found
        while count < BATCH and not any(map(self.admission.reads_any, newest.values())) and loop.time() < until:
            after = {lane: records[-1].offset + 1 for lane, records in found.items()}
            async with asyncio.timeout(self.quiet_limit_s):
                newest = await reader.fetch(self._positions | after, BATCH, wait_s=until - loop.time())
            for lane, records in newest.items():
                found.setdefault(lane, []).extend(records)
                count += len(records)
        return found

    async def _lease(self) -> None:
        async with self.database.writers.acquire() as conn:
            self._positions = await lanes.lease(conn, self.name, self.worker, self.lease_s)

    async def _hint(self, reader: Reader) -> None:
        """Say every position that was not said yet: also those found on starting, whose last word a crash may have
        swallowed, because the import gate waits for a lane that seems behind."""
        loop = asyncio.get_running_loop()
        said: dict[Lane, int] = {}
        forget_at = loop.time() + HINT_AGAIN_S
        while True:
            await asyncio.sleep(HINT_EVERY_S)
            if loop.time() > forget_at:
                said, forget_at = {}, loop.time() + HINT_AGAIN_S
            if self._positions == said:
                continue
            now = datetime.now(UTC)
            news = {
                lane: (offset, self._handled_at.get(lane, now))
                for lane, offset in self._positions.items()
                if said.get(lane) != offset
            }
            if news:
                try:
                    taken = await reader.hint(news)
                except (*PASSING, Unavailable, asyncpg.PostgresError) as error:
                    log_.info("a lag hint was not taken", consumer=self.name, why=str(error))
                else:
                    said |= {lane: news[lane][0] for lane in taken}

    # ------------------------------------------------------------------------------------------------- one transaction

    async def _take(self, found: Mapping[Lane, list[Record | Broken]]) -> None:
        try:
            await self._transaction(found, self._together)
        except (*PASSING, Unavailable, Outdated, Retry):
            await self._reload()
            raise
        except Exception as error:  # noqa: BLE001 — whatever a fold or a decision raised: find out whose case it is
            log_.info("batch is repeated in parts", consumer=self.name, why=f"{type(error).__name__}: {error}")
            await self._reload()
            await self._transaction(found, self._in_parts)

    async def _reload(self) -> None:
        """Nothing learnt in a failed transaction is kept."""
        async with self.database.writers.acquire() as conn:
            self._positions = await lanes.mine(conn, self.name, self.worker)

    async def _transaction(
        self,
        found: Mapping[Lane, list[Record | Broken]],
        take: Callable[[Connection, Batch], Awaitable[list[Outcome]]],
    ) -> None:
        async with self.database.writers.acquire() as conn:
            async with conn.transaction():
                positions = await lanes.lock(conn, self.name, self.worker, list(found))
                batch = await self.admission.batch(conn, found, positions)
                failpoint("consume.before_handle")
                outcomes = await take(conn, batch)
                failpoint("consume.after_handle")
                await parking.park(conn, self.name, batch.parked)
                await lanes.move(conn, self.name, batch.moved, batch.seen)
                failpoint("consume.before_commit")
            failpoint("consume.after_commit")
        if self.store is not None:
            self.store.committed(outcomes)
        self.passed_by += batch.passed_by
        for lane in found:
            if lane in batch.moved:
                self._positions[lane] = batch.moved[lane].next_offset
                self._handled_at[lane] = batch.handled_at[lane]
            elif lane in positions:
                self._positions[lane] = positions[lane].next_offset
            else:
                self._positions.pop(lane, None)  # somebody else's by now
        async with self.moved:
            self.moved.notify_all()

    async def _together(self, conn: Connection, batch: Batch) -> list[Outcome]:
        if not batch.ready:
            return []
        return await self.handler.handle(conn, batch.ready) or []

    async def _in_parts(self, conn: Connection, batch: Batch) -> list[Outcome]:
        cases: dict[tuple[str, str], list[Recorded[Any]]] = {}
        for event in batch.ready:
            cases.setdefault((event.topic, event.subject), []).append(event)
        return await self._halves(conn, batch, list(cases.values()))

    async def _halves(self, conn: Connection, batch: Batch, cases: Sequence[list[Recorded[Any]]]) -> list[Outcome]:
        """Handle these cases, which together fail, in two parts, and a part that fails likewise: one among hundreds is
        found in a dozen steps."""
        middle = (len(cases) + 1) // 2
        outcomes: list[Outcome] = []
        for part in filter(None, (cases[:middle], cases[middle:])):
            try:
                async with conn.transaction():
                    outcomes += await self.handler.handle(conn, list(chain.from_iterable(part))) or []
            except (*PASSING, Unavailable, Outdated, Retry):
                raise
            except Exception as error:  # noqa: BLE001 — a case's own fault: it is parked with the reason, and said
                if len(part) > 1:
                    outcomes += await self._halves(conn, batch, part)
                    continue
                why, first = f"{type(error).__name__}: {error}", part[0][0]
                log_.error("case is parked", consumer=self.name, subject=first.subject, why=why)
                batch.park_case((first.topic, first.subject), why)
        return outcomes

    # --------------------------------------------------------------------------------------------------------- parked

    async def _retry_parked(self) -> None:
        """Try what somebody asked to be tried again, in its lane and in its order."""
        async with self.database.writers.acquire() as conn:
            asked = await parking.asked(conn, self.name, list(self._positions), RETRIES)
        for topic, partition, subject in asked:
            await self._retry_case((topic, partition), subject)

    async def _retry_case(self, lane: Lane, subject: str) -> None:
        async with self.database.writers.acquire() as conn:
            outcomes: list[Outcome] = []
            async with conn.transaction():
                if lane not in await lanes.lock(conn, self.name, self.worker, [lane]):
                    return
                for row in await parking.of_case(conn, self.name, lane[0], subject):
                    why = await self._retry_one(conn, row, outcomes)
                    if why is not None:
                        await parking.failed(conn, row, why)
                        break
                    await parking.released(conn, row)
            if self.store is not None:
                self.store.committed(outcomes)
        async with self.moved:
            self.moved.notify_all()

    async def _retry_one(self, conn: Connection, row: parking.Parked, outcomes: list[Outcome]) -> str | None:
        """None when the record took effect, else why it did not."""
        r = row.record
        if r is None:
            return row.error
        batch = await self.admission.again(conn, r)
        if batch.parked:
            return batch.parked[0].error
        try:
            async with conn.transaction():
                if batch.ready:
                    outcomes += await self.handler.handle(conn, batch.ready) or []
                await lanes.remember(conn, self.name, batch.seen)
        except (*PASSING, Unavailable, Outdated, Retry):
            raise
        except Exception as error:  # noqa: BLE001 — still the case's own fault: it stays parked, with the new reason
            return f"{type(error).__name__}: {error}"
        return None
