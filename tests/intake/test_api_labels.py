"""Classify and flag through their doors, and how everybody sees the case then."""

from __future__ import annotations

from typing import Any

import pytest

from tests.intake.conftest import Doors, opening, unique
from tests.until import until

WHY = "the customer called again"


async def classify(doors: Doors, case_id: str, role: str = "agent:anna", **said: Any) -> tuple[int, dict[str, Any]]:
    answer = await doors("POST", f"/v1/cases/{case_id}:classify", {"reason": WHY, **said}, role=role)
    return answer.status_code, answer.json()


async def flag(doors: Doors, case_id: str, name: str = "regulator", role: str = "channel") -> tuple[int, Any]:
    body = {"flag": name, "reason": "names the ombudsman"}
    answer = await doors("POST", f"/v1/cases/{case_id}:flag", body, role=role)
    return answer.status_code, answer.json()


async def test_a_case_comes_in_with_its_customers_tier(doors: Doors) -> None:
    case = await doors.case(await doors.open(tier="gold"))

    assert case["tier"] == "gold"
    assert (await doors.case(await doors.open()))["tier"] is None


@pytest.mark.parametrize("role", ["agent:anna", "lead", "channel"])
async def test_a_case_is_classified_and_read_so_at_once(doors: Doors, role: str) -> None:
    case_id = await doors.open()

    status, answer = await classify(doors, case_id, role, priority="urgent", tier="gold", journey="return")
    case = await doors.case(case_id)

    assert status == 200
    assert answer == {"case_id": case_id, "priority": "urgent", "tier": "gold", "journey": "return"}
    assert (case["priority"], case["tier"], case["journey"], case["market"]) == ("urgent", "gold", "return", "de")


async def test_what_is_left_out_stays_and_the_same_again_is_no_event(doors: Doors) -> None:
    case_id = await doors.open(priority="high", tier="gold")

    _, lowered = await classify(doors, case_id, priority="low")
    again = await classify(doors, case_id, priority="low", tier="gold", journey="delivery")

    assert (lowered["priority"], lowered["tier"], lowered["journey"]) == ("low", "gold", "delivery")
    assert again == (200, lowered)
    assert len(await doors.said(case_id)) == 2


async def test_a_classification_says_something(doors: Doors) -> None:
    status, problem = await classify(doors, await doors.open())

    assert status == 422
    assert "priority, tier or journey" in str(problem)


async def test_a_closed_case_is_neither_classified_nor_flagged(doors: Doors) -> None:
    case_id = await doors.open()
    for move in ("resolve", "close"):
        await doors("POST", f"/v1/cases/{case_id}:{move}", role="lead")

    assert (await classify(doors, case_id, priority="low"))[0] == 409
    assert (await flag(doors, case_id))[0] == 409


async def test_a_list_shows_the_cases_of_a_tier_as_the_log_tells(engine_doors: Doors) -> None:
    doors, tier = engine_doors, unique("tier")
    was, becomes = await doors.open(tier=tier), await doors.open(tier="silver")
    await classify(doors, was, tier="silver")
    await classify(doors, becomes, tier=tier, priority="urgent")

    async def listed() -> bool:
        answer = await doors("GET", f"/v1/cases?tier={tier}", role="lead")
        return [(case["case_id"], case["priority"]) for case in answer.json()["items"]] == [(becomes, "urgent")]

    await until(listed)


async def test_the_same_contact_is_the_same_case_though_it_was_classified(doors: Doors) -> None:
    contact = opening(external_id=unique("mail"), priority="low")
    first = await doors("POST", "/v1/cases", contact, role="channel")
    await classify(doors, first.json()["case_id"], priority="urgent", journey="return")

    again = await doors("POST", "/v1/cases", contact, role="channel")

    assert (again.status_code, again.json()) == (201, first.json())


async def test_a_flag_is_raised_once_in_an_episode(doors: Doors) -> None:
    case_id = await doors.open()

    first, again, other = await flag(doors, case_id), await flag(doors, case_id), await flag(doors, case_id, "legal")
    await doors("POST", f"/v1/cases/{case_id}:resolve", role="lead")
    await doors("POST", f"/v1/cases/{case_id}:reopen", {"reason": "no"}, role="lead")
    anew = await flag(doors, case_id)

    assert first == again == (200, {"case_id": case_id, "episode": 1, "flag": "regulator"})
    assert (other[0], anew) == (200, (200, {"case_id": case_id, "episode": 2, "flag": "regulator"}))
    kinds = [event.data.TYPE.split(".")[2] for event in await doors.said(case_id)]
    assert kinds == ["opened", "flagged", "flagged", "resolved", "reopened", "flagged"]
