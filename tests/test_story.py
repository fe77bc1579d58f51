"""Read first: one case walks through all five services, from a REST call to an accepted resolution.

A parcel does not arrive in Germany. The first line takes the case and needs a specialist; the specialist needs the
partner in the field; the partner gives it back; somebody asks for an escalation; the escalation unit brings it to an
end; the customer says that the answer is acceptable. Then everybody can see what happened, and why.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.every import SERVICES
from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine
from tests.until import until


class Story:
    """The people of the story, each with a key of their own."""

    patience_s = 15.0
    """How long they wait for what must come."""

    def __init__(self, world: Casewalk) -> None:
        self.world, self.admin = world, world.admin
        self.shop: httpx.AsyncClient
        self.ana: httpx.AsyncClient
        self.tom: httpx.AsyncClient
        self.nordfix: httpx.AsyncClient
        self.olga: httpx.AsyncClient

    async def begin(self) -> None:
        """Publish the organisation and give everybody a key."""
        self.shop = await self.world.key("channel")
        self.ana = await self.world.key("agent", "ana")
        self.tom = await self.world.key("agent", "tom")
        self.olga = await self.world.key("agent", "olga")
        self.nordfix = await self.world.key("partner", "nordfix")
        for path, body in ORGANISATION:
            answer = await self.admin.put(path, json=body)
            assert answer.status_code in (200, 201), (path, answer.text)
        for agent, client in (("ana", self.ana), ("tom", self.tom)):
            await said(client.post(f"/v1/agents/{agent}:presence", json={"presence": "available"}))

    async def opens(self, **changes: Any) -> str:
        """The shop opens a case."""
        body = {
            "channel": "chat",
            "market": "de",
            "language": "de",
            "journey": "delivery",
            "subject": "Where is my parcel?",
            "body": "It should have been here on Monday.",
            "customer": {"external_id": "crm-7", "name": "Kim", "email": "kim@customer.example"},
        }
        answer = await said(self.shop.post("/v1/cases", json=body | changes))
        return str(answer["case_id"])

    async def once(self, request: Callable[[], Awaitable[httpx.Response]]) -> dict[str, Any]:
        """The answer, as soon as the service has heard of the case."""

        async def answered() -> httpx.Response | None:
            answer = await request()
            return answer if answer.is_success else None

        answer = await until(answered, self.patience_s)
        assert answer is not None
        body: dict[str, Any] = answer.json()
        return body

    async def takes(self, client: httpx.AsyncClient, case_id: str) -> None:
        """The agent takes the case as soon as it is offered to them."""

        async def accepted() -> bool:
            return (await client.post(f"/v1/work/{case_id}:accept", json={})).status_code == 200

        await until(accepted, self.patience_s)

    async def walk(self, case_id: str, ends_with: str) -> dict[str, Any]:
        """The walk, once its last step is there."""

        async def complete() -> dict[str, Any] | None:
            answer = await self.admin.get(f"/v1/walks/{case_id}")
            walk: dict[str, Any] = answer.json()
            return walk if answer.status_code == 200 and ends_with in {s["type"] for s in walk["steps"]} else None

        found = await until(complete, self.patience_s)
        assert found is not None
        return found


ORGANISATION: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/units/care-de", {"name": "Care Germany", "kind": "front_end", "markets": ["de"]}),
    ("/v1/units/logistics", {"name": "Logistics experts", "kind": "back_end"}),
    ("/v1/units/field", {"name": "Field partners", "kind": "partner"}),
    ("/v1/queues/care-de", {"name": "Care Germany", "unit_id": "care-de"}),
    ("/v1/queues/logistics", {"name": "Logistics", "unit_id": "logistics", "level": 2}),
    ("/v1/queues/field", {"name": "Field", "unit_id": "field"}),
    (
        "/v1/routing-tables/main",
        {
            "rules": [
                {"rule": "de", "when": {"markets": ["de"]}, "queue_id": "care-de"},
                {"rule": "default", "when": {}, "queue_id": "general"},
            ]
        },
    ),
    ("/v1/agents/ana", {"name": "Ana", "unit_ids": ["care-de"], "skills": {"markets": ["de"]}, "capacity": 2}),
    ("/v1/agents/tom", {"name": "Tom", "unit_ids": ["logistics"], "skills": {"level": 3}, "capacity": 2}),
    ("/v1/agents/olga", {"name": "Olga", "unit_ids": ["escalation"], "skills": {}, "capacity": 5}),
    ("/v1/partners/nordfix", {"name": "Nordfix"}),
    ("/v1/contracts/nordfix", {"partner_id": "nordfix", "queue_ids": ["field"]}),
)


async def said(request: Awaitable[httpx.Response]) -> dict[str, Any]:
    """The answer's body; the request went well."""
    answer = await request
    assert answer.is_success, f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}"
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture
async def story(engine: Engine, tmp_path: Path) -> AsyncIterator[Story]:
    async with casewalk(engine, tmp_path, SERVICES) as world:
        story = Story(world)
        await story.begin()
        yield story


