"""A service as data, and the host that runs it: database, store, relay, consumers, duties."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from fastapi import APIRouter

from events import effects, lanes, parking, privacy, relay, store
from events.consume import Consumer, Reacting, Reactor
from events.database import Connection, Database
from events.effects import EffectState, Noticing, Notifier, Outgoing
from events.errors import Busy, Stale, Unavailable
from events.event import CASES, Event, Recorded, named
from events.kafka_security import KafkaSecurity
from events.log import Log
from events.privacy import Keyring
from events.recovery import Erasures, Recovery
from events.relay import Relay
from events.store import Store, Stream, parse_position
from events.timers import Timers
from events.views import View, project, rows
from events.views.project import Projector
from events.views.replay import Replay
from events.wire import VOCABULARY
from services.runtime.effects import Delivery, Patience, Sender
from services.runtime.post import MailServer, Post
from services.web.access import KEYS
from services.web.tokens import Issuer, Tokens

TABLES = "".join(part.TABLES for part in (store, relay, lanes, parking, rows, privacy, effects))

STOP_WITHIN_S = 10.0
RELEASE_WITHIN_S = 2.0
READ_OWN_WRITE_S = 2.0
IMPORT_WAIT_S = 2.0
UNSENT_LIMIT_S = 0.2
BEHIND_LIMIT_S = 0.5
ANSWERS_KEPT = timedelta(hours=48)
FORGET_EVERY_S = 600.0

log_ = structlog.get_logger("host")


@dataclass(frozen=True)
class BuiltIn:
    """A configuration version that exists from the first start, published once under a deterministic id."""

    stream: Stream[Any]
    event: Event


@dataclass(frozen=True)
class Service:
    """What one service is made of."""

    name: str
    sentence: str
    paths: tuple[str, ...]
    """First path segments after /v1 that are this service's, such as `cases`."""
    doors: Callable[[Host], APIRouter]
    views: tuple[View[Any], ...] = ()
    """Projected from the log. Every service gets `services.web.access.KEYS` beside them."""
    inline: tuple[View[Any], ...] = ()
    reactors: tuple[Reactor, ...] = ()
    timers: tuple[Timers, ...] = ()
    notifiers: tuple[Notifier, ...] = ()
    deliver: Callable[[Host, Connection, Outgoing, datetime], Awaitable[Delivery]] | None = None
    """What an effect that is due comes to now: who is told, where, in which words."""
    built_in: tuple[BuiltIn, ...] = ()
    first_start: Callable[[Host], Awaitable[None]] | None = None
    """Runs at every start before the doors open; makes what only a first start makes."""
    erasures: Erasures = field(default_factory=dict)
    """Events by which a person was forgotten, and whom their subject names: a restored service forgets them again."""
    duties: tuple[Callable[[Host], Awaitable[None]], ...] = ()
    """Loops that run beside the doors until cancelled: the router's matching is one."""
    warnings: Callable[[Connection], Awaitable[Sequence[str]]] | None = None
    """Sentences for the health page about what keeps nothing from working and is worth a look."""


@dataclass(frozen=True)
class Settings:
    """How a host runs."""

    database_url: str
    kafka: str | None = None
    """Bootstrap servers; none for the log in PostgreSQL."""
    kafka_security: KafkaSecurity = field(default_factory=KafkaSecurity)
    data_dir: Path = Path("casewalk-data")
    master_key: bytes = field(default=b"", repr=False)
    """32 bytes; whoever loses it loses every personal text."""
    open: bool = False
    """No keys asked for; on loopback only."""
    admin_key: str | None = field(default=None, repr=False)
    oidc: Issuer | None = None
    """Whose bearer tokens are taken beside keys."""
    namespace: str = ""
    """Prefix of topic names, so that tests can share one broker."""
    smtp_url: str | None = field(default=None, repr=False)
    """`smtp://user:password@host:port`, or `smtps://…`; none: mails wait for one."""
    mail_from: str | None = None
    webhooks_private: bool = False
    """Webhooks may go to this machine and to private networks."""
    patience: Patience = field(default_factory=Patience)
    lease_s: float = lanes.LEASE_S
    """How long a process that died keeps its lanes from the others."""


