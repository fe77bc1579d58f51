"""The router's doors: the organigram and the routing table, and the work that agents take."""

from fastapi import APIRouter

from services.router.api import organigram, tables, work
from services.runtime import Host
from services.web import Door
from services.web.problems import PROBLEMS


def doors(host: Host) -> APIRouter:
    """All of them."""
    router = APIRouter(tags=["router"], responses=PROBLEMS)
    door = Door(host)
    for room in (organigram, tables, work):
        room.add(router, door)
    return router
