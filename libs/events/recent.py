"""The records that were read last, kept for the other readers of the process: it has two per service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from events.log import Lane
from events.wire import Broken, Record

RECENT, RECENT_CHARS = 4096, 16 * 1024 * 1024
"""How many are kept, and how much data they have together."""


class Recent:
    """Forgotten where the log may have become another one."""

    def __init__(self) -> None:
        self._records: dict[tuple[Lane, int], Record | Broken] = {}
        self._chars = 0

    def add(self, read: Mapping[Lane, Sequence[Record | Broken]]) -> None:
        for lane, records in read.items():
            for record in records:
                self._drop((lane, record.offset))
                self._records[lane, record.offset] = record
                self._chars += _size(record)
        while len(self._records) > RECENT or self._chars > RECENT_CHARS:
            self._drop(next(iter(self._records)))

    def _drop(self, place: tuple[Lane, int]) -> None:
        dropped = self._records.pop(place, None)
        self._chars -= 0 if dropped is None else _size(dropped)

    def of(self, spans: Mapping[Lane, tuple[int, int]]) -> dict[Lane, list[Record | Broken]]:
        """Lane → the records from its first offset to before its last, up to one that is not known; no lane without."""
        found: dict[Lane, list[Record | Broken]] = {}
        for lane, (start, end) in spans.items():
            for offset in range(start, end):
                record = self._records.get((lane, offset))
                if record is None:
                    break
                found.setdefault(lane, []).append(record)
        return found

    def forget(self) -> None:
        self._records.clear()
        self._chars = 0


def _size(record: Record | Broken) -> int:
    return len(record.data if isinstance(record, Record) else record.raw)
