"""Named places where a test may crash the process, as a kill -9 would; otherwise they cost one comparison."""

from __future__ import annotations

import os
import signal

_ARMED = os.environ.get("CASEWALK_FAILPOINT", "")
"""`name` or `name:n`: die the n-th time the place is reached."""

_NAME, _, _COUNT = _ARMED.partition(":")
_left = [int(_COUNT or 1)]


def at(name: str) -> None:
    """Die here with SIGKILL if the test said so."""
    if name == _NAME:
        _left[0] -= 1
        if _left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
