"""One consumer's way to read Apache Kafka: what is new from the process's tail, what is older with a client of its own;
offsets are kept by the consumer's own database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from events.errors import Unavailable
from events.kafka_clients import AWAY, STOP_WITHIN_S, close, start
from events.kafka_tail import KafkaTail
from events.log import Lane
from events.wire import Broken, Record, from_kafka

IDLE_S = 5.0
"""How long a client of its own is kept after it was needed last."""

Hint = Callable[[Mapping[Lane, tuple[int, datetime]]], Awaitable[set[Lane]]]


class KafkaReader:
    """Without a tail everything is read with a client of its own, for whoever is far from where the consumers are."""

    def __init__(self, client: Mapping[str, Any], namespace: str, tail: KafkaTail | None, hint: Hint | None) -> None:
        self._client, self._namespace, self._tail, self._hint = client, namespace, tail, hint
        self._consumer: AIOKafkaConsumer | None = None
        self._next: dict[TopicPartition, int] = {}
        self._asked: dict[Lane, int] = {}
        self._used_at = 0.0

    async def fetch(
        self, positions: Mapping[Lane, int], limit: int, wait_s: float = 0.0, only: frozenset[str] | None = None
    ) -> dict[Lane, list[Record | Broken]]:
        if not positions:
            await asyncio.sleep(wait_s)
            return {}
        if self._tail is None:
            return await self._read(positions, limit, wait_s, only)
        if any(offset == 0 < self._asked.get(lane, 0) for lane, offset in positions.items()):
            self._tail.renew()  # somebody found another log and started over; another process may have been the one
        self._asked = dict(positions)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while True:
            count = self._tail.recent.count
            found, behind = self._tail.of(positions, limit if len(positions) == 1 else max(1, limit // 4))
            if behind:
                found |= await self._read(behind, limit, 0.0 if found else max(0.0, until - loop.time()), only)
                self._used_at = loop.time()
            elif self._consumer is not None and loop.time() - self._used_at > IDLE_S:
                await self.close()
            left_s = until - loop.time()
            if found or left_s <= 0:
                return found
            if not behind:
                await self._tail.recent.later(count, left_s)

    async def _read(
        self, positions: Mapping[Lane, int], limit: int, wait_s: float, only: frozenset[str] | None
    ) -> dict[Lane, list[Record | Broken]]:
        wanted = {TopicPartition(self._namespace + topic, p): offset for (topic, p), offset in positions.items()}
        try:
            consumer = await self._assigned(wanted)
            found = await consumer.getmany(timeout_ms=max(1, int(wait_s * 1000)), max_records=limit)
        except OffsetOutOfRangeError:
            self._next.clear()  # beyond the end: another log, or one that is still filling
            await asyncio.sleep(min(wait_s, 0.2))
            return {}
        except AWAY as error:
            await self.close()
            raise Unavailable(f"Kafka cannot be read now: {type(error).__name__} {error}") from error
        read: dict[Lane, list[Record | Broken]] = {}
        for tp, messages in found.items():
            self._next[tp] = messages[-1].offset + 1
            lane = (tp.topic.removeprefix(self._namespace), tp.partition)
            read[lane] = [
                from_kafka(*lane, m.offset, m.key, m.headers, m.value)
                for m in messages
                if only is None or m is messages[-1] or _may_be(m.headers, only)
            ]
        return read

    async def _assigned(self, wanted: dict[TopicPartition, int]) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **self._client,
                client_id="casewalk",
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
        return set(offsets) if self._hint is None else await self._hint(offsets)

    async def renew(self) -> None:
        if self._tail is not None:
            self._tail.renew()
        await self.close()

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close(consumer, STOP_WITHIN_S)


def _may_be(pairs: Sequence[tuple[str, bytes]], types: frozenset[str]) -> bool:
    """Whether a record with these headers can be of one of the wire types; one in structured mode can be of any."""
    return all(name != "ce_type" or raw.decode("utf-8", "replace") in types for name, raw in pairs)
