"""The router's doors: the organigram and the routing table, and the work that agents take."""

from fastapi import APIRouter

from services.router.api import organigram, tables, work
from services.runtime import Host


def doors(host: Host) -> APIRouter:
    """All of them."""
    router = APIRouter(tags=["router"])
    for room in (organigram, tables, work):
        router.include_router(room.doors(host))
    return router
