"""Cases through their doors: opened once, listed, read by whom it may concern."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from events.case import (
    CaseAssigned,
    CaseHandedOver,
    CaseQueued,
    CaseReleased,
    EscalationAcknowledged,
    PartnerReturned,
)
from tests.given import an
from tests.intake.conftest import Doors, opening, unique
from tests.until import until


async def test_an_opened_case_is_read_at_once_with_everything_that_was_said(doors: Doors) -> None:
    answer = await doors("POST", "/v1/cases", opening(priority="high"), role="channel")
    case_id = answer.json()["case_id"]

    case = await doors.case(case_id)

    assert answer.status_code == 201
    assert answer.json()["customer_ref"] == case["customer_ref"]
    assert answer.headers["ETag"] == '"1"'
    assert (case["case_id"], case["category"], case["episode"]) == (case_id, "new", 1)
    assert (case["market"], case["language"], case["journey"]) == ("de", "de", "delivery")
    assert (case["channel"], case["priority"]) == ("email", "high")
    assert case["title"] == "Where is my parcel?"
    assert case["body"] == "It should have been here on Friday. Grüße, K. Ünal 📦"
    assert case["opened_at"].endswith("Z")
    assert case["customer"] == {"ref": case["customer_ref"], "name": "Kim Ünal", "email": "kim@customer.example"}


async def test_a_customer_of_whom_the_channel_says_no_name_has_none(doors: Doors) -> None:
    case = await doors.case(await doors.open(customer={"external_id": "nameless"}))

    assert case["customer"] == {"ref": case["customer_ref"], "name": None, "email": None}


async def test_a_case_is_opened_when_the_customer_came_in(doors: Doors) -> None:
    case = await doors.case(await doors.open(occurred_at="2026-03-02T10:00:00+01:00"))

    assert case["opened_at"] == "2026-03-02T09:00:00Z"


async def test_no_clear_text_is_kept_anywhere(doors: Doors) -> None:
    kim = {"external_id": "crm-walrus-1", "name": "Kim Ünal", "email": "kim@customer.example"}
    await doors.open(subject="Zebra crossing", body="A purple walrus", customer=kim)
    tables = await doors.host.database.readers.fetch(
        "select table_schema, table_name from information_schema.tables"
        " where table_schema not in ('pg_catalog', 'information_schema') and table_type = 'BASE TABLE'"
    )
    for schema, table in tables:
        rows = await doors.host.database.readers.fetch(f'select t::text as row from "{schema}"."{table}" t')
        text = " ".join(row["row"] for row in rows)
        assert not any(word in text for word in ("Zebra", "walrus", "kim@", "Ünal")), f"{schema}.{table}"


async def test_the_same_customer_has_the_same_name_every_time(doors: Doors) -> None:
    first, again, other = [
        await doors.case(await doors.open(customer={"external_id": who})) for who in ("kim", "kim", "lee")
    ]

    assert first["case_id"] != again["case_id"]
    assert first["customer_ref"] == again["customer_ref"] != other["customer_ref"]


# --------------------------------------------------------------------------------------------------- opening once


async def test_the_same_contact_with_the_same_content_is_the_same_case(doors: Doors) -> None:
    body = opening(external_id=unique("MAIL"))
    first = await doors("POST", "/v1/cases", body, role="channel")
    again = await doors("POST", "/v1/cases", body, role="channel")

    assert again.status_code == 201
    assert again.json() == first.json()
    assert len(await doors.said(first.json()["case_id"])) == 1


async def test_the_same_contact_with_another_key_is_still_the_same_case(doors: Doors) -> None:
    body = opening(external_id=unique("MAIL"))
    first = await doors("POST", "/v1/cases", body, role="channel", Idempotency_Key=unique("a"))
    again = await doors("POST", "/v1/cases", body, role="channel", Idempotency_Key=unique("b"))

    assert again.json() == first.json()


@pytest.mark.parametrize(
    "other",
    [
        {"body": "Something else."},
        {"market": "fr"},
        {"customer": {"external_id": "lee"}},
        {"customer": {"external_id": "crm-20417", "name": "Kim Lee", "email": "kim@customer.example"}},
        {"customer": {"external_id": "crm-20417", "name": "Kim Ünal"}},
    ],
)
async def test_the_same_contact_with_other_content_is_refused_and_names_the_case(
    doors: Doors, other: dict[str, object]
) -> None:
    external_id = unique("MAIL")
    case_id = await doors.open(external_id=external_id)

    answer = await doors("POST", "/v1/cases", opening(external_id=external_id, **other), role="channel")

    assert answer.status_code == 409
    assert answer.json()["case_id"] == case_id
    assert len(await doors.said(case_id)) == 1


async def test_the_same_id_on_another_channel_is_another_contact(doors: Doors) -> None:
    external_id = unique("4711")

    assert await doors.open(external_id=external_id) != await doors.open(external_id=external_id, channel="chat")


async def test_concurrent_repeats_of_a_key_open_one_case(doors: Doors) -> None:
    key = unique("once")
    await doors.headers("channel")
    answers = await asyncio.gather(
        *(doors("POST", "/v1/cases", opening(), role="channel", Idempotency_Key=key) for _ in range(20))
    )

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["case_id"] for answer in answers}) == 1
    assert len(await doors.said(answers[0].json()["case_id"])) == 1


async def test_a_key_used_for_another_request_is_refused(doors: Doors) -> None:
    key = unique("once")
    await doors("POST", "/v1/cases", opening(), role="channel", Idempotency_Key=key)

    answer = await doors("POST", "/v1/cases", opening(market="fr"), role="channel", Idempotency_Key=key)

    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/key-reused"


async def test_a_repeat_after_the_answers_were_forgotten_opens_nothing(doors: Doors) -> None:
    key = unique("once")
    first = await doors("POST", "/v1/cases", opening(), role="channel", Idempotency_Key=key)
    await doors.host.database.writers.execute("delete from once where key = $1", key)

    again = await doors("POST", "/v1/cases", opening(), role="channel", Idempotency_Key=key)

    assert again.json() == first.json()
    assert len(await doors.said(first.json()["case_id"])) == 1


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "bad",
    [
        {"surprise": 1},
        {"market": ""},
        {"market": "d e"},
        {"market": 7},
        {"channel": None},
        {"subject": "a\x00b"},
        {"body": "a\x00b"},
        {"body": "half \ud83d of a smile"},
        {"body": ""},
        {"body": "x" * 100_001},
        {"priority": "whenever"},
        {"customer": {}},
        {"customer": {"external_id": "a\x00b"}},
        {"customer": {"external_id": "half \ud83d"}},
        {"customer": {"external_id": "kim", "email": "kim"}},
        {"customer": {"external_id": "kim", "email": "kim@half\ud83d"}},
        {"customer": {"external_id": "kim", "name": "a\x00b"}},
        {"customer": {"external_id": "kim", "name": "half \ud83d"}},
        {"external_id": "with space"},
        {"occurred_at": "yesterday"},
        {"occurred_at": "2026-03-02T09:00:00"},
        {"occurred_at": "0001-01-01T00:00:00+14:00"},
        {"occurred_at": "1969-12-31T23:59:59Z"},
        {"occurred_at": "9999-12-31T23:59:59-14:00"},
    ],
    ids=lambda bad: f"{bad}"[:40].encode("ascii", "replace").decode(),
)
async def test_bad_input_is_a_problem_document_and_changes_nothing(doors: Doors, bad: dict[str, object]) -> None:
    count = "select count(*) from events where topic = 'casewalk.cases'"
    before = await doors.host.database.readers.fetchval(count)

    answer = await doors("POST", "/v1/cases", opening(external_id=unique("X")) | bad, role="channel")

    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "parcel" not in answer.text
    assert await doors.host.database.readers.fetchval(count) == before


async def test_the_future_is_refused(doors: Doors) -> None:
    ahead = (datetime.now(UTC) + timedelta(minutes=6)).isoformat()

    answer = await doors("POST", "/v1/cases", opening(occurred_at=ahead), role="channel")

    assert answer.status_code == 422
    assert "5 minutes ahead" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["not-a-case", "0195571E-8A00-7000-8000-000000000001", "%00", "'; drop table cases"])
async def test_an_id_that_is_none_is_refused(doors: Doors, path: str) -> None:
    answer = await doors("GET", f"/v1/cases/{path}", role="lead")

    assert answer.status_code == 422


async def test_an_unknown_case_is_not_found(doors: Doors) -> None:
    answer = await doors("GET", "/v1/cases/0195571e-8a00-7000-8000-000000000001", role="lead")

    assert answer.status_code == 404


# ------------------------------------------------------------------------------------------------------ who reads what


async def test_an_agent_reads_the_texts_of_the_case_they_have_and_of_no_other(doors: Doors) -> None:
    case_id = await doors.open()
    before = await doors.case(case_id, role="agent:anna")
    await doors.say(case_id, an(CaseAssigned, agent_id="anna"))

    mine = await doors.case(case_id, role="agent:anna")
    theirs = await doors.case(case_id, role="agent:bert")
    await doors.say(case_id, an(CaseReleased, agent_id="anna"))
    released = await doors.case(case_id, role="agent:anna")

    assert mine["title"] == "Where is my parcel?"
    assert (mine["agent_id"], mine["category"]) == ("anna", "in_progress")
    assert mine["customer"] == {"ref": mine["customer_ref"], "name": "Kim Ünal", "email": "kim@customer.example"}
    for case in (before, theirs, released):
        assert case["body"] == case["customer"]["name"] == case["customer"]["email"] == {"redacted": "not_yours"}
        assert case["customer"]["ref"] == mine["customer_ref"]


async def test_the_owner_of_an_escalation_reads_the_texts(doors: Doors) -> None:
    case_id = await doors.open()
    await doors.say(case_id, an(EscalationAcknowledged, owner="olga"))

    assert (await doors.case(case_id, role="agent:olga"))["title"] == "Where is my parcel?"
    assert (await doors.case(case_id, role="agent:anna"))["title"] == {"redacted": "not_yours"}


async def test_a_partner_sees_the_cases_handed_to_it_while_they_are_there_and_no_others(doors: Doors) -> None:
    case_id, other = await doors.open(), await doors.open()
    path, swift = f"/v1/cases/{case_id}", unique("swift")
    partner = f"partner:{swift}"
    before = await doors("GET", path, role=partner)
    await doors.say(case_id, an(CaseHandedOver, partner_id=swift))
    await doors.say(other, an(CaseHandedOver, partner_id="steady"))

    case = await doors.case(case_id, role=partner)
    listed = (await doors("GET", "/v1/cases", role=partner)).json()["items"]
    others = await doors("GET", f"/v1/cases/{other}", role=partner)
    await doors.say(case_id, an(PartnerReturned, partner_id=swift))
    returned = await doors("GET", path, role=partner)

    assert case["body"].startswith("It should have been here")
    assert (case["customer"]["name"], case["customer"]["email"]) == ("Kim Ünal", "kim@customer.example")
    assert [item["case_id"] for item in listed] == [case_id]
    assert before.status_code == others.status_code == returned.status_code == 404


@pytest.mark.parametrize("role", ["reader", "channel"])
async def test_readers_and_channels_see_the_case_without_its_texts(doors: Doors, role: str) -> None:
    case = await doors.case(await doors.open(), role=role)

    assert case["title"] == case["body"] == {"redacted": "not_yours"}
    assert case["customer"]["name"] == case["customer"]["email"] == {"redacted": "not_yours"}
    assert (case["market"], case["customer"]["ref"]) == ("de", case["customer_ref"])


async def test_a_channel_reads_what_is_written_to_the_customer_and_nothing_else(doors: Doors) -> None:
    case_id = await doors.open()
    for direction, body in (("in", "Any news?"), ("out", "It is on its way.")):
        await doors("POST", f"/v1/cases/{case_id}/messages", {"direction": direction, "body": body}, role="lead")

    bodies = {
        role: [message["body"] for message in (await doors.case(case_id, role=role))["messages"]]
        for role in ("channel", "reader")
    }

    hidden = {"redacted": "not_yours"}
    assert bodies == {"channel": [hidden, "It is on its way."], "reader": [hidden, hidden]}


async def test_internal_notes_are_not_for_partners_and_channels(doors: Doors) -> None:
    case_id = await doors.open()
    await doors.say(case_id, an(CaseHandedOver, partner_id="swift"))
    ours = {"direction": "out", "visibility": "internal", "body": "Be careful with this one."}
    await doors("POST", f"/v1/cases/{case_id}/messages", ours, role="lead")
    await doors("POST", f"/v1/cases/{case_id}/messages", ours | {"body": "We ask the driver."}, role="partner:swift")

    seen = {
        role: [message["body"] for message in (await doors.case(case_id, role=role))["messages"]]
        for role in ("lead", "partner:swift", "channel", "reader")
    }

    assert seen == {
        "lead": ["Be careful with this one.", "We ask the driver."],
        "partner:swift": ["We ask the driver."],
        "channel": [],
        "reader": [{"redacted": "not_yours"}, {"redacted": "not_yours"}],
    }


async def test_a_key_of_another_role_is_refused(doors: Doors) -> None:
    case_id = await doors.open()
    refused = [
        await doors("POST", "/v1/cases", opening(), role="reader"),
        await doors("POST", "/v1/cases", opening(), role="partner:swift"),
        await doors("POST", f"/v1/cases/{case_id}/messages", {"direction": "in", "body": "x"}, role="reader"),
        await doors("POST", f"/v1/cases/{case_id}:resolve", role="partner:swift"),
        await doors("POST", f"/v1/cases/{case_id}:close", role="channel"),
        await doors("POST", f"/v1/cases/{case_id}/feedback", {"csat": 5}, role="agent:anna"),
        await doors("GET", "/v1/keys", role="lead"),
        await doors("POST", "/v1/keys", {"role": "admin", "label": "x"}, role="agent:anna"),
        await doors("DELETE", "/v1/customers/kim", role="agent:anna"),
        await doors("GET", "/v1/events", role="agent:anna"),
        await doors("POST", "/v1/imports?profile=x", role="reader"),
    ]

    assert {answer.status_code for answer in refused} == {403}
    assert (await doors.client.get("/v1/cases")).status_code == 401


# ------------------------------------------------------------------------------------------------------------ lists


async def test_a_list_shows_where_the_log_says_a_case_stands(engine_doors: Doors) -> None:
    doors, queue = engine_doors, unique("parcels")
    case_id = await doors.open()
    await doors.say(case_id, an(CaseQueued, queue_id=queue, unit_id="north"))

    (listed,) = await doors.until_listed(f"/v1/cases?queue={queue}&unit=north")

    assert (listed["case_id"], listed["queue_id"], listed["unit_id"]) == (case_id, queue, "north")
    assert not {"title", "customer"} & set(listed)


async def test_a_client_that_hands_its_position_back_finds_its_case_in_the_list(engine_doors: Doors) -> None:
    market = unique("market")
    answer = await engine_doors("POST", "/v1/cases", opening(market=market), role="channel")
    position = answer.headers["Casewalk-Position"]

    listed = await engine_doors("GET", f"/v1/cases?market={market}&after={position}", role="lead")

    assert [item["case_id"] for item in listed.json()["items"]] == [answer.json()["case_id"]]


async def test_a_list_is_limited_by_everything_that_is_asked(doors: Doors) -> None:
    name = unique("list")
    cases = [
        await doors("POST", "/v1/cases", opening(language=name, **other), role="channel")
        for other in ({}, {"market": "fr", "channel": "chat"}, {"journey": "billing", "priority": "urgent"})
    ]
    ids = [case.json()["case_id"] for case in cases]
    last = await doors("POST", f"/v1/cases/{ids[0]}:resolve", role="lead")
    await doors.host.wait_for(last.headers["Casewalk-Position"])
    for case in cases:
        await doors.host.wait_for(case.headers["Casewalk-Position"])

    async def found(wanted: str) -> set[int]:
        answer = await doors("GET", f"/v1/cases?language={name}&{wanted}", role="reader")
        return {ids.index(item["case_id"]) for item in answer.json()["items"]}

    assert await found("") == {0, 1, 2}
    assert await found("market=fr") == await found("channel=chat") == {1}
    assert await found("journey=billing") == await found("priority=urgent") == {2}
    assert await found("category=resolved") == {0}
    assert await found("category=new&market=fr") == {1}
    assert await found("market=fr&priority=urgent") == set()
    assert await found("import=none") == set()


async def test_pages_show_every_case_once_the_newest_first(doors: Doors) -> None:
    start, journey = datetime(2026, 3, 2, 9, 0, tzinfo=UTC), unique("journey")
    times = [start + timedelta(hours=hour) for hour in (0, 1, 1, 1, 2, 3, 3)]
    for at in times:
        await doors.open(occurred_at=at.isoformat(), journey=journey)

    async def all_listed() -> bool:
        answer = await doors("GET", f"/v1/cases?journey={journey}", role="lead")
        return len(answer.json()["items"]) == len(times)

    await until(all_listed)
    shown, path = [], f"/v1/cases?journey={journey}&limit=2"
    while path:
        answer = await doors("GET", path, role="lead")
        shown += answer.json()["items"]
        path = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")

    assert len({item["case_id"] for item in shown}) == len(times)
    assert [item["opened_at"] for item in shown] == sorted((item["opened_at"] for item in shown), reverse=True)


@pytest.mark.parametrize(
    "query", ["cursor=x", "cursor=WyJhIiwiYiJd", "limit=0", "limit=501", "market=%00", "category=x"]
)
async def test_a_list_refuses_junk(doors: Doors, query: str) -> None:
    assert (await doors("GET", f"/v1/cases?{query}", role="lead")).status_code == 422


async def test_what_the_tables_hold_is_what_a_rebuild_would_make_of_the_log(engine_doors: Doors) -> None:
    doors = engine_doors
    for number in range(5):
        case_id = await doors.open(market=f"m{number}")
        await doors.say(case_id, an(CaseQueued), an(CaseAssigned), an(CaseReleased), an(CaseHandedOver))
        await doors("POST", f"/v1/cases/{case_id}:resolve", role="lead")

    verdicts = [await doors.host.replay.verify(view) for view in doors.host.replay.named("all")]

    assert {verdict.view for verdict in verdicts} >= {"cases", "access", "issued_keys"}
    assert all(verdict.equal for verdict in verdicts), verdicts