async def test_a_case_walks_through_all_five_services_to_an_accepted_resolution(story: Story) -> None:
    case = await story.opens()

    await story.takes(story.ana, case)
    message = {"direction": "out", "body": "I am looking into it.", "waits_for": "internal"}
    await said(story.ana.post(f"/v1/cases/{case}/messages", json=message))
    transfer = {"queue_id": "logistics", "reason": "lost in the depot"}
    await said(story.ana.post(f"/v1/work/{case}:transfer", json=transfer))

    await story.takes(story.tom, case)
    transfer = {"queue_id": "field", "reason": "somebody must look at the door"}
    await said(story.tom.post(f"/v1/work/{case}:transfer", json=transfer))

    await story.once(lambda: story.nordfix.post(f"/v1/partners/nordfix/cases/{case}:accept", json={}))
    await said(story.nordfix.post(f"/v1/partners/nordfix/cases/{case}:return", json={"reason": "nobody at home"}))

    await story.takes(story.tom, case)
    asked = await story.once(
        lambda: story.tom.post("/v1/escalations", json={"case_id": case, "reason": "promised twice"})
    )
    escalation = asked["escalation_id"]
    await said(story.olga.post(f"/v1/escalations/{escalation}:acknowledge", json={}))
    await said(story.olga.post(f"/v1/escalations/{escalation}:resolve", json={"code": "refunded"}))

    async def resolved() -> bool:
        return bool((await said(story.admin.get(f"/v1/cases/{case}")))["category"] == "resolved")

    await until(resolved, story.patience_s)
    await said(story.shop.post(f"/v1/cases/{case}/feedback", json={"accepted": True, "csat": 5, "nps": 9}))

    walk = await story.walk(case, "casewalk.case.feedback_received.v1")
    await story.walk(case, "casewalk.case.clock_stopped.v2")
    types = [step["type"].removeprefix("casewalk.case.").removesuffix(".v1") for step in walk["steps"]]
    happened = [name for name in types if name in IN_ORDER]
    assert list(dict.fromkeys(happened)) == list(IN_ORDER), types

    async def judged() -> bool:
        verdict = (await said(story.admin.get(f"/v1/walks/{case}")))["verdict"]
        return bool(verdict == {"in_time": "yes", "accepted": "yes", "solved_alone": "no", "escalated": "yes"})

    await until(judged, story.patience_s)
    whys = [step["why"] for step in walk["steps"] if step.get("why")]
    assert any("rule de of main@2" in why for why in whys)
    assert any("nobody at home" in why for why in whys)


