"""A promise's next version at its door: what it would change, and whom it judges."""

from datetime import timedelta

from events.case import ClockBreached, ClockRestated
from events.operations import PromisePublished
from events.store import New
from services.escalation.decide.configuration import PROMISE
from services.escalation.restating import restate_once
from tests.casewalk import Casewalk
from tests.escalation.test_doors import Item, clocks, is_problem, only, opened
from tests.until import until


def of_an_hour(promise: Item, **more: object) -> Item:
    targets = [target | {"target_s": 3600} for target in promise["targets"]]
    return {"name": "Faster", "targets": targets} | more


async def test_a_version_that_restates_open_cases_says_first_what_would_change_and_then_changes_it(
    here: Casewalk,
) -> None:
    """The case that has ended keeps its verdict; of the open ones, one becomes late and says so by being told anew."""
    promise = (await here.admin.get("/v1/promises/standard")).json()
    late, fresh = await opened(here, ago=timedelta(hours=2)), await opened(here)
    done = await opened(here, ago=timedelta(hours=2))
    assert (await here.admin.post(f"/v1/cases/{done}:resolve", json={})).status_code == 200
    await here.settled()
    order = of_an_hour(promise, restate="restate_open")
    told = (await here.admin.post("/v1/promises/standard:preview", json=order)).json()
    assert (told["cases"], told["due_moved"], told["would_break"], told["would_be_kept"]) == (2, 2, 1, 0)
    kept = {one["case_id"]: (one["kept_before"], one["kept_after"]) for one in told["differences"]}
    assert kept == {late: (None, False), fresh: (None, None)}, "a preview includes what the timers would say at once"
    changed = {(one["case_id"], one["clock"]) for one in told["differences"]}
    assert changed == {(late, "resolution"), (fresh, "resolution")}
    before = {case_id: (await clocks(here, case_id))["resolution"] for case_id in (late, fresh, done)}
    assert {one["promise"] for one in before.values()} == {"standard@1"}, "a preview changes nothing"
    assert (await here.admin.put("/v1/promises/standard", json=order)).status_code == 200

    async def restated() -> bool:
        return {(await clocks(here, one))["resolution"]["promise"] for one in (late, fresh)} == {"standard@2"}

    await until(restated)

    async def breached() -> bool:
        return (await clocks(here, late))["resolution"]["state"] == "breached"

    await until(breached)
    assert (await clocks(here, fresh))["resolution"]["state"] == "running"
    assert (await clocks(here, done))["resolution"] == before[done]


async def test_a_version_that_restates_every_case_judges_finished_ones_too_and_breaches_nothing(here: Casewalk) -> None:
    """The verdict changes, and everybody who asks sees it; nobody is told of a breach that was none at its time."""
    promise = (await here.admin.get("/v1/promises/standard")).json()
    done = await opened(here, ago=timedelta(hours=2))
    assert (await here.admin.post(f"/v1/cases/{done}:resolve", json={})).status_code == 200
    await here.settled()
    assert (await clocks(here, done))["resolution"]["kept"] is True
    order = of_an_hour(promise, restate="restate_all")
    told = (await here.admin.post("/v1/promises/standard:preview", json=order)).json()
    assert (told["cases"], told["would_break"], told["would_be_kept"]) == (1, 1, 0)
    assert (await here.admin.put("/v1/promises/standard", json=order)).status_code == 200

    async def restated() -> bool:
        return (await clocks(here, done))["resolution"]["kept"] is False

    await until(restated)
    await here.settled()
    said = [one.data for one in await here.hosts["escalation"].store.events("casewalk.cases", done)]
    told_anew = [one for one in said if isinstance(one, ClockRestated)]
    assert {(one.clock, one.before and one.before.kept, one.after.kept) for one in told_anew} == {
        ("first_response", False, False),
        ("resolution", True, False),
    }
    assert [one.clock for one in said if isinstance(one, ClockBreached)] == ["first_response"]
    assert (await here.admin.get("/v1/escalations")).json()["items"] == []


async def test_a_case_that_is_reopened_after_a_publication_was_not_open_at_it(doors: Casewalk) -> None:
    """Neither what it came to before, nor what it is in now, is judged by a version for the cases open then."""
    promise = (await doors.admin.get("/v1/promises/standard")).json()
    case_id, open_case = await opened(doors, ago=timedelta(hours=2)), await opened(doors)
    assert (await doors.admin.post(f"/v1/cases/{case_id}:resolve", json={})).status_code == 200
    await doors.settled()
    order = of_an_hour(promise, restate="restate_open")
    assert (await doors.admin.put("/v1/promises/standard", json=order)).status_code == 200
    assert (await doors.admin.post(f"/v1/cases/{case_id}:reopen", json={"reason": "not there"})).status_code == 200
    await doors.settled()

    async def restated() -> bool:
        return (await clocks(doors, open_case))["resolution"]["promise"] == "standard@2"

    await until(restated)
    assert await restate_once(doors.hosts["escalation"]) == 0
    items = (await doors.admin.get("/v1/clocks", params={"case": case_id})).json()["items"]
    resolutions = [item for item in items if item["clock"] == "resolution"]
    assert [(one["promise"], one["kept"]) for one in resolutions] == [("standard@1", True), ("standard@1", None)]


