"""Faults are normal: kill -9 between any two steps, and a holder that sleeps through its lease."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa

from events.case import CaseOpened, CaseQueued, OfferExpired
from events.database import Database
from events.errors import Refused
from events.event import CASES
from services.runtime import Host
from tests.events.conftest import World
from tests.events.test_log import read_all
from tests.events.toy import CASE, COUNTS, open_case
from tests.until import until

POINTS = (
    "store.after_heads",
    "store.after_events",
    "store.before_commit",
    "store.after_commit",
    "relay.before_append",
    "relay.after_append",
    "relay.before_commit",
    "relay.after_commit",
    "consume.before_handle",
    "consume.after_handle",
    "consume.before_commit",
    "consume.after_commit",
    "timers.before_commit",
)


class Process:
    """The toy services, running apart, as one of a warm parent's children."""

    def __init__(self, parent: asyncio.subprocess.Process, pid: int) -> None:
        self.parent, self.pid = parent, pid
        self.exit_code: int | None = None

    @classmethod
    async def start(cls, parent: asyncio.subprocess.Process, world: World, failpoint: str = "") -> Process:
        engine = world.engine
        order = {
            "dsn": engine.dsn,
            "kafka": engine.kafka,
            "namespace": engine.namespace,
            "directory": str(world.settings.data_dir),
            "failpoint": failpoint,
        }
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(f"{json.dumps(order)}\n".encode())
        await parent.stdin.drain()
        while not (line := (await parent.stdout.readline()).decode()).startswith("started"):
            assert line, "the parent is gone"
        return cls(parent, int(line.split()[1]))

    async def told(self) -> str:
        """The next line, or nothing when the process is gone."""
        assert self.parent.stdout is not None
        while self.exit_code is None:
            line = (await self.parent.stdout.readline()).decode().strip()
            assert line, "the parent is gone"
            if line.startswith("ended"):
                self.exit_code = int(line.split()[1])
            elif line.startswith(("ready", "done")):
                return line
        return ""

    async def tell(self, text: str) -> bool:
        """Ask for something; whether it was answered."""
        if self.exit_code is not None:
            return False
        assert self.parent.stdin is not None
        self.parent.stdin.write(f"{text}\n".encode())
        await self.parent.stdin.drain()
        return (await self.told()).startswith("done")

    async def died(self) -> int | None:
        """The exit code once the process is gone."""
        async with asyncio.timeout(20):
            while await self.told():
                pass
        return self.exit_code

    async def kill(self) -> None:
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)
            await self.died()


@pytest.fixture(scope="module")
async def parent() -> AsyncIterator[asyncio.subprocess.Process]:
    """What forks processes of the toy services."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.events.crashing"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    yield process
    process.kill()
    await process.wait()


async def types_of(host: Host, case_id: str) -> Counter[str]:
    return Counter(e.data.TYPE for e in await host.store.events(CASES, case_id))


async def test_kill_minus_9_between_any_two_steps_loses_nothing_and_doubles_nothing(
    world: World, parent: asyncio.subprocess.Process
) -> None:
    answered: set[str] = set()
    asked: list[str] = []
    for point in POINTS:
        process = await Process.start(parent, world, f"{point}:3" if point.startswith(("store", "relay")) else point)
        try:
            if await process.told() == "ready":
                for _ in range(6):
                    case_id = str(uuid4())
                    asked.append(case_id)
                    if await process.tell(f"open {case_id}"):
                        answered.add(case_id)
                    await process.tell(f"offer {case_id}")
            assert await process.died() == -signal.SIGKILL, f"{point} was never reached"
        finally:
            await process.kill()
        await _time_passes(world)
    async with world.running() as hosts:
        for case_id in asked:  # what got no answer is asked again, as any client would
            with suppress(Refused):
                await hosts["intake"].store.change(CASE(case_id), decision=open_case, actor="key:t")
        for case_id in asked:
            assert (await types_of(hosts["intake"], case_id)) == {CaseOpened.TYPE: 1}
            await until(partial(_routed_once, hosts["router"], case_id))
        await _everything_adds_up(hosts, asked)
    assert answered


async def _time_passes(world: World) -> None:
    """The dead process's leases run out; nobody waits ten seconds for it."""
    conn = await asyncpg.connect(world.engine.dsn)
    try:
        for schema in ("intake", "router"):
            if await conn.fetchval("select to_regclass($1)", f"{schema}.lane") is not None:
                await conn.execute(f"update {schema}.lane set owner = null, until = '-infinity'")
                await conn.execute(f"delete from {schema}.worker")
    finally:
        await conn.close()


