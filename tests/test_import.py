"""Real logs walk in through REST: measured as published, resumed after a kill -9, never in the way of live work."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import httpx
import pytest

from events.case import CaseObserved
from services.every import SERVICES
from tests.commands.conftest import AUTHORITIES, called, command, environment, free_port
from tests.conftest import Engine
from tests.metrics.samples import HELPDESK, VINST, Sample, printed, repeated
from tests.until import until

ADMIN_KEY = "cw_" + "i" * 43

BIG, SMALL = repeated(VINST, 500), HELPDESK
"""Big enough that it is killed and waited for in the middle, with or without the real logs."""

LIMIT_S = 400.0


class Server:
    """`casewalk up` on the test's database and log; it may be killed and started again."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine, self.directory, self.port = engine, directory, free_port()
        self.process: asyncio.subprocess.Process | None = None

    @property
    def variables(self) -> dict[str, str]:
        kafka = {} if self.engine.kafka is None else {"CASEWALK_KAFKA": self.engine.kafka}
        return kafka | {
            "CASEWALK_DATABASE_URL": self.engine.dsn,
            "CASEWALK_NAMESPACE": self.engine.namespace,
            "CASEWALK_DATA_DIR": str(self.directory),
            "CASEWALK_ADMIN_KEY": ADMIN_KEY,
            "CASEWALK_URL": f"http://127.0.0.1:{self.port}",
            "CASEWALK_KEY": ADMIN_KEY,
        }

    async def start(self) -> None:
        """Start it and wait until its doors are open."""
        with (self.directory / "server.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services", "up", f"--port={self.port}",
                stdout=log, stderr=log, env=environment(self.variables),
            )  # fmt: skip

        async def ready() -> bool:
            assert self.process is not None
            assert self.process.returncode is None, (self.directory / "server.log").read_text()
            with suppress(httpx.TransportError):
                async with self.client() as client:
                    return (await client.get("/health/ready")).is_success
            return False

        await until(ready, limit_s=60, poll_s=0.1)

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def leases_run_out(self) -> None:
        """As if 10 s had passed since it died: by then PostgreSQL has ended its connections and leases."""
        conn = await asyncpg.connect(self.engine.dsn)
        others = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        try:

            async def alone() -> bool:
                await conn.execute(f"select pg_terminate_backend(pid) {others}")
                return not await conn.fetchval(f"select count(*) {others}")

            await until(alone)
            for service in SERVICES:
                await conn.execute(f"update {service.name}.lane set owner = null, until = '-infinity'")
                await conn.execute(f"delete from {service.name}.worker")
        finally:
            await conn.close()

    async def observed(self) -> int:
        """Rows recorded by now."""
        conn = await asyncpg.connect(self.engine.dsn)
        try:
            return int(await conn.fetchval("select count(*) from intake.events where type = $1", CaseObserved.TYPE))
        finally:
            await conn.close()

    async def recovered(self, before: int) -> bool:
        """Whether every lane has an owner again and rows come in again: there are more than `before`."""
        conn = await asyncpg.connect(self.engine.dsn)
        try:
            owned = [
                await conn.fetchval(f"select bool_and(until > clock_timestamp()) from {service.name}.lane")
                for service in SERVICES
            ]
        finally:
            await conn.close()
        return all(owned) and await self.observed() > before

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {ADMIN_KEY}"},
            timeout=30,
            verify=AUTHORITIES,
        )

    async def casewalk(self, *arguments: str, limit_s: float = LIMIT_S) -> Any:
        """Run a command against it; what it printed as JSON."""
        ended = await command(*arguments, "--json", limit_s=limit_s, **self.variables)
        assert ended.code == 0, ended.err + ended.out
        return ended.json

    async def rows(self) -> int:
        """Steps the figures count by now."""
        with suppress(httpx.TransportError):
            async with self.client() as client:
                answer = await client.get("/v1/figures")
                return int(answer.json()["events"]["value"] or 0) if answer.is_success else 0
        return 0


@asynccontextmanager
async def up(engine: Engine, directory: Path) -> AsyncIterator[Server]:
    server = Server(engine, directory)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


