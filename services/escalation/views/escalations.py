"""Each case's latest escalation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from events.case import (
    CaseEscalated,
    ClockStopped,
    EscalationAcknowledged,
    EscalationResolved,
    EscalationReturned,
    EscalationUnanswered,
)
from events.views import View
from services.escalation.decide.escalations import Escalation, Status, escalated

ESCALATIONS = View(
    "escalations",
    2,
    Escalation,
    (
        CaseEscalated,
        EscalationUnanswered,
        EscalationAcknowledged,
        EscalationResolved,
        EscalationReturned,
        ClockStopped,
    ),
    escalated,
    inline=True,
    indexes=("status, opened_at, case_id", "opened_at, case_id", "due_at"),
)
"""A case's latest escalation; `due_at` is when somebody must have acknowledged it."""


def page_of_escalations(status: Status | None, limit: int, after: tuple[datetime, str] | None) -> sa.Select[Any]:
    """Escalations, the longest open first; one more than `limit`, which tells whether there is a next page."""
    c = ESCALATIONS.table.c
    statement = sa.select(ESCALATIONS.table).order_by(c.opened_at, c.case_id).limit(limit + 1)
    if status is not None:
        statement = statement.where(c.status == status)
    if after is not None:
        statement = statement.where(sa.tuple_(c.opened_at, c.case_id) > sa.tuple_(*map(sa.literal, after)))
    return statement
