"""Escalation, running, with the services that can stop or pause a clock."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.escalation.service import SERVICE as ESCALATION
from services.intake.service import SERVICE as INTAKE
from services.router.service import SERVICE as ROUTER
from services.vendor.service import SERVICE as VENDOR
from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine

SERVICES = (INTAKE, ROUTER, ESCALATION, VENDOR)


@pytest.fixture
async def here(engine: Engine, tmp_path: Path) -> AsyncIterator[Casewalk]:
    """On each engine in turn: for what goes through the log."""
    async with casewalk(engine, tmp_path, SERVICES) as running:
        yield running


@pytest.fixture
async def doors(database: str, tmp_path: Path) -> AsyncIterator[Casewalk]:
    """On the embedded engine only: for what the doors say."""
    async with casewalk(Engine("embedded", database, None, ""), tmp_path, SERVICES) as running:
        yield running
