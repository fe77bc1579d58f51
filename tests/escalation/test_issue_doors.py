"""Mass issues at work: one message and one resolution reach every case of an issue."""

from typing import Any

from tests.casewalk import Casewalk
from tests.escalation.test_doors import is_problem, opened
from tests.escalation.test_ladder_doors import did
from tests.until import until

SNOW = {"issue_id": "snow", "title": "Hub closed by snow", "reason": "40 cases since this morning"}


async def gathering(here: Casewalk, *case_ids: str) -> None:
    await did(here.admin.post("/v1/issues", json=SNOW))
    await did(here.admin.post("/v1/issues/snow:accept", json={"owner": "olga"}))
    await did(here.admin.post("/v1/issues/snow:link", json={"case_ids": list(case_ids)}))


async def test_one_message_and_one_resolution_reach_every_open_case_of_an_issue(here: Casewalk) -> None:
    cases = [await opened(here) for _ in range(3)]
    await did(here.admin.post(f"/v1/cases/{cases[2]}:resolve", json={"code": "earlier"}))
    await here.settled()
    await gathering(here, *cases)
    told = await did(here.admin.post("/v1/issues/snow:message", json={"body": "Snow closed a hub.\nWe are on it."}))
    assert (told["cases"], told["messages"]) == (3, ["snow.1"])

    async def all_told() -> bool:
        return all(["Snow closed a hub.\nWe are on it." in await texts(here, case_id) for case_id in cases])

    await until(all_told)
    solved = await did(here.admin.post("/v1/issues/snow:resolve", json={"code": "delivered"}))
    assert (solved["stage"], solved["ended_because"]) == ("resolved", "delivered")

    async def all_resolved() -> bool:
        answers = [await did(here.admin.get(f"/v1/cases/{case_id}")) for case_id in cases]
        return {answer["category"] for answer in answers} == {"resolved"}

    await until(all_resolved)
    await here.settled()
    rows = await here.hosts["intake"].database.readers.fetch(
        "select subject, data from events where type = 'casewalk.case.resolved.v1' order by recorded_at"
    )
    assert sorted(row["subject"] for row in rows) == sorted(cases)
    replay = here.hosts["escalation"].replay
    for view in replay.named("all"):
        assert (await replay.verify(view)).equal, view.name


async def texts(here: Casewalk, case_id: str) -> list[str]:
    """Everything that was said on the case."""
    case: Any = await did(here.admin.get(f"/v1/cases/{case_id}"))
    return [message["body"] for message in case["messages"]]


async def test_issues_are_listed_read_and_refused(doors: Casewalk) -> None:
    proposed = await doors.admin.post("/v1/issues", json=SNOW)
    assert (proposed.status_code, proposed.json()["stage"]) == (201, "proposed")
    is_problem(
        await doors.admin.post("/v1/issues/snow:link", json={"case_ids": [await opened(doors)]}), 409, "proposed"
    )
    is_problem(await doors.admin.post("/v1/issues", json=SNOW | {"title": "Rain"}), 409, "already")
    headers = {"Idempotency-Key": "rain"}
    rain = {"title": "Rain", "reason": "wet"}
    first = await did(doors.admin.post("/v1/issues", json=rain, headers=headers))
    assert await did(doors.admin.post("/v1/issues", json=rain, headers=headers)) == first
    await did(doors.admin.post(f"/v1/issues/{first['issue_id']}:reject", json={"reason": "no"}))
    listed: list[str] = []
    url: str | None = "/v1/issues?limit=1"
    while url is not None:
        page = await doors.admin.get(url)
        listed += [item["issue_id"] for item in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else None
    assert listed == ["snow", first["issue_id"]]
    rejected = (await did(doors.admin.get("/v1/issues?stage=rejected")))["items"]
    assert [item["issue_id"] for item in rejected] == [first["issue_id"]]
    one = await doors.admin.get("/v1/issues/snow")
    assert (one.json()["case_ids"], one.headers["ETag"]) == ([], '"1"')
    is_problem(await doors.admin.get("/v1/issues/none"), 404)
