"""No promise is broken unseen, whatever breaks: at the end every clock says what the events alone make of it.

Two escalation processes run while cases come, are answered, paused, resolved and reopened, and are told of late. Both
are killed while clocks are due, one sleeps through its leases, the database's clock jumps by an hour, PostgreSQL and
Kafka are killed and started again.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import httpx
import pytest

from events.case import ClockBreached, ClockWarned
from events.event import CASES, CaseEvent, Recorded
from events.store import New
from events.wire import VOCABULARY, stored
from services.escalation.clocks import ClockState, account
from services.escalation.decide import clocks as decide
from services.escalation.decide.case import FOLD, Case
from services.escalation.decide.clocks import Rules
from services.escalation.react.clocks import FACTS, rules_for
from services.runtime.broker import Broker
from services.runtime.postgres import EmbeddedPostgres
from tests.conftest import ENGINE
from tests.distributed import Serving
from tests.faults.faked import Clock
from tests.faults.report import Report
from tests.until import until

HOUR = timedelta(hours=1)
CASES_PER_S = 6.0
LEASE_S = 10.0
ENGINES = ("embedded", *(("kafka",) if ENGINE == "all" else ()))

PROMISE = {
    "name": "Standard",
    "warnings": [50],
    "targets": [
        {"clock": clock, "priority": priority, "target_s": target_s * factor}
        for clock, target_s in (("first_response", 2), ("next_response", 2), ("requester_wait", 3), ("resolution", 4))
        for priority, factor in (("urgent", 1), ("high", 1), ("normal", 2), ("low", 3))
    ],
}

ORDER = {
    "channel": "email",
    "market": "de",
    "language": "de",
    "journey": "delivery",
    "subject": "Where is my parcel?",
    "body": "It should have been here on Friday.",
}

ACTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/messages", {"direction": "in", "body": "Any news?"}),
    ("/messages", {"direction": "out", "body": "We are looking into it."}),
    ("/messages", {"direction": "out", "body": "What is the number?", "waits_for": "customer"}),
    (":classify", {"priority": "urgent", "reason": "it is urgent"}),
    (":resolve", {}),
    (":resolve", {}),
    (":reopen", {"reason": "it happened again"}),
)


@dataclass
class Town:
    """The processes, and how to break them."""

    directory: Path
    clock: Clock
    postgres: EmbeddedPostgres
    broker: Broker | None
    admin_key: str
    serving: dict[str, Serving] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The database that all services share here, each in its schema."""
        return self.postgres.dsn("casewalk")

    def client(self, name: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.admin_key}"}
        return httpx.AsyncClient(base_url=self.serving[name].url, headers=headers, timeout=10)

    # ------------------------------------------------------------------------------------------------- what breaks

    async def timers_are_dead_for_an_hour(self) -> None:
        await until(partial(self._promised, 10), limit_s=120)
        for name in TWO:
            self.serving[name].process.send_signal(signal.SIGKILL)  # type: ignore[union-attr]
        await self.clock.move(self.url, HOUR)
        await until(partial(self._promised, 10, "clock_timestamp()"), limit_s=60)
        await asyncio.gather(*(self.serving[name].kill() for name in TWO))

    async def _promised(self, count: int, before: str = "'infinity'") -> bool:
        """Something is owed to that many cases before that time, and nobody has said so yet."""
        async with connected(self) as conn:
            table = await conn.fetchval("select table_name from escalation.view where name = 'clocks'")
            return bool(
                await conn.fetchval(f"select count(*) >= $1 from escalation.{table} where due_at < {before}", count)
            )

    async def the_clock_goes_back_an_hour(self) -> None:
        await self.clock.move(self.url, timedelta())

    async def the_clock_goes_back_another_hour(self) -> None:
        await self.clock.move(self.url, -HOUR)

    async def one_of_two_is_killed(self) -> None:
        await self.serving[TWO[0]].kill()

    async def the_other_sleeps_through_its_leases(self) -> None:
        process = self.serving[TWO[1]].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2 * LEASE_S)
        process.send_signal(signal.SIGCONT)

    async def postgresql_is_killed(self) -> None:
        os.kill(self.postgres.pid, signal.SIGKILL)
        await asyncio.to_thread(self.postgres.stop)
        start = partial(EmbeddedPostgres.start, self.directory / "postgres", self.clock.variables)
        self.postgres = await asyncio.to_thread(start)

    async def kafka_is_killed(self) -> None:
        if self.broker is not None:
            self.broker.kill()
            await asyncio.to_thread(self.broker.restart)


TWO = ("escalation", "escalation 2")

