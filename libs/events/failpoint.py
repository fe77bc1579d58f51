"""Named places where a test may crash the process, as a kill -9 would; otherwise they cost one comparison."""

from __future__ import annotations

import os
import signal

_left: dict[str, int] = {}
"""A place, and how many times from now it is reached until the process dies there."""


def arm(text: str) -> None:
    """`name` or `name:n`, several with commas between them: die the n-th time from now that the place is reached, at
    whichever comes first; an empty text disarms."""
    _left.clear()
    for name, _, count in (part.partition(":") for part in text.split(",") if part):
        _left[name] = int(count or 1)


def dies(name: str) -> bool:
    """Whether `at` would die there now."""
    return _left.get(name, 0) == 1


def at(name: str) -> None:
    """Die here with SIGKILL if the test said so."""
    if name in _left:
        _left[name] -= 1
        if _left[name] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("CASEWALK_FAILPOINT", ""))
