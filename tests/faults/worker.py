"""A warm parent and its workers: `python -m tests.faults.worker` imports everything once, with failpoints in it, and
forks a Casewalk for every order on standard input.

    {"port": …, "database_url": …, …}    start one; answered by `started <pid>`, and `ended <status>` when it is gone

With `"warm": true` the parent is the worker itself, until it is told to stop: what that life compiled, all that are
forked later find. While it runs, the worker reads standard input itself:

    arm <point>:<n>,…    die at whichever of these comes first; the last word is `dies <point>`
    count                answered by `passed {point: times}`, which is also its last word if it ends in order
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.faults import points

points.install()

import uvloop  # noqa: E402 — the modules with points are imported after they were named

from events import failpoint  # noqa: E402
from events.case import CaseOpened  # noqa: E402
from events.event import Recorded  # noqa: E402
from events.views import View  # noqa: E402
from services.every import SERVICES  # noqa: E402
from services.intake.api import imports  # noqa: E402
from services.metrics.service import SERVICE as METRICS  # noqa: E402
from services.process import collect_seldom  # noqa: E402
from services.runtime import Settings, serve  # noqa: E402

POISON = "xx"
"""The market whose cases the picky view does not bear at first."""

_ANSWERS = os.dup(1)
os.dup2(2, 1)  # whatever logs say goes elsewhere

BEARS_AFTER_S = 1.0

_met: dict[str, float] = {}
"""Case of poison → when this process met it first."""


@dataclass(frozen=True)
class Picked:
    case_id: str
    market: str


def pick(row: Picked | None, event: Recorded[Any]) -> Picked:
    """Does not bear a case from the market of poison for a second: it is parked meanwhile."""
    if event.data.market == POISON and os.environ["PICKY"] == "1":
        now = time.monotonic()
        if now - _met.setdefault(event.subject, now) < BEARS_AFTER_S:
            raise ValueError(f"{event.subject} is too much for this view")
    return Picked(event.subject, event.data.market)


PICKED = View("picked", 1, Picked, (CaseOpened,), pick)


def run(order: dict[str, Any]) -> None:
    """A Casewalk until it is told to stop, or until it dies."""
    os.environ["PICKY"] = str(int(order.pop("picky")))  # a global would be part of what the view declares
    names, port = order.pop("services"), order.pop("port")
    points.last_words[:] = [lambda point: say(f"dies {point}")]
    points.passed.clear()
    failpoint.arm(order.pop("arm"))
    services = [replace(s, views=(*s.views, PICKED)) if s is METRICS else s for s in SERVICES if s.name in names]
    order["data_dir"] = Path(order["data_dir"])
    settings = Settings(master_key=b"k" * 32, **order)

    async def until_stopped() -> None:
        asyncio.get_running_loop().add_reader(0, listen)
        await serve(services, settings, "127.0.0.1", port)

    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again once the doors are shut
    uvloop.run(until_stopped())
    say_passed()


def listen() -> None:
    """One line of standard input."""
    what, _, argument = read_line().partition(" ")
    if not what:  # whoever gives the orders is gone
        os._exit(1)
    if what == "arm":
        failpoint.arm(argument)
    else:
        say_passed()


def say_passed() -> None:
    say(f"passed {json.dumps(points.passed)}")


def read_line() -> str:
    """Not a byte more than the line: the rest may be for whoever reads next."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"\n", b""):
        line += byte
    return line.decode()


def say(text: str) -> None:
    os.write(_ANSWERS, f"{text}\n".encode())


def main() -> None:
    """Fork a worker per order; one at a time."""
    collect_seldom()
    imports.BESIDE_LIVE = 3  # the rows of one case, so that a chunk of the load is recorded in portions
    gc.freeze()
    say("warm")
    while line := read_line():
        order = json.loads(line)
        if order.pop("warm"):
            say(f"started {os.getpid()}")
            run(order)
            gc.collect()
            gc.freeze()
            status = 0
        elif (pid := os.fork()) == 0:
            run(order)
            os._exit(0)
        else:
            say(f"started {pid}")
            _, status = os.waitpid(pid, 0)
        os.set_blocking(0, True)  # the worker's loop had it otherwise, and it is the same open file
        say(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    sys.exit(main())
