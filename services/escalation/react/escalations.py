"""A breach climbs the ladder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from events.case import ClockBreached
from events.consume import Reactor
from events.database import Connection
from events.event import Event, Recorded
from events.operations import LadderPublished
from services.escalation.decide import escalations
from services.escalation.decide.case import FOLD, Case
from services.escalation.views import ladders

STANDARD = "standard"
"""The ladder that applies to every case."""


async def look(conn: Connection, events: Sequence[Recorded[ClockBreached]]) -> tuple[str, LadderPublished] | None:
    """The ladder in force now: id@version and its content."""
    return await ladders.ladder_in_force(conn, STANDARD)


def react(
    event: Recorded[ClockBreached], ladder: tuple[str, LadderPublished] | None, now: datetime, case: Case
) -> Sequence[Event]:
    """A breach asks the ladder's unit."""
    if ladder is None:
        return []
    ref, content = ladder
    return escalations.climb(event.data.clock, event.data.episode, case, content, ref)


REACTOR = Reactor("escalation.ladders", reads=(ClockBreached,), fold=FOLD, decide=react, look=look)
