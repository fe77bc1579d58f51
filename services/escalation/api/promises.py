"""Promises are published by version."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, ConfigDict, Field, JsonValue, StringConstraints

from events.case import Category, ClockKind, Priority
from events.database import Connection
from events.errors import Unknown
from events.event import Label, Ref
from events.operations import PromiseKind, PromisePublished, Restate, Role
from services.escalation import restating
from services.escalation.api.configuration import ConfigId
from services.escalation.clocks import Promise, percents_of
from services.escalation.decide import promises as decide
from services.escalation.decide.configuration import PROMISE
from services.escalation.views import calendars
from services.escalation.views import promises as views
from services.web import Answer, Caller, Door, Order, written

_PROMISE: dict[str, JsonValue] = {
    "name": "Standard",
    "calendar": "always",
    "warnings": [50, 75, 90],
    "targets": [
        {"clock": clock, "priority": priority, "target_s": hours * 3600}
        for clock, targets in {
            "first_response": {"urgent": 1, "high": 2, "normal": 4, "low": 8},
            "resolution": {"urgent": 4, "high": 8, "normal": 24, "low": 72},
        }.items()
        for priority, hours in targets.items()
    ],
}


Percent = Annotated[int, Field(ge=1, le=99, strict=True)]


class Target(Order):
    clock: ClockKind
    priority: Priority
    target_s: int = Field(ge=1, le=366 * 86_400, description="Seconds of working time the clock may use.")
    tier: Ref | None = Field(default=None, description="Only for customers of this tier.")
    market: Ref | None = Field(default=None, description="Only in this market.")


class CasesOrder(Order):
    """Which cases; an empty list means every one."""

    channels: tuple[Ref, ...] = Field(default=(), max_length=100)
    markets: tuple[Ref, ...] = Field(default=(), max_length=100)
    languages: tuple[Ref, ...] = Field(default=(), max_length=100)
    journeys: tuple[Ref, ...] = Field(default=(), max_length=100)
    priorities: tuple[Priority, ...] = Field(default=(), max_length=4)
    tiers: tuple[Ref, ...] = Field(default=(), max_length=100)


class PauseOrder(Order):
    """In which categories these clocks do not count."""

    clocks: tuple[ClockKind, ...] = Field(min_length=1, max_length=7)
    categories: tuple[Category, ...] = Field(
        default=(), max_length=7, description="`waiting_customer`, `waiting_partner`, `waiting_internal`; none: never."
    )
    when: CasesOrder = CasesOrder()


class PromiseOrder(Order):
    """For every clock that it names, a target for every priority."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PROMISE]})

    name: Label
    calendar: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = Field(
        default="always", description="The calendar's id; its latest version is pinned."
    )
    targets: tuple[Target, ...] = Field(min_length=1, max_length=500)
    warnings: tuple[Percent, ...] = Field(
        default=(50, 75, 90), max_length=9, description="When to warn, in percent of a target's working time, rising."
    )
    kind: PromiseKind = Field(
        default=PromiseKind.CUSTOMER,
        description="`customer`, or about ownership clocks: `internal` between units, `partner` as in a contract.",
    )
    start: CasesOrder = Field(default=CasesOrder(), description="Which cases it is made to.")
    stop: CasesOrder | None = Field(default=None, description="Which of them it is not made to, or no longer.")
    pauses: tuple[PauseOrder, ...] = Field(
        default=(), max_length=50, description="What stops a clock; a clock no pause names keeps its kind's own way."
    )
    restate: Restate = Field(
        default=Restate.FORWARD_ONLY,
        description="Which cases it judges: those that come in from now on, also those open now, or every one.",
    )


class PromiseAnswer(PromiseOrder):
    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{**_PROMISE, "promise_id": "standard", "version": 1, "calendar": "always@1"}],
        },
    )

    promise_id: str
    version: int
    calendar: str = Field(description="id@version.")


class Promises(Answer):
    items: list[PromiseAnswer]


class DifferenceAnswer(Answer):
    case_id: str
    clock: ClockKind
    episode: int
    turn: int
    due_before: AwareDatetime | None
    due_after: AwareDatetime | None
    kept_before: bool | None
    kept_after: bool | None


