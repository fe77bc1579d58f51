"""One consumer's way to read Apache Kafka: lanes assigned by hand, offsets kept by the consumer's own database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata

from events.errors import Unavailable
from events.kafka_clients import STOP_WITHIN_S, close, start
from events.log import Lane
from events.wire import Broken, Record, from_kafka, rfc3339

RECENT, SMALL_BYTES = 2048, 4096
"""How many records, and of which size at most, are remembered as what they were read as."""


class KafkaReader:
    """One consumer, assigned by hand; offsets are ours, the group's are hints for tools."""

    def __init__(self, client: Mapping[str, Any], namespace: str, consumer: str | None) -> None:
        self._client, self._namespace, self._name = client, namespace, consumer
        self._consumer: AIOKafkaConsumer | None = None
        self._next: dict[TopicPartition, int] = {}

    async def fetch(
        self, positions: Mapping[Lane, int], limit: int, wait_s: float = 0.0, only: frozenset[str] | None = None
    ) -> dict[Lane, list[Record | Broken]]:
        if not positions:
            await asyncio.sleep(wait_s)
            return {}
        try:
            consumer = await self._assigned({self._partition(lane): offset for lane, offset in positions.items()})
            found = await consumer.getmany(timeout_ms=max(1, int(wait_s * 1000)), max_records=limit)
        except OffsetOutOfRangeError:
            self._next.clear()  # beyond the end: another log, or one that is still filling
            await asyncio.sleep(min(wait_s, 0.2))
            return {}
        except (KafkaError, OSError) as error:
            await self.close()
            raise Unavailable(f"Kafka cannot be read now: {type(error).__name__} {error}") from error
        for tp, messages in found.items():
            self._next[tp] = messages[-1].offset + 1
        return {
            lane: [
                _read(*lane, m.offset, m.key, tuple(m.headers), m.value)
                for m in messages
                if only is None or m is messages[-1] or _may_be(m.headers, only)
            ]
            for lane, messages in ((lane_of(tp, self._namespace), messages) for tp, messages in found.items())
        }

    async def _assigned(self, wanted: dict[TopicPartition, int]) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **self._client,
                client_id=f"casewalk-{self._name}" if self._name else "casewalk",
                group_id=None if self._name is None else self._namespace + self._name,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                fetch_max_wait_ms=100,
                max_partition_fetch_bytes=1024 * 1024,
            )
            await start(consumer, STOP_WITHIN_S)
            self._consumer = consumer
            self._next = {}
        if set(wanted) != self._consumer.assignment():
            self._consumer.assign(list(wanted))
            self._next = {}
        for tp, offset in wanted.items():
            if self._next.get(tp) != offset:
                self._consumer.seek(tp, offset)
                self._next[tp] = offset
        return self._consumer

    async def hint(self, offsets: Mapping[Lane, tuple[int, datetime]]) -> set[Lane]:
        """Kept as the group's offsets, so that every lag tool sees them."""
        if self._consumer is None:
            return set()
        assigned = self._consumer.assignment()
        commits = {
            self._partition(lane): OffsetAndMetadata(offset, rfc3339(at))
            for lane, (offset, at) in offsets.items()
            if self._partition(lane) in assigned
        }
        try:
            if commits:
                await self._consumer.commit(commits)
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka did not take it: {type(error).__name__} {error}") from error
        return {lane_of(partition, self._namespace) for partition in commits}

    def _partition(self, lane: Lane) -> TopicPartition:
        return TopicPartition(self._namespace + lane[0], lane[1])

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close(consumer, STOP_WITHIN_S)


def lane_of(tp: TopicPartition, namespace: str) -> Lane:
    return (tp.topic.removeprefix(namespace), tp.partition)


def _read(
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    pairs: tuple[tuple[str, bytes], ...],
    value: bytes | None,
) -> Record | Broken:
    """A process has two readers per service, which read the same bytes at about the same time: they share what was made
    of them, where small. Compared, since another log may have other bytes at the place; a hash would take longer."""
    place, raw = (topic, partition, offset), (key, pairs, value)
    known = _recent.get(place)
    if known is not None and known[0] == raw:
        return known[1]
    read = from_kafka(topic, partition, offset, key, pairs, value)
    if len(value or b"") <= SMALL_BYTES:
        _recent[place] = (raw, read)
        if len(_recent) > RECENT:
            del _recent[next(iter(_recent))]
    return read


_recent: dict[tuple[str, int, int], tuple[tuple[Any, ...], Record | Broken]] = {}


def _may_be(pairs: Sequence[tuple[str, bytes]], types: frozenset[str]) -> bool:
    """Whether a record with these headers can be of one of the wire types; one in structured mode can be of any."""
    return all(name != "ce_type" or raw.decode("utf-8", "replace") in types for name, raw in pairs)
