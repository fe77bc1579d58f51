"""What is told of a case's resolution clock beside its verdict: the promise, when it is due, and when it ended."""

from __future__ import annotations

from typing import Any

from events.case import (
    ClockBreached,
    ClockCancelled,
    ClockEvent,
    ClockKind,
    ClockPaused,
    ClockRestated,
    ClockResumed,
    ClockRetargeted,
    ClockStarted,
    ClockStopped,
)
from events.event import CaseEvent, Recorded


def clock_told(event: Recorded[CaseEvent], since_episode: int) -> dict[str, Any]:
    """The `clock_…` facts that the event changes, where it is about such a clock of that episode or a later one."""
    data = event.data
    if not isinstance(data, ClockEvent) or data.clock is not ClockKind.RESOLUTION or data.episode < since_episode:
        return {}
    match data:
        case ClockRestated(after=after):
            promise = after.spans[-1].promise if after.spans else None
            ended = {"clock_ended_at": after.ended_at, "clock_imported": not after.fires}
            return {"clock_promise": promise, "clock_due_at": after.due_at, **ended}
        case ClockStarted():
            ended = {"clock_ended_at": None, "clock_imported": not data.fires}
            return {"clock_promise": data.promise, "clock_due_at": data.due_at, **ended}
        case ClockRetargeted() | ClockBreached():
            return {"clock_promise": data.promise, "clock_due_at": data.due_at}
        case ClockPaused() | ClockResumed():
            return {"clock_due_at": data.due_at}
        case ClockStopped():
            return {"clock_promise": data.promise, "clock_due_at": data.due_at, "clock_ended_at": event.occurred_at}
        case ClockCancelled():
            return {"clock_ended_at": event.occurred_at}
        case _:
            return {}
