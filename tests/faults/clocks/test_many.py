"""Very many clocks that run at once: each that is due is broken soon and once, and however often the log is read again,
nothing fires by it."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest

from events.case import CaseEvent, CaseObserved, CaseOpened, ClockBreached
from events.event import CASES
from events.kafka_log import KafkaLog
from events.log import Log
from events.personal import Sealed
from events.postgres_log import PostgresLog
from events.wire import Record, partition_of, traceparent
from services.every import SERVICES
from services.runtime import Host, Settings
from tests.backups import lose
from tests.casewalk import ADMIN_KEY
from tests.commands.conftest import AUTHORITIES
from tests.conftest import Engine
from tests.distributed import Serving
from tests.faults.report import Report
from tests.until import until

CLOCKS = 100_000
CASES_ = CLOCKS // 2
"""A first response and a resolution are promised in each."""

DUE_PER_S, DUE_FOR_S = 500, 40
EVENTS = 1_000_000
"""In the log, when it is read again: history of other systems beside the cases."""

LAG_LIMIT_S = 2.0

TARGET = timedelta(hours=2)
"""Of the first response: the cases that come due are as old, so they do so one by one."""
READ_PER_S = 150
"""Cases a second that escalation reads at least: before the first is due it must have started all clocks."""

SPEAKERS = ("intake", "router", "vendor")
TOGETHER = 1000
READ_LIMIT_S = 900.0
ROWS_PER_CASE = 10

PROMISE = {
    "name": "Standard",
    "warnings": [50],
    "targets": [
        {"clock": clock, "priority": priority, "target_s": int(target.total_seconds())}
        for clock, target in (("first_response", TARGET), ("resolution", timedelta(days=300)))
        for priority in ("urgent", "high", "normal", "low")
    ],
}


@dataclass
class Quiet:
    """The services whose word clocks wait for, in this process: they send what they record and state how far that is.
    They hear nothing, so that all there is to do is escalation's."""

    engine: Engine
    directory: Path
    hosts: dict[str, Host] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def running(cls, engine: Engine, directory: Path) -> AsyncIterator[Quiet]:
        quiet = cls(engine, directory)
        settings = Settings(engine.dsn, engine.kafka, master_key=b"k" * 32, admin_key=ADMIN_KEY)
        async with AsyncExitStack() as stack:
            log: Log = PostgresLog(engine.dsn) if engine.kafka is None else KafkaLog(engine.kafka, engine.namespace)
            await log.start()
            stack.push_async_callback(log.stop)
            for service in (service for service in SERVICES if service.name in SPEAKERS):
                host = quiet.hosts[service.name] = await Host.open(service, settings, log)
                stack.push_async_callback(host.database.close)
                await host.recovery.run(adopt=True)
                await host.replay.prepare()
                for part in (host.store.run(), host.relay.run()):
                    stack.push_async_callback(_ended, asyncio.create_task(part))
                if service.first_start is not None:
                    await service.first_start(host)
            yield quiet

    async def append(self, records: Iterator[Record]) -> None:
        """Put them into the log where intake's relay would have."""
        log = self.hosts["intake"].log
        async with self.connected() as conn:
            while some := list(islice(records, TOGETHER)):
                async with conn.transaction():
                    ends = await log.append(conn, some)
                await log.grew(some, ends)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[asyncpg.Connection]:
        conn = await asyncpg.connect(self.engine.dsn)
        try:
            yield conn
        finally:
            await conn.close()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@dataclass
