"""Promises are published by version."""

from functools import partial
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field, JsonValue, StringConstraints

from events.case import ClockKind, Priority
from events.database import Connection
from events.errors import Unknown
from events.event import Label
from events.operations import PromisePublished, PromiseTarget, Role
from services.escalation.api.configuration import ConfigId
from services.escalation.decide import promises as decide
from services.escalation.decide.configuration import PROMISE
from services.escalation.views import calendars
from services.escalation.views import promises as views
from services.web import Answer, Caller, Door, Order, written

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


def _promise(promise_id: str, content: PromisePublished) -> PromiseAnswer:
    return PromiseAnswer(promise_id=promise_id, **content.model_dump())


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/promises`."""
    host, reads, publishes = door.host, door.caller(Role.READER, Role.AGENT, Role.LEAD), door.caller(Role.LEAD)

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
            return await calendars.calendar_in_force(conn, order.calendar)

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
