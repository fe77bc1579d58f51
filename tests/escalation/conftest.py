"""Intake and escalation, running."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.escalation.service import SERVICE as ESCALATION
from services.intake.service import SERVICE as INTAKE
from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine


@pytest.fixture
async def here(engine: Engine, tmp_path: Path) -> AsyncIterator[Casewalk]:
    """On each engine in turn: for what goes through the log."""
    async with casewalk(engine, tmp_path, (INTAKE, ESCALATION)) as running:
        yield running


@pytest.fixture
async def doors(database: str, tmp_path: Path) -> AsyncIterator[Casewalk]:
    """On the embedded engine only: for what the doors say."""
    async with casewalk(Engine("embedded", database, None, ""), tmp_path, (INTAKE, ESCALATION)) as running:
        yield running
