"""What is new in Apache Kafka, read once for all readers of a process: the end of every lane, and the marks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from events.errors import Unavailable
from events.kafka_clients import STOP_WITHIN_S, close, start
from events.log import LANES, Lane
from events.recent import Recent
from events.wire import Broken, Record, from_kafka

MARKS = "casewalk.marks"
MARKS_AGAIN = 50
"""Marks read on starting: every source's last one is among them."""
AT_ONCE = 1000
"""Records decoded before others have their turn."""
WAIT_MS = 500
BEGIN_AGAIN_S = 0.2

log_ = structlog.get_logger("kafka")


class KafkaTail:
    """Follows every lane from its end on. What breaks off begins again at the ends of then; whoever needs what came
    meanwhile, or before, reads it with a client of its own."""

    def __init__(self, client: Mapping[str, Any], namespace: str, note_mark: Callable[[bytes | None], None]) -> None:
        self._client, self._namespace, self._note_mark = client, namespace, note_mark
        self._marks = TopicPartition(namespace + MARKS, 0)
        self.recent = Recent()
        """Its ends are empty while nothing is followed."""
        self._why = "nobody follows it yet"
        self._renewing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; done when the ends are known. Raises one of `AWAY`."""
        consumer = await self._placed()
        self._task = asyncio.create_task(self._follow(consumer), name="log tail")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def renew(self) -> None:
        """Begin again with a new client: this one is stuck, or the log has become another."""
        self._renewing = True

    def of(
        self, positions: Mapping[Lane, int], per_lane: int
    ) -> tuple[dict[Lane, list[Record | Broken]], dict[Lane, int]]:
        """What came from these offsets on, and the positions of lanes where something did that is not kept here. Raises
        Unavailable while nothing is followed."""
        if not self.recent.ends or self._renewing:
            raise Unavailable(f"Kafka cannot be read now: {self._why}")
        return self.recent.of(positions, per_lane)

    # ----------------------------------------------------------------------------------------------------- following

    async def _follow(self, consumer: AIOKafkaConsumer | None) -> None:
        """Until cancelled: whoever follows no more has nothing to react to, and never fires a timer again."""
        while True:
            try:
                consumer = consumer or await self._placed()
                while not self._renewing:
                    found = await consumer.getmany(timeout_ms=WAIT_MS, max_records=AT_ONCE)
                    for mark in found.pop(self._marks, ()):
                        self._note_mark(mark.value)
                    if found:
                        await self._grew(found)
                self._why = "another client begins"
            except Exception as error:  # noqa: BLE001 — whatever it was, all readers wait for this one
                self._why = f"{type(error).__name__} {error}"
                log_.warning("the log is followed anew", why=self._why)
            finally:
                self.recent.forget()
                self.recent.ends, self._renewing = {}, False
                if consumer is not None:
                    await close(consumer, STOP_WITHIN_S)
                    consumer = None
            await self.recent.heard({})
            await asyncio.sleep(BEGIN_AGAIN_S)

    async def _placed(self) -> AIOKafkaConsumer:
        """A client at the end of every lane, and a little before the end of the marks."""
        consumer = AIOKafkaConsumer(
            **self._client,
            client_id="casewalk",
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=WAIT_MS,
            max_partition_fetch_bytes=1024 * 1024,
        )
        await start(consumer, STOP_WITHIN_S)
        try:
            lanes = {TopicPartition(self._namespace + lane[0], lane[1]): lane for lane in LANES}
            consumer.assign([*lanes, self._marks])
            ends = await consumer.end_offsets([*lanes, self._marks])
            first_mark = (await consumer.beginning_offsets([self._marks]))[self._marks]
            consumer.seek(self._marks, max(first_mark, ends[self._marks] - MARKS_AGAIN))
            for tp in lanes:
                consumer.seek(tp, ends[tp])
        except BaseException:
            await close(consumer, STOP_WITHIN_S)
            raise
        self.recent.ends = {lane: ends[tp] for tp, lane in lanes.items()}
        return consumer

    async def _grew(self, found: Mapping[TopicPartition, list[Any]]) -> None:
        ends = dict(self.recent.ends)
        for tp, messages in found.items():
            lane = (tp.topic.removeprefix(self._namespace), tp.partition)
            self.recent.add({lane: [from_kafka(*lane, m.offset, m.key, m.headers, m.value) for m in messages]})
            ends[lane] = messages[-1].offset + 1
        await self.recent.heard(ends)
