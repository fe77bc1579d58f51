"""What others say that ends an episode: a partner's or an escalation unit's resolution is the case's resolution."""

from __future__ import annotations

from datetime import datetime

from events.case import EscalationResolved, PartnerResolved
from events.consume import Reactor
from events.event import Recorded
from events.store import New
from services.intake.decide import cases
from services.intake.decide.cases import Life, Resolver


def react(event: Recorded[PartnerResolved | EscalationResolved], looked: None, now: datetime, life: Life) -> list[New]:
    """Resolve the episode that is open, unless what ended was an earlier one: the case has moved on since."""
    late = life.moved_at is not None and event.occurred_at < life.moved_at
    if not life.case.live or life.ended or (late and life.case.episode > 1):
        return []
    by: Resolver = "partner" if isinstance(event.data, PartnerResolved) else "escalation"
    return cases.resolve(by, event.data.code, None if late else event.occurred_at, now, life)


REACTOR = Reactor("resolutions", (PartnerResolved, EscalationResolved), cases.FOLD, react)
