"""Calendars are published by version, and asked when time counts."""

import asyncio
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import partial
from typing import Annotated, Any, TypeVar

import sqlalchemy as sa
from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, ConfigDict, Field, JsonValue

from events.errors import Invalid, Unknown
from events.event import Label
from events.operations import CalendarPublished, Role
from services.escalation.api.configuration import ConfigId
from services.escalation.api.hours import CalendarAnswer, HoursOrder, shown, years
from services.escalation.calendars import Segment, Timetable
from services.escalation.decide import calendars as decide
from services.escalation.decide import reckoning
from services.escalation.decide.configuration import CALENDAR
from services.escalation.decide.reckoning import LONGEST_S, Reckoned, State, seconds
from services.escalation.holidays import tzdata_version
from services.escalation.views import calendars as views
from services.web import Answer, Caller, Door, Order, Time, written

T = TypeVar("T")

_HOURS: dict[str, JsonValue] = {
    "tz": "Europe/Berlin",
    "weekly": {day: [["09:00", "12:30"], ["13:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")},
    "holidays": {"country": "DE", "subdivision": "BE", "plus": ["2026-12-31"]},
    "exceptions": {"2026-12-24": [["09:00", "13:00"]]},
}


class CalendarOrder(HoursOrder):
    """When time counts, from a moment on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Berlin office", **_HOURS}]})

    name: Label | None = Field(default=None, description="The calendar's id, if it is left out.")
    valid_from: Time | None = Field(
        default=None, description="From when on it counts; now, if it is left out. A first version counts since ever."
    )


class ComputeOrder(Order):
    """A question to a calendar that need not be published: one of `target_seconds`, `end` and `business_days`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "calendar": {**_HOURS, "holidays": ["2026-04-03", "2026-04-06"]},
                    "start": "2026-03-27T16:30:00+01:00",
                    "pauses": [["2026-03-30T10:00:00+02:00", "2026-03-30T11:00:00+02:00"]],
                    "target_seconds": 28_800,
                    "now": "2026-03-30T12:00:00+02:00",
                }
            ]
        }
    )

    calendar: HoursOrder
    start: Time
    pauses: list[Annotated[list[Time | None], Field(min_length=2, max_length=2)]] = Field(
        default=[], max_length=2000, description="From and to; null while it lasts."
    )
    target_seconds: int | None = Field(default=None, ge=0, le=LONGEST_S, description="When is it used up?")
    end: Time | None = Field(default=None, description="How much working time passes until then?")
    business_days: int | None = Field(default=None, ge=0, le=100_000, description="When does that working day close?")
    now: Time | None = Field(default=None, description="Where does the clock stand then?")

    def checked_pauses(self) -> list[tuple[datetime, datetime | None]]:
        """Raises Invalid."""
        found = []
        for since, until in self.pauses:
            if since is None:
                raise Invalid("pauses: each has a beginning")
            found.append((since, until))
        return found


class CalendarItem(Answer):
    calendar_id: str
    version: int
    name: str
    always: bool = Field(description="24×7: all time counts.")
    tz: str | None = Field(description="IANA name.")
    valid_from: AwareDatetime | None


class Calendars(Answer):
    items: list[CalendarItem]


class SegmentAnswer(Answer):
    since: AwareDatetime
    until: AwareDatetime | None = Field(description="Null while an open pause lasts.")
    counted: bool
    why: str = Field(description="`working time`, `paused`, `outside working hours`, `holiday`, `exception`.")
    seconds: int | float | None


class Computed(Answer):
    """As far as it was asked."""

    due: AwareDatetime | None = Field(default=None, description="Null where an open pause leaves none.")
    due_local: str | None = Field(default=None, description="The same on the calendar's clocks.")
    due_date_local: date | None = Field(default=None, description="The working day that closes then.")
    anchor_date_local: date | None = Field(default=None, description="Working day 0.")
    elapsed_seconds: int | float | None = Field(default=None, description="Working time used.")
    remaining_seconds: int | float | None = Field(default=None, description="Working time left; never below 0.")
    state: State | None = None
    segments: list[SegmentAnswer] = Field(description="Every moment once, with what it was.")
    calendar: str | None = Field(default=None, description="id@version.")
    tzdata: str = Field(description="The version of the time zone data that was reckoned with.")


