"""A Casewalk of two escalation processes whose customers come whatever breaks, and the ways in which it breaks."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import httpx

from services.runtime.broker import Broker
from services.runtime.postgres import EmbeddedPostgres
from tests.commands.conftest import AUTHORITIES
from tests.distributed import Serving
from tests.faults.faked import CLOSE, Clock
from tests.until import until

HOUR = timedelta(hours=1)
CASES_PER_S = 6.0
POLL_S = 0.2
LIMIT_S = 120.0
SLACK = 2 * CLOSE
"""Of the server's clock: moved to within one second of what it is to show, and stopped at a full one."""
NOTICED_WITHIN_S = 2.0
"""Every process of the server looks itself, once a second, what time it is to be."""

TWO = ("escalation", "escalation 2")

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
class Shown:
    """How far the database's clock was ahead for a while; by the test's own clock, monotonic seconds."""

    hours: int
    since: float
    until: float = inf
    stands: bool = False


@dataclass
class Town:
    """The processes, and what happened to them."""

    directory: Path
    clock: Clock
    postgres: EmbeddedPostgres
    broker: Broker | None
    client: httpx.AsyncClient
    serving: dict[str, Serving] = field(default_factory=dict)
    opened: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    """The cases that came in, in order; and between which times that was, by the database's clock."""
    shown: list[Shown] = field(default_factory=lambda: [Shown(1, 0.0)])
    """How far the database's clock is ahead. It never is behind: a server that waits looks at the true clock when a
    timeout might be over, and would break off everything that is later than the time it shows."""

    @classmethod
    @asynccontextmanager
    async def built(cls, kafka: bool) -> AsyncIterator[Town]:
        """Everything runs, on a server of its own whose clock can be moved."""
        async with AsyncExitStack() as stack:
            # Not under pytest's own directory: the next run of pytest would close that to the server's user.
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="casewalk-")))
            directory.chmod(0o755)
            clock, key = Clock.at(directory, HOUR), f"cw_{secrets.token_urlsafe(32)}"
            broker = stack.enter_context(Broker.start(directory / "kafka")) if kafka else None
            client = httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=10, verify=AUTHORITIES)
            await stack.enter_async_context(client)
            postgres = EmbeddedPostgres.start(directory / "postgres", clock.variables)
            town = cls(directory, clock, postgres, broker, client)
            stack.callback(lambda: town.postgres.stop())
            postgres.create_database("casewalk")
            variables = {
                "CASEWALK_DATABASE_URL": town.url,
                "CASEWALK_MASTER_KEY": secrets.token_hex(32),
                "CASEWALK_ADMIN_KEY": key,
                "CASEWALK_DATA_DIR": str(directory / "data"),
            } | ({"CASEWALK_KAFKA": broker.bootstrap} if broker else {})
            for name in ("intake", "router", "vendor", *TWO):
                town.serving[name] = Serving(name.partition(" ")[0], directory, variables)
                stack.push_async_callback(town.serving[name].stop)
            await asyncio.gather(*(serving.start() for serving in town.serving.values()))
            yield town

    @property
    def url(self) -> str:
        """The database that all services share here, each in its schema."""
        return self.postgres.dsn("casewalk")

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the test's own."""
        conn = await asyncpg.connect(self.url)
        try:
            yield conn
        finally:
            await conn.close()

    # --------------------------------------------------------------------------------------------------- what breaks

    async def _later(self, hours: int) -> None:
        """By so much, in one jump."""
        before = self.shown[-1]
        self.shown.append(Shown(before.hours + hours, time.monotonic()))
        await self.clock.move(self.url, self.shown[-1].hours * HOUR)
        before.until = time.monotonic() + NOTICED_WITHIN_S

    def _between(self, asked: float, answered: float) -> tuple[datetime, datetime]:
        """What the database's clock can have shown while a request was on its way."""
        true = datetime.now(UTC) - timedelta(seconds=time.monotonic())
        seen = [one for one in self.shown if one.since <= answered and one.until >= asked]
        least = min(one.hours * HOUR - timedelta(seconds=(answered - one.since) * one.stands) for one in seen)
        most = max(one.hours for one in seen) * HOUR
        return true + timedelta(seconds=asked) + least - SLACK, true + timedelta(seconds=answered) + most + SLACK

    async def timers_are_dead_for_an_hour(self) -> None:
        await until(partial(self._promised, 10), LIMIT_S, POLL_S)
        for name in TWO:
            self._signal(name, signal.SIGKILL)
        await self._later(1)
        await until(partial(self._promised, 10, "clock_timestamp()"), LIMIT_S, POLL_S)
        await asyncio.gather(*(self.serving[name].kill() for name in TWO))

    async def _promised(self, count: int, before: str = "'infinity'") -> bool:
        """Something is owed to that many cases before that time, and nobody has said so yet."""
        async with self.connected() as conn:
            table = await conn.fetchval("select table_name from escalation.view where name = 'clocks'")
            return bool(
                await conn.fetchval(f"select count(*) >= $1 from escalation.{table} where due_at < {before}", count)
            )

    async def the_clock_goes_back_an_hour(self) -> None:
        await self._later(-1)

    async def one_of_two_dies_and_the_clock_goes_back_an_hour(self) -> None:
        """Its leases end an hour later than any that is taken from then on."""
        self._signal(TWO[1], signal.SIGKILL)
        await self._later(-1)
        await self.serving[TWO[1]].kill()

    async def the_clock_goes_ahead_an_hour(self) -> None:
        await self._later(1)

    async def the_clock_stands_still(self) -> None:
        before = self.shown[-1]
        self.shown.append(Shown(before.hours, time.monotonic(), stands=True))
        await self.clock.stop(self.url)
        before.until = time.monotonic() + NOTICED_WITHIN_S

    async def the_clock_runs_again(self) -> None:
        """By what it stood still, it jumps ahead."""
        await self._later(0)

    async def the_clock_is_ahead_of_whatever_it_showed(self) -> None:
        await self._later(3)

    async def one_of_two_is_killed(self) -> None:
        await self.serving[TWO[0]].kill()

    async def the_other_sleeps_through_its_leases(self) -> None:
        await until(partial(self._workers, 2), LIMIT_S, POLL_S)
        self._signal(TWO[1], signal.SIGSTOP)
        try:
            await until(partial(self._workers, 1), LIMIT_S, POLL_S)
        finally:
            self._signal(TWO[1], signal.SIGCONT)

    async def _workers(self, count: int) -> bool:
        """Every lane is somebody's, and each consumer has so many workers."""
        async with self.connected() as conn:
            shared = await conn.fetch(
                "select count(distinct owner) as owners, bool_and(until > clock_timestamp()) as held"
                " from escalation.lane group by consumer"
            )
        return all(row["held"] and row["owners"] == count for row in shared)

    async def postgresql_is_killed(self) -> None:
        os.kill(self.postgres.pid, signal.SIGKILL)
        await asyncio.to_thread(self.postgres.stop)
        start = partial(EmbeddedPostgres.start, self.directory / "postgres", self.clock.variables)
        self.postgres = await asyncio.to_thread(start)

    async def kafka_is_killed(self) -> None:
        if self.broker is not None:
            self.broker.kill()
            await asyncio.to_thread(self.broker.restart)

    def _signal(self, name: str, number: signal.Signals) -> None:
        process = self.serving[name].process
        assert process is not None
        process.send_signal(number)

    # ------------------------------------------------------------------------------------------------- the customers

    async def customers_come(self, evening: asyncio.Event) -> None:
        """Until the evening, whatever breaks; whoever came stays until their part is played."""
        number = 0
        async with asyncio.TaskGroup() as group:
            while not evening.is_set():
                number += 1
                group.create_task(self._one_comes(number))
                await asyncio.sleep(1 / CASES_PER_S)

    async def more_come(self, count: int) -> None:
        """Until that many more cases came in."""
        wanted = len(self.opened) + count

        async def enough() -> bool:
            return len(self.opened) >= wanted

        await until(enough, LIMIT_S, POLL_S)

    async def _one_comes(self, number: int) -> None:
        random = Random(number)
        priority = random.choice(("urgent", "high", "normal", "low"))
        body = ORDER | {"priority": priority, "customer": {"external_id": f"crm-{number}"}}
        asked = time.monotonic()
        case_id = (await self.ask("intake", "POST", "/v1/cases", body, f"{number}"))["case_id"]
        self.opened[case_id] = self._between(asked, time.monotonic())
        for n in range(random.randint(1, 5)):
            await asyncio.sleep(random.uniform(0.1, 3.0))
            path, act = random.choice(ACTS)
            late = {"occurred_at": await self._a_moment_ago(random)} if random.random() < 0.2 else {}
            await self.ask("intake", "POST", f"/v1/cases/{case_id}{path}", act | late, f"{number}-{n}")

    async def _a_moment_ago(self, random: Random) -> str:
        """By the database's clock, whatever it shows."""

        async def shown() -> datetime | None:
            try:
                async with self.connected() as conn:
                    now: datetime = await conn.fetchval("select clock_timestamp()")
                    return now
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                return None

        now = await until(shown, LIMIT_S, POLL_S)
        assert now is not None
        return (now - timedelta(seconds=random.uniform(0, 5))).isoformat()

    async def ask(self, service: str, method: str, path: str, body: object, key: str) -> dict[str, Any]:
        """Until it is answered, under one key; a move that is illegal by now is refused, which is an answer too."""

        async def answered() -> httpx.Response | None:
            headers = {"Idempotency-Key": key} if method == "POST" else {}
            try:
                url = f"{self.serving[service].url}{path}"
                answer = await self.client.request(method, url, json=body, headers=headers)
            except httpx.TransportError:
                return None
            return None if answer.status_code >= 500 or answer.status_code == 429 else answer

        answer = await until(answered, LIMIT_S, POLL_S)
        assert answer is not None
        assert answer.is_success or answer.status_code in (409, 422), answer.text
        said: dict[str, Any] = answer.json()
        return said