class PreviewAnswer(Answer):
    cases: int = Field(description="How many cases would be judged anew.")
    due_moved: int = Field(description="Clocks that would be due at another time.")
    would_break: int = Field(description="Clocks that would not have kept their promise, and are not said so now.")
    would_be_kept: int = Field(description="Clocks that broke their promise, and would not have.")
    differences: list[DifferenceAnswer] = Field(description="The first 100 clocks that differ, by case.")


def _promise(promise_id: str, content: PromisePublished) -> PromiseAnswer:
    warnings = percents_of(content)
    return PromiseAnswer(promise_id=promise_id, **content.model_dump() | {"warnings": warnings})


async def _calendar(conn: Connection, calendar_id: str) -> decide.PinnedCalendar | None:
    ref = await calendars.calendar_in_force(conn, calendar_id)
    return None if ref is None else decide.PinnedCalendar(ref, await calendars.timetable_of(conn, ref))


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/promises`."""
    host, reads, publishes = door.host, door.caller(Role.READER, Role.AGENT, Role.LEAD), door.caller(Role.LEAD)

    @router.get("/v1/promises", summary="The promises")
    async def promises(caller: Annotated[Caller, reads]) -> Promises:
        """The version in force of every promise, in the order in which a case is asked whether they apply to it: those
        made to fewer cases first. A clock follows the first one that is about its kind."""
        async with host.database.readers.acquire() as conn:
            found = decide.in_order(await views.promises_in_force(conn))
        return Promises(items=[_promise(one.ref.rpartition("@")[0], one.content) for one in found])

    @router.get("/v1/promises/{promise_id}", summary="One promise")
    async def promise(promise_id: ConfigId, response: Response, caller: Annotated[Caller, reads]) -> PromiseAnswer:
        """The version in force; its number is the `ETag`."""
        content, version = await host.store.state(PROMISE(f"promise:{promise_id}"))
        if content is None:
            raise Unknown(f"there is no promise called {promise_id}")
        response.headers["ETag"] = f'"{version}"'
        return _promise(promise_id, content)

    @router.put("/v1/promises/{promise_id}", summary="Publish a promise")
    async def publish_promise(
        promise_id: ConfigId, order: PromiseOrder, response: Response, caller: Annotated[Caller, publishes]
    ) -> PromiseAnswer:
        """The next version, on the calendar's latest one. Cases that come in from now on follow it; `restate` says
        which others do: none, those that are open now (what they are in, not what they came to before), or every one.

        The same content again changes nothing. A calendar with too little time for the longest target within 10 years
        is refused (`no-working-time`).
        """
        wanted = PromisePublished.model_validate(order.model_dump() | {"version": 1})

        async def look(conn: Connection) -> decide.PinnedCalendar | None:
            return await _calendar(conn, order.calendar)

        changed = await host.store.change(
            PROMISE(f"promise:{promise_id}"),
            decision=partial(decide.publish_promise, wanted),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, promise_id=promise_id),
            look=look,
        )
        written(response, changed)
        return _promise(promise_id, changed.states[0])

    @router.post("/v1/promises/{promise_id}:preview", summary="What publishing a promise would change")
    async def preview_promise(
        promise_id: ConfigId, order: PromiseOrder, caller: Annotated[Caller, publishes]
    ) -> PreviewAnswer:
        """How many cases the version would judge, and what would be said otherwise about their clocks once all is said
        that is due by now. Writes nothing."""
        current, _ = await host.store.state(PROMISE(f"promise:{promise_id}"))
        async with host.database.readers.acquire() as conn:
            calendar = await _calendar(conn, order.calendar)
            now = await conn.fetchval("select clock_timestamp()")
        wanted = PromisePublished.model_validate(order.model_dump() | {"version": 1})
        events = decide.publish_promise(wanted, now, current, calendar)
        if not events:
            return PreviewAnswer(**vars(restating.Preview()))
        (content,) = (event for event in events if isinstance(event, PromisePublished))
        found = await restating.preview(host, Promise(f"{promise_id}@{content.version}", content), now)
        differences = [DifferenceAnswer(**vars(one)) for one in found.differences]
        return PreviewAnswer(**vars(found) | {"differences": differences})
