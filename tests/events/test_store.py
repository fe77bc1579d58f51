"""What a store promises: nobody wins twice, nobody harms another, nothing answered is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from events.case import CaseClosed, CaseOffered, CaseOpened, MessageReceived
from events.database import Connection, Database, _Connection, connect
from events.errors import Invalid, Refused, Reused, Stale, TooLarge
from events.event import CASES, OPERATIONS, Event
from events.operations import Presence, PresenceChanged
from events.personal import Clear
from events.privacy import Keyring
from events.store import Fold, New, Once, Store
from services.runtime.host import TABLES
from tests.events.toy import CASE, Toy, close, open_case, opened, resolve


@asynccontextmanager
async def store_of(dsn: str, service: str = "intake") -> AsyncIterator[Store]:
    database = await Database.open(dsn, service, TABLES.format(schema=service, privacy=f"{service}_privacy"))
    store = Store(database, Keyring(b"m" * 32))
    running = asyncio.create_task(store.run())
    try:
        yield store
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await database.close()


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    async with store_of(database) as store:
        yield store


def say(event: Event, now: datetime, toy: Toy) -> list[Event]:
    return [event]


def message(text: str, person: str = "customer-1") -> MessageReceived:
    return MessageReceived(message_id="m", channel="chat", body=Clear(person, text))


async def test_two_writers_of_one_stream_never_both_win(database: str) -> None:
    async with store_of(database) as one, store_of(database) as other:
        case_id = str(uuid4())
        tries = [s.change(CASE(case_id), decision=open_case, actor="key:t") for s in (one, other) * 10]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert sorted(type(o).__name__ for o in outcomes) == ["Changed"] + ["Refused"] * 19
        assert [e.data.TYPE for e in await one.events(CASES, case_id)] == [CaseOpened.TYPE]


async def test_a_stale_version_is_refused_and_says_which_it_is_by_now(store: Store) -> None:
    case = CASE(str(uuid4()))
    await store.change(case, decision=open_case, actor="key:t")
    with pytest.raises(Stale, match="version 1 by now, not 7"):
        await store.change(case, decision=resolve, actor="key:t", expected=7)
    assert (await store.change(case, decision=resolve, actor="key:t", expected=1)).version == 2


async def test_sequences_count_one_two_three_under_parallel_writers(database: str) -> None:
    async with store_of(database) as one, store_of(database) as other:
        case = CASE(str(uuid4()))
        await asyncio.gather(
            *(
                s.change(case, decision=partial(say, message(f"{i}")), actor="key:t")
                for i in range(50)
                for s in (one, other)
            )
        )
        events = await one.events(*case.key)
        assert [e.sequence for e in events] == list(range(1, 101))
        assert all(a.recorded_at < b.recorded_at for a, b in pairwise(events))


async def test_a_second_stream_of_the_same_subject_from_one_source_is_impossible(store: Store) -> None:
    """Two parts of a service that fold a case differently still share its one stream and its one count."""
    subject = str(uuid4())
    other_part = Fold(CASES, lambda s: 0, lambda n, e: n + 1)
    await store.change(CASE(subject), decision=open_case, actor="key:t")
    changed = await store.change(other_part(subject), decision=lambda now, n: [message(f"after {n}")], actor="key:t")
    assert changed.version == 2
    async with store.database.writers.acquire() as conn:
        with pytest.raises(asyncpg.UniqueViolationError):
            await conn.execute(
                "insert into stream select topic, subject, 1, recorded_at from stream where subject = $1", subject
            )
        with pytest.raises(asyncpg.UniqueViolationError):
            await conn.execute(
                "insert into events (topic, subject, sequence, id, type, occurred_at, recorded_at, actor,"
                " correlation_id, traceparent, data) select topic, subject, sequence, $2, type, occurred_at,"
                " recorded_at, actor, correlation_id, traceparent, data from events where subject = $1",
                subject,
                uuid4(),
            )


@dataclass(frozen=True)
class Agent:
    subject: str
    capacity: int = 0


AGENT = Fold(OPERATIONS, Agent, lambda agent, event: replace(agent, capacity=3))


def offer_if_free(now: datetime, case: Toy, agent: Agent, load: int) -> list[Event | New]:
    if load >= agent.capacity:
        raise Refused(f"{agent.subject} has {load} of {agent.capacity}")
    offered = CaseOffered(
        offer_id=f"o-{case.subject}",
        agent_id=agent.subject,
        queue_id="general",
        unit_id="general",
        expires_at=now + timedelta(minutes=1),
        load=load,
        capacity=agent.capacity,
    )
    return [New(offered)]


async def _load(conn: Connection, agent: str) -> int:
    return int(
        await conn.fetchval(
            "select count(*) from events where type = $1 and data like $2", CaseOffered.TYPE, f'%"agent_id":"{agent}"%'
        )
    )


async def test_two_decisions_on_one_agents_capacity_are_taken_one_after_another(database: str) -> None:
    async with store_of(database, "router") as one, store_of(database, "router") as other:
        await one.change(
            AGENT("anna"), decision=lambda now, a: [PresenceChanged(presence=Presence.AVAILABLE)], actor="key:t"
        )
        look = partial(_load, agent="anna")
        offers = [
            s.change(CASE(str(uuid4())), AGENT("anna"), decision=offer_if_free, actor="key:t", look=look)
            for _ in range(20)
            for s in (one, other)
        ]
        outcomes = await asyncio.gather(*offers, return_exceptions=True)
        assert sum(not isinstance(o, BaseException) for o in outcomes) == 3
        assert {type(o) for o in outcomes if isinstance(o, BaseException)} == {Refused}


async def test_a_loser_a_nul_and_a_lone_surrogate_in_a_group_harm_nobody(store: Store) -> None:
    good = [CASE(str(uuid4())) for _ in range(20)]
    bad: list[tuple[Any, type[BaseException]]] = [
        (partial(say, message("half a character: \ud800")), Invalid),
        (partial(say, opened(channel="x", title=Clear("p", "x" * 300_000))), TooLarge),
        (lambda now, toy: 1 / 0, ZeroDivisionError),
        (lambda now, toy: [New(message("later"), occurred_at=now + timedelta(hours=1))], Invalid),
        (lambda now, toy: [New(message("before"), occurred_at=datetime(1, 1, 1, tzinfo=UTC))], Invalid),
        (lambda now, toy: [PresenceChanged(presence=Presence.AWAY)], TypeError),
        (
            lambda now, toy: [New(message("twice"), id=taken), New(message("twice"), id=taken)],
            asyncpg.UniqueViolationError,
        ),
    ]
    taken = str(uuid4())
    loser = CASE(str(uuid4()))
    await store.change(loser, decision=open_case, actor="key:t")
    async with asyncio.TaskGroup() as together:  # all of them wait in the queue before the first is taken
        fine = [together.create_task(store.change(c, decision=open_case, actor="key:t")) for c in good]
        fine.append(
            together.create_task(
                store.change(CASE(str(uuid4())), decision=partial(say, message("nul \x00 nul")), actor="key:t")
            )
        )
        failing = [together.create_task(_fails(store, CASE(str(uuid4())), decision, error)) for decision, error in bad]
        failing.append(together.create_task(_fails(store, loser, open_case, Refused)))
    assert all(task.result().version == 1 for task in fine)
    assert all(task.result() for task in failing)
    assert await store.database.readers.fetchval("select count(*) from events") == len(fine) + 1
    assert await store.database.readers.fetchval("select count(*) from stream") == len(fine) + 1


async def _fails(store: Store, case: Any, decision: Any, error: type[BaseException]) -> bool:
    with pytest.raises(error):
        await store.change(case, decision=decision, actor="key:t")
    return True


async def test_many_requests_share_one_commit(store: Store) -> None:
    await asyncio.gather(*(store.change(CASE(str(uuid4())), decision=open_case, actor="key:t") for _ in range(200)))
    clocks = await store.database.readers.fetchval("select count(distinct recorded_at) from events")
    assert clocks <= 5, "one reading of the clock per commit"


async def test_changes_over_one_head_are_decided_one_after_another_in_one_group(store: Store) -> None:
    case = CASE(str(uuid4()))
    changed = await asyncio.gather(
        *(
            store.change(case, decision=lambda now, toy: [message(f"I am number {len(toy.types)}")], actor="key:t")
            for _ in range(30)
        )
    )
    assert sorted(c.version for c in changed) == list(range(1, 31))
    span = await store.database.readers.fetchval("select max(recorded_at) - min(recorded_at) from events")
    assert span == timedelta(microseconds=29), "one reading of the clock for all of them"


async def test_the_same_idempotency_key_gives_the_same_answer_and_happens_once(database: str) -> None:
    async with store_of(database) as one, store_of(database) as other:
        case = CASE(str(uuid4()))
        once = Once("key:t POST /v1/cases", "k-1", b"body", {"status": 201, "case_id": case.subject})
        outcomes = await asyncio.gather(
            *(s.change(case, decision=open_case, actor="key:t", once=once) for s in (one, other) * 5)
        )
        assert len([o for o in outcomes if o.answer is None]) == 1
        assert {o.answer["case_id"] for o in outcomes if o.answer is not None} == {case.subject}
        assert len(await one.events(*case.key)) == 1


async def test_another_request_under_a_used_key_is_refused_and_changes_nothing(store: Store) -> None:
    case = CASE(str(uuid4()))
    await store.change(case, decision=open_case, actor="key:t", once=Once("scope", "k", b"one body", {}))
    with pytest.raises(Reused):
        await store.change(case, decision=resolve, actor="key:t", once=Once("scope", "k", b"another", {}))
    assert len(await store.events(*case.key)) == 1


async def test_a_refused_change_leaves_nothing_behind(store: Store) -> None:
    case = CASE(str(uuid4()))
    with pytest.raises(Refused):
        await store.change(case, decision=_refuse, actor="key:t", once=Once("scope", "k", b"b", {}))
    for table in ("events", "stream", "outbox", "once"):
        assert await store.database.readers.fetchval(f"select count(*) from {table}") == 0
    await store.change(case, decision=open_case, actor="key:t", once=Once("scope", "k", b"c", {}))


def _refuse(now: datetime, toy: Toy) -> list[Event]:
    raise Refused("not now")


async def test_an_event_over_256_kib_is_refused(store: Store) -> None:
    with pytest.raises(TooLarge):
        await store.change(CASE(str(uuid4())), decision=partial(say, message("x" * 200_000)), actor="key:t")


async def test_a_reaction_that_was_recorded_before_is_done(store: Store) -> None:
    """Whatever a cursor says: after a restore or a refilled log the same cause comes again."""
    case = CASE(str(uuid4()))
    await store.change(case, decision=open_case, actor="key:t")
    (cause,) = await store.events(*case.key)
    for _ in range(2):
        await store.change(
            case, decision=partial(say, message("hello")), actor="service:intake", cause=cause, consumer="c"
        )
    assert len(await store.events(*case.key)) == 2
    await store.change(case, decision=partial(say, message("hello")), actor="service:intake", cause=cause, consumer="d")
    assert len(await store.events(*case.key)) == 3


async def test_an_effect_is_recorded_after_its_cause_and_belongs_to_its_flow(store: Store) -> None:
    case = CASE(str(uuid4()))
    (first,) = (await store.change(case, decision=open_case, actor="key:t")).events
    ahead = first._replace(recorded_at=first.recorded_at + timedelta(minutes=3))
    (effect,) = (await store.change(case, decision=close, actor="service:intake", cause=ahead, consumer="c")).events
    assert effect.recorded_at > ahead.recorded_at
    assert (effect.causation_id, effect.correlation_id) == (first.id, first.id)
    assert effect.traceparent[3:35] == first.traceparent[3:35]


async def test_a_service_may_tell_of_what_a_clock_recorded_that_has_gone_back_since(store: Store) -> None:
    """A reaction, or what it does of itself; what somebody else says of a time to come is refused."""
    case = CASE(str(uuid4()))
    (cause,) = (await store.change(case, decision=open_case, actor="key:t")).events
    ahead = cause.recorded_at + timedelta(hours=1)

    def tell(now: datetime, toy: Toy) -> list[New]:
        return [New(CaseClosed(episode=1), occurred_at=ahead)]

    with pytest.raises(Invalid, match="5 minutes ahead"):
        await store.change(case, decision=tell, actor="key:t")
    (told,) = (await store.change(case, decision=tell, actor="service:intake", cause=cause, consumer="c")).events
    (again,) = (await store.change(case, decision=tell, actor="service:intake")).events
    assert told.occurred_at == again.occurred_at == ahead


async def test_recorded_times_never_go_back_within_a_stream(store: Store) -> None:
    case = CASE(str(uuid4()))
    await store.change(case, decision=open_case, actor="key:t")
    await store.database.writers.execute("update stream set recorded_at = recorded_at + interval '1 hour'")
    (late,) = (await store.change(case, decision=resolve, actor="key:t")).events
    assert late.recorded_at > datetime.now(UTC) + timedelta(minutes=59)


async def test_a_writer_that_holds_a_head_makes_others_wait_and_nobody_fail(store: Store) -> None:
    busy, free = CASE(str(uuid4())), CASE(str(uuid4()))
    await store.change(busy, decision=open_case, actor="key:t")
    async with store.database.writers.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("select from stream where subject = $1 for update", busy.subject)
        waiting = asyncio.create_task(store.change(busy, decision=resolve, actor="key:t"))
        await store.change(free, decision=open_case, actor="key:t")
        assert not waiting.done()
        await transaction.rollback()
    assert (await waiting).version == 2


async def test_what_is_remembered_of_a_stream_is_never_newer_than_its_head(database: str) -> None:
    """Another process appends: the next decision here folds what came since."""
    async with store_of(database) as here, store_of(database) as there:
        case = CASE(str(uuid4()))
        await here.change(case, decision=open_case, actor="key:t")
        await there.change(case, decision=resolve, actor="key:t")
        changed = await here.change(case, decision=resolve, actor="key:t")
        assert changed.events == ()
        assert changed.states[0].types == (CaseOpened.TYPE, "casewalk.case.resolved.v1")


async def test_what_postgresqls_own_types_are_made_of_is_asked_once_in_a_process(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []
    ask = asyncpg.Connection._introspect_types

    async def counted(self: asyncpg.Connection, typeoids: Iterable[int], timeout: float) -> Any:  # noqa: ASYNC109
        asked.append(list(typeoids))
        return await ask(self, asked[-1], timeout)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", counted)
    monkeypatch.setattr(_Connection, "_known", {})
    for _ in range(3):
        conn = await connect(database, "intake", "types")
        assert await conn.fetchval("select $1::bigint[]", [1, 2]) == [1, 2]
        await conn.close()
    assert len(asked) == 1
