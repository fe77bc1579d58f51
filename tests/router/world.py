"""The router at work, and stand-ins for its neighbours: services that only say what a test has them say."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from fastapi import APIRouter, FastAPI

from events.case import CaseOpened
from events.event import CASES, OPERATIONS, Event
from events.operations import KeyIssued, Role
from events.store import Changed, Fold
from services.router.service import SERVICE
from services.runtime import Host, Service, Settings
from tests.casewalk import started
from tests.conftest import Engine
from tests.given import an
from tests.until import until

MASTER_KEY = b"r" * 32

_ON: dict[str, Fold[None]] = {
    topic: Fold(topic, lambda subject: None, lambda state, event: None) for topic in (CASES, OPERATIONS)
}


def neighbour(name: str) -> Service:
    """A service of that name without doors, views or opinions."""
    return Service(name=name, sentence="stands in", paths=(), doors=lambda host: APIRouter())


INTAKE, ESCALATION, VENDOR = (neighbour(name) for name in ("intake", "escalation", "vendor"))


class World:
    """One running router with its neighbours. `lead` is a client with a lead's key."""

    def __init__(self, app: FastAPI, stack: AsyncExitStack) -> None:
        self.app, self._stack = app, stack
        self.hosts: dict[str, Host] = app.state.hosts
        self.router = self.hosts["router"]
        self.lead: httpx.AsyncClient

    async def say(self, subject: str, *events: Event) -> Changed:
        """The neighbour whose events these are says them about the subject."""
        stream = _ON[events[0].TOPIC](subject)
        store = self.hosts[events[0].WRITER].store
        return await store.change(stream, decision=lambda now, state: list(events), actor="service:test")

    async def open_case(self, **facts: Any) -> str:
        """A new case's id; the router has yet to hear of it."""
        case_id = str(uuid4())
        await self.say(case_id, an(CaseOpened, **facts))
        return case_id

    async def client(self, role: Role | None, holder: str | None = None) -> httpx.AsyncClient:
        """A client with a new key of this role, known to the router; without a role, without a key."""
        headers = {}
        if role is not None:
            secret = f"cw_{uuid4().hex}"
            issued = KeyIssued(role=role, sha256=hashlib.sha256(secret.encode()).hexdigest(), holder=holder, label="t")
            changed = await self.say(f"key:{uuid4()}", issued)
            await self.router.wait_for(changed.position)
            headers["Authorization"] = f"Bearer {secret}"
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://router", headers=headers, timeout=30)
        return await self._stack.enter_async_context(client)

    async def agent(
        self, agent_id: str, capacity: int = 5, units: tuple[str, ...] = ("general",), **skills: Any
    ) -> None:
        """An agent who is here."""
        order = {"name": f"Name of {agent_id}", "unit_ids": list(units), "skills": skills, "capacity": capacity}
        await self.did(self.lead.put(f"/v1/agents/{agent_id}", json=order))
        await self.did(self.lead.post(f"/v1/agents/{agent_id}:presence", json={"presence": "available"}))

    async def did(self, asking: Any) -> dict[str, Any]:
        """The answer of a request that succeeds."""
        answer = await asking
        assert answer.is_success, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def work(self, case_id: str) -> dict[str, Any]:
        """Where the case is; empty while the router has not heard of it."""
        answer = await self.lead.get(f"/v1/work/{case_id}")
        return {} if answer.status_code == 404 else answer.json()

    async def until(self, case_id: str, limit_s: float = 15, **wanted: Any) -> dict[str, Any]:
        """The case's work as soon as it has these values."""

        async def as_wanted() -> dict[str, Any] | None:
            self.last = await self.work(case_id)
            return self.last if self.last and all(self.last[k] == v for k, v in wanted.items()) else None

        found = await until(as_wanted, limit_s)
        assert found is not None
        return found


@asynccontextmanager
async def world(
    engine: Engine, directory: Path, *neighbours: Service, router: Service = SERVICE
) -> AsyncIterator[World]:
    """A router with intake and other neighbours on the engine, until the end of the block."""
    settings = Settings(
        database_url=engine.dsn,
        kafka=engine.kafka,
        data_dir=directory,
        master_key=MASTER_KEY,
        namespace=engine.namespace,
    )
    async with started((INTAKE, *neighbours, router), settings) as app, AsyncExitStack() as stack:
        here = World(app, stack)
        here.lead = await here.client(Role.LEAD)
        yield here
