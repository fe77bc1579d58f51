"""The version in force of every promise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

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
    published_at: datetime

    @property
    def promise(self) -> Promise:
        content = PromisePublished.model_validate_json(self.content)
        return Promise(f"{self.promise_id}@{self.version}", content, self.published_at)


def fold_promise(row: PromiseRow | None, event: Recorded[PromisePublished]) -> PromiseRow:
    data = event.data
    return PromiseRow(event.subject, subject_id(event), data.version, data.model_dump_json(), event.recorded_at)


PROMISES = View("promises", 4, PromiseRow, (PromisePublished,), fold_promise, inline=True)


async def promises_in_force(conn: Connection) -> list[Promise]:
    """The latest version of every promise."""
    return [PROMISES.decode(row).promise for row in await fetch(conn, PROMISES.all_rows)]


async def promises_of(conn: Connection, refs: Iterable[str]) -> dict[str, Promise]:
    """id@version → that version."""
    found = await versions_of(conn, "promise", refs)
    return {ref: Promise(ref, content) for ref, content in found.items() if isinstance(content, PromisePublished)}
