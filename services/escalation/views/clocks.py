"""What a case is judged by, and what its running clocks owe: the row that the timers fire by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from events.case import (
    ClockBreached,
    ClockCancelled,
    ClockEvent,
    ClockPaused,
    ClockRestated,
    ClockResumed,
    ClockRetargeted,
    ClockStarted,
    ClockStopped,
    ClockWarned,
    ClockWarning,
    PromisesPinned,
)
from events.database import Connection, fetch
from events.event import CaseEvent, Recorded
from events.views import View
from events.wire import rfc3339

BREACH = 100
"""The share of a target at which the promise breaks, beside the percentages of warnings."""


@dataclass(frozen=True, slots=True)
class CaseClocks:
    """One row per case that was ever judged."""

    case_id: str
    due_at: datetime | None = None
    """The earliest moment of `owed`."""
    promises: tuple[str, ...] = ()
    """id@version."""
    running: tuple[str, ...] = ()
    """`kind/episode/turn` of each running clock that fires."""
    owed: tuple[str, ...] = ()
    """`moment kind/episode/turn percent` of each thing not said yet."""


def fold_clocks(row: CaseClocks | None, event: Recorded[CaseEvent]) -> CaseClocks:
    """Every event that changes what a clock owes says what it owes from then on."""
    row = row or CaseClocks(event.subject)
    match event.data:
        case PromisesPinned(promises=promises):
            return replace(row, promises=promises)
        case ClockWarned() as data:
            said = f" {_name(data)} {data.percent}"
            return _owing(row, (owed for owed in row.owed if not owed.endswith(said)))
        case ClockEvent() as data:
            return _anew(row, data)
        case _:
            return row


def _anew(row: CaseClocks, data: ClockEvent) -> CaseClocks:
    name = _name(data)
    runs = not _ends(data) and _fires(data, name in row.running)
    others = tuple(one for one in row.running if one != name)
    row = replace(row, running=tuple(sorted((*others, name))) if runs else others)
    mine = _owed(data) if runs else []
    return _owing(row, [*(owed for owed in row.owed if f" {name} " not in owed), *mine])


def _owed(data: ClockEvent) -> list[str]:
    match data:
        case ClockStarted() | ClockResumed() | ClockRetargeted():
            return _moments(data, data.due_at, data.warnings)
        case ClockPaused():
            return _moments(data, data.due_at, ())
        case ClockRestated(after=after) if after.kept is None:
            return _moments(data, after.due_at, after.warnings)
        case _:
            return []


def _moments(data: ClockEvent, due_at: datetime | None, warnings: Sequence[ClockWarning]) -> list[str]:
    moments = [(warning.at, warning.percent) for warning in warnings]
    moments += [] if due_at is None else [(due_at, BREACH)]
    return [f"{rfc3339(at)} {_name(data)} {percent}" for at, percent in moments]


def _ends(data: ClockEvent) -> bool:
    return isinstance(data, ClockStopped | ClockCancelled) or (
        isinstance(data, ClockRestated) and data.after.ended_at is not None
    )


def _fires(data: ClockEvent, fired: bool) -> bool:
    match data:
        case ClockStarted():
            return data.fires
        case ClockRestated():
            return data.after.fires
        case _:
            return fired


def _name(data: ClockEvent) -> str:
    return f"{data.clock}/{data.episode}/{data.turn}"


def _owing(row: CaseClocks, owed: Iterable[str]) -> CaseClocks:
    ordered = tuple(sorted(owed))
    due_at = datetime.fromisoformat(ordered[0].partition(" ")[0]) if ordered else None
    return replace(row, owed=ordered, due_at=due_at)


CLOCKS = View(
    "clocks",
    2,
    CaseClocks,
    (
        PromisesPinned,
        ClockStarted,
        ClockPaused,
        ClockResumed,
        ClockRetargeted,
        ClockWarned,
        ClockBreached,
        ClockStopped,
        ClockCancelled,
        ClockRestated,
    ),
    fold_clocks,
    inline=True,
    indexes=("due_at",),
)


async def rows_of(conn: Connection, case_ids: Iterable[str]) -> list[CaseClocks]:
    """The rows of these cases, of those that have one."""
    statement = sa.select(CLOCKS.table).where(CLOCKS.table.c.case_id.in_(list(case_ids)))
    return [CLOCKS.decode(row) for row in await fetch(conn, statement)]
