"""What climbs the ladder: breaches and warnings, what others say about the case, and silence."""

from __future__ import annotations

from collections.abc import Sequence

from events.case import (
    CaseClassified,
    CaseFlagged,
    CaseHandedOver,
    CaseOpened,
    CaseReopened,
    CaseTakenOver,
    CaseTransferred,
    ClockBreached,
    ClockWarned,
    EscalationUnanswered,
    FeedbackReceived,
)
from events.consume import Reactor
from events.database import Connection
from events.event import CASES, CaseEvent, Recorded
from events.timers import Timers
from events.views import project
from events.wire import VOCABULARY
from services.escalation.decide import ladders
from services.escalation.decide.case import FOLD
from services.escalation.decide.ladders import Seen
from services.escalation.views.escalations import ESCALATIONS
from services.escalation.views.ladders import ladders_in_force
from services.escalation.views.rotas import rotas_in_force

FACTS = (CaseOpened, CaseTakenOver, CaseClassified, CaseTransferred, CaseHandedOver)
"""What a case's facts are made of: all that was heard of them is kept."""


async def look(conn: Connection, events: Sequence[Recorded[CaseEvent]]) -> Seen:
    """Ladders and rotas in force now, and the past of the events' cases."""
    return await seen_of(conn, sorted({event.subject for event in events}))


async def seen_of(conn: Connection, case_ids: Sequence[str]) -> Seen:
    """What rungs of these cases are decided on, read now."""
    types = {fact.TYPE for fact in FACTS}
    pasts = await project.history(conn, CASES, case_ids, VOCABULARY, types, table="past")
    return Seen(await ladders_in_force(conn), await rotas_in_force(conn), pasts)


REACTOR = Reactor(
    "escalation.ladders",
    reads=(*FACTS, CaseReopened, CaseFlagged, FeedbackReceived, ClockWarned, ClockBreached, EscalationUnanswered),
    fold=FOLD,
    decide=ladders.climb,
    look=look,
    keeps=True,
)

TIMERS = Timers(ESCALATIONS, FOLD, ladders.unanswered, waits_for=("intake",))
"""Who acknowledges does so in escalation's own stream; only intake's record can end the case before that."""
