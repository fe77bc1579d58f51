"""Escalation's doors: promises, ladders, duty rotas, notices, clocks, escalations and mass issues."""

from fastapi import APIRouter

from services.escalation.api import calendars, clocks, escalations, issues, ladders, notices, promises, rotas
from services.runtime import Host
from services.web import Door
from services.web.problems import PROBLEMS


def doors(host: Host) -> APIRouter:
    """The routes of every room."""
    router = APIRouter(tags=["escalation"], responses=PROBLEMS)
    door = Door(host)
    for room in (calendars, promises, ladders, rotas, notices, clocks, escalations, issues):
        room.add(router, door)
    return router
