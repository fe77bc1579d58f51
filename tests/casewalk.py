"""A running Casewalk for tests of doors and stories: real hosts, real HTTP shapes, keys of every role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
from fastapi import FastAPI

from events import lanes
from events.postgres_log import PostgresLog
from services.every import SERVICES
from services.runtime import Host, Service, Settings, running
from services.runtime.app import application
from tests.conftest import POSTGRES, Engine
from tests.until import until

ADMIN_KEY = "cw_" + "a" * 43

FURNISHED = "furnished"
"""What the databases are named that empty ones are copied from, on the server of this run."""


class Casewalk:
    """Services that run, and a client per key. `admin` has the first admin key."""

    def __init__(self, app: FastAPI, stack: AsyncExitStack) -> None:
        self.app, self._stack = app, stack
        self.hosts: dict[str, Host] = app.state.hosts
        self.admin: httpx.AsyncClient

    async def client(self, key: str | None) -> httpx.AsyncClient:
        """A client that sends this key."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://casewalk", headers=headers, timeout=30)
        return await self._stack.enter_async_context(client)

    async def key(self, role: str, holder: str | None = None) -> httpx.AsyncClient:
        """A client with a new key of this role, known to every running service."""
        answer = await self.admin.post("/v1/keys", json={"role": role, "label": f"test {role}", "holder": holder})
        assert answer.status_code == 201, answer.text
        for host in self.hosts.values():
            await host.wait_for(answer.headers["Casewalk-Position"])
        return await self.client(answer.json()["secret"])

    async def settled(self) -> None:
        """Until every event is in the log and every consumer of every service has handled all of it."""

        async def at_once() -> bool:
            return all([await _settled(host) for host in self.hosts.values()])

        await until(at_once, limit_s=30)


async def _settled(host: Host) -> bool:
    if await host.database.readers.fetchval("select count(*) from outbox"):
        return False
    ends = await host.log.ends()
    rows = await host.database.readers.fetch("select topic, partition, next_offset from lane")
    return all(row["next_offset"] >= ends.get((row["topic"], row["partition"]), 0) for row in rows)


@asynccontextmanager
async def casewalk(
    engine: Engine, directory: Path, services: Sequence[Service], **more: Any
) -> AsyncIterator[Casewalk]:
    """Run `services` (intake among them: it makes the keys) on the engine."""
    await furnish(engine.dsn, SERVICES, FURNISHED)
    settings = Settings(
        database_url=engine.dsn,
        kafka=engine.kafka,
        data_dir=directory,
        master_key=b"k" * 32,
        admin_key=ADMIN_KEY,
        namespace=engine.namespace,
        **more,
    )
    async with started(services, settings) as app, AsyncExitStack() as stack:
        casewalk = Casewalk(app, stack)
        casewalk.admin = await casewalk.client(ADMIN_KEY)
        for host in casewalk.hosts.values():
            await until(lambda host=host: _knows_a_key(host))  # type: ignore[misc]
        yield casewalk


async def _knows_a_key(host: Host) -> bool:
    return bool(await host.database.readers.fetchval("select count(*) from keys"))


# ------------------------------------------------------------------------------------------------------ doors made once


class _Stand:
    """Stands for the host that runs now, so that doors made for one serve the next."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.host: Host

    def __getattr__(self, name: str) -> Any:
        return getattr(self.host, name)


@dataclass
class _Doors:
    app: FastAPI
    stands: list[_Stand]


_free: dict[tuple[int, ...], list[_Doors]] = {}
"""Doors nobody stands behind now, by the identities of their services."""


@asynccontextmanager
async def started(services: Sequence[Service], settings: Settings) -> AsyncIterator[FastAPI]:
    """`running`, with doors that an earlier start of the same services has left: to make them takes longer than all the
    rest of a start."""
    free = _free.setdefault(tuple(map(id, services)), [])
    used: list[_Doors] = []

    def opened(hosts: Sequence[Host]) -> FastAPI:
        doors = free.pop() if free else _doors(services)
        used.append(doors)
        for stand, host in zip(doors.stands, hosts, strict=True):
            stand.host = host
        doors.app.state.hosts = {host.service.name: host for host in hosts}
        doors.app.state.leaving = False
        doors.app.middleware_stack = None  # made anew at the first request: it counts who is inside
        return doors.app

    async with running(services, settings, opened) as app:
        yield app
    if all(service in SERVICES for service in services):
        free += used


def _doors(services: Sequence[Service]) -> _Doors:
    stands = [_Stand(service) for service in services]
    return _Doors(application(stands), stands)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ the first start


async def furnish(dsn: str, services: Sequence[Service], template: str) -> None:
    """Put into an empty database what a first start makes there first, every service's tables and empty views: copied,
    because to make them takes more than everything else that most tests do. On a server that runs already nothing is
    copied: what would be copied from stays there, and would be of another program's tables next time."""
    if POSTGRES is not None:
        return
    at = urlsplit(dsn)
    name, server = at.path.removeprefix("/"), at._replace(path="/postgres").geturl()
    conn = await asyncpg.connect(dsn)
    try:
        if await conn.fetchval("select count(*) from pg_namespace where nspname in ('log', 'intake')"):
            return
    finally:
        await conn.close()
    conn = await asyncpg.connect(server)
    try:
        if not await conn.fetchval("select count(*) from pg_database where datname = $1", template):
            await conn.execute(f"CREATE DATABASE {template} TEMPLATE template0")
            try:
                await _first_start(at._replace(path=f"/{template}").geturl(), services)
            except BaseException:
                await conn.execute(f"DROP DATABASE {template} WITH (FORCE)")  # or no other test could begin
                raise
        await conn.execute(f"DROP DATABASE {name}")
        await conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    finally:
        await conn.close()


async def _first_start(dsn: str, services: Sequence[Service]) -> None:
    log = PostgresLog(dsn)
    await log.start()
    for service in services:
        host = await Host.open(service, Settings(database_url=dsn, master_key=b"k" * 32), log)
        for consumer in (host.views_consumer, host.reactor):
            async with host.database.writers.acquire() as conn:
                await lanes.prepare(conn, consumer.name)
        await host.replay.prepare()
        await host.database.close()
    await log.stop()
