"""The version in force of every promise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from events.database import Connection, fetch
from events.event import Recorded
from events.operations import PromisePublished
from events.views import View
from services.escalation.clocks import Promise
from services.escalation.views.configuration import subject_id, versions_of


@dataclass(frozen=True, slots=True)
class PromiseRow:
    subject: str
    promise_id: str
    version: int
    content: str
    """The version as JSON."""

    @property
    def promise(self) -> Promise:
        return Promise(f"{self.promise_id}@{self.version}", PromisePublished.model_validate_json(self.content))


def fold_promise(row: PromiseRow | None, event: Recorded[PromisePublished]) -> PromiseRow:
    return PromiseRow(event.subject, subject_id(event), event.data.version, event.data.model_dump_json())


PROMISES = View("promises", 2, PromiseRow, (PromisePublished,), fold_promise, inline=True)


async def promises_in_force(conn: Connection) -> list[Promise]:
    """The latest version of every promise."""
    return [PROMISES.decode(row).promise for row in await fetch(conn, sa.select(PROMISES.table))]


async def promises_of(conn: Connection, refs: Iterable[str]) -> dict[str, Promise]:
    """id@version → that version."""
    found = await versions_of(conn, "promise", refs)
    return {ref: Promise(ref, content) for ref, content in found.items() if isinstance(content, PromisePublished)}
