"""What consumers promise: once, in order, and a bad record stops only its case."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from events import lanes, parking
from events.case import CaseOpened, CaseQueued, CaseResolved
from events.consume import BATCH, RETRIES, Consumer
from events.database import Connection
from events.errors import Invalid
from events.event import CASES, Event, Recorded
from events.log import LANES, Lane
from events.personal import Sealed
from events.views.project import Projector
from events.wire import VOCABULARY, Record, partition_of, record
from services.runtime import Host
from tests.events.conftest import World
from tests.events.toy import CASE, COUNTS, INTAKE, ROUTER, Count, count, open_case, opened, queued
from tests.until import until

SEALED = Sealed(enc=1, person="p", version=1, nonce="AAAA", text="AAAA")

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Picky:
    """A projector that fails on one case until it is mended."""

    def __init__(self, projector: Projector) -> None:
        self.projector, self.reads = projector, projector.reads
        self.dislikes: set[str] = set()
        self.handled: list[Recorded[Any]] = []
        self.tries = 0

    async def handle(self, conn: Connection, events: Sequence[Recorded[Any]]) -> None:
        self.tries += 1
        await self.projector.handle(conn, events)
        for event in events:
            if event.subject in self.dislikes:
                raise ValueError(f"I do not like {event.data.TYPE}")
        self.handled += events


@asynccontextmanager
async def consuming(host: Host, handler: Any, name: str = "intake.picky") -> AsyncIterator[Consumer]:
    """One more consumer on a running host."""
    consumer = Consumer(name, host.database, host.log, handler, VOCABULARY)
    task = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await consumer.release()


@pytest.fixture
async def intake(world: World) -> AsyncIterator[Host]:
    """An intake whose own projector is out of the way: tests bring theirs."""
    async with world.running(replace(INTAKE, views=(COUNTS,))) as hosts:
        host = hosts["intake"]
        for task in host._tasks:
            if task.get_name() == "intake views":
                task.cancel()
        yield host


def made(
    events: Sequence[Event], subject: str, source: str = "intake", first: int = 1, at: datetime = NOW
) -> list[Record]:
    """Records as a relay would send them: encoded, but with ciphertext's place left open."""
    return [
        record(
            Recorded(
                str(uuid4()),
                source,
                CASES,
                subject,
                first + i,
                at + timedelta(minutes=i),
                at + timedelta(minutes=i),
                "key:t",
                str(uuid4()),
                None,
                event,
                "",
            )
        )
        for i, event in enumerate(events)
    ]


async def send(host: Host, records: Sequence[Record]) -> None:
    """Straight into the log, as another service's relay would."""
    async with host.database.writers.acquire() as conn, conn.transaction():
        await host.log.append(conn, records)


async def row(host: Host, case_id: str) -> Any:
    return await host.database.row(sa.select(COUNTS.table).where(COUNTS.table.c.case_id == case_id))


async def has(host: Host, case_id: str, events: int) -> bool:
    found = await row(host, case_id)
    return found is not None and found["events"] == events


async def parked(host: Host, consumer: str = "intake.picky") -> list[Any]:
    return await host.database.readers.fetch("select * from parked where consumer = $1 order by position", consumer)


async def caught_up(host: Host, consumer: str = "intake.picky") -> bool:
    ends = await host.log.ends()
    rows = await host.database.readers.fetch("select * from lane where consumer = $1", consumer)
    return len(rows) == len(LANES) and all(r["next_offset"] >= ends.get((r["topic"], r["partition"]), 0) for r in rows)


def picky(host: Host) -> Picky:
    return Picky(Projector((COUNTS,), VOCABULARY))


def resolved() -> CaseResolved:
    return CaseResolved(episode=1, by="agent")


async def test_a_repeated_record_takes_effect_once(intake: Host) -> None:
    case_id, handler = str(uuid4()), picky(intake)
    records = made([queued(), queued(), queued()], case_id, "router")
    async with consuming(intake, handler):
        await send(intake, records)
        await send(intake, records[:2])
        await send(intake, records)
        await until(partial(caught_up, intake))
        assert (await row(intake, case_id))["events"] == 3
        assert len(handler.handled) == 3
        assert await parked(intake) == []