class Escalation:
    """The service in a process of its own."""

    quiet: Quiet
    serving: Serving
    client: httpx.AsyncClient

    @classmethod
    @asynccontextmanager
    async def running(cls, quiet: Quiet) -> AsyncIterator[Escalation]:
        engine = quiet.engine
        variables = {
            "CASEWALK_DATABASE_URL": engine.dsn,
            "CASEWALK_NAMESPACE": engine.namespace,
            "CASEWALK_MASTER_KEY": "6b" * 32,
            "CASEWALK_ADMIN_KEY": ADMIN_KEY,
            "CASEWALK_DATA_DIR": str(quiet.directory),
        } | ({} if engine.kafka is None else {"CASEWALK_KAFKA": engine.kafka})
        serving = Serving("escalation", quiet.directory, variables)
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        async with httpx.AsyncClient(base_url=serving.url, headers=headers, timeout=None, verify=AUTHORITIES) as client:  # noqa: S113
            await serving.start(READ_LIMIT_S)
            try:
                yield cls(quiet, serving, client)
            finally:
                await serving.stop()

    async def all_read(self) -> bool:
        """Whether everything is in the log, and escalation has handled all of it."""
        ends = await self.quiet.hosts["intake"].log.ends()
        async with self.quiet.connected() as conn:
            if await conn.fetchval("select exists (select from escalation.outbox)"):
                return False
            lanes = await conn.fetch("select topic, partition, next_offset from escalation.lane")
        return bool(lanes) and all(row["next_offset"] >= ends.get((row["topic"], row["partition"]), 0) for row in lanes)

    async def said(self) -> Counter[tuple[str, str]]:
        """(type, id) of everything it has said about cases."""
        async with self.quiet.connected() as conn:
            rows = await conn.fetch("select type, id from escalation.events where topic = $1", CASES)
        return Counter((row["type"], str(row["id"])) for row in rows)

    async def breached(self) -> int:
        async with self.quiet.connected() as conn:
            return int(
                await conn.fetchval("select count(*) from escalation.events where type = $1", ClockBreached.TYPE)
            )

    async def told(self, method: str, path: str) -> list[dict[str, object]]:
        """The results of a long piece of work."""
        answer = await self.client.request(method, f"/v1/ops/escalation/{path}")
        last = json.loads(answer.text.splitlines()[-1])
        assert last["done"], last
        return list(last["results"])


@pytest.mark.timeout(2400)
async def test_very_many_clocks_fire_soon_and_once_and_reading_everything_again_fires_none(
    engine: Engine, tmp_path: Path, report: Report
) -> None:
    due = DUE_PER_S * DUE_FOR_S
    async with Quiet.running(engine, tmp_path) as quiet:
        async with Escalation.running(quiet) as escalation:
            answer = await escalation.client.put("/v1/promises/standard", json=PROMISE)
            assert answer.is_success, answer.text
            await until(escalation.all_read, 30)
            began, first_due = time.monotonic(), datetime.now(UTC) + timedelta(seconds=CASES_ / READ_PER_S)
            await quiet.append(opened([first_due - TARGET + timedelta(seconds=n / DUE_PER_S) for n in range(due)]))
            await quiet.append(opened([datetime.now(UTC)] * (CASES_ - due)))
            await until(escalation.all_read, READ_LIMIT_S, 0.5)
            started_s = time.monotonic() - began
            assert datetime.now(UTC) < first_due, f"too slow to see them come due: {started_s:.0f} s"
            async with marks_heard(quiet) as heard:
                await until(partial(at_least, due, escalation), started_s + CASES_ / READ_PER_S + DUE_FOR_S + 60, 0.5)
            lags_s = await lags(quiet, heard)
            await quiet.append(observed(EVENTS - sum((await quiet.hosts["intake"].log.ends()).values())))
            await until(escalation.all_read, READ_LIMIT_S, 0.5)
            before = await escalation.said()
            rebuilt = await escalation.told("POST", "views/all:rebuild")
            assert await escalation.said() == before, "a rebuild said something"

        await lose(engine, "escalation")
        began = time.monotonic()
        async with Escalation.running(quiet) as escalation:
            await until(escalation.all_read, READ_LIMIT_S, 0.5)
            again_s = time.monotonic() - began
            assert await escalation.said() == before, "reading the log from its beginning said something"
            assert all(view["equal"] for view in await escalation.told("GET", "verify"))
        events = sum((await quiet.hosts["intake"].log.ends()).values())

    types = Counter(kind for kind, _ in before)
    assert types[ClockBreached.TYPE] == due == len(lags_s["after the mark"])
    rows = [(name, *(quantile(values, q) for q in (0.5, 0.99)), max(values)) for name, values in sorted(lags_s.items())]
    report.table(
        f"Clocks that fire, {engine.name}",
        ("lag", "p50 s", "p99 s", "max s"),
        [(name, *(f"{value:.2f}" for value in values)) for name, *values in rows],
        f"{CLOCKS:,} promised clocks ran in {CASES_:,} cases, started from the log in {started_s:.0f} s. {due:,} of"
        f" them came due, {DUE_PER_S} a second, and each was broken once. {len(rebuilt)} views were rebuilt; then"
        f" escalation's database was lost and made again from the {events:,} events of the log, in {again_s:.0f} s:"
        " nothing was said again, and every view was equal to a replay.",
    )
    assert quantile(lags_s["after the mark"], 0.99) <= LAG_LIMIT_S


