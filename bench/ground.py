"""What the rows stand on: one PostgreSQL, one broker if asked for, and Casewalk's own processes, all thrown away."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import httpx

from events.kafka_log import KafkaLog
from events.log import Log
from events.postgres_log import PostgresLog
from services.runtime import Host, Service, Settings
from services.runtime.broker import Broker
from services.runtime.postgres import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[1]
ADMIN_KEY = "cw_" + "b" * 43
MASTER_KEY = b"k" * 32
READY_WITHIN_S = 300.0
LOAD_WITHIN_S = 600.0
POLL_S = 0.01

EMBEDDED, KAFKA = "embedded", "kafka"


@dataclass(frozen=True)
class Engine:
    """One engine with a database of its own; a name of its own on the shared broker."""

    name: str
    dsn: str
    kafka: str | None
    namespace: str

    def settings(self, directory: Path) -> Settings:
        return Settings(
            database_url=self.dsn,
            kafka=self.kafka,
            data_dir=directory,
            master_key=MASTER_KEY,
            admin_key=ADMIN_KEY,
            namespace=self.namespace,
        )

    def log(self) -> Log:
        return PostgresLog(self.dsn) if self.kafka is None else KafkaLog(self.kafka, self.namespace)


@dataclass
class Ground:
    """The servers of this run."""

    directory: Path
    postgres: EmbeddedPostgres
    broker: Broker | None = None
    _names: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def laid(cls, kafka: bool) -> Iterator[Ground]:
        """Start the servers; stop them and throw everything away at the end."""
        with (
            TemporaryDirectory(prefix="casewalk-bench-") as name,
            EmbeddedPostgres.start(Path(name) / "postgres") as postgres,
        ):
            ground = cls(Path(name), postgres)
            if not kafka:
                yield ground
                return
            with Broker.start(Path(name) / "kafka") as ground.broker:
                yield ground

    @asynccontextmanager
    async def engine(self, name: str) -> AsyncIterator[Engine]:
        """An engine with a fresh database, dropped at the end."""
        database = f"bench_{secrets.token_hex(4)}"
        self.postgres.create_database(database)
        kafka = self.broker.bootstrap if name == KAFKA and self.broker is not None else None
        yield Engine(name, self.postgres.dsn(database), kafka, f"b{secrets.token_hex(4)}")
        conn = await asyncpg.connect(self.postgres.dsn("postgres"))
        await conn.execute(f"drop database {database} with (force)")
        await conn.execute("checkpoint")  # what this row left to write is not the next one's burden
        await conn.close()

    @asynccontextmanager
    async def host(self, service: Service, engine: Engine) -> AsyncIterator[Host]:
        """A host in this process whose parts do not run: the row runs the one it measures."""
        log = engine.log()
        await log.start()
        host = await Host.open(service, engine.settings(self.directory), log)
        try:
            await host.replay.prepare()
            yield host
        finally:
            await host.database.close()
            await log.stop()

    @asynccontextmanager
    async def serving(self, engine: Engine, mode: str, *names: str) -> AsyncIterator[Serving]:
        """`python -m bench.serving` with these services in a process of its own, its doors open."""
        serving = Serving(self.directory, engine, mode, names, _free_port())
        try:
            await serving.start()
            yield serving
        finally:
            await serving.stop()

    def pids(self, **processes: int) -> dict[str, int]:
        """Name → process number, the servers' among them."""
        broker = {} if self.broker is None else {"Kafka": next(iter(self.broker.pids.values()))}
        return {**processes, "PostgreSQL": self.postgres.pid, **broker}


@dataclass
class Serving:
    """One process with doors."""

    directory: Path
    engine: Engine
    mode: str
    names: Sequence[str]
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        variables = {
            "CASEWALK_DATABASE_URL": self.engine.dsn,
            "CASEWALK_NAMESPACE": self.engine.namespace,
            "CASEWALK_DATA_DIR": str(self.directory),
            "CASEWALK_ADMIN_KEY": ADMIN_KEY,
            "CASEWALK_MASTER_KEY": MASTER_KEY.hex(),
        } | ({} if self.engine.kafka is None else {"CASEWALK_KAFKA": self.engine.kafka})
        with (self.directory / f"serving-{self.port}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bench.serving",
                self.mode,
                str(self.port),
                *self.names,
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if not name.startswith("CASEWALK_")} | variables,
                stdout=log,
                stderr=log,
            )
        await until(self._ready, READY_WITHIN_S)

    async def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, (self.directory / f"serving-{self.port}.log").read_text()
        with suppress(httpx.TransportError):
            async with self.client() as client:
                return (await client.get("/health/ready")).is_success
        return False

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=120)

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()


async def load(port: int, path: str, requests: int, connections: int = 64) -> dict[str, Any]:
    """`python -m bench.load` in a process of its own: what it measured."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.load",
        str(port),
        path,
        str(requests),
        str(connections),
        ADMIN_KEY,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LOAD_WITHIN_S):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, "the load did not get through; it says why above"
    measured: dict[str, Any] = json.loads(out)
    return measured


async def until(condition: Callable[[], Any], limit_s: float) -> Any:
    """What `condition` answers once it is true; looks every 10 ms. Raises TimeoutError."""
    async with asyncio.timeout(limit_s):
        while not (answer := await condition()):  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(POLL_S)
        return answer


def ends_in_order() -> None:
    """Told to stop, the run ends what it has started."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
