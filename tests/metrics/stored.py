"""Case facts in a real table, and figures asked of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import sqlalchemy as sa

from events.database import compiled
from events.event import Recorded
from events.views import rows
from events.views.rows import Saved
from services.metrics.facts import CaseFacts, fold
from services.metrics.figures import Asked, answer, statement
from services.metrics.views import CASE_FACTS


def facts_of(events: Iterable[Recorded[Any]]) -> list[CaseFacts]:
    """The facts of every case these events are about."""
    folded: dict[str, CaseFacts] = {}
    for event in sorted(events, key=lambda event: event.key):
        folded[event.subject] = fold(folded.get(event.subject), event)
    return list(folded.values())


class Stored:
    """A table of case facts."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def figures(self, asked: Asked | None = None) -> dict[str, Any]:
        """The figures as the door answers them."""
        asked = asked or Asked()
        return answer(asked, await self.rows(statement(asked.form), asked))

    async def rows(self, query: sa.Select[Any], asked: Asked) -> list[dict[str, Any]]:
        """What a query over the facts that are asked about finds."""
        sql, arguments = compiled(query, **asked.values)
        return [dict(row) for row in await self.connection.fetch(sql, *arguments)]


@asynccontextmanager
async def stored(database: str, facts: Iterable[CaseFacts]) -> AsyncIterator[Stored]:
    """The facts in a table as the machinery makes it."""
    connection = await asyncpg.connect(database)
    try:
        await rows.create(connection, CASE_FACTS, "case_facts")
        await rows.copy(connection, CASE_FACTS, "case_facts", [Saved("", row) for row in facts])
        await rows.index(connection, CASE_FACTS, "case_facts")
        yield Stored(connection)
    finally:
        await connection.close()
