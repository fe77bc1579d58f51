"""The wire: an event as a CloudEvents 1.0 record in Kafka's binary mode, and back.

Both engines carry the same `Record`; Kafka turns it into headers and a value, PostgreSQL into columns.
"""

from __future__ import annotations

import functools
import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from pydantic import ValidationError

from events.case import CASE_EVENTS
from events.errors import Invalid, TooLarge, Undecodable
from events.event import Event, Recorded, named
from events.operations import OPERATIONS_EVENTS
from events.upcasts import UPCASTS

PARTITIONS = 12
"""Partitions of either topic, fixed for life: another number would move keys and break their order."""

MAX_DATA_BYTES = 256 * 1024

_SOURCE = "urn:casewalk:"
_SOURCE_NAME = re.compile(r"urn:casewalk:[a-z][a-z0-9_]*")
_TYPE = re.compile(r"^(?P<family>casewalk\.[a-z0-9_.]+)\.v(?P<version>[1-9][0-9]*)$")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Record(NamedTuple):
    """An event in the log. `offset` is -1 until the log has taken it. `data` is the event as JSON text."""

    topic: str
    partition: int
    offset: int
    subject: str
    id: str
    source: str
    sequence: int
    type: str
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    correlation_id: str
    causation_id: str | None
    traceparent: str
    data: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Bytes in the log that are no event: kept as they are, parked alone."""

    topic: str
    partition: int
    offset: int
    subject: str
    error: str
    raw: str
    """Headers and value as JSON text, bytes in hexadecimal."""

    @property
    def id(self) -> str:
        """What tells it from other bytes."""
        return named(self.raw)


def split(wire_type: str) -> tuple[str, int]:
    """(`casewalk.case.opened`, 1) for `casewalk.case.opened.v1`."""
    match = _TYPE.match(wire_type)
    if match is None:
        raise Invalid(f"{wire_type} is no wire type: casewalk.<entity>.<what happened>.v<number> is")
    return match["family"], int(match["version"])


Upcast = Callable[[dict[str, Any]], dict[str, Any]]


class Vocabulary:
    """Which wire types exist and how older ones become the newest.

    `upcasts` maps an old wire type to (the next type, dict → dict); chains are followed to the newest class.
    """

    def __init__(self, events: Iterable[type[Event]], upcasts: Mapping[str, tuple[str, Upcast]] | None = None) -> None:
        self.classes = {event.TYPE: event for event in events}
        self.upcasts = dict(upcasts or {})
        for name in (*self.classes, *self.upcasts):
            split(name)

    def newest(self, wire_type: str) -> str:
        """The type whose class reads `wire_type`, after every upcast."""
        while wire_type in self.upcasts:
            wire_type = self.upcasts[wire_type][0]
        return wire_type

    def read_as(self, newest: frozenset[str]) -> frozenset[str]:
        """The wire types that these newest ones are written as: they, and what is upcast to them."""
        return newest | {old for old in self.upcasts if self.newest(old) in newest}

    @functools.cache  # noqa: B019 (a vocabulary lives as long as the program)
    def is_newer(self, wire_type: str, reads: frozenset[str]) -> bool:
        """Whether `wire_type` is a version, unknown here, of a type the reader reads."""
        match = _TYPE.match(wire_type)
        if match is None or wire_type in self.classes or wire_type in self.upcasts:
            return False
        return any(split(name)[0] == match["family"] for name in reads)

    def decode(self, wire_type: str, data: str) -> Event:
        """The event in its newest shape. Raises Undecodable for an unknown type or data that does not fit it."""
        try:
            if self.newest(wire_type) not in self.classes:
                raise Undecodable(f"{wire_type} is no type of ours")
            if wire_type not in self.upcasts:
                return self.classes[wire_type].model_validate_json(data)
            fields = json.loads(data)
            while wire_type in self.upcasts:
                wire_type, upcast = self.upcasts[wire_type]
                fields = upcast(fields)
            return self.classes[wire_type].model_validate(fields)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            raise Undecodable(f"{wire_type} does not decode: {_first_line(error)}") from error

    def recorded(self, record: Record) -> Recorded[Any]:
        """The record as a fold sees it. Raises Undecodable, also when the source is not the type's declared writer."""
        data = self.decode(record.type, record.data)
        if record.source != data.WRITER:
            raise Undecodable(f"{record.type} is written by {data.WRITER}, not by {record.source}")
        if record.topic != data.TOPIC:
            raise Undecodable(f"{record.type} belongs on {data.TOPIC}, not on {record.topic}")
        return Recorded(
            record.id,
            record.source,
            record.topic,
            record.subject,
            record.sequence,
            record.occurred_at,
            record.recorded_at,
            record.actor,
            record.correlation_id,
            record.causation_id,
            data,
            record.traceparent,
        )


