"""Any faults in any order: a state machine over all that may happen to a case between two services.

Nothing runs by itself here: relays and workers take one step when the machine says so, die in the middle of it, hold
what they fetched while somebody else takes their lanes. To add a fault: a rule.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from events import lanes
from events.case import CaseOpened, CaseQueued
from events.consume import Consumer, Handler, Reacting
from events.database import Connection, connect
from events.event import CASES, Event, Recorded
from events.kafka_log import KafkaLog
from events.log import LANES, Lane, Log
from events.personal import Redacted, Sealed
from events.postgres_log import PostgresLog
from events.store import Change, Once, Store
from events.views import View
from events.views.project import Projector
from events.wire import VOCABULARY, Broken, Record
from services.runtime import Host, Settings
from tests.backups import dump, lose, restore
from tests.conftest import Engine
from tests.events.test_log import read_all
from tests.events.toy import CASE, COUNTS, INTAKE, ROUTER, Count, close, count, open_case


@dataclass(frozen=True)
class Queued:
    """How often the router queued the case."""

    case_id: str
    times: int


def queue(row: Queued | None, event: Recorded[Any]) -> Queued:
    return Queued(event.subject, 1 if row is None else row.times + 1)


QUEUED = View("queued", 1, Queued, (CaseQueued,), queue, inline=True)
"""In the router's own transactions: what a restore adopts from the log has to be in it, too."""

SERVICES = (INTAKE, replace(ROUTER, timers=(), inline=(QUEUED,)))

CRASH = st.none() | st.integers(0, 24)
"""Die when you wait for the k-th time, or live."""

ROUNDS = 100
"""In so many a world that is left alone has come to rest."""


class Dying:
    """Work that is cut when it waits for the k-th time, as a process is that dies there: the database then has, or has
    not, heard its last word. Raises CancelledError; work that ends before has lived."""

    def __init__(self, work: Coroutine[Any, Any, Any], k: int) -> None:
        self.work, self.k = work, k

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.work.__await__()
        step, waited = partial(next, steps), 0
        while True:
            try:
                awaited = step()
            except StopIteration as done:
                return done.value
            if waited == self.k and awaited is not None:
                awaited.cancel()
            waited += 1
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 — it is the work's own, and handed to it
                step = partial(steps.throw, error)
            else:
                step = partial(next, steps)


async def survives(work: Coroutine[Any, Any, Any], crash: int | None) -> bool:
    """Do it; False when it died on the way."""
    try:
        await (work if crash is None else Dying(work, crash))
    except asyncio.CancelledError:
        return False
    return True


class Picky:
    """A handler that does not bear some cases."""

    def __init__(self, handler: Handler, dislikes: set[str]) -> None:
        self.handler, self.reads, self.dislikes = handler, handler.reads, dislikes

    async def handle(self, conn: Connection, events: Sequence[Recorded[Any]]) -> Any:
        outcomes = await self.handler.handle(conn, events)
        if disliked := self.dislikes & {event.subject for event in events}:
            raise ValueError(f"I do not like {disliked}")
        return outcomes


class Worker:
    """One process's consumer, whose every step is asked for."""

    def __init__(self, name: str, host: Host, dislikes: set[str]) -> None:
        self.name, self.host, self.dislikes = name, host, dislikes
        self.found: dict[Lane, list[Record | Broken]] = {}
        self.reader = host.log.reader(None)
        self._begin()

    def _begin(self) -> None:
        host = self.host
        store = Store(host.database, host.keyring, host.service.inline, VOCABULARY)
        projecting = Projector(host.service.views, VOCABULARY)
        handler = projecting if self.name.endswith("views") else Reacting(store, host.service.reactors)
        self.consumer = Consumer(
            self.name, host.database, host.log, Picky(handler, self.dislikes), VOCABULARY, store, lease_s=600
        )

    async def claim(self) -> None:
        """Every lane is this worker's: the leases of the others have run out, and they do not know it."""
        async with self.host.database.writers.acquire() as conn:
            await conn.execute("update lane set owner = null, until = '-infinity' where consumer = $1", self.name)
            await conn.execute("delete from worker where consumer = $1", self.name)
        await self.consumer._lease()

    async def fetch(self) -> int:
        """Fetch, and keep it until it is taken; how many records there are."""
        self.found = await self.reader.fetch(self.consumer._positions, 50, wait_s=0.01)
        return sum(map(len, self.found.values()))

    async def take(self, lanes_: Sequence[Lane], crash: int | None) -> None:
        """Let what was fetched of these lanes take effect, however old it is by now."""
        part = {lane: self.found.pop(lane) for lane in lanes_ if lane in self.found}
        if part:
            await self.lives(self.consumer._take(part), crash)

    async def lives(self, work: Coroutine[Any, Any, Any], crash: int | None) -> None:
        """A worker that dies is followed by one that knows nothing and has no lanes yet."""
        if not await survives(work, crash):
            self.starts()

    def starts(self) -> None:
        """The process after this one."""
        self.found = {}
        self._begin()


