"""Every case has its own address: what comes in there is a message on that case, through whichever door."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.intake.conftest import Doors, opening, unique

NOWHERE = "case-0195571e-8a00-7000-8000-00000000ffff"


async def arrive(doors: Doors, to: str, key: str | None = None, **changes: Any) -> httpx.Response:
    """The customer writes to this address, and the channel brings it in as it brings in everything."""
    headers = {} if key is None else {"Idempotency_Key": key}
    body = opening(subject="Re: my parcel", body="Still nothing.", to=to, **changes)
    return await doors("POST", "/v1/cases", body, role="channel", **headers)


async def test_a_case_shows_its_own_address(doors: Doors) -> None:
    case_id = await doors.open()

    assert (await doors.case(case_id))["address"] == f"case-{case_id}"


async def test_what_comes_in_at_a_cases_own_address_opens_nothing(engine_doors: Doors) -> None:
    doors, journey = engine_doors, unique("journey")
    opened = await doors("POST", "/v1/cases", opening(journey=journey), role="channel")
    case_id = opened.json()["case_id"]

    arrived = await arrive(doors, f"case-{case_id}", channel="chat", priority="urgent", journey=journey)

    assert (arrived.status_code, arrived.json()) == (200, opened.json())
    case = await doors.case(case_id)
    assert case["priority"] == "normal"
    (message,) = case["messages"]
    assert (message["direction"], message["channel"]) == ("in", "chat")
    assert (message["title"], message["body"]) == ("Re: my parcel", "Still nothing.")
    await doors.host.wait_for(arrived.headers["Casewalk-Position"])
    listed = await doors.until_listed(f"/v1/cases?journey={journey}")
    assert [item["case_id"] for item in listed] == [case_id]


async def test_an_address_with_a_host_is_the_cases_own_too(doors: Doors) -> None:
    case_id = await doors.open()

    arrived = await arrive(doors, f"case-{case_id}@help.shop.example")

    assert (arrived.status_code, arrived.json()["case_id"]) == (200, case_id)


async def test_the_same_contact_arrives_once(doors: Doors) -> None:
    case_id, key, external_id = await doors.open(), unique("key"), unique("mail")
    own = f"case-{case_id}"

    answers = [
        await arrive(doors, own, key),
        await arrive(doors, own, key),
        await arrive(doors, own, external_id=external_id),
        await arrive(doors, own, external_id=external_id),
        await arrive(doors, own, unique("key"), external_id=external_id),
    ]

    assert [answer.status_code for answer in answers] == [200] * 5
    assert len({answer.text for answer in answers}) == 1
    assert len((await doors.case(case_id))["messages"]) == 2


async def test_the_same_contact_with_other_content_is_refused_and_names_the_case(doors: Doors) -> None:
    case_id, key, external_id = await doors.open(), unique("key"), unique("mail")
    own = f"case-{case_id}"
    await arrive(doors, own, key)
    await arrive(doors, own, external_id=external_id)

    reused = await arrive(doors, own, key, language="fr")
    other = await arrive(doors, own, external_id=external_id, customer={"external_id": "x"}, market="fr")
    refused = await doors(
        "POST", "/v1/cases", opening(to=own, external_id=external_id, body="Something else."), role="channel"
    )

    assert reused.status_code == 422
    assert other.status_code == 200, "only what becomes a message is told apart"
    assert (refused.status_code, refused.json()["case_id"]) == (409, case_id)
    assert len((await doors.case(case_id))["messages"]) == 2


async def test_a_resolved_case_is_reopened_and_a_closed_one_takes_nothing(doors: Doors) -> None:
    case_id = await doors.open()
    await doors("POST", f"/v1/cases/{case_id}:resolve", role="lead")
    reopened = await arrive(doors, f"case-{case_id}")
    episode = (await doors.case(case_id))["episode"]
    for move in ("resolve", "close"):
        await doors("POST", f"/v1/cases/{case_id}:{move}", role="lead")

    closed = await arrive(doors, f"case-{case_id}")

    assert (reopened.status_code, episode) == (200, 2)
    assert (closed.status_code, closed.json()["case_id"]) == (409, case_id)
    assert "open a new case" in closed.json()["detail"]


@pytest.mark.parametrize("to", [NOWHERE, "case-4711", f"{NOWHERE}@help.shop.example"])
async def test_what_looks_like_a_cases_own_address_and_is_none_is_refused(doors: Doors, to: str) -> None:
    answer = await arrive(doors, to)

    assert answer.status_code == 422
    assert to in answer.json()["detail"]


async def test_another_address_is_kept_with_the_new_case(doors: Doors) -> None:
    opened = await arrive(doors, "help@shop.example")
    (event,) = await doors.said(opened.json()["case_id"])

    assert opened.status_code == 201
    assert event.data.to == "help@shop.example"


async def test_a_message_names_its_cases_own_address_or_none(doors: Doors) -> None:
    case_id = await doors.open()
    path = f"/v1/cases/{case_id}/messages"

    right = await doors("POST", path, {"direction": "in", "body": "Hm.", "to": f"case-{case_id}"}, role="channel")
    wrong = await doors("POST", path, {"direction": "in", "body": "Hm.", "to": NOWHERE}, role="channel")

    assert right.status_code == 201
    assert wrong.status_code == 422
    assert f"case-{case_id}" in wrong.json()["detail"]
    assert len((await doors.case(case_id))["messages"]) == 1


async def test_the_title_of_a_message_is_for_those_who_read_its_text(doors: Doors) -> None:
    case_id = await doors.open()
    await arrive(doors, f"case-{case_id}")

    (message,) = (await doors.case(case_id, role="reader"))["messages"]

    assert message["title"] == message["body"] == {"redacted": "not_yours"}
