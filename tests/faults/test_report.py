"""The tables that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.report import Report

pytestmark = pytest.mark.sample


def test_a_part_of_a_run_replaces_its_own_tables_only(tmp_path: Path) -> None:
    kept = tmp_path / "faults.md"
    first, second = Report(), Report()
    first.table("Kills", ("point", "kills", "s"), [("store.after_commit", 2, 0.25)])
    first.table("Brokers", ("step", "lost"), [("two down", 0)], "Nothing was lost.")
    second.table("Kills", ("point", "kills", "s"), [("store.after_commit", 7, 0.5)])

    first.keep(kept)
    second.keep(kept)

    text = kept.read_text("utf-8")
    assert "| store.after_commit | 7     | 0.5 |" in text
    assert "| two down | 0    |" in text
    assert text.count("## ") == 2
    assert text.endswith("Nothing was lost.\n")
