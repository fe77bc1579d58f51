"""A running Casewalk for tests of doors and stories: real hosts, real HTTP shapes, keys of every role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from services.runtime import Host, Service, Settings, running
from tests.conftest import Engine
from tests.until import until

ADMIN_KEY = "cw_" + "a" * 43


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
    settings = Settings(
        database_url=engine.dsn,
        kafka=engine.kafka,
        data_dir=directory,
        master_key=b"k" * 32,
        admin_key=ADMIN_KEY,
        namespace=engine.namespace,
        **more,
    )
    async with running(services, settings) as app, AsyncExitStack() as stack:
        casewalk = Casewalk(app, stack)
        casewalk.admin = await casewalk.client(ADMIN_KEY)
        for host in casewalk.hosts.values():
            await until(lambda host=host: _knows_a_key(host))  # type: ignore[misc]
        yield casewalk


async def _knows_a_key(host: Host) -> bool:
    return bool(await host.database.readers.fetchval("select count(*) from keys"))
