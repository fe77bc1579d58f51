"""Named places where a test may crash the process, as a kill -9 would; otherwise they cost one comparison."""

from __future__ import annotations

import os
import signal

_left: dict[str, int] = {}
"""The place, and how many times from now it is reached until the process dies there."""


def arm(text: str) -> None:
    """`name` or `name:n`: die the n-th time from now that the place is reached; an empty text disarms."""
    name, _, count = text.partition(":")
    _left.clear()
    if name:
        _left[name] = int(count or 1)


def at(name: str) -> None:
    """Die here with SIGKILL if the test said so."""
    if name in _left:
        _left[name] -= 1
        if _left[name] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("CASEWALK_FAILPOINT", ""))
