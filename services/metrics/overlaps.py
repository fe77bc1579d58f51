"""When more than one had a case at once: an agent, a partner, an escalation unit. A walk shows it, however short."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from events.case import (
    CaseAssigned,
    CaseClosed,
    CaseEscalated,
    CaseHandedOver,
    CaseReleased,
    CaseResolved,
    EscalationResolved,
    EscalationReturned,
    PartnerResolved,
    PartnerReturned,
)
from events.event import CaseEvent, Recorded

AGENT, PARTNER, UNIT = "agent", "partner", "unit"


@dataclass(frozen=True)
class Overlap:
    """A time in which several had the case."""

    since: datetime
    until: datetime | None
    """None while it lasts."""
    holders: tuple[str, ...]
    """`agent:<id>`, `partner:<id>`, `unit:<id>` of an escalation unit, in the order in which they got it."""


def overlaps(events: Iterable[Recorded[CaseEvent]]) -> tuple[Overlap, ...]:
    """Of a case's events in the order of `Recorded.key`. A time of no length is none."""
    found = list[Overlap]()
    having: tuple[str, ...] = ()
    for event in events:
        before, having = having, _after(having, event.data)
        if len(before) > 1 and having != before:
            found[-1] = Overlap(found[-1].since, event.occurred_at, found[-1].holders)
        if len(having) > 1 and having != before:
            found.append(Overlap(event.occurred_at, None, having))
    return tuple(overlap for overlap in found if overlap.since != overlap.until)


def _after(having: tuple[str, ...], data: CaseEvent) -> tuple[str, ...]:
    """Who has the case after the event."""
    match data:
        case CaseAssigned(agent_id=agent_id):
            return _with(having, AGENT, agent_id)
        case CaseHandedOver(partner_id=partner_id):
            return _with(having, PARTNER, partner_id)
        case CaseEscalated(unit_id=unit_id):
            return _with(having, UNIT, unit_id)
        case CaseReleased():
            return _without(having, AGENT)
        case PartnerReturned() | PartnerResolved():
            return _without(having, PARTNER)
        case EscalationReturned() | EscalationResolved():
            return _without(having, UNIT)
        case CaseResolved() | CaseClosed():
            return ()
        case _:
            return having


def _with(having: tuple[str, ...], kind: str, who: str) -> tuple[str, ...]:
    return (*_without(having, kind), f"{kind}:{who}")


def _without(having: tuple[str, ...], kind: str) -> tuple[str, ...]:
    return tuple(one for one in having if not one.startswith(f"{kind}:"))