def _segments(found: list[Segment], paused_since: datetime | None = None) -> list[SegmentAnswer]:
    answers = [
        SegmentAnswer(since=s.since, until=s.until, counted=s.counted, why=s.why, seconds=seconds(s.until - s.since))
        for s in found
    ]
    if paused_since is not None:
        since = max([paused_since, *(s.until for s in found[-1:])])
        answers.append(SegmentAnswer(since=since, until=None, counted=False, why="paused", seconds=None))
    return answers


def _due(timetable: Timetable, found: Reckoned, **more: Any) -> Computed:
    if found.days is not None:
        more |= {"due_date_local": found.days.date, "anchor_date_local": found.days.anchor}
    if found.standing is not None:
        more |= {
            "elapsed_seconds": seconds(found.standing.elapsed),
            "remaining_seconds": seconds(found.standing.remaining),
            "state": found.standing.state,
        }
    return Computed(
        due=found.due,
        due_local=None if found.due is None else reckoning.local_text(timetable, found.due),
        segments=_segments(found.segments, found.paused_since),
        tzdata=tzdata_version(),
        **more,
    )


def _between(timetable: Timetable, start: datetime, end: datetime, pauses: Any = (), **more: Any) -> Computed:
    used, found = reckoning.between(timetable, start, end, pauses)
    return Computed(elapsed_seconds=seconds(used), segments=_segments(found), tzdata=tzdata_version(), **more)


def _compute(order: ComputeOrder, now: datetime) -> Computed:
    """Raises Invalid for a key that does not apply, NoWorkingTime."""
    asked = [name for name in ("target_seconds", "end", "business_days") if getattr(order, name) is not None]
    if len(asked) != 1:
        raise Invalid("ask for one of target_seconds, end and business_days")
    if order.end is not None and order.now is not None:
        raise Invalid("now: does not apply to end; what has no target has no state")
    if order.business_days is not None and order.pauses:
        raise Invalid("pauses: do not apply to business_days; a working day is one, whoever waits")
    timetable = decide.timetable_of([order.calendar.content("asked", years(order.start, now))])
    if order.end is not None:
        return _between(timetable, order.start, order.end, order.checked_pauses())
    if order.business_days is not None:
        return _due(timetable, reckoning.by_days(timetable, order.start, order.business_days, order.now))
    target = timedelta(seconds=order.target_seconds or 0)
    return _due(timetable, reckoning.by_target(timetable, order.start, target, order.checked_pauses(), order.now))


