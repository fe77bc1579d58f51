"""Case opened → assigned and visible, on Kafka, while cases come in at a steady rate: what a customer's case waits for.

Five services in one process, a real broker. A desk reads the topic as other systems do and accepts every offer at once.
A case is visible when `case_facts` of metrics, which figures are made of, says which agent has it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from time import perf_counter

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer

from bench.bodies import opening
from bench.ground import ADMIN_KEY, KAFKA, Engine, Ground, Serving, until
from bench.measure import percentile, watching
from bench.report import Row
from bench.serving import WHOLE
from bench.wire import Doors
from events.case import CaseAssigned, CaseOffered
from events.event import CASES
from services.every import SERVICES

CASES_PER_S = 100
P50_MS, P99_MS = 50, 250
SLOWLY = ((4, 200), (20, 400))
"""Rates that are reported beside the promised one, and for how many cases: how waiting grows with load."""
OVERLOADED_MS = 1000
"""Half of all cases wait longer than this only where they come faster than the machine takes them: more of them would
wait longer still, and say nothing."""
AGENTS = 50
WARM_UP = 100
"""Cases that are not counted: pools and plans are made by them."""
SETTLE_WITHIN_S = 120.0
LOOK_S = 0.005


class Desk:
    """Opens cases at a steady rate, accepts what is offered, and notes when each case was seen to be assigned."""

    def __init__(self, engine: Engine, doors: Doors) -> None:
        self._engine, self._doors = engine, doors
        self.opened: dict[str, float] = {}
        self.on_the_log: dict[str, float] = {}
        self.visible: dict[str, float] = {}
        self._accepting: set[asyncio.Task[None]] = set()

    async def open(self, cases: int, per_s: float) -> None:
        """Open them when they are due, however long answers take."""
        began = perf_counter()
        async with asyncio.TaskGroup() as group:
            for n in range(cases):
                due = began + n / per_s
                if (wait_s := due - perf_counter()) > 0:
                    await asyncio.sleep(wait_s)
                group.create_task(self._open(n, due))

    async def _open(self, n: int, due: float) -> None:
        status, body = await self._doors.post("/v1/cases", opening(n, f"{self._engine.namespace}-{len(self.opened)}"))
        assert status == HTTPStatus.CREATED, body.decode()
        self.opened[json.loads(body)["case_id"]] = due  # a request that had to wait counts from when it was due

    async def follow(self) -> None:
        """Read the topic for ever."""
        consumer = AIOKafkaConsumer(
            self._engine.namespace + CASES, bootstrap_servers=self._engine.kafka, auto_offset_reset="earliest"
        )
        async with consumer:
            async for record in consumer:
                kind = dict(record.headers)["ce_type"].decode()
                if kind == CaseOffered.TYPE:
                    task = asyncio.create_task(self._accept(record.key.decode(), record.value))
                    self._accepting.add(task)
                    task.add_done_callback(self._accepting.discard)
                elif kind == CaseAssigned.TYPE:
                    self.on_the_log[record.key.decode()] = perf_counter()

    async def _accept(self, case_id: str, value: bytes) -> None:
        offer = CaseOffered.model_validate_json(value)
        order = {"agent_id": offer.agent_id, "offer_id": offer.offer_id}
        status, body = await self._doors.post(f"/v1/work/{case_id}:accept", order)
        # One that ran out on its way here is made again.
        assert status in {HTTPStatus.OK, HTTPStatus.CONFLICT}, body.decode()

    async def look(self) -> None:
        """Look every 5 ms which of the cases the figures know an agent of, for ever."""
        conn = await asyncpg.connect(self._engine.dsn)
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                waiting = [case_id for case_id in self.on_the_log if case_id not in self.visible]
                rows = await conn.fetch(
                    "select case_id from metrics.case_facts where case_id = any($1) and cardinality(agents) > 0",
                    waiting,
                )
                self.visible |= dict.fromkeys((row["case_id"] for row in rows), perf_counter())
        finally:
            await conn.close()


async def measure(ground: Ground, sizes: list[int]) -> AsyncIterator[Row]:
    """`sizes`: cases to open at the promised rate; at slower ones the smallest at most."""
    if ground.broker is None:
        return
    slowly = ((per_s, min(cases, sizes[0])) for per_s, cases in SLOWLY)
    for per_s, cases in (*slowly, *((CASES_PER_S, size) for size in sizes)):
        names = tuple(service.name for service in SERVICES)
        async with ground.engine(KAFKA) as engine, ground.serving(engine, WHOLE, *names) as serving:
            seen = await _seen(ground, engine, serving, cases, per_s)
        yield seen.row
        if seen.p50_ms > OVERLOADED_MS:
            return


@dataclass(frozen=True)
class Seen:
    row: Row
    p50_ms: float


async def _seen(ground: Ground, engine: Engine, serving: Serving, cases: int, per_s: float) -> Seen:
    async with serving.client() as client:
        await _staff(client, cases + WARM_UP)
        doors = Doors(serving.port, ADMIN_KEY)
        desk = Desk(engine, doors)
        watches = [asyncio.create_task(watch) for watch in (desk.follow(), desk.look())]
        try:
            await desk.open(WARM_UP, CASES_PER_S / 4)
            await _all_visible(desk, WARM_UP)
            warm = set(desk.opened)
            async with watching(ground.pids(server=serving.pid)) as watched:
                await desk.open(cases, per_s)
                await _all_visible(desk, WARM_UP + cases)
        finally:
            for watch in watches:
                watch.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*watches)
            doors.close()
    counted = {case_id: at for case_id, at in desk.opened.items() if case_id not in warm}
    logged = [(desk.on_the_log[case_id] - at) * 1000 for case_id, at in counted.items()]
    visible = [(desk.visible[case_id] - at) * 1000 for case_id, at in counted.items()]
    p50, p99 = percentile(visible, 0.5), percentile(visible, 0.99)
    promised = per_s == CASES_PER_S
    row = Row(
        f"case opened → assigned and visible, at {per_s} cases/s",
        f"{cases:,} cases",
        engine.name,
        f"p50 {p50:,.0f} ms, p99 {p99:,.0f} ms",
        f"on the log: p50 {percentile(logged, 0.5):,.0f} ms, p99 {percentile(logged, 0.99):,.0f} ms",
        "",
        f"p50 ≤ {P50_MS} ms, p99 ≤ {P99_MS} ms" if promised else "",
        (p50 <= P50_MS and p99 <= P99_MS) if promised else None,
        watched.memory,
    )
    return Seen(row, p50)


async def _all_visible(desk: Desk, cases: int) -> None:
    async def visible() -> bool:
        return len(desk.visible) >= cases

    await until(visible, SETTLE_WITHIN_S)


async def _staff(client: httpx.AsyncClient, cases: int) -> None:
    """Agents who together can hold every case; nobody ends one here."""
    for n in range(AGENTS):
        order = {"name": f"Agent {n}", "unit_ids": ["general"], "capacity": min(1000, cases // AGENTS * 2 + 10)}
        (await client.put(f"/v1/agents/agent-{n}", json=order)).raise_for_status()
        presence = {"presence": "available"}
        (await client.post(f"/v1/agents/agent-{n}:presence", json=presence)).raise_for_status()
