"""The router's decisions about a case: which queue, which agent, and what an answer changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from events.case import (
    CaseAssigned,
    CaseDequeued,
    CaseOffered,
    CaseQueued,
    CaseReleased,
    CaseReranked,
    CaseTransferred,
    OfferDeclined,
    OfferExpired,
    OfferWithdrawn,
    Priority,
    UnitKind,
)
from events.errors import Refused, Unknown
from events.event import CaseEvent, named
from events.operations import Presence
from events.store import New
from services.router.organigram import Agent
from services.router.table import Facts, Routed, Table
from services.router.work import ESCALATED, RESOLVED, Status, Work

BUILT_IN_QUEUE = "general"


@dataclass(frozen=True, slots=True)
class Place:
    """A queue with the unit it leads to."""

    queue_id: str
    unit_id: str
    unit_kind: UnitKind


@dataclass(frozen=True, slots=True)
class Chart:
    """The routing table in force, and every queue there is."""

    table: Table
    places: Mapping[str, Place]

    def place(self, queue_id: str) -> Place:
        """Raises Unknown for a queue that was never published."""
        if queue_id not in self.places:
            raise Unknown(f"there is no queue {queue_id}")
        return self.places[queue_id]


# ---------------------------------------------------------------------------------------------- into and out of queues


def route(facts: Facts, now: datetime, work: Work, chart: Chart) -> list[CaseEvent]:
    """A case is new to us: the table decides its first queue. Nothing if it has one."""
    if work.status is not Status.NONE:
        return []
    routed = chart.table.route(facts)
    return [_queued(facts, chart.place(routed.queue_id), routed.why, routed)]


def leave(reason: str, now: datetime, work: Work) -> list[CaseEvent]:
    """The case is escalated, resolved or closed: take it from agents and queues, once."""
    match work.status:
        case Status.NONE | Status.DONE:
            return []
        case Status.ESCALATED | Status.LOOKED_AFTER if reason == ESCALATED:
            return []
        case Status.ASSIGNED:
            return _let_go(work, reason)
        case _:
            return [*_let_go(work, reason), _dequeued(work, reason)]


def look_after(resolved: bool, now: datetime, work: Work) -> list[CaseEvent]:
    """An escalation unit has the case; where it was `resolved` already, the unit looks after it."""
    return [_dequeued(work, ESCALATED)] if resolved and work.status is Status.DONE else leave(ESCALATED, now, work)


def reopen(reason: str, at: datetime, now: datetime, work: Work, chart: Chart) -> list[CaseEvent | New]:
    """The customer came back at `at`: to the unit that looks after the case, else to the queue it was in last."""
    if work.status is Status.LOOKED_AFTER:
        return [New(_dequeued(work, ESCALATED), occurred_at=at)]
    return [*again(Status.DONE, f"reopened: {reason}", now, work, chart)]


def give_back(reason: str, now: datetime, work: Work, chart: Chart) -> list[CaseEvent]:
    """The escalation unit hands the case back: to its last queue, unless it is resolved."""
    if work.status is Status.LOOKED_AFTER:
        return [_dequeued(work, RESOLVED)]
    return again(Status.ESCALATED, f"back from escalation: {reason}", now, work, chart)


def looked_after(at: datetime, now: datetime, work: Work, chart: Chart) -> list[CaseEvent]:
    """The escalation unit is through with the case at `at`. What is open is resolved by intake, but not if the customer
    came back after that: then it waits where it was last."""
    if work.status is Status.LOOKED_AFTER:
        return [_dequeued(work, RESOLVED)]
    if work.reopened_at is None or work.reopened_at <= at:
        return []
    return again(Status.ESCALATED, "reopened when the escalation unit was through with it", now, work, chart)


def again(after: Status, why: str, now: datetime, work: Work, chart: Chart) -> list[CaseEvent]:
    """The case comes back to routing, to the queue it was in last. Nothing unless its status is `after`."""
    if work.status is not after:
        return []
    return [_queued(work.facts, chart.place(work.queue_id), why)]


def come_back(queue_id: str, why: str, now: datetime, work: Work, chart: Chart) -> list[CaseEvent]:
    """A partner returns the case: to its last queue of our own, else to the table's default, else to the built-in one.

    Never to a partner's again, which could go on for ever; without any other queue it stays where it is.
    """
    if work.status is not Status.AWAY or work.queue_id != queue_id:
        return []
    for candidate in (work.home_queue_id, chart.table.default.queue_id, BUILT_IN_QUEUE):
        place = chart.places.get(candidate or "")
        if place is not None and place.unit_kind is not UnitKind.PARTNER:
            return [_queued(work.facts, place, why)]
    return []


def rerank(priority: Priority | None, journey: str | None, now: datetime, work: Work) -> list[CaseEvent]:
    """The case is seen otherwise; None stays. It keeps its queue, its place's time and whoever was asked or owns it."""
    seen = CaseReranked(priority=priority or work.priority, journey=journey or work.journey)
    known = work.status is Status.NONE or (seen.priority, seen.journey) == (work.priority, work.journey)
    return [] if known else [seen]


