"""Intake behind its doors, with a key per role; the other services' events come from stand-ins that only speak."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import APIRouter

from events.event import CASES, Event, Recorded
from events.store import Fold
from services.intake.service import SERVICE
from services.runtime import Host, Service, Settings
from tests.casewalk import started
from tests.conftest import ENGINE, Postgres, delete_topics
from tests.until import until

ADMIN_KEY = "cw_the-first-key-of-these-tests-000000000000000"

SPEAKER: Fold[int] = Fold(CASES, lambda case_id: 0, lambda count, event: count + 1)


def speaker(name: str) -> Service:
    """A service that says what a test wants it to say."""
    return Service(name=name, sentence="only speaks", paths=(), doors=lambda host: APIRouter())


class Doors:
    """A running intake and the ways into it."""

    def __init__(self, hosts: dict[str, Host], client: httpx.AsyncClient) -> None:
        self.hosts, self.client = hosts, client
        self.host = hosts["intake"]
        self.keys: dict[str, str] = {"admin": ADMIN_KEY}

    async def __call__(
        self, method: str, path: str, body: Any = None, *, role: str = "admin", **headers: str
    ) -> httpx.Response:
        """Ask as `role`, or as `role:holder`; the key is made at the first use. `headers` in underscores."""
        content = None if body is None else json.dumps(body)  # escaped, so that half a character can be sent
        named = await self.headers(role, Content_Type="application/json", **headers)
        return await self.client.request(method, path, content=content, headers=named)

    async def headers(self, role: str, **headers: str) -> dict[str, str]:
        """The key of this role, and further headers."""
        if role not in self.keys:
            self.keys[role] = await self._issue(role)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return {"Authorization": f"Bearer {self.keys[role]}", **named}

    async def _issue(self, role: str) -> str:
        name, _, holder = role.partition(":")
        order = {"role": name, "label": f"test {name}", "holder": holder or None}
        answer = await self("POST", "/v1/keys", order)
        assert answer.status_code == 201, answer.text
        await self.host.wait_for(answer.headers["Casewalk-Position"])
        secret: str = answer.json()["secret"]
        return secret

    async def open(self, role: str = "channel", **changes: Any) -> str:
        """A case that is open now."""
        answer = await self("POST", "/v1/cases", opening(**changes), role=role)
        assert answer.status_code == 201, answer.text
        case_id: str = answer.json()["case_id"]
        return case_id

    async def case(self, case_id: str, role: str = "lead") -> dict[str, Any]:
        """The case as `role` reads it."""
        answer = await self("GET", f"/v1/cases/{case_id}", role=role)
        assert answer.status_code == 200, answer.text
        read: dict[str, Any] = answer.json()
        return read

    async def say(self, case_id: str, *events: Event) -> None:
        """Another service says something about the case, and intake has heard it."""
        for event in events:
            host = self.hosts[event.WRITER]
            changed = await host.store.change(
                SPEAKER(case_id), decision=lambda now, count, event=event: [event], actor=f"service:{event.WRITER}"
            )
            await self.host.wait_for(changed.position)

    async def said(self, case_id: str) -> list[Recorded[Any]]:
        """Everything intake said about the case."""
        return await self.host.store.events(CASES, case_id)

    async def until_listed(self, path: str, role: str = "lead") -> list[dict[str, Any]]:
        """What a list holds, once it holds something."""

        async def items() -> list[dict[str, Any]]:
            answer = await self("GET", path, role=role)
            assert answer.status_code == 200, answer.text
            found: list[dict[str, Any]] = answer.json()["items"]
            return found

        return await until(items)


def opening(**changes: Any) -> dict[str, Any]:
    """A good body of `POST /v1/cases`."""
    return {
        "channel": "email",
        "market": "de",
        "language": "de",
        "journey": "delivery",
        "subject": "Where is my parcel?",
        "body": "It should have been here on Friday. Grüße, K. Ünal 📦",
        "customer": {"external_id": "crm-20417", "name": "Kim Ünal", "email": "kim@customer.example"},
        **changes,
    }


def unique(name: str) -> str:
    """A name no other test uses."""
    return f"{name}-{token_hex(6)}"


def settings(dsn: str, directory: Path, **more: Any) -> Settings:
    """How intake runs in these tests."""
    return Settings(
        **{
            "database_url": dsn,
            "data_dir": directory,
            "master_key": b"m" * 32,
            "admin_key": ADMIN_KEY,
            **more,
        }
    )


@asynccontextmanager
async def opened(wanted: Settings, *others: Service) -> AsyncIterator[Doors]:
    """Intake and the speakers run until the end of the block."""
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(started([SERVICE, *others], wanted))
        transport = httpx.ASGITransport(app)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://casewalk"))
        doors = Doors(app.state.hosts, client)
        await until(partial(_is_ready, doors))
        yield doors


async def _is_ready(doors: Doors) -> bool:
    return await doors.host.ready() is None


OTHERS = tuple(map(speaker, ("router", "escalation", "vendor")))


@pytest.fixture(scope="package")
async def doors(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doors]:
    """One intake on the embedded engine for all tests that do not depend on the engine; each makes its own cases."""
    async with fresh_database(postgres) as dsn, opened(settings(dsn, tmp_path_factory.mktemp("doors")), *OTHERS) as way:
        yield way


@pytest.fixture(scope="package", params=["embedded"] if ENGINE == "embedded" else ["embedded", "kafka"])
async def engine_doors(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Doors]:
    """One intake on each engine in turn, for what the log carries."""
    kafka = request.getfixturevalue("kafka") if request.param == "kafka" else None
    namespace = f"t{token_hex(5)}"
    async with fresh_database(postgres) as dsn:
        wanted = settings(dsn, tmp_path_factory.mktemp("doors"), kafka=kafka, namespace=namespace)
        async with opened(wanted, *OTHERS) as way:
            yield way
    if kafka is not None:
        await delete_topics(kafka, namespace)


@asynccontextmanager
async def fresh_database(postgres: Postgres) -> AsyncIterator[str]:
    """A database's address until the end of the block."""
    name = f"intake_{token_hex(6)}"
    server = await asyncpg.connect(postgres.url)
    await server.execute(f"create database {name} template template0 strategy file_copy")
    yield postgres.dsn(name)
    await server.execute(f"drop database {name} with (force)")
    await server.close()
