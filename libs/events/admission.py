"""Admission: what of a fetched batch is new, what is a repeat, what passes by, and what parks; in lane order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import structlog

from events import parking
from events.database import Connection
from events.errors import CasewalkError
from events.event import Recorded
from events.lanes import Position
from events.log import Lane
from events.wire import Broken, Record, Vocabulary

log_ = structlog.get_logger("consume")

Case = tuple[str, str]
"""(topic, subject)."""

Stream = tuple[str, str, str]
"""(source, topic, subject)."""

Last = tuple[int, str]
"""(sequence, id) of a stream's last record that took effect or passed by."""


class Conflict(CasewalkError):
    """The log says something that cannot be: the case is parked and somebody must look."""

    status, kind = 409, "conflict"


@dataclass
class Batch:
    """What one transaction is about to do."""

    ready: list[Recorded[Any]] = field(default_factory=list)
    """To be handled, in lane order."""
    admitted: dict[Case, list[Record]] = field(default_factory=dict)
    """What is to be handled or passes by."""
    parked: list[parking.Parked] = field(default_factory=list)
    before: dict[Stream, Last] = field(default_factory=dict)
    seen: dict[Stream, Last] = field(default_factory=dict)
    """Before the batch, and after it."""
    moved: dict[Lane, Position] = field(default_factory=dict)
    handled_at: dict[Lane, datetime] = field(default_factory=dict)
    passed_by: int = 0

    def park_case(self, case: Case, why: str) -> None:
        """Nothing of the case took effect: park all of it before what was parked behind it, and undo its cursors."""
        mine = self.admitted[case]
        self.parked[:0] = [parking.of_record(r, why if i == 0 else "behind the first") for i, r in enumerate(mine)]
        for r in mine:
            stream = (r.source, r.topic, r.subject)
            if stream in self.before:
                self.seen[stream] = self.before[stream]
            else:
                self.seen.pop(stream, None)


@dataclass(frozen=True)
class Admission:
    """How one consumer lets records in."""

    consumer: str
    reads: frozenset[str]
    """Wire types, newest versions."""
    vocabulary: Vocabulary

    async def batch(
        self,
        conn: Connection,
        found: Mapping[Lane, list[Record | Broken]],
        positions: Mapping[Lane, Position],
    ) -> Batch:
        """Sort out what was fetched; lanes without a position are somebody else's by now."""
        new = {
            lane: [r for r in found[lane] if r.offset >= positions[lane].next_offset]
            for lane in sorted(found)
            if lane in positions
        }
        known, blocked = await self._known(conn, [r for r in chain(*new.values()) if isinstance(r, Record)])
        batch = Batch(before=dict(known))
        for lane, records in new.items():
            for r in records:
                if isinstance(r, Broken):
                    log_.error("record is no event and parks alone", consumer=self.consumer, lane=lane, why=r.error)
                    batch.parked.append(parking.of_broken(r))
                else:
                    self._sort_in(r, known, blocked, batch)
            if records:
                last = records[-1]
                batch.moved[lane] = Position(last.offset + 1, last.id)
                batch.handled_at[lane] = last.recorded_at if isinstance(last, Record) else datetime.now(UTC)
        return batch

    async def again(self, conn: Connection, r: Record) -> Batch:
        """A parked record alone, whose turn it is."""
        batch = Batch()
        known, _ = await self._known(conn, [r])
        self._sort_in(r, known, set(), batch)
        return batch

    def reads_any(self, records: Iterable[Record | Broken]) -> bool:
        """Whether there is anything among them that does not simply pass by."""
        return any(isinstance(r, Broken) or self._concerns(r.type) for r in records)

    def _concerns(self, wire_type: str) -> bool:
        return self.vocabulary.newest(wire_type) in self.reads or self.vocabulary.is_newer(wire_type, self.reads)

    async def _known(self, conn: Connection, records: Sequence[Record]) -> tuple[dict[Stream, Last], set[Case]]:
        """The last record of each of their streams that took effect or passed by, and the cases that have something
        parked."""
        streams = {(r.source, r.topic, r.subject) for r in records}
        rows = await conn.fetch(
            "select s.source, s.topic, s.subject, s.sequence, s.id from seen s"
            " join unnest($2::text[], $3::text[], $4::text[]) k (source, topic, subject) using (source, topic, subject)"
            " where s.consumer = $1"
            " union all select distinct null, p.topic, p.subject, 0::bigint, null::uuid from parked p"
            " join unnest($3::text[], $4::text[]) k (topic, subject) using (topic, subject)"
            " where p.consumer = $1 and p.source is not null",
            self.consumer,
            [source for source, _, _ in streams],
            [topic for _, topic, _ in streams],
            [subject for _, _, subject in streams],
        )
        known: dict[Stream, Last] = {}
        blocked: set[Case] = set()
        for source, topic, subject, sequence, event_id in rows:
            if source is None:
                blocked.add((topic, subject))
            else:
                known[source, topic, subject] = (sequence, str(event_id or ""))
        return known, blocked

    def _sort_in(self, r: Record, known: dict[Stream, Last], blocked: set[Case], batch: Batch) -> None:
        stream, case = (r.source, r.topic, r.subject), (r.topic, r.subject)
        last = known.get(stream, (0, ""))
        if r.sequence < last[0] or (r.sequence, r.id) == last:
            return  # a repeat
        if case in blocked:
            batch.parked.append(parking.of_record(r, "behind an earlier one"))
            return
        try:
            self._let_in(r, last, batch)
        except CasewalkError as error:
            log_.error("case is parked", consumer=self.consumer, subject=r.subject, type=r.type, why=error.message)
            blocked.add(case)
            batch.parked.append(parking.of_record(r, error.message))
            return
        batch.admitted.setdefault(case, []).append(r)
        known[stream] = batch.seen[stream] = (r.sequence, r.id)

    def _let_in(self, r: Record, last: Last, batch: Batch) -> None:
        sequence, last_id = last
        if r.sequence == sequence:
            raise Conflict(f"another event stands under {r.source}'s sequence {r.sequence}: {r.id}, not {last_id}")
        if r.sequence > sequence + 1:
            raise Conflict(f"{r.source}'s sequence {sequence + 1} is missing before {r.sequence}")
        if self.vocabulary.newest(r.type) in self.reads:
            batch.ready.append(self.vocabulary.recorded(r))
        elif self.vocabulary.is_newer(r.type, self.reads):
            raise Conflict(f"{r.type} is newer than this reader")
        else:
            batch.passed_by += 1
