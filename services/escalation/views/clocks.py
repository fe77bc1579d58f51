"""What a case is judged by, and what its running clocks owe: the row that the timers fire by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from events.case import (
    ClockBreached,
    ClockCancelled,
    ClockEvent,
    ClockKind,
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
from events.database import Connection, fetch, later
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
    """What its latest episode is judged by: id@version."""
    earlier: tuple[str, ...] = ()
    """What episodes before may be judged by."""
    open_since: datetime | None = None
    """When the latest episode began."""
    open_until: datetime | None = None
    """When it ended; None while it lasts."""
    running: tuple[str, ...] = ()
    """`kind/episode/turn` of each running clock that fires."""
    owed: tuple[str, ...] = ()
    """`moment kind/episode/turn percent` of each thing not said yet."""
    promised: tuple[str, ...] = ()
    """`kind/episode/turn calendar` of each running clock that was promised a time and has not broken it."""
    unreachable: tuple[str, ...] = ()
    """Those of `promised` that count, and will never be due by that calendar."""
    broken: tuple[str, ...] = ()
    """`kind/episode/turn` of each running clock that was called breached: it owes no breach, whatever happens to it."""


def fold_clocks(row: CaseClocks | None, event: Recorded[CaseEvent]) -> CaseClocks | None:
    """Every event that changes what a clock owes says what it owes from then on. Another system's history is judged by
    nothing of ours and owes nothing: it has no row."""
    if row is None and isinstance(event.data, ClockRestated) and not event.data.after.fires:
        return None
    row = row or CaseClocks(event.subject)
    match event.data:
        case PromisesPinned() as data:
            before = {*row.promises, *row.earlier} if data.episode > 1 else set[str]()
            return replace(row, promises=data.promises, earlier=tuple(sorted(before)))
        case ClockWarned() as data:
            said = f" {_name(data)} {data.percent}"
            return _owing(row, (owed for owed in row.owed if not owed.endswith(said)))
        case ClockEvent() as data:
            return _anew(_episode(row, data, event.occurred_at), data)
        case _:
            return row


def _anew(row: CaseClocks, data: ClockEvent) -> CaseClocks:
    name = _name(data)
    runs = not _ends(data) and _fires(data, name in row.running)
    broken = runs and _broken(data, name in row.broken)
    promise = _promised(data, row) if runs and not broken else None
    mine = [owed for owed in _owed(data) if not (broken and owed.endswith(f" {BREACH}"))] if runs else []
    row = replace(
        row,
        running=_with(row.running, name, runs),
        broken=_with(row.broken, name, broken),
        promised=_instead(row.promised, name, promise),
        unreachable=_instead(row.unreachable, name, None if mine or _pauses(data) else promise),
    )
    return _owing(row, [*(owed for owed in row.owed if f" {name} " not in owed), *mine])


def _episode(row: CaseClocks, data: ClockEvent, at: datetime) -> CaseClocks:
    """The resolution clock runs from an episode's beginning to its end."""
    if data.clock is not ClockKind.RESOLUTION:
        return row
    match data:
        case ClockStarted():
            return replace(row, open_since=at, open_until=None)
        case ClockStopped() | ClockCancelled():
            return replace(row, open_until=at)
        case ClockRestated(after=after) if row.open_since is None or after.started_at >= row.open_since:
            return replace(row, open_since=after.started_at, open_until=after.ended_at)
        case _:
            return row


def _with(names: tuple[str, ...], name: str, there: bool) -> tuple[str, ...]:
    """The names, this one among them or not."""
    return tuple(sorted({*names, name} if there else {*names} - {name}))


def _broken(data: ClockEvent, before: bool) -> bool:
    """Whether the clock stands as breached from then on."""
    match data:
        case ClockStarted():
            return False
        case ClockRestated(after=after):
            return after.kept is False
        case ClockBreached():
            return True
        case _:
            return before


def _promised(data: ClockEvent, row: CaseClocks) -> str | None:
    """By which calendar the clock is due from then on, if it is not broken."""
    match data:
        case ClockStarted() | ClockRetargeted():
            return None if data.target_s is None else data.calendar
        case ClockRestated(after=after):
            return None if after.spans[-1].target_s is None else after.spans[-1].calendar
        case _:
            known = (entry.partition(" ") for entry in row.promised)
            return next((calendar for name, _, calendar in known if name == _name(data)), None)


def _pauses(data: ClockEvent) -> bool:
    if isinstance(data, ClockRestated):
        return bool(data.after.pauses) and data.after.pauses[-1].until is None
    return isinstance(data, ClockPaused)


def _instead(entries: tuple[str, ...], name: str, calendar: str | None) -> tuple[str, ...]:
    """The entries, with this one for the clock, or none."""
    others = [entry for entry in entries if entry.partition(" ")[0] != name]
    return tuple(sorted(others if calendar is None else [*others, f"{name} {calendar}"]))


def _owed(data: ClockEvent) -> list[str]:
    match data:
        case ClockStarted() | ClockResumed() | ClockRetargeted():
            return _moments(data, data.due_at, data.warnings)
        case ClockPaused():
            return _moments(data, data.due_at, ())
        case ClockRestated(after=after):
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
    5,
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
    indexes=("due_at", "unreachable"),
)


async def rows_of(conn: Connection, case_ids: Iterable[str]) -> list[CaseClocks]:
    """The rows of these cases, of those that have one."""
    return [CLOCKS.decode(row) for row in await fetch(conn, _ROWS_OF, case_ids=list(case_ids))]


_ROWS_OF = CLOCKS.all_rows.where(
    CLOCKS.table.c.case_id == sa.any_(later("case_ids", sa.ARRAY(CLOCKS.table.c.case_id.type)))
)


async def unreachable(conn: Connection) -> dict[str, int]:
    """Calendar id@version → how many running clocks will never be due by it."""
    entry = sa.func.unnest(CLOCKS.table.c.unreachable).label("entry")
    # Greater than the empty array is what the index finds.
    found = await fetch(conn, sa.select(entry).where(CLOCKS.table.c.unreachable > []))
    return dict(sorted(Counter(row["entry"].partition(" ")[2] for row in found).items()))
