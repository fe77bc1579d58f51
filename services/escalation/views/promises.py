"""The version in force of every promise."""

from __future__ import annotations

from dataclasses import dataclass

from events.case import ClockKind, Priority
from events.database import Connection
from events.event import Recorded
from events.operations import PromisePublished, PromiseTarget
from events.views import View
from services.escalation.clocks import Promise
from services.escalation.views.configuration import row_of, subject_id


@dataclass(frozen=True, slots=True)
class PromiseRow:
    """`clocks`, `priorities` and `targets_s` go together, place by place."""

    subject: str
    promise_id: str
    version: int
    name: str
    calendar: str
    warn_percent: int
    clocks: tuple[str, ...]
    priorities: tuple[str, ...]
    targets_s: tuple[int, ...]

    @property
    def content(self) -> PromisePublished:
        """The version as it was published."""
        rows = zip(self.clocks, self.priorities, self.targets_s, strict=True)
        return PromisePublished(
            version=self.version,
            name=self.name,
            calendar=self.calendar,
            warn_percent=self.warn_percent,
            targets=tuple(
                PromiseTarget(clock=ClockKind(clock), priority=Priority(priority), target_s=target_s)
                for clock, priority, target_s in rows
            ),
        )


def fold_promise(row: PromiseRow | None, event: Recorded[PromisePublished]) -> PromiseRow:
    data = event.data
    return PromiseRow(
        event.subject,
        subject_id(event),
        data.version,
        data.name,
        data.calendar,
        data.warn_percent,
        tuple(str(target.clock) for target in data.targets),
        tuple(str(target.priority) for target in data.targets),
        tuple(target.target_s for target in data.targets),
    )


PROMISES = View("promises", 1, PromiseRow, (PromisePublished,), fold_promise, inline=True)


async def promise_in_force(conn: Connection, promise_id: str) -> Promise | None:
    """The latest version of the promise, if there is one."""
    row = await row_of(conn, PROMISES, f"promise:{promise_id}")
    return None if row is None else Promise(f"{promise_id}@{row.version}", row.content)
