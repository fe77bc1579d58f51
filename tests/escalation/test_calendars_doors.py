"""The doors of calendars: versions are published, kept, and explain what they count."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from events.errors import Unknown
from events.operations import CalendarPublished
from services.escalation.views.calendars import timetable_of
from services.runtime.zones import tzdata_version
from tests.casewalk import Casewalk
from tests.escalation.oracles import BERLIN, week
from tests.escalation.test_doors import is_problem

OFFICE: dict[str, Any] = {"tz": "Europe/Berlin", "weekly": week(["09:00", "18:00"])}
FRIDAY, MONDAY = "2026-03-27T16:30:00+01:00", "2026-03-30T15:30:00+02:00"
SHUT = {**OFFICE, "weekly": {}}


async def publish(doors: Casewalk, calendar_id: str = "office", **more: Any) -> dict[str, Any]:
    answer = await doors.admin.put(f"/v1/calendars/{calendar_id}", json={**OFFICE, **more})
    assert answer.status_code == 200, answer.text
    assert answer.headers["ETag"] == f'"{answer.json()["version"]}"'
    body: dict[str, Any] = answer.json()
    return body


async def compute(doors: Casewalk, **order: Any) -> httpx.Response:
    return await doors.admin.post("/v1/calendars:compute", json={"calendar": BERLIN, "start": FRIDAY, **order})


async def ask(doors: Casewalk, verb: str, calendar_id: str = "office", **query: str | int) -> httpx.Response:
    return await doors.admin.get(f"/v1/calendars/{calendar_id}:{verb}", params=query)


# ------------------------------------------------------------------------------------------------------- versions


async def test_a_calendar_is_published_whole_and_read_again(doors: Casewalk) -> None:
    region = {"country": "DE", "subdivision": "BE", "plus": ["2026-12-31"], "minus": ["2026-03-08"]}
    own = {"2026-12-24": [["09:00", "13:00"]]}
    published = await publish(doors, name="Berlin", holidays=region, exceptions=own)
    assert (published["version"], published["name"], published["tz"]) == (1, "Berlin", "Europe/Berlin")
    assert published["weekly"] == OFFICE["weekly"]
    assert published["exceptions"] == own
    assert published["always"] is False
    assert published["tzdata"] == tzdata_version()
    assert published["holidays_from"] == {**region, "library": "holidays-0.109"}
    one = await doors.admin.get("/v1/calendars/office")
    assert (one.json(), one.headers["ETag"]) == (published, '"1"')
    items = (await doors.admin.get("/v1/calendars")).json()["items"]
    assert [(item["calendar_id"], item["version"], item["tz"]) for item in items] == [
        ("always", 1, None),
        ("office", 1, "Europe/Berlin"),
    ]


async def test_holidays_are_frozen_into_the_version_ten_years_ahead(doors: Casewalk) -> None:
    region = {"country": "DE", "subdivision": "BE", "plus": ["2026-12-31"], "minus": ["2026-03-08"]}
    published = await publish(doors, holidays=region)
    (event,) = await doors.hosts["escalation"].store.events("casewalk.operations", "calendar:office")
    frozen = [str(day) for day in event.data.holidays]
    assert frozen == published["holidays"]
    of_2026 = [day[5:] for day in frozen if day[:4] == "2026"]
    assert of_2026 == ["01-01", "04-03", "04-06", "05-01", "05-14", "05-25", "10-03", "12-25", "12-26", "12-31"]
    assert frozen[0][:4] == "2000"
    assert int(frozen[-1][:4]) == event.recorded_at.year + 10
    later = await publish(doors, holidays=region, valid_from="2027-06-01T00:00:00+02:00")
    assert later["holidays"][0] == "2026-12-31"
    assert later["holidays"][1][:4] == "2027"


async def test_a_change_is_the_next_version_and_the_same_again_is_none(doors: Casewalk) -> None:
    first = await publish(doors)
    assert await publish(doors) == first
    second = await publish(doors, weekly=week(["10:00", "16:00"]))
    assert second["version"] == 2
    assert first["valid_from"] is None
    assert second["valid_from"] is not None
    assert await publish(doors, weekly=week(["10:00", "16:00"])) == second
    old = await doors.admin.get("/v1/calendars/office", params={"version": 1})
    assert (old.json(), old.headers["ETag"]) == (first, '"1"')
    is_problem(await doors.admin.get("/v1/calendars/office", params={"version": 3}), 404, "version 3")
    is_problem(await doors.admin.get("/v1/calendars/lunar"), 404, "lunar")


async def test_a_version_stands_for_every_version_up_to_it(doors: Casewalk) -> None:
    await publish(doors)
    await publish(doors, weekly=week(["10:00", "16:00"]), valid_from="2026-03-30T12:00:00+02:00")
    query = {"start": "2026-03-30T00:00:00+02:00", "end": "2026-04-01T00:00:00+02:00"}
    latest = (await ask(doors, "between", **query)).json()
    assert (latest["calendar"], latest["elapsed_seconds"]) == ("office@2", 13 * 3600)
    first = (await ask(doors, "between", version=1, **query)).json()
    assert (first["calendar"], first["elapsed_seconds"]) == ("office@1", 18 * 3600)
    async with doors.hosts["escalation"].database.readers.acquire() as conn:
        assert len((await timetable_of(conn, "office@2")).versions) == 2
        assert await timetable_of(conn, "office@2") is await timetable_of(conn, "office@2")
        for nobody in ("office@3", "office", "office@0", "office@x", "lunar@1", f"office@{2**70}"):
            with pytest.raises(Unknown):
                await timetable_of(conn, nobody)


async def test_the_built_in_calendar_counts_all_time(doors: Casewalk) -> None:
    answer = await ask(doors, "add", "always", start="2026-03-28T12:00:00+01:00", duration="PT24H")
    assert answer.json() == {
        "due": "2026-03-29T11:00:00Z",
        "due_local": "2026-03-29T11:00:00+0000",
        "segments": [
            {
                "since": "2026-03-28T11:00:00Z",
                "until": "2026-03-29T11:00:00Z",
                "counted": True,
                "why": "working time",
                "seconds": 86_400,
            }
        ],
        "calendar": "always@1",
        "tzdata": tzdata_version(),
    }


async def test_a_calendar_that_never_opens_is_refused_when_it_is_published(doors: Casewalk) -> None:
    for never in (SHUT, {**SHUT, "exceptions": {"2020-01-01": [["09:00", "12:00"]]}}):
        answer = await doors.admin.put("/v1/calendars/shut", json=never)
        is_problem(answer, 422, "10 years")
        assert answer.json()["type"] == "/problems/no-working-time"
    opens_later = {**SHUT, "exceptions": {"2031-01-02": [["09:00", "12:00"]]}}
    assert (await doors.admin.put("/v1/calendars/once", json=opens_later)).status_code == 200


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"tz": "Europe/Nowhere"}, "no time zone"),
    ({"tz": "../../etc/passwd"}, "tz"),
    ({"weekly": {"monday": []}}, "monday"),
    ({"weekly": {"mon": [["09:00"]]}}, "mon"),
    ({"weekly": {"mon": [["9:00", "18:00"]]}}, "mon"),
    ({"weekly": {"mon": [["24:00", "06:00"]]}}, "24:00"),
    ({"holidays": {"country": "XX"}}, "XX"),
    ({"holidays": {"country": "DE", "subdivision": "XX"}}, "DE-XX"),
    ({"holidays": {"subdivision": "BE"}}, "subdivision"),
    ({"holidays": ["2026-02-30"]}, "holidays"),
    ({"exceptions": {"2201-01-01": []}}, "exceptions"),
    ({"valid_from": "1969-12-31T23:59:59Z"}, "valid_from"),
    ({"valid_from": "2026-03-27T16:30:00"}, "valid_from"),
)
"""What makes a calendar none, and what the refusal names."""


async def test_what_cannot_be_a_calendar_is_refused(doors: Casewalk) -> None:
    for wrong, why in WRONG:
        is_problem(await doors.admin.put("/v1/calendars/office", json={**OFFICE, **wrong}), 422, why)


async def test_what_was_published_is_what_a_replay_makes_of_the_log(here: Casewalk) -> None:
    await publish(here)
    await publish(here, weekly=week(["10:00", "16:00"]))
    await here.settled()
    host = here.hosts["escalation"]
    (view,) = host.replay.named("calendars")
    assert (await host.replay.verify(view)).equal
    assert CalendarPublished in view.reads


# ------------------------------------------------------------------------------------------------------- questions


async def test_a_sum_and_a_difference_explain_themselves_by_segments(doors: Casewalk) -> None:
    await publish(doors, holidays=["2026-03-30"])
    added = (await ask(doors, "add", start=FRIDAY, duration="PT2H30M")).json()
    assert (added["due"], added["due_local"]) == ("2026-03-31T08:00:00Z", "2026-03-31T10:00:00+0200")
    between = (await ask(doors, "between", start=FRIDAY, end="2026-03-31T10:00:00+02:00")).json()
    assert between["elapsed_seconds"] == 9000
    assert added["segments"] == between["segments"]
    assert [(s["why"], s["counted"], s["seconds"]) for s in added["segments"]] == [
        ("working time", True, 5400),
        ("outside working hours", False, 53 * 3600),
        ("holiday", False, 24 * 3600),
        ("outside working hours", False, 9 * 3600),
        ("working time", True, 3600),
    ]


async def test_what_is_no_duration_is_refused(doors: Casewalk) -> None:
    for duration in ("", "P", "8H", "P1Y", "-PT1H", "PT99999999999H"):
        is_problem(await ask(doors, "add", "always", start=FRIDAY, duration=duration), 422, "duration")


async def test_a_question_beyond_all_reason_is_refused(doors: Casewalk) -> None:
    await publish(doors)
    for start in ("1969-12-31T23:59:59Z", "2201-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "1700000000"):
        is_problem(await ask(doors, "add", start=start, duration="PT8H"), 422, "start")
        is_problem(await ask(doors, "between", start=FRIDAY, end=start), 422, "end")
        is_problem(await compute(doors, start=start, target_seconds=60), 422, "start")
    last = await ask(doors, "add", start="2200-12-31T23:59:59Z", duration="PT8H")
    assert last.json()["due"] == "2201-01-01T16:00:00Z"
    is_problem(await ask(doors, "between", start="2000-01-01T00:00:00Z", end=MONDAY), 422, "10 years")
    is_problem(await ask(doors, "add", "lunar", start=FRIDAY, duration="PT8H"), 404, "lunar")
    is_problem(await ask(doors, "add", version=2, start=FRIDAY, duration="PT8H"), 404, "office@2")
    too_much = await ask(doors, "add", start=FRIDAY, duration="PT99999H")
    assert (too_much.status_code, too_much.json()["type"]) == (422, "/problems/no-working-time")


async def test_the_answer_holds_what_was_asked_and_no_more(doors: Casewalk) -> None:
    always = {"segments", "tzdata"}
    due, standing = {"due", "due_local"}, {"elapsed_seconds", "remaining_seconds", "state"}
    for order, keys in (
        ({"target_seconds": 60}, due),
        ({"target_seconds": 60, "now": MONDAY}, due | standing),
        ({"end": MONDAY}, {"elapsed_seconds"}),
        ({"business_days": 1}, due | {"due_date_local", "anchor_date_local"}),
        ({"business_days": 1, "pauses": [], "now": MONDAY}, due | standing | {"due_date_local", "anchor_date_local"}),
    ):
        assert set((await compute(doors, **order)).json()) == keys | always, order


async def test_a_key_that_does_not_apply_is_refused(doors: Casewalk) -> None:
    pauses = [[FRIDAY, MONDAY]]
    for order in (
        {},
        {"target_seconds": 60, "end": MONDAY},
        {"target_seconds": 60, "business_days": 1},
        {"end": MONDAY, "business_days": 1},
        {"end": MONDAY, "now": MONDAY},
        {"business_days": 1, "pauses": pauses},
        {"target_seconds": 60, "surprise": 1},
        {"target_seconds": 60, "pauses": [[MONDAY, FRIDAY]]},
        {"target_seconds": 60, "pauses": [[None, FRIDAY]]},
        {"target_seconds": 60, "pauses": [[FRIDAY]]},
        {"target_seconds": -1},
        {"business_days": -1},
        {"target_seconds": 60, "now": "2036-04-01T00:00:00Z"},
    ):
        is_problem(await compute(doors, **order), 422)


async def test_an_open_pause_is_an_answer_without_a_due_time(doors: Casewalk) -> None:
    pause = ["2026-03-27T17:00:00+01:00", None]
    answer = (await compute(doors, target_seconds=28_800, pauses=[pause])).json()
    assert (answer["due"], answer["due_local"]) == (None, None)
    last = answer["segments"][-1]
    assert last == {
        "since": "2026-03-27T16:00:00Z",
        "until": None,
        "counted": False,
        "why": "paused",
        "seconds": None,
    }
    for now in ("2026-03-27T17:00:00+01:00", MONDAY):
        standing = (await compute(doors, target_seconds=28_800, pauses=[pause], now=now)).json()
        assert standing["state"] == "paused"
        assert (standing["elapsed_seconds"], standing["remaining_seconds"]) == (1800, 27_000)


async def test_a_pause_that_has_not_ended_by_now_is_open_and_one_to_come_is_unknown(doors: Casewalk) -> None:
    pauses = [["2026-03-27T17:00:00+01:00", MONDAY]]
    paused = (await compute(doors, target_seconds=28_800, pauses=pauses, now="2026-03-28T00:00:00Z")).json()
    assert (paused["state"], paused["due"]) == ("paused", None)
    before = (await compute(doors, target_seconds=28_800, pauses=pauses, now="2026-03-27T16:45:00+01:00")).json()
    assert (before["state"], before["due"]) == ("running", "2026-03-30T13:30:00Z")
    after = (await compute(doors, target_seconds=28_800, pauses=pauses, now=MONDAY)).json()
    assert (after["state"], after["due"]) == ("running", "2026-03-31T12:00:00Z")


async def test_breached_is_later_than_due_and_nothing_remains_then(doors: Casewalk) -> None:
    at_due = (await compute(doors, target_seconds=28_800, now=MONDAY)).json()
    assert (at_due["state"], at_due["remaining_seconds"]) == ("running", 0)
    later = (await compute(doors, target_seconds=28_800, now="2026-03-30T15:30:01+02:00")).json()
    assert (later["state"], later["elapsed_seconds"], later["remaining_seconds"]) == ("breached", 28_801, 0)
    asleep = (await compute(doors, target_seconds=60, pauses=[["2026-03-27T17:00:00+01:00", None]], now=MONDAY)).json()
    assert (asleep["state"], asleep["due"]) == ("breached", "2026-03-27T15:31:00Z")
    days = (await compute(doors, business_days=0, now=MONDAY)).json()
    assert (days["state"], days["due"], days["remaining_seconds"]) == ("breached", "2026-03-27T17:00:00Z", 0)


async def test_only_a_calendar_with_too_little_time_of_its_own_is_an_error(doors: Casewalk) -> None:
    for order in ({"target_seconds": 60}, {"business_days": 1}, {"target_seconds": 60, "pauses": [[FRIDAY, None]]}):
        answer = await compute(doors, calendar=SHUT, **order)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/no-working-time"), order
    assert (await compute(doors, calendar=SHUT, end=MONDAY)).json()["elapsed_seconds"] == 0
    patient = await compute(doors, target_seconds=60, pauses=[[FRIDAY, "2038-01-01T00:00:00Z"]])
    assert patient.json()["due"] == "2038-01-01T08:01:00Z"


async def test_a_region_may_be_asked_as_well(doors: Casewalk) -> None:
    region = {**OFFICE, "holidays": {"country": "GB", "subdivision": "ENG"}}
    answer = await compute(doors, calendar=region, start="2026-08-28T17:00:00+02:00", target_seconds=7200)
    assert answer.json()["due_local"] == "2026-09-01T10:00:00+0200"
