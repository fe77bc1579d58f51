"""One Casewalk under load whose process dies again and again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.casewalk import ADMIN_KEY
from tests.commands.conftest import free_port
from tests.conftest import Engine
from tests.faults.load import SERVICES, START_LIMIT_S, Load

LEASE_S = 1.0
"""Ten times shorter than it is by default, because a kill is over when the dead process's leases are."""


CUT_EVERY_S = 2.0


class Parent:
    """`tests.faults.worker`: forks one Casewalk at a time, so that a start costs no imports."""

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

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.pid is not None:
            os.kill(self.pid, number)


class World(Load):
    """A database, a log and a Casewalk on them whose process is a worker of `parent`."""

    def __init__(self, engine: Engine, directory: Path, parent: Parent, seed: int) -> None:
        self.directory, self.parent, self.port = directory, parent, free_port()
        super().__init__(engine, seed, f"http://127.0.0.1:{self.port}")

    # -------------------------------------------------------------------------------------------------- the process

    async def start(self, arm: str = "", picky: bool = True, warm: bool = False) -> None:
        """Order a worker, or that the parent warms up by being one; nothing is known of it yet."""
        order = {
            "port": self.port,
            "database_url": self.engine.dsn,
            "kafka": self.engine.kafka,
            "namespace": self.engine.namespace,
            "data_dir": str(self.directory),
            "admin_key": ADMIN_KEY,
            "lease_s": LEASE_S,
            "services": SERVICES,
            "picky": picky,
            "arm": arm,
            "warm": warm,
        }
        self.parent.status = None
        await self.parent.tell(json.dumps(order))
        assert await self.parent.heard(
            lambda: self.parent.pid is not None or self.parent.status is not None, START_LIMIT_S
        )

    async def ready(self) -> bool:
        """Whether the doors are open. Fails when the process is gone although nobody killed it."""
        assert self.parent.pid is not None, f"the worker ended by itself: {self.parent.status}"
        try:
            return (await self.client.get("/health/ready")).is_success
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

    async def passed(self) -> Counter[str]:
        """Point → how often the running worker has passed it."""
        self.parent.passed = Counter()
        await self.parent.tell("count")
        assert await self.parent.heard(lambda: bool(self.parent.passed), 10)
        return self.parent.passed

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
