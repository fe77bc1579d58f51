"""The version in force of every calendar."""

from __future__ import annotations

from dataclasses import dataclass

from events.database import Connection
from events.event import Recorded
from events.operations import CalendarPublished
from events.views import View
from services.escalation.views.configuration import row_of, subject_id


@dataclass(frozen=True, slots=True)
class CalendarRow:
    subject: str
    calendar_id: str
    version: int
    name: str
    always: bool


def fold_calendar(row: CalendarRow | None, event: Recorded[CalendarPublished]) -> CalendarRow:
    data = event.data
    return CalendarRow(event.subject, subject_id(event), data.version, data.name, data.always)


CALENDARS = View("calendars", 1, CalendarRow, (CalendarPublished,), fold_calendar, inline=True)


async def calendar_in_force(conn: Connection, calendar_id: str) -> str | None:
    """id@version of the calendar, if there is one."""
    row = await row_of(conn, CALENDARS, f"calendar:{calendar_id}")
    return None if row is None else f"{calendar_id}@{row.version}"
