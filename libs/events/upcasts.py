"""Older shapes of events, made into the newest: wire type → (the next type, dict → dict)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any


def clock_started_v1(fields: dict[str, Any]) -> dict[str, Any]:
    """The one moment of warning had no percentage beside it."""
    due_at, warn_at = (datetime.fromisoformat(fields[name]) for name in ("due_at", "warn_at"))
    target = timedelta(seconds=fields["target_s"])
    percent = min(99, max(1, round(100 * (1 - (due_at - warn_at) / target))))
    kept = {name: value for name, value in fields.items() if name != "warn_at"}
    return kept | {"warnings": [{"percent": percent, "at": fields["warn_at"]}]}


def clock_stopped_v1(fields: dict[str, Any]) -> dict[str, Any]:
    """Nothing but what may be missing changed."""
    return fields


UPCASTS = {
    "casewalk.case.clock_started.v1": ("casewalk.case.clock_started.v2", clock_started_v1),
    "casewalk.case.clock_stopped.v1": ("casewalk.case.clock_stopped.v2", clock_stopped_v1),
}
