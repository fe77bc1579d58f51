"""Ladders at work: rungs fire, nobody answers, somebody owns the case; rotas, and whom nobody helps."""

from datetime import timedelta
from typing import Any

import pytest

from tests.casewalk import Casewalk
from tests.escalation.test_doors import Item, escalation, is_problem, opened
from tests.until import until

ALL_WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ROUND_THE_CLOCK = {
    "tz": "Europe/Berlin",
    "weekly": [{"days": ALL_WEEK, "opens": "00:00", "closes": "24:00", "agents": ["olga"]}],
}


async def did(asking: Any) -> Any:
    """The body of an answer that says yes."""
    answer = await asking
    assert answer.is_success, answer.text
    return answer.json()


async def three_units(here: Casewalk) -> None:
    for unit_id in ("second-line", "complaints", "swat"):
        await did(here.admin.put(f"/v1/units/{unit_id}", json={"name": unit_id, "kind": "escalation"}))
    await here.settled()
    await did(here.admin.put("/v1/rotas/swat", json=ROUND_THE_CLOCK))


def ladder(within_s: int | None = 1, swat_within_s: int = 1) -> Item:
    """Asking leads to the second line, silence to the complaints unit and then to SWAT, a regulator there at once."""
    return {
        "rungs": [
            {
                "rung": "second-line",
                "unit_id": "second-line",
                "triggers": [{"kind": "asked"}],
                "acknowledge_within_s": within_s,
            },
            {"rung": "complaints", "unit_id": "complaints", "acknowledge_within_s": 1},
            {
                "rung": "swat",
                "unit_id": "swat",
                "triggers": [{"kind": "regulator"}, {"kind": "low_survey", "at_most": 2}],
                "owner_rule": "on_duty",
                "acknowledge_within_s": swat_within_s,
            },
        ]
    }


async def events(here: Casewalk, case_id: str) -> list[str]:
    """The types of all that escalation said about escalations of the case, in order."""
    rows = await here.hosts["escalation"].database.readers.fetch(
        "select type from events where subject = $1 and type ~ 'escalat' order by sequence", case_id
    )
    return [row["type"].removeprefix("casewalk.case.").removesuffix(".v1") for row in rows]


async def ask(here: Casewalk, case_id: str) -> Item:
    asked: Item = await did(here.admin.post("/v1/escalations", json={"case_id": case_id, "reason": "stranded"}))
    return asked


async def test_silence_climbs_the_ladder_to_its_top_and_is_said_once_per_rung(here: Casewalk) -> None:
    await three_units(here)
    await did(here.admin.put("/v1/ladders/standard", json=ladder()))
    case_id = await opened(here)
    first = await ask(here, case_id)
    assert (first["rung"], first["unanswered"], first["escalation_id"]) == ("second-line", False, f"{case_id}.1")
    top = await escalation(here, case_id, lambda item: item["rung"] == "swat" and item["unanswered"])
    assert (top["status"], top["trigger"], top["escalation_id"]) == ("open", "unanswered", f"{case_id}.1.3")
    assert top["on_duty"] == ["olga"]
    await here.settled()
    climbed = ["escalated", "escalation_unanswered"] * 3
    assert await events(here, case_id) == climbed
    is_problem(
        await here.admin.post(f"/v1/escalations/{case_id}.1:acknowledge", json={"owner": "olga"}), 409, f"{case_id}.1.3"
    )
    path = f"/v1/escalations/{case_id}.1.3:acknowledge"
    is_problem(await here.admin.post(path, json={"owner": "paul"}), 409, "olga")
    owned = await did(here.admin.post(path, json={"owner": "olga"}))
    assert (owned["owner"], owned["address"]) == ("olga", f"case-{case_id}")


async def test_who_acknowledges_in_time_keeps_the_case(here: Casewalk) -> None:
    await three_units(here)
    await did(here.admin.put("/v1/ladders/standard", json=ladder(within_s=600)))
    case_id, other = await opened(here), await opened(here)
    asked = await ask(here, case_id)
    owned = await did(here.admin.post(f"/v1/escalations/{case_id}.1:acknowledge", json={"owner": "kim"}))
    assert (owned["status"], owned["acknowledge_by"]) == ("acknowledged", asked["acknowledge_by"])
    flagged = {"flag": "regulator", "reason": "a letter came"}
    for flagged_case in (case_id, other):
        await did(here.admin.post(f"/v1/cases/{flagged_case}:flag", json=flagged))
    raised = await escalation(here, other)
    assert (raised["rung"], raised["trigger"]) == ("swat", "regulator")
    await here.settled()
    assert await events(here, case_id) == ["escalated", "escalation_acknowledged"]


