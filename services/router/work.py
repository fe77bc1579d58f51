"""A case in the router's hands: what the router's own events about it add up to. State, row and fold are one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from events.case import (
    CaseAssigned,
    CaseDequeued,
    CaseOffered,
    CaseQueued,
    CaseReleased,
    CaseReranked,
    OfferDeclined,
    OfferExpired,
    OfferWithdrawn,
    Priority,
    UnitKind,
)
from events.event import CASES, Recorded
from events.store import Fold
from services.router.organigram import KEPT_BY_OTHERS
from services.router.table import Facts


class Status(StrEnum):
    """Whose turn it is, as the router sees it."""

    NONE = "none"
    """Never routed, or between two queues."""
    WAITING = "waiting"
    """In a queue; somebody eligible will be asked."""
    OFFERED = "offered"
    """One agent was asked and has not answered."""
    ASSIGNED = "assigned"
    """One agent owns it."""
    AWAY = "away"
    """In the queue of a unit whose cases others hand out: a partner's."""
    ESCALATED = "escalated"
    """An escalation unit has it; nothing is routed until it comes back."""
    LOOKED_AFTER = "looked_after"
    """Resolved, and an escalation unit looks after what came of it; nothing is routed if it is reopened."""
    DONE = "done"
    """Resolved or closed."""


ESCALATED, RESOLVED, CLOSED = "escalated", "resolved", "closed"
"""Reasons for which a case leaves routing altogether; any other reason is followed by its next queue."""

_LEFT = {ESCALATED: Status.ESCALATED, RESOLVED: Status.DONE, CLOSED: Status.DONE}

RANK = {Priority.URGENT: 0, Priority.HIGH: 1, Priority.NORMAL: 2, Priority.LOW: 3}
"""Who is served first; a column sorts by it."""


@dataclass(frozen=True, slots=True)
class Work:
    """A case as routing sees it."""

    case_id: str
    status: Status = Status.NONE
    channel: str | None = None
    market: str | None = None
    language: str | None = None
    journey: str | None = None
    priority: Priority = Priority.NORMAL
    rank: int = RANK[Priority.NORMAL]
    queue_id: str = ""
    """The queue it is in, or was in last."""
    unit_id: str = ""
    unit_kind: UnitKind = UnitKind.FRONT_END
    home_queue_id: str | None = None
    """The last queue that was not a partner's."""
    enqueued_at: datetime | None = None
    """Since when it has its place in the queue; offers that come to nothing do not change it."""
    offers: int = 0
    """Offers ever made."""
    offer_id: str | None = None
    """The open offer, or the one that was accepted."""
    agent_id: str | None = None
    """Who was asked, or owns it."""
    due_at: datetime | None = None
    """When the open offer ends."""
    offered_to: str | None = None
    """Who was asked last, whatever came of it."""
    offered_at: datetime | None = None
    declined_by: tuple[str, ...] = ()
    """Who gave it back or said no while it is in this queue; they are not asked again."""
    missed_by: tuple[str, ...] = ()
    """Who let an offer of it end without a word; they are asked last."""
    reopened_at: datetime | None = None
    """When the customer came back while an escalation unit looked after it."""

    @property
    def facts(self) -> Facts:
        return Facts(self.channel, self.market, self.language, self.journey, self.priority)


def evolve(work: Work | None, event: Recorded[Any]) -> Work:
    """The case after one more of the router's events."""
    work = work or Work(event.subject)
    match event.data:
        case CaseQueued() as data:
            return _queued(work, data, event.occurred_at)
        case CaseReranked(priority=priority, journey=journey):
            return replace(work, priority=priority, rank=RANK[priority], journey=journey)
        case CaseOffered() as data:
            return replace(
                work,
                status=Status.OFFERED,
                offers=work.offers + 1,
                offer_id=data.offer_id,
                agent_id=data.agent_id,
                due_at=data.expires_at,
                offered_to=data.agent_id,
                offered_at=event.occurred_at,
            )
        case OfferDeclined(agent_id=agent_id):
            return _free(replace(work, declined_by=_with(work.declined_by, agent_id)), Status.WAITING)
        case OfferExpired(agent_id=agent_id):
            return _free(replace(work, missed_by=_with(work.missed_by, agent_id)), Status.WAITING)
        case OfferWithdrawn():
            return _free(work, Status.WAITING)
        case CaseAssigned():
            return replace(work, status=Status.ASSIGNED, due_at=None)
        case CaseReleased(reason=reason) if reason in _LEFT:
            return _free(work, _LEFT[reason])
        case CaseReleased(agent_id=agent_id):
            return _free(replace(work, declined_by=_with(work.declined_by, agent_id)), Status.NONE)
        case CaseDequeued(reason=reason) if reason == ESCALATED and work.status is Status.DONE:
            return replace(work, status=Status.LOOKED_AFTER, reopened_at=None)
        case CaseDequeued(reason=reason) if reason == ESCALATED and work.status is Status.LOOKED_AFTER:
            return replace(work, status=Status.ESCALATED, reopened_at=event.occurred_at)
        case CaseDequeued(reason=reason):
            return replace(_free(work, _LEFT.get(reason, Status.DONE)), reopened_at=None)
        case _:
            return work


def _queued(work: Work, data: CaseQueued, at: datetime) -> Work:
    stays = work.status is Status.NONE and work.queue_id == data.queue_id
    return replace(
        _free(work, Status.AWAY if data.unit_kind in KEPT_BY_OTHERS else Status.WAITING),
        channel=data.channel,
        market=data.market,
        language=data.language,
        journey=data.journey,
        priority=data.priority,
        rank=RANK[data.priority],
        queue_id=data.queue_id,
        unit_id=data.unit_id,
        unit_kind=data.unit_kind,
        home_queue_id=work.home_queue_id if data.unit_kind is UnitKind.PARTNER else data.queue_id,
        enqueued_at=at,
        declined_by=work.declined_by if stays else (),
        missed_by=work.missed_by if stays else (),
    )


def _free(work: Work, status: Status) -> Work:
    return replace(work, status=status, offer_id=None, agent_id=None, due_at=None)


def _with(agents: tuple[str, ...], agent_id: str) -> tuple[str, ...]:
    return agents if agent_id in agents else (*agents, agent_id)


CASE: Fold[Work] = Fold(CASES, Work, evolve)
"""The router's stream of a case: `CASE(case_id)`."""
