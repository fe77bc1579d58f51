"""A world of the two toy services, on either engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI

from services.runtime import Host, Settings, running
from tests.casewalk import FURNISHED, furnish
from tests.conftest import Engine
from tests.events.toy import INTAKE, ROUTER

TOYS = (INTAKE, ROUTER)


class World:
    """The toy services of one engine; they may be started more than once beside each other."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self.settings = Settings(
            database_url=engine.dsn,
            kafka=engine.kafka,
            data_dir=directory,
            master_key=b"m" * 32,
            open=True,
            namespace=engine.namespace,
        )

    @asynccontextmanager
    async def running(self, *services: object) -> AsyncIterator[dict[str, Host]]:
        """The hosts by name, until the end of the block."""
        chosen = services or TOYS
        if set(map(id, chosen)) <= set(map(id, TOYS)):
            await furnish(self.engine.dsn, TOYS, f"{FURNISHED}_toys")
        async with running(chosen, self.settings, _no_doors) as app:  # type: ignore[arg-type]
            yield app.state.hosts


def _no_doors(hosts: Sequence[Host]) -> FastAPI:
    app = FastAPI()
    app.state.hosts = {host.service.name: host for host in hosts}
    return app


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    return World(engine, tmp_path)