async def test_a_resolved_case_with_a_low_survey_is_looked_after_and_its_reopening_queues_it_nowhere(
    here: Casewalk,
) -> None:
    await three_units(here)
    await did(here.admin.put("/v1/ladders/standard", json=ladder(swat_within_s=600)))
    case_id = await opened(here)
    await did(here.admin.post(f"/v1/cases/{case_id}:resolve", json={}))
    await here.settled()
    await did(here.admin.post(f"/v1/cases/{case_id}/feedback", json={"accepted": False, "csat": 1}))
    raised = await escalation(here, case_id)
    assert (raised["rung"], raised["trigger"]) == ("swat", "low_survey")
    await did(here.admin.post(f"/v1/cases/{case_id}:reopen", json={"reason": "still no parcel"}))
    await here.settled()
    assert (await did(here.admin.get(f"/v1/work/{case_id}")))["status"] == "escalated"
    await did(here.admin.post(f"/v1/escalations/{case_id}.1:acknowledge", json={"owner": "olga"}))
    await did(here.admin.post(f"/v1/escalations/{case_id}.1:resolve", json={"code": "refunded"}))

    async def over() -> bool:
        case = await did(here.admin.get(f"/v1/cases/{case_id}"))
        work = await did(here.admin.get(f"/v1/work/{case_id}"))
        return (case["category"], work["status"]) == ("resolved", "done")

    await until(over)


async def test_the_most_specific_ladder_is_climbed(doors: Casewalk) -> None:
    await three_units(doors)
    german = {
        "applies": {"markets": ["de"], "priorities": ["high"]},
        "unit_id": "complaints",
        "on_breach": ["resolution"],
    }
    await did(doors.admin.put("/v1/ladders/german", json=german))
    high = await opened(doors, priority="high", ago=timedelta(hours=100))
    normal = await opened(doors, priority="normal", ago=timedelta(hours=100))
    raised, plain = await escalation(doors, high), await escalation(doors, normal)
    assert (raised["ladder"], raised["unit_id"]) == ("german@1", "complaints")
    assert (plain["ladder"], plain["unit_id"]) == ("standard@1", "escalation")


async def test_a_rota_is_published_and_says_who_is_on_duty(doors: Casewalk) -> None:
    weekly = [{"days": ["mon"], "opens": "20:00", "closes": "08:00", "agents": ["paul"]}]
    order = {"tz": "Europe/Berlin", "weekly": weekly, "dated": []}
    first = await did(doors.admin.put("/v1/rotas/swat", json=order))
    assert first == {"unit_id": "swat", "version": 1} | order
    assert await did(doors.admin.put("/v1/rotas/swat", json=order)) == first
    second = await did(doors.admin.put("/v1/rotas/swat", json=ROUND_THE_CLOCK | {"dated": []}))
    assert second["version"] == 2
    await did(doors.admin.put("/v1/rotas/swat", json=order))
    one = await doors.admin.get("/v1/rotas/swat")
    assert (one.json()["version"], one.headers["ETag"]) == (3, '"3"')
    assert [item["unit_id"] for item in (await did(doors.admin.get("/v1/rotas")))["items"]] == ["swat"]
    at = {"at": "2026-03-03T06:30:00+00:00"}
    on_duty = await did(doors.admin.get("/v1/rotas/swat:on-duty", params=at))
    assert (on_duty["agents"], on_duty["rota"]) == (["paul"], "swat@3")
    later = {"at": "2026-03-03T07:00:00Z"}
    assert (await did(doors.admin.get("/v1/rotas/swat:on-duty", params=later)))["agents"] == []
    assert (await did(doors.admin.get("/v1/rotas/swat:on-duty")))["unit_id"] == "swat"


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "1969-12-31T23:00:00Z", "1.19e-07", "0", "2026-03-03"]
)
async def test_a_moment_that_is_none_or_out_of_range_is_refused(doors: Casewalk, at: str) -> None:
    await did(doors.admin.put("/v1/rotas/swat", json=ROUND_THE_CLOCK))
    is_problem(await doors.admin.get("/v1/rotas/swat:on-duty", params={"at": at}), 422)


