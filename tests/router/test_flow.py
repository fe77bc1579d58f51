"""A case on its way through the router: from the log to an agent, back, and out."""

from __future__ import annotations

from typing import Any

from events.case import (
    CaseClassified,
    CaseDequeued,
    CaseEscalated,
    CaseOffered,
    CaseReopened,
    CaseResolved,
    EscalationReturned,
    OfferExpired,
    OfferWithdrawn,
    PartnerReturned,
)
from events.event import CASES
from tests.given import an
from tests.router.world import World
from tests.until import until


async def said(world: World, case_id: str) -> list[Any]:
    """What the router said about the case, in order."""
    return [event.data for event in await world.router.store.events(CASES, case_id)]


async def accept(world: World, case_id: str, agent_id: str) -> None:
    await world.did(world.lead.post(f"/v1/work/{case_id}:accept", json={"agent_id": agent_id}))


async def test_a_case_is_queued_offered_and_accepted(everywhere: World) -> None:
    await everywhere.agent("anna", languages=["de"])
    case_id = await everywhere.open_case(language="de")

    offered = await everywhere.until(case_id, status="offered")
    await accept(everywhere, case_id, "anna")

    assert (offered["agent_id"], offered["queue_id"]) == ("anna", "general")
    assert (await everywhere.work(case_id))["status"] == "assigned"
    queued, offer, _ = await said(everywhere, case_id)
    assert (queued.routing_table, queued.rule, queued.reason) == ("main@1", "default", "rule default of main@1")
    assert (offer.load, offer.capacity) == (0, 5)


async def test_a_case_that_waits_is_offered_as_soon_as_somebody_who_can_take_it_is_here(here: World) -> None:
    case_id = await here.open_case(language="fi")
    await here.until(case_id, status="waiting")
    await here.agent("anna", languages=["de"])
    await here.agent("aino", languages=["fi"])

    offered = await here.until(case_id, limit_s=1, status="offered")

    assert offered["agent_id"] == "aino"


async def test_a_declined_case_goes_to_another_agent_and_keeps_its_place(here: World) -> None:
    await here.agent("anna")
    case_id = await here.open_case()
    first = await here.until(case_id, status="offered", agent_id="anna")
    await here.agent("ben")

    await here.did(here.lead.post(f"/v1/work/{case_id}:decline", json={"agent_id": "anna", "reason": "at lunch"}))
    second = await here.until(case_id, status="offered", agent_id="ben")

    assert second["enqueued_at"] == first["enqueued_at"]
    assert second["declined_by"] == ["anna"]


async def test_an_offer_nobody_answers_ends_by_the_clock_and_goes_to_another_agent(everywhere: World) -> None:
    quick = {"name": "Quick", "unit_id": "general", "offer_s": 1}
    await everywhere.did(everywhere.lead.put("/v1/queues/general", json=quick))
    await everywhere.agent("anna", level=1)
    case_id = await everywhere.open_case()
    first = await everywhere.until(case_id, status="offered", agent_id="anna")
    await everywhere.agent("ben", level=9)

    second = await everywhere.until(case_id, status="offered", agent_id="ben")

    assert second["offer_id"] != first["offer_id"]
    events = await everywhere.router.store.events(CASES, case_id)
    (expires_at, *_) = [event.data.expires_at for event in events if isinstance(event.data, CaseOffered)]
    (expired,) = [event for event in events if isinstance(event.data, OfferExpired)]
    assert expired.occurred_at == expires_at
    assert expired.recorded_at >= expired.occurred_at


async def test_an_escalated_case_is_taken_back_and_offered_to_nobody_until_it_returns(everywhere: World) -> None:
    await everywhere.agent("anna", capacity=2)
    owned, asked = await everywhere.open_case(), await everywhere.open_case()
    await everywhere.until(asked, status="offered")
    await everywhere.until(owned, status="offered")
    await accept(everywhere, owned, "anna")
    for case_id in (owned, asked):
        await everywhere.say(case_id, an(CaseEscalated))
        await everywhere.until(case_id, status="escalated", agent_id=None)

    # Both have their capacity back: somebody else is offered, and they are not.
    others = [await everywhere.open_case() for _ in range(2)]
    for case_id in others:
        await everywhere.until(case_id, status="offered", agent_id="anna")
    assert [(await everywhere.work(case_id))["status"] for case_id in (owned, asked)] == ["escalated"] * 2
    assert any(isinstance(event, OfferWithdrawn) for event in await said(everywhere, asked))

    await everywhere.say(owned, an(EscalationReturned))
    await everywhere.until(owned, status="waiting", queue_id="general")


