"""One Casewalk under load, a process per service, whose processes die again and again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from services.commands.client import Doors
from tests.casewalk import ADMIN_KEY
from tests.commands.conftest import free_port
from tests.conftest import Engine
from tests.faults.load import SERVICES, START_LIMIT_S, Load, Reaching

LEASE_S = 1.0
"""Ten times shorter than it is by default, because a kill is over when the dead process's leases are."""

THINK_S = (0.4, 1.2)
POISON = 0.1
"""So little and so odd a load that every point is passed in time, and that starting costs more than it."""

CUT_EVERY_S = 3.0
STOP_LIMIT_S = 20.0


class Parent:
    """`tests.faults.worker`: forks one process at a time, so that a start costs no imports."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid: int | None = None
        """The running worker's."""
        self.status: int | None = None
        """What the last one ended with."""
        self.died_at = ""
        """The point at which the last one died that was armed."""
        self.passed: Counter[str] = Counter()
        """Point → how often the worker had passed it when it was asked last."""
        self._said = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def warm(cls, log: Path) -> AsyncIterator[Parent]:
        """A parent that has imported everything; its worker is killed at the end."""
        with log.open("ab") as words:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=words,
                limit=2**20,
            )
        parent = cls(process)
        listening = asyncio.create_task(parent._listen())
        try:
            yield parent
        finally:
            if parent.pid is not None:
                os.kill(parent.pid, signal.SIGKILL)
            process.kill()
            await asyncio.gather(process.wait(), listening)

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            what, _, value = line.strip().partition(" ")
            match what:
                case "started":
                    self.pid, self.status = int(value), None
                case "ended":
                    self.pid, self.status = None, int(value)
                case "dies":
                    self.died_at = value
                case "passed":
                    self.passed = Counter(json.loads(value))
            async with self._said:
                self._said.notify_all()

    async def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()

    async def heard(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Whether the condition came true within the limit."""
        try:
            async with asyncio.timeout(limit_s), self._said:
                await self._said.wait_for(condition)
        except TimeoutError:
            return False
        return True

    async def ended(self, limit_s: float) -> bool:
        return await self.heard(lambda: self.pid is None, limit_s)

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the worker, and fail when it does not."""
        if self.pid is not None:
            os.kill(self.pid, number)
        assert await self.ended(STOP_LIMIT_S), "it does not stop"

    async def count(self) -> Counter[str]:
        """Point → how often the running worker has passed it."""
        self.passed = Counter()
        await self.tell("count")
        assert await self.heard(lambda: bool(self.passed), 10)
        return self.passed


class ByService(Reaching):
    """Sends each request to the service its path belongs to, if it names no other."""

    def __init__(self, doors: Doors) -> None:
        super().__init__()
        self._doors = doors

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "casewalk":
            request.url = httpx.URL(self._doors.url(request.url.raw_path.decode()))
        return await super().handle_async_request(request)


class World(Load):
    """A database, a log and a Casewalk on them, each of whose services is a worker of a parent of its own."""

    def __init__(self, engine: Engine, directory: Path, parents: Mapping[str, Parent], seed: int) -> None:
        self.directory, self.parents = directory, parents
        self.ports = {name: free_port() for name in parents}
        self.doors = Doors({name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()})
        super().__init__(engine, seed, "http://casewalk", ByService(self.doors))
        self.think_s, self.poison = THINK_S, POISON

    @classmethod
    @asynccontextmanager
    async def warm(cls, engine: Engine, directory: Path, seed: int) -> AsyncIterator[World]:
        """It runs, its parents have lived a life themselves, and its agents are there."""
        directory.mkdir(exist_ok=True)
        async with AsyncExitStack() as stack:
            logs = {name: directory / f"{name}.log" for name in SERVICES}
            parents = {name: await stack.enter_async_context(Parent.warm(log)) for name, log in logs.items()}
            world = cls(engine, directory, parents, seed)
            stack.push_async_callback(world.client.aclose)
            await world.start(warm=True)
            await world.furnish()
            await world.end(signal.SIGTERM)
            await world.start()
            yield world

    # ------------------------------------------------------------------------------------------------ the processes

    async def start(self, picky: bool = True, warm: bool = False) -> None:
        """Start every service, and see a case go the whole way."""
        await asyncio.gather(*(self.order(name, picky=picky, warm=warm) for name in self.parents))
        await self.recovered()

    async def order(self, service: str, arm: str = "", picky: bool = True, warm: bool = False) -> None:
        """Order a worker, or that the parent warms up by being one; nothing is known of it yet."""
        parent = self.parents[service]
        order = {
            "port": self.ports[service],
            "database_url": self.engine.dsn,
            "kafka": self.engine.kafka,
            "namespace": self.engine.namespace,
            "data_dir": str(self.directory),
            "admin_key": ADMIN_KEY,
            "lease_s": LEASE_S,
            "services": [service],
            "picky": picky,
            "arm": arm,
            "warm": warm,
        }
        parent.status = None
        await parent.tell(json.dumps(order))
        assert await parent.heard(lambda: parent.pid is not None or parent.status is not None, START_LIMIT_S)

    async def end(self, number: signal.Signals) -> None:
        await asyncio.gather(*(parent.end(number) for parent in self.parents.values()))

    async def ready(self) -> bool:
        """Whether all doors are open. Fails when a process is gone although nobody killed it."""
        for service, parent in self.parents.items():
            assert parent.pid is not None, f"{service} ended by itself: {parent.status}"
        return all(await asyncio.gather(*map(self._ready, self.parents)))

    async def _ready(self, service: str) -> bool:
        try:
            return (await self.client.get(f"{self.doors.urls[service]}/health/ready")).is_success
        except httpx.TransportError:
            return False

    async def recovered(self, limit_s: float = START_LIMIT_S) -> None:
        """Fails with what stands where."""
        try:
            await super().recovered(limit_s)
        except AssertionError as error:
            raise AssertionError(f"after {self.point}: {error}\n{await self._standing()}") from error

    async def _standing(self) -> str:
        """What waits, who holds what, and what the server does."""
        parts = ("lane", "parked", "worker", "outbox limit 5")
        asked = [f"select '{service}' service, * from {service}.{part}" for service in SERVICES for part in parts]
        last = list(self.ledger)[-1]
        asked += [f"select type, recorded_at from {service}.events where subject = '{last}'" for service in SERVICES]
        asked.append("select pid, application_name, state, wait_event, query from pg_stat_activity")
        connection = await asyncpg.connect(self.engine.dsn)
        try:
            rows = [row for question in asked for row in await connection.fetch(question)]
        finally:
            await connection.close()
        return "\n".join(str(dict(row)) for row in [{"case": last}, *rows])

    # ------------------------------------------------------------------------------------------------------ the load

    def works(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        return (*super().works(), self._administrator)

    async def _administrator(self) -> None:
        """Ends the relays' connections, as somebody does who needs them: each looks what became of its log."""
        await asyncio.sleep(CUT_EVERY_S)
        connection = await asyncpg.connect(self.engine.dsn)
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name like 'casewalk:%:relay'"
        )
        await connection.close()
