"""Timers: a deadline is data, firing is an event, and nothing fires before the log has told all that could stop it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import structlog

from events import lanes
from events.database import Connection
from events.event import Event
from events.failpoint import at as failpoint
from events.log import Lane, Log, Mark
from events.store import Change, Changed, Fold, New, Outcome, Retry, Store
from events.views import View
from events.views.rows import hold

TOGETHER = 1000
"""Subjects whose timers fire in one transaction."""

SILENT_AFTER = timedelta(seconds=10)
"""A source whose newest mark is older than this is named by the health page."""

log_ = structlog.get_logger("timers")


@dataclass(frozen=True)
class Timers:
    """The deadlines of one service, one row per subject.

    `view` is an inline view with a nullable column `due_at`: the earliest deadline that has not fired. `fire(mark, now,
    state)` is pure and returns an event for every obligation due at or before `mark`, each with an id made of the
    obligation alone. `waits_for` names the sources that can stop or pause it: nothing fires until each has said that
    everything it recorded up to `mark` is in the log, and the lane has read that far.
    """

    view: View[Any]
    fold: Fold[Any]
    fire: Callable[[datetime, datetime, Any], Sequence[Event | New]]
    waits_for: tuple[str, ...] = ()


class Firing:
    """Fires a service's timers in the lanes its reactor has leased, in the transaction that holds the lane row."""

    def __init__(self, consumer: str, worker: str, store: Store, log: Log, timers: Sequence[Timers]) -> None:
        self.consumer, self.worker, self.store, self.log, self.timers = consumer, worker, store, log, tuple(timers)
        self.silent: dict[str, str] = {}
        """View of the timers → the source whose mark is missing or old."""

    async def fire(self, leased: Collection[Lane]) -> None:
        """Fire what is due in these lanes, up to the oldest mark of the sources that could still stop it."""
        marks = await self.log.marks() if self.timers else {}
        for timers in self.timers:
            missing = [source for source in timers.waits_for if source not in marks]
            if missing:
                self.silent[timers.view.name] = missing[0]
                continue
            async with self.store.database.writers.acquire() as conn:
                await self._fire(conn, timers, [marks[source] for source in timers.waits_for], leased)

    async def _fire(self, conn: Connection, timers: Timers, marks: Sequence[Mark], leased: Collection[Lane]) -> None:
        now: datetime = await conn.fetchval("select clock_timestamp()")
        self._note_silence(timers, [mark.source for mark in marks if now - mark.at > SILENT_AFTER])
        up_to = min([now, *(mark.at for mark in marks)])  # a mark lies ahead where a clock went back since
        partitions = [partition for topic, partition in leased if topic == timers.fold.topic]
        due = await _with_something_due(conn, timers.view, partitions, up_to)
        if not due:
            return
        outcomes: list[Outcome] = []
        async with conn.transaction():
            read = await self._have_read(conn, [(timers.fold.topic, partition) for partition in due], marks)
            if read:
                outcomes = await self._fire_due(conn, timers, read, up_to)
            failpoint("timers.before_commit")
        self.store.committed(outcomes)
        for outcome in outcomes:
            if not isinstance(outcome, Changed | Retry):
                log_.error("a timer did not fire", view=timers.view.name, why=repr(outcome))

    async def _have_read(self, conn: Connection, lanes_: Sequence[Lane], marks: Sequence[Mark]) -> list[int]:
        """The partitions of those lanes that are ours, locked by now, and have passed what every mark speaks of."""
        positions = await lanes.lock(conn, self.consumer, self.worker, lanes_)
        return [
            lane[1]
            for lane, position in positions.items()
            if all(mark.offsets.get(lane, 0) <= position.next_offset for mark in marks)
        ]

    async def _fire_due(
        self, conn: Connection, timers: Timers, partitions: Sequence[int], up_to: datetime
    ) -> list[Outcome]:
        changes = [
            Change((timers.fold(subject),), partial(timers.fire, up_to), f"service:{self.store.source}")
            for subject in await self._due(conn, timers, partitions, up_to)
        ]
        return await self.store.apply(conn, changes)

    async def _due(self, conn: Connection, timers: Timers, partitions: Sequence[int], up_to: datetime) -> list[str]:
        """The subjects to fire now, the longest due first. Parked ones are left out here, or many of them would take
        every place."""
        view = timers.view
        table = (await hold(conn, [view]))[view.name]
        rows = await conn.fetch(
            f"select d.{view.subject} as subject from {table} d where d.due_at <= $1 and d.partition = any($2)"
            f" and not exists (select from parked p where p.consumer = $3 and p.topic = $4"
            f" and p.subject = d.{view.subject} and p.source is not null) order by d.due_at limit $5",
            up_to,
            list(partitions),
            self.consumer,
            timers.fold.topic,
            TOGETHER,
        )
        return [row["subject"] for row in rows]

    def _note_silence(self, timers: Timers, late: Sequence[str]) -> None:
        if late:
            self.silent[timers.view.name] = late[0]
        else:
            self.silent.pop(timers.view.name, None)


async def _with_something_due(
    conn: Connection, view: View[Any], partitions: Sequence[int], up_to: datetime
) -> list[int]:
    """Those of the partitions that hold a deadline at or before `up_to`. Nothing is locked: this runs every tick."""
    table = await conn.fetchval("select table_name from view where name = $1", view.name)
    try:
        rows = await conn.fetch(
            f"select distinct partition from {table} where due_at <= $1 and partition = any($2) order by partition",
            up_to,
            list(partitions),
        )
    except asyncpg.UndefinedTableError:  # a rebuild switched between the two queries; the next tick sees its table
        return []
    return [row["partition"] for row in rows]
