"""A Casewalk of real processes under load, several of each service where a test wants them, behind a small proxy."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from services.commands.client import Doors
from services.names import NAMES
from tests.casewalk import ADMIN_KEY
from tests.conftest import Engine
from tests.distributed import Serving
from tests.faults.load import POLL_S, SERVICES, Load, Reaching
from tests.faults.report import Report
from tests.until import until

EVERYTHING = " ".join(SERVICES)
"""One process that runs all services the load needs."""

LOOK_EVERY_S = 0.5
LOOK_LIMIT_S = 5.0
RECOVERY_LIMIT_S = 180.0
STOP_LIMIT_S = 20.0
CALM_S = (0.3, 0.9)
"""Between two requests of a client: what is measured is what is lost, not how much goes through."""

OFFER_S = 10
"""An account waits until the last offer has run out."""


class InTurn(Reaching):
    """The proxy: each request goes to the next process of its service that said it is ready when it was asked last, and
    to another one where nobody takes the connection. It keeps no connection, as proxies do that are not told to."""

    def __init__(self, serving: list[Serving]) -> None:
        super().__init__(limits=httpx.Limits(max_keepalive_connections=0))
        self._serving, self._turn = serving, 0
        self._away: list[Serving] = []
        self._doors = Doors({name: name for name in NAMES})

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        service = self._doors.url(request.url.raw_path.decode()).partition("/")[0]
        able = [process for process in self._serving if service in process.service.split()]
        able = [process for process in able if process not in self._away] or able
        self._turn += 1
        for n in range(len(able)):
            process = able[(self._turn + n) % len(able)]
            request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=process.port)
            try:
                return await super().handle_async_request(request)
            except httpx.ConnectError:
                continue
        raise httpx.ConnectError(f"no process of {service} takes a connection")

    async def look(self) -> None:
        """Ask every process again and again whether it is ready, until cancelled."""
        while True:
            asked = list(self._serving)
            ready = await asyncio.gather(*(self._ready(process) for process in asked))
            self._away = [process for process, is_ready in zip(asked, ready, strict=True) if not is_ready]
            await asyncio.sleep(LOOK_EVERY_S)

    async def _ready(self, process: Serving) -> bool:
        limits = dict.fromkeys(("connect", "read", "write", "pool"), LOOK_LIMIT_S)
        asking = httpx.Request("GET", f"{process.url}/health/ready", extensions={"timeout": limits})
        try:
            answer = await super().handle_async_request(asking)
        except httpx.TransportError:
            return False
        await answer.aclose()
        return answer.is_success


class Processes(Load):
    """Processes on one database and one log, and the load on them."""

    def __init__(
        self, engine: Engine, directory: Path, processes: Sequence[str], database_url: str | None = None
    ) -> None:
        self.serving: list[Serving] = []
        self.proxy = InTurn(self.serving)
        super().__init__(engine, seed=1, url="http://casewalk", transport=self.proxy)
        self.think_s = CALM_S
        self.directory = directory
        self.services = [name for name in NAMES if any(name in services.split() for services in processes)]
        self.variables = {
            "CASEWALK_DATABASE_URL": database_url or engine.dsn,
            "CASEWALK_NAMESPACE": engine.namespace,
            "CASEWALK_MASTER_KEY": "6b" * 32,
            "CASEWALK_ADMIN_KEY": ADMIN_KEY,
            "CASEWALK_DATA_DIR": str(directory),
        }
        if engine.kafka is not None:
            self.variables["CASEWALK_KAFKA"] = engine.kafka
        self.recovered_s: defaultdict[str, list[float]] = defaultdict(list)

    @classmethod
    @asynccontextmanager
    async def running(
        cls, engine: Engine, directory: Path, processes: Sequence[str] = (EVERYTHING,), database_url: str | None = None
    ) -> AsyncIterator[Processes]:
        """These processes, ready and furnished. What still runs at the end is killed."""
        world = cls(engine, directory, processes, database_url)
        looking = asyncio.create_task(world.proxy.look())
        try:
            await world.join(processes[0])
            await asyncio.gather(*(world.join(services) for services in processes[1:]))
            await world.recovered(RECOVERY_LIMIT_S)
            await world.furnish(OFFER_S)
            yield world
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            for process in list(world.serving):
                await world.die(process)
            await world.client.aclose()

    # ------------------------------------------------------------------------------------------------- the processes

    async def join(self, services: str = EVERYTHING, program: str = "services") -> Serving:
        """One more process, which gets requests once it is ready."""
        process = Serving(services, self.directory, self.variables, program=program)
        try:
            await process.start()
        except BaseException:
            if process.process is not None and process.process.returncode is None:
                process.process.kill()
            raise
        self.serving.append(process)
        return process

    async def leave(self, process: Serving) -> float:
        """Stop it in order, while it gets requests. Answers how long that took."""
        began = time.monotonic()
        await process.stop()
        self.serving.remove(process)
        return time.monotonic() - began

    async def die(self, process: Serving) -> None:
        """Kill it; nobody starts it again."""
        self.serving.remove(process)
        if process.process is not None and process.process.returncode is None:
            process.process.send_signal(signal.SIGKILL)
            await process.process.wait()

    async def ready(self) -> bool:
        return all([await process.ready() for process in self.serving])

    # ---------------------------------------------------------------------------------------------------- the account

    @asynccontextmanager
    async def broken(self, what: str) -> AsyncIterator[None]:
        """What comes in during the block, which breaks something and makes it whole again, counts as `what`. Then a
        new case goes the whole way."""
        self.point = what
        yield
        whole_at = time.monotonic()
        await self.recovered(RECOVERY_LIMIT_S)
        self.recovered_s[what].append(time.monotonic() - whole_at)

    async def opened(self, cases: int, limit_s: float = RECOVERY_LIMIT_S) -> None:
        """Until so many more cases were answered for."""
        wanted = len(self.ledger) + cases

        async def enough() -> bool:
            return len(self.ledger) >= wanted

        await until(enough, limit_s, POLL_S)

    async def loses_and_doubles_nothing(self, report: Report, title: str, note: str = "") -> None:
        """Everything comes to rest; then walks, figures, log and views must equal the ledger. The table says it all."""
        await self.settle()
        off = await self.account()
        rows = [
            (what, len(seconds), *off.get(what, (0, 0)), max(seconds)) for what, seconds in self.recovered_s.items()
        ]
        sums = (
            f"{len(self.ledger):,} cases. Sent again: {self.unanswered:,} requests that lost their answer,"
            f" {self.refused:,} that were answered 503, {self.unreached:,} that found no door. Recovered: from being"
            " whole again until a new case had gone all the way, the longest."
        )
        columns = ("broken", "times", "lost", "doubled", "s to recover")
        report.table(f"{title}, {self.engine.name}", columns, rows, " ".join([sums, *([note] if note else [])]))
        assert {what: counts for what, counts in off.items() if counts != (0, 0)} == {}, self.odd
