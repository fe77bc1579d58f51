"""Projecting: a batch of events becomes rows, in the transaction that moves the consumer's offsets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from events.database import Connection, insert
from events.event import Recorded
from events.views import View, rows
from events.views.rows import Saved, sort_key
from events.wire import ENVELOPE, Vocabulary, envelope, record, stored

R = TypeVar("R")


class Projector:
    """Writes a service's projected views and its `history`."""

    def __init__(self, views: Sequence[View[Any]], vocabulary: Vocabulary) -> None:
        self.views, self.vocabulary = tuple(views), vocabulary
        self.reads = frozenset(kind for view in views for kind in view.types)

    async def handle(self, conn: Connection, events: Sequence[Recorded[Any]]) -> None:
        """Fold the events into every view that reads them. Each event comes once."""
        tables = await rows.hold(conn, self.views)
        earlier = await _remembered_before(conn, events)
        for view in self.views:
            mine = [event for event in events if event.data.TYPE in view.types]
            if mine:
                await self.fold_into(conn, view, tables[view.name], mine, earlier)

    async def fold_into(
        self,
        conn: Connection,
        view: View[R],
        table: str,
        events: Sequence[Recorded[Any]],
        earlier: set[str] | None = None,
    ) -> None:
        """Fold events that are in `history` already onto the saved rows, or anew where they do not come last.

        `earlier` are the subjects that had a history before these events; None: any may have.
        """
        batch = by_subject(events)
        saved = await rows.load(conn, view, table, list(batch))
        folded: dict[str, Saved[R] | None] = {}
        anew: list[str] = []
        for subject, added in batch.items():
            before = saved.get(subject)
            if before is not None and before.folded_to < sort_key(added[0]):
                folded[subject] = fold(view, added, before.row)
            elif before is None and earlier is not None and subject not in earlier:
                folded[subject] = fold(view, added)
            else:
                anew.append(subject)
        kept = [row for row in folded.values() if row is not None]
        gone = [subject for subject, row in folded.items() if row is None and subject in saved]
        await rows.save(conn, view, table, kept, gone)
        if anew:
            await self.fold_anew(conn, view, table, anew)

    async def fold_anew(self, conn: Connection, view: View[R], table: str, subjects: Sequence[str]) -> None:
        """Make the subjects' rows what their whole `history` says, whatever they were."""
        whole = await history(conn, view.topic, subjects, self.vocabulary, view.types)
        folded = {subject: fold(view, events) for subject, events in whole.items()}
        kept = [row for row in folded.values() if row is not None]
        await rows.save(conn, view, table, kept, [subject for subject, row in folded.items() if row is None])


def fold(view: View[R], events: Iterable[Recorded[Any]], row: R | None = None) -> Saved[R] | None:
    """The row after `events`, which are in order; None when the fold leaves none."""
    last = None
    for last in events:
        row = view.fold(row, last)
    return None if row is None or last is None else Saved(sort_key(last), row)


def by_subject(events: Iterable[Recorded[Any]]) -> dict[str, list[Recorded[Any]]]:
    """Events grouped by subject, each group in the order of `Recorded.key`."""
    groups: dict[str, list[Recorded[Any]]] = {}
    for event in events:
        groups.setdefault(event.subject, []).append(event)
    for group in groups.values():
        group.sort(key=lambda event: event.key)
    return groups


async def fold_inline(conn: Connection, view: View[R], table: str, events: Sequence[Recorded[Any]]) -> None:
    """Fold the service's own events, just appended, onto the saved rows in stream order."""
    groups: dict[str, list[Recorded[Any]]] = {}
    for event in events:
        groups.setdefault(event.subject, []).append(event)
    saved = await rows.load(conn, view, table, list(groups))
    kept, gone = [], []
    for subject, added in groups.items():
        row = saved[subject].row if subject in saved else None
        for event in added:
            row = view.fold(row, event)
        if row is not None:
            kept.append(Saved(f"{added[-1].sequence:020d}", row))
        elif subject in saved:
            gone.append(subject)
    await rows.save(conn, view, table, kept, gone)


async def remember(
    conn: Connection, events: Sequence[Recorded[Any]], over: bool = False, table: str = "history"
) -> None:
    """Add events to `history`; with `over` those that are there already stay as they are."""
    await insert(conn, table, _HISTORY, map(_history_values, events), "on conflict do nothing" if over else "")


async def history(
    conn: Connection,
    topic: str,
    subjects: Sequence[str],
    vocabulary: Vocabulary,
    types: Iterable[str] | None = None,
    table: str = "history",
) -> dict[str, list[Recorded[Any]]]:
    """Subject → its events of these types (None: all), in the order of `Recorded.key`."""
    found = await conn.fetch(
        f"select * from {table} where topic = $1 and subject = any($2) order by subject, key", topic, subjects
    )
    wanted = None if types is None else frozenset(types)
    events: dict[str, list[Recorded[Any]]] = {subject: [] for subject in subjects}
    for row in found:
        if wanted is None or vocabulary.newest(row["type"]) in wanted:
            events[row["subject"]].append(vocabulary.recorded(stored(row, row["source"])))
    return events


async def _remembered_before(conn: Connection, events: Sequence[Recorded[Any]]) -> set[str]:
    """Add events to `history`; the subjects that had some there already."""
    columns = [list(column) for column in zip(*map(_history_values, events), strict=True)]
    found = await conn.fetch(_REMEMBER, *columns)
    return {row["subject"] for row in found}


_HISTORY = {"key": "text", "source": "text", **ENVELOPE}

_COLUMNS = {name: f"${i}::{kind}[]" for i, (name, kind) in enumerate(_HISTORY.items(), 1)}

_REMEMBER = (
    f"with new as (insert into history ({', '.join(_COLUMNS)}) select * from unnest({', '.join(_COLUMNS.values())}))"
    f" select distinct k.subject from unnest({_COLUMNS['topic']}, {_COLUMNS['subject']}) k (topic, subject)"
    " where exists (select from history h where h.topic = k.topic and h.subject = k.subject)"
)
"""What a statement writes it does not see: the subjects are those that were there before."""


def _history_values(event: Recorded[Any]) -> tuple[Any, ...]:
    return (sort_key(event), event.source, *envelope(record(event)))
