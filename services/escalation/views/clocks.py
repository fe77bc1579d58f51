"""What running clocks owe: the row that the timers fire by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from events.case import ClockBreached, ClockKind, ClockStarted, ClockStopped, ClockWarned
from events.event import CaseEvent, Recorded
from events.views import View


@dataclass(frozen=True, slots=True)
class CaseClocks:
    """What a case's running clocks owe and have not said yet. There is no row where they owe nothing."""

    case_id: str
    due_at: datetime | None = None
    """The earliest of the moments below."""
    first_response_warn_at: datetime | None = None
    first_response_due_at: datetime | None = None
    resolution_warn_at: datetime | None = None
    resolution_due_at: datetime | None = None


def fold_clocks(row: CaseClocks | None, event: Recorded[CaseEvent]) -> CaseClocks | None:
    """At most one clock of a kind runs at a time, so a kind's two columns are its running clock's."""
    row = row or CaseClocks(event.subject)
    match event.data:
        case ClockStarted() as data:
            row = _owes(row, data.clock, data.warn_at, data.due_at)
        case ClockWarned() as data:
            row = _owes(row, data.clock, None, data.due_at)
        case ClockBreached() | ClockStopped() as data:
            row = _owes(row, data.clock, None, None)
    moments = (row.first_response_warn_at, row.first_response_due_at, row.resolution_warn_at, row.resolution_due_at)
    due_at = min((moment for moment in moments if moment is not None), default=None)
    return None if due_at is None else replace(row, due_at=due_at)


def _owes(row: CaseClocks, kind: ClockKind, warn_at: datetime | None, due_at: datetime | None) -> CaseClocks:
    match kind:
        case ClockKind.FIRST_RESPONSE:
            return replace(row, first_response_warn_at=warn_at, first_response_due_at=due_at)
        case ClockKind.RESOLUTION:
            return replace(row, resolution_warn_at=warn_at, resolution_due_at=due_at)


CLOCKS = View(
    "clocks",
    1,
    CaseClocks,
    (ClockStarted, ClockWarned, ClockBreached, ClockStopped),
    fold_clocks,
    inline=True,
    indexes=("due_at",),
)
