"""Vendor's doors: partners, contracts, share plans, and the cases that lie with a partner."""

from fastapi import APIRouter

from services.runtime import Host
from services.vendor.api import cases, configuration
from services.web import Door
from services.web.problems import PROBLEMS


def doors(host: Host) -> APIRouter:
    """The routes of `/v1/partners`, `/v1/contracts` and `/v1/share-plans`."""
    router = APIRouter(tags=["vendor"], responses=PROBLEMS)
    door = Door(host)
    for room in (configuration, cases):
        room.add(router, door)
    return router
