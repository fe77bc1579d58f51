"""Versions of calendars, promises, ladders and rotas: what is published replaces the version before, whole."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from events.event import OPERATIONS, Event, Recorded
from events.operations import CalendarPublished, LadderPublished, PromisePublished, RotaPublished
from events.store import Fold

V = TypeVar("V", CalendarPublished, PromisePublished, LadderPublished, RotaPublished)


def _latest(version: V | None, event: Recorded[V]) -> V | None:
    return event.data


def _none(subject: str) -> None:
    return None


CALENDAR: Fold[CalendarPublished | None] = Fold(OPERATIONS, _none, _latest)
PROMISE: Fold[PromisePublished | None] = Fold(OPERATIONS, _none, _latest)
LADDER: Fold[LadderPublished | None] = Fold(OPERATIONS, _none, _latest)
ROTA: Fold[RotaPublished | None] = Fold(OPERATIONS, _none, _latest)


def publish(wanted: V, now: datetime, current: V | None) -> list[Event]:
    """`wanted` as the next version, whatever version it says itself; no event if nothing would change."""
    if current is not None and wanted.model_copy(update={"version": current.version}) == current:
        return []
    return [wanted.model_copy(update={"version": 1 if current is None else current.version + 1})]
