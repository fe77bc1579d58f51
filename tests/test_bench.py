"""The bench still runs: every row is measured once, as small as can be."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from bench import report
from bench.plot import Curve, draw
from bench.soak import LIMITS, is_flat
from tests.commands.conftest import ROOT

ROWS = ("POST /v1/cases", "log → view", "rebuild of case_facts", "import through REST", "any question to /v1/figures")


@pytest.mark.timeout(600)
async def test_every_row_of_the_embedded_engine_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench", "--smoke", "--engine", "embedded", "--write", str(page),
        cwd=ROOT, env={**os.environ, "COLUMNS": "250"}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()

    assert process.returncode == 0, err.decode()
    for row in ROWS:
        assert f"| {row}" in page.read_text("utf-8"), out.decode()


def test_a_page_says_what_broke_off(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.md", tmp_path / "part.md"
    report.write([], 60.0, "", [], whole)
    report.write([], 60.0, "", ["latency"], part)
    assert "Not measured" not in whole.read_text("utf-8")
    assert "Not measured to the end: latency." in part.read_text("utf-8")


def test_a_slow_leak_is_not_flat_and_noise_is() -> None:
    memory = LIMITS[0]
    at_s = [float(second) for second in range(600)]

    assert is_flat(memory, at_s, [300.0 + second % 7 for second in range(600)])
    assert not is_flat(memory, at_s, [300.0 + second % 7 + second * 0.1 for second in range(600)])


def test_an_outbox_that_stays_old_is_not_flat() -> None:
    age = LIMITS[2]
    at_s = [float(second) for second in range(600)]

    assert is_flat(age, at_s, [0.02] * 600)
    assert not is_flat(age, at_s, [2.0] * 600)


def test_curves_are_drawn_under_each_other(tmp_path: Path) -> None:
    path = tmp_path / "soak.svg"

    draw(
        path, "Soak: 10 cases/s & more", [Curve("memory, MiB", [0.0, 1.0], [1.0, 2.0]), Curve("age, s", [0, 1], [0, 0])]
    )

    text = path.read_text("utf-8")
    assert text.count("<polyline") == 2
    assert "10 cases/s &amp; more" in text
