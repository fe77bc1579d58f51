"""The router's doors: who may come in, what is published, what agents answer, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from events.operations import AgentRegistered, Role
from services.router.api import organigram as organigram_doors
from services.router.api import tables, work
from tests.router.world import World

CASE = "/v1/work/0195571e-8a00-7000-8000-000000000001"
UNIT = {"name": "Care", "kind": "front_end"}
QUEUE = {"name": "Care", "unit_id": "general"}
AGENT = {"name": "Anna Åkesson", "unit_ids": ["general"], "capacity": 2}
TABLE = {"rules": [{"rule": "default", "queue_id": "general"}]}

LEADS: list[tuple[str, str, Any]] = [
    ("PUT", "/v1/units/care", UNIT),
    ("PUT", "/v1/queues/care", QUEUE),
    ("PUT", "/v1/agents/anna", AGENT),
    ("GET", "/v1/agents", None),
    ("PUT", "/v1/routing-tables/main", TABLE),
]
READERS: list[tuple[str, str, Any]] = [
    (method, path, None)
    for method, path in (
        ("GET", "/v1/units"),
        ("GET", "/v1/queues"),
        ("GET", "/v1/routing-tables/main"),
        ("GET", "/v1/work"),
        ("GET", CASE),
    )
]
AGENTS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/agents/anna:presence", {"presence": "away"}),
    ("POST", f"{CASE}:accept", {}),
    ("POST", f"{CASE}:decline", {}),
    ("POST", f"{CASE}:transfer", {"queue_id": "general", "reason": "r"}),
    ("POST", f"{CASE}:release", {"reason": "r"}),
]


async def put(world: World, path: str, body: dict[str, Any]) -> dict[str, Any]:
    return await world.did(world.lead.put(path, json=body))


def refused(answer: httpx.Response, status: int, sentence: str = "") -> None:
    """It is a problem document of this status whose detail holds the sentence."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert sentence in answer.json()["detail"], answer.text


# ----------------------------------------------------------------------------------------------------------------- keys


async def test_every_door_opens_for_its_roles_and_for_no_other(here: World) -> None:
    nobody = await here.client(None)
    clients = {role: await here.client(role, "anna") for role in Role}
    open_for = {
        **{door[:2]: {Role.LEAD} for door in LEADS},
        **{door[:2]: {Role.LEAD, Role.AGENT, Role.READER} for door in READERS},
        **{door[:2]: {Role.LEAD, Role.AGENT} for door in AGENTS},
    }
    for method, path, body in (*LEADS, *READERS, *AGENTS):
        refused(await nobody.request(method, path, json=body), 401)
        for role, client in clients.items():
            answer = await client.request(method, path, json=body)
            allowed = role is Role.ADMIN or role in open_for[method, path]
            assert (answer.status_code != 403) is allowed, (method, path, role, answer.text)


async def test_an_agents_key_acts_for_its_holder_only(here: World) -> None:
    await here.agent("anna")
    await here.agent("ben", capacity=1, level=9)
    case_id = await here.open_case()
    await here.until(case_id, status="offered", agent_id="anna")
    anna, ben = await here.client(Role.AGENT, "anna"), await here.client(Role.AGENT, "ben")

    for verb, body in (("accept", {}), ("decline", {}), ("release", {"reason": "r"})):
        answer = await ben.post(f"/v1/work/{case_id}:{verb}", json={**body, "agent_id": "anna"})
        refused(answer, 403, "acts for its holder only")
    refused(await ben.post("/v1/agents/anna:presence", json={"presence": "away"}), 403)
    refused(await ben.get("/v1/work", params={"agent": "anna"}), 403)
    refused(await ben.post(f"/v1/work/{case_id}:accept", json={}), 409, "not offered to agent ben")
    assert (await here.did(ben.get("/v1/work")))["items"] == []
    assert [item["case_id"] for item in (await here.did(anna.get("/v1/work")))["items"]] == [case_id]
    assert (await here.did(anna.post(f"/v1/work/{case_id}:accept", json={})))["status"] == "assigned"


# ----------------------------------------------------------------------------------------------------------- publishing


async def test_the_router_routes_from_its_first_start(here: World) -> None:
    units = (await here.did(here.lead.get("/v1/units")))["items"]
    (queue,) = (await here.did(here.lead.get("/v1/queues")))["items"]
    table = await here.did(here.lead.get("/v1/routing-tables/main"))

    assert [(unit["unit_id"], unit["kind"]) for unit in units] == [
        ("escalation", "escalation"),
        ("general", "front_end"),
    ]
    assert (queue["queue_id"], queue["unit_id"], queue["waiting"], queue["waiting_since"]) == (
        "general",
        "general",
        0,
        None,
    )
    assert (table["version"], [rule["queue_id"] for rule in table["rules"]]) == (1, ["general"])


