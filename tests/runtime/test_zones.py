"""Whose time zone data is reckoned with, and what is said where a system has others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from services.runtime import zones
from tests.commands.conftest import environment

STARTED = """
from datetime import UTC, datetime
from services.__main__ import main
try:
    main(["--help"])
except SystemExit:
    from services.escalation.decide.calendars import Calendar
    closed = Calendar("America/Vancouver", ((),) * 7)
    print(closed.local(datetime(2026, 11, 21, 1, tzinfo=UTC)).isoformat())
"""
"""A zone is asked for once the program has begun, in whatever order its parts were loaded."""


def test_a_started_program_takes_no_zone_from_where_the_environment_points(tmp_path: Path) -> None:
    """British Columbia stays at −07:00 from November 2026 on; Los Angeles, which stands there, does not."""
    (tmp_path / "America").mkdir(parents=True)
    shutil.copyfile(str(files("tzdata.zoneinfo.America") / "Los_Angeles"), tmp_path / "America" / "Vancouver")
    variables = environment({"PYTHONTZPATH": str(tmp_path)})
    ended = subprocess.run([sys.executable, "-c", STARTED], env=variables, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "2026-11-20T18:00:00-07:00"


@pytest.mark.parametrize(
    ("first_line", "says"),
    [
        (f"# version {zones.tzdata_version()}\n", None),
        ("# version 2019a\n", "the system's time zones are 2019a, Casewalk reckons with"),
        ("", "the system's time zones are of an unknown version"),
    ],
)
def test_other_zone_data_of_the_system_are_told(tmp_path: Path, first_line: str, says: str | None) -> None:
    (tmp_path / "tzdata.zi").write_text(first_line + "R d 1916 o - Jun 14 23s 1 S\n" * bool(first_line))
    told = zones.difference(tmp_path / "tzdata.zi")
    assert told is None if says is None else told is not None and says in told


def test_a_system_without_zone_data_is_no_difference(tmp_path: Path) -> None:
    assert zones.difference(tmp_path / "none") is None