async def test_a_parameter_said_twice_is_refused(doors: Casewalk) -> None:
    """Which of the two was meant is not for us to say."""
    await did(doors.admin.put("/v1/rotas/swat", json=ROUND_THE_CLOCK))
    twice = {"at": ["2026-03-03T06:30:00Z", "2026-03-04T06:30:00Z"]}
    is_problem(await doors.admin.get("/v1/rotas/swat:on-duty", params=twice), 422, "say at once")


async def test_what_a_ladder_relies_on_is_refused_with_the_list_when_it_is_missing(doors: Casewalk) -> None:
    await three_units(doors)
    rung = {"unit_id": "complaints", "triggers": [{"kind": "asked"}], "owner_rule": "on_duty"}
    nobody = {"rungs": [rung | {"rung": "a"}, rung | {"rung": "b", "unit_id": "nowhere"}]}
    refused = await doors.admin.put("/v1/ladders/standard", json=nobody)
    is_problem(refused, 422, "nowhere")
    assert refused.json()["wrong"] == [
        "rung a: complaints has no rota that says who is on duty",
        "rung b: there is no unit called nowhere",
        "rung b: nowhere has no rota that says who is on duty",
    ]
    await did(doors.admin.put("/v1/ladders/standard", json=ladder()))
    gap = {"tz": "UTC", "weekly": [{"days": ["sat"], "opens": "00:00", "closes": "24:00", "agents": []}]}
    is_problem(await doors.admin.put("/v1/rotas/swat", json=gap), 422, "sat 00:00–24:00")
    assert (await doors.admin.put("/v1/rotas/complaints", json=gap)).status_code == 200


async def test_coverage_says_for_every_market_and_journey_what_is_missing(doors: Casewalk) -> None:
    await three_units(doors)
    await opened(doors)
    before = await did(doors.admin.get("/v1/ladders:coverage"))
    line = next(item for item in before["items"] if (item["market"], item["journey"]) == ("de", "delivery"))
    assert (line["ladder"], line["missing"]) == ("standard@1", ["rota"])
    assert before["uncovered"] == len(before["items"])
    await did(doors.admin.put("/v1/rotas/escalation", json=ROUND_THE_CLOCK))
    after = await did(doors.admin.get("/v1/ladders:coverage"))
    line = next(item for item in after["items"] if (item["market"], item["journey"]) == ("de", "delivery"))
    (unit,) = line["units"]
    assert (line["missing"], unit["on_duty"], unit["uncovered"]) == ([], ["olga"], [])
    assert after["uncovered"] == 0


async def test_a_ladder_that_takes_help_away_is_refused_and_the_one_in_force_stays(doors: Casewalk) -> None:
    await three_units(doors)
    await did(doors.admin.put("/v1/units/swat", json={"name": "swat", "kind": "escalation", "markets": ["fr"]}))
    await doors.settled()
    await opened(doors)
    to_swat = {"unit_id": "swat", "applies": {"markets": ["de"]}}
    is_problem(await doors.admin.put("/v1/ladders/german", json=to_swat), 422, "applies to de")
    refused = await doors.admin.put("/v1/ladders/standard", json={"unit_id": "swat"})
    is_problem(refused, 422, "de/delivery would be left without unit")
    assert (await did(doors.admin.get("/v1/ladders/standard")))["version"] == 1


async def test_every_view_equals_its_replay_after_a_climb(here: Casewalk) -> None:
    await three_units(here)
    await did(here.admin.put("/v1/ladders/standard", json=ladder()))
    case_id = await opened(here)
    await ask(here, case_id)
    await escalation(here, case_id, lambda item: item["rung"] == "swat")
    await here.settled()
    replay = here.hosts["escalation"].replay
    for view in replay.named("all"):
        assert (await replay.verify(view)).equal, view.name
