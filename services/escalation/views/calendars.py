"""The version in force of every calendar, and the timetables its versions add up to."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from events.database import Connection
from events.errors import Unknown
from events.event import OPERATIONS, Recorded
from events.operations import CalendarPublished
from events.views import View
from events.wire import VOCABULARY, stored
from services.escalation.calendars import Timetable
from services.escalation.decide import calendars as decide
from services.escalation.views.configuration import row_of, subject_id


@dataclass(frozen=True, slots=True)
class CalendarRow:
    subject: str
    calendar_id: str
    version: int
    name: str
    always: bool
    tz: str | None = None
    valid_from: datetime | None = None


def fold_calendar(row: CalendarRow | None, event: Recorded[CalendarPublished]) -> CalendarRow:
    data = event.data
    return CalendarRow(event.subject, subject_id(event), data.version, data.name, data.always, data.tz, data.valid_from)


CALENDARS = View("calendars", 2, CalendarRow, (CalendarPublished,), fold_calendar, inline=True)


async def calendar_in_force(conn: Connection, calendar_id: str) -> str | None:
    """id@version of the calendar, if there is one."""
    row = await row_of(conn, CALENDARS, f"calendar:{calendar_id}")
    return None if row is None else f"{calendar_id}@{row.version}"


# --------------------------------------------------------------------------------------------------------- timetables

REMEMBERED_TIMETABLES = 500

_Version = tuple[str, str, datetime]
"""id@version, and which event published it: two installations in one process have other ones."""

_known: OrderedDict[_Version, Timetable] = OrderedDict()


async def timetable_of(conn: Connection, ref: str) -> Timetable:
    """When time counts by `id@version`: all versions up to that one, each from its own moment on.

    A version never changes, so what was read once is remembered. Raises Unknown.
    """
    calendar_id, version = parsed(ref)
    subject = f"calendar:{calendar_id}"
    last = await conn.fetchrow(
        "select id, recorded_at from events where topic = $1 and subject = $2 and sequence = $3",
        OPERATIONS,
        subject,
        version,
    )
    if last is None:
        raise Unknown(f"there is no calendar {ref}")
    key = (ref, str(last["id"]), last["recorded_at"])
    if key not in _known:
        _known[key] = decide.timetable_of(await _versions(conn, subject, version))
    _known.move_to_end(key)
    if len(_known) > REMEMBERED_TIMETABLES:
        _known.popitem(last=False)
    return _known[key]


def parsed(ref: str) -> tuple[str, int]:
    """`office@3` → office, 3. Raises Unknown."""
    calendar_id, _, version = ref.rpartition("@")
    if not (version.isascii() and version.isdecimal() and 0 < int(version) < 2**63):
        raise Unknown(f"there is no calendar {ref}; it is named id@version")
    return calendar_id, int(version)


async def _versions(conn: Connection, subject: str, up_to: int) -> list[CalendarPublished]:
    """In the order they were published; a stream has one event per version."""
    rows = await conn.fetch(
        "select * from events where topic = $1 and subject = $2 and sequence <= $3 order by sequence",
        OPERATIONS,
        subject,
        up_to,
    )
    return [VOCABULARY.recorded(stored(row, "escalation")).data for row in rows]