# ------------------------------------------------------------------------------------------------------------- offers


@dataclass(frozen=True, slots=True)
class Seen:
    """What an offer is decided on beside the case and the agent, read while both are held."""

    load: int
    """Cases and open offers of the agent."""
    queue_id: str
    level: int
    offer_s: int


def offer(now: datetime, work: Work, agent: Agent, seen: Seen) -> list[CaseEvent]:
    """Ask the agent. Nothing if by now the case does not wait there, or the agent is not eligible, here and free."""
    here = agent.presence is Presence.AVAILABLE and seen.load < agent.capacity
    waits = work.status is Status.WAITING and work.queue_id == seen.queue_id and agent.agent_id not in work.declined_by
    if not (here and waits and agent.can_take(work.unit_id, work.market, work.language, work.journey, seen.level)):
        return []
    return [
        CaseOffered(
            offer_id=named(f"{work.case_id}/{agent.agent_id}/{work.offers}"),
            agent_id=agent.agent_id,
            queue_id=work.queue_id,
            unit_id=work.unit_id,
            expires_at=now + timedelta(seconds=seen.offer_s),
            load=seen.load,
            capacity=agent.capacity,
        )
    ]


def accept(agent_id: str, offer_id: str | None, now: datetime, work: Work, agent: Agent, load: int) -> list[CaseEvent]:
    """The agent takes the case. `load` counts this offer. Raises Unknown and Refused."""
    if _owns(work, agent_id) and offer_id in (None, work.offer_id):
        return []
    open_offer = _must_be_offered(work, agent_id, offer_id, now)
    if load > agent.capacity:
        raise Refused(
            f"agent {agent_id} has {load} cases and offers and a capacity of {agent.capacity} by now;"
            " end or release one first, or decline"
        )
    return [
        CaseAssigned(
            offer_id=open_offer,
            agent_id=agent_id,
            queue_id=work.queue_id,
            unit_id=work.unit_id,
            unit_kind=work.unit_kind,
        )
    ]


def decline(agent_id: str, offer_id: str | None, reason: str, now: datetime, work: Work) -> list[CaseEvent]:
    """The agent says no; the case keeps its place and is offered to somebody else. Raises Unknown and Refused."""
    if work.status is Status.WAITING and agent_id in work.declined_by:
        return []
    open_offer = _must_be_offered(work, agent_id, offer_id, now)
    return [OfferDeclined(offer_id=open_offer, agent_id=agent_id, reason=reason)]


def expire(mark: datetime, now: datetime, work: Work) -> list[New]:
    """The timer: an offer nobody answered by its end is over at its end."""
    match work:
        case Work(status=Status.OFFERED, offer_id=str(offer_id), agent_id=str(agent_id), due_at=datetime() as due_at):
            over = OfferExpired(offer_id=offer_id, agent_id=agent_id)
            event_id = named(f"offer/{offer_id}/expired")
            return [New(over, occurred_at=due_at, id=event_id)] if due_at <= mark else []
        case _:
            return []


def transfer(
    agent_id: str | None, queue_id: str, reason: str, now: datetime, work: Work, chart: Chart
) -> list[CaseEvent]:
    """Move the case to another queue; `agent_id` is the owner who does it, none a lead. Raises Unknown and Refused."""
    place = chart.place(queue_id)
    _must_be_known(work)
    inside = work.status in (Status.WAITING, Status.OFFERED, Status.AWAY)
    if inside and work.queue_id == queue_id and agent_id in (None, work.offered_to):
        return []
    if agent_id is not None and not _owns(work, agent_id):
        raise Refused(f"agent {agent_id} does not own this case: {standing(work)}")
    if work.status not in (Status.WAITING, Status.OFFERED, Status.ASSIGNED):
        raise Refused(f"this case cannot be transferred: {standing(work)}")
    if work.queue_id == queue_id:
        raise Refused(f"this case came from the queue {queue_id}; release it to put it back there")
    return [*_let_go(work, reason), *_leaves_unit(work, place, reason), _queued(work.facts, place, reason)]


