"""What is personal or secret is found nowhere in clear: not in tables, topics, logs, metrics, feeds or error texts.

Every personal field of every event is written once with a mark; then everything the system keeps and says is searched.
"""

from __future__ import annotations

import json
import logging
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import structlog
from aiokafka import AIOKafkaConsumer

from events.event import CASES, OPERATIONS, Event
from events.kafka_tail import MARKS
from events.operations import PartnerRegistered
from events.personal import personal_fields
from events.wire import VOCABULARY
from services.every import SERVICES
from tests.casewalk import ADMIN_KEY, Casewalk, casewalk
from tests.conftest import Engine
from tests.events.receivers import MailServer, Receiver, receiving, taking_mail
from tests.until import until

MARK = "Zq7Marked"
"""In every personal text of the story, and in no word of ours."""

NO_DOOR_TAKES = {(PartnerRegistered, "contact")}


@dataclass
class Story:
    """What happened, and what was said about it."""

    world: Casewalk
    secrets: list[str] = field(default_factory=list)
    answers: list[httpx.Response] = field(default_factory=list)
    logged: list[Any] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Any = None, once: str | None = None) -> Any:
        async def answered() -> httpx.Response | None:
            headers = {} if once is None else {"Idempotency-Key": once}
            answer = await self.world.admin.request(method, path, json=body, headers=headers)
            return None if answer.status_code in (404, 409) else answer  # not heard of yet

        answer = await until(answered)
        assert answer.is_success, answer.text
        return answer.json()

    async def told(self, mails: MailServer, receiver: Receiver) -> None:
        """A day on which every personal text is written."""
        await self.ask("PUT", "/v1/units/care", {"name": "Care", "kind": "front_end"})
        await self.ask("PUT", "/v1/queues/care", {"name": "Care", "unit_id": "care"})
        agent = {"name": f"{MARK} Åkesson", "unit_ids": ["care"], "skills": {}, "capacity": 5}
        await self.ask("PUT", "/v1/agents/ana", agent)
        await self.ask("POST", "/v1/agents/ana:presence", {"presence": "available"})
        await self.ask("PUT", "/v1/routing-tables/main", {"rules": [{"rule": "all", "queue_id": "care"}]})
        for channel, address in (
            ("email", f"{MARK}@shop.example"),
            ("email", f"{MARK}-refused@shop.example"),
            ("webhook", receiver.url.replace("127.0.0.1", "localhost") + f"/{MARK}?token={MARK}"),
            ("webhook", f"http://127.0.0.1:9/{MARK}"),
        ):
            order = {"events": ["escalated"], "channel": channel, "address": address}
            notice = await self.ask("PUT", f"/v1/notices/n{len(self.secrets)}", order)
            self.secrets.append(notice["secret"] or ADMIN_KEY)
        key = await self.ask("POST", "/v1/keys", {"role": "partner", "label": "x", "holder": "nordfix"})
        self.secrets += [key["secret"], ADMIN_KEY]
        await self._contact()

    async def _contact(self) -> None:
        customer = {"external_id": f"{MARK}-42", "name": f"{MARK} Ünal", "email": f"{MARK}@customer.example"}
        case = {"channel": "email", "market": "de", "language": "de", "journey": "delivery", "customer": customer}
        texts = {"subject": f"Where is {MARK}?", "body": f"I am {MARK}\nand my card is {MARK}"}
        opened = await self.ask("POST", "/v1/cases", case | texts, "once")
        at = f"/v1/cases/{opened['case_id']}"
        detail = await self.ask("GET", at)
        assert detail["body"] == texts["body"]
        await self.ask("POST", f"{at}/messages", {"direction": "in", "body": f"{MARK}?"}, "twice")
        await self.ask("POST", "/v1/cases", case | texts | {"to": detail["address"], "external_id": "again"})
        await self.ask("POST", f"{at}/messages", {"direction": "out", "body": f"Dear {MARK}"})
        note = {"direction": "out", "visibility": "internal", "body": f"{MARK} is angry"}
        await self.ask("POST", f"{at}/messages", note)
        await self.ask("POST", "/v1/escalations", {"case_id": opened["case_id"], "reason": "promised twice"})

    async def refused(self) -> None:
        """Bad requests of every kind, each with a mark in it."""
        admin, wrong = self.world.admin, {"Content-Type": "application/json"}
        bodies = (
            {"subject": {MARK: MARK}}, {f"{MARK}@shop.example": 1}, {"customer": MARK}, {"priority": MARK},
            {"channel": f"{MARK} {MARK}", "occurred_at": MARK, "customer": {"name": [MARK], f"{MARK} x": MARK}},
            [MARK], MARK,
        )  # fmt: skip
        for path in ("/v1/cases", f"/v1/cases/{secrets.token_hex(4)}/messages", "/v1/keys", "/v1/escalations"):
            for body in bodies:
                self.answers.append(await admin.post(path, json=body))
            self.answers.append(await admin.post(path, content=f'{{"body": {MARK}'.encode(), headers=wrong))
            self.answers.append(await admin.post(path, content=MARK, headers={"Content-Type": MARK}))
            for header in ("If-Match", "Idempotency-Key", "Casewalk-After", "Authorization"):
                self.answers.append(await admin.post(path, json={}, headers={header: f"Bearer {MARK} {MARK}"}))
        for query in ("cursor", "limit", "category", "after", "market"):
            self.answers.append(await admin.get("/v1/cases", params={query: f"{MARK} \x00"}))
        self.answers.append(await admin.post("/v1/imports", params={"profile": MARK}, content=MARK))
        assert {answer.status_code for answer in self.answers} <= {400, 401, 404, 415, 422}


