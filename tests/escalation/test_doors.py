"""Escalation's doors, with intake beside it: clocks start and stop, breaches escalate, the unit owns and ends them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine
from tests.escalation.conftest import ESCALATION, INTAKE, SERVICES
from tests.until import until

UNKNOWN_CASE = "0195571e-8a00-7000-8000-00000000dead"

Item = dict[str, Any]


async def opened(here: Casewalk, priority: str = "high", ago: timedelta | None = None) -> str:
    """A case id; the customer came in `ago`, or now."""
    order = {
        "channel": "email",
        "market": "de",
        "language": "de",
        "journey": "delivery",
        "subject": "Wo ist mein Paket?",
        "body": "Es ist noch nicht da.",
        "customer": {"external_id": "crm-1"},
        "priority": priority,
    }
    if ago is not None:
        order["occurred_at"] = (datetime.now(UTC) - ago).isoformat()
    answer = await here.admin.post("/v1/cases", json=order)
    assert answer.status_code == 201, answer.text
    await here.settled()
    return str(answer.json()["case_id"])


async def clocks(here: Casewalk, case_id: str) -> dict[str, Item]:
    """Kind → the clock of the latest episode."""
    answer = await here.admin.get("/v1/clocks", params={"case": case_id})
    assert answer.status_code == 200, answer.text
    return {item["clock"]: item for item in answer.json()["items"]}


async def escalation(here: Casewalk, case_id: str, is_so: Callable[[Item], bool] = lambda item: True) -> Item:
    """The case's escalation, as soon as it is so."""

    async def look() -> Item | None:
        items = (await here.admin.get("/v1/escalations")).json()["items"]
        return next((item for item in items if item["case_id"] == case_id and is_so(item)), None)

    found = await until(look)
    assert found is not None
    return found


def only(promise: Item) -> Item:
    return {name: promise[name] for name in ("name", "targets", "warnings")}