Version = Annotated[int | None, Query(ge=1, le=2**31, description="Which version; the latest, if it is left out.")]
Start = Annotated[Time, Query(description="From when on.", examples=["2026-03-27T16:30:00+01:00"])]


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/calendars`, those with a verb first: `{calendar_id}` would take it for a part of the id."""
    _questions(router, door)
    _versions(router, door)


def _versions(router: APIRouter, door: Door) -> None:
    host, reads, publishes = door.host, door.caller(Role.READER, Role.AGENT, Role.LEAD), door.caller(Role.LEAD)

    @router.get("/v1/calendars", summary="The calendars")
    async def calendars(caller: Annotated[Caller, reads]) -> Calendars:
        """The latest version of every calendar, in short."""
        rows = [views.CALENDARS.decode(row) for row in await host.database.rows(sa.select(views.CALENDARS.table))]
        items = [
            CalendarItem(
                calendar_id=row.calendar_id,
                version=row.version,
                name=row.name,
                always=row.always,
                tz=row.tz,
                valid_from=row.valid_from,
            )
            for row in sorted(rows, key=lambda row: row.calendar_id)
        ]
        return Calendars(items=items)

    @router.get("/v1/calendars/{calendar_id}", summary="One calendar")
    async def calendar(
        calendar_id: ConfigId, response: Response, caller: Annotated[Caller, reads], version: Version = None
    ) -> CalendarAnswer:
        """A version as it was published; its number is the `ETag`."""
        stream = CALENDAR(f"calendar:{calendar_id}")
        published: list[CalendarPublished] = [event.data for event in await host.store.events(*stream.key)]
        wanted = version or len(published)
        if not 0 < wanted <= len(published):
            raise Unknown(f"there is no calendar called {calendar_id}" + (f" in version {version}" if version else ""))
        response.headers["ETag"] = f'"{wanted}"'
        return shown(calendar_id, published[wanted - 1])

    @router.put("/v1/calendars/{calendar_id}", summary="Publish a calendar")
    async def publish_calendar(
        calendar_id: ConfigId, order: CalendarOrder, response: Response, caller: Annotated[Caller, publishes]
    ) -> CalendarAnswer:
        """The next version, with its holidays as they are known today.

        A promise names its calendar's version, so clocks keep theirs, running ones and those to come. Publish the
        promises on it again to use this version: with `restate` for cases that are there already, after a `:preview`.

        The same content again changes nothing. What opens at no time within 10 years is refused (`no-working-time`).
        """
        now = await host.database.readers.fetchval("select clock_timestamp()")
        content = await asyncio.to_thread(order.content, order.name or calendar_id, years(order.valid_from, now))
        changed = await host.store.change(
            CALENDAR(f"calendar:{calendar_id}"),
            decision=partial(decide.publish_calendar, content.model_copy(update={"valid_from": order.valid_from})),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, calendar_id=calendar_id),
        )
        written(response, changed)
        return shown(calendar_id, changed.states[0])


def _questions(router: APIRouter, door: Door) -> None:
    host, reads = door.host, door.caller(Role.READER, Role.AGENT, Role.LEAD)

    async def answered(calendar_id: str, version: int | None, question: Callable[..., Computed]) -> Computed:
        """What `question` makes of the timetable, beside the loop: ten years of a busy calendar take a moment."""
        async with host.database.readers.acquire() as conn:
            ref = f"{calendar_id}@{version}" if version else await views.calendar_in_force(conn, calendar_id)
            if ref is None:
                raise Unknown(f"there is no calendar called {calendar_id}")
            timetable = await views.timetable_of(conn, ref)
        return await asyncio.to_thread(question, timetable, calendar=ref)

    @router.get("/v1/calendars/{calendar_id}:add", summary="Add working time", response_model_exclude_unset=True)
    async def add_time(
        calendar_id: ConfigId,
        start: Start,
        duration: Annotated[
            str, Query(max_length=100, description="ISO 8601; a day is 24 hours of working time.", examples=["PT8H"])
        ],
        caller: Annotated[Caller, reads],
        version: Version = None,
    ) -> Computed:
        """When so much working time has passed, and which time it is made of."""
        target = reckoning.duration(duration)

        def question(timetable: Timetable, calendar: str) -> Computed:
            return _due(timetable, reckoning.by_target(timetable, start, target, (), None), calendar=calendar)

        return await answered(calendar_id, version, question)

    @router.get("/v1/calendars/{calendar_id}:between", summary="Count working time", response_model_exclude_unset=True)
    async def between(
        calendar_id: ConfigId,
        start: Start,
        end: Annotated[Time, Query(description="Up to when.", examples=["2026-03-30T15:30:00+02:00"])],
        caller: Annotated[Caller, reads],
        version: Version = None,
    ) -> Computed:
        """How much working time lies between two moments at most 10 years apart; none where the end comes first."""
        return await answered(calendar_id, version, partial(_between, start=start, end=end))

    @router.post(
        "/v1/calendars:compute", summary="Ask a calendar that is not published", response_model_exclude_unset=True
    )
    async def compute(order: ComputeOrder, caller: Annotated[Caller, reads]) -> Computed:
        """When a target is used up, how much time has passed, or when a working day closes; with `now`, where the clock
        stands. Nothing is recorded.

        `now` goes by what is known then: a pause that has not ended is open. An open pause before the target is used up
        leaves no due time. Too little working time in 10 years is refused (`no-working-time`).
        """
        now = await host.database.readers.fetchval("select clock_timestamp()")
        return await asyncio.to_thread(_compute, order, now)
