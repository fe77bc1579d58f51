"""What the views of configuration share: the latest version of a subject is its row."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa

from events.database import Connection, fetch
from events.event import OPERATIONS, Event, Recorded
from events.views import View
from events.wire import VOCABULARY

R = TypeVar("R")


def subject_id(event: Recorded[Any]) -> str:
    """`promise:standard` → `standard`."""
    return event.subject.partition(":")[2]


async def row_of(conn: Connection, view: View[R], subject: str) -> R | None:
    rows = await fetch(conn, sa.select(view.table).where(view.table.c.subject == subject))
    return view.decode(rows[0]) if rows else None


async def versions_of(conn: Connection, entity: str, refs: Iterable[str]) -> dict[str, Event]:
    """id@version → that version of a calendar, a promise …, those that exist."""
    split = [ref.rpartition("@") for ref in refs]
    asked = [(name, sign, version) for name, sign, version in split if version.isdecimal() and len(version) < 10]
    found = await conn.fetch(
        "select k.ref, e.type, e.data from unnest($2::text[], $3::text[], $4::bigint[]) k (ref, subject, sequence)"
        " join events e on e.topic = $1 and e.subject = k.subject and e.sequence = k.sequence",
        OPERATIONS,
        [f"{name}@{version}" for name, _, version in asked],
        [f"{entity}:{name}" for name, _, _ in asked],
        [int(version) for _, _, version in asked],
    )
    return {row["ref"]: _decoded(row["type"], row["data"]) for row in found}


@lru_cache(maxsize=1024)
def _decoded(wire_type: str, data: str) -> Event:
    return VOCABULARY.decode(wire_type, data)
