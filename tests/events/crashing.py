"""The toy services in a process of their own, told what to do on standard input; tests kill it."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

from events.errors import Refused
from services.runtime import Settings, running
from tests.events.toy import CASE, INTAKE, ROUTER, offer, open_case


async def main(dsn: str, kafka: str, namespace: str, directory: str) -> None:
    settings = Settings(
        database_url=dsn,
        kafka=kafka or None,
        data_dir=Path(directory),
        master_key=b"m" * 32,
        open=True,
        namespace=namespace,
    )
    async with running((INTAKE, ROUTER), settings) as app:
        hosts = app.state.hosts
        say("ready")
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
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


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