async def _routed_once(router: Host, case_id: str) -> bool:
    types = await types_of(router, case_id)
    assert types[CaseQueued.TYPE] <= 1, types
    assert types[OfferExpired.TYPE] <= 1, types
    expired = types[OfferExpired.TYPE] == 1 or "casewalk.case.offered.v1" not in types
    return types[CaseQueued.TYPE] == 1 and expired


async def _everything_adds_up(hosts: dict[str, Host], cases: list[str]) -> None:
    """The log holds every recorded event, each once to a reader that drops repeats; every view is what it should be."""
    for host in hosts.values():

        async def drained(host: Host = host) -> bool:
            return not await host.database.readers.fetchval("select count(*) from outbox")

        await until(drained)
    recorded = {
        (str(row["id"]), row["subject"], row["sequence"])
        for host in hosts.values()
        for row in await host.database.readers.fetch("select id, subject, sequence from events where topic = $1", CASES)
    }
    records = [r for r in await read_all(hosts["intake"].log) if r.topic == CASES]
    assert {(r.id, r.subject, r.sequence) for r in records} == recorded
    for host in hosts.values():

        async def complete(host: Host = host) -> bool:
            rows: list[Any] = await host.database.rows(sa.select(COUNTS.table))
            by_case = {row["case_id"]: row["events"] for row in rows}
            events = Counter(subject for _, subject, _ in recorded)
            return all(by_case.get(case_id) == events[case_id] for case_id in cases)

        await until(complete)
        for view in host.replay.named("all"):
            verdict = await host.replay.verify(view)
            assert verdict.equal, verdict
        assert not await host.database.readers.fetchval("select count(*) from parked")


async def test_a_relay_that_sleeps_through_its_lease_changes_nothing_as_a_zombie(
    world: World, parent: asyncio.subprocess.Process
) -> None:
    process = await Process.start(parent, world)
    try:
        assert await process.told() == "ready"
        before = str(uuid4())
        assert await process.tell(f"open {before}")
        os.kill(process.pid, signal.SIGSTOP)
        async with world.running() as hosts:

            async def taken_over() -> bool:
                return all(host.relay.holds_lock for host in hosts.values())

            await until(taken_over, limit_s=40)
            cases = [str(uuid4()) for _ in range(10)]
            for case_id in cases:
                await hosts["intake"].store.change(CASE(case_id), decision=open_case, actor="key:t")
            os.kill(process.pid, signal.SIGCONT)
            woken = str(uuid4())
            assert await process.tell(f"open {woken}"), "it works on as a writer; only its locks are gone"
            for case_id in [before, woken, *cases]:
                await until(partial(_routed_once, hosts["router"], case_id), limit_s=40)
            await _everything_adds_up(hosts, [before, woken, *cases])
    finally:
        await process.kill()


async def test_no_locks_are_held_in_a_copy_whose_hung_client_no_timeout_would_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []

    async def copy(self: asyncpg.Connection, table_name: str, **_: Any) -> str:
        copied.append(table_name)
        raise AssertionError(table_name)

    async with world.running() as hosts:
        monkeypatch.setattr(asyncpg.Connection, "copy_records_to_table", copy)
        case_id = str(uuid4())
        await hosts["intake"].store.change(CASE(case_id), decision=open_case, actor="key:t")
        await until(partial(_routed_once, hosts["router"], case_id))
        await _everything_adds_up(hosts, [case_id])
    assert not copied


async def test_a_writer_that_hangs_in_the_middle_of_a_statement_loses_its_locks(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two messages of a statement the server waits for the client and counts it as active."""
    monkeypatch.setattr("events.database.TRANSACTION_WITHIN_S", 1.0)
    half = b"\0select 1\0\0\0"
    mine = await Database.open(database, "toy", "select")
    other = await asyncpg.connect(database)
    try:
        async with mine.writers.acquire() as conn:
            await conn.execute("begin; select pg_advisory_xact_lock(7)")
            transport = conn._transport
            transport.write(b"P" + struct.pack("!i", 4 + len(half)) + half)  # Parse, and no word more
            await until(
                partial(
                    other.fetchval,
                    "select state = 'active' from pg_stat_activity where pid = $1",
                    conn.get_server_pid(),
                )
            )
            assert not await other.fetchval("select pg_try_advisory_lock(7)")
            await until(partial(other.fetchval, "select pg_try_advisory_lock(7)"), limit_s=10)

            async def hung_up() -> bool:
                return bool(transport.is_closing())

            await until(hung_up)
    finally:
        await other.close()
        await mine.close()
