"""Escalation's doors: promises, ladders, duty rotas, clocks, and escalations."""

from fastapi import APIRouter

from services.escalation.api import calendars, clocks, escalations, ladders, promises, rotas
from services.runtime import Host
from services.web import Door


def doors(host: Host) -> APIRouter:
    """The routes of `/v1/calendars`, `/v1/promises`, `/v1/ladders`, `/v1/rotas`, `/v1/clocks` and `/v1/escalations`."""
    router = APIRouter(tags=["escalation"])
    door = Door(host)
    for room in (calendars, promises, ladders, rotas, clocks, escalations):
        room.add(router, door)
    return router