class Host:
    """One running service: its database, store, consumers, relay and doors."""

    def __init__(self, service: Service, settings: Settings, database: Database, log: Log) -> None:
        self.service, self.settings, self.database, self.log = service, settings, database, log
        self.keyring = Keyring(settings.master_key)
        self.tokens = None if settings.oidc is None else Tokens(settings.oidc, self.keyring.pseudonym)
        self.store = Store(database, self.keyring, service.inline, VOCABULARY)
        self.projector = Projector((KEYS, *service.views), VOCABULARY)
        self.views_consumer = Consumer(
            f"{service.name}.views", database, log, self.projector, VOCABULARY, lease_s=settings.lease_s
        )
        self.reactor = Consumer(
            f"{service.name}.reactor",
            database,
            log,
            Noticing(Reacting(self.store, service.reactors), service.notifiers),
            VOCABULARY,
            self.store,
            service.timers,
            settings.lease_s,
        )
        consumers = (self.views_consumer.name, self.reactor.name)
        self.recovery = Recovery(self.store, log, consumers, service.erasures)
        self.relay = Relay(self.store, log, self.recovery)
        self.replay = Replay(database, log, self.projector, service.inline, self.views_consumer.name)
        self.died: str | None = None
        """Which part of the host ended, and why; then it is not ready any more."""
        self.part_ended = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, service: Service, settings: Settings, log: Log) -> Host:
        """A host with its database at hand; nothing runs yet."""
        tables = TABLES.format(schema=service.name, privacy=f"{service.name}_privacy")
        return cls(service, settings, await Database.open(settings.database_url, service.name, tables), log)

    async def start(self) -> None:
        """Bring store and log together, build or check the views, publish what is built in, and run every part."""
        async with self.database.writers.acquire() as conn:
            for consumer in (self.views_consumer, self.reactor):
                await lanes.prepare(conn, consumer.name)
        await self.recovery.run(adopt=True)
        await self.replay.prepare()
        self._run("store", self.store.run())
        for built_in in self.service.built_in:
            await self._publish(built_in)
        if self.service.first_start is not None:
            await self.service.first_start(self)
        self._run("relay", self.relay.run())
        self._run("views", self._consume(self.views_consumer))
        self._run("reactor", self._consume(self.reactor))
        self._run("cleaner", self._forget_old_answers())
        if self.service.deliver is not None:
            self._run("sender", self._sender(self.service.deliver).run())
        for duty in self.service.duties:
            self._run(getattr(duty, "__name__", "duty"), _coroutine(duty(self)))

    async def stop(self) -> None:
        """Stop every part and give the leases back, so that another process takes over at once."""
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + STOP_WITHIN_S
        while running := [task for task in self._tasks if not task.done()]:
            if asyncio.get_running_loop().time() > deadline:
                log_.error("parts of the host do not stop", parts=[task.get_name() for task in running])
                break
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=1)
        await asyncio.wait(
            [asyncio.create_task(self._release(self.views_consumer, self.reactor))], timeout=RELEASE_WITHIN_S
        )
        if self.tokens is not None:
            await self.tokens.stop()
        await self.database.close()

    async def _release(self, *consumers: Consumer) -> None:
        """Or, where the database is away, leave the leases to run out."""
        with suppress(asyncpg.PostgresError, *store.PASSING):
            for consumer in consumers:
                await consumer.release()

    # ------------------------------------------------------------------------------------------------- for the doors

    async def wait_for(self, position: str) -> None:
        """Until this service has read as far as `position`; at most 2 s. Raises Invalid, Unavailable."""
        source, topic, subject, sequence = parse_position(position)
        deadline = asyncio.get_running_loop().time() + READ_OWN_WRITE_S
        while sequence > await self._read_up_to(source, topic, subject):
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise Unavailable(f"{self.service.name} has not read this position yet; try again")
            await _notified(self.views_consumer.moved, min(left_s, 0.05))

    async def history(self, case_id: str) -> list[Recorded[Any]]:
        """Every event about the case that a view of this service reads, in the order of `Recorded.key`."""
        async with self.database.readers.acquire() as conn:
            return (await project.history(conn, CASES, [case_id], VOCABULARY))[case_id]

    async def import_gate(self) -> None:
        """Wait until live work is served: the outbox young, every reactor close behind. Raises Busy after 2 s."""
        deadline = asyncio.get_running_loop().time() + IMPORT_WAIT_S
        while (why := await self._too_busy()) is not None:
            if asyncio.get_running_loop().time() > deadline:
                raise Busy(f"live work goes first: {why}", retry_after_s=1)
            await asyncio.sleep(0.02)

    async def ready(self) -> str | None:
        """None when the doors may open, else why not."""
        stuck = self.died or self.views_consumer.failing or self.reactor.failing
        if stuck is not None:
            return stuck
        if not self.settings.open and await self.database.readers.fetchval("select count(*) from keys") == 0:
            return "no key has arrived yet"
        return None

    async def given_up(self) -> int:
        """How many effects were tried for so long that somebody has to look."""
        async with self.database.readers.acquire() as conn:
            return (await effects.states(conn))[EffectState.DEAD]

    async def warnings(self) -> Sequence[str]:
        """What the log and the service warn of."""
        if self.service.warnings is None:
            return self.log.warnings()
        async with self.database.readers.acquire() as conn:
            return [*self.log.warnings(), *await self.service.warnings(conn)]

    # ----------------------------------------------------------------------------------------------------- inside

    def _sender(self, deliver: Callable[[Host, Connection, Outgoing, datetime], Awaitable[Delivery]]) -> Sender:
        settings = self.settings
        server = None if settings.smtp_url is None else MailServer.at(settings.smtp_url)
        post = Post(server, settings.mail_from, settings.webhooks_private)
        return Sender(self.database, partial(deliver, self), post, settings.patience)

    async def _read_up_to(self, source: str, topic: str, subject: str) -> int:
        """The stream's last sequence that both consumers have handled: the views show it, the reactor did its part."""
        sequence = await self.database.readers.fetchval(
            "select case when count(*) = 2 then min(sequence) end from seen"
            " where source = $1 and topic = $2 and subject = $3 and consumer = any($4)",
            source,
            topic,
            subject,
            [self.views_consumer.name, self.reactor.name],
        )
        return int(sequence or 0)

    async def _consume(self, consumer: Consumer) -> None:
        """Consume until a newer version of the program has taken over. Then its processes do that, and this one keeps
        its doors open until it is stopped: the newer one's may not be open yet."""
        await consumer.run()
        await self._release(consumer)
        await asyncio.Event().wait()

    async def _too_busy(self) -> str | None:
        unsent_s = await self.database.readers.fetchval(
            "select extract(epoch from clock_timestamp() - min(recorded_at))::float8 from outbox"
        )
        if unsent_s is not None and unsent_s > UNSENT_LIMIT_S:
            return f"{unsent_s:.1f} s of events wait to be sent"
        now = datetime.now(UTC)
        for behind in await self.log.progress(".reactor"):
            behind_s = (now - behind.handled_at).total_seconds()
            if behind_s > BEHIND_LIMIT_S:
                return f"{behind.consumer} is {behind_s:.1f} s behind"
        return None

    async def _publish(self, built_in: BuiltIn) -> None:
        def first(now: datetime, state: Any) -> list[store.New]:
            return [store.New(built_in.event, id=event_id)]

        event_id = named(f"built-in/{self.service.name}/{built_in.stream.subject}")
        _, version = await self.store.state(built_in.stream)
        if version == 0:
            with suppress(Stale):
                await self.store.change(
                    built_in.stream, decision=first, actor=f"service:{self.service.name}", expected=0
                )

    async def _forget_old_answers(self) -> None:
        while True:
            try:
                await self.database.writers.execute(
                    "delete from once where created_at < clock_timestamp() - $1::interval", ANSWERS_KEPT
                )
            except (asyncpg.PostgresError, *store.PASSING) as error:
                log_.info("old answers are kept for now", service=self.service.name, why=f"{type(error).__name__}")
            await asyncio.sleep(FORGET_EVERY_S)

    def _run(self, name: str, work: Any) -> None:
        task = asyncio.create_task(work, name=f"{self.service.name} {name}")
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and self._stopping:
            return
        error = None if task.cancelled() else task.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        self.died = f"{task.get_name()} ended: {type(error).__name__ if error else 'by itself'} {error or ''}".strip()
        self.part_ended.set()
        log_.error("a part of the host ended", part=task.get_name(), exc_info=error)


async def _coroutine(work: Awaitable[None]) -> None:
    await work


async def _notified(condition: asyncio.Condition, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s), condition:
            await condition.wait()
    except TimeoutError:
        return