IN_ORDER = (
    "opened",
    "queued",
    "assigned",
    "message_sent",
    "transferred",
    "handed_over",
    "partner_accepted",
    "partner_returned",
    "escalated",
    "escalation_acknowledged",
    "escalation_resolved",
    "resolved",
    "feedback_received",
)
"""What must happen first, then next, whatever else happens between."""


async def test_a_partner_brings_a_case_to_an_end_and_sees_no_other(story: Story) -> None:
    rules = [{"rule": "all", "when": {}, "queue_id": "field"}]
    await said(story.admin.put("/v1/routing-tables/main", json={"rules": rules}))
    case = await story.opens(customer={"external_id": "crm-8"})
    await story.once(lambda: story.nordfix.post(f"/v1/partners/nordfix/cases/{case}:accept", json={}))
    stranger = await story.world.key("partner", "stranger")
    assert (await stranger.get(f"/v1/cases/{case}")).status_code == 404
    assert (await stranger.get("/v1/partners/nordfix/cases")).status_code == 403
    await said(story.nordfix.post(f"/v1/partners/nordfix/cases/{case}:resolve", json={}))
    walk = await story.walk(case, "casewalk.case.resolved.v1")
    assert walk["verdict"]["accepted"] == "unknown"
    assert walk["verdict"]["solved_alone"] == "no"


async def test_afterwards_every_view_of_every_service_is_what_a_replay_makes_of_the_events(story: Story) -> None:
    for n in range(8):
        case = await story.opens(customer={"external_id": f"crm-{n}"})
        await story.takes(story.ana, case)
        await said(story.ana.post(f"/v1/cases/{case}:resolve", json={}))
    await story.world.settled()
    for name, host in story.world.hosts.items():
        for view in host.replay.named("all"):
            verdict = await host.replay.verify(view)
            assert verdict.equal, (name, verdict)
            assert await host.replay.rebuild(view) == verdict.rows
            assert (await host.replay.verify(view)).equal, (name, "after a rebuild", view.name)
        assert not await host.database.readers.fetchval("select count(*) from parked")


async def test_a_case_of_another_systems_history_is_ours_from_its_first_live_contact_on(story: Story) -> None:
    """Before it, nothing is routed, clocked or told; after it, one walk holds both."""
    rows = [
        {"case": "OLD-7", "ordinal": n, "occurred_at": at, "code": code, "category": category, "market": "de"}
        for n, (at, code, category) in enumerate(
            [
                ("2026-01-05T08:00:00+01:00", "Accepted", "in_progress"),
                ("2026-01-06T09:00:00+01:00", "Wait", "waiting_customer"),
            ],
            1,
        )
    ]
    imported = await said(
        story.admin.post(
            "/v1/imports?profile=old-system&import_id=import-old",
            content="\n".join(map(json.dumps, rows)),
            headers={"Content-Type": "application/x-ndjson"},
        )
    )
    case = imported["rows"][0]["case_id"]
    await story.world.settled()
    assert (await story.admin.get(f"/v1/work/{case}")).status_code == 404
    assert (await said(story.admin.get("/v1/clocks", params={"case": case})))["items"] == []
    for host in story.world.hosts.values():
        assert not await host.database.readers.fetchval("select count(*) from effect")

    await said(story.shop.post(f"/v1/cases/{case}/messages", json={"direction": "in", "body": "Any news?"}))
    await story.takes(story.ana, case)
    await said(story.ana.post(f"/v1/cases/{case}:resolve", json={}))
    walk = await story.walk(case, "casewalk.case.resolved.v1")
    types = [step["type"].removeprefix("casewalk.case.") for step in walk["steps"]]
    happened = ("observed.v1", "observed.v1", "taken_over.v1", "queued.v1", "assigned.v1", "resolved.v1")
    assert [name for name in types if name in happened] == list(happened)

    async def clocked() -> bool:
        clocks = (await said(story.admin.get("/v1/clocks", params={"case": case})))["items"]
        return any(one["clock"] == "resolution" and one["kept"] for one in clocks)

    await until(clocked)