class World:
    """Two services of which nothing runs, and what was said to them."""

    def __init__(self, engine: Engine, hosts: dict[str, Host], backup: Path) -> None:
        self.engine, self.hosts, self.backup = engine, hosts, backup
        self.dislikes: set[str] = set()
        names = ("router.views", "router.reactor")
        self.workers = [Worker(name, hosts["router"], self.dislikes) for name in names for _ in range(2)]
        self.said: Counter[str] = Counter()
        """Case → how many events intake was asked for."""
        self.erased: set[str] = set()
        self.offsets: dict[tuple[str, Lane], int] = {}

    @classmethod
    @asynccontextmanager
    async def resting(cls, engine: Engine, directory: Path) -> AsyncIterator[World]:
        async with AsyncExitStack() as stack:
            hosts = {}
            log: Log = PostgresLog(engine.dsn) if engine.kafka is None else KafkaLog(engine.kafka, engine.namespace)
            await log.start()
            stack.push_async_callback(log.stop)
            config = Settings(
                database_url=engine.dsn,
                kafka=engine.kafka,
                data_dir=directory,
                master_key=b"m" * 32,
                open=True,
                namespace=engine.namespace,
            )
            for service in SERVICES:
                host = hosts[service.name] = await Host.open(service, config, log)
                stack.push_async_callback(host.database.close)
                async with host.database.writers.acquire() as conn:
                    for name in ("views", "reactor"):
                        await lanes.prepare(conn, f"{service.name}.{name}")
                await host.replay.prepare()
            world = cls(engine, hosts, directory / "backup")
            for worker in world.workers:
                stack.push_async_callback(worker.reader.close)
            yield world

    # ------------------------------------------------------------------------------------------------------ one step

    async def say(self, case_id: str, decision: Any, crash: int | None) -> None:
        """A client's request, repeated under its key until it is answered."""
        once = Once("machine", str(uuid4()), b"", {})
        host = self.hosts["intake"]
        work = partial(self._append, host, Change((CASE(case_id),), decision, "key:t", once=once))
        if not await survives(work(), crash):
            await work()
        self.said[case_id] += 1

    async def _append(self, host: Host, change: Change) -> None:
        store = Store(host.database, host.keyring, host.service.inline, VOCABULARY)
        async with host.database.writers.acquire() as conn, conn.transaction():
            (outcome,) = await store.apply(conn, [change])
        if isinstance(outcome, BaseException):
            raise outcome

    async def relay(self, service: str, crash: int | None) -> int:
        """One batch of the outbox goes to the log; how many are left."""
        host = self.hosts[service]
        conn = await connect(host.database.dsn, service, "relay")
        try:
            await survives(host.relay._move(conn), crash)
        finally:
            conn.terminate()
        return int(await host.database.readers.fetchval("select count(*) from outbox"))

    async def redeliver(self, case_id: str) -> None:
        """Everything the log holds about the case comes once more."""
        log = self.hosts["intake"].log
        records = [r._replace(offset=-1) for r in await read_all(log) if r.subject == case_id]
        async with self.hosts["intake"].database.writers.acquire() as conn, conn.transaction():
            await log.append(conn, records)

    async def release(self, worker: Worker, crash: int | None) -> None:
        """Somebody asks that all parked cases are tried again, and this worker does."""
        async with worker.host.database.writers.acquire() as conn:
            await conn.execute("update parked set asked = true where source is not null")
        await worker.lives(worker.consumer._retry_parked(), crash)

    async def erase(self, case_id: str) -> None:
        async with self.hosts["intake"].database.writers.acquire() as conn, conn.transaction():
            await self.hosts["intake"].keyring.erase(conn, [f"customer-of-{case_id}"])
        self.erased.add(case_id)

    async def back_up(self) -> None:
        """As docs/operating.md says, whatever waits and is parked at the moment."""
        self.backup.unlink(missing_ok=True)
        dump(self.engine, "router", self.backup)

    async def restore(self) -> None:
        """The router's database is lost; another one begins with the last back-up, all of its processes with it."""
        router = self.hosts["router"]
        await lose(self.engine, "router")
        restore(self.engine, self.backup)
        for pool in (router.database.writers, router.database.readers):
            await pool.expire_connections()
        await router.recovery.run(adopt=True)
        await router.replay.prepare()
        for worker in self.workers:
            worker.starts()
        self.offsets.clear()

    async def come_to_rest(self) -> None:
        """Nobody dies any more and every case is borne: all that waits happens."""
        self.dislikes.clear()
        first, _, third, _ = self.workers
        for _ in range(ROUNDS):
            left = sum([await self.relay(service, None) for service in self.hosts])
            for worker in (first, third):
                await worker.claim()
                left += await worker.fetch()
                await worker.take(LANES, None)
                await self.release(worker, None)
            left += await self.hosts["router"].database.readers.fetchval("select count(*) from parked")
            if not left and await self._all_read():
                return
        raise AssertionError(f"not at rest after {ROUNDS} rounds; {left} left")

    async def _all_read(self) -> bool:
        ends = await self.hosts["router"].log.ends()
        rows = await self.hosts["router"].database.readers.fetch("select * from lane where consumer like 'router.%'")
        return all(r["next_offset"] >= ends.get((r["topic"], r["partition"]), 0) for r in rows)

    # -------------------------------------------------------------------------------------------------- what must hold

    async def offsets_only_grow(self) -> None:
        for r in await self.hosts["router"].database.readers.fetch("select * from lane"):
            lane = (r["consumer"], (r["topic"], r["partition"]))
            assert r["next_offset"] >= self.offsets.get(lane, 0), lane
            self.offsets[lane] = r["next_offset"]

    async def parked_cases_wait(self) -> None:
        """What is parked, and all of its stream that comes after it, has had no effect."""
        early = await self.hosts["router"].database.readers.fetch(
            "select p.consumer, p.subject, p.sequence from parked p"
            " join seen s using (consumer, source, topic, subject) where s.sequence >= p.sequence"
            " union all select p.consumer, p.subject, p.sequence from parked p join events e on e.causation_id = p.id"
            " where p.consumer = 'router.reactor'"
            " union all select p.consumer, p.subject, p.sequence from parked p join history h on h.source = p.source"
            " and h.subject = p.subject and h.sequence >= p.sequence where p.consumer = 'router.views'"
        )
        assert early == [], early

    async def streams_are_contiguous_and_effects_single(self) -> None:
        for host in self.hosts.values():
            gaps = await host.database.readers.fetch(
                "select topic, subject from events group by 1, 2 having max(sequence) <> count(*) or min(sequence) <> 1"
            )
            twice = await host.database.readers.fetch(
                "select causation_id, type from events where causation_id is not null group by 1, 2 having count(*) > 1"
            )
            assert (gaps, twice) == ([], [])

    async def views_equal_a_replay(self) -> None:
        for view in self.hosts["router"].replay.named("all"):
            verdict = await self.hosts["router"].replay.verify(view)
            assert verdict.equal, verdict

    async def everything_adds_up(self, cases: Sequence[str]) -> None:
        """At rest: exactly what was said, each with exactly what it causes, and the view that a pure fold makes."""
        intake, router = self.hosts["intake"], self.hosts["router"]
        for case_id in cases:
            told, caused = await intake.store.events(CASES, case_id), await router.store.events(CASES, case_id)
            assert len(told) == self.said[case_id]
            assert [e.data.TYPE for e in caused] == [CaseQueued.TYPE]
            row: Count | None = None
            for event in sorted([*told, *caused], key=lambda e: e.key):
                row = count(row, event)
            found = await router.database.readers.fetchrow(
                f"select * from {await self._table()} where case_id = $1", case_id
            )
            assert row is not None
            assert (found["events"], tuple(found["types"])) == (row.events, row.types)
            await self._texts_are_as_they_should_be(case_id, told[0])

    async def _table(self) -> str:
        return str(
            await self.hosts["router"].database.readers.fetchval("select table_name from view where name = 'counts'")
        )

    async def _texts_are_as_they_should_be(self, case_id: str, opened: Recorded[Event]) -> None:
        assert isinstance(opened.data, CaseOpened)
        assert isinstance(opened.data.body, Sealed)
        async with self.hosts["intake"].database.readers.acquire() as conn:
            asked = [(CaseOpened.TYPE, opened.id, "body", opened.data.body)]
            (text,) = await self.hosts["intake"].keyring.open(conn, asked)
        assert (text is Redacted.ERASED) is (case_id in self.erased), text


