"""Worked examples of working time: the file of them, or a handful that is kept here.

`CASEWALK_ORACLES` names the directory of `open.json`. Unset, the examples below stand in for it; set but without the
file is a failure.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.escalation.calendars import DAYS

TOPICS = ("sla_due", "sla_elapsed", "sla_business_days", "sla_state", "holidays")


@dataclass(frozen=True)
class Oracle:
    """Inputs, and what must come of them; null: there is no such thing."""

    topic: str
    id: str
    inputs: Mapping[str, Any]
    expected: Mapping[str, Any]

    def __str__(self) -> str:
        return self.id


def oracles() -> list[Oracle]:
    """Every worked example that is about calendars."""
    return list(_of_the_file() if os.environ.get("CASEWALK_ORACLES") else _KEPT)


def _of_the_file() -> Iterator[Oracle]:
    path = Path(os.environ["CASEWALK_ORACLES"]) / "open.json"
    assert path.is_file(), "CASEWALK_ORACLES is set, but there is no open.json in it"
    for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
        if case["topic"] in TOPICS:
            yield Oracle(case["topic"], case["id"], case["inputs"], case["expected"])


def week(*windows: list[str], days: str = "mon tue wed thu fri") -> dict[str, list[list[str]]]:
    """The same windows on each of the days, nothing on the others."""
    return {day: list(windows) if day in days.split() else [] for day in DAYS}


BERLIN: dict[str, Any] = {
    "tz": "Europe/Berlin",
    "weekly": week(["09:00", "18:00"]),
    "holidays": ["2026-01-01", "2026-04-03", "2026-04-06", "2026-05-01", "2026-05-14", "2026-12-25", "2026-12-26"],
    "exceptions": {"2026-12-24": [["09:00", "13:00"]]},
}

_NIGHTS = {
    "tz": "Europe/Berlin",
    "weekly": week(["22:00", "06:00"], days="mon tue wed thu fri sat sun"),
    "holidays": [],
    "exceptions": {},
}

# Worked out by hand.
_KEPT = (
    Oracle(
        "sla_due",
        "8 h from Friday 16:30 over the change of clocks",
        {"calendar": BERLIN, "start": "2026-03-27T16:30:00+01:00", "target_seconds": 28_800, "pauses": []},
        {"due": "2026-03-30T13:30:00Z", "due_local": "2026-03-30T15:30:00+0200"},
    ),
    Oracle(
        "sla_due",
        "a night of seven hours",
        {"calendar": _NIGHTS, "start": "2026-03-28T22:00:00+01:00", "target_seconds": 36_000, "pauses": []},
        {"due": "2026-03-29T23:00:00Z", "due_local": "2026-03-30T01:00:00+0200"},
    ),
    Oracle(
        "sla_due",
        "a short Christmas Eve",
        {"calendar": BERLIN, "start": "2026-12-23T16:00:00+01:00", "target_seconds": 28_800, "pauses": []},
        {"due": "2026-12-28T10:00:00Z", "due_local": "2026-12-28T11:00:00+0100"},
    ),
    Oracle(
        "sla_due",
        "an open pause",
        {
            "calendar": BERLIN,
            "start": "2026-05-11T09:00:00+02:00",
            "target_seconds": 7200,
            "pauses": [["2026-05-11T10:00:00+02:00", None]],
        },
        {"due": None, "due_local": None},
    ),
    Oracle(
        "sla_elapsed",
        "Easter with a pause of two hours",
        {
            "calendar": BERLIN,
            "start": "2026-04-01T15:00:00+02:00",
            "end": "2026-04-07T12:00:00+02:00",
            "pauses": [["2026-04-02T10:00:00+02:00", "2026-04-02T12:00:00+02:00"]],
        },
        {"seconds": 46_800},
    ),
    Oracle(
        "sla_business_days",
        "2 working days from Thursday before Easter",
        {"calendar": BERLIN, "start": "2026-04-02T10:00:00+02:00", "days": 2},
        {"due": "2026-04-08T16:00:00Z", "due_date_local": "2026-04-08", "anchor_date_local": "2026-04-02"},
    ),
    Oracle(
        "sla_state",
        "paused, and frozen",
        {
            "calendar": BERLIN,
            "start": "2026-05-11T09:00:00+02:00",
            "target_seconds": 14_400,
            "pauses": [["2026-05-11T10:30:00+02:00", None]],
            "now": "2026-05-12T12:00:00+02:00",
        },
        {"used_seconds": 5400, "remaining_seconds": 9000, "due": None, "state": "paused"},
    ),
    Oracle(
        "holidays",
        "England, Boxing Day on a Saturday",
        {"country": "GB", "subdivision": "ENG", "year": 2026},
        {
            "dates": [
                *("2026-01-01", "2026-04-03", "2026-04-06", "2026-05-04", "2026-05-25", "2026-08-31"),
                *("2026-12-25", "2026-12-26", "2026-12-28"),
            ]
        },
    ),
)