BREAKS: tuple[Callable[[Town], Awaitable[None]], ...] = (
    Town.timers_are_dead_for_an_hour,
    Town.postgresql_is_killed,
    Town.the_clock_goes_back_an_hour,
    Town.kafka_is_killed,
    Town.one_of_two_is_killed,
    Town.the_clock_goes_back_another_hour,
    Town.the_other_sleeps_through_its_leases,
    Town.the_clock_goes_back_an_hour,
)


@pytest.fixture(params=ENGINES)
async def town(request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        # Not under pytest's own directory: the next run of pytest would close that to the server's user.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="casewalk-")))
        directory.chmod(0o755)
        clock = Clock.at(directory)
        broker = stack.enter_context(Broker.start(directory / "kafka")) if request.param == "kafka" else None
        postgres = EmbeddedPostgres.start(directory / "postgres", clock.variables)
        town = Town(directory, clock, postgres, broker, f"cw_{secrets.token_urlsafe(32)}")
        stack.callback(lambda: town.postgres.stop())
        postgres.create_database("casewalk")
        variables = {
            "CASEWALK_DATABASE_URL": town.url,
            "CASEWALK_MASTER_KEY": secrets.token_hex(32),
            "CASEWALK_ADMIN_KEY": town.admin_key,
            "CASEWALK_DATA_DIR": str(directory / "data"),
        } | ({"CASEWALK_KAFKA": broker.bootstrap} if broker else {})
        for name in ("intake", "router", "vendor", *TWO):
            town.serving[name] = Serving(name.partition(" ")[0], directory, variables)
            stack.push_async_callback(town.serving[name].stop)
        await asyncio.gather(*(serving.start() for serving in town.serving.values()))
        yield town


@pytest.mark.timeout(900)
async def test_every_obligation_ends_with_the_verdict_that_the_events_alone_make(town: Town, report: Report) -> None:
    await ask(town, "escalation", "PUT", "/v1/promises/standard", PROMISE, "promise")
    evening = asyncio.Event()
    coming = asyncio.create_task(customers_come(town, evening))
    for breaks in BREAKS:
        await breaks(town)
        await until(partial(more_cases, town, len(town.opened) + 12), limit_s=120)
    evening.set()
    await coming
    await town.clock.move(town.url, 2 * HOUR)  # what was promised while it was ahead becomes due too
    await until(partial(all_heard_and_said, town), limit_s=120)

    async with connected(town) as conn:
        facts, said = await events_of(conn, FACTS), await events_of(conn, None)
        await conn.execute("set search_path to escalation")
        rules = await rules_for(conn, sorted(facts))
        end = await conn.fetchval("select clock_timestamp()")
    verdicts: Counter[str] = Counter()
    for case_id in town.opened:
        lived = FOLD.over(case_id, said[case_id])
        alone = from_nothing(case_id, facts[case_id], rules, end)
        assert accounts(lived) == accounts(alone), case_id
        assert once_each(said[case_id]), case_id
        verdicts.update(_word(clock.verdict, clock.state) for clock in lived.clocks.values() if clock.span.promise)
    assert verdicts["kept"]
    assert verdicts["not kept"]
    restated = sum(one.data.TYPE.startswith("casewalk.case.clock_restated") for of in said.values() for one in of)
    report.table(
        f"Clocks under everything that breaks, {'kafka' if town.broker else 'embedded'}",
        ("cases", "kept", "not kept", "still paused or running", "restated", "other than the events alone make them"),
        [(len(town.opened), verdicts["kept"], verdicts["not kept"], verdicts["open"], restated, 0)],
        "In this order: " + ", ".join(breaks.__name__.replace("_", " ") for breaks in BREAKS) + ".",
    )


def _word(verdict: bool | None, state: ClockState) -> str:
    return {True: "kept", False: "not kept", None: "open"}[verdict]


# ------------------------------------------------------------------------------------------------------- the customers


async def customers_come(town: Town, evening: asyncio.Event) -> None:
    """Until the evening, whatever breaks; whoever came stays until their part is played."""
    number = 0
    async with asyncio.TaskGroup() as group:
        while not evening.is_set():
            number += 1
            group.create_task(one_comes(town, number))
            await asyncio.sleep(1 / CASES_PER_S)


async def one_comes(town: Town, number: int) -> None:
    random = Random(number)
    priority = random.choice(("urgent", "high", "normal", "low"))
    body = ORDER | {"priority": priority, "customer": {"external_id": f"crm-{number}"}}
    case_id = (await ask(town, "intake", "POST", "/v1/cases", body, f"{number}"))["case_id"]
    town.opened.append(case_id)
    for n in range(random.randint(1, 5)):
        await asyncio.sleep(random.uniform(0.1, 3.0))
        path, act = random.choice(ACTS)
        late = {"occurred_at": await a_moment_ago(town, random)} if random.random() < 0.2 else {}
        await ask(town, "intake", "POST", f"/v1/cases/{case_id}{path}", act | late, f"{number}-{n}")


async def a_moment_ago(town: Town, random: Random) -> str:
    """By the database's clock, whatever it shows."""

    async def shown() -> datetime | None:
        try:
            async with connected(town) as conn:
                now: datetime = await conn.fetchval("select clock_timestamp()")
                return now
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            return None

    now = await until(shown, limit_s=60)
    assert now is not None
    return (now - timedelta(seconds=random.uniform(0, 5))).isoformat()


async def ask(town: Town, service: str, method: str, path: str, body: object, key: str) -> dict[str, Any]:
    """Until it is answered, under one key; a move that is illegal by now is refused, which is an answer too."""

    async def answered() -> httpx.Response | None:
        try:
            async with town.client(service) as client:
                headers = {"Idempotency-Key": key} if method == "POST" else {}
                answer = await client.request(method, path, json=body, headers=headers)
        except httpx.TransportError:
            return None
        return None if answer.status_code >= 500 or answer.status_code == 429 else answer

    answer = await until(answered, limit_s=120)
    assert answer is not None
    assert answer.is_success or answer.status_code in (409, 422), answer.text
    said: dict[str, Any] = answer.json()
    return said


async def more_cases(town: Town, count: int) -> bool:
    return len(town.opened) >= count


# ---------------------------------------------------------------------------------------------------------- the verdict


async def all_heard_and_said(town: Town) -> bool:
    """Escalation has heard every fact, and no clock is due any more."""
    async with connected(town) as conn:
        facts = {one.id for of in (await events_of(conn, FACTS)).values() for one in of}
        heard = {str(row["id"]) for row in await conn.fetch("select id from escalation.past")}
        table = await conn.fetchval("select table_name from escalation.view where name = 'clocks'")
        due = await conn.fetchval(f"select count(*) from escalation.{table} where due_at is not null")
        parked = await conn.fetchval("select count(*) from escalation.parked")
    assert not parked
    return facts <= heard and not due


async def events_of(
    conn: asyncpg.Connection, types: Sequence[type[CaseEvent]] | None
) -> dict[str, list[Recorded[CaseEvent]]]:
    """Case id → its events of these types in every service's store, as they sort; None: all of escalation's."""
    found: dict[str, list[Recorded[CaseEvent]]] = {}
    for service in ("escalation",) if types is None else ("intake", "router", "vendor", "escalation"):
        wanted = None if types is None else [one.TYPE for one in types]
        rows = await conn.fetch(
            f"select * from {service}.events where topic = $1 and ($2::text[] is null or type = any($2))"
            " order by subject, sequence",
            CASES,
            wanted,
        )
        for row in rows:
            found.setdefault(row["subject"], []).append(VOCABULARY.recorded(stored(row, service)))
    if types is not None:
        return {case_id: sorted(events, key=lambda one: one.key) for case_id, events in found.items()}
    return found


def from_nothing(case_id: str, facts: Sequence[Recorded[CaseEvent]], rules: Rules, end: datetime) -> Case:
    """What escalation would say if it heard everything at once, and nothing had ever been said."""
    case: Case = FOLD.initial(case_id)
    sequence = 0
    for decision in (partial(decide.judge, facts=facts, rules=rules), partial(decide.fire, end)):
        for new in decision(case):
            sequence += 1
            case = FOLD.evolve(case, _recorded(new, facts[0], sequence, end))
    return case


def _recorded(new: New, like: Recorded[Any], sequence: int, end: datetime) -> Recorded[Any]:
    at = new.occurred_at or end
    return replace(
        like, id=new.id or "", source="escalation", sequence=sequence, occurred_at=at, recorded_at=end, data=new.event
    )


def accounts(case: Case) -> dict[object, object]:
    """Every clock as it stands; what was warned of before somebody knew better stays said."""
    return {
        key: account(clock).model_copy(update={"warnings": ()})
        for key, clock in case.clocks.items()
        if not clock.cancelled
    }


def once_each(said: Sequence[Recorded[CaseEvent]]) -> bool:
    """Whether nothing was called broken twice, and nothing warned of twice."""
    names = Counter(
        (one.data.TYPE, one.data.clock, one.data.episode, one.data.turn, getattr(one.data, "percent", 100))
        for one in said
        if isinstance(one.data, ClockBreached | ClockWarned)
    )
    return all(times == 1 for times in names.values())


@asynccontextmanager
async def connected(town: Town) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own."""
    conn = await asyncpg.connect(town.url)
    try:
        yield conn
    finally:
        await conn.close()
