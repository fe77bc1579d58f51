"""The log in Apache Kafka: an idempotent producer, manually assigned consumers, topics made and checked at start."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.protocol.commit import OffsetCommitRequest

from events.database import Connection
from events.errors import Invalid, Unavailable
from events.event import CASES, OPERATIONS
from events.kafka_clients import AWAY, STOP_WITHIN_S, answering, close, start, within
from events.kafka_reader import KafkaReader
from events.kafka_security import KafkaSecurity
from events.kafka_tail import MARKS, KafkaTail
from events.log import LANES, Lane, Mark, Progress
from events.relay import RelayFailed
from events.wire import PARTITIONS, Record, headers, moment, rfc3339

KEPT = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "compression.type": "producer"}
"""Event topics: kept for ever, never compacted."""

LEAST = "min.insync.replicas"
COPIES, IN_SYNC = 3, 2
"""Copies of a partition, and how many of them acknowledge: any one broker may be lost, and writes go on."""

_LOSES = "a broker that loses its disk takes acknowledged events with it"

SEND_WITHIN_S, ANSWER_WITHIN_S = 20.0, 10.0

log_ = structlog.get_logger("kafka")


class KafkaLog:
    """The topics `casewalk.cases`, `casewalk.operations` and `casewalk.marks`, with `namespace` before their names."""

    def __init__(self, bootstrap: str, namespace: str = "", security: KafkaSecurity = KafkaSecurity()) -> None:
        self.bootstrap, self.namespace = bootstrap, namespace
        self.client: dict[str, Any] = {"bootstrap_servers": bootstrap, **security.options()}
        self.send_within_s, self.answer_within_s, self.stop_within_s = SEND_WITHIN_S, ANSWER_WITHIN_S, STOP_WITHIN_S
        self._producers: dict[str, AIOKafkaProducer] = {}
        """By source: what fails for one service is no matter of another's in the same process."""
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._admin: AIOKafkaAdminClient | None = None
        self._coordinators: dict[str, int] = {}
        """Consumer group → the broker that keeps its offsets."""
        self._tail = KafkaTail(self.client, namespace, self._note_mark)
        self._asking: AIOKafkaConsumer | None = None
        """Asks where lanes end, on a connection where no fetch waits: a broker answers one request after the other."""
        self._newest: dict[str, Mark] = {}
        self._warnings: list[str] = []

    # ------------------------------------------------------------------------------------------------ start and stop

    async def start(self) -> None:
        admin = AIOKafkaAdminClient(**self.client, client_id="casewalk")
        try:
            await admin.start()
        except AWAY as error:
            await admin.close()
            raise Unavailable(f"no Kafka answers at {self.bootstrap}: {error}") from error
        self._admin = admin
        await self._make_topics(admin)
        await self._check_topics(admin)
        self._asking = AIOKafkaConsumer(**self.client, enable_auto_commit=False, retry_backoff_ms=20)
        try:
            await start(self._asking, STOP_WITHIN_S)
            await self._tail.start()
        except AWAY as error:
            raise Unavailable(f"Kafka does not say where the log ends: {type(error).__name__} {error}") from error

    async def stop(self) -> None:
        clients = [client for client in (self._asking, *self._producers.values()) if client is not None]
        closing = [self._tail.stop(), *(close(client, STOP_WITHIN_S) for client in clients)]
        if self._admin is not None:
            closing.append(within(self._admin.close(), STOP_WITHIN_S))
        await asyncio.gather(*closing)
        self._producers.clear()

    def warnings(self) -> Sequence[str]:
        return self._warnings

    async def _make_topics(self, admin: AIOKafkaAdminClient) -> None:
        brokers = len((await admin.describe_cluster())["brokers"])
        copies = min(COPIES, brokers)
        safe = {**KEPT, LEAST: str(IN_SYNC if copies == COPIES else 1)}
        wanted = [
            NewTopic(self.namespace + CASES, PARTITIONS, copies, topic_configs=safe),
            NewTopic(self.namespace + OPERATIONS, PARTITIONS, copies, topic_configs=safe),
            NewTopic(self.namespace + MARKS, 1, copies, topic_configs={"retention.ms": "3600000"}),
        ]
        known = set(await admin.list_topics())
        for topic in wanted:
            if topic.name not in known:
                with suppress(TopicAlreadyExistsError):
                    await admin.create_topics([topic])

    async def _check_topics(self, admin: AIOKafkaAdminClient) -> None:
        """Refuse topics on which keys would move or history would vanish; warn of those a lost broker takes along."""
        names = [self.namespace + CASES, self.namespace + OPERATIONS]
        async with asyncio.timeout(30):
            while True:
                found = await admin.describe_topics([*names, self.namespace + MARKS])
                if all(map(_is_led, found)):
                    break
                # A topic just made is not on every broker yet, and a client that asks for it asks without a pause.
                await asyncio.sleep(0.05)
        described = {topic["topic"]: topic for topic in found if topic["topic"] in names}
        for name, topic in described.items():
            if len(topic["partitions"]) != PARTITIONS:
                raise Invalid(
                    f"topic {name} has {len(topic['partitions'])} partitions; it must have {PARTITIONS} for ever"
                )
            copies = min(len(partition["replicas"]) for partition in topic["partitions"])
            if copies < COPIES:
                self._warnings.append(f"topic {name} has {copies} of {COPIES} copies: {_LOSES}")
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
        for answer in answers:
            for _, _, _, topic_name, entries in answer.resources:
                config = {entry[0]: entry[1] for entry in entries}
                for setting in ("cleanup.policy", "retention.ms", "retention.bytes"):
                    if config.get(setting, KEPT[setting]) != KEPT[setting]:
                        raise Invalid(f"topic {topic_name} has {setting}={config[setting]}; it must be {KEPT[setting]}")
                if (in_sync := int(config.get(LEAST, IN_SYNC))) < IN_SYNC:
                    self._warnings.append(f"topic {topic_name} has {LEAST}={in_sync}, not {IN_SYNC}: {_LOSES}")

    # ------------------------------------------------------------------------------------------------------- writing

    async def append(self, conn: Connection, records: Sequence[Record]) -> dict[Lane, int]:
        if not records:
            return {}
        async with self._sending(records[0].source) as producer:
            metas = await asyncio.gather(*[await self._send(producer, record) for record in records])
        ends: dict[Lane, int] = {}
        for record, meta in zip(records, metas, strict=True):
            lane = (record.topic, record.partition)
            ends[lane] = max(ends.get(lane, 0), meta.offset + 1)
        return ends

    @asynccontextmanager
    async def _sending(self, source: str) -> AsyncIterator[AIOKafkaProducer]:
        """The source's producer, for so long as sending may take. One that failed once may stay dead (aiokafka #1017):
        next time a new one is made."""
        producer = None
        try:
            async with asyncio.timeout(self.send_within_s):
                producer = await self._producing(source)
                yield producer
        except AWAY as error:
            if producer is not None and self._producers.get(source) is producer:
                del self._producers[source]
                await close(producer, self.stop_within_s)
            raise RelayFailed(f"Kafka did not acknowledge: {type(error).__name__} {error}") from error

    async def _producing(self, source: str) -> AIOKafkaProducer:
        async with self._making[source]:
            if source not in self._producers:
                producer = AIOKafkaProducer(
                    **self.client,
                    client_id=f"casewalk-{source}",
                    enable_idempotence=True,
                    compression_type="zstd",
                    linger_ms=0,
                    max_batch_size=256 * 1024,
                    max_request_size=1024 * 1024,
                )
                await start(producer, STOP_WITHIN_S)
                self._producers[source] = producer
            return self._producers[source]

    async def _send(self, producer: AIOKafkaProducer, record: Record) -> asyncio.Future[Any]:
        """Kafka's own timestamp is never ahead of us: a broker refuses what is an hour ahead of it, and everything that
        waits behind it. When it was recorded, the header says."""
        acknowledged: asyncio.Future[Any] = await producer.send(
            self.namespace + record.topic,
            record.data.encode(),
            record.subject.encode(),
            record.partition,
            int(min(record.recorded_at, datetime.now(UTC)).timestamp() * 1000),
            headers(record),
        )
        return acknowledged

    async def grew(self, records: Sequence[Record], ends: Mapping[Lane, int]) -> None:
        """Kafka wakes its readers itself."""

    # ------------------------------------------------------------------------------------------------------- reading

    def reader(self, consumer: str | None) -> KafkaReader:
        if consumer is None:
            return KafkaReader(self.client, self.namespace, None, None)
        return KafkaReader(self.client, self.namespace, self._tail, partial(self._hint, self.namespace + consumer))

    async def forget(self) -> None:
        self._tail.renew()

    async def ends(self) -> dict[Lane, int]:
        assert self._asking is not None, "the log is started first"
        partitions = [TopicPartition(self.namespace + topic, p) for topic, p in LANES]
        try:
            async with answering(self._asking, self.answer_within_s):
                ends = await self._asking.end_offsets(partitions)
        except AWAY as error:
            raise Unavailable(f"Kafka does not say where the log ends: {type(error).__name__} {error}") from error
        return {self._lane(tp): offset for tp, offset in ends.items()}

    def _lane(self, tp: TopicPartition) -> Lane:
        return (tp.topic.removeprefix(self.namespace), tp.partition)

    # --------------------------------------------------------------------------------------------- marks and progress

    async def state_mark(self, mark: Mark) -> None:
        offsets = [[topic, partition, offset] for (topic, partition), offset in mark.offsets.items()]
        value = json.dumps({"source": mark.source, "at": rfc3339(mark.at), "offsets": offsets}).encode()
        async with self._sending(mark.source) as producer:
            await producer.send_and_wait(self.namespace + MARKS, value, mark.source.encode(), 0)

    async def marks(self) -> dict[str, Mark]:
        return dict(self._newest)

    def _note_mark(self, value: bytes | None) -> None:
        try:
            told = json.loads(value or b"")
            mark = Mark(told["source"], moment(told["at"]), {(t, p): int(offset) for t, p, offset in told["offsets"]})
        except (ValueError, KeyError, TypeError) as error:
            log_.warning("a mark cannot be read and is passed by", why=str(error))
            return
        self._newest[mark.source] = mark

    async def _hint(self, group: str, offsets: Mapping[Lane, tuple[int, datetime]]) -> set[Lane]:
        """Kept as the group's offsets, so that every lag tool sees them; one client says it for all consumers."""
        assert self._admin is not None, "the log is started first"
        said: dict[str, list[tuple[int, int, str]]] = {}
        for (topic, partition), (offset, at) in offsets.items():
            said.setdefault(self.namespace + topic, []).append((partition, offset, rfc3339(at)))
        nobody = (OffsetCommitRequest.DEFAULT_GENERATION_ID, "", OffsetCommitRequest.DEFAULT_RETENTION_TIME)
        try:
            async with answering(self._admin, self.answer_within_s):
                if group not in self._coordinators:
                    self._coordinators[group] = await self._admin.find_coordinator(group)
                answer = await self._admin._send_request(
                    OffsetCommitRequest(group, *nobody, list(said.items())), self._coordinators[group]
                )
        except AWAY as error:
            self._coordinators.pop(group, None)
            raise Unavailable(f"Kafka did not take it: {type(error).__name__} {error}") from error
        refused = {code for _, partitions in answer.topics for _, code in partitions if code}
        if refused:
            self._coordinators.pop(group, None)
            raise Unavailable(f"Kafka did not take it: {', '.join(for_code(code).__name__ for code in refused)}")
        return set(offsets)

    async def progress(self, suffix: str) -> list[Progress]:
        assert self._admin is not None, "the log is started first"
        ends = await self.ends()
        try:
            async with answering(self._admin, self.answer_within_s):
                groups = [name for name, _ in await self._admin.list_consumer_groups()]
                mine = [name for name in groups if name.startswith(self.namespace) and name.endswith(suffix)]
                return [p for group in mine for p in await self._group_progress(self._admin, group, ends)]
        except AWAY as error:
            raise Unavailable(f"Kafka does not say how far its readers are: {error}") from error

    async def _group_progress(self, admin: AIOKafkaAdminClient, group: str, ends: Mapping[Lane, int]) -> list[Progress]:
        behind = []
        for tp, at in (await admin.list_consumer_group_offsets(group)).items():
            lane = self._lane(tp)
            left = ends.get(lane, 0) - at.offset
            if left > 0:
                name = group.removeprefix(self.namespace)
                behind.append(Progress(name, lane, left, _moment_or_now(at.metadata)))
        return behind


def _is_led(topic: Mapping[str, Any]) -> bool:
    """Whether every partition of a described topic has a leader."""
    parts = topic["partitions"]
    return bool(topic["error_code"] == 0 and parts and all(p["error_code"] == 0 and p["leader"] >= 0 for p in parts))


def _moment_or_now(text: str) -> datetime:
    try:
        return moment(text)
    except ValueError:
        return datetime.now(UTC)