async def test_a_version_for_open_cases_leaves_the_episodes_before_as_they_were_judged(doors: Casewalk) -> None:
    promise = (await doors.admin.get("/v1/promises/standard")).json()
    case_id = await opened(doors, ago=timedelta(hours=2))
    assert (await doors.admin.post(f"/v1/cases/{case_id}:resolve", json={})).status_code == 200
    assert (await doors.admin.post(f"/v1/cases/{case_id}:reopen", json={"reason": "not there"})).status_code == 200
    await doors.settled()
    order = of_an_hour(promise, restate="restate_open")
    assert (await doors.admin.put("/v1/promises/standard", json=order)).status_code == 200

    async def resolutions() -> list[tuple[str, bool | None]]:
        items = (await doors.admin.get("/v1/clocks", params={"case": case_id})).json()["items"]
        return [(item["promise"], item["kept"]) for item in items if item["clock"] == "resolution"]

    async def restated() -> bool:
        return await resolutions() == [("standard@1", True), ("standard@2", None)]

    await until(restated)
    said = {"direction": "out", "body": "Wir suchen weiter."}
    assert (await doors.admin.post(f"/v1/cases/{case_id}/messages", json=said)).status_code == 201
    await doors.settled()
    assert await restated(), "whatever is heard later"


RARE = {"tz": "UTC", "weekly": {}, "exceptions": {"2031-01-01": [["00:00", "03:00"]]}}


async def test_a_clock_that_is_never_due_is_named_at_its_door_and_on_the_health_page(doors: Casewalk) -> None:
    """No such promise is published; an older record, or a retarget at the calendar's end, can bring one about."""
    assert (await doors.admin.put("/v1/calendars/rare", json=RARE)).status_code == 200
    promise = (await doors.admin.get("/v1/promises/standard")).json()
    refused = await doors.admin.put("/v1/promises/standard", json=of_an_hour(promise, calendar="rare") | {"name": "x"})
    assert refused.status_code == 200, "three hours are enough for one"
    order = {"name": "Rare", "calendar": "rare", "targets": promise["targets"]}
    is_problem(await doors.admin.put("/v1/promises/rare", json=order), 422, "rare@1 has less than 3 days")
    before = (await doors.admin.get("/health/ready")).json()["warnings"]
    host = doors.hosts["escalation"]
    content = PromisePublished.model_validate({"version": 3, "calendar": "rare@1", **only(promise)})
    await host.store.change(PROMISE("promise:standard"), decision=lambda now, _: [New(content)], actor="service:test")
    case_id = await opened(doors)
    clock = (await clocks(doors, case_id))["resolution"]
    assert (clock["state"], clock["due_at"], clock["kept"]) == ("no_working_time", None, None)
    *others, warning = (await doors.admin.get("/health/ready")).json()["warnings"]
    assert others == before
    assert "in calendar rare@1: 1;" in warning
    assert (await doors.admin.post(f"/v1/cases/{case_id}:resolve", json={})).status_code == 200
    await doors.settled()
    assert (await doors.admin.get("/health/ready")).json()["warnings"] == before


async def test_a_calendars_next_version_reaches_clocks_when_the_promise_is_published_again(here: Casewalk) -> None:
    """Not before, and with restate also those that run."""
    hours = {"tz": "UTC", "weekly": {day: [["00:00", "24:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}}
    whole = {"tz": "UTC", "weekly": hours["weekly"] | {day: [["00:00", "24:00"]] for day in ("sat", "sun")}}
    assert (await here.admin.put("/v1/calendars/office", json=hours)).status_code == 200
    order = only((await here.admin.get("/v1/promises/standard")).json()) | {"calendar": "office"}
    order["targets"] = [target | {"target_s": 10 * 86_400} for target in order["targets"]]
    assert (await here.admin.put("/v1/promises/standard", json=order)).status_code == 200
    case_id = await opened(here)
    before = (await clocks(here, case_id))["resolution"]
    assert before["calendar"] == "office@1"
    edited = await here.admin.put("/v1/calendars/office", json=whole)
    assert (edited.status_code, edited.json()["version"]) == (200, 2)
    answered = {"direction": "out", "body": "Wir suchen danach."}
    assert (await here.admin.post(f"/v1/cases/{case_id}/messages", json=answered)).status_code == 201
    await here.settled()
    assert (await clocks(here, case_id))["resolution"]["due_at"] == before["due_at"]
    again = order | {"restate": "restate_open"}
    told = (await here.admin.post("/v1/promises/standard:preview", json=again)).json()
    assert (told["cases"], told["due_moved"]) == (1, 2), "the first response, too, which was given in this episode"
    assert (await here.admin.put("/v1/promises/standard", json=again)).json()["calendar"] == "office@2"

    async def moved() -> bool:
        clock = (await clocks(here, case_id))["resolution"]
        return bool(clock["calendar"] == "office@2" and clock["due_at"] < before["due_at"])

    await until(moved)
