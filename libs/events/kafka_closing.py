"""How a Kafka client is closed: whatever its own stop does, within a bounded time, and to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

log_ = structlog.get_logger("kafka")

_closing: set[asyncio.Task[None]] = set()


async def close(client: AIOKafkaConsumer | AIOKafkaProducer, limit_s: float) -> None:
    """Stop it, to the end also when the caller is cancelled meanwhile."""
    task = asyncio.create_task(_close_parts(client, limit_s))
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    await asyncio.shield(task)


async def _close_parts(client: AIOKafkaConsumer | AIOKafkaProducer, limit_s: float) -> None:
    """A stop that was cut short, or broke off, leaves parts behind: connections, and a sender at work for ever with
    what another relay may have sent by now."""
    await within(client.stop(), limit_s)
    for name in ("_sender", "_fetcher", "client", "_client"):
        part = getattr(client, name, None)
        if part is not None:
            await within(part.close(), limit_s)


async def within(closing: Coroutine[Any, Any, None], limit_s: float) -> None:
    """Close, but not for ever: aiokafka's stop can hang while a broker is away. It can also raise CancelledError, of
    tasks of its own it cancelled; here that would end a reader or relay which nobody cancelled."""
    task = asyncio.create_task(closing)
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