VOCABULARY = Vocabulary((*CASE_EVENTS, *OPERATIONS_EVENTS), UPCASTS)


def record(event: Recorded[Event]) -> Record:
    """The event as a record. Raises TooLarge over 256 KiB, Invalid where a text cannot be written as UTF-8."""
    try:
        data = event.data.model_dump_json(by_alias=True)
        size_bytes = len(data.encode())
        event.actor.encode()
        partition = partition_of(event.subject)
    except ValueError as error:
        raise Invalid(f"{event.data.TYPE} cannot be written: {_first_line(error)}") from error
    if size_bytes > MAX_DATA_BYTES:
        raise TooLarge(f"{event.data.TYPE} has {size_bytes} bytes; a record carries at most {MAX_DATA_BYTES}")
    return Record(
        event.topic,
        partition,
        -1,
        event.subject,
        event.id,
        event.source,
        event.sequence,
        event.data.TYPE,
        event.occurred_at,
        event.recorded_at,
        event.actor,
        event.correlation_id,
        event.causation_id,
        event.traceparent,
        data,
    )


ENVELOPE = {
    "topic": "text",
    "subject": "text",
    "sequence": "bigint",
    "id": "uuid",
    "type": "text",
    "occurred_at": "timestamptz",
    "recorded_at": "timestamptz",
    "actor": "text",
    "correlation_id": "uuid",
    "causation_id": "uuid",
    "traceparent": "text",
    "data": "text",
}
"""The columns every table of events has, and their types, in the order of `envelope`."""


def envelope(r: Record) -> tuple[Any, ...]:
    """The record as the columns of `ENVELOPE`."""
    return (
        r.topic,
        r.subject,
        r.sequence,
        r.id,
        r.type,
        r.occurred_at,
        r.recorded_at,
        r.actor,
        r.correlation_id,
        r.causation_id,
        r.traceparent,
        r.data,
    )


def stored(row: asyncpg.Record, source: str, partition: int = -1, offset: int = -1) -> Record:
    """The record in a row with the columns of `ENVELOPE`."""
    causation = row["causation_id"]
    return Record(
        row["topic"],
        partition,
        offset,
        row["subject"],
        str(row["id"]),
        source,
        row["sequence"],
        row["type"],
        row["occurred_at"],
        row["recorded_at"],
        row["actor"],
        str(row["correlation_id"]),
        None if causation is None else str(causation),
        row["traceparent"],
        row["data"],
    )


def headers(record: Record) -> list[tuple[str, bytes]]:
    """CloudEvents attributes as Kafka headers, binary mode."""
    named = {
        "content-type": "application/json",
        "ce_specversion": "1.0",
        "ce_id": record.id,
        "ce_source": _SOURCE + record.source,
        "ce_type": record.type,
        "ce_subject": record.subject,
        "ce_time": rfc3339(record.occurred_at),
        "ce_recordedtime": rfc3339(record.recorded_at),
        "ce_partitionkey": record.subject,
        "ce_sequence": f"{record.sequence:020d}",
        "ce_actor": record.actor,
        "ce_correlationid": record.correlation_id,
        "ce_dataschema": f"/schemas/{record.type}",
        "ce_traceparent": record.traceparent,
        "traceparent": record.traceparent,
    }
    if record.causation_id is not None:
        named["ce_causationid"] = record.causation_id
    return [(name, value.encode()) for name, value in named.items()]


