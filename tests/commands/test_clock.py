"""`casewalk clock` explains a clock as a team lead would: one that waits, one that was broken, one with another
target."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from services.commands.clock import explanation

GOLD = {"promise": "gold@2", "calendar": "berlin@1"}


def clock(**more: Any) -> dict[str, Any]:
    """As `GET /v1/clocks` answers one."""
    return {
        "clock": "resolution",
        "episode": 1,
        "turn": 0,
        "owner": None,
        "state": "running",
        **GOLD,
        "started_at": "2026-03-02T14:00:00Z",
        "due_at": None,
        "warnings": [],
        "warned": [],
        "stopped_at": None,
        "target_s": 28_800,
        "elapsed_s": 3600,
        "remaining_s": 25_200,
        "kept": None,
        "fires": True,
        "ignored_s": 0,
        **more,
    }


def segment(since: str, until: str, seconds: float, why: str = "working time", **more: Any) -> dict[str, Any]:
    times = {"since": f"2026-03-{since}:00Z", "until": f"2026-03-{until}:00Z", "seconds": seconds}
    return times | {"counted": why == "working time", "why": why, "pieces": 1} | GOLD | more


PAUSED = clock(
    state="paused",
    segments=[
        segment("02T14:00", "02T15:00", 3600),
        segment("02T15:00", "02T16:00", 3600, "paused: waiting customer"),
        segment("02T16:00", "03T08:00", 57_600, "outside working hours"),
    ],
)
BREACHED = clock(
    clock="first_response",
    state="breached",
    kept=False,
    due_at="2026-03-02T15:00:00Z",
    target_s=3600,
    elapsed_s=7200,
    remaining_s=0,
    warned=[50, 75, 90],
    segments=[segment("02T14:00", "02T16:00", 7200)],
)
RETARGETED = clock(
    state="stopped",
    kept=True,
    due_at="2026-03-02T16:00:00Z",
    target_s=7200,
    elapsed_s=5400,
    segments=[
        segment("02T14:00", "02T15:00", 3600, promise="silver@1", calendar=None),
        segment("02T15:00", "02T15:30", 1800),
    ],
)
HISTORY = clock(fires=False, state="stopped", kept=False, due_at="2026-03-02T14:30:00Z", target_s=1800, segments=[])


PAUSED_SHOWN = """
resolution: paused; 1 h used of 8 h, 7 h left when it goes on
from                 to                                     why                       by
2026-03-02 14:00:00  2026-03-02 15:00:00  1 h counted       working time              gold@2 on berlin@1
2026-03-02 15:00:00  2026-03-02 16:00:00  1 h not counted   paused: waiting customer  gold@2 on berlin@1
2026-03-02 16:00:00  2026-03-03 08:00:00  16 h not counted  outside working hours     gold@2 on berlin@1
"""

BREACHED_SHOWN = """
first response: breached, not kept; 2 h used of 1 h, due 2026-03-02 15:00:00; warned at 50, 75, 90 %
from                 to                                why           by
2026-03-02 14:00:00  2026-03-02 16:00:00  2 h counted  working time  gold@2 on berlin@1
"""

RETARGETED_SHOWN = """
resolution: stopped, kept; 1 h 30 min used of 2 h, due 2026-03-02 16:00:00
from                 to                                   why           by
2026-03-02 14:00:00  2026-03-02 15:00:00  1 h counted     working time  silver@1
2026-03-02 15:00:00  2026-03-02 15:30:00  30 min counted  working time  gold@2 on berlin@1
"""


@pytest.mark.parametrize(
    ("one", "text"),
    [(PAUSED, PAUSED_SHOWN), (BREACHED, BREACHED_SHOWN), (RETARGETED, RETARGETED_SHOWN)],
    ids=["paused", "breached", "retargeted"],
)
def test_a_clock_is_explained(one: dict[str, Any], text: str) -> None:
    assert shown(one, "gold@2") == "Case C, judged by gold@2; time zones of 2026a\n" + text


def test_imported_history_says_so_and_by_what_it_is_judged() -> None:
    head, _, line, *_ = shown(HISTORY).splitlines()
    assert head == "Case C, judged by gold@2; time zones of 2026a"
    assert line == "resolution (in imported history): stopped, not kept; 1 h used of 30 min, due 2026-03-02 14:30:00"


def shown(one: dict[str, Any], *promises: str) -> str:
    said = StringIO()
    answer = {"items": [one], "promises": list(promises), "tzdata": "2026a"}
    Console(file=said, width=140, highlight=False).print(explanation("C", answer))
    return "\n".join(line.rstrip() for line in said.getvalue().splitlines()) + "\n"