async def test_a_bad_record_stops_only_its_case_and_everything_after_it_waits_in_order(intake: Host) -> None:
    bad, good, handler = str(uuid4()), [str(uuid4()) for _ in range(30)], picky(intake)
    handler.dislikes.add(bad)
    async with consuming(intake, handler):
        await send(intake, [r for case_id in [bad, *good] for r in made([queued()], case_id, "router")])
        await send(intake, made([resolved()], bad) + [r for case_id in good for r in made([resolved()], case_id)])
        for case_id in good:
            await until(partial(has, intake, case_id, 2))
        await until(partial(caught_up, intake))
        waiting = await parked(intake)
        assert [(r["subject"], r["source"], r["sequence"]) for r in waiting] == [(bad, "router", 1), (bad, "intake", 1)]
        assert "I do not like casewalk.case.queued.v1" in waiting[0]["error"]
        assert await row(intake, bad) is None


async def test_one_bad_case_among_hundreds_is_found_in_a_dozen_steps(intake: Host) -> None:
    cases, handler = [str(uuid4()) for _ in range(300)], picky(intake)
    handler.dislikes.add(cases[150])
    await send(intake, [r for case_id in cases for r in made([queued()], case_id, "router")])
    async with consuming(intake, handler) as consumer:
        await until(partial(caught_up, intake))
        assert [row_["subject"] for row_ in await parked(intake)] == [cases[150]]
    batches = -(-len(cases) // BATCH) + len(LANES)
    assert handler.tries <= batches + 2 * 10, "each half of what failed, and it fails ten times at most"
    assert consumer.failing is None


async def test_a_parked_case_retried_under_live_traffic_ends_as_if_it_had_never_failed(intake: Host) -> None:
    bad, handler = str(uuid4()), picky(intake)
    handler.dislikes.add(bad)
    stop = asyncio.Event()
    others: list[str] = []

    async def traffic() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            case_id = str(uuid4())
            others.append(case_id)
            await send(intake, made([queued()], case_id, "router") + made([queued()], bad, "router", first=n))

    async with consuming(intake, handler):
        coming = asyncio.create_task(traffic())
        waiting = await until(partial(parked, intake))
        handler.dislikes.clear()
        async with intake.database.writers.acquire() as conn:
            assert await parking.ask(conn, waiting[0]["position"]) >= 1

        async def released() -> bool:
            return not await parked(intake)

        await until(released)
        stop.set()
        await coming
        await until(partial(has, intake, bad, len(others)))
        mine = [e.sequence for e in handler.handled if e.subject == bad]
        assert mine == list(range(1, len(others) + 1)), "in order, each once"


async def test_what_comes_in_does_not_wait_until_many_parked_cases_were_tried_again(intake: Host) -> None:
    bad, good, handler = [str(uuid4()) for _ in range(3 * RETRIES)], str(uuid4()), picky(intake)
    handler.dislikes.update(bad)
    async with consuming(intake, handler):
        await send(intake, [record for case_id in bad for record in made([queued()], case_id, "router")])

        async def all_parked() -> Any:
            waiting = await parked(intake)
            return waiting if len(waiting) == len(bad) else None

        waiting = await until(all_parked)
        handler.dislikes.clear()
        async with intake.database.writers.acquire() as conn, conn.transaction():
            for row_ in waiting:
                await parking.ask(conn, row_["position"])
        first = waiting[0]["subject"]
        await until(partial(has, intake, first, 1))
        await send(intake, made([queued()], good, "router"))
        for case_id in (good, *bad):
            await until(partial(has, intake, case_id, 1))
        handled = [event.subject for event in handler.handled if event.subject == good or event.subject in bad]
        assert handled.index(good) < len(handled) - RETRIES


async def test_a_retry_that_fails_again_stays_parked_and_says_why(intake: Host) -> None:
    bad, handler = str(uuid4()), picky(intake)
    handler.dislikes.add(bad)
    async with consuming(intake, handler):
        await send(intake, made([queued()], bad, "router"))
        (waiting,) = await until(partial(parked, intake))
        async with intake.database.writers.acquire() as conn:
            await parking.ask(conn, waiting["position"])

        async def tried_again() -> bool:
            (now,) = await parked(intake)
            return now["attempts"] == 2 and not now["asked"]

        await until(tried_again)


async def test_a_missing_sequence_is_noticed_and_parks_the_case_until_it_comes(intake: Host) -> None:
    case_id, handler = str(uuid4()), picky(intake)
    first, second, third = made([queued(), queued(), queued()], case_id, "router")
    async with consuming(intake, handler):
        await send(intake, [first, third])
        (gap,) = await until(partial(parked, intake))
        assert "router's sequence 2 is missing before 3" in gap["error"]
        await send(intake, [second])
        await until(partial(caught_up, intake))
        async with intake.database.writers.acquire() as conn:
            await parking.ask(conn, gap["position"])
        await until(partial(has, intake, case_id, 3))
        assert await parked(intake) == []


async def test_another_event_under_the_same_sequence_is_alarmed_not_dropped(intake: Host) -> None:
    case_id = str(uuid4())
    async with consuming(intake, picky(intake)):
        await send(intake, made([queued()], case_id, "router"))
        await until(partial(has, intake, case_id, 1))
        await send(intake, made([queued()], case_id, "router"))
        (conflict,) = await until(partial(parked, intake))
        assert "another event stands under router's sequence 1" in conflict["error"]


async def test_types_a_reader_does_not_read_pass_by_and_newer_or_undecodable_ones_park_their_case(intake: Host) -> None:
    passing, newer, broken, liar = (str(uuid4()) for _ in range(4))
    (unknown,) = made([queued()], passing, "router")
    (future,) = made([queued()], newer, "router")
    (undecodable,) = made([queued()], broken, "router")
    (foreign,) = made([resolved()], liar, "router")
    async with consuming(intake, picky(intake)) as consumer:
        await send(
            intake,
            [
                unknown._replace(type="casewalk.case.sung_about.v1"),
                *made([queued()], passing, "router", first=2),
                future._replace(type="casewalk.case.queued.v2"),
                undecodable._replace(data='{"queue_id": 7}'),
                foreign,
            ],
        )
        await until(partial(has, intake, passing, 1))
        await until(partial(caught_up, intake))
        assert consumer.passed_by == 1
        why = {r["subject"]: r["error"] for r in await parked(intake)}
        assert set(why) == {newer, broken, liar}
        assert "newer than this reader" in why[newer]
        assert "does not decode" in why[broken]
        assert "is written by intake, not by router" in why[liar]


async def test_a_fold_does_not_depend_on_the_order_of_arrival(intake: Host) -> None:
    """Cases, and so partitions, and sources are shuffled against each other; one source's own order is the log's."""
    rng = random.Random(7)
    handler = picky(intake)
    expected, streams = {}, list[list[Record]]()
    for _ in range(40):
        case_id = str(uuid4())
        mine = made([opened(title=SEALED, body=SEALED), resolved()], case_id)
        routers = made([queued()] * 3, case_id, "router", at=NOW + timedelta(seconds=rng.randrange(90)))
        in_time = sorted(mine + routers, key=lambda r: (r.occurred_at, r.recorded_at, r.source, r.sequence))
        expected[case_id] = [r.type for r in in_time]
        streams += [list(mine), list(routers)]
    mixed: list[Record] = []
    while any(streams):
        mixed.append(rng.choice([stream for stream in streams if stream]).pop(0))
    async with consuming(intake, handler):
        while mixed:
            size = rng.randint(1, 12)
            await send(intake, mixed[:size])
            mixed = mixed[size:]
        await until(partial(caught_up, intake))
        for case_id, types in expected.items():
            assert list((await row(intake, case_id))["types"]) == types


def count_until_queued(row: Count | None, event: Recorded[Any]) -> Count | None:
    return None if isinstance(event.data, CaseQueued) else count(row, event)


async def test_what_left_no_row_is_not_forgotten_when_something_earlier_comes_late(world: World) -> None:
    async with world.running(replace(INTAKE, views=(replace(COUNTS, fold=count_until_queued),))) as hosts:
        host, case_id = hosts["intake"], str(uuid4())
        for late in (
            made([queued()], case_id, "router", at=NOW + timedelta(seconds=1)),
            made([opened(title=SEALED, body=SEALED)], case_id),
        ):
            await send(host, late)
            await until(partial(caught_up, host, "intake.views"))
        assert await row(host, case_id) is None
        assert len(await host.history(case_id)) == 2


async def test_a_dead_workers_lease_does_not_outlive_a_clock_that_goes_back(intake: Host) -> None:
    """It was taken when the clock showed an hour later than now; nobody else's is that long."""
    async with intake.database.writers.acquire() as conn:
        await lanes.prepare(conn, "intake.picky")
        assert len(await lanes.lease(conn, "intake.picky", "dead")) == len(LANES)
        assert await lanes.lease(conn, "intake.picky", "heir") == {}
        for table in ("lane", "worker"):
            await conn.execute(f"update {table} set until = until + interval '1 hour' where owner = 'dead'")
        assert len(await lanes.lease(conn, "intake.picky", "heir")) == len(LANES)


async def test_a_worker_that_lost_its_lane_changes_nothing(intake: Host) -> None:
    """A zombie has fetched records; by the time it wants to take them, the lane is another's and further on."""
    case_id = str(uuid4())
    lane = (CASES, partition_of(case_id))
    zombie = Consumer("intake.picky", intake.database, intake.log, picky(intake), VOCABULARY)
    async with intake.database.writers.acquire() as conn:
        await lanes.prepare(conn, "intake.picky")
        zombie._positions = await lanes.lease(conn, "intake.picky", zombie.worker)
    await send(intake, made([queued(), queued()], case_id, "router"))
    reader = intake.log.reader(None)

    async def arrived() -> Any:
        return (await reader.fetch({lane: zombie._positions[lane]}, 10, wait_s=0.5)).get(lane)

    fetched = await until(arrived)
    await reader.close()
    await intake.database.writers.execute("update lane set until = '-infinity'")
    await intake.database.writers.execute("update worker set until = '-infinity'")
    async with consuming(intake, picky(intake)):
        await until(partial(has, intake, case_id, 2))
        mine = "select next_offset from lane where consumer = 'intake.picky' order by topic, partition"
        before = await intake.database.readers.fetch(mine)
        await zombie._take({lane: fetched})
        assert (await row(intake, case_id))["events"] == 2
        assert await intake.database.readers.fetch(mine) == before
        assert lane not in zombie._positions


async def test_lanes_are_shared_fairly_and_handed_back_at_once(intake: Host) -> None:
    async with consuming(intake, picky(intake)) as one:

        async def has_all() -> bool:
            return len(one._positions) == len(LANES)

        await until(has_all)
        async with consuming(intake, picky(intake)) as other:

            async def half_each() -> bool:
                return len(one._positions) == len(other._positions) == len(LANES) // 2

            await until(half_each)
            assert not set(one._positions) & set(other._positions)
        await until(has_all)


async def test_two_processes_take_every_record_once(world: World) -> None:
    async with world.running() as first, world.running(ROUTER) as second:
        cases = [str(uuid4()) for _ in range(60)]
        await asyncio.gather(*(first["intake"].store.change(CASE(c), decision=open_case, actor="key:t") for c in cases))
        for case_id in cases:
            await until(partial(has, first["router"], case_id, 2))
        count = await second["router"].database.readers.fetchval(
            "select count(*) from events where type = $1", CaseQueued.TYPE
        )
        assert count == len(cases)


async def test_a_reaction_that_fails_parks_its_case_alone(world: World) -> None:
    def react(event: Recorded[Any], looked: None, now: datetime, toy: Any) -> list[Event]:
        if isinstance(event.data, CaseOpened) and event.data.market == "xx":
            raise ValueError("no rule for xx")
        return [queued()]

    (reactor,) = ROUTER.reactors
    failing = replace(ROUTER, reactors=(replace(reactor, decide=react),))
    async with world.running(INTAKE, failing) as hosts:
        store = hosts["intake"].store
        bad, good = str(uuid4()), [str(uuid4()) for _ in range(20)]

        def open_at(market: str) -> Any:
            return lambda now, toy: [opened(person=toy.subject, market=market)]

        await asyncio.gather(
            store.change(CASE(bad), decision=open_at("xx"), actor="key:t"),
            *(store.change(CASE(c), decision=open_at("de"), actor="key:t") for c in good),
        )
        for case_id in good:
            await until(partial(has, hosts["router"], case_id, 2))
        waiting = await until(partial(parked, hosts["router"], "router.reactor"))
        assert [r["subject"] for r in waiting] == [bad]
        assert "no rule for xx" in waiting[0]["error"]


async def test_an_old_number_with_a_changed_fold_is_refused_and_a_new_one_is_rebuilt(world: World) -> None:
    async with world.running() as hosts:
        cases = [str(uuid4()) for _ in range(20)]
        await asyncio.gather(*(hosts["intake"].store.change(CASE(c), decision=open_case, actor="key:t") for c in cases))
        for case_id in cases:
            await until(partial(has, hosts["intake"], case_id, 2))
    changed = replace(COUNTS, fold=_in_capitals)
    with pytest.raises(Invalid, match="changed and still has version 1"):
        async with world.running(replace(INTAKE, views=(changed,))):
            pass
    async with world.running(replace(INTAKE, views=(replace(changed, version=2),))) as hosts:
        assert (await row(hosts["intake"], cases[0]))["market"] == "DE"
        assert (await row(hosts["intake"], cases[0]))["events"] == 2
    with pytest.raises(Invalid, match="this program is older"):
        async with world.running(INTAKE):
            pass


def _in_capitals(before: Count | None, event: Recorded[Any]) -> Count:
    before = before or Count(event.subject, 0, (), None, event.occurred_at)
    market = event.data.market.upper() if isinstance(event.data, CaseOpened) else before.market
    return Count(before.case_id, before.events + 1, (*before.types, event.data.TYPE), market, event.occurred_at)


class Stuck:
    """A client of the log that has stopped giving anything, as aiokafka's sometimes does, until it is made anew."""

    def __init__(self, log: Any) -> None:
        self.reader, self.is_stuck = log.reader(None), True

    def reader_of(self, consumer: str | None) -> Stuck:
        return self

    async def fetch(self, positions: Any, limit: int, wait_s: float = 0.0) -> Any:
        return {} if self.is_stuck else await self.reader.fetch(positions, limit, wait_s)

    async def hint(self, offsets: Any) -> set[Any]:
        """Nobody asks."""
        return set(offsets)

    async def renew(self) -> None:
        self.is_stuck = False

    async def close(self) -> None:
        await self.reader.close()


async def test_a_client_that_gives_nothing_although_there_is_something_is_replaced(intake: Host) -> None:
    case_id, stuck = str(uuid4()), Stuck(intake.log)
    log = SimpleNamespace(reader=stuck.reader_of, ends=intake.log.ends, marks=intake.log.marks)
    consumer = Consumer("intake.stuck", intake.database, log, picky(intake), VOCABULARY)  # type: ignore[arg-type]
    consumer.quiet_limit_s = 0.5
    task = asyncio.create_task(consumer.run())
    try:
        await send(intake, made([queued()], case_id, "router"))
        await until(partial(has, intake, case_id, 1))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_consumer_does_not_go_on_when_it_can_no_longer_say_how_far_it_is(intake: Host) -> None:
    """Imports would wait for it for ever."""

    class Mute(Stuck):
        async def hint(self, offsets: Any) -> set[Any]:
            raise LookupError("nobody is there")

    mute = Mute(intake.log)
    mute.is_stuck = False
    log = SimpleNamespace(reader=mute.reader_of, ends=intake.log.ends, marks=intake.log.marks)
    consumer = Consumer("intake.mute", intake.database, log, picky(intake), VOCABULARY)  # type: ignore[arg-type]
    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.timeout(15):
            await consumer.run()
    assert ended.group_contains(LookupError, match="nobody is there")


async def test_a_consumer_that_died_before_it_said_how_far_it_is_does_not_seem_behind_for_ever(intake: Host) -> None:
    case_id = str(uuid4())
    lane = (CASES, partition_of(case_id))
    behind = partial(intake.log.progress, ".picky")

    async def is_behind(expected: bool) -> bool:
        return any(one.lane == lane for one in await behind()) is expected

    await send(intake, made([queued(), queued()], case_id, "router"))
    async with consuming(intake, picky(intake)):
        await until(partial(has, intake, case_id, 2))
        await until(partial(is_behind, False))
    last_word = intake.log.reader("intake.picky")
    await last_word.fetch({lane: 0}, 10, wait_s=5)
    assert await last_word.hint({lane: (1, NOW)}) == {lane}
    await last_word.close()
    assert await is_behind(True)
    async with consuming(intake, picky(intake)):
        await until(partial(is_behind, False))


async def test_what_passes_by_is_gathered_until_there_is_something_to_read(intake: Host) -> None:
    """Records of a lane stay in order, and nothing is fetched beyond what is read."""
    lane, reads = (CASES, 0), next(iter(intake.views_consumer.handler.reads))
    like = made([queued()], str(uuid4()), "router")[0]
    passing = [like._replace(partition=0, offset=n, type="casewalk.case.sung_about.v1") for n in range(4)]
    batches = [[passing[1]], [], [passing[2], passing[3]._replace(type=reads)], [passing[3]]]
    begins: list[int] = []

    class Prepared:
        async def fetch(self, positions: Mapping[Lane, int], limit: int, wait_s: float = 0.0) -> dict[Lane, Any]:
            begins.append(positions[lane])
            batch = batches.pop(0)
            return {lane: batch} if batch else {}

    found = await intake.views_consumer._gathered(Prepared(), {lane: [passing[0]]})  # type: ignore[arg-type]
    assert [record.offset for record in found[lane]] == [0, 1, 2, 3]
    assert begins == [1, 2, 2]
    assert len(batches) == 1


class Slow:
    """Does nothing, and takes its time."""

    reads = frozenset({CaseQueued.TYPE})
    TAKES_S = 0.05

    def __init__(self) -> None:
        self.begun: list[float] = []

    async def handle(self, conn: Connection, events: Sequence[Recorded[Any]]) -> None:
        self.begun.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.TAKES_S)


async def test_after_a_few_records_a_consumer_waits_as_long_as_they_took(intake: Host) -> None:
    """So that it takes more of them together the busier the process is."""
    slow = Slow()
    async with consuming(intake, slow), asyncio.timeout(30):
        while len(slow.begun) < 5:
            await send(intake, made([queued()], str(uuid4()), "router"))
            await asyncio.sleep(0.01)  # a hundred a second: few, whenever it looks
    assert min(later - earlier for earlier, later in pairwise(slow.begun)) > 1.9 * slow.TAKES_S


async def test_what_another_source_says_later_of_a_parked_case_waits_behind_it(intake: Host) -> None:
    bad, good = str(uuid4()), str(uuid4())
    (undecodable,) = made([queued()], bad, "router")
    handler = picky(intake)
    async with consuming(intake, handler):
        await send(intake, [undecodable._replace(data='{"queue_id": 7}')])
        await until(partial(parked, intake))
        await send(intake, made([resolved()], bad) + made([resolved()], good))
        await until(partial(has, intake, good, 1))
        await until(partial(caught_up, intake))
        assert [event.subject for event in handler.handled] == [good]
        assert [(r["source"], r["error"]) for r in await parked(intake)][1:] == [("intake", "behind an earlier one")]
