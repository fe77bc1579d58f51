"""Calendars are read."""

from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import Field

from events.operations import Role
from services.escalation.views import calendars as views
from services.web import Answer, Caller, Door


class CalendarAnswer(Answer):
    calendar_id: str
    version: int
    name: str
    always: bool = Field(description="24×7: all time counts.")


class Calendars(Answer):
    items: list[CalendarAnswer]


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/calendars`."""
    host, reads = door.host, door.caller(Role.READER, Role.AGENT, Role.LEAD)

    @router.get("/v1/calendars", summary="The calendars")
    async def calendars(caller: Annotated[Caller, reads]) -> Calendars:
        """When time counts. `always` is 24×7, the only kind there is yet."""
        rows = [views.CALENDARS.decode(row) for row in await host.database.rows(sa.select(views.CALENDARS.table))]
        items = [
            CalendarAnswer(calendar_id=row.calendar_id, version=row.version, name=row.name, always=row.always)
            for row in sorted(rows, key=lambda row: row.calendar_id)
        ]
        return Calendars(items=items)
