"""What the views of configuration share: the latest version of a subject is its row."""

from __future__ import annotations

from typing import TypeVar

import sqlalchemy as sa

from events.database import Connection, fetch
from events.event import Recorded
from events.operations import CalendarPublished, LadderPublished, PromisePublished
from events.views import View

R = TypeVar("R")


def subject_id(event: Recorded[CalendarPublished | PromisePublished | LadderPublished]) -> str:
    """`promise:standard` → `standard`."""
    return event.subject.partition(":")[2]


async def row_of(conn: Connection, view: View[R], subject: str) -> R | None:
    rows = await fetch(conn, sa.select(view.table).where(view.table.c.subject == subject))
    return view.decode(rows[0]) if rows else None
