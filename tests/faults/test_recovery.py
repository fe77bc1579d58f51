"""All five services, lost one after the other without a backup, and then the log."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from services.every import SERVICES
from tests import test_story
from tests.backups import lose
from tests.casewalk import casewalk
from tests.conftest import Engine
from tests.events.test_recovery import everything_is_equal, lose_log, says, settled
from tests.faults.report import Report
from tests.test_story import Story


@pytest.mark.timeout(600)
async def test_each_of_the_five_services_and_then_the_log_comes_back_from_the_others(
    engine: Engine, tmp_path: Path, report: Report
) -> None:
    async with casewalk(engine, tmp_path, SERVICES) as world:
        story = Story(world)
        await story.begin()
        await test_story.test_a_case_walks_through_all_five_services_to_an_accepted_resolution(story)
        await settled(world.hosts)
        log = await says(world.hosts["intake"])
    rows = []
    for lost in (*(service.name for service in SERVICES), "the log"):
        await (lose_log(engine) if lost == "the log" else lose(engine, lost))
        began = time.monotonic()
        async with casewalk(engine, tmp_path, SERVICES) as world:
            opened_s = time.monotonic() - began
            await everything_is_equal(world.hosts)
            rows.append((lost, f"{opened_s:.1f}", f"{time.monotonic() - began:.1f}"))
            assert await says(world.hosts["intake"]) == log, f"nothing is said again after {lost} was lost"
    note = f"{len(log)} events; every view of every service was equal to a replay, and the log the same, each time."
    report.table(f"Recovery without a backup, {engine.name}", ("lost", "doors open, s", "all equal, s"), rows, note)
