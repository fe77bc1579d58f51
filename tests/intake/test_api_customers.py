"""A customer who wants to be forgotten is."""

from __future__ import annotations

import asyncio

import pytest

from tests.intake.conftest import Doors, opening, unique


async def test_nothing_of_an_erased_customer_can_be_read(engine_doors: Doors) -> None:
    doors, who = engine_doors, {"external_id": unique("kim"), "name": "Kim Ünal", "email": "kim@customer.example"}
    case_id = await doors.open(customer=who)
    await doors("POST", f"/v1/cases/{case_id}/messages", {"direction": "in", "body": "It is urgent."}, role="channel")
    note = {"direction": "out", "visibility": "internal", "body": "She sounds upset."}
    await doors("POST", f"/v1/cases/{case_id}/messages", note, role="agent:anna")
    ref = (await doors.case(case_id))["customer_ref"]

    answer = await doors("DELETE", f"/v1/customers/{ref}", role="lead")
    case = await doors.case(case_id, role="admin")

    gone = {"redacted": "erased"}
    assert answer.json() == {"customer_ref": ref, "erased": True}
    assert case["title"] == case["body"] == gone
    assert [message["body"] for message in case["messages"]] == [gone, gone]
    assert case["customer"] == {"ref": ref, "name": gone, "email": gone}
    assert (case["market"], case["customer_ref"]) == ("de", ref)


async def test_erasing_twice_is_erasing_once(doors: Doors) -> None:
    ref = (await doors.case(await doors.open(customer={"external_id": unique("kim")})))["customer_ref"]

    answers = await asyncio.gather(*(doors("DELETE", f"/v1/customers/{ref}", role="lead") for _ in range(5)))

    assert {answer.status_code for answer in answers} == {200}
    assert len(await doors.host.store.events("casewalk.operations", f"customer:{ref}")) == 1


async def test_a_customer_who_comes_again_is_somebody_new(doors: Doors) -> None:
    who = {"external_id": unique("kim")}
    before = (await doors.case(await doors.open(customer=who)))["customer_ref"]
    await doors("DELETE", f"/v1/customers/{before}", role="lead")

    case = await doors.case(await doors.open(customer=who))

    assert case["customer_ref"] != before
    assert case["title"] == "Where is my parcel?"


async def test_nothing_more_is_written_about_an_erased_customer(doors: Doors) -> None:
    case_id = await doors.open(customer={"external_id": unique("kim")})
    await doors("DELETE", f"/v1/customers/{(await doors.case(case_id))['customer_ref']}", role="lead")

    message = await doors("POST", f"/v1/cases/{case_id}/messages", {"direction": "in", "body": "Hi"}, role="channel")
    resolved = await doors("POST", f"/v1/cases/{case_id}:resolve", role="lead")

    assert (message.status_code, resolved.status_code) == (409, 200)
    assert "erased" in message.json()["detail"]


async def test_the_same_contact_after_an_erasure_is_refused_and_opens_nothing(doors: Doors) -> None:
    body = opening(customer={"external_id": unique("kim")}, external_id=unique("MAIL"))
    case_id = (await doors("POST", "/v1/cases", body, role="channel")).json()["case_id"]
    await doors("DELETE", f"/v1/customers/{(await doors.case(case_id))['customer_ref']}", role="lead")

    again = await doors("POST", "/v1/cases", body, role="channel")

    assert (again.status_code, again.json()["case_id"]) == (409, case_id)


@pytest.mark.parametrize(("ref", "status"), [("nobody", 404), ("a%20b", 422), ("%00", 422), ("x" * 101, 422)])
async def test_a_customer_nobody_knows_is_not_erased(doors: Doors, ref: str, status: int) -> None:
    assert (await doors("DELETE", f"/v1/customers/{ref}", role="lead")).status_code == status
