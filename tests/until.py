"""Wait for a condition, never for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

LONGEST_POLL_S = 0.05
LONGER = 1.2
"""Each wait between two looks is so much longer than the one before: looking keeps what is waited for from its work."""


async def until(condition: Callable[[], Awaitable[T]], limit_s: float = 15.0, poll_s: float = 0.01) -> T:
    """What `condition` answers once it is true. Fails with its last answer after `limit_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while True:
        answer = await condition()
        if answer:
            return answer
        if loop.time() > deadline:
            raise AssertionError(f"not within {limit_s} s; the last answer was {answer!r}")
        await asyncio.sleep(poll_s)
        poll_s = max(poll_s, min(LONGER * poll_s, LONGEST_POLL_S))