# ----------------------------------------------------------------------------------------------- where it is looked for


def spellings(text: str) -> Iterator[bytes]:
    """The text as it stands, as PostgreSQL prints bytes, and in base64 wherever in the bytes it begins."""
    plain = text.encode()
    yield from (plain, plain.hex().encode())
    for before in range(3):
        # What the neighbours have no part in: whole groups of three bytes.
        start, whole = (-before) % 3, plain[(-before) % 3 :]
        yield b64encode(whole[: len(whole) // 3 * 3]) if start == 0 or whole else plain


def found(places: dict[str, bytes], needles: list[str]) -> list[str]:
    return [name for name, told in places.items() for needle in needles if any(s in told for s in spellings(needle))]


async def tables(dsn: str) -> dict[str, bytes]:
    """Every row of every table of the database, as text."""
    connection, told = await asyncpg.connect(dsn), {}
    try:
        for schema, table in await connection.fetch(
            "select table_schema, table_name from information_schema.tables"
            " where table_schema not in ('pg_catalog', 'information_schema') and table_type = 'BASE TABLE'"
        ):
            rows = await connection.fetch(f'select t::text as row from "{schema}"."{table}" t')
            told[f"table {schema}.{table}"] = "\n".join(row["row"] for row in rows).encode()
    finally:
        await connection.close()
    return told


async def topics(world: Casewalk, engine: Engine) -> dict[str, bytes]:
    """Every byte of every record; embedded, the log is among the tables."""
    if engine.kafka is None:
        return {}
    names = [engine.namespace + topic for topic in (CASES, OPERATIONS, MARKS)]
    consumer = AIOKafkaConsumer(*names, bootstrap_servers=engine.kafka, auto_offset_reset="earliest")
    await consumer.start()
    told = dict.fromkeys((f"topic {name}" for name in names), b"")
    try:
        left = {tp: end for tp, end in (await consumer.end_offsets(list(consumer.assignment()))).items() if end}
        while left:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                for record in records:
                    parts = (record.key or b"", record.value or b"", repr(record.headers).encode())
                    told[f"topic {tp.topic}"] += b"\n".join(parts)
                if records[-1].offset + 1 >= left.get(tp, 0):
                    left.pop(tp, None)
    finally:
        await consumer.stop()
    return told


async def said(story: Story) -> dict[str, bytes]:
    """What others are told: error texts, metrics, feeds, and every list as a reader sees it."""
    reader = await story.world.key("reader")
    told = {f"answer {n} {a.request.method} {a.request.url.path}": _whole(a) for n, a in enumerate(story.answers)}
    cases = (await reader.get("/v1/cases")).json()["items"]
    for path in ("/metrics", "/health/ready", "/v1/cases", f"/v1/cases/{cases[0]['case_id']}", "/v1/events", "/v1/work",
                 "/v1/escalations", "/v1/figures", f"/v1/walks/{cases[0]['case_id']}", "/v1/units"):  # fmt: skip
        answer = await reader.get(path)
        assert answer.status_code == 200, answer.text
        told[f"reader {path}"] = _whole(answer)
    for path in (
        "/v1/keys",
        "/v1/notices",
        "/v1/ops/escalation/effects",
        *(f"/v1/ops/{s.name}/parked" for s in SERVICES),
    ):
        told[f"admin {path}"] = _whole(await story.world.admin.get(path))
    told["logs"] = repr(story.logged).encode()
    return told


def _whole(answer: httpx.Response) -> bytes:
    return repr(answer.headers).encode() + answer.content


@pytest.fixture
async def story(engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Story]:
    caplog.set_level(logging.WARNING)  # what is written without a setting of the operator's
    with structlog.testing.capture_logs() as logged:
        async with taking_mail() as mails, receiving() as receiver:
            mails.refuses.add(f"{MARK}-refused@shop.example")
            more = {"smtp_url": mails.url, "mail_from": "casewalk@shop.example", "webhooks_private": True}
            async with casewalk(engine, tmp_path, SERVICES, **more) as world:
                story = Story(world)
                await story.told(mails, receiver)
                await story.refused()
                await world.settled()
                await until(lambda: _tried(world), limit_s=30)
                story.logged += [logged, [record.getMessage() for record in caplog.records]]
                yield story


async def _tried(world: Casewalk) -> bool:
    """Every notice was sent, or it was said why not."""
    rows = await world.hosts["escalation"].database.readers.fetch("select state, error from effect")
    return len(rows) == 4 and all(row["state"] == "sent" or row["error"] for row in rows)


async def test_personal_texts_and_secrets_are_in_clear_nowhere(story: Story, engine: Engine) -> None:
    assert await never_written(story) == NO_DOOR_TAKES
    places = await tables(engine.dsn) | await topics(story.world, engine) | await said(story)
    assert all(any(place.startswith(kind) for place in places) for kind in ("table", "reader", "answer", "logs"))
    assert engine.kafka is None or all(places[f"topic {engine.namespace}{topic}"] for topic in (CASES, OPERATIONS))
    assert found(places, [MARK, MARK.lower(), *story.secrets, (b"k" * 32).hex()]) == []


async def never_written(story: Story) -> set[tuple[type[Event], str]]:
    """The personal fields of events that the story has no text for."""
    missing = {(event, name) for event in VOCABULARY.classes.values() for name in personal_fields(event)}
    for host in story.world.hosts.values():
        for row in await host.database.readers.fetch("select type, data::text from events"):
            event, data = VOCABULARY.classes[row["type"]], json.loads(row["data"])
            missing -= {(event, name) for name in personal_fields(event) if data.get(name) is not None}
    return missing