def is_problem(answer: httpx.Response, status: int, why: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert why in answer.json()["detail"]


async def test_what_is_built_in_is_published_at_the_first_start(doors: Casewalk) -> None:
    calendars = (await doors.admin.get("/v1/calendars")).json()["items"]
    always = {"calendar_id": "always", "version": 1, "name": "24×7", "always": True, "tz": None, "valid_from": None}
    assert calendars == [always]
    (promise,) = (await doors.admin.get("/v1/promises")).json()["items"]
    assert (promise["promise_id"], promise["version"], promise["calendar"]) == ("standard", 1, "always@1")
    assert len(promise["targets"]) == 8
    one = await doors.admin.get("/v1/promises/standard")
    assert (one.json(), one.headers["ETag"]) == (promise, '"1"')
    (ladder,) = (await doors.admin.get("/v1/ladders")).json()["items"]
    assert ladder == {
        "ladder_id": "standard",
        "version": 1,
        "unit_id": "escalation",
        "on_breach": ["resolution"],
        "applies": {"markets": [], "journeys": [], "tiers": [], "priorities": []},
        "rungs": [],
    }


async def test_clocks_run_from_the_first_contact_to_the_answer_and_the_resolution(here: Casewalk) -> None:
    case_id = await opened(here, priority="high", ago=timedelta(minutes=10))
    running = await clocks(here, case_id)
    assert running.keys() == {"first_response", "handling", "requester_wait", "resolution", "ownership"}
    first = running["first_response"]
    assert (first["state"], first["kept"], first["target_s"]) == ("running", None, 3600)
    assert (first["promise"], first["calendar"], first["episode"]) == ("standard@1", "always@1", 1)
    assert 600 <= first["elapsed_s"] < 660
    assert first["remaining_s"] == 3600 - first["elapsed_s"]
    answered = {"direction": "out", "body": "Wir suchen danach."}
    assert (await here.admin.post(f"/v1/cases/{case_id}/messages", json=answered)).status_code == 201
    await here.settled()
    after = await clocks(here, case_id)
    assert (after["first_response"]["state"], after["first_response"]["kept"]) == ("stopped", True)
    assert after["resolution"]["state"] == "running"
    assert (await here.admin.post(f"/v1/cases/{case_id}:resolve", json={})).status_code == 200
    assert (await here.admin.post(f"/v1/cases/{case_id}:reopen", json={"reason": "not there"})).status_code == 200
    await here.settled()
    again = (await here.admin.get("/v1/clocks", params={"case": case_id})).json()["items"]
    promised = [item for item in again if item["promise"]]
    assert [(item["clock"], item["episode"], item["state"]) for item in promised] == [
        ("first_response", 1, "stopped"),
        ("resolution", 1, "stopped"),
        ("resolution", 2, "running"),
    ]


async def test_a_breached_case_is_escalated_owned_and_brought_to_an_end(here: Casewalk) -> None:
    case_id = await opened(here, ago=timedelta(hours=100))
    raised = await escalation(here, case_id)
    assert raised["escalation_id"] == f"{case_id}.1"
    assert (raised["status"], raised["unit_id"], raised["owner"]) == ("open", "escalation", None)
    assert (raised["trigger"], raised["ladder"]) == ("resolution", "standard@1")
    breached = (await clocks(here, case_id))["resolution"]
    assert (breached["state"], breached["kept"], breached["remaining_s"]) == ("breached", False, 0)
    olga, paul = await here.key("agent", "olga"), await here.key("agent", "paul")
    path = f"/v1/escalations/{case_id}.1"
    is_problem(await olga.post(f"{path}:resolve", json={}), 409, "acknowledge")
    owned = await olga.post(f"{path}:acknowledge", json={})
    assert (owned.status_code, owned.json()["status"], owned.json()["owner"]) == (200, "acknowledged", "olga")
    is_problem(await paul.post(f"{path}:acknowledge", json={}), 409, "olga")
    is_problem(await paul.post(f"{path}:acknowledge", json={"owner": "olga"}), 403, "paul")
    for _ in range(2):
        solved = await olga.post(f"{path}:resolve", json={"code": "refunded"})
        assert (solved.status_code, solved.json()["outcome"]) == (200, "resolved")

    async def ended() -> bool:
        case = (await here.admin.get(f"/v1/cases/{case_id}")).json()
        clock = (await clocks(here, case_id))["resolution"]
        return (case["category"], clock["state"], clock["kept"]) == ("resolved", "stopped", False)

    await until(ended)


async def test_an_answer_told_late_keeps_the_promise_it_kept(here: Casewalk) -> None:
    case_id = await opened(here, ago=timedelta(hours=100))
    await escalation(here, case_id)
    assert (await clocks(here, case_id))["first_response"]["kept"] is False
    at = datetime.now(UTC) - timedelta(hours=99, minutes=55)
    told = {"direction": "out", "body": "Wir suchen danach.", "occurred_at": at.isoformat()}
    assert (await here.admin.post(f"/v1/cases/{case_id}/messages", json=told)).status_code == 201
    await here.settled()
    first = (await clocks(here, case_id))["first_response"]
    assert (first["state"], first["kept"]) == ("stopped", True)
    assert 290 <= first["elapsed_s"] <= 310


async def test_a_person_asks_for_an_escalation_and_the_unit_hands_it_back(doors: Casewalk) -> None:
    case_id = await opened(doors)
    channel, lead = await doors.key("channel"), await doors.key("lead")
    order = {"case_id": case_id, "reason": "the customer is stranded abroad"}
    asked = await channel.post("/v1/escalations", json=order)
    assert (asked.status_code, asked.json()["escalation_id"]) == (201, f"{case_id}.1")
    assert (asked.json()["trigger"], asked.json()["ladder"]) == ("asked", "standard@1")
    again = await channel.post("/v1/escalations", json=order)
    assert (again.status_code, again.json()) == (200, asked.json())
    is_problem(await lead.post(f"/v1/escalations/{case_id}.1:acknowledge", json={}), 422, "owner")
    owned = await lead.post(f"/v1/escalations/{case_id}.1:acknowledge", json={"owner": "olga"})
    assert owned.json()["owner"] == "olga"
    returned = await lead.post(f"/v1/escalations/{case_id}.1:return", json={"reason": "front line can do it"})
    assert (returned.json()["status"], returned.json()["outcome"]) == ("ended", "returned")
    is_problem(await channel.post("/v1/escalations", json=order), 409, "escalated before")


async def test_the_same_idempotency_key_gives_the_same_answer_and_another_body_is_refused(doors: Casewalk) -> None:
    case_id = await opened(doors)
    order, headers = {"case_id": case_id, "reason": "stranded"}, {"Idempotency-Key": "k-1"}
    first = await doors.admin.post("/v1/escalations", json=order, headers=headers)
    again = await doors.admin.post("/v1/escalations", json=order, headers=headers)
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    other = await doors.admin.post("/v1/escalations", json=order | {"reason": "else"}, headers=headers)
    assert other.status_code == 422


async def test_new_clocks_follow_the_new_promise_and_running_ones_keep_theirs(doors: Casewalk) -> None:
    before = await opened(doors)
    promise = (await doors.admin.get("/v1/promises/standard")).json()
    order = {"name": "Faster", "targets": [target | {"target_s": 60} for target in promise["targets"]]}
    published = await doors.admin.put("/v1/promises/standard", json=order)
    assert (published.status_code, published.json()["version"], published.headers["ETag"]) == (200, 2, '"2"')
    same = await doors.admin.put("/v1/promises/standard", json=order)
    assert same.json() == published.json()
    stale = await doors.admin.put("/v1/promises/standard", json=order | {"name": "x"}, headers={"If-Match": '"1"'})
    is_problem(stale, 412)
    after = await opened(doors)
    assert (await clocks(doors, before))["resolution"]["promise"] == "standard@1"
    assert (await clocks(doors, after))["resolution"]["promise"] == "standard@2"
    assert (await clocks(doors, after))["resolution"]["target_s"] == 60


async def test_a_promise_says_what_starts_stops_and_pauses_it_and_is_answered_as_it_was_published(
    doors: Casewalk,
) -> None:
    nobody = {name: [] for name in ("channels", "markets", "languages", "journeys", "priorities", "tiers")}
    order = {
        "name": "Between units",
        "kind": "internal",
        "targets": [
            {"clock": "ownership", "priority": priority, "target_s": 7200, "tier": None, "market": None}
            for priority in ("low", "normal", "high", "urgent")
        ],
        "warnings": [80],
        "start": nobody | {"markets": ["de", "at"]},
        "stop": nobody | {"tiers": ["staff"]},
        "pauses": [{"clocks": ["ownership"], "categories": ["waiting_customer"], "when": nobody | {"markets": ["de"]}}],
        "restate": "forward_only",
    }
    published = await doors.admin.put("/v1/promises/between-units", json=order)
    assert published.status_code == 200, published.text
    whole = order | {"promise_id": "between-units", "version": 1, "calendar": "always@1"}
    assert published.json() == whole == (await doors.admin.get("/v1/promises/between-units")).json()
    twice = await doors.admin.put("/v1/promises/between-units", json=order | {"warnings": [80, 20]})
    is_problem(twice, 422, "warnings")


async def said_of(here: Casewalk, case_id: str) -> list[str]:
    """The names of the events escalation wrote about the case."""
    events = await here.hosts["escalation"].store.events("casewalk.cases", case_id)
    return [event.data.TYPE.split(".")[2] for event in events]


async def test_two_processes_of_escalation_say_everything_once(engine: Engine, tmp_path: Path) -> None:
    """Both run timers, reactor and restating; when one ends, the other goes on."""
    async with casewalk(engine, tmp_path / "one", SERVICES) as here:
        async with casewalk(engine, tmp_path / "two", (INTAKE, ESCALATION)) as other:
            cases = [await opened(here, ago=timedelta(hours=100)) for _ in range(6)]
            for case_id in cases:
                await escalation(here, case_id)
            await other.settled()
        cases.append(await opened(here, ago=timedelta(hours=100)))
        await escalation(here, cases[-1])
        for case_id in cases:
            said = await said_of(here, case_id)
            assert (said.count("clock_breached"), said.count("escalated")) == (2, 1), case_id


async def test_the_ladder_says_which_breaches_escalate_and_to_whom(doors: Casewalk) -> None:
    unit = await doors.admin.put("/v1/units/swat", json={"name": "SWAT", "kind": "escalation"})
    assert unit.status_code == 200, unit.text
    await doors.settled()
    swat = {"unit_id": "swat", "on_breach": ["first_response"]}
    published = await doors.admin.put("/v1/ladders/standard", json=swat)
    assert (published.status_code, published.json()["version"]) == (200, 2)
    case_id = await opened(doors, ago=timedelta(hours=2))
    raised = await escalation(doors, case_id)
    assert (raised["unit_id"], raised["trigger"], raised["ladder"]) == ("swat", "first_response", "standard@2")


async def test_escalations_are_listed_by_status_page_by_page(doors: Casewalk) -> None:
    cases = [await opened(doors) for _ in range(5)]
    for case_id in cases:
        await doors.admin.post("/v1/escalations", json={"case_id": case_id, "reason": "stranded"})
    await doors.admin.post(f"/v1/escalations/{cases[0]}.1:return", json={"reason": "no"})
    listed: list[str] = []
    url: str | None = "/v1/escalations?status=open&limit=3"
    while url is not None:
        page = await doors.admin.get(url)
        listed += [item["case_id"] for item in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else None
    assert listed == cases[1:]
    ended = (await doors.admin.get("/v1/escalations?status=ended")).json()["items"]
    assert [item["case_id"] for item in ended] == cases[:1]


MAY = {
    "reader": {"read"},
    "channel": {"escalate"},
    "agent": {"read", "escalate", "work"},
    "lead": {"read", "escalate", "work", "publish"},
    "partner": set[str](),
}


async def test_every_role_opens_its_doors_and_no_others(doors: Casewalk) -> None:
    for role, may in MAY.items():
        key = await doors.key(role, "olga" if role in ("agent", "partner") else None)
        path, ladder = f"/v1/escalations/{UNKNOWN_CASE}.1", {"unit_id": "escalation", "on_breach": []}
        answers = {
            "read": [await key.get("/v1/promises"), await key.get("/v1/escalations")],
            "escalate": [await key.post("/v1/escalations", json={"case_id": UNKNOWN_CASE, "reason": "?"})],
            "work": [
                await key.post(f"{path}:acknowledge", json={"owner": "olga"}),
                await key.post(f"{path}:resolve", json={}),
                await key.post(f"{path}:return", json={"reason": "?"}),
            ],
            "publish": [await key.put("/v1/ladders/other", json=ladder)],
        }
        for what, said in answers.items():
            assert {answer.status_code != 403 for answer in said} == {what in may}, (role, what)
    assert (await (await doors.client(None)).get("/v1/promises")).status_code == 401


BAD: list[tuple[str, str, object, int]] = [
    ("GET", "/v1/clocks", None, 422),
    ("GET", "/v1/clocks?case=nonsense", None, 422),
    ("GET", "/v1/escalations?status=lost", None, 422),
    ("GET", "/v1/escalations?limit=0", None, 422),
    ("GET", "/v1/escalations?cursor=bm9uc2Vuc2U", None, 422),
    ("GET", "/v1/escalations?cursor=WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzE0OjAwIiwgIngiXQ", None, 422),
    ("GET", "/v1/promises/none", None, 404),
    ("GET", "/v1/promises/%00", None, 422),
    ("GET", "/v1/ladders/none", None, 404),
    ("POST", "/v1/escalations", {"case_id": UNKNOWN_CASE, "reason": "?"}, 404),
    ("POST", "/v1/escalations", {"case_id": UNKNOWN_CASE, "reason": "a\x00b"}, 422),
    ("POST", "/v1/escalations", {"case_id": UNKNOWN_CASE, "reason": "?", "extra": 1}, 422),
    ("POST", f"/v1/escalations/{UNKNOWN_CASE}.1:acknowledge", {"owner": "olga"}, 404),
    ("POST", f"/v1/escalations/{UNKNOWN_CASE}.99999999999:resolve", {}, 422),
    ("PUT", "/v1/promises/standard", {"name": "Less", "targets": []}, 422),
    ("PUT", "/v1/promises/x", {"name": "x", "calendar": "lunar", "targets": [{}]}, 422),
    ("PUT", "/v1/ladders/standard", {"unit_id": "two words"}, 422),
    ("PUT", "/v1/ladders/standard", {"unit_id": "nowhere"}, 422),
    ("PUT", "/v1/ladders/standard", {"unit_id": "general"}, 422),
    ("PUT", "/v1/ladders/standard", {}, 422),
    ("PUT", "/v1/ladders/standard", {"rungs": [], "on_breach": ["resolution"]}, 422),
    ("PUT", "/v1/ladders/standard", {"rungs": [{"rung": "x", "unit_id": "escalation"}]}, 422),
    ("PUT", "/v1/ladders/standard", {"rungs": [{"rung": "x", "unit_id": "escalation"}], "unit_id": "x"}, 422),
    ("GET", "/v1/rotas/none", None, 404),
    ("GET", "/v1/rotas/none:on-duty", None, 404),
    ("GET", "/v1/rotas/none:on-duty?at=yesterday", None, 422),
    ("PUT", "/v1/rotas/swat", {"tz": "Europe/Atlantis", "weekly": []}, 422),
    ("PUT", "/v1/rotas/swat", {"tz": "UTC", "weekly": [{"days": ["mon"], "opens": "9:00", "closes": "18:00"}]}, 422),
    ("PUT", "/v1/rotas/swat", {"tz": "UTC", "weekly": [{"days": [], "opens": "09:00", "closes": "18:00"}]}, 422),
    (
        "PUT",
        "/v1/rotas/swat",
        {"tz": "UTC", "dated": [{"date": "2026-02-30", "opens": "09:00", "closes": "18:00"}]},
        422,
    ),
]


async def test_bad_input_is_answered_with_a_problem_and_changes_nothing(doors: Casewalk) -> None:
    events = "select count(*) from events"
    before = await doors.hosts["escalation"].database.readers.fetchval(events)
    for method, path, body, status in BAD:
        is_problem(await doors.admin.request(method, path, json=body), status)
    assert await doors.hosts["escalation"].database.readers.fetchval(events) == before


async def test_the_examples_of_the_documentation_work(doors: Casewalk) -> None:
    shapes = (await doors.admin.get("/openapi.json")).json()["components"]["schemas"]
    case_id = await opened(doors)

    async def send(method: str, path: str, shape: str, **changes: object) -> int:
        answer = await doors.admin.request(method, path, json=shapes[shape]["examples"][0] | changes)
        assert answer.status_code in (200, 201), answer.text
        return answer.status_code

    await send("PUT", "/v1/promises/standard", "PromiseOrder")
    await send("PUT", "/v1/ladders/standard", "LadderOrder")
    assert await send("POST", "/v1/escalations", "EscalateOrder", case_id=case_id) == 201
    await send("POST", f"/v1/escalations/{case_id}.1:acknowledge", "AcknowledgeOrder")


async def test_every_view_equals_its_replay(here: Casewalk) -> None:
    case_id = await opened(here, ago=timedelta(hours=100))
    await escalation(here, case_id)
    await opened(here)
    replay = here.hosts["escalation"].replay
    for view in replay.named("all"):
        assert (await replay.verify(view)).equal, view.name
