"""Metrics, running, with intake beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex

import asyncpg
import pytest
from fastapi import APIRouter

from services.escalation.service import SERVICE as ESCALATION
from services.intake.service import SERVICE as INTAKE
from services.metrics.service import SERVICE as METRICS
from services.runtime import Service
from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine, Postgres

ROUTER = Service(name="router", sentence="only speaks", paths=(), doors=lambda host: APIRouter())


@pytest.fixture
async def here(engine: Engine, tmp_path: Path) -> AsyncIterator[Casewalk]:
    """On each engine in turn, for what goes through the log; the router says what a test wants it to say."""
    async with casewalk(engine, tmp_path, (INTAKE, ROUTER, ESCALATION, METRICS)) as running:
        yield running


@pytest.fixture(scope="module")
async def doors(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Casewalk]:
    """One on the embedded engine for all tests of what the doors say; each makes its own cases."""
    name = f"metrics_{token_hex(6)}"
    server = await asyncpg.connect(postgres.url)
    await server.execute(f"create database {name} template template0 strategy file_copy")
    engine = Engine("embedded", postgres.dsn(name), None, "")
    async with casewalk(engine, tmp_path_factory.mktemp("doors"), (INTAKE, METRICS)) as running:
        yield running
    await server.execute(f"drop database {name} with (force)")
    await server.close()