async def test_each_publication_is_a_version_that_reads_back_and_the_same_again_is_none(here: World) -> None:
    for path, body, other in (
        ("/v1/units/care", UNIT, {**UNIT, "markets": ["de"]}),
        ("/v1/queues/care", QUEUE, {**QUEUE, "level": 2}),
        ("/v1/agents/anna", AGENT, {**AGENT, "name": "Anna Berg"}),
        ("/v1/agents/ben", AGENT, {**AGENT, "skills": {"languages": ["sv"]}}),
    ):
        first, again = await here.lead.put(path, json=body), await here.lead.put(path, json=body)
        changed = await here.lead.put(path, json=other)
        assert [answer.json()["version"] for answer in (first, again, changed)] == [1, 1, 2]
        assert [answer.headers["etag"] for answer in (first, again, changed)] == ['"1"', '"1"', '"2"']
        assert first.headers["casewalk-position"] == again.headers["casewalk-position"]

    (care,) = [u for u in (await here.did(here.lead.get("/v1/units")))["items"] if u["unit_id"] == "care"]
    (queue,) = [q for q in (await here.did(here.lead.get("/v1/queues")))["items"] if q["queue_id"] == "care"]
    anna, ben = (await here.did(here.lead.get("/v1/agents")))["items"]
    assert (care["markets"], queue["level"], queue["offer_s"]) == (["de"], 2, 60)
    assert (anna["name"], anna["capacity"], anna["load"], anna["presence"]) == ("Anna Berg", 2, 0, "offline")
    assert (ben["name"], ben["skills"]["languages"]) == ("Anna Åkesson", ["sv"])


async def test_an_agents_name_is_nowhere_in_clear(here: World) -> None:
    await put(here, "/v1/agents/anna", AGENT)

    readers = here.router.database.readers
    stored = await readers.fetch("select data from events where type = $1", AgentRegistered.TYPE)
    shown = await readers.fetch("select name from agents")
    assert len(stored) == len(shown) == 1
    assert "kesson" not in stored[0]["data"] + shown[0]["name"]


async def test_what_could_not_work_is_not_published(here: World) -> None:
    await put(here, "/v1/units/training", {"name": "Training", "kind": "enabler"})
    one = {"rule": "de", "when": {"markets": ["de"]}, "queue_id": "general"}
    for path, body, why in (
        ("/v1/queues/care", {**QUEUE, "unit_id": "nowhere"}, "there is no unit nowhere"),
        ("/v1/queues/care", {**QUEUE, "unit_id": "training"}, "handles no cases"),
        ("/v1/agents/anna", {**AGENT, "unit_ids": ["nowhere"]}, "there is no unit nowhere"),
        ("/v1/routing-tables/main", {"rules": [one]}, "has a condition"),
        ("/v1/routing-tables/main", {"rules": [{"rule": "all", "queue_id": "nowhere"}]}, "does not exist"),
    ):
        refused(await here.lead.put(path, json=body), 422, why)
    assert [q["queue_id"] for q in (await here.did(here.lead.get("/v1/queues")))["items"]] == ["general"]
    refused(await here.lead.post("/v1/agents/nobody:presence", json={"presence": "busy"}), 404, "no agent nobody")


async def test_a_version_published_on_an_outdated_one_is_refused(here: World) -> None:
    etag = (await here.lead.get("/v1/routing-tables/main")).headers["etag"]
    rules = [{"rule": "urgent", "when": {"priorities": ["urgent"]}, "queue_id": "general"}, *TABLE["rules"]]
    outcomes = await asyncio.gather(
        *(
            here.lead.put("/v1/routing-tables/main", json={"rules": rules[n:]}, headers={"If-Match": etag})
            for n in (0, 0, 0)
        )
    )

    assert sorted(answer.status_code for answer in outcomes) == [200, 412, 412]
    assert (await here.did(here.lead.get("/v1/routing-tables/main")))["version"] == 2


# ----------------------------------------------------------------------------------------------------------------- work


async def test_of_two_who_accept_on_the_same_version_one_wins(here: World) -> None:
    await here.agent("anna")
    case_id = await here.open_case()
    await here.until(case_id, status="offered")
    etag = (await here.lead.get(f"/v1/work/{case_id}")).headers["etag"]

    async def accept(agent_id: str) -> int:
        path, headers = f"/v1/work/{case_id}:accept", {"If-Match": etag}
        return (await here.lead.post(path, json={"agent_id": agent_id}, headers=headers)).status_code

    assert sorted(await asyncio.gather(accept("anna"), accept("anna"))) == [200, 412]
    assert await accept("ben") == 412


