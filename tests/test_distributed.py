"""The distributed installation as plain processes: a broker, a database per service, five services, a second router."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.distributed import installed, nothing_is_lost, restored, the_story, views_are_equal


@pytest.mark.broker
@pytest.mark.timeout(400)
async def test_neither_kill_minus_9_during_the_story_nor_a_restored_database_loses_anything() -> None:
    with tempfile.TemporaryDirectory(prefix="casewalk-") as directory:
        async with installed(Path(directory)) as installation:
            await the_story(installation, list(installation.serving))
            await restored(installation, "router")
            await nothing_is_lost(installation)
            await views_are_equal(installation)
