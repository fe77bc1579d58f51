"""Intake and vendor, running, with somebody in the router's place who queues cases where a test wants them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import APIRouter

from events.case import CaseQueued, UnitKind
from events.event import CASES, CaseEvent, Recorded
from events.store import Fold
from services.intake.service import SERVICE as INTAKE
from services.runtime import Service
from services.vendor.service import SERVICE as VENDOR
from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine
from tests.given import an

ROUTER = Service("router", "queues cases where a test wants them", (), lambda host: APIRouter())


def _count(events: int, event: Recorded[CaseEvent]) -> int:
    return events + 1


ROUTED: Fold[int] = Fold(CASES, lambda case_id: 0, _count)


async def queue(here: Casewalk, case_id: str, queue_id: str = "parcels", kind: UnitKind = UnitKind.PARTNER) -> None:
    """The router says that the case waits in this queue."""
    queued = an(CaseQueued, queue_id=queue_id, unit_id=queue_id, unit_kind=kind)
    store = here.hosts["router"].store
    await store.change(ROUTED(case_id), decision=lambda now, events: [queued], actor="service:router")


@pytest.fixture
async def here(engine: Engine, tmp_path: Path) -> AsyncIterator[Casewalk]:
    """On each engine in turn, with two processes' worth of vendor: for what goes through the log."""
    async with casewalk(engine, tmp_path, (INTAKE, ROUTER, VENDOR, VENDOR)) as running:
        yield running


@pytest.fixture
async def doors(database: str, tmp_path: Path) -> AsyncIterator[Casewalk]:
    """On the embedded engine only: for what the doors say."""
    async with casewalk(Engine("embedded", database, None, ""), tmp_path, (INTAKE, ROUTER, VENDOR)) as running:
        yield running