def from_kafka(
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    pairs: Iterable[tuple[str, bytes | None]],
    value: bytes | None,
) -> Record | Broken:
    """The record that stands in Kafka, binary or structured; `Broken` when its envelope cannot be read or kept."""
    key, value, given = key or b"", value or b"", [(name, text or b"") for name, text in pairs]
    try:
        read = _read(topic, partition, offset, *_attributes(given, value))
        if key != read.subject.encode():
            raise ValueError("the record's key is not the event's subject")
        return read
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        headers_in_hex = [[name, text.hex()] for name, text in given]
        raw = json.dumps({"key": key.hex(), "headers": headers_in_hex, "value": value.hex()})
        subject = key.decode("utf-8", "replace").replace("\x00", "\ufffd")
        return Broken(topic, partition, offset, subject, f"{type(error).__name__}: {_first_line(error)}", raw)


def _read(topic: str, partition: int, offset: int, named: Mapping[str, str], data: str) -> Record:
    source, sequence, occurred_at = named["ce_source"], int(named["ce_sequence"]), moment(named["ce_time"])
    if not _SOURCE_NAME.fullmatch(source):
        raise ValueError(f"source {source!r} is not ours")
    if not 1 <= sequence < 2**63:
        raise ValueError("a sequence starts at 1 and has 63 bits")
    event_id = _uuid(named["ce_id"])
    correlation, causation = named.get("ce_correlationid"), named.get("ce_causationid")
    return Record(
        topic,
        partition,
        offset,
        named["ce_subject"],
        event_id,
        source.removeprefix(_SOURCE),
        sequence,
        named["ce_type"],
        occurred_at,
        moment(named["ce_recordedtime"]) if "ce_recordedtime" in named else occurred_at,
        named.get("ce_actor", "unknown"),
        _uuid(correlation) if correlation else event_id,
        _uuid(causation) if causation else None,
        named.get("ce_traceparent", ""),
        data,
    )


def _uuid(text: str) -> str:
    return text if _UUID.fullmatch(text) else str(UUID(text))


def _attributes(pairs: Iterable[tuple[str, bytes]], value: bytes) -> tuple[dict[str, str], str]:
    """CloudEvents attributes by header name, and the data as JSON text. Raises ValueError where PostgreSQL would not
    take the text later: a NUL, half a character."""
    named = {name.lower(): raw.decode() for name, raw in pairs}
    data = value.decode()
    if named.get("content-type", "").lower().startswith("application/cloudevents"):
        event = json.loads(data)
        if "data_base64" in event:
            raise ValueError("data in base64 is no event of ours")
        data = json.dumps(event.pop("data", {}), ensure_ascii=False)
        named = {"ce_" + name: str(text) for name, text in event.items() if text is not None}
    whole = "".join((*named.values(), data))
    whole.encode()
    if "\x00" in whole:
        raise ValueError("a text holds a NUL")
    return named, data


def rfc3339(at: datetime) -> str:
    """`2026-01-31T09:30:00.000000Z`: UTC, always six digits, so that text sorts like time."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """The reverse of `rfc3339`; refuses text without an offset."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no offset")
    return at.astimezone(UTC)


def traceparent(parent: str = "") -> str:
    """A W3C traceparent: a new span in `parent`'s trace, or a new trace."""
    trace = parent[3:35] if len(parent) == 55 else secrets.token_hex(16)
    return f"00-{trace}-{secrets.token_hex(8)}-01"


@functools.lru_cache(maxsize=100_000)
def partition_of(key: str, partitions: int = PARTITIONS) -> int:
    """The partition Kafka's default partitioner (murmur2) gives the key, in either engine."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Kafka's variant of murmur2, seed 0x9747b28c (org.apache.kafka.common.utils.Utils.murmur2), as an unsigned int."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = h * m & mask ^ k
    if tail := data[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return h ^ (h >> 15)


def _first_line(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
