"""Every door of the whole application: who may enter, what is documented, and what bad input cannot do.

A new door needs a line in `tests/doors/roles.py`, and one that takes a body a step in `tests/doors/town.py`; all that
is tried here is then tried at it, too.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from events.event import CASES as CASES_TOPIC
from events.operations import Role
from events.store import position
from services.every import SERVICES
from services.limits import BODY_BYTES, IMPORT_BYTES
from tests.casewalk import ADMIN_KEY
from tests.conftest import Postgres
from tests.doors import bad, fuzz
from tests.doors.roles import OPEN, OTHERS, ROLES, Others
from tests.doors.town import (
    CASES,
    IDS,
    STEPS,
    UNKNOWN,
    UNKNOWN_CASE,
    Step,
    Town,
    case,
    operations,
    played,
    schema,
)

QUERIES = {"GET /v1/clocks": {"case": case("desk")}, "POST /v1/imports": {"profile": "vinst"}}
QUERIES["GET /v1/calendars/{calendar_id}:add"] = {"start": "2026-03-27T16:30:00+01:00", "duration": "PT8H"}
QUERIES["GET /v1/calendars/{calendar_id}:between"] = {"start": "2026-03-27T00:00:00Z", "end": "2026-03-30T00:00:00Z"}
"""What a door must be asked."""

UNKNOWN_IDS = {**dict.fromkeys(IDS, UNKNOWN), "case_id": UNKNOWN_CASE, "escalation_id": f"{UNKNOWN_CASE}.1"}
UNKNOWN_IDS |= {
    "effect_id": UNKNOWN_CASE,
    "position": str(2**53),
    "view": "nothing",
    "type": "casewalk.case.vanished.v1",
}

JUNK = ("%00", "%20", "a%00b", "%ED%A0%80", "%F0%9F%98%80", "a" * 300, "a%2F..%2Fb", "-1", "A'--")
"""What no id looks like, as it stands in a path."""

WRONG_PARTS: tuple[Any, ...] = ("\x00", "\ud800", float("inf"), 1e300, 2**63, None, {}, [])

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
async def town(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """One for all tests here: none of them leaves a trace, but the last ones."""
    async with played(postgres, tmp_path_factory.mktemp("doors"), SERVICES) as town:
        yield town


@pytest.fixture(scope="module")
async def clients(town: Town) -> dict[Role, httpx.AsyncClient]:
    """One with a key of each role; the agent's is Ana's, the partner's Nordfix's."""
    holders = {Role.AGENT: "ana", Role.PARTNER: "nordfix"}
    return {role: await town.world.key(role, holders.get(role)) for role in Role}


def path(door: str, **ids: str) -> str:
    """Where the door is."""
    return door.partition(" ")[2].format(**{**IDS, **ids})


async def knock(client: httpx.AsyncClient, door: str) -> httpx.Response:
    """Ask for nothing that could be done."""
    body = None if door.startswith(("GET", "DELETE")) else {"surprise": 1}
    return await client.request(door.partition(" ")[0], path(door), params=QUERIES.get(door), json=body)


def refusal(answer: httpx.Response) -> str | None:
    """What is wrong with a refusal: None if it is a problem document of its own status."""
    if answer.headers.get("content-type") != "application/problem+json":
        return f"{answer.status_code} as {answer.headers.get('content-type')}: {answer.text[:200]}"
    problem = answer.json()
    if problem["status"] != answer.status_code or not problem["detail"] or not problem["type"].startswith("/problems/"):
        return f"{answer.status_code} says {problem}"
    return None


# --------------------------------------------------------------------------------------------------- what is documented


def test_every_door_has_its_line_in_the_tables(town: Town) -> None:
    documented = operations(town.document)
    assert set(documented) == set(ROLES) | OPEN
    assert {door for door in documented if schema(town.document, door)} == {step.door for step in STEPS}


def test_every_door_says_what_it_is_for_and_how_it_refuses(town: Town) -> None:
    for door, operation in operations(town.document).items():
        assert operation["tags"], door
        assert operation["summary"], door
        assert operation["description"], door
        for status in ("400", "401", "403", "404", "405", "408", "409", "412", "413", "415", "422", "429", "503"):
            assert "application/problem+json" in operation["responses"][status]["content"], (door, status)
        assert bool(operation.get("security")) is (door not in OPEN), door


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.door)
def test_a_documented_example_works(town: Town, step: Step) -> None:
    answer = town.answers[step.door]
    assert answer.status_code in (200, 201), answer.text
    assert str(answer.status_code) in operations(town.document)[step.door]["responses"]
    assert ("Casewalk-Position" in answer.headers) is not step.asks
    assert ("ETag" in answer.headers) is not step.asks


# -------------------------------------------------------------------------------------------------------- who may enter


async def test_without_a_key_nobody_enters(town: Town) -> None:
    """Nor hears what else would be wrong with the request."""
    nobody, stranger = await town.world.client(None), await town.world.client("cw_" + "x" * 43)
    nobody.headers["If-Match"] = "no version"
    for door in ROLES:
        for client in (nobody, stranger):
            answer = await knock(client, door)
            assert answer.status_code == 401, (door, answer.text)
            assert answer.headers["WWW-Authenticate"] == "Bearer", door
            assert refusal(answer) is None, door


async def test_without_a_key_it_is_said_whether_casewalk_runs_and_what_it_speaks(town: Town) -> None:
    nobody = await town.world.client(None)
    for door in OPEN:
        assert (await knock(nobody, door)).status_code == 200, door


async def test_every_role_opens_its_doors_and_no_others(town: Town, clients: dict[Role, httpx.AsyncClient]) -> None:
    before = await town.events()
    for door, roles in ROLES.items():
        for role, client in clients.items():
            answer = await knock(client, door)
            assert (answer.status_code not in (401, 403)) is (role in roles), (door, role, answer.text)
            assert answer.status_code < 500, (door, role, answer.text)
            if role not in roles:
                assert refusal(answer) is None, (door, role)
    assert await town.events() == before


async def test_a_revoked_key_opens_nothing(town: Town) -> None:
    issued = (await town.admin.post("/v1/keys", json={"role": "admin", "label": "lost"})).json()
    revoked = await town.admin.delete(f"/v1/keys/{issued['key_id']}")
    for host in town.world.hosts.values():
        await host.wait_for(revoked.headers["Casewalk-Position"])
    finder = await town.world.client(issued["secret"])
    for door in ROLES:
        answer = await knock(finder, door)
        assert answer.status_code == 401, (door, answer.text)
        assert answer.headers["WWW-Authenticate"] == "Bearer", door


# ------------------------------------------------------------------------------------------ what a key's holder may see

STRANGERS = {Role.AGENT: ("tom",), Role.PARTNER: ("swift", "stranger")}
"""Whose keys are tried at what is Ana's and Nordfix's."""


def test_every_door_of_an_agent_or_partner_says_what_it_does_with_what_is_anothers() -> None:
    for role, rules in OTHERS.items():
        assert set(rules) == {door for door, roles in ROLES.items() if role in roles}, role


@pytest.mark.parametrize(
    ("role", "holder", "door", "rule"),
    [
        pytest.param(role, holder, door, rule, id=f"{holder} {door}")
        for role, rules in OTHERS.items()
        for holder in STRANGERS[role]
        for door, rule in rules.items()
        if rule is not Others.SHARED
    ],
)
async def test_what_is_anothers_is_closed(town: Town, role: Role, holder: str, door: str, rule: Others) -> None:
    stranger, before = await town.world.key(role, holder), await town.events()
    step, held = next((step for step in STEPS if step.door == door), None), "there" if role is Role.PARTNER else "held"
    body = None if step is None else {name: value for name, value in town.other(step).items() if name != "agent_id"}
    for partner_id in ("nordfix", holder) if "{case_id}" in door else ("nordfix",):
        ids = {"agent_id": "ana", "partner_id": partner_id, "case_id": case(held)} | (dict(step.fresh) if step else {})
        answer = await stranger.request(door.partition(" ")[0], path(door, **ids), json=body)
        match rule:
            case Others.CLOSED:
                assert answer.status_code in (403, 404), answer.text
                assert refusal(answer) is None
            case Others.NOT_THEIRS:
                assert answer.status_code == 409, answer.text
                assert f"agent {holder}" in answer.json()["detail"], answer.text
                assert refusal(answer) is None
            case Others.NOT_LISTED:
                assert answer.json()["items"] == []
            case Others.WITHOUT_TEXTS:
                told = answer.json()
                assert answer.status_code == 200, answer.text
                assert all(told["customer"][name] == {"redacted": "not_yours"} for name in ("name", "email"))
                assert told["title"] == told["body"] == {"redacted": "not_yours"}
    assert await town.events() == before


async def test_a_partner_is_shown_its_own_cases_only(town: Town, clients: dict[Role, httpx.AsyncClient]) -> None:
    there, elsewhere = case("there"), case("desk")
    stranger = await town.world.key("partner", "stranger")
    shown = {item["case_id"] for item in (await clients[Role.PARTNER].get("/v1/cases")).json()["items"]}
    assert there in shown
    assert elsewhere not in shown
    assert (await clients[Role.PARTNER].get(f"/v1/cases/{there}")).status_code == 200
    assert (await clients[Role.PARTNER].get(f"/v1/cases/{elsewhere}")).status_code == 404
    assert (await stranger.get("/v1/cases")).json()["items"] == []


async def test_an_agents_key_acts_for_its_holder_only(town: Town, clients: dict[Role, httpx.AsyncClient]) -> None:
    ana, before, tried = clients[Role.AGENT], await town.events(), 0
    for step in CASES:
        for name in ("agent_id", "owner"):
            properties = (schema(town.document, step.door) or {})["properties"]
            if Role.AGENT in ROLES[step.door] and name in properties:
                answer = await ana.post(step.path(step.fresh), json=town.other(step) | {name: "tom"})
                assert answer.status_code == 403, (step.door, answer.text)
                assert refusal(answer) is None, step.door
                tried += 1
    assert tried == 5
    assert (await ana.post("/v1/agents/tom:presence", json={"presence": "away"})).status_code == 403
    assert (await ana.get("/v1/work?agent=tom")).status_code == 403
    assert {item["agent_id"] for item in (await ana.get("/v1/work")).json()["items"]} == {"ana"}
    assert await town.events() == before


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.door)
async def test_a_bad_body_gets_a_problem_and_changes_nothing(town: Town, step: Step) -> None:
    found = schema(town.document, step.door)
    assert found is not None
    before, wrong = await town.events(), []
    for one in bad.bodies(town.document, found, town.other(step)):
        answer = await town.admin.request(step.method, step.path(step.fresh), content=one.content, headers=JSON)
        if answer.status_code not in one.statuses:
            wrong.append(f"{one.what}: {answer.status_code} {answer.text[:200]}")
        elif unlike := refusal(answer):
            wrong.append(f"{one.what}: {unlike}")
    assert not wrong, "\n".join(wrong)
    assert await town.events() == before


async def test_a_body_that_never_ends_is_cut_off(town: Town) -> None:
    async def endless() -> AsyncIterator[bytes]:
        sent = 0
        while True:
            assert sent <= 2 * IMPORT_BYTES, "read on and on"
            sent += BODY_BYTES // 2
            yield b" " * (BODY_BYTES // 2)

    before = await town.events()
    for step in STEPS:
        answer = await town.admin.request(step.method, step.path(step.fresh), content=endless(), headers=JSON)
        assert answer.status_code == 413, (step.door, answer.text)
        assert refusal(answer) is None, step.door
    rows = {"Content-Type": "application/x-ndjson"}
    answer = await town.admin.post("/v1/imports?profile=vinst", content=endless(), headers=rows)
    assert answer.status_code == 413, answer.text
    assert refusal(answer) is None
    assert await town.events() == before


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", ""])
async def test_a_body_of_another_type_is_not_read(town: Town, content_type: str) -> None:
    before = await town.events()
    for step in STEPS:
        content = json.dumps(town.other(step)).encode()
        headers = {"Content-Type": content_type} if content_type else {}
        answer = await town.admin.request(step.method, step.path(step.fresh), content=content, headers=headers)
        assert answer.status_code in (415, 422), (step.door, answer.text)
        assert refusal(answer) is None, step.door
    answer = await town.admin.post("/v1/imports?profile=vinst", content=b"{}\n")
    assert answer.status_code == 415
    assert await town.events() == before


@pytest.mark.parametrize("step", [step for step in STEPS if step.refers], ids=lambda step: step.door)
async def test_an_order_that_names_what_is_not_there_is_refused(town: Town, step: Step) -> None:
    before = await town.events()
    for name in step.refers:
        unknown: Any = UNKNOWN_CASE if name == "case_id" else UNKNOWN
        body = town.other(step) | {name: [unknown] if name.endswith("ids") else unknown}
        answer = await town.admin.request(step.method, step.path(step.fresh), json=body)
        assert answer.status_code in (404, 409, 422), answer.text
        assert refusal(answer) is None
    assert await town.events() == before


async def test_nothing_is_found_under_an_unknown_id(town: Town) -> None:
    before, steps = await town.events(), {step.door: step for step in STEPS}
    for door in ROLES.keys() | OPEN:
        method, _, template = door.partition(" ")
        if "{" not in template or method == "PUT" or template.endswith(":preview"):  # what is not there yet
            continue
        body = town.other(steps[door]) if door in steps else None
        answer = await town.admin.request(method, template.format(**UNKNOWN_IDS), params=QUERIES.get(door), json=body)
        assert answer.status_code == (422 if "{view}" in template else 404), (door, answer.text)
        assert refusal(answer) is None, door
    assert await town.events() == before


async def test_a_parameter_that_a_door_does_not_know_is_refused(town: Town) -> None:
    """`?markett=fr` must not list every market."""
    before, steps = await town.events(), {step.door: step for step in STEPS}
    for door in ROLES:
        body = town.other(steps[door]) if door in steps else None
        query = QUERIES.get(door, {}) | {"surprise": "1"}
        answer = await town.admin.request(door.partition(" ")[0], path(door), params=query, json=body)
        assert answer.status_code == 422, (door, answer.text)
        assert refusal(answer) is None
    assert await town.events() == before


async def test_a_position_that_nobody_has_read_in_time_is_answered_503(town: Town) -> None:
    after = position("intake", CASES_TOPIC, case("desk"), 10**6)
    answer = await town.admin.get("/v1/figures", headers={"Casewalk-After": after})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert refusal(answer) is None


def test_every_documented_example_fits_its_schema(town: Town) -> None:
    """Of bodies that are sent and of answers; the first of each body is sent too, by the day in town."""
    seen, wrong = 0, list[str]()
    for operation in operations(town.document).values():
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [answer.get("content", {}) for answer in operation["responses"].values()]
        for media in (content["application/json"] for content in contents if "application/json" in content):
            said = media["schema"]
            named = town.document["components"]["schemas"].get(said.get("$ref", "").rpartition("/")[2], {})
            validator = Draft202012Validator(said | {"components": town.document["components"]})
            for example in (*said.get("examples", ()), *named.get("examples", ())):
                seen += 1
                wrong += [f"{said}: {error.message}" for error in validator.iter_errors(example)]
    assert not wrong, "\n".join(wrong)
    assert seen > len(STEPS)


async def test_an_id_that_is_none_is_refused(town: Town) -> None:
    before, steps, wrong = await town.events(), {step.door: step for step in STEPS}, []
    for door in ROLES.keys() | OPEN:
        method, _, template = door.partition(" ")
        body = town.other(steps[door]) if door in steps else None
        for name in IDS:
            for junk in JUNK if f"{{{name}}}" in template else ():
                answer = await town.admin.request(method, path(door, **{name: junk}), json=body)
                if answer.status_code not in (404, 422) or refusal(answer):
                    wrong.append(f"{door} {name} {junk}: {answer.status_code} {answer.text[:200]}")
    assert not wrong, "\n".join(wrong)
    assert await town.events() == before


@pytest.mark.parametrize("step", [step for step in STEPS if step.takes_version], ids=lambda step: step.door)
async def test_an_order_decided_on_another_version_is_refused(town: Town, step: Step) -> None:
    before = await town.events()
    for version, status in (
        ('"999"', 412),
        ('"0"' if step.door != "POST /v1/cases" else '"1"', 412),
        ("1", 422),
        ('W/"1"', 422),
        ('"1", "2"', 422),
        ('"-1"', 422),
        (f'"{2**70}"', 422),
        ("x" * 5000, 422),
    ):
        headers = {"If-Match": version}
        answer = await town.admin.request(step.method, step.path(step.fresh), json=town.other(step), headers=headers)
        assert answer.status_code == status, (version, answer.text)
        assert refusal(answer) is None
    assert await town.events() == before


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.door)
async def test_a_repeated_order_is_answered_again_and_another_one_under_its_key_is_refused(
    town: Town, step: Step
) -> None:
    before, headers = await town.events(), {"Idempotency-Key": step.door.replace(" ", "-")}
    again = await town.admin.request(step.method, step.path(), json=town.body(step), headers=headers)
    assert again.status_code == town.answers[step.door].status_code, again.text
    if step.other:
        another = await town.admin.request(step.method, step.path(), json=town.other(step), headers=headers)
        assert another.status_code == 422, another.text
        assert another.json()["type"] == "/problems/key-reused"
    for junk in ("", " ", "a b", "x" * 256):
        answer = await town.admin.request(
            step.method, step.path(step.fresh), json=town.other(step), headers={"Idempotency-Key": junk}
        )
        assert answer.status_code == 422, (junk, answer.text)
    assert await town.events() == before


async def test_a_cursor_or_position_that_is_none_of_ours_is_refused(town: Town) -> None:
    documented = operations(town.document)
    values: tuple[Any, ...] = ([], {}, None, [None], ["\x00"], ["\ud800"], [1e400], ["x"] * 20)
    for door in ROLES:
        named = {p["name"] for p in documented[door].get("parameters", ()) if p["in"] == "query"}
        for name in named & {"cursor", "after"}:
            for junk in ("x", "é", "AA", "x" * 5000, *map(bad.opaque, values)):
                query = QUERIES.get(door, {}) | {name: junk}
                answer = await town.admin.request(door.partition(" ")[0], path(door), params=query)
                assert answer.status_code == 422, (door, name, junk, answer.text)
                assert refusal(answer) is None, (door, name, junk)


async def test_a_made_up_position_is_refused_wherever_it_is_wrong(town: Town) -> None:
    for place in range(4):
        for value in WRONG_PARTS:
            parts: list[Any] = ["intake", "casewalk.cases", case("desk"), 1]
            parts[place] = value
            answer = await town.admin.get("/v1/units", headers={"Casewalk-After": bad.opaque(parts)})
            assert answer.status_code == 422, (parts, answer.text)
            assert refusal(answer) is None, parts


# ----------------------------------------------------------------------------------------- last: what leaves its traces


async def test_an_idempotency_key_is_its_callers_own(town: Town) -> None:
    """Another caller under the same key is neither told the first one's answer nor that there was one."""
    headers = {"Idempotency-Key": "anybody-can-guess-this"}
    order = {"role": "reader", "label": "a dashboard"}
    second = await town.world.key("admin")
    first, other = [await admin.post("/v1/keys", json=order, headers=headers) for admin in (town.admin, second)]
    assert first.json()["key_id"] != other.json()["key_id"]
    assert None not in (first.json()["secret"], other.json()["secret"])


@pytest.mark.timeout(fuzz.LIMIT_S + 60)
async def test_no_request_that_can_be_made_up_from_the_documentation_breaks_a_door(town: Town, tmp_path: Path) -> None:
    async with fuzz.served(town.world.app) as url:
        code, report = await fuzz.schemathesis(url, ADMIN_KEY, town.known(), tmp_path)
    assert code == 0, report


async def test_afterwards_every_service_is_whole(town: Town) -> None:
    await town.world.settled()
    for name, host in town.world.hosts.items():
        assert await host.ready() is None
        assert not await host.database.readers.fetch("select * from parked"), name
        for view in host.replay.named("all"):
            assert (await host.replay.verify(view)).equal, (name, view.name)
