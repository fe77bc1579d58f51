"""What is new in the log, known once for all readers of a process: it has two per service."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from events.log import Lane
from events.wire import Broken, Record

RECENT, RECENT_CHARS = 8192, 16 * 1024 * 1024
"""How many records are kept, and how much data they have together."""


class Recent:
    """Where the log ends, the records that came last, and who waits for more. The records are forgotten where the log
    may have become another one."""

    def __init__(self) -> None:
        self.ends: dict[Lane, int] = {}
        """The next offset of every lane, as the process last heard."""
        self.count = 0
        """Goes up whenever it hears of something."""
        self._grown = asyncio.Condition()
        self._records: OrderedDict[tuple[Lane, int], Record | Broken] = OrderedDict()
        """A dict would look for its first one among all that were taken out before it."""
        self._chars = 0

    def add(self, read: Mapping[Lane, Sequence[Record | Broken]]) -> None:
        for lane, records in read.items():
            for record in records:
                known = self._records.pop((lane, record.offset), None)
                self._records[lane, record.offset] = record
                self._chars += _size(record) - (0 if known is None else _size(known))
        while len(self._records) > RECENT or self._chars > RECENT_CHARS:
            _, dropped = self._records.popitem(last=False)
            self._chars -= _size(dropped)

    def of(
        self, positions: Mapping[Lane, int], per_lane: int
    ) -> tuple[dict[Lane, list[Record | Broken]], dict[Lane, int]]:
        """Lane → the records from its offset on, up to one that is not kept; and the positions of lanes where there is
        something and the first is not kept."""
        found: dict[Lane, list[Record | Broken]] = {}
        behind: dict[Lane, int] = {}
        for lane, start in positions.items():
            for offset in range(start, min(self.ends.get(lane, 0), start + per_lane)):
                record = self._records.get((lane, offset))
                if record is None:
                    break
                found.setdefault(lane, []).append(record)
            if lane not in found and start < self.ends.get(lane, 0):
                behind[lane] = start
        return found, behind

    async def heard(self, ends: Mapping[Lane, int]) -> None:
        """The log ends there: wakes whoever waits."""
        async with self._grown:
            self.ends, self.count = dict(ends), self.count + 1
            self._grown.notify_all()

    async def later(self, count: int, wait_s: float) -> bool:
        """Until `count` is out of date; False when it is not within `wait_s`."""
        try:
            async with asyncio.timeout(wait_s), self._grown:
                await self._grown.wait_for(lambda: self.count != count)
        except TimeoutError:
            return False
        return True

    def forget(self) -> None:
        self._records.clear()
        self._chars = 0


def _size(record: Record | Broken) -> int:
    return len(record.data if isinstance(record, Record) else record.raw)
