"""Poison: whatever stands in the log, a consumer goes on, and what was wrong waits until somebody has mended it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from hypothesis import given, settings
from hypothesis import strategies as st

from events import parking
from events.case import CASE_EVENTS, CaseQueued, ClockStopped
from events.consume import Consumer
from events.database import Connection
from events.errors import Undecodable
from events.event import CASES, OPERATIONS, Recorded
from events.wire import VOCABULARY, Vocabulary, headers, partition_of
from services.runtime import Host
from tests import wire as golden
from tests.conftest import Engine, delete_topics
from tests.events.conftest import World
from tests.events.test_consume import caught_up, consuming, has, intake, made, parked, picky, row, send
from tests.events.toy import INTAKE, queued
from tests.given import an
from tests.until import until

__all__ = ["intake"]

SAMPLES = golden.samples()


class Hearing:
    """A handler that remembers what took effect."""

    def __init__(self, *reads: str) -> None:
        self.reads = frozenset(reads)
        self.heard: list[str] = []

    async def handle(self, conn: Connection, events: Sequence[Recorded[Any]]) -> None:
        self.heard += [event.id for event in events]


async def ask_again(host: Host, position: int) -> None:
    async with host.database.writers.acquire() as conn:
        assert await parking.ask(conn, position)


# -------------------------------------------------------------------------------------------------- bytes on a broker


async def test_bytes_that_are_no_event_park_alone_and_can_be_thrown_away(
    kafka: str, database: str, tmp_path: Path
) -> None:
    """Noise of every kind between good records of the same partition, and under the key of a good case."""
    world, case_id = World(Engine("kafka", database, kafka, f"poison{uuid4().hex[:8]}"), tmp_path), str(uuid4())
    first, second, third = made([queued()] * 3, case_id, "router")
    good = headers(first)
    noise: list[dict[str, Any]] = [
        {"key": case_id.encode(), "value": b"\xff\x00 no event", "headers": []},
        {"key": None, "value": b"", "headers": []},
        *(
            {"key": case_id.encode(), "value": first.data.encode(), "headers": [h for h in good if h[0] != missing]}
            for missing in ("ce_id", "ce_source", "ce_type", "ce_subject", "ce_sequence", "ce_time")
        ),
        {"key": case_id.encode(), "value": b"{}", "headers": [("content-type", b"application/cloudevents+json")]},
    ]
    async with world.running(INTAKE) as hosts:
        host, topic = hosts["intake"], world.engine.namespace + CASES
        everything_read, waiting_there = partial(caught_up, host, "intake.views"), partial(parked, host, "intake.views")
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            await send(host, [first])
            for record in noise:
                await producer.send_and_wait(topic, partition=partition_of(case_id), **record)
            await send(host, [second])
            await until(partial(has, host, case_id, 2))
            await until(everything_read)
            waiting = await waiting_there()
            assert len(waiting) == len(noise)
            assert {r["source"] for r in waiting} == {None}
            async with host.database.writers.acquire() as conn:
                assert await parking.ask(conn, waiting[0]["position"]) == 0, "there is nothing to try again"
                assert all([await parking.drop(conn, r["position"]) for r in waiting])
            await send(host, [third])
            await until(partial(has, host, case_id, 3))
            assert await waiting_there() == []
    await delete_topics(kafka, world.engine.namespace)


async def test_noise_on_a_broker_never_stops_a_consumer(kafka: str, database: str, tmp_path: Path) -> None:
    """A thousand records of random damage: each is taken, passed by, dropped as a repeat or parked, none ends it."""
    world, dice = World(Engine("kafka", database, kafka, f"noise{uuid4().hex[:8]}"), tmp_path), Random(11)
    samples = [sample.record for sample in SAMPLES.values()]

    def damaged() -> dict[str, Any]:
        record = dice.choice(samples)._replace(subject=str(uuid4()), id=str(uuid4()), sequence=1)
        pairs, value = headers(record), bytearray(record.data.encode())
        for _ in range(dice.randrange(3)):
            n = dice.randrange(len(pairs))
            pairs[n] = (pairs[n][0], dice.randbytes(dice.randrange(40)))
        for _ in range(dice.randrange(4)):
            value[dice.randrange(len(value))] = dice.randrange(256)
        topic = dice.choice((CASES, OPERATIONS))
        return {
            "topic": world.engine.namespace + topic,
            "key": record.subject.encode(),
            "headers": pairs,
            "value": bytes(value),
        }

    async with world.running() as hosts:
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            await asyncio.gather(*[await producer.send(**damaged()) for _ in range(1000)])
        host, case_id = hosts["intake"], str(uuid4())
        await send(host, made([queued()], case_id, "router"))
        for name, each in hosts.items():
            await until(partial(has, each, case_id, 1), limit_s=30)
            for consumer in (f"{name}.views", f"{name}.reactor"):
                await until(partial(caught_up, each, consumer), limit_s=30)
            assert await each.ready() is None
    await delete_topics(kafka, world.engine.namespace)


# ------------------------------------------------------------------------------------------------- bodies, both engines


BODIES = (
    "",
    "null",
    "[]",
    "{}",
    "7",
    "[" * 5000,
    '{"queue_id": "\\u0000"}',
    '{"queue_id": "\\ud800"}',
    '{"priority": 1e999}',
    queued().model_dump_json().replace('"toy"', '"nul \\u0000 nul"'),
    queued().model_dump_json().replace('"toy"', '"half \\ud800"'),
)


async def test_no_body_stops_a_consumer_and_others_of_its_batch_take_effect(intake: Host) -> None:
    bad, good = [str(uuid4()) for _ in BODIES], [str(uuid4()) for _ in range(20)]
    records = [
        made([queued()], case_id, "router")[0]._replace(data=data) for case_id, data in zip(bad, BODIES, strict=True)
    ]
    async with consuming(intake, picky(intake)):
        await send(intake, [*records, *(r for case_id in good for r in made([queued()], case_id, "router"))])
        for case_id in good:
            await until(partial(has, intake, case_id, 1))
        await until(partial(caught_up, intake))
        assert {r["subject"] for r in await parked(intake)} | {c for c in bad if await has(intake, c, 1)} == set(bad)
        assert len(await parked(intake)) >= len(BODIES) - 2, "a text may be odd and still be one"


async def test_a_newer_version_waits_for_the_program_that_reads_it_and_then_counts_as_ever(intake: Host) -> None:
    """An old program parks the case; the new one takes all of it, in order, as if the old one had never been."""
    old = Vocabulary([event for event in CASE_EVENTS if event is not ClockStopped])
    before, after = (
        Hearing(ClockStopped.TYPE.replace(".v2", ".v1"), CaseQueued.TYPE),
        Hearing(ClockStopped.TYPE, CaseQueued.TYPE),
    )
    never_failed, case_id = Hearing(ClockStopped.TYPE, CaseQueued.TYPE), str(uuid4())
    stopped = made([an(ClockStopped), an(ClockStopped)], case_id, "escalation")
    records = [*made([queued()], case_id, "router"), *stopped, *made([queued()], case_id, "router", first=2)]
    outdated = Consumer("intake.picky", intake.database, intake.log, before, old)
    running = asyncio.create_task(outdated.run())
    await send(intake, records)
    await until(partial(caught_up, intake))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await outdated.release()
    assert before.heard == [records[0].id]
    waiting = await parked(intake)
    assert [str(r["id"]) for r in waiting] == [r.id for r in records[1:]]
    assert "newer than this reader" in waiting[0]["error"]

    async with consuming(intake, after), consuming(intake, never_failed, "intake.never"):
        await ask_again(intake, waiting[0]["position"])

        async def released() -> bool:
            return not await parked(intake) and await caught_up(intake, "intake.never")

        await until(released)
    assert before.heard + after.heard == never_failed.heard == [r.id for r in records]


async def test_a_case_released_after_a_fix_has_the_row_it_would_have_had(intake: Host) -> None:
    case_id, faulty = str(uuid4()), picky(intake)
    faulty.dislikes.add(case_id)
    async with consuming(intake, faulty):
        await send(intake, made([queued(), queued()], case_id, "router"))
        await send(intake, made([queued()], case_id, "router", first=3))
        waiting = await until(partial(parked, intake))
        faulty.dislikes.clear()
        await until(partial(caught_up, intake))
        await ask_again(intake, waiting[0]["position"])
        await until(partial(has, intake, case_id, 3))
        assert await parked(intake) == []
        assert [e.sequence for e in faulty.handled if e.subject == case_id] == [1, 2, 3]
    assert (await row(intake, case_id))["types"] == [CaseQueued.TYPE] * 3


# ----------------------------------------------------------------------------------------------------------- decoding

TEXT = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_whatever_a_body_holds_it_is_an_event_or_undecodable(name: str, data: st.DataObject) -> None:
    """Fields of every shape ever written are taken away, exchanged and added; older shapes go through their upcasts."""
    record = SAMPLES[name].record
    fields = json.loads(record.data)
    fields |= data.draw(st.dictionaries(st.sampled_from([*fields, "new"]), VALUES, max_size=3))
    for field in data.draw(st.sets(st.sampled_from(sorted(fields)), max_size=2)):
        del fields[field]
    body = data.draw(st.just(json.dumps(fields)) | st.text(max_size=20))

    with suppress(Undecodable):
        event = VOCABULARY.recorded(record._replace(data=body))
        assert VOCABULARY.newest(record.type) == event.data.TYPE
