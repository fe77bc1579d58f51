"""What has happened to a case in the router's tests, and the organigram it happened in."""

from datetime import timedelta
from typing import Any

from events.case import CaseAssigned, CaseDequeued, CaseOffered, CaseQueued, Priority, UnitKind
from events.operations import Presence, RoutingRule, When
from events.testing import START
from services.router.decide import Chart, Place, Seen
from services.router.organigram import Agent
from services.router.table import Table
from tests.given import an

QUEUED = an(
    CaseQueued,
    priority=Priority.HIGH,
    channel="email",
    market="de",
    language="de",
    journey="delivery",
    reason="rule default of main@1",
)
WITH_A_PARTNER = an(
    CaseQueued, **{**QUEUED.model_dump(), "queue_id": "parcels", "unit_id": "swift", "unit_kind": UnitKind.PARTNER}
)
OFFERED = an(CaseOffered, expires_at=START + timedelta(minutes=30))
ASSIGNED = an(CaseAssigned)

ANNA = Agent(
    "agent:anna",
    "anna",
    version=1,
    unit_ids=("general",),
    languages=("de", "en"),
    level=2,
    capacity=5,
    presence=Presence.AVAILABLE,
)
BEN = Agent("agent:ben", "ben", version=1, unit_ids=("general",), capacity=2, presence=Presence.AVAILABLE)
FREE = Seen(load=0, queue_id="general", level=1, offer_s=60)

PLACES = {
    "general": Place("general", "general", UnitKind.FRONT_END),
    "refunds": Place("refunds", "refunds", UnitKind.BACK_END),
    "general-2": Place("general-2", "general", UnitKind.FRONT_END),
    "parcels": Place("parcels", "swift", UnitKind.PARTNER),
}


def left(reason: str) -> CaseDequeued:
    """The case left the queue for this reason."""
    return CaseDequeued(queue_id="general", unit_id="general", reason=reason)


def chart(*rules: RoutingRule, **places: Any) -> Chart:
    """A table with these rules before the default one."""
    return Chart(Table(3, (*rules, RoutingRule(rule="default", queue_id="general"))), {**PLACES, **places})


PARCELS_FIRST = RoutingRule(rule="parcels", when=When(journeys=("delivery",)), queue_id="parcels")
