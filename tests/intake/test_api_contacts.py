"""What is said on a case and how its life moves, through the doors."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from events.case import CaseHandedOver, EscalationResolved, PartnerResolved
from tests.given import an
from tests.intake.conftest import Doors, unique
from tests.until import until

NOWHERE = "0195571e-8a00-7000-8000-000000000001"


async def test_what_was_said_is_read_in_its_order_with_who_and_when(doors: Doors) -> None:
    case_id = await doors.open()
    path = f"/v1/cases/{case_id}/messages"
    answer = {"direction": "out", "body": "Which address?", "waits_for": "customer"}
    await doors("POST", path, answer, role="agent:anna")
    await doors("POST", path, {"direction": "in", "body": "The old one.", "channel": "chat"}, role="channel")

    case = await doors.case(case_id)

    assert [(m["direction"], m["channel"], m["body"]) for m in case["messages"]] == [
        ("out", "email", "Which address?"),
        ("in", "chat", "The old one."),
    ]
    assert case["messages"][0]["written_by"] == "agent:anna"
    assert case["messages"][0]["occurred_at"].endswith("Z")


async def test_a_case_waits_for_the_customer_until_they_write(doors: Doors) -> None:
    case_id = await doors.open()
    path = f"/v1/cases/{case_id}/messages"
    await doors("POST", path, {"direction": "out", "body": "Which one?", "waits_for": "customer"}, role="lead")
    waiting = (await doors.case(case_id))["category"]
    await doors("POST", path, {"direction": "in", "body": "This one."}, role="channel")

    assert waiting == "waiting_customer"
    assert (await doors.case(case_id))["category"] == "in_progress"


async def test_a_message_sent_twice_under_one_key_is_one_message(doors: Doors) -> None:
    case_id, key = await doors.open(), unique("key")
    body = {"direction": "in", "body": "Any news?"}
    path = f"/v1/cases/{case_id}/messages"

    first, again = [await doors("POST", path, body, role="channel", Idempotency_Key=key) for _ in range(2)]

    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert len((await doors.case(case_id))["messages"]) == 1


async def test_a_case_is_resolved_reopened_and_closed(doors: Doors) -> None:
    case_id = await doors.open()
    steps = [
        await doors("POST", f"/v1/cases/{case_id}:resolve", {"code": "refunded"}, role="agent:anna"),
        await doors("POST", f"/v1/cases/{case_id}:reopen", {"reason": "it did not arrive"}, role="channel"),
        await doors("POST", f"/v1/cases/{case_id}:resolve", role="lead"),
        await doors("POST", f"/v1/cases/{case_id}:close", role="lead"),
    ]

    assert [step.status_code for step in steps] == [200] * 4
    assert [(step.json()["episode"], step.json()["category"]) for step in steps] == [
        (1, "resolved"),
        (2, "in_progress"),
        (2, "resolved"),
        (2, "closed"),
    ]


async def test_who_resolved_a_case_is_told_by_the_key(doors: Doors) -> None:
    said = {}
    for role in ("agent:anna", "lead", "channel"):
        case_id = await doors.open()
        await doors("POST", f"/v1/cases/{case_id}:resolve", role=role)
        said[role] = (await doors.said(case_id))[-1].data.by

    assert said == {"agent:anna": "agent", "lead": "agent", "channel": "customer"}


async def test_an_illegal_move_is_refused_with_the_reason_and_changes_nothing(doors: Doors) -> None:
    case_id = await doors.open()

    answer = await doors("POST", f"/v1/cases/{case_id}:close", role="lead")

    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/refused"
    assert "resolve it before" in answer.json()["detail"]
    assert len(await doors.said(case_id)) == 1


async def test_a_command_decided_on_an_old_version_is_refused_and_says_the_new_one(doors: Doors) -> None:
    case_id = await doors.open()
    etag = (await doors("GET", f"/v1/cases/{case_id}", role="lead")).headers["ETag"]
    await doors("POST", f"/v1/cases/{case_id}/messages", {"direction": "in", "body": "Wait!"}, role="channel")

    stale = await doors("POST", f"/v1/cases/{case_id}:resolve", role="lead", If_Match=etag)
    fresh = await doors("POST", f"/v1/cases/{case_id}:resolve", role="lead", If_Match='"2"')

    assert (stale.status_code, stale.json()["version"]) == (412, 2)
    assert (fresh.status_code, fresh.headers["ETag"]) == (200, '"3"')


async def test_a_customer_judges_a_resolved_case(doors: Doors) -> None:
    case_id = await doors.open()
    path = f"/v1/cases/{case_id}/feedback"
    early = await doors("POST", path, {"csat": 5}, role="channel")
    await doors("POST", f"/v1/cases/{case_id}:resolve", role="lead")
    taken = await doors("POST", path, {"accepted": True, "csat": 5, "nps": 9}, role="channel")
    other = await doors("POST", path, {"csat": 1}, role="channel")

    assert (early.status_code, taken.status_code, other.status_code) == (409, 201, 409)
    assert taken.json() == {"case_id": case_id, "episode": 1}
    (feedback,) = (await doors.case(case_id))["feedback"]
    assert (feedback["accepted"], feedback["csat"], feedback["nps"]) == (True, 5, 9)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/messages", {"direction": "in", "body": "x"}),
        (":resolve", {}),
        (":reopen", {"reason": "x"}),
        (":close", {}),
        ("/feedback", {"csat": 1}),
    ],
)
async def test_a_case_that_does_not_exist_is_not_found(doors: Doors, path: str, body: dict[str, Any]) -> None:
    assert (await doors("POST", f"/v1/cases/{NOWHERE}{path}", body)).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/messages", {"direction": "in", "body": "x", "visibility": "internal"}),
        ("/messages", {"direction": "in", "body": "x", "waits_for": "customer"}),
        ("/messages", {"direction": "in", "body": "x", "automatic": True}),
        ("/messages", {"direction": "sideways", "body": "x"}),
        ("/messages", {"direction": "in", "body": "a\x00b"}),
        ("/messages", {"direction": "in", "body": "half \udc00"}),
        ("/messages", {"direction": "in", "body": "x", "occurred_at": "0001-01-01T00:00:00Z"}),
        ("/messages", {"direction": "in", "body": "x", "occurred_at": "9999-12-31T23:59:59Z"}),
        (":resolve", {"code": "not a code"}),
        (":resolve", {"occurred_at": "2001-01-01T00:00:00Z"}),
        (":reopen", {}),
        (":reopen", {"reason": "two\nlines"}),
        (":close", {"why": "misspelt"}),
        ("/feedback", {}),
        ("/feedback", {"csat": 6}),
        ("/feedback", {"nps": -1}),
        ("/feedback", {"csat": 5, "episode": 10**30}),
    ],
    ids=lambda value: f"{value}"[:50].encode("ascii", "replace").decode(),
)
async def test_bad_input_is_refused_and_changes_nothing(doors: Doors, path: str, body: dict[str, Any]) -> None:
    case_id = await doors.open()

    answer = await doors("POST", f"/v1/cases/{case_id}{path}", body)

    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(await doors.said(case_id)) == 1


async def test_a_text_too_long_for_one_record_is_too_large(doors: Doors) -> None:
    body = {"direction": "in", "body": "\U0001f4e6" * 60_000}

    answer = await doors("POST", f"/v1/cases/{await doors.open()}/messages", body, role="channel")

    assert answer.status_code == 413


async def test_a_partner_writes_on_the_cases_it_has_and_on_no_others(doors: Doors) -> None:
    mine, other, swift = await doors.open(), await doors.open(), unique("swift")
    await doors.say(mine, an(CaseHandedOver, partner_id=swift))
    body = {"direction": "out", "body": "The driver has it."}

    written = await doors("POST", f"/v1/cases/{mine}/messages", body, role=f"partner:{swift}")
    refused = await doors("POST", f"/v1/cases/{other}/messages", body, role=f"partner:{swift}")

    assert (written.status_code, refused.status_code) == (201, 404)
    assert (await doors.said(mine))[-1].actor == f"partner:{swift}"
    assert len(await doors.said(other)) == 1


@pytest.mark.parametrize(("event", "by"), [(PartnerResolved, "partner"), (EscalationResolved, "escalation")])
async def test_what_others_bring_to_an_end_is_the_cases_resolution(engine_doors: Doors, event: Any, by: str) -> None:
    case_id = await engine_doors.open()
    await engine_doors.say(case_id, an(event, code="delivered"))

    async def resolution() -> Any:
        events = await engine_doors.said(case_id)
        return events[-1] if len(events) > 1 else None

    resolved = await until(partial(resolution))

    assert (resolved.data.by, resolved.data.code, resolved.data.episode) == (by, "delivered", 1)
    assert resolved.actor == "service:intake"
    assert (await engine_doors.case(case_id))["category"] == "resolved"
