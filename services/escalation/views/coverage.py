"""What coverage is asked for: the units that others published, and the places that cases came from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy as sa

from events.case import CaseClassified, CaseOpened, CaseTakenOver, UnitKind
from events.database import Connection, fetch
from events.event import Recorded
from events.operations import UnitPublished
from events.views import View
from services.escalation.decide.coverage import Place, Unit


@dataclass(frozen=True, slots=True)
class UnitRow:
    subject: str
    unit_id: str
    kind: UnitKind
    markets: tuple[str, ...]


def fold_unit(row: UnitRow | None, event: Recorded[UnitPublished]) -> UnitRow:
    return UnitRow(event.subject, event.subject.partition(":")[2], event.data.kind, event.data.markets)


KNOWN_UNITS = View("known_units", 1, UnitRow, (UnitPublished,), fold_unit)


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """Where a case came from, and with what."""

    case_id: str
    market: str | None = None
    journey: str | None = None


def fold_place(row: PlaceRow | None, event: Recorded[CaseOpened | CaseTakenOver | CaseClassified]) -> PlaceRow:
    row = row or PlaceRow(event.subject)
    match event.data:
        case CaseOpened() | CaseTakenOver() as data:
            return replace(row, market=data.market, journey=data.journey)
        case CaseClassified(journey=str(journey)):
            return replace(row, journey=journey)
        case _:
            return row


PLACES = View(
    "places", 1, PlaceRow, (CaseOpened, CaseTakenOver, CaseClassified), fold_place, indexes=("market, journey",)
)


async def units_known(conn: Connection) -> dict[str, Unit]:
    """Unit id → the unit as it was published last."""
    rows = [KNOWN_UNITS.decode(row) for row in await fetch(conn, KNOWN_UNITS.all_rows)]
    return {row.unit_id: Unit(row.unit_id, row.kind, row.markets) for row in rows}


async def places_seen(conn: Connection) -> set[Place]:
    """Every market and journey that a case ever had together."""
    c = PLACES.table.c
    statement = sa.select(c.market, c.journey).where(c.market.is_not(None), c.journey.is_not(None)).distinct()
    return {(market, journey) for market, journey in await fetch(conn, statement)}