async def test_an_offer_has_one_owner_whoever_else_answers_at_the_same_time(here: World) -> None:
    await here.agent("anna")
    case_id = await here.open_case()
    offered = await here.until(case_id, status="offered")

    async def accept(agent_id: str) -> httpx.Response:
        return await here.lead.post(
            f"/v1/work/{case_id}:accept", json={"agent_id": agent_id, "offer_id": offered["offer_id"]}
        )

    answers = await asyncio.gather(*(accept(name) for name in ("ben", "anna", "carl", "anna")))

    assert [answer.status_code for answer in answers] == [409, 200, 409, 200]
    assert (await here.work(case_id))["agent_id"] == "anna"


async def test_the_same_key_gives_the_same_answer_and_another_body_is_refused(here: World) -> None:
    await here.agent("anna")
    case_id = await here.open_case()
    await here.until(case_id, status="offered")
    path, headers = f"/v1/work/{case_id}:decline", {"Idempotency-Key": "k-1"}

    first, again = [await here.lead.post(path, json={"agent_id": "anna"}, headers=headers) for _ in range(2)]

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json()["declined_by"] == ["anna"]
    other = {"agent_id": "anna", "reason": "another"}
    refused(await here.lead.post(path, json=other, headers=headers), 422, "Idempotency-Key")


async def test_an_owner_moves_a_case_and_a_lead_may_move_what_waits(here: World) -> None:
    await put(here, "/v1/units/refunds", {"name": "Refunds", "kind": "back_end"})
    await put(here, "/v1/queues/refunds", {"name": "Refunds", "unit_id": "refunds"})
    await here.agent("anna", capacity=1)
    anna = await here.client(Role.AGENT, "anna")
    case_id = await here.open_case()
    await here.until(case_id, status="offered")
    await here.did(anna.post(f"/v1/work/{case_id}:accept", json={}))

    moved = await here.did(
        anna.post(f"/v1/work/{case_id}:transfer", json={"queue_id": "refunds", "reason": "money back"})
    )
    assert (moved["status"], moved["queue_id"], moved["unit_kind"], moved["agent_id"]) == (
        "waiting",
        "refunds",
        "back_end",
        None,
    )
    refused(await anna.post(f"/v1/work/{case_id}:release", json={"reason": "r"}), 409, "waits in the queue refunds")
    back = await here.did(here.lead.post(f"/v1/work/{case_id}:transfer", json={"queue_id": "general", "reason": "no"}))
    assert back["queue_id"] == "general"
    await here.until(case_id, status="offered", agent_id="anna")
    refused(await here.lead.post(f"/v1/work/{case_id}:accept", json={}), 422, "agent_id")
    refused(
        await here.lead.post(f"/v1/work/{case_id}:transfer", json={"queue_id": "nowhere", "reason": "r"}),
        404,
        "nowhere",
    )


async def test_a_released_case_is_offered_to_somebody_else(here: World) -> None:
    await here.agent("anna")
    case_id = await here.open_case()
    await here.until(case_id, status="offered")
    await here.did(here.lead.post(f"/v1/work/{case_id}:accept", json={"agent_id": "anna"}))
    await here.agent("ben", level=9)

    await here.did(here.lead.post(f"/v1/work/{case_id}:release", json={"reason": "end of shift"}))

    await here.until(case_id, status="offered", agent_id="ben")


async def test_lists_come_in_pages_that_link_to_the_next(here: World) -> None:
    cases = {await here.open_case(priority=priority) for priority in ("low", "urgent", "normal", "normal", "high")}
    for case_id in cases:
        await here.until(case_id, status="waiting")
    await put(here, "/v1/units/care", UNIT)

    items = await _all_pages(here.lead, "/v1/work?limit=2&queue=general")
    assert [item["priority"] for item in items] == ["urgent", "high", "normal", "normal", "low"]
    assert {item["case_id"] for item in items} == cases
    assert await _all_pages(here.lead, "/v1/work?queue=nowhere") == []
    units = [unit["unit_id"] for unit in await _all_pages(here.lead, "/v1/units?limit=1")]
    assert units == ["care", "escalation", "general"]
    (queue,) = await _all_pages(here.lead, "/v1/queues")
    assert queue["waiting"] == 5
    assert queue["waiting_since"] == min(item["enqueued_at"] for item in items)


