"""The sender: takes effects that are due, one lease per row, sends them, and tries again until somebody takes them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

import asyncpg
import structlog

from events import effects
from events.database import Connection, Database
from events.effects import Outgoing
from events.failpoint import at as failpoint
from events.store import PASSING
from services.runtime.post import SEND_WITHIN_S, Mail, NotSent, Post, Webhook

TOGETHER = 8
"""Effects one process sends at once: a slow receiver holds up no other."""

FORGET_EVERY_S = 600.0
STOP_WITHIN_S = 5.0

log_ = structlog.get_logger("effects")


@dataclass(frozen=True)
class Later:
    """It is not to be sent before `until`."""

    until: datetime


Delivery = Mail | Webhook | Later | None
"""What an effect comes to when it is due; None: nobody wants it any more."""


@dataclass(frozen=True)
class Patience:
    """How long the sender tries. Pauses double from the first to the longest, each cut by up to half at random."""

    tries: int = 20
    first_s: float = 5.0
    longest_s: float = 3600.0
    lease_s: float = 3 * SEND_WITHIN_S
    """When a row whose sender is silent is taken by another: longer than a send can last."""
    poll_s: float = 0.5

    def pause(self, attempts: int) -> timedelta | None:
        """How long to wait after so many tries; None: no longer."""
        if attempts >= self.tries:
            return None
        longest_s: float = min(self.longest_s, self.first_s * 2 ** min(attempts - 1, 30))
        return timedelta(seconds=longest_s * random.uniform(0.5, 1.0))


class Sender:
    """Sends the effects of one service. Any number of processes may run one; a row is with one of them at a time."""

    def __init__(
        self,
        database: Database,
        deliver: Callable[[Connection, Outgoing, datetime], Awaitable[Delivery]],
        post: Post,
        patience: Patience = Patience(),
    ) -> None:
        self.database, self.deliver, self.post, self.patience = database, deliver, post, patience
        self.worker = str(uuid4())
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send until cancelled; then what is on its way has a moment to arrive."""
        forget_at = 0.0
        loop = asyncio.get_running_loop()
        try:
            while True:
                begun = 0
                try:
                    begun = await self._begin()
                    if loop.time() > forget_at:
                        await self._forget()
                        forget_at = loop.time() + FORGET_EVERY_S
                except (asyncpg.PostgresError, *PASSING) as error:
                    log_.info("effects wait", service=self.database.service, why=f"{type(error).__name__}: {error}")
                if not begun:
                    await self._wait()
        finally:
            try:
                if self._sending:
                    await asyncio.wait(self._sending, timeout=STOP_WITHIN_S)
            finally:
                for task in self._sending:
                    task.cancel()
                await self.post.close()

    async def _wait(self) -> None:
        """A moment, or less if a place becomes free while all are taken."""
        if len(self._sending) < TOGETHER:
            await asyncio.sleep(self.patience.poll_s)
        else:
            await asyncio.wait(self._sending, timeout=self.patience.poll_s, return_when=asyncio.FIRST_COMPLETED)

    async def _forget(self) -> None:
        async with self.database.writers.acquire() as conn:
            await effects.forget(conn)

    async def _begin(self) -> int:
        """Take what is due, as much as there are places, and begin to send it."""
        free = TOGETHER - len(self._sending)
        if not free:
            return 0
        begun: list[tuple[Outgoing, Mail | Webhook]] = []
        async with self.database.writers.acquire() as conn, conn.transaction():
            now: datetime = await conn.fetchval("select clock_timestamp()")
            for outgoing in await effects.due(conn, free):
                what = await self.deliver(conn, outgoing, now)
                match what:
                    case None:
                        await effects.drop(conn, outgoing.effect.id, "nobody wants it any more")
                    case Later(until):
                        await effects.postpone(conn, outgoing.effect.id, until)
                    case _:
                        lease = timedelta(seconds=self.patience.lease_s)
                        await effects.begin(conn, outgoing.effect.id, self.worker, lease)
                        begun.append((outgoing, what))
        for outgoing, what in begun:
            task = asyncio.create_task(self._send(outgoing, what), name=f"effect {outgoing.effect.id}")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return len(begun)

    async def _send(self, outgoing: Outgoing, what: Mail | Webhook) -> None:
        """Send one and note what came of it. Where even that fails, it is sent again when the lease has run out."""
        effect_id = outgoing.effect.id
        try:
            try:
                await self.post.send(effect_id, outgoing.created_at, what)
            except NotSent as error:
                await self._failed(outgoing, error)
                return
            except Exception as error:  # noqa: BLE001 — one message that cannot be sent must not end the sending of others
                await self._failed(outgoing, NotSent(f"it cannot be sent: {type(error).__name__}", unsure=True))
                return
            failpoint("effects.before_sent")
            async with self.database.writers.acquire() as conn:
                if not await effects.sent(conn, effect_id, self.worker):
                    log_.warning("an effect took longer than its lease", id=effect_id)
        except (asyncpg.PostgresError, *PASSING) as error:
            log_.info("an effect is not noted as sent", id=effect_id, why=type(error).__name__)

    async def _failed(self, outgoing: Outgoing, error: NotSent) -> None:
        effect_id, tries = outgoing.effect.id, outgoing.attempts + 1
        again = None if error.for_good else self.patience.pause(tries)
        log_.info("an effect was not sent", id=effect_id, tries=tries, why=error.why, dead=again is None)
        async with self.database.writers.acquire() as conn:
            await effects.failed(conn, effect_id, self.worker, error.why, again, error.unsure)
