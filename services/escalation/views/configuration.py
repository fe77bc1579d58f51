"""The version in force of every calendar, promise and ladder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from events.case import ClockKind, Priority
from events.database import Connection, fetch
from events.event import Recorded
from events.operations import CalendarPublished, LadderPublished, PromisePublished, PromiseTarget
from events.views import View
from services.escalation.clocks import Promise


@dataclass(frozen=True, slots=True)
class CalendarRow:
    subject: str
    calendar_id: str
    version: int
    name: str
    always: bool


def fold_calendar(row: CalendarRow | None, event: Recorded[CalendarPublished]) -> CalendarRow:
    data = event.data
    return CalendarRow(event.subject, _id(event), data.version, data.name, data.always)


@dataclass(frozen=True, slots=True)
class PromiseRow:
    """`clocks`, `priorities` and `targets_s` go together, place by place."""

    subject: str
    promise_id: str
    version: int
    name: str
    calendar: str
    warn_percent: int
    clocks: tuple[str, ...]
    priorities: tuple[str, ...]
    targets_s: tuple[int, ...]

    @property
    def content(self) -> PromisePublished:
        """The version as it was published."""
        rows = zip(self.clocks, self.priorities, self.targets_s, strict=True)
        return PromisePublished(
            version=self.version,
            name=self.name,
            calendar=self.calendar,
            warn_percent=self.warn_percent,
            targets=tuple(
                PromiseTarget(clock=ClockKind(clock), priority=Priority(priority), target_s=target_s)
                for clock, priority, target_s in rows
            ),
        )


def fold_promise(row: PromiseRow | None, event: Recorded[PromisePublished]) -> PromiseRow:
    data = event.data
    return PromiseRow(
        event.subject,
        _id(event),
        data.version,
        data.name,
        data.calendar,
        data.warn_percent,
        tuple(str(target.clock) for target in data.targets),
        tuple(str(target.priority) for target in data.targets),
        tuple(target.target_s for target in data.targets),
    )


@dataclass(frozen=True, slots=True)
class LadderRow:
    subject: str
    ladder_id: str
    version: int
    unit_id: str
    on_breach: tuple[str, ...]

    @property
    def content(self) -> LadderPublished:
        """The version as it was published."""
        on_breach = tuple(ClockKind(kind) for kind in self.on_breach)
        return LadderPublished(version=self.version, unit_id=self.unit_id, on_breach=on_breach)


def fold_ladder(row: LadderRow | None, event: Recorded[LadderPublished]) -> LadderRow:
    data = event.data
    return LadderRow(event.subject, _id(event), data.version, data.unit_id, tuple(str(kind) for kind in data.on_breach))


def _id(event: Recorded[CalendarPublished | PromisePublished | LadderPublished]) -> str:
    """`promise:standard` → `standard`."""
    return event.subject.partition(":")[2]


CALENDARS = View("calendars", 1, CalendarRow, (CalendarPublished,), fold_calendar, inline=True)
PROMISES = View("promises", 1, PromiseRow, (PromisePublished,), fold_promise, inline=True)
LADDERS = View("ladders", 1, LadderRow, (LadderPublished,), fold_ladder, inline=True)


async def calendar_in_force(conn: Connection, calendar_id: str) -> str | None:
    """id@version of the calendar, if there is one."""
    row = await _row(conn, CALENDARS, f"calendar:{calendar_id}")
    return None if row is None else f"{calendar_id}@{row.version}"


async def promise_in_force(conn: Connection, promise_id: str) -> Promise | None:
    """The latest version of the promise, if there is one."""
    row = await _row(conn, PROMISES, f"promise:{promise_id}")
    return None if row is None else Promise(f"{promise_id}@{row.version}", row.content)


async def ladder_in_force(conn: Connection, ladder_id: str) -> tuple[str, LadderPublished] | None:
    """id@version and content of the ladder's latest version, if there is one."""
    row = await _row(conn, LADDERS, f"ladder:{ladder_id}")
    return None if row is None else (f"{ladder_id}@{row.version}", row.content)


R = TypeVar("R")


async def _row(conn: Connection, view: View[R], subject: str) -> R | None:
    rows = await fetch(conn, sa.select(view.table).where(view.table.c.subject == subject))
    return view.decode(rows[0]) if rows else None