def machine(world: World, run: asyncio.Runner) -> type[RuleBasedStateMachine]:
    """The machine over this world; every example has cases of its own."""

    class Faults(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.cases: list[str] = []

        def one(self, n: int) -> str:
            return self.cases[n % len(self.cases)]

        @rule(crash=CRASH)
        def open(self, crash: int | None) -> None:
            self.cases.append(str(uuid4()))
            run.run(world.say(self.cases[-1], open_case, crash))

        @precondition(lambda self: self.cases)
        @rule(n=st.integers(0, 9), crash=CRASH)
        def say(self, n: int, crash: int | None) -> None:
            run.run(world.say(self.one(n), close, crash))

        @rule(service=st.sampled_from(("intake", "router")), crash=CRASH)
        def relay(self, service: str, crash: int | None) -> None:
            run.run(world.relay(service, crash))

        @precondition(lambda self: self.cases)
        @rule(n=st.integers(0, 9))
        def redeliver(self, n: int) -> None:
            run.run(world.redeliver(self.one(n)))

        @rule(worker=st.sampled_from(world.workers))
        def claim(self, worker: Worker) -> None:
            run.run(worker.claim())

        @rule(worker=st.sampled_from(world.workers))
        def fetch(self, worker: Worker) -> None:
            run.run(worker.fetch())

        @rule(
            worker=st.sampled_from(world.workers),
            some=st.lists(st.sampled_from(LANES), unique=True) | st.just(LANES),
            crash=CRASH,
        )
        def take(self, worker: Worker, some: Sequence[Lane], crash: int | None) -> None:
            run.run(worker.take(some, crash))

        @precondition(lambda self: self.cases)
        @rule(n=st.integers(0, 9))
        def poison(self, n: int) -> None:
            world.dislikes.add(self.one(n))

        @rule()
        def cure(self) -> None:
            world.dislikes.clear()

        @rule(worker=st.sampled_from(world.workers), crash=CRASH)
        def release(self, worker: Worker, crash: int | None) -> None:
            run.run(world.release(worker, crash))

        @rule(crash=CRASH)
        def rebuild(self, crash: int | None) -> None:
            run.run(survives(world.hosts["router"].replay.rebuild(COUNTS), crash))

        @precondition(lambda self: self.cases)
        @rule(n=st.integers(0, 9))
        def erase(self, n: int) -> None:
            run.run(world.erase(self.one(n)))

        @rule()
        def back_up(self) -> None:
            run.run(world.back_up())

        @precondition(lambda self: world.backup.exists())
        @rule()
        def restore(self) -> None:
            run.run(world.restore())

        @invariant()
        def holds(self) -> None:
            run.run(world.offsets_only_grow())
            run.run(world.parked_cases_wait())
            run.run(world.streams_are_contiguous_and_effects_single())

        def teardown(self) -> None:
            run.run(world.come_to_rest())
            run.run(world.everything_adds_up(self.cases))
            run.run(world.views_equal_a_replay())

    return Faults


@pytest.mark.timeout(1200)
def test_whatever_happens_in_whatever_order_every_event_takes_effect_once(
    engine: Engine, tmp_path: Path, full: bool
) -> None:
    examples, steps = (60, 50) if full else (8, 30)
    budget = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=not full,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    with asyncio.Runner() as run:
        opened = World.resting(engine, tmp_path)
        world = run.run(opened.__aenter__())
        try:
            run_state_machine_as_test(machine(world, run), settings=budget)
        finally:
            run.run(opened.__aexit__(None, None, None))
