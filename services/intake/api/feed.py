"""The event feed: the log's topic `casewalk.cases` for subscribers without Kafka."""

import heapq
import json
from collections.abc import Iterator, Mapping
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field, JsonValue

from events.errors import Invalid
from events.event import CASES
from events.log import Lane, Log
from events.operations import Role
from events.wire import PARTITIONS, Broken, Record, rfc3339
from services.web import Answer, Caller, Door, Limit, cursor, parse_cursor

FETCH_S = 2.0
"""How long a page waits for records that are in the log for certain."""

LANES: tuple[Lane, ...] = tuple((CASES, partition) for partition in range(PARTITIONS))


class CloudEvent(Answer):
    """An event as structured CloudEvents 1.0 JSON, with the same attributes as in Kafka."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str = Field(description="The case id.")
    time: str = Field(description="When it happened.")
    recordedtime: str = Field(description="When it was recorded.")
    sequence: str = Field(description="Counts 1, 2, 3 … in the stream of this source and subject; 20 digits.")
    actor: str
    correlationid: str
    causationid: str | None = None
    partitionkey: str
    dataschema: str
    datacontenttype: str = "application/json"
    traceparent: str
    data: dict[str, JsonValue] = Field(description="Personal fields are sealed; nobody but intake reads them.")


class Feed(Answer):
    model_config = ConfigDict(frozen=True)

    items: list[CloudEvent]
    next: str = Field(description="Where the next page starts: hand it back as `after`.")


def _offsets(text: str | None) -> list[int]:
    values = parse_cursor(text, PARTITIONS) or ["0"] * PARTITIONS
    if not all(value.isascii() and value.isdigit() and len(value) <= 18 for value in values):
        raise Invalid("this cursor is not one of ours")
    return [int(value) for value in values]


async def _fetched(log: Log, offsets: list[int], limit: int) -> dict[Lane, list[Record | Broken]]:
    """What is in the log from these offsets on. Lanes without news are not asked: they would be waited for."""
    ends = await log.ends()
    wanted = {lane: offset for lane, offset in zip(LANES, offsets, strict=True) if offset < ends.get(lane, 0)}
    if not wanted:
        return {}
    reader = log.reader(None)
    try:
        return await reader.fetch(wanted, limit, FETCH_S)
    finally:
        await reader.close()


def _in_order(found: Mapping[Lane, list[Record | Broken]], limit: int) -> Iterator[Record | Broken]:
    """At most `limit` records: each partition's in its order, and no busy partition keeps the others waiting."""
    lanes = ([(_time(record), lane, record.offset, record) for record in found[lane]] for lane in sorted(found))
    for number, (*_, record) in enumerate(heapq.merge(*lanes)):
        if number == limit:
            return
        yield record


def _time(record: Record | Broken) -> str:
    return rfc3339(record.recorded_at) if isinstance(record, Record) else ""


def cloud_event(record: Record) -> CloudEvent:
    """The record in structured mode."""
    return CloudEvent(
        id=record.id,
        source=f"urn:casewalk:{record.source}",
        type=record.type,
        subject=record.subject,
        time=rfc3339(record.occurred_at),
        recordedtime=rfc3339(record.recorded_at),
        sequence=f"{record.sequence:020d}",
        actor=record.actor,
        correlationid=record.correlation_id,
        causationid=record.causation_id,
        partitionkey=record.subject,
        dataschema=f"/schemas/{record.type}",
        traceparent=record.traceparent,
        data=json.loads(record.data),
    )


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/events`."""
    host = door.host
    reads = door.caller(Role.READER, Role.CHANNEL, Role.LEAD, waits=False)  # `after` is the feed's own cursor here

    @router.get("/v1/events", summary="Read the events of all cases", response_model_exclude_none=True)
    async def events(
        caller: Annotated[Caller, reads],
        after: Annotated[
            str | None,
            Query(max_length=500, pattern=r"^[A-Za-z0-9_-]+$", description="`next` of the last page; none: the start."),
        ] = None,
        type: Annotated[
            str | None, Query(pattern=r"^[a-z0-9_.]{1,100}$", description="Only events of this type.")
        ] = None,
        limit: Limit = 100,
    ) -> Feed:
        """Every event of every case, whichever service says it: those of one case in their order, all of them for ever.

        You have read everything when `next` is what you sent as `after`; ask again later. A page may be empty and
        still lead on, when `type` leaves everything out. Drop what you have seen by `source` and `id`: an event may
        come twice.
        """
        offsets = _offsets(after)
        items = []
        for record in _in_order(await _fetched(host.log, offsets, limit), limit):
            offsets[record.partition] = record.offset + 1
            if isinstance(record, Record) and type in (None, record.type):
                items.append(cloud_event(record))
        return Feed(items=items, next=cursor(*map(str, offsets)))
