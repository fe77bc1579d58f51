"""Duty rotas are published by version, and asked who is on duty."""

from datetime import UTC
from functools import partial
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from events.database import Connection
from events.errors import Unknown
from events.event import Ref
from events.operations import DatedShift, OwnerRule, Role, RotaPublished, WeeklyShift
from services.escalation.api.configuration import ConfigId
from services.escalation.decide import rotas as decide
from services.escalation.decide.configuration import ROTA
from services.escalation.views import rotas as views
from services.escalation.views.ladders import ladders_in_force
from services.web import Answer, Caller, Door, Order, Time, written

TimeOfDay = Annotated[str, StringConstraints(pattern=r"^[0-9]{2}:[0-9]{2}$")]


class WeeklyOrder(Order):
    days: tuple[Annotated[str, StringConstraints(pattern="^(mon|tue|wed|thu|fri|sat|sun)$")], ...] = Field(
        min_length=1, max_length=7, description="On which it begins."
    )
    opens: TimeOfDay
    closes: TimeOfDay = Field(description="At or before `opens`: on the next day. `24:00`: the end of the day.")
    agents: tuple[Ref, ...] = Field(default=(), max_length=50, description="None: nobody was found yet.")


class DatedOrder(Order):
    date: Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")] = Field(
        description="On which it begins; replaces what the weekday says."
    )
    opens: TimeOfDay
    closes: TimeOfDay
    agents: tuple[Ref, ...] = Field(default=(), max_length=50)


class RotaOrder(Order):
    """Who of the unit is on duty when, by the clocks of one time zone."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "tz": "Europe/Berlin",
                    "weekly": [
                        {
                            "days": ["mon", "tue", "wed", "thu", "fri"],
                            "opens": "08:00",
                            "closes": "20:00",
                            "agents": ["olga"],
                        },
                        {
                            "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
                            "opens": "20:00",
                            "closes": "08:00",
                            "agents": ["paul"],
                        },
                        {"days": ["sat", "sun"], "opens": "08:00", "closes": "20:00", "agents": ["paul"]},
                    ],
                    "dated": [{"date": "2026-12-24", "opens": "00:00", "closes": "24:00", "agents": ["olga"]}],
                }
            ]
        }
    )

    tz: Ref = Field(description="IANA name.")
    weekly: tuple[WeeklyOrder, ...] = Field(default=(), max_length=100)
    dated: tuple[DatedOrder, ...] = Field(default=(), max_length=1000)


class RotaAnswer(Answer):
    unit_id: str
    version: int
    tz: str
    weekly: tuple[WeeklyShift, ...]
    dated: tuple[DatedShift, ...]


class Rotas(Answer):
    items: list[RotaAnswer]


class OnDuty(Answer):
    unit_id: str
    rota: str = Field(description="id@version.")
    at: AwareDatetime
    agents: tuple[str, ...] = Field(description="None: nobody is.")


def _rota(content: RotaPublished) -> RotaAnswer:
    return RotaAnswer(**{name: getattr(content, name) for name in RotaAnswer.model_fields})


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/rotas`."""
    host, reads, publishes = door.host, door.caller(Role.READER, Role.AGENT, Role.LEAD), door.caller(Role.LEAD)

    async def in_force(unit_id: str) -> tuple[RotaPublished, int]:
        content, version = await host.store.state(ROTA(f"rota:{unit_id}"))
        if content is None:
            raise Unknown(f"the unit {unit_id} has no rota")
        return content, version

    @router.get("/v1/rotas", summary="The duty rotas")
    async def rotas(caller: Annotated[Caller, reads]) -> Rotas:
        """The version in force of every unit's rota."""
        rows = [views.ROTAS.decode(row) for row in await host.database.rows(sa.select(views.ROTAS.table))]
        return Rotas(items=[_rota(row.content) for row in sorted(rows, key=lambda row: row.unit_id)])

    @router.get("/v1/rotas/{unit_id}:on-duty", summary="Who is on duty")
    async def on_duty(
        unit_id: ConfigId,
        caller: Annotated[Caller, reads],
        at: Annotated[Time | None, Query(description="Left out: now.")] = None,
    ) -> OnDuty:
        """Whom the rota in force names for that moment."""
        content, _ = await in_force(unit_id)
        moment = at or await host.database.readers.fetchval("select clock_timestamp()")
        return OnDuty(
            unit_id=unit_id,
            rota=f"{unit_id}@{content.version}",
            at=moment,
            agents=decide.on_duty(content, moment.astimezone(UTC)),
        )

    @router.get("/v1/rotas/{unit_id}", summary="One duty rota")
    async def rota(unit_id: ConfigId, response: Response, caller: Annotated[Caller, reads]) -> RotaAnswer:
        """The version in force; its number is the `ETag`."""
        content, version = await in_force(unit_id)
        response.headers["ETag"] = f'"{version}"'
        return _rota(content)

    @router.put("/v1/rotas/{unit_id}", summary="Publish a duty rota")
    async def publish_rota(
        unit_id: ConfigId, order: RotaOrder, response: Response, caller: Annotated[Caller, publishes]
    ) -> RotaAnswer:
        """The next version, in force from now on. A window nobody covers is refused where a ladder leaves the ownership
        to whoever is on duty. The same content again changes nothing."""
        wanted = RotaPublished(version=1, unit_id=unit_id, **order.model_dump())

        async def relied_on(conn: Connection) -> bool:
            rungs = [rung for ladder in await ladders_in_force(conn) for rung in ladder.rungs]
            return any(rung.unit_id == unit_id and rung.owner_rule is OwnerRule.ON_DUTY for rung in rungs)

        changed = await host.store.change(
            ROTA(f"rota:{unit_id}"),
            decision=partial(decide.publish_rota, wanted),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, unit_id=unit_id),
            look=relied_on,
        )
        written(response, changed)
        return _rota(changed.states[0])
