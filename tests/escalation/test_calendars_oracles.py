"""Worked examples hold in the arithmetic and at the door that computes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.escalation import calendars
from services.escalation.calendars import DAYS, Calendar, Timetable, Window
from services.escalation.decide import reckoning
from services.escalation.holidays import public_holidays
from tests.casewalk import Casewalk
from tests.escalation.oracles import Oracle, oracles


def timetable(calendar: Mapping[str, Any]) -> Timetable:
    """Of a calendar as the examples write it."""
    windows = {day: tuple(Window.parse(*window) for window in calendar["weekly"][day]) for day in DAYS}
    mon, tue, wed, thu, fri, sat, sun = (windows[day] for day in DAYS)
    own = {
        date.fromisoformat(day): tuple(Window.parse(*window) for window in windows)
        for day, windows in calendar["exceptions"].items()
    }
    holidays = frozenset(map(date.fromisoformat, calendar["holidays"]))
    return Timetable.of(
        [(None, Calendar(calendar["tz"], (mon, tue, wed, thu, fri, sat, sun), holidays, tuple(own.items())))]
    )


def moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def utc(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def worked_out(oracle: Oracle) -> dict[str, Any]:
    """What the arithmetic makes of it."""
    asked = oracle.inputs
    if oracle.topic == "holidays":
        found = public_holidays(asked["country"], asked["subdivision"], [asked["year"]])
        return {"dates": [str(day) for day in sorted(found)]}
    hours, start = timetable(asked["calendar"]), datetime.fromisoformat(asked["start"])
    pauses = [(datetime.fromisoformat(since), moment(until)) for since, until in asked.get("pauses", [])]
    if oracle.topic == "sla_elapsed":
        used = calendars.elapsed(hours, start, datetime.fromisoformat(asked["end"]), pauses)
        return {"seconds": used / timedelta(seconds=1)}
    if oracle.topic == "sla_business_days":
        days = calendars.due_in_days(hours, start, asked["days"])
        return {"due": utc(days.due), "due_date_local": str(days.date), "anchor_date_local": str(days.anchor)}
    target = timedelta(seconds=asked["target_seconds"])
    if oracle.topic == "sla_due":
        at = calendars.due(hours, start, target, pauses)
        return {"due": utc(at), "due_local": None if at is None else reckoning.local_text(hours, at)}
    found_then = reckoning.by_target(hours, start, target, pauses, moment(asked["now"]))
    standing = found_then.standing
    assert standing is not None
    return {
        "used_seconds": standing.elapsed / timedelta(seconds=1),
        "remaining_seconds": standing.remaining / timedelta(seconds=1),
        "due": utc(found_then.due),
        "state": standing.state,
    }


@pytest.mark.parametrize("oracle", oracles(), ids=str)
def test_the_arithmetic_comes_to_what_was_worked_out_independently(oracle: Oracle) -> None:
    found = worked_out(oracle)

    assert {key: found[key] for key in oracle.expected} == oracle.expected


NAMES = {"days": "business_days"}
"""What the door calls an input."""

ANSWERS = {"seconds": "elapsed_seconds", "used_seconds": "elapsed_seconds"}
"""What the door calls a result."""


async def test_the_door_answers_what_was_worked_out_independently(doors: Casewalk) -> None:
    wrong = []
    for oracle in oracles():
        if oracle.topic == "holidays":
            continue
        order = {NAMES.get(name, name): value for name, value in oracle.inputs.items()}
        answer = await doors.admin.post("/v1/calendars:compute", json=order)
        assert answer.status_code == 200, (oracle.id, answer.text)
        found = {name: answer.json().get(ANSWERS.get(name, name), "not answered") for name in oracle.expected}
        if found != oracle.expected:
            wrong.append((oracle.id, found))
    assert not wrong


async def test_a_published_calendar_has_the_holidays_that_were_worked_out_independently(doors: Casewalk) -> None:
    for oracle in oracles():
        if oracle.topic == "holidays":
            region = {"country": oracle.inputs["country"], "subdivision": oracle.inputs["subdivision"]}
            order = {"tz": "UTC", "weekly": {"mon": [["09:00", "17:00"]]}, "holidays": region}
            answer = await doors.admin.put("/v1/calendars/region", json=order)
            assert answer.status_code == 200, answer.text
            year = str(oracle.inputs["year"])
            assert [day for day in answer.json()["holidays"] if day[:4] == year] == oracle.expected["dates"], oracle.id


def test_named_but_missing_worked_examples_are_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CASEWALK_ORACLES", str(tmp_path))

    with pytest.raises(AssertionError, match=r"there is no open\.json"):
        oracles()
