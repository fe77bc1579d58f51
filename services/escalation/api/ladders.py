"""Ladders are published by version."""

from functools import partial
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field

from events.case import ClockKind
from events.errors import Unknown
from events.event import Ref
from events.operations import LadderPublished, Role
from services.escalation.api.configuration import ConfigId
from services.escalation.decide import configuration as decide
from services.escalation.decide.configuration import LADDER
from services.escalation.views import ladders as views
from services.web import Answer, Caller, Door, Order, written


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


def _ladder(ladder_id: str, content: LadderPublished) -> LadderAnswer:
    return LadderAnswer(ladder_id=ladder_id, **content.model_dump())


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/ladders`."""
    host, reads, publishes = door.host, door.caller(Role.READER, Role.AGENT, Role.LEAD), door.caller(Role.LEAD)

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
