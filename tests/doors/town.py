"""The town in which every door is tried: one order for each door that takes one, and what must happen before it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid5

import asyncpg
import httpx

from events.event import NAMESPACE
from services.runtime import Service
from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine, Postgres
from tests.until import until

LEFT_OUT = object()
"""As a value: the example's field is left out."""

NOTHING: Mapping[str, Any] = MappingProxyType({})

UNKNOWN = "nobody-knows"
UNKNOWN_CASE = "00000000-0000-4000-8000-000000000000"


def case(name: str) -> str:
    """The id of the case that the day opens under this name: made of the channel and the contact's id there."""
    return str(uuid5(NAMESPACE, f"contact email {name}"))


def contact(name: str, market: str = "de") -> dict[str, Any]:
    """An order to open that case, as far as it differs from the documented example."""
    return {"external_id": name, "market": market, "occurred_at": LEFT_OUT}


@dataclass(frozen=True)
class Step:
    """A good order at one door. Its body is the door's documented example, changed by `body`."""

    door: str
    """Method and path, as the documentation has them."""
    ids: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)
    """What makes it another order."""
    fresh: Mapping[str, str] = field(default_factory=dict)
    """Ids under which the other order still changes something once the day is over."""
    refers: tuple[str, ...] = ()
    """Fields that name something which must exist."""
    before: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Path and body of what is posted first."""
    takes_version: bool = True
    asks: bool = False
    """It only answers, and records nothing."""

    @property
    def method(self) -> str:
        return self.door.partition(" ")[0]

    @property
    def template(self) -> str:
        return self.door.partition(" ")[2]

    def path(self, ids: Mapping[str, str] = NOTHING) -> str:
        """Where the order goes; `ids` go before its own."""
        return self.template.format(**{**self.ids, **ids})


OPENED: tuple[dict[str, Any], ...] = (
    *(contact(name) for name in ("desk", "offered", "declined", "moved", "released", "waiting", "held", "snowed")),
    *(contact(name) for name in ("solved", "judged", "again", "ended", "asked", "unasked", "owned", "brought", "back")),
    contact("twin"),
    *(contact(name, market="dk") for name in ("taken", "returned", "done", "there")),
)
"""Cases that are opened before the steps: those of `de` are offered to Ana, those of `dk` lie with Nordfix."""

PUBLISHED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/units/field", {"name": "Field", "kind": "partner"}),
    ("/v1/queues/field", {"name": "Field", "unit_id": "field"}),
    ("/v1/partners/swift", {"name": "Swift"}),
    ("/v1/contracts/swift", {"partner_id": "swift", "queue_ids": ["field"]}),
)


def _escalated(name: str) -> tuple[str, Mapping[str, Any]]:
    return ("/v1/escalations", {"case_id": case(name), "reason": "promised twice"})


def _resolved(name: str) -> tuple[str, Mapping[str, Any]]:
    return (f"/v1/cases/{case(name)}:resolve", {})


def _accepted(name: str) -> tuple[str, Mapping[str, Any]]:
    return (f"/v1/work/{case(name)}:accept", {"agent_id": "ana"})


RULES = [
    {"rule": "de", "when": {"markets": ["de"]}, "queue_id": "care"},
    {"rule": "dk", "when": {"markets": ["dk"]}, "queue_id": "field"},
    {"rule": "default", "when": {}, "queue_id": "general"},
]

ORGANISATION: tuple[Step, ...] = (
    Step("PUT /v1/units/{unit_id}", {"unit_id": "care"}, other={"name": "Care"}),
    Step(
        "PUT /v1/queues/{queue_id}",
        {"queue_id": "care"},
        {"unit_id": "care", "offer_s": 86_400},
        {"name": "Care"},
        refers=("unit_id",),
    ),
    Step(
        "PUT /v1/agents/{agent_id}",
        {"agent_id": "ana"},
        {"unit_ids": ["care"], "skills": {}, "capacity": 50},
        {"capacity": 60},
        refers=("unit_ids",),
    ),
    Step("POST /v1/agents/{agent_id}:presence", {"agent_id": "ana"}, other={"presence": "away"}),
    Step("PUT /v1/routing-tables/main", body={"rules": RULES}, other={"rules": RULES[1:]}),
    Step("PUT /v1/partners/{partner_id}", {"partner_id": "nordfix"}, other={"name": "Nordfix"}),
    Step(
        "PUT /v1/contracts/{contract_id}",
        {"contract_id": "nordfix"},
        {"partner_id": "nordfix", "queue_ids": ["field"]},
        {"queue_ids": ["field", "more"]},
        refers=("partner_id",),
    ),
    Step(
        "PUT /v1/share-plans/{queue_id}",
        {"queue_id": "field"},
        {"shares": [{"partner_id": "nordfix", "percent": 100}]},
        {"shares": [{"partner_id": "nordfix", "percent": 60}, {"partner_id": "swift", "percent": 40}]},
    ),
    Step("PUT /v1/calendars/{calendar_id}", {"calendar_id": "office"}, other={"name": "Another office"}),
    Step("POST /v1/calendars:compute", takes_version=False, asks=True),
    Step("PUT /v1/promises/{promise_id}", {"promise_id": "standard"}, other={"warnings": [80]}, refers=("calendar",)),
    Step("POST /v1/promises/{promise_id}:preview", {"promise_id": "standard"}, takes_version=False, asks=True),
    Step("PUT /v1/ladders/{ladder_id}", {"ladder_id": "standard"}, other={"on_breach": ["first_response"]}),
    Step("PUT /v1/rotas/{unit_id}", {"unit_id": "escalation"}, other={"tz": "Europe/Paris"}),
    Step("PUT /v1/notices/{notice_id}", {"notice_id": "duty"}, other={"markets": ["fr"]}, refers=("calendar",)),
    Step("POST /v1/keys", body={"holder": "ana"}, other={"label": "another"}, takes_version=False),
)
"""What is published before anybody comes in."""

SNOW = {"title": "Hub closed by snow", "reason": "40 cases since this morning"}


def _proposed(issue_id: str) -> tuple[str, Mapping[str, Any]]:
    return ("/v1/issues", {"issue_id": issue_id, **SNOW})


def _gathering(issue_id: str) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    return (
        _proposed(issue_id),
        (f"/v1/issues/{issue_id}:accept", {"owner": "olga"}),
        (f"/v1/issues/{issue_id}:link", {"case_ids": [case("snowed")]}),
    )


def _issue(verb: str, other: Mapping[str, Any], *before: tuple[str, Mapping[str, Any]], **more: Any) -> Step:
    """What is done with an issue of its own; the other order with one that waits for it."""
    door = f"POST /v1/issues/{{issue_id}}:{verb}"
    fresh = "gathering" if verb in ("link", "message", "resolve") else "proposed"
    return Step(door, {"issue_id": verb}, other=other, fresh={"issue_id": fresh}, before=before, **more)


ISSUES: tuple[Step, ...] = (
    Step(
        "POST /v1/issues",
        body={"issue_id": "snow"},
        other={"title": "another"},
        before=(_proposed("proposed"), *_gathering("gathering")),
    ),
    _issue("accept", {"owner": "another"}, _proposed("accept")),
    _issue("reject", {"reason": "another"}, _proposed("reject")),
    _issue("cancel", {"reason": "another"}, _proposed("cancel")),
    _issue(
        "link",
        {"case_ids": [case("moved")]},
        *_gathering("link"),
        body={"case_ids": [case("held")]},
        refers=("case_ids",),
    ),
    _issue("message", {"body": "Another."}, *_gathering("message")),
    _issue("resolve", {"code": "another"}, *_gathering("resolve")),
)
"""Mass issues; the case that belongs to some of them is resolved with one."""

CASES: tuple[Step, ...] = (
    Step("POST /v1/cases", body=contact("first"), other={"external_id": "another"}),
    Step(
        "POST /v1/cases/{case_id}/messages",
        {"case_id": case("desk")},
        {"occurred_at": LEFT_OUT},
        {"body": "Something else."},
    ),
    Step(
        "POST /v1/cases/{case_id}:resolve",
        {"case_id": case("solved")},
        {},
        {"code": "other"},
        {"case_id": case("desk")},
    ),
    Step(
        "POST /v1/cases/{case_id}:classify",
        {"case_id": case("desk")},
        {},
        {"tier": "silver"},
    ),
    Step(
        "POST /v1/cases/{case_id}:flag",
        {"case_id": case("solved")},
        {},
        {"flag": "legal"},
    ),
    Step(
        "POST /v1/cases/{case_id}:link",
        {"case_id": case("twin")},
        {"case_id": case("desk")},
        {"reason": "another"},
        {"case_id": case("solved")},
        ("case_id",),
    ),
    Step(
        "POST /v1/cases/{case_id}/feedback",
        {"case_id": case("judged")},
        {},
        {"csat": 4},
        {"case_id": case("solved")},
        before=(_resolved("judged"),),
    ),
    Step(
        "POST /v1/cases/{case_id}:reopen",
        {"case_id": case("again")},
        {},
        {"reason": "another"},
        {"case_id": case("solved")},
        before=(_resolved("again"),),
    ),
    Step(
        "POST /v1/cases/{case_id}:close",
        {"case_id": case("ended")},
        {},
        {"reason": "another"},
        {"case_id": case("solved")},
        before=(_resolved("ended"),),
    ),
    Step(
        "POST /v1/work/{case_id}:accept",
        {"case_id": case("held")},
        {"agent_id": "ana"},
        {"agent_id": "tom"},
        {"case_id": case("offered")},
        ("agent_id",),
    ),
    Step(
        "POST /v1/work/{case_id}:decline",
        {"case_id": case("declined")},
        {"agent_id": "ana"},
        {"reason": "another"},
        {"case_id": case("offered")},
        ("agent_id",),
    ),
    Step(
        "POST /v1/work/{case_id}:transfer",
        {"case_id": case("moved")},
        {},
        {"reason": "another"},
        {"case_id": case("offered")},
        ("queue_id",),
    ),
    Step(
        "POST /v1/work/{case_id}:release",
        {"case_id": case("released")},
        {},
        {"reason": "another"},
        {"case_id": case("held")},
        before=(_accepted("released"),),
    ),
    Step(
        "POST /v1/escalations",
        body={"case_id": case("asked")},
        other={"case_id": case("unasked")},
        refers=("case_id",),
    ),
    Step(
        "POST /v1/escalations/{escalation_id}:acknowledge",
        {"escalation_id": case("owned") + ".1"},
        {},
        {"owner": "another"},
        {"escalation_id": case("asked") + ".1"},
        before=(_escalated("owned"),),
    ),
    Step(
        "POST /v1/escalations/{escalation_id}:resolve",
        {"escalation_id": case("brought") + ".1"},
        {},
        {"code": "another"},
        {"escalation_id": case("owned") + ".1"},
        before=(
            _escalated("brought"),
            (f"/v1/escalations/{case('brought')}.1:acknowledge", {"owner": "olga"}),
        ),
    ),
    Step(
        "POST /v1/escalations/{escalation_id}:return",
        {"escalation_id": case("back") + ".1"},
        {},
        {"reason": "another"},
        {"escalation_id": case("asked") + ".1"},
        before=(_escalated("back"),),
    ),
    *(
        Step(
            f"POST /v1/partners/{{partner_id}}/cases/{{case_id}}:{verb}",
            {"partner_id": "nordfix", "case_id": case(name)},
            {},
            other,
            {"case_id": case("there")},
        )
        for verb, name, other in (
            ("accept", "taken", {}),
            ("return", "returned", {"reason": "another"}),
            ("resolve", "done", {"code": "another"}),
        )
    ),
)
"""What is done with cases, once."""

STEPS = ORGANISATION + CASES + ISSUES


IDS = {
    "case_id": case("desk"),
    "unit_id": "care",
    "queue_id": "field",
    "agent_id": "ana",
    "calendar_id": "always",
    "promise_id": "standard",
    "ladder_id": "standard",
    "notice_id": "duty",
    "effect_id": UNKNOWN_CASE,
    "figure": "promise_kept",
    "escalation_id": case("asked") + ".1",
    "issue_id": "snow",
    "partner_id": "nordfix",
    "contract_id": "nordfix",
    "key_id": UNKNOWN,
    "customer_ref": UNKNOWN,
    "position": "1",
    "view": "nothing",
    "type": "casewalk.case.opened.v1",
}
"""What stands in a path where nothing else is said."""


@dataclass
class Town:
    """Every service, after a day on which every order was good once."""

    world: Casewalk
    document: dict[str, Any]
    """The OpenAPI document."""
    answers: dict[str, httpx.Response] = field(default_factory=dict)
    """By door: what the step was answered."""

    @property
    def admin(self) -> httpx.AsyncClient:
        return self.world.admin

    async def day(self) -> None:
        """Play it."""
        for path, body in PUBLISHED:
            assert (await self.admin.put(path, json=body)).is_success, path
        await self.world.settled()  # a ladder names units that escalation must have heard of
        for step in ORGANISATION:
            await self._take(step)
        for opened in OPENED:
            answer = await self.admin.post("/v1/cases", json=self.merged("POST /v1/cases", opened))
            assert answer.status_code == 201, answer.text
            assert answer.json()["case_id"] == case(opened["external_id"])
        await self.world.settled()
        for step in CASES + ISSUES:
            for first, order in step.before:
                assert (await self._once_known(first, order)).is_success, first
            await self._take(step)
        await self.world.settled()

    async def _take(self, step: Step) -> None:
        headers = {"Idempotency-Key": step.door.replace(" ", "-")}
        self.answers[step.door] = await self._once_known(step.path(), self.body(step), headers, step.method)

    async def _once_known(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] = NOTHING, method: str = "POST"
    ) -> httpx.Response:
        """The answer, as soon as the service has heard of the case."""
        last: httpx.Response | None = None

        async def answered() -> bool:
            nonlocal last
            last = await self.admin.request(method, path, json=dict(body), headers=dict(headers))
            return last.status_code not in (404, 409)

        try:
            await until(answered)
        except AssertionError as error:
            raise AssertionError(f"{method} {path}: {last and last.text}") from error
        assert last is not None
        return last

    def merged(self, door: str, *changes: Mapping[str, Any]) -> dict[str, Any]:
        """The door's documented example, changed."""
        body = example(self.document, door)
        for change in changes:
            body = {**body, **change}
        return {name: value for name, value in body.items() if value is not LEFT_OUT}

    def body(self, step: Step) -> dict[str, Any]:
        return self.merged(step.door, step.body)

    def other(self, step: Step) -> dict[str, Any]:
        """Another order at the same door."""
        return self.merged(step.door, step.body, step.other)

    def known(self) -> dict[str, list[str]]:
        """Values for a fuzzer's parameters that lead somewhere."""
        known = {f"path.{name}": [value] for name, value in IDS.items() if name not in ("position", "type")}
        known["path.case_id"] = [case(name) for name in ("desk", "offered", "held", "solved", "asked", "there")]
        known |= {"body.case_id": known["path.case_id"], "body.agent_id": ["ana"], "body.queue_id": ["care", "general"]}
        known["header.if-match"] = ["*"]
        known["header.casewalk-after"] = [self.answers["POST /v1/cases"].headers["Casewalk-Position"]]
        return known

    async def events(self) -> dict[str, int]:
        """How many events every service has recorded."""
        return {
            name: await host.database.readers.fetchval("select count(*) from events")
            for name, host in self.world.hosts.items()
        }


