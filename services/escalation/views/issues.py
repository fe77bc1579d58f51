"""Every mass issue as it stands."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from events.operations import (
    IssueAccepted,
    IssueCancelled,
    IssueGathered,
    IssueMessageSent,
    IssueProposed,
    IssueRejected,
    IssueResolved,
)
from events.views import View
from services.escalation.decide.issues import Issue, Stage, evolve

ISSUES = View(
    "issues",
    1,
    Issue,
    (
        IssueProposed,
        IssueAccepted,
        IssueRejected,
        IssueCancelled,
        IssueGathered,
        IssueMessageSent,
        IssueResolved,
    ),
    evolve,
    inline=True,
    indexes=("proposed_at, subject",),
)


def page_of_issues(stage: Stage | None, limit: int, after: tuple[datetime, str] | None) -> sa.Select[Any]:
    """Issues, the oldest first; one more than `limit`, which tells whether there is a next page."""
    c = ISSUES.table.c
    statement = sa.select(ISSUES.table).order_by(c.proposed_at, c.subject).limit(limit + 1)
    if stage is not None:
        statement = statement.where(c.stage == stage)
    if after is not None:
        statement = statement.where(sa.tuple_(c.proposed_at, c.subject) > sa.tuple_(*map(sa.literal, after)))
    return statement