async def test_while_a_case_is_escalated_nobody_accepts_moves_or_releases_it_whatever_comes(everywhere: World) -> None:
    await everywhere.agent("anna", capacity=2)
    case_id = await everywhere.open_case()
    await everywhere.until(case_id, status="offered")
    await everywhere.say(case_id, an(CaseEscalated))
    await everywhere.until(case_id, status="escalated")
    for verb, order in (
        ("accept", {"agent_id": "anna"}),
        ("decline", {"agent_id": "anna", "reason": "no"}),
        ("release", {"reason": "no"}),
        ("transfer", {"queue_id": "general", "reason": "no"}),
    ):
        answer = await everywhere.lead.post(f"/v1/work/{case_id}:{verb}", json=order)
        assert (answer.status_code, "it is escalated" in answer.json()["detail"]) == (409, True), (verb, answer.text)
    returned = an(PartnerReturned, queue_id="general", unit_id="general")
    await everywhere.say(case_id, returned)
    last = await everywhere.say(case_id, an(CaseReopened))
    await everywhere.router.wait_for(last.position)
    assert (await everywhere.work(case_id))["status"] == "escalated"
    assert isinstance((await said(everywhere, case_id))[-1], CaseDequeued)


async def test_a_resolved_case_gives_the_capacity_back_and_waits_again_when_it_is_reopened(here: World) -> None:
    await here.agent("anna", capacity=1)
    first = await here.open_case()
    await here.until(first, status="offered")
    await accept(here, first, "anna")
    second = await here.open_case()
    await here.until(second, status="waiting")

    await here.say(first, an(CaseResolved))
    await here.until(second, status="offered", agent_id="anna")
    await here.say(first, an(CaseReopened))

    await here.until(first, status="waiting")


async def test_what_a_partner_returns_is_offered_to_an_agent(everywhere: World) -> None:
    await everywhere.did(everywhere.lead.put("/v1/units/swift", json={"name": "Swift", "kind": "partner"}))
    await everywhere.did(everywhere.lead.put("/v1/queues/parcels", json={"name": "Parcels", "unit_id": "swift"}))
    rules = [
        {"rule": "parcels", "when": {"journeys": ["delivery"]}, "queue_id": "parcels"},
        {"rule": "default", "queue_id": "general"},
    ]
    await everywhere.did(everywhere.lead.put("/v1/routing-tables/main", json={"rules": rules}))
    await everywhere.agent("anna", units=("general", "swift"))
    case_id, other = await everywhere.open_case(journey="delivery"), await everywhere.open_case(journey="claims")
    await everywhere.until(other, status="offered")
    await everywhere.until(case_id, status="away", unit_kind="partner", agent_id=None)

    await everywhere.say(case_id, an(PartnerReturned, queue_id="parcels", unit_id="swift", reason="no contract"))

    await everywhere.until(case_id, status="offered", queue_id="general", agent_id="anna")


async def test_the_most_urgent_and_then_the_oldest_case_is_offered_first(here: World) -> None:
    line = [await here.open_case(priority=priority) for priority in ("low", "normal", "urgent", "normal")]
    for case_id in line:
        await here.until(case_id, status="waiting")
    waits = await here.did(here.lead.get("/v1/work", params={"status": "waiting"}))
    await here.agent("anna", capacity=1)

    taken = []
    for _ in line:
        (offered,) = await until(lambda: _offered(here, "anna"))
        await accept(here, offered["case_id"], "anna")
        await here.say(offered["case_id"], an(CaseResolved))
        taken.append(offered["case_id"])

    low, normal, urgent, later = line
    assert taken == [urgent, normal, later, low] or taken == [urgent, later, normal, low]
    assert taken == [item["case_id"] for item in waits["items"]]


async def test_a_waiting_case_that_becomes_urgent_is_offered_before_older_ones(everywhere: World) -> None:
    older, newer = [await everywhere.open_case(priority="normal") for _ in range(2)]
    since = {case_id: (await everywhere.until(case_id, status="waiting"))["enqueued_at"] for case_id in (older, newer)}

    await everywhere.say(newer, an(CaseClassified, priority="urgent", journey=None))
    urgent = await everywhere.until(newer, priority="urgent")
    await everywhere.agent("anna", capacity=1)

    offered = await everywhere.until(newer, status="offered")
    assert (urgent["enqueued_at"], urgent["status"]) == (since[newer], "waiting")
    assert (offered["agent_id"], (await everywhere.work(older))["status"]) == ("anna", "waiting")


async def _offered(world: World, agent_id: str) -> list[dict[str, Any]]:
    answer = await world.did(world.lead.get("/v1/work", params={"status": "offered", "agent": agent_id}))
    return list(answer["items"])


async def test_live_views_equal_what_the_events_add_up_to(here: World) -> None:
    await here.agent("anna", capacity=2)
    for case_id in [await here.open_case() for _ in range(3)]:
        await here.until(case_id)
    await until(lambda: _offered(here, "anna"))

    for view in here.router.replay.named("all"):
        verdict = await here.router.replay.verify(view)
        assert verdict.equal, verdict