@asynccontextmanager
async def played(postgres: Postgres, directory: Path, services: Sequence[Service]) -> AsyncIterator[Town]:
    """A town of its own, after its day."""
    name, connection = f"town_{secrets.token_hex(6)}", await asyncpg.connect(postgres.url)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        async with casewalk(Engine("embedded", postgres.dsn(name), None, "town"), directory, services) as world:
            town = Town(world, world.app.openapi())
            await town.day()
            yield town
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


def operations(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every documented door, as `METHOD /path`."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def schema(document: Mapping[str, Any], door: str) -> dict[str, Any] | None:
    """The JSON Schema of a door's JSON body; None for a door that takes none."""
    content = operations(document)[door].get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return None
    return resolved(document, content["application/json"]["schema"])


def resolved(document: Mapping[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The part itself, where it is a reference or something that may be null."""
    if "$ref" in part:
        found: dict[str, Any] = document["components"]["schemas"][part["$ref"].rsplit("/", 1)[1]]
        return resolved(document, found)
    options = [one for one in part.get("anyOf", ()) if one.get("type") != "null"]
    return resolved(document, options[0]) if len(options) == 1 else part


def example(document: Mapping[str, Any], door: str) -> dict[str, Any]:
    """The first documented example of a door's body."""
    found = schema(document, door)
    assert found is not None, f"{door} takes no JSON"
    first: dict[str, Any] = found["examples"][0]
    return first
