"""The log as both engines offer it: append records, fetch them by offset, state marks, hint at progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from events.database import Connection
from events.event import CASES, OPERATIONS
from events.wire import PARTITIONS, Broken, Record

Lane = tuple[str, int]
"""(topic, partition)."""

LANES: tuple[Lane, ...] = tuple((topic, p) for topic in (CASES, OPERATIONS) for p in range(PARTITIONS))


@dataclass(frozen=True)
class Mark:
    """A relay's statement: everything its service recorded up to `at` is in the log below these offsets."""

    source: str
    at: datetime
    offsets: Mapping[Lane, int]
    """Lane → the first offset that may hold something recorded later."""


@dataclass(frozen=True)
class Progress:
    """How far a consumer is behind in one lane: records not handled, and when the last handled one was recorded."""

    consumer: str
    lane: Lane
    records: int
    handled_at: datetime


class Reader(Protocol):
    """One consumer's way to read."""

    async def fetch(
        self, positions: Mapping[Lane, int], limit: int, wait_s: float = 0.0, only: frozenset[str] | None = None
    ) -> dict[Lane, list[Record | Broken]]:
        """At most about `limit` records from these offsets on, in offset order per lane; waits up to `wait_s` for the
        first. An offset beyond the lane's end gives nothing. Where only some wire types are asked for, others may be
        left out, but never the last in a lane: it says how far the lane was read."""
        ...

    async def hint(self, offsets: Mapping[Lane, tuple[int, datetime]]) -> set[Lane]:
        """Say how far the consumer is (lane → next offset, recorded time of the last record handled), for lag tools
        and the import gate; nothing else relies on it. Answers the lanes whose word was taken."""
        ...

    async def renew(self) -> None:
        """Go on with new clients: what was used until now gives nothing although there is something."""
        ...

    async def close(self) -> None: ...


class Log(Protocol):
    """The log of one process's service."""

    async def start(self) -> None:
        """Connect; make the topics if they are not there. Raises Unavailable, or Invalid where a topic is not as it
        must be."""
        ...

    async def stop(self) -> None:
        """Let go within a bounded time."""
        ...

    def warnings(self) -> Sequence[str]:
        """Sentences about what `start` found: it keeps nothing from working, and is worth a look."""
        ...

    async def append(self, conn: Connection, records: Sequence[Record]) -> dict[Lane, int]:
        """Append in order; done when durable. Answers the end (next offset) of every lane touched. PostgreSQL appends
        in `conn`'s transaction, Kafka waits for every acknowledgement. After an error some may be in the log."""
        ...

    async def grew(self, records: Sequence[Record], ends: Mapping[Lane, int]) -> None:
        """Called when an append is final, with what it took and answered: hands that to this process's readers, where
        nobody else does."""
        ...

    def reader(self, consumer: str | None) -> Reader:
        """A way to read; `consumer` names it for hints, None for one that gives none."""
        ...

    async def forget(self) -> None:
        """Keep nothing for readers of what was read until now: the log is another one."""
        ...

    async def ends(self) -> dict[Lane, int]:
        """The next offset of every lane."""
        ...

    async def state_mark(self, mark: Mark) -> None: ...

    async def marks(self) -> dict[str, Mark]:
        """The mark that every source stated last; of an earlier time than the one before, where a clock went back."""
        ...

    async def progress(self, suffix: str) -> list[Progress]:
        """The lanes in which consumers whose name ends so have something left to handle, as they last hinted."""
        ...
