"""Escalation, as data. Hears what intake says about a case, and its own breaches; says clocks and escalations."""

from collections.abc import Sequence

from events.case import ClockKind, Priority
from events.database import Connection
from events.operations import CalendarPublished, LadderPublished, PromisePublished, PromiseTarget
from services.escalation import PATHS, api, react, restating, views
from services.escalation.decide.configuration import CALENDAR, LADDER, PROMISE
from services.escalation.react.notices import deliver
from services.escalation.views import clocks
from services.runtime import BuiltIn, Service

_MINUTE_S, _HOUR_S = 60, 3600

_TARGETS_S = {
    ClockKind.FIRST_RESPONSE: {
        Priority.URGENT: 15 * _MINUTE_S,
        Priority.HIGH: 1 * _HOUR_S,
        Priority.NORMAL: 4 * _HOUR_S,
        Priority.LOW: 8 * _HOUR_S,
    },
    ClockKind.RESOLUTION: {
        Priority.URGENT: 4 * _HOUR_S,
        Priority.HIGH: 8 * _HOUR_S,
        Priority.NORMAL: 24 * _HOUR_S,
        Priority.LOW: 72 * _HOUR_S,
    },
}

ALWAYS = CalendarPublished(version=1, name="24×7")

STANDARD_PROMISE = PromisePublished(
    version=1,
    name="Standard",
    calendar="always@1",
    targets=tuple(
        PromiseTarget(clock=clock, priority=priority, target_s=target_s)
        for clock, targets in _TARGETS_S.items()
        for priority, target_s in targets.items()
    ),
    warnings=(50, 75, 90),
)

STANDARD_LADDER = LadderPublished(version=1, unit_id="escalation", on_breach=(ClockKind.RESOLUTION,))


async def warnings(conn: Connection) -> Sequence[str]:
    """Calendars by which running clocks are never due."""
    found = await clocks.unreachable(conn)
    mend = "publish a version with more of it, and the promises on it again with restate"
    return [f"clocks never due for want of working time in calendar {ref}: {n}; {mend}" for ref, n in found.items()]


SERVICE = Service(
    name="escalation",
    sentence="promises times, runs the clocks, and gives a breached case to a unit that owns it",
    paths=PATHS,
    doors=api.doors,
    views=views.PROJECTED,
    inline=views.INLINE,
    reactors=react.REACTORS,
    timers=react.TIMERS,
    duties=(restating.restate,),
    notifiers=react.NOTIFIERS,
    deliver=deliver,
    warnings=warnings,
    built_in=(
        BuiltIn(CALENDAR("calendar:always"), ALWAYS),
        BuiltIn(PROMISE("promise:standard"), STANDARD_PROMISE),
        BuiltIn(LADDER("ladder:standard"), STANDARD_LADDER),
    ),
)
