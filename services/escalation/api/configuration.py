"""Promises and ladders are published by version; calendars are read."""

from functools import partial
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Path, Response
from pydantic import ConfigDict, Field, JsonValue, StringConstraints

from events.case import ClockKind, Priority
from events.database import Connection
from events.errors import Unknown
from events.event import Label, Ref
from events.operations import LadderPublished, PromisePublished, PromiseTarget, Role
from services.escalation.decide import configuration as decide
from services.escalation.decide.configuration import LADDER, PROMISE
from services.escalation.views import configuration as views
from services.web import Answer, Caller, Door, Order, written

ConfigId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Up to 100 letters, digits, `.`, `_`, `-`.")
]

_PROMISE: dict[str, JsonValue] = {
    "name": "Standard",
    "calendar": "always",
    "warn_percent": 75,
    "targets": [
        {"clock": clock, "priority": priority, "target_s": hours * 3600}
        for clock, targets in {
            "first_response": {"urgent": 1, "high": 2, "normal": 4, "low": 8},
            "resolution": {"urgent": 4, "high": 8, "normal": 24, "low": 72},
        }.items()
        for priority, hours in targets.items()
    ],
}


class CalendarAnswer(Answer):
    calendar_id: str
    version: int
    name: str
    always: bool = Field(description="24×7: all time counts.")


class Calendars(Answer):
    items: list[CalendarAnswer]


class Target(Order):
    clock: ClockKind
    priority: Priority
    target_s: int = Field(ge=1, le=366 * 86_400, description="Seconds the clock may run.")


class PromiseOrder(Order):
    """One target for every clock and priority."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PROMISE]})

    name: Label
    calendar: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = Field(
        default="always", description="The calendar's id; its latest version is pinned."
    )
    targets: tuple[Target, ...] = Field(min_length=1, max_length=100)
    warn_percent: int = Field(default=75, ge=1, le=99, description="When to warn, in percent of a target.")


class PromiseAnswer(Answer):
    promise_id: str
    version: int
    name: str
    calendar: str = Field(description="id@version.")
    targets: tuple[Target, ...]
    warn_percent: int


class Promises(Answer):
    items: list[PromiseAnswer]


class LadderOrder(Order):
    """Which unit takes a case when a clock of these kinds is breached; none, and only people escalate."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"unit_id": "escalation", "on_breach": ["resolution"]}]})

    unit_id: Ref
    on_breach: tuple[ClockKind, ...] = Field(default=(), max_length=10)


class LadderAnswer(Answer):
    ladder_id: str
    version: int
    unit_id: str
    on_breach: tuple[ClockKind, ...]


class Ladders(Answer):
    items: list[LadderAnswer]


def _promise(promise_id: str, content: PromisePublished) -> PromiseAnswer:
    return PromiseAnswer(promise_id=promise_id, **content.model_dump())


def _ladder(ladder_id: str, content: LadderPublished) -> LadderAnswer:
    return LadderAnswer(ladder_id=ladder_id, **content.model_dump())


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/calendars`, `/v1/promises` and `/v1/ladders`."""
    host, reads, publishes = door.host, door.caller(Role.READER, Role.AGENT, Role.LEAD), door.caller(Role.LEAD)

    @router.get("/v1/calendars", summary="The calendars")
    async def calendars(caller: Annotated[Caller, reads]) -> Calendars:
        """When time counts. `always` is 24×7, the only kind there is yet."""
        rows = [views.CALENDARS.decode(row) for row in await host.database.rows(sa.select(views.CALENDARS.table))]
        items = [
            CalendarAnswer(calendar_id=row.calendar_id, version=row.version, name=row.name, always=row.always)
            for row in sorted(rows, key=lambda row: row.calendar_id)
        ]
        return Calendars(items=items)

    @router.get("/v1/promises", summary="The promises")
    async def promises(caller: Annotated[Caller, reads]) -> Promises:
        """The version in force of every promise. Clocks follow `standard`."""
        rows = [views.PROMISES.decode(row) for row in await host.database.rows(sa.select(views.PROMISES.table))]
        ordered = sorted(rows, key=lambda row: row.promise_id)
        return Promises(items=[_promise(row.promise_id, row.content) for row in ordered])

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
        """The next version: clocks that start from now on follow it, running ones keep theirs.

        The same content again changes nothing.
        """
        wanted = PromisePublished(
            version=1,
            name=order.name,
            calendar=order.calendar,
            targets=tuple(PromiseTarget(**target.model_dump()) for target in order.targets),
            warn_percent=order.warn_percent,
        )

        async def look(conn: Connection) -> str | None:
            return await views.calendar_in_force(conn, order.calendar)

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

    @router.get("/v1/ladders", summary="The ladders")
    async def ladders(caller: Annotated[Caller, reads]) -> Ladders:
        """The version in force of every ladder. Cases follow `standard`."""
        rows = [views.LADDERS.decode(row) for row in await host.database.rows(sa.select(views.LADDERS.table))]
        ordered = sorted(rows, key=lambda row: row.ladder_id)
        return Ladders(items=[_ladder(row.ladder_id, row.content) for row in ordered])

    @router.get("/v1/ladders/{ladder_id}", summary="One ladder")
    async def ladder(ladder_id: ConfigId, response: Response, caller: Annotated[Caller, reads]) -> LadderAnswer:
        """The version in force; its number is the `ETag`."""
        content, version = await host.store.state(LADDER(f"ladder:{ladder_id}"))
        if content is None:
            raise Unknown(f"there is no ladder called {ladder_id}")
        response.headers["ETag"] = f'"{version}"'
        return _ladder(ladder_id, content)

    @router.put("/v1/ladders/{ladder_id}", summary="Publish a ladder")
    async def publish_ladder(
        ladder_id: ConfigId, order: LadderOrder, response: Response, caller: Annotated[Caller, publishes]
    ) -> LadderAnswer:
        """The next version, in force for every breach from now on. The same content again changes nothing."""
        wanted = LadderPublished(version=1, unit_id=order.unit_id, on_breach=tuple(sorted(set(order.on_breach))))
        changed = await host.store.change(
            LADDER(f"ladder:{ladder_id}"),
            decision=partial(decide.publish, wanted),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, ladder_id=ladder_id),
        )
        written(response, changed)
        return _ladder(ladder_id, changed.states[0])
