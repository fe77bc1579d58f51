"""Where every minute of a clock went, as its door tells it."""

from datetime import UTC, datetime, timedelta

import pytest

from services.escalation.calendars import DAYS
from services.escalation.holidays import tzdata_version
from tests.casewalk import Casewalk
from tests.escalation.test_doors import clocks, only, opened


async def test_every_minute_of_a_clock_is_explained(here: Casewalk) -> None:
    case_id = await opened(here, ago=timedelta(hours=3))
    asked = {"direction": "out", "body": "Welche Adresse?", "waits_for": "customer"}
    assert (await here.admin.post(f"/v1/cases/{case_id}/messages", json=asked)).status_code == 201
    await here.settled()
    handling = (await clocks(here, case_id))["handling"]
    assert (handling["state"], handling["due_at"], handling["kept"]) == ("paused", None, None)
    counted, paused = handling["segments"]
    assert (counted["why"], counted["counted"], counted["promise"]) == ("working time", True, None)
    assert (paused["why"], paused["counted"]) == ("paused: waiting customer", False)
    assert counted["until"] == paused["since"]
    assert handling["elapsed_s"] == int(counted["seconds"])


async def test_a_long_clock_is_explained_to_the_last_minute_by_every_version_that_it_went_by(doors: Casewalk) -> None:
    """What is not told piece by piece is summed up; where each minute went, and by which promise and calendar."""
    office = {"tz": "Europe/Berlin", "weekly": {d: [["09:00", "12:00"], ["13:00", "17:00"]] for d in DAYS[:5]}}
    holiday = (datetime.now(UTC) - timedelta(days=300)).date()
    office["holidays"] = [str(holiday + timedelta(days=n)) for n in (0, 1, 2, 20, 21, 22)]
    night = {"tz": "Asia/Kolkata", "weekly": {day: [["22:00", "06:00"]] for day in DAYS}}
    for name, hours in (("office", office), ("night", night)):
        assert (await doors.admin.put(f"/v1/calendars/{name}", json=hours)).status_code == 200
    promise = only((await doors.admin.get("/v1/promises/standard")).json())
    assert (await doors.admin.put("/v1/promises/standard", json=promise | {"calendar": "office"})).status_code == 200
    urgent = promise | {"name": "Urgent", "calendar": "night", "start": {"priorities": ["urgent"]}}
    assert (await doors.admin.put("/v1/promises/urgent", json=urgent)).status_code == 200
    case_id = await opened(doors, ago=timedelta(days=400))
    raised = {"priority": "urgent", "reason": "stranded"}
    assert (await doors.admin.post(f"/v1/cases/{case_id}:classify", json=raised)).status_code == 200
    await doors.settled()
    assert (await doors.admin.post(f"/v1/cases/{case_id}:resolve", json={})).status_code == 200
    await doors.settled()
    clock = (await clocks(doors, case_id))["resolution"]
    pieces = clock["segments"]
    assert sum(one["seconds"] for one in pieces if one["counted"]) == pytest.approx(clock["elapsed_s"], abs=1)
    whole = (_moment(clock["stopped_at"]) - _moment(clock["started_at"])).total_seconds()
    assert sum(one["seconds"] for one in pieces) == pytest.approx(whole, abs=1e-3)
    summed = [one for one in pieces if one["pieces"] > 1]
    assert {one["why"] for one in summed} == {"working time", "outside working hours", "holiday"}
    assert len(pieces) == 400 + len(summed)
    assert {(one["promise"], one["calendar"]) for one in pieces} == {
        ("standard@2", "office@1"),
        ("urgent@1", "night@1"),
    }
    assert clock["tzdata"] == tzdata_version()


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_what_was_paused_after_the_customer_had_come_in_again_is_told_apart(doors: Casewalk) -> None:
    pausing = {"clocks": ["resolution"], "categories": ["waiting_internal"]}
    promise = only((await doors.admin.get("/v1/promises/standard")).json()) | {"pauses": [pausing]}
    assert (await doors.admin.put("/v1/promises/standard", json=promise)).status_code == 200
    case_id, now = await opened(doors, ago=timedelta(hours=4)), datetime.now(UTC)
    for hours, message in (
        (3, {"direction": "out", "visibility": "internal", "body": "Bitte prüfen.", "waits_for": "internal"}),
        (2, {"direction": "in", "body": "Und?"}),
    ):
        at = (now - timedelta(hours=hours)).isoformat()
        told = await doors.admin.post(f"/v1/cases/{case_id}/messages", json=message | {"occurred_at": at})
        assert told.status_code == 201, told.text
    done = {"occurred_at": (now - timedelta(hours=1)).isoformat()}
    assert (await doors.admin.post(f"/v1/cases/{case_id}:resolve", json=done)).status_code == 200
    await doors.settled()
    clock = (await clocks(doors, case_id))["resolution"]
    assert clock["ignored_s"] == 3600
    assert [one["why"] for one in clock["segments"]] == [
        "working time",
        "paused: waiting internal",
        "paused: waiting internal (the customer had come in again)",
    ]
    assert [one["seconds"] for one in clock["segments"]] == pytest.approx([3600] * 3, abs=30)
