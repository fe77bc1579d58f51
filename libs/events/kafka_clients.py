"""How a Kafka client is started and closed: whatever its own start and stop do, in a bounded time, and to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

STOP_WITHIN_S = 4.0
CUT_WITHIN_S = 1.0
"""For each part that a stop has left: it has little more to do than to cancel its task."""

AWAY = (KafkaError, OSError, RuntimeError)
"""What a client raises whose broker is away: RuntimeError where it writes to a connection that uvloop has closed
already (aiokafka #1038)."""

log_ = structlog.get_logger("kafka")

_closing: set[asyncio.Task[None]] = set()
"""What nobody waits for any more: a loop holds its tasks weakly, and one that is collected closes nothing."""


async def start(client: AIOKafkaConsumer | AIOKafkaProducer, limit_s: float) -> None:
    """Start it, or raise and leave nothing behind. Cancelled in the middle, aiokafka's start leaves a connection that
    no client knows any more; so it goes on when the caller is cancelled, and is closed then."""
    starting = asyncio.create_task(client.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        _to_the_end(_close_when_started(starting, client, limit_s))
        raise
    except BaseException:
        await close(client, limit_s)
        raise


async def _close_when_started(
    starting: asyncio.Task[None], client: AIOKafkaConsumer | AIOKafkaProducer, limit_s: float
) -> None:
    await within(asyncio.shield(starting), limit_s)
    starting.cancel()
    await _close_parts(client, limit_s)


async def close(client: AIOKafkaConsumer | AIOKafkaProducer, limit_s: float) -> None:
    """Stop it, to the end also when the caller is cancelled meanwhile."""
    await asyncio.shield(_to_the_end(_close_parts(client, limit_s)))


def _to_the_end(closing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(closing)
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    return task


async def _close_parts(client: AIOKafkaConsumer | AIOKafkaProducer, limit_s: float) -> None:
    """A stop that was cut short, or broke off, leaves parts behind: connections, and a sender at work for ever with
    what another relay may have sent by now."""
    await within(client.stop(), limit_s)
    for name in ("_sender", "_fetcher", "client", "_client"):
        part = getattr(client, name, None)
        if part is not None:
            await within(part.close(), min(limit_s, CUT_WITHIN_S))


@asynccontextmanager
async def answering(client: AIOKafkaConsumer | AIOKafkaAdminClient, limit_s: float) -> AsyncIterator[None]:
    """What the client is asked in the block is answered in time, or TimeoutError is raised and its connections are
    broken, so that it makes new ones. aiokafka breaks them itself when a request runs out of its own time, but not when
    whoever waits for the answer gives up first; then it would ask again and again where nobody is at the other end."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        for connection in list(client._client._conns.values()):
            connection.close()
        raise


async def within(closing: Awaitable[None], limit_s: float) -> None:
    """Close, but not for ever: aiokafka's stop can hang while a broker is away. It can also raise CancelledError, of
    tasks of its own it cancelled; here that would end a reader or relay which nobody cancelled."""
    task = asyncio.ensure_future(closing)
    try:
        await asyncio.wait([task], timeout=limit_s)
    finally:
        in_time = task.done()
        task.cancel()
    if not in_time:
        await asyncio.wait([task], timeout=1)
        log_.warning("a Kafka client did not close in time and is cut off")
    elif not task.cancelled() and (error := task.exception()) is not None:
        log_.warning("a Kafka client did not close well", why=f"{type(error).__name__}: {error}")
