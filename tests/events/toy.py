"""Two tiny services for tests of the machinery: an intake that opens cases, a router that queues them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4, uuid5

from fastapi import APIRouter

from events.case import (
    CaseAssigned,
    CaseClosed,
    CaseOffered,
    CaseOpened,
    CaseQueued,
    CaseResolved,
    OfferExpired,
    Priority,
    UnitKind,
)
from events.consume import Reactor
from events.errors import Refused
from events.event import CASES, NAMESPACE, CaseEvent, Event, Recorded
from events.operations import PresenceChanged
from events.personal import Clear
from events.store import Fold, New
from events.timers import Timers
from events.views import View
from events.wire import partition_of
from services.runtime import Host, Service


@dataclass(frozen=True)
class Toy:
    """What a toy stream adds up to: its events' types, in order."""

    subject: str
    types: tuple[str, ...] = ()
    expires_at: datetime | None = None


def _evolve(toy: Toy, event: Recorded[Any]) -> Toy:
    toy = replace(toy, types=(*toy.types, event.data.TYPE))
    match event.data:
        case CaseOffered() as offered:
            return replace(toy, expires_at=offered.expires_at)
        case OfferExpired() | CaseAssigned():
            return replace(toy, expires_at=None)
        case _:
            return toy


CASE = Fold(CASES, Toy, _evolve)


def in_partition(partition: int) -> str:
    """A new case id of that partition."""
    while partition_of(case_id := str(uuid4())) != partition:
        pass
    return case_id


def opened(**fields: Any) -> CaseOpened:
    person = fields.pop("person", "customer-1")
    defaults: dict[str, Any] = {
        "channel": "chat",
        "market": "de",
        "language": "de",
        "journey": "delivery",
        "customer_ref": person,
        "title": Clear(person, "Where is my parcel?"),
        "body": Clear(person, "It should have been here on Monday."),
    }
    return CaseOpened(**(defaults | fields))


def open_case(now: datetime, toy: Toy) -> list[Event]:
    if toy.types:
        raise Refused("the case is open already")
    return [opened(person=f"customer-of-{toy.subject}")]


def resolve(now: datetime, toy: Toy) -> list[Event]:
    if CaseResolved.TYPE in toy.types:
        return []
    return [CaseResolved(episode=1, by="agent")]


def close(now: datetime, toy: Toy) -> list[Event]:
    return [CaseClosed(episode=1)]


def queued() -> CaseQueued:
    return CaseQueued(
        queue_id="general", unit_id="general", unit_kind=UnitKind.FRONT_END, priority=Priority.NORMAL, reason="toy"
    )


def offer(valid_for: timedelta, now: datetime, toy: Toy) -> list[Event]:
    return [
        CaseOffered(
            offer_id="o1",
            agent_id="anna",
            queue_id="general",
            unit_id="general",
            expires_at=now + valid_for,
            load=0,
            capacity=1,
        )
    ]


def react(event: Recorded[Any], looked: None, now: datetime, toy: Toy) -> list[Event]:
    match event.data:
        case CaseOpened() if CaseQueued.TYPE not in toy.types:
            return [queued()]
        case _:
            return []


@dataclass(frozen=True)
class Count:
    """How many events of which types a case has seen, in fold order."""

    case_id: str
    events: int
    types: tuple[str, ...]
    market: str | None
    last_at: datetime


def count(row: Count | None, event: Recorded[CaseEvent]) -> Count:
    row = row or Count(event.subject, 0, (), None, event.occurred_at)
    market = event.data.market if isinstance(event.data, CaseOpened) else row.market
    return Count(row.case_id, row.events + 1, (*row.types, event.data.TYPE), market, event.occurred_at)


READS: tuple[type[Event], ...] = (CaseOpened, CaseResolved, CaseQueued, CaseOffered, OfferExpired, CaseClosed)

COUNTS = View("counts", 1, Count, READS, count, indexes=("market, last_at",))


@dataclass(frozen=True)
class Due:
    """A case's offer, while one is open."""

    case_id: str
    due_at: datetime | None


def due(row: Due | None, event: Recorded[Any]) -> Due | None:
    return Due(event.subject, event.data.expires_at) if isinstance(event.data, CaseOffered) else None


DUES = View("dues", 1, Due, (CaseOffered, OfferExpired, CaseAssigned), due, inline=True, indexes=("due_at",))


def expire(mark: datetime, now: datetime, toy: Toy) -> Sequence[Event | New]:
    if toy.expires_at is None or toy.expires_at > mark:
        return []
    event_id = str(uuid5(NAMESPACE, f"toy/{toy.subject}/expired"))
    return [New(OfferExpired(offer_id="o1", agent_id="anna"), occurred_at=toy.expires_at, id=event_id)]


def doors(host: Host) -> APIRouter:
    return APIRouter()


INTAKE = Service("intake", "opens toy cases", ("toys",), doors, views=(COUNTS,))

ROUTER = Service(
    "router",
    "queues toy cases",
    ("toy-queues",),
    doors,
    views=(COUNTS,),
    inline=(DUES,),
    reactors=(Reactor("router.queue", (CaseOpened,), CASE, react),),
    timers=(Timers(DUES, CASE, expire, ("intake",)),),
)

__all__ = ["CASE", "COUNTS", "DUES", "INTAKE", "ROUTER", "Count", "PresenceChanged", "Toy"]
