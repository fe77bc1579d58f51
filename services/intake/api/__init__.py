"""Intake's doors: cases and what is said on them, history of other systems, keys, customers, the event feed."""

from fastapi import APIRouter

from services.intake.api import cases, contacts, customers, feed, imports, keys, labels, links
from services.runtime import Host
from services.web import Door
from services.web.problems import PROBLEMS


def doors(host: Host) -> APIRouter:
    """The routes of `/v1/cases`, `/v1/imports`, `/v1/keys`, `/v1/customers` and `/v1/events`."""
    router = APIRouter(tags=["intake"], responses=PROBLEMS)
    door = Door(host)
    for room in (cases, contacts, labels, links, imports, keys, customers, feed):
        room.add(router, door)
    return router
