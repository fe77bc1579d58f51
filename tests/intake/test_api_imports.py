"""History of other systems: every row once, at its own time, whatever breaks in between."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid5

import httpx
import pytest
from hypothesis import given as generated
from hypothesis import strategies as st
from starlette.requests import Request

from events.event import NAMESPACE
from services.intake.api import imports
from services.intake.api.imports import lines
from tests.intake.conftest import Doors, unique
from tests.until import until


def row(case: str, ordinal: int, **more: Any) -> dict[str, Any]:
    """A good row."""
    return {
        "case": case,
        "ordinal": ordinal,
        "occurred_at": f"2010-03-31T{ordinal % 24:02}:59:42+01:00",
        "category": "in_progress",
        "code": "Accepted/In Progress",
        **more,
    }


async def send(doors: Doors, *rows: Any, profile: str = "vinst", import_id: str = "import-1") -> httpx.Response:
    """A chunk; a row that is text already is sent as it is."""
    body = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in rows)
    return await doors.client.post(
        f"/v1/imports?profile={profile}&import_id={import_id}",
        content=body.encode(),
        headers=await doors.headers("channel", Content_Type="application/x-ndjson"),
    )


def statuses(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["status"] for one in answer.json()["rows"]]


async def test_a_row_becomes_one_event_at_its_own_time(engine_doors: Doors) -> None:
    doors, case = engine_doors, unique("1-364285768")
    facts = {"unit": "V30", "line": "2/3", "agent": "Frederic", "priority": "high", "market": "se"}
    answer = await send(doors, row(case, 1, **facts), row(case, 2, category="resolved", resolution=True))
    case_id = str(uuid5(NAMESPACE, f"vinst/{case}"))

    first, second = await doors.said(case_id)

    assert answer.json()["rows"][0] == {"line": 1, "status": "recorded", "case_id": case_id}
    assert {name: answer.json()[name] for name in ("recorded", "known", "refused")} == {
        "recorded": 2,
        "known": 0,
        "refused": 0,
    }
    assert first.id == str(uuid5(NAMESPACE, f"vinst/{case}/1"))
    assert first.occurred_at == datetime(2010, 3, 31, 0, 59, 42, tzinfo=UTC)
    assert first.data.agent == doors.host.keyring.pseudonym("Frederic")
    assert (first.data.unit, first.data.line, first.data.external_id) == ("V30", "2/3", case)
    assert (second.data.resolution, second.data.import_id, second.data.profile) == (True, "import-1", "vinst")


async def test_a_chunk_sent_again_is_known_and_doubles_nothing(engine_doors: Doors) -> None:
    cases = [unique("case") for _ in range(5)]
    rows = [row(case, ordinal) for ordinal in range(1, 21) for case in cases]

    first, *again = await asyncio.gather(*(send(engine_doors, *rows) for _ in range(3)))
    recorded = sum(statuses(answer).count("recorded") for answer in (first, *again))

    assert recorded == 100
    assert statuses(await send(engine_doors, *rows)) == ["known"] * 100
    for case in cases:
        events = await engine_doors.said(str(uuid5(NAMESPACE, f"vinst/{case}")))
        assert [event.data.ordinal for event in events] == list(range(1, 21))


async def test_an_import_that_broke_off_goes_on_where_it_was(doors: Doors) -> None:
    case = unique("case")
    await send(doors, row(case, 1), row(case, 2))

    assert statuses(await send(doors, row(case, 1), row(case, 2), row(case, 3))) == ["known", "known", "recorded"]


async def test_the_same_row_twice_in_a_chunk_counts_once(doors: Doors) -> None:
    case = unique("case")

    assert statuses(await send(doors, row(case, 1), row(case, 1))) == ["recorded", "known"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ('{"case": "half \\ud83d"}', "JSON"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": "2010-03-31T15:59:42"}, "occurred_at"),
        ({"occurred_at": "1969-12-31T23:59:59Z"}, "1970"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "1970"),
        ({"occurred_at": "9999-12-31T23:59:59-14:00"}, "ahead"),
        ({"ordinal": 0}, "ordinal"),
        ({"ordinal": 10**30}, "ordinal"),
        ({"category": "whatever"}, "category"),
        ({"code": "a\x00b"}, "code"),
        ({"surprise": 1}, "surprise"),
        ({"case": ""}, "case"),
    ],
    ids=lambda value: f"{value}"[:40],
)
async def test_a_bad_row_is_refused_by_itself_with_its_line_and_the_reason(
    doors: Doors, bad: str | dict[str, Any], why: str
) -> None:
    case = unique("case")
    broken = bad if isinstance(bad, str) else row(case, 2) | bad

    answer = await send(doors, row(case, 1), "", broken, row(case, 3))

    first, refused, last = answer.json()["rows"]
    assert (first["status"], last["status"]) == ("recorded", "recorded")
    assert (refused["line"], refused["status"]) == (3, "refused")
    assert why in refused["detail"]
    assert answer.json()["refused"] == 1


async def test_a_row_of_an_impossible_time_leaves_room_for_the_right_one(doors: Doors) -> None:
    case = unique("case")

    answer = await send(doors, row(case, 1, occurred_at="1960-01-01T00:00:00Z"), row(case, 1))

    assert statuses(answer) == ["refused", "recorded"] or statuses(answer) == ["known", "recorded"]


async def test_live_contact_takes_an_imported_case_over_and_history_may_still_arrive(doors: Doors) -> None:
    case = unique("case")
    await send(doors, row(case, 1, market="se", channel="phone"))
    case_id = str(uuid5(NAMESPACE, f"vinst/{case}"))

    message = {"direction": "in", "body": "Hello again"}
    answer = await doors("POST", f"/v1/cases/{case_id}/messages", message, role="channel")
    late = await send(doors, row(case, 2, category="closed"))

    events = [type(event.data).__name__ for event in await doors.said(case_id)]
    assert answer.status_code == 201
    assert statuses(late) == ["recorded"]
    assert events == ["CaseObserved", "CaseTakenOver", "MessageReceived", "CaseObserved"]
    read = await doors.case(case_id)
    assert (read["title"], read["messages"][0]["body"]) == (None, "Hello again")
    assert (read["live"], read["category"]) == (True, "in_progress")
    assert read["customer"] == {"ref": case_id, "name": None, "email": None}


async def test_the_person_of_an_imported_case_can_be_forgotten_too(doors: Doors) -> None:
    case = unique("case")
    await send(doors, row(case, 1))
    case_id = str(uuid5(NAMESPACE, f"vinst/{case}"))
    await doors("POST", f"/v1/cases/{case_id}/messages", {"direction": "in", "body": "It is me"}, role="channel")
    ref = (await doors.case(case_id))["customer_ref"]

    await doors("DELETE", f"/v1/customers/{ref}", role="lead")

    assert (await doors.case(case_id))["messages"][0]["body"] == {"redacted": "erased"}


async def test_cases_are_found_by_their_import(doors: Doors) -> None:
    import_id, case = unique("import"), unique("case")
    await send(doors, row(case, 1), import_id=import_id)

    (listed,) = await doors.until_listed(f"/v1/cases?import={import_id}")

    assert listed["external_id"] == case


async def test_a_chunk_has_its_limits(doors: Doors) -> None:
    case = unique("case")
    rows = [row(case, ordinal) for ordinal in range(1, 1002)]

    assert (await send(doors, *rows)).status_code == 413
    assert await doors.said(str(uuid5(NAMESPACE, f"vinst/{case}"))) == []
    assert statuses(await send(doors, *rows[:1000])) == ["recorded"] * 1000


async def test_an_import_waits_for_live_work_and_is_told_when_to_come_back(doors: Doors) -> None:
    case = unique("case")
    async with doors.host.database.writers.acquire() as conn, conn.transaction():
        await conn.execute("lock table log.head in exclusive mode")  # nothing reaches the log now
        await doors.open()

        async def live_work_waits() -> bool:
            old = "select min(recorded_at) < clock_timestamp() - interval '0.3 s' from outbox"
            return bool(await doors.host.database.readers.fetchval(old))

        await until(live_work_waits)
        answer = await send(doors, row(case, 1))

    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert await doors.said(str(uuid5(NAMESPACE, f"vinst/{case}"))) == []

    async def taken() -> bool:
        return (await send(doors, row(case, 1))).status_code == 200

    await until(taken)


@pytest.mark.parametrize(("live_s", "is_small"), [(60.0, True), (0.0, False)], ids=["beside live work", "alone"])
async def test_rows_are_recorded_in_small_portions_beside_live_work_only(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, live_s: float, is_small: bool
) -> None:
    monkeypatch.setattr(imports, "LIVE_S", live_s)
    await doors.open()
    rows = [row(unique("case"), ordinal) for _ in range(150) for ordinal in (1, 2)]

    import_id = unique("import")

    assert statuses(await send(doors, *rows, import_id=import_id)) == ["recorded"] * 300

    in_one_commit = await doors.host.database.readers.fetchval(
        "select max(n) from (select count(*) as n from events where strpos(data, $1) > 0 group by xmin) as committed",
        import_id,
    )
    assert (in_one_commit <= imports.BESIDE_LIVE) is is_small


async def test_a_chunk_is_taken_as_lines_of_json_only(doors: Doors) -> None:
    answer = await doors("POST", "/v1/imports?profile=vinst", {}, role="channel")

    assert answer.status_code == 415
    assert "application/x-ndjson" in answer.json()["detail"]


@pytest.mark.parametrize("query", ["", "?profile=", "?profile=a/b", "?profile=%00", "?profile=x&import_id=a%20b"])
async def test_a_chunk_says_what_it_is(doors: Doors, query: str) -> None:
    answer = await doors.client.post(
        f"/v1/imports{query}",
        content=b"",
        headers=await doors.headers("channel", Content_Type="application/x-ndjson"),
    )

    assert answer.status_code == 422


async def test_an_empty_chunk_records_nothing_and_gets_an_import_id(doors: Doors) -> None:
    answer = await doors.client.post(
        "/v1/imports?profile=vinst",
        content=b"\n\n",
        headers=await doors.headers("channel", Content_Type="application/x-ndjson; charset=utf-8"),
    )

    assert answer.json()["rows"] == []
    assert len(answer.json()["import_id"]) == 36


@generated(st.lists(st.sampled_from([b"{}", b"", b"  ", b"ab"]), max_size=6), st.integers(1, 5))
async def test_lines_are_the_same_however_the_body_arrives(texts: list[bytes], size: int) -> None:
    body = b"\n".join(texts)
    parts = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
    messages = iter(
        {"type": "http.request", "body": part, "more_body": n + 1 < len(parts)} for n, part in enumerate(parts)
    )

    async def receive() -> dict[str, Any]:
        return next(messages)

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    read = [line async for line in lines(request)]

    assert read == [(number, text) for number, text in enumerate(texts, 1) if text.strip()]