async def at_least(count: int, escalation: Escalation) -> bool:
    return await escalation.breached() >= count


def opened(moments: Sequence[datetime]) -> Iterator[Record]:
    """A case opened at each of these moments."""
    sealed = Sealed(enc=1, person="customer:crm-1", version=1, nonce="A" * 16, text="A" * 40)
    event = CaseOpened(
        channel="email", market="de", language="de", journey="delivery", customer_ref="customer:crm-1",
        title=sealed, body=sealed,
    )  # fmt: skip
    for at in moments:
        yield said_by_intake(str(uuid4()), 1, at, event)


def observed(rows: int) -> Iterator[Record]:
    """So many rows of another system's history."""
    case_id, began = "", datetime.now(UTC) - timedelta(days=300)
    for n in range(rows):
        ordinal = n % ROWS_PER_CASE + 1
        if ordinal == 1:
            case_id = str(uuid4())
        event = CaseObserved(
            import_id="history", profile="history", ordinal=ordinal, category="in_progress", code="Open",
            external_id=case_id,
        )  # fmt: skip
        yield said_by_intake(case_id, ordinal, began + timedelta(seconds=n), event)


def said_by_intake(case_id: str, sequence: int, at: datetime, event: CaseEvent) -> Record:
    return Record(
        CASES, partition_of(case_id), -1, case_id, str(uuid4()), "intake", sequence, event.TYPE, at, at,
        "service:intake", str(uuid4()), None, traceparent(), event.model_dump_json(by_alias=True),
    )  # fmt: skip


@asynccontextmanager
async def marks_heard(quiet: Quiet) -> AsyncIterator[list[tuple[datetime, datetime]]]:
    """(mark, when it was there): how far every service had said that its word was complete."""
    heard: list[tuple[datetime, datetime]] = []

    async def listen() -> None:
        while True:
            marks = await quiet.hosts["intake"].log.marks()
            mark = min(marks[source].at for source in SPEAKERS)
            if not heard or mark > heard[-1][0]:
                heard.append((mark, datetime.now(UTC)))
            await asyncio.sleep(0.02)

    task = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        await _ended(task)


async def lags(quiet: Quiet, heard: Sequence[tuple[datetime, datetime]]) -> dict[str, list[float]]:
    """Seconds from when a clock was due, and from when that was certain, until it was broken."""
    async with quiet.connected() as conn:
        rows = await conn.fetch("select recorded_at, data from escalation.events where type = $1", ClockBreached.TYPE)
    marks = [mark for mark, _ in heard]
    lags_s: dict[str, list[float]] = {"after it was due": [], "after the mark": []}
    for row in rows:
        due_at = datetime.fromisoformat(json.loads(row["data"])["due_at"])
        certain_at = heard[bisect_left(marks, due_at)][1]
        lags_s["after it was due"].append((row["recorded_at"] - due_at).total_seconds())
        lags_s["after the mark"].append(max(0.0, (row["recorded_at"] - certain_at).total_seconds()))
    return lags_s


def quantile(values: Sequence[float], share: float) -> float:
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]