def release(agent_id: str | None, reason: str, now: datetime, work: Work, chart: Chart) -> list[CaseEvent]:
    """The owner puts the case back into its queue; `agent_id` none: a lead does. Raises Unknown and Refused."""
    _must_be_known(work)
    if work.status is Status.WAITING and (agent_id is None or agent_id in work.declined_by):
        return []
    if agent_id is not None and not _owns(work, agent_id):
        raise Refused(f"agent {agent_id} does not own this case: {standing(work)}")
    if work.status is not Status.ASSIGNED:
        raise Refused(f"there is nothing to release here: {standing(work)}")
    return [*_let_go(work, reason), _queued(work.facts, chart.place(work.queue_id), reason)]


def standing(work: Work) -> str:
    """Where the case is, for a sentence that says why something is refused."""
    match work.status:
        case Status.NONE:
            return "it was not routed yet"
        case Status.WAITING:
            return f"it waits in the queue {work.queue_id}"
        case Status.OFFERED:
            return f"it is offered to agent {work.agent_id}"
        case Status.ASSIGNED:
            return f"agent {work.agent_id} owns it"
        case Status.AWAY:
            return f"it lies with the unit {work.unit_id}"
        case Status.ESCALATED:
            return "it is escalated, and the escalation unit has it"
        case Status.LOOKED_AFTER:
            return "it is resolved, and an escalation unit looks after it"
        case Status.DONE:
            return "it is resolved or closed"


# --------------------------------------------------------------------------------------------------------------- parts


def _owns(work: Work, agent_id: str) -> bool:
    return work.status is Status.ASSIGNED and work.agent_id == agent_id


def _must_be_known(work: Work) -> None:
    if work.status is Status.NONE:
        raise Unknown(f"the router has no case {work.case_id}")


def _must_be_offered(work: Work, agent_id: str, offer_id: str | None, now: datetime) -> str:
    """The open offer's id."""
    _must_be_known(work)
    if work.status is not Status.OFFERED or work.agent_id != agent_id or work.offer_id is None:
        raise Refused(f"this case is not offered to agent {agent_id}: {standing(work)}")
    if offer_id not in (None, work.offer_id):
        raise Refused(f"the offer {offer_id} is over; the open one is {work.offer_id}")
    if work.due_at is not None and work.due_at <= now:
        raise Refused(f"this offer ended at {work.due_at.isoformat()}; the case goes to the next agent")
    return work.offer_id


def _let_go(work: Work, reason: str) -> list[CaseEvent]:
    """Whoever was asked or owns it is free of it."""
    match work:
        case Work(status=Status.OFFERED, offer_id=str(offer_id), agent_id=str(agent_id)):
            return [OfferWithdrawn(offer_id=offer_id, agent_id=agent_id, reason=reason)]
        case Work(status=Status.ASSIGNED, agent_id=str(agent_id)):
            return [CaseReleased(agent_id=agent_id, unit_id=work.unit_id, reason=reason)]
        case _:
            return []


def _leaves_unit(work: Work, to: Place, reason: str) -> list[CaseEvent]:
    if work.unit_id == to.unit_id:
        return []
    agent_id = work.agent_id if work.status is Status.ASSIGNED else None
    return [CaseTransferred(from_unit_id=work.unit_id, to_unit_id=to.unit_id, agent_id=agent_id, reason=reason)]


def _queued(facts: Facts, place: Place, why: str, routed: Routed | None = None) -> CaseQueued:
    return CaseQueued(
        queue_id=place.queue_id,
        unit_id=place.unit_id,
        unit_kind=place.unit_kind,
        routing_table=routed.table if routed else None,
        rule=routed.rule if routed else None,
        priority=facts.priority,
        reason=why[:200],
        channel=facts.channel,
        market=facts.market,
        language=facts.language,
        journey=facts.journey,
    )


def _dequeued(work: Work, reason: str) -> CaseDequeued:
    return CaseDequeued(queue_id=work.queue_id, unit_id=work.unit_id, reason=reason)
