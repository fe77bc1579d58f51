"""The version in force of every ladder."""

from __future__ import annotations

from dataclasses import dataclass

from events.database import Connection, fetch
from events.event import Recorded
from events.operations import LadderPublished
from events.views import View
from services.escalation.decide.ladders import Ladder
from services.escalation.views.configuration import subject_id


@dataclass(frozen=True, slots=True)
class LadderRow:
    subject: str
    ladder_id: str
    version: int
    said: str
    """The version as it was published, as JSON."""

    @property
    def content(self) -> LadderPublished:
        """The version as it was published."""
        return LadderPublished.model_validate_json(self.said)


def fold_ladder(row: LadderRow | None, event: Recorded[LadderPublished]) -> LadderRow:
    return LadderRow(event.subject, subject_id(event), event.data.version, event.data.model_dump_json())


LADDERS = View("ladders", 3, LadderRow, (LadderPublished,), fold_ladder, inline=True)


async def ladders_in_force(conn: Connection) -> tuple[Ladder, ...]:
    """The latest version of every ladder, by id."""
    rows = [LADDERS.decode(row) for row in await fetch(conn, LADDERS.all_rows)]
    return tuple(Ladder(row.ladder_id, row.content) for row in sorted(rows, key=lambda row: row.ladder_id))
