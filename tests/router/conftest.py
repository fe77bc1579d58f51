"""A running router for the tests that need one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Engine
from tests.router.world import ESCALATION, VENDOR, World, world


@pytest.fixture
async def here(database: str, tmp_path: Path) -> AsyncIterator[World]:
    """With intake, on the embedded engine: what is promised here does not depend on the log."""
    async with world(Engine("embedded", database, None, "t"), tmp_path) as running:
        yield running


@pytest.fixture
async def everywhere(engine: Engine, tmp_path: Path) -> AsyncIterator[World]:
    """With every neighbour it hears, on each engine in turn."""
    async with world(engine, tmp_path, ESCALATION, VENDOR) as running:
        yield running