def file_of(sample: Sample, directory: Path) -> Path:
    """The log as a file."""
    if sample.is_real:
        return Path(os.environ["CASEWALK_SAMPLE_LOGS"]) / sample.file
    path = directory / f"{sample.profile}.csv"
    path.write_text(sample.small)
    return path


@pytest.mark.alone
async def test_a_case_opened_while_rows_come_in_is_routed_within_a_second(engine: Engine, tmp_path: Path) -> None:
    """Also right after a kill -9, with everything cold."""
    async with up(engine, tmp_path) as server, asyncio.TaskGroup() as beside:
        importing = beside.create_task(server.casewalk("import", str(file_of(BIG, tmp_path)), "--profile", BIG.profile))
        await _killed_midway(server)
        waits = await _routed_meanwhile(server, importing, cases=40)
        assert waits, "nothing was imported any more when the server was back"
        assert max(waits) < 1.0, "a case opened meanwhile is routed within a second"
        importing.cancel()


@pytest.mark.timeout(900)
async def test_real_logs_are_imported_through_a_kill_9_and_measure_as_published(engine: Engine, tmp_path: Path) -> None:
    """One server for the whole way: imported, killed midway, measured, verified, rebuilt, measured again."""
    async with up(engine, tmp_path) as server, asyncio.TaskGroup() as beside:
        files = {sample.profile: file_of(sample, tmp_path) for sample in (BIG, SMALL)}
        importing = beside.create_task(server.casewalk("import", str(files[BIG.profile]), "--profile", BIG.profile))
        await _killed_midway(server)
        assert not importing.done(), "nothing was imported any more when the server was back"
        imported = {BIG.profile: await importing}
        rows = int(BIG.figures["events.value"])
        assert imported[BIG.profile]["recorded"] + imported[BIG.profile]["known"] == rows
        assert imported[BIG.profile]["refused"] == 0

        small = ("import", str(files[SMALL.profile]), "--profile", SMALL.profile)
        imported[SMALL.profile] = await server.casewalk(*small)
        await _measures_as_published(server, imported)
        rebuilt = await command("rebuild", "all", limit_s=LIMIT_S, **server.variables)
        assert rebuilt.code == 0, rebuilt.err
        await _measures_as_published(server, imported)
        verifying = beside.create_task(server.casewalk("verify"))
        assert await _routed_meanwhile(server, verifying), "cases keep coming while it is verified"
        assert all(view["equal"] for view in (await verifying)["views"])


async def _killed_midway(server: Server) -> None:
    """While rows come in it is killed, started again, and rows come in again."""
    await until(server.rows, limit_s=120, poll_s=0.1)
    await server.kill()
    await server.leases_run_out()
    before = await server.observed()
    await server.start()
    await until(partial(server.recovered, before), limit_s=60, poll_s=0.1)


async def _measures_as_published(server: Server, imported: dict[str, Any]) -> None:
    for sample in (BIG, SMALL):
        where = f"import={imported[sample.profile]['import_id']}"
        figures = await called("figures", "--where", where, "--json", **server.variables)
        assert figures.code == 0, figures.err
        assert printed(figures.json, sample.figures) == sample.figures


async def _routed_meanwhile(server: Server, importing: asyncio.Task[Any], cases: int = 10) -> list[float]:
    """Seconds from opening a case to its being queued, one after the other while rows come in."""
    waits: list[float] = []
    async with server.client() as client:
        while not importing.done() and len(waits) < cases:
            began = monotonic()
            body = OPENING | {"customer": {"external_id": f"live-{len(waits)}"}}
            opened = await client.post("/v1/cases", json=body)
            assert opened.status_code == 201, opened.text
            case_id = opened.json()["case_id"]

            async def queued(case_id: str = case_id) -> bool:
                return (await client.get(f"/v1/work/{case_id}")).is_success

            await until(queued, limit_s=20)
            waits.append(monotonic() - began)
    return waits


OPENING = {
    "channel": "chat",
    "market": "de",
    "language": "de",
    "journey": "delivery",
    "subject": "Where is my parcel?",
    "body": "It should have been here on Monday.",
}