async def _all_pages(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    next_path: str | None = path
    while next_path is not None:
        answer = await client.get(next_path)
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        next_path = str(answer.links["next"]["url"]) if "next" in answer.links else None
    return items


# ------------------------------------------------------------------------------------------------------------ bad input


async def test_bad_input_gets_a_problem_document_and_changes_nothing(here: World) -> None:
    case_id = await here.open_case()
    await here.until(case_id, status="waiting")
    before = await here.router.database.readers.fetchval("select count(*) from events")
    work_path, other = f"/v1/work/{case_id}", f"/v1/work/{uuid4()}"
    reason = {"reason": "r"}
    for method, path, body, statuses in (
        ("GET", other, None, {404}),
        ("POST", f"{other}:accept", {"agent_id": "anna"}, {404}),
        ("POST", f"{other}:release", reason, {404}),
        ("POST", f"{other}:transfer", {**reason, "queue_id": "general"}, {404}),
        ("GET", "/v1/work/NOT-A-CASE", None, {422}),
        ("GET", "/v1/work/%00", None, {422}),
        ("GET", "/v1/work?limit=0", None, {422}),
        ("GET", f"/v1/work?limit={2**70}", None, {422}),
        ("GET", "/v1/work?status=done", None, {422}),
        ("GET", "/v1/work?agent=%00", None, {422}),
        ("GET", "/v1/work?cursor=x", None, {422}),
        ("GET", "/v1/work?cursor=WyI5OTk5OTk5OTk5OTk5OTk5OTk5OTkiLCAieCIsICJ5Il0", None, {422}),
        ("GET", "/v1/work?cursor=WyIxIiwgIjIwMjYtMDEtMDFUMDA6MDA6MDAiLCAieSJd", None, {422}),
        ("GET", "/v1/units?cursor=WzFd", None, {422}),
        ("POST", f"{work_path}:accept", {"agent_id": "anna", "offer": "x"}, {422}),
        ("POST", f"{work_path}:accept", {"agent_id": "an\x00na"}, {422}),
        ("POST", f"{work_path}:accept", [], {422}),
        ("POST", f"{work_path}:release", {"reason": ""}, {422}),
        ("POST", f"{work_path}:release", {"reason": "a\x00b"}, {422}),
        ("POST", f"{work_path}:transfer", {"queue_id": "general", "reason": "x" * 201}, {422}),
        ("PUT", "/v1/units/%20", UNIT, {422}),
        ("PUT", "/v1/units/care", {**UNIT, "kind": "moon"}, {422}),
        ("PUT", "/v1/units/care", {**UNIT, "surprise": 1}, {422}),
        ("PUT", "/v1/queues/care", {**QUEUE, "offer_s": 0}, {422}),
        ("PUT", "/v1/queues/care", {**QUEUE, "level": 2**70}, {422}),
        ("PUT", "/v1/agents/anna", {**AGENT, "capacity": 0}, {422}),
        ("PUT", "/v1/agents/anna", {**AGENT, "name": "a\nb"}, {422}),
        ("PUT", "/v1/routing-tables/main", {"rules": []}, {422}),
        ("PUT", "/v1/routing-tables/other", TABLE, {404, 405}),
    ):
        answer = await here.lead.request(method, path, json=body)
        assert answer.status_code in statuses, (method, path, body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    for raw in (b"{", b'{"reason": "\\ud800"}', b"\xff\xfe"):
        answer = await here.lead.post(f"{work_path}:release", content=raw, headers={"content-type": "application/json"})
        assert answer.status_code in {400, 422}, answer.text
    lone = {"content-type": "application/json"}
    name = b'{"name": "\\ud800", "unit_ids": ["general"], "capacity": 1}'
    assert (await here.lead.put("/v1/agents/anna", content=name, headers=lone)).status_code == 422
    assert await here.router.database.readers.fetchval("select count(*) from events") == before


# -------------------------------------------------------------------------------------------------------------- OpenAPI


ORDERS = [
    order
    for room in (organigram_doors, tables, work)
    for order in vars(room).values()
    if isinstance(order, type)
    and "examples" in (getattr(order, "model_config", None) or {}).get("json_schema_extra", {})
]


@pytest.mark.parametrize("order", ORDERS)
def test_the_example_of_a_request_is_a_good_request(order: Any) -> None:
    for example in order.model_config["json_schema_extra"]["examples"]:
        order.model_validate(example)


async def test_every_door_says_what_it_is_for_and_what_it_takes(here: World) -> None:
    document = here.app.openapi()
    ours = {
        (path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation["tags"] == ["router"]
    }
    assert len(ours) == len(LEADS) + len(READERS) + len(AGENTS)
    for door, operation in ours.items():
        assert operation["summary"], door
        assert operation["description"], door
        body = operation.get("requestBody")
        if body is not None:
            reference = body["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
            assert document["components"]["schemas"][reference]["examples"], door
