"""What the router does when others say something about a case, and when an offer has run out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from events.case import (
    CaseClassified,
    CaseClosed,
    CaseEscalated,
    CaseOpened,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    EscalationResolved,
    EscalationReturned,
    PartnerReturned,
)
from events.consume import Reactor
from events.event import CaseEvent, Recorded
from events.store import New
from events.timers import Timers
from services.router import decide
from services.router.decide import Chart
from services.router.table import Facts
from services.router.views import WORK, chart
from services.router.work import CASE, CLOSED, ESCALATED, RESOLVED, Work


def react(event: Recorded[Any], seen: Chart, now: datetime, work: Work) -> Sequence[CaseEvent | New]:
    """Route what is new, rank it as it is classified, take out what ended or was escalated, queue what comes back."""
    match event.data:
        case CaseOpened() | CaseTakenOver() as came:
            return decide.route(Facts.of(came), now, work, seen)
        case CaseClassified(priority=priority, journey=journey):
            return decide.rerank(priority, journey, now, work)
        case CaseResolved():
            return decide.leave(RESOLVED, now, work)
        case CaseClosed():
            return decide.leave(CLOSED, now, work)
        case CaseEscalated(resolved=resolved):
            return decide.look_after(resolved, now, work)
        case CaseReopened(reason=reason):
            return decide.reopen(reason, event.occurred_at, now, work, seen)
        case EscalationReturned(reason=reason):
            return decide.give_back(reason, now, work, seen)
        case EscalationResolved():
            return decide.looked_after(event.occurred_at, now, work, seen)
        case PartnerReturned(reason=reason) if reason == ESCALATED:
            return []  # the order ended because the case is escalated; where it goes is said by that
        case PartnerReturned(queue_id=queue_id, reason=reason):
            return decide.come_back(queue_id, f"back from the partner: {reason}", now, work, seen)
        case _:
            return []


REACTOR = Reactor(
    "routing",
    (
        CaseOpened,
        CaseTakenOver,
        CaseClassified,
        CaseResolved,
        CaseClosed,
        CaseEscalated,
        CaseReopened,
        EscalationResolved,
        EscalationReturned,
        PartnerReturned,
    ),
    CASE,
    react,
    chart,
)

OFFERS = Timers(view=WORK, fold=CASE, fire=decide.expire, waits_for=("intake",))
"""An offer ends when nobody answered it, unless the case was over before."""
