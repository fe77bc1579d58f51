"""The version in force of every ladder."""

from __future__ import annotations

from dataclasses import dataclass

from events.case import ClockKind
from events.database import Connection
from events.event import Recorded
from events.operations import LadderPublished
from events.views import View
from services.escalation.views.configuration import row_of, subject_id


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
    return LadderRow(
        event.subject, subject_id(event), data.version, data.unit_id, tuple(str(kind) for kind in data.on_breach)
    )


LADDERS = View("ladders", 1, LadderRow, (LadderPublished,), fold_ladder, inline=True)


async def ladder_in_force(conn: Connection, ladder_id: str) -> tuple[str, LadderPublished] | None:
    """id@version and content of the ladder's latest version, if there is one."""
    row = await row_of(conn, LADDERS, f"ladder:{ladder_id}")
    return None if row is None else (f"{ladder_id}@{row.version}", row.content)
