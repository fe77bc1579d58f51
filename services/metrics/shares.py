"""Figures that are shares of cases, case by case: which cases counted, for what, and why the others did not.

To add one: a `Share` for the figure's id in `SHARES`. What is asked here adds up to the figure, by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from services.metrics.facts import Verdict
from services.metrics.figures import FACTS, Form, limited
from services.metrics.formulas import Column

_C = FACTS.c


@dataclass(frozen=True)
class Share:
    """One figure: `yes` of `yes` and `no`, among the cases that fulfil a condition."""

    verdict: Column
    """yes, no or unknown."""
    yes: str
    no: str
    unknown: str = "nobody said, and nothing shows"
    among: Column | None = None
    left_out: str = ""
    """Why a case is not among them."""

    def why(self, row: Mapping[str, Any]) -> str:
        """Why the case counted as it did, or why it did not."""
        if not row["among"]:
            return self.left_out
        return {Verdict.YES: self.yes, Verdict.NO: self.no, Verdict.UNKNOWN: self.unknown}[Verdict(row["verdict"])]


class Promise(Share):
    """The resolution promise: its clock says why."""

    def why(self, row: Mapping[str, Any]) -> str:
        verdict, imported = Verdict(row["verdict"]), row["import_id"] is not None
        if verdict is not Verdict.UNKNOWN:
            return "the clock is over its due time and runs" if row["clock_ended_at"] is None else super().why(row)
        if row["clock_episode"] < row["episode"]:
            return "imported without promises" if imported else "this episode has no clock yet"
        if row["clock_promise"] is None:
            return "nothing is promised"
        if row["clock_ended_at"] is not None:
            return "the case ended without a resolution"
        return "the imported history ends before the case does" if row["clock_imported"] else "the clock still runs"


def _whether(condition: Column) -> Column:
    return sa.case((condition, Verdict.YES.value), else_=Verdict.NO.value)


_RESOLVED = _C.resolutions > 0
_UNRESOLVED = "never resolved"

SHARES: Mapping[str, Share] = {
    "promise_kept": Promise(_C.in_time, "resolved in time", "resolved too late"),
    "first_response_kept": Share(
        _C.response_kept, "answered in time", "not answered in time", "no promised first-response clock has ended"
    ),
    "first_line_alone": Share(
        sa.func.coalesce(_C.first_line, Verdict.UNKNOWN.value),
        "only first-line units had it",
        "another unit had it",
        "no step says which line a unit belongs to",
    ),
    "solved_alone": Share(
        _C.solved_alone,
        "one agent of one first-line unit solved it",
        "more than one agent or unit had it, or one that is not first-line",
        "nothing says who had it, or it is open again",
        _RESOLVED,
        _UNRESOLVED,
    ),
    "accepted": Share(
        _C.accepted,
        "the customer accepted it",
        "the customer did not accept it",
        "the customer said neither yes nor no",
        _RESOLVED,
        _UNRESOLVED,
    ),
    "reopened": Share(
        _whether(_C.reopened), "open again after a resolution", "never open again", "", _RESOLVED, _UNRESOLVED
    ),
    "escalated": Share(
        _C.escalated,
        "an escalation unit was asked",
        "no escalation unit was asked",
        "another system's log does not say",
    ),
    "within_24h": Share(_whether(_C.duration_us <= 86_400_000_000), "24 hours at most", "more than 24 hours"),
}
"""By the figure's id."""


def statement(
    share: Share, form: Form, counted: bool | None, after: str | None, limit: int
) -> sa.Select[*tuple[Any, ...]]:
    """The cases in the order of their ids, those after one of them, with all that `why` goes by. `Asked.values` come
    later."""
    among = sa.true() if share.among is None else share.among
    counts = sa.and_(among, share.verdict.in_((Verdict.YES, Verdict.NO)))
    query = sa.select(
        _C.case_id,
        share.verdict.label("verdict"),
        among.label("among"),
        counts.label("counted"),
        _C.import_id,
        _C.episode,
        _C.clock_episode,
        _C.clock_promise,
        _C.clock_due_at,
        _C.clock_ended_at,
        _C.clock_imported,
    )
    query = limited(form, query).order_by(_C.case_id).limit(limit)
    if counted is not None:
        query = query.where(counts if counted else sa.not_(counts))
    return query if after is None else query.where(_C.case_id > after)
