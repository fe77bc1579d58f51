"""Load on a Casewalk, and a ledger outside it of what was answered."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from events.case import (
    CaseAssigned,
    CaseObserved,
    CaseOffered,
    CaseOpened,
    CaseQueued,
    CaseResolved,
    MessageReceived,
    OfferDeclined,
    OfferExpired,
    OfferWithdrawn,
)
from events.event import CASES
from events.kafka_log import KafkaLog
from events.postgres_log import PostgresLog
from tests.casewalk import ADMIN_KEY
from tests.conftest import Engine
from tests.events.test_log import read_all
from tests.until import until

SERVICES = ("intake", "router", "metrics")
"""They have all the parts that are broken; the others would only make starting slower."""

START_LIMIT_S = 60.0
DRAIN_LIMIT_S = 240.0
POLL_S = 0.1
"""Between two looks that cost the system something."""

AT_ONCE = 8
"""Walks that are asked for, when all is done."""

THINK_S = (0.1, 0.4)
ASK_AGAIN_S = 0.1
"""Where there was no door: more often, and two cores do nothing else while a process starts."""
POISON = 0.03
"""The share of cases that a view does not bear at first; more, and views are behind by minutes on two cores."""
AGENTS = ("ana", "ben", "cai")
CAPACITY = 5
"""Of an agent: few, because every offer that nobody takes is made again as soon as it runs out."""


@dataclass
class Promised:
    """What a case must have come to: answered requests, and what they cause exactly once."""

    point: str
    """What was being broken when the case came in."""
    types: Counter[str] = field(default_factory=Counter)
    import_id: str | None = None


class Reaching(httpx.AsyncHTTPTransport):
    """Says of a connection that is closed as soon as it is made that there was none: uvloop takes its socket away, and
    what is raised where that is looked at is no error of a transport (anyio's `SocketStream.extra`)."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except AttributeError as error:
            raise httpx.ConnectError(f"closed at once: {error}") from error


class Load:
    """Clients of a Casewalk that repeat what was not answered, and keep what was."""

    def __init__(self, engine: Engine, seed: int, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.engine = engine
        self.random = random.Random(seed)
        self.client = httpx.AsyncClient(
            transport=transport or Reaching(),
            base_url=url,
            headers={"Authorization": f"Bearer {ADMIN_KEY}"},
            timeout=20,
        )
        self.ledger: dict[str, Promised] = {}
        self.point = "none"
        self.unanswered = 0
        """Requests whose answer a fault has swallowed, and that were sent again."""
        self.refused = 0
        """Requests that were answered 502, 503 or 504, and were sent again."""
        self.unreached = 0
        """Requests that found no door, and were sent again."""
        self.think_s, self.poison = THINK_S, POISON
        self.services: Sequence[str] = SERVICES
        self._stop = asyncio.Event()
        self.odd: list[str] = []
        """What the account found of cases that do not have what was promised."""
        self._speaking: set[str] = set()
        """Cases whose customer has more to say: resolved before it is said, they would be opened again."""

    async def ready(self) -> bool:
        """Whether the doors are open."""
        try:
            return (await self.client.get("/health/ready")).is_success
        except httpx.TransportError:
            return False

    async def recovered(self, limit_s: float = START_LIMIT_S) -> None:
        """Until a new case has gone the whole way: accepted, sent, reacted to, seen by the views."""
        await until(self.ready, limit_s, POLL_S)
        case_id = await self.open_case()
        await until(partial(self._walked, case_id), limit_s, POLL_S)

    async def _walked(self, case_id: str) -> bool:
        try:
            walk = await self.client.get(f"/v1/walks/{case_id}")
        except httpx.TransportError:
            return False
        return walk.is_success and any(step["type"] == CaseQueued.TYPE for step in walk.json()["steps"])

    # ------------------------------------------------------------------------------------------------------ the load

    async def furnish(self, offer_s: int = 1) -> None:
        """Agents that are here, and so little time to answer an offer that many run out."""
        queue = {"name": "General", "unit_id": "general", "offer_s": offer_s}
        await self.ask("PUT", "/v1/queues/general", json=queue)
        for agent in AGENTS:
            await self.ask(
                "PUT", f"/v1/agents/{agent}", json={"name": agent, "unit_ids": ["general"], "capacity": CAPACITY}
            )
            await self.ask("POST", f"/v1/agents/{agent}:presence", json={"presence": "available"})

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Clients at work until the end of the block; then each finishes what it has begun."""
        self._stop.clear()
        async with asyncio.TaskGroup() as clients:
            for work in self.works():
                clients.create_task(self._again_and_again(work))
            yield
            self._stop.set()

    def works(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What each of the clients does."""
        return (self._customer, self._customer, self._customer, self._agent, self._importer, self._janitor)

    async def _again_and_again(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while not self._stop.is_set():
            await work()
            await asyncio.sleep(self.random.uniform(*self.think_s))

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Until it is answered; a creating request with a key of its own, the same in every repeat."""
        headers = more.pop("headers", {}) | ({"Idempotency-Key": str(uuid4())} if method == "POST" else {})
        while True:
            try:
                answer = await self.client.request(method, path, headers=headers, **more)
                if answer.status_code not in (429, 500, 502, 503, 504):
                    return answer
                assert answer.status_code != 500, answer.text
                self.refused += answer.status_code != 429
            except httpx.ConnectError:
                self.unreached += 1
            except httpx.TransportError:
                self.unanswered += 1
            await asyncio.sleep(ASK_AGAIN_S)

    async def open_case(self) -> str:
        point = self.point
        market = "xx" if self.random.random() < self.poison else "de"
        order = {
            "channel": "web",
            "market": market,
            "language": "de",
            "journey": "delivery",
            "subject": "Where is it?",
            "body": "It should be here.",
            "customer": {"external_id": f"c{self.random.randrange(1000)}"},
        }
        answer = await self.ask("POST", "/v1/cases", json=order)
        assert answer.status_code == 201, answer.text
        case_id: str = answer.json()["case_id"]
        assert case_id not in self.ledger, "two requests got one case"
        self.ledger[case_id] = Promised(point, Counter({CaseOpened.TYPE: 1, CaseQueued.TYPE: 1}))
        return case_id

    async def _customer(self) -> None:
        case_id = await self.open_case()
        self._speaking.add(case_id)
        message = {"direction": "in", "body": "Any news?"}
        answer = await self.ask("POST", f"/v1/cases/{case_id}/messages", json=message)
        assert answer.status_code == 201, answer.text
        self.ledger[case_id].types[MessageReceived.TYPE] += 1
        self._speaking.discard(case_id)

    async def _agent(self) -> None:
        """Accepts about every other offer and solves the case; the others run out."""
        offers = await self.ask("GET", "/v1/work", params={"status": "offered", "limit": 20})
        for offer in offers.json()["items"]:
            case_id, order = offer["case_id"], {"agent_id": offer["agent_id"], "offer_id": offer["offer_id"]}
            if self.random.random() < 0.5 or case_id in self._speaking or case_id not in self.ledger:
                continue
            answer = await self.ask("POST", f"/v1/work/{case_id}:accept", json=order)
            if answer.status_code == 409:  # it ran out meanwhile
                continue
            assert answer.is_success, answer.text
            answer = await self.ask("POST", f"/v1/cases/{case_id}:resolve", json={})
            assert answer.is_success, answer.text
            self.ledger[case_id].types += Counter({CaseAssigned.TYPE: 1, CaseResolved.TYPE: 1})

    async def _importer(self) -> None:
        """A chunk of another system's history, whose rows count once however often it is sent."""
        point, import_id = self.point, uuid4().hex
        cases = [f"{import_id}-{n}" for n in range(3)]
        rows = [
            {"case": case, "ordinal": n, "occurred_at": f"2024-03-0{n}T10:00:00Z", "category": "new", "code": "Open"}
            for case in cases
            for n in (1, 2, 3)
        ]
        answer = await self.ask(
            "POST",
            "/v1/imports",
            params={"profile": "crash", "import_id": import_id},
            content="".join(json.dumps(row) + "\n" for row in rows),
            headers={"Content-Type": "application/x-ndjson"},
        )
        assert answer.is_success, answer.text
        assert answer.json()["refused"] == 0, answer.text
        for row in answer.json()["rows"]:
            promised = self.ledger.setdefault(row["case_id"], Promised(point, import_id=import_id))
            promised.types[CaseObserved.TYPE] += 1

    async def _janitor(self) -> None:
        """Asks for every parked case to be tried again."""
        for service in self.services:
            parked = await self.ask("GET", f"/v1/ops/{service}/parked")
            for record in parked.json()["items"]:
                if not record["asked"]:
                    await self.ask("POST", f"/v1/ops/{service}/parked/{record['id']}:retry")

    # --------------------------------------------------------------------------------------------------- the account

    async def settle(self) -> None:
        """Until everybody has gone home, nothing is on its way and nothing parked any more."""
        for agent in AGENTS:
            await self.ask("POST", f"/v1/agents/{agent}:presence", json={"presence": "offline"})
        connection = await asyncpg.connect(self.engine.dsn)
        try:
            await until(partial(self._at_rest, connection), DRAIN_LIMIT_S, POLL_S)
        finally:
            await connection.close()

    async def _at_rest(self, connection: asyncpg.Connection) -> bool:
        await self._janitor()
        left = [
            await connection.fetchval(f"select (select count(*) from {s}.outbox) + (select count(*) from {s}.parked)")
            for s in self.services
        ]
        if any(left):
            return False
        ends = await self._with_log(lambda log: log.ends())
        lanes = [r for s in self.services for r in await connection.fetch(f"select * from {s}.lane")]
        return all(r["next_offset"] >= ends.get((r["topic"], r["partition"]), 0) for r in lanes)

    async def _with_log(self, ask: Callable[[Any], Any]) -> Any:
        engine = self.engine
        log = PostgresLog(engine.dsn) if engine.kafka is None else KafkaLog(engine.kafka, engine.namespace)
        await log.start()
        try:
            return await ask(log)
        finally:
            await log.stop()

    async def account(self) -> dict[str, tuple[int, int]]:
        """Point → (lost, doubled) of what was promised, as the walks tell it. Raises AssertionError where figures, the
        log or a view contradict the walks."""
        off: dict[str, tuple[int, int]] = {}
        steps = 0
        self.odd = []
        walks: list[httpx.Response] = []
        cases = list(self.ledger)
        for begin in range(0, len(cases), AT_ONCE):
            asked = cases[begin : begin + AT_ONCE]
            walks += await asyncio.gather(*(self.ask("GET", f"/v1/walks/{case_id}") for case_id in asked))
        for (case_id, promised), answer in zip(self.ledger.items(), walks, strict=True):
            lines = answer.json()["steps"] if answer.is_success else []
            steps += sum(line["kind"] == "step" for line in lines)
            found = Counter(line["type"] for line in lines)
            lost = sum((promised.types - found).values())
            doubled = sum(max(0, found[t] - n) for t, n in promised.types.items())
            doubled += found.total() - len({line["id"] for line in lines})
            if lost or doubled:
                self.odd.append(f"{case_id}: promised {dict(promised.types)}, its walk has {dict(found)}")
            before = off.get(promised.point, (0, 0))
            off[promised.point] = (before[0] + lost, before[1] + doubled)
        await self._cases_agree()
        await self._figures_agree(steps)
        await until(self._offers_are_over, DRAIN_LIMIT_S, POLL_S)
        await until(self._log_agrees, DRAIN_LIMIT_S, POLL_S)
        await self._views_agree()
        return off

    async def _cases_agree(self) -> None:
        """Every case the figures know is one that somebody was answered for, and the other way round."""
        connection = await asyncpg.connect(self.engine.dsn)
        try:
            known = {r["case_id"] for r in await connection.fetch("select case_id from metrics.case_facts")}
            odd = sorted(known ^ self.ledger.keys())
            told = [
                f"{case_id} {self.ledger.get(case_id, 'was not answered for')}: {service}: {dict(row)}"
                for case_id in odd[:5]
                for service in self.services
                for row in await connection.fetch(
                    f"select type, sequence, recorded_at, id from {service}.events where subject = $1", case_id
                )
            ]
        finally:
            await connection.close()
        assert not odd, f"{len(odd)} of {len(self.ledger)} cases: " + "\n".join([", ".join(odd[:20]), *told])

    async def _figures_agree(self, steps: int) -> None:
        figures = (await self.ask("GET", "/v1/figures")).json()
        assert figures["cases"]["value"] == len(self.ledger)
        assert figures["events"]["value"] == steps
        import_id, rows = next((p.import_id, p.types.total()) for p in self.ledger.values() if p.import_id is not None)
        figures = (await self.ask("GET", "/v1/figures", params={"where": f"import={import_id}"})).json()
        assert figures["events"]["value"] == 3 * rows

    async def _log_agrees(self) -> bool:
        """Every stream counts 1, 2, 3 …; the log holds each event that was recorded, and no other. The last offers may
        still run out meanwhile."""
        recorded: set[tuple[str, str, int, str]] = set()
        connection = await asyncpg.connect(self.engine.dsn)
        try:
            for s in self.services:
                rows = await connection.fetch(f"select topic, subject, sequence, id from {s}.events")
                recorded |= {(s, r["subject"], r["sequence"], str(r["id"])) for r in rows if r["topic"] == CASES}
                gaps = await connection.fetchval(
                    f"select count(*) from (select 1 from {s}.events group by topic, subject"
                    " having max(sequence) <> count(*)) g"
                )
                assert gaps == 0, f"{gaps} streams of {s} have gaps"
        finally:
            await connection.close()
        logged = {(r.source, r.subject, r.sequence, r.id) for r in await self._with_log(read_all) if r.topic == CASES}
        return bool(logged == recorded)

    async def _offers_are_over(self) -> bool:
        """Every offer was made once, and taken, declined, run out or withdrawn once; none waits any more."""
        connection = await asyncpg.connect(self.engine.dsn)
        try:
            rows = await connection.fetch(
                "select data::jsonb ->> 'offer_id' as offer, count(*) filter (where type = $1) as made,"
                " count(*) filter (where type <> $1) as ended from router.events where type = any($2) group by 1",
                CaseOffered.TYPE,
                [one.TYPE for one in (CaseOffered, CaseAssigned, OfferDeclined, OfferExpired, OfferWithdrawn)],
            )
        finally:
            await connection.close()
        odd = [dict(r) for r in rows if r["offer"] is not None and (r["made"] != 1 or r["ended"] > 1)]
        assert odd == [], f"{len(odd)} offers made or ended more than once: {odd[:5]}"
        return all(r["ended"] for r in rows)

    async def _views_agree(self) -> None:
        for service in self.services:
            answer = await self.ask("GET", f"/v1/ops/{service}/verify")
            last = json.loads(answer.text.splitlines()[-1])
            assert last["done"], last
            assert [v for v in last["results"] if not v["equal"]] == []
