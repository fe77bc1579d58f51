"""The toy services in processes of their own, told what to do on standard input; tests kill them.

A warm parent has imported everything and forks one per order, `{"dsn": …, "kafka": …, "directory": …, "failpoint": …}`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from datetime import timedelta
from functools import partial
from pathlib import Path

from events import failpoint
from events.errors import Refused
from services.process import collect_seldom
from services.runtime import Settings, running
from tests.events.toy import CASE, INTAKE, ROUTER, offer, open_case


async def serve(dsn: str, kafka: str | None, namespace: str, directory: str) -> None:
    settings = Settings(
        database_url=dsn,
        kafka=kafka,
        data_dir=Path(directory),
        master_key=b"m" * 32,
        open=True,
        namespace=namespace,
    )
    async with running((INTAKE, ROUTER), settings) as app:
        hosts = app.state.hosts
        say("ready")
        while line := await asyncio.to_thread(read_line):
            what, case_id = line.split()
            try:
                if what == "open":
                    await hosts["intake"].store.change(CASE(case_id), decision=open_case, actor="key:t")
                else:
                    decision = partial(offer, timedelta(0))
                    await hosts["router"].store.change(CASE(case_id), decision=decision, actor="key:t")
            except Refused:
                pass  # it was done before the crash
            say(f"done {case_id}")


def read_line() -> str:
    """Not a byte more than the line: the next one may be for the next process."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"\n", b""):
        line += byte
    return line.decode()


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def main() -> None:
    """Fork a process per order, one at a time: `started <pid>`, and `ended <exit code>` when it is gone."""
    collect_seldom()
    gc.freeze()
    while line := read_line():
        if not line.startswith("{"):
            continue  # it was for one that died before it could read it
        pid = os.fork()
        if pid == 0:
            order = json.loads(line)
            failpoint.arm(order.pop("failpoint"))
            asyncio.run(serve(**order))
            os._exit(0)
        say(f"started {pid}")
        _, status = os.waitpid(pid, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
