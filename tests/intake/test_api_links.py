"""Link through its door: both cases say it, in one append."""

from __future__ import annotations

from typing import Any

from tests.intake.conftest import Doors

WHY = "the customer wrote twice"


async def link(doors: Doors, case_id: str, other: str, role: str = "agent:anna") -> tuple[int, dict[str, Any]]:
    body = {"relation": "duplicate_of", "case_id": other, "reason": WHY}
    answer = await doors("POST", f"/v1/cases/{case_id}:link", body, role=role)
    return answer.status_code, answer.json()


async def test_a_duplicate_is_resolved_and_both_cases_say_it(doors: Doors) -> None:
    twin, first = await doors.open(), await doors.open()

    status, answer = await link(doors, twin, first)

    assert (status, answer) == (
        200,
        {"case_id": twin, "duplicate_of": first, "episode": 1, "category": "resolved"},
    )
    assert [event.data.TYPE.split(".")[2] for event in await doors.said(twin)] == ["opened", "linked", "resolved"]
    assert [event.data.TYPE.split(".")[2] for event in await doors.said(first)] == ["opened", "linked"]
    assert (await doors.case(first))["category"] == "new"
    assert await link(doors, twin, first) == (200, answer)
    assert len(await doors.said(twin)) == 3


async def test_a_case_is_no_duplicate_of_itself_nor_of_nothing(doors: Doors) -> None:
    case_id = await doors.open()

    assert (await link(doors, case_id, case_id))[0] == 422
    assert (await link(doors, case_id, "00000000-0000-4000-8000-00000000dead"))[0] == 404
    assert len(await doors.said(case_id)) == 1


async def test_two_cases_are_not_each_others_duplicates(doors: Doors) -> None:
    twin, first = await doors.open(), await doors.open()

    assert (await link(doors, twin, first))[0] == 200
    status, problem = await link(doors, first, twin)
    assert status == 409
    assert f"case {twin} is itself a duplicate of {first}" in problem["detail"]
