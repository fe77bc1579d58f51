"""What happens elsewhere and what vendor makes of it: queued cases go to partners, escalated ones come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from events.case import CaseEscalated, CaseQueued, UnitKind
from events.consume import Reactor
from events.database import Connection
from events.event import CaseEvent, Event, Recorded
from services.vendor import decide, views
from services.vendor.decide import FOLD, Case
from services.vendor.shares import Choice, assign


async def look(conn: Connection, events: Sequence[Recorded[CaseEvent]]) -> dict[str, Choice]:
    """Event id → the partner that gets the case. Exact under any number of processes: the queues are locked first,
    and each event counts what the earlier ones of the batch are about to get."""
    queued = [
        (event.id, event.data.queue_id)
        for event in events
        if isinstance(event.data, CaseQueued) and event.data.unit_kind is UnitKind.PARTNER
    ]
    queues = sorted({queue for _, queue in queued})
    if not queues:
        return {}
    await views.lock(conn, queues)
    splits = await views.splits(conn, queues)
    return assign(queued, splits, await views.given(conn, splits))


def react(event: Recorded[CaseEvent], choices: Mapping[str, Choice], now: datetime, case: Case) -> Sequence[Event]:
    """Hand over what is queued for a partner; take an escalated case away from its partner."""
    match event.data:
        case CaseQueued(unit_kind=UnitKind.PARTNER) as queued:
            return decide.hand_over(queued, choices.get(event.id), case)
        case CaseEscalated():
            return decide.take_back("escalated", case)
        case _:
            return []


REACTOR = Reactor("vendor.orders", reads=(CaseQueued, CaseEscalated), fold=FOLD, decide=react, look=look)
