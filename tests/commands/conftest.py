"""A Casewalk that runs as people run it, in a process of its own, and the command line beside it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.__main__ import main
from tests.until import until

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 100.0

AUTHORITIES = ssl.create_default_context()
"""For every client: to read them takes 50 ms, and whoever waits for a server asks often."""


@dataclass(frozen=True)
class Ended:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def command(*arguments: str, cwd: Path = ROOT, limit_s: float = LIMIT_S, **variables: str) -> Ended:
    """Run `casewalk …` with these `CASEWALK_*` variables and no others."""
    process = await asyncio.create_subprocess_exec(
        *started(arguments),
        cwd=cwd,
        env=environment(variables),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(limit_s):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def called(*arguments: str, **variables: str) -> Ended:
    """The same in this process, which saves a second of imports; for commands that only ask and print."""

    def call() -> Ended:
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
            for name, value in environment(variables).items():
                patch.setenv(name, value)
            for name in set(os.environ) - set(environment(variables)):
                patch.delenv(name)
            with pytest.raises(SystemExit) as ended:
                main(arguments)
        return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    return await asyncio.to_thread(call)


def started(arguments: tuple[str, ...]) -> tuple[str, ...]:
    return (sys.executable, "-m", "services", *arguments)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CASEWALK_")}
    return inherited | {"PYTHONPATH": f"{ROOT}:{ROOT / 'libs'}"} | dict(variables)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Up:
    """A running `casewalk up`."""

    url: str
    directory: Path
    process: asyncio.subprocess.Process

    @property
    def key(self) -> str:
        return (self.directory / "admin.key").read_text().strip()

    async def command(self, *arguments: str, **variables: str) -> Ended:
        """A command beside it, which finds it by the environment."""
        found = {"CASEWALK_URL": self.url, "CASEWALK_DATA_DIR": str(self.directory)}
        return await called(*arguments, **(found | variables))

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        """For what no command does."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30, verify=AUTHORITIES)

    async def end(self) -> int:
        """Tell it to stop, and wait until it has; its exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(LIMIT_S):
            return await self.process.wait()


@asynccontextmanager
async def running(directory: Path, *options: str, cwd: Path = ROOT, **variables: str) -> AsyncIterator[Up]:
    """`casewalk up` on the directory, ready; stopped in order at the end. Its output is `up.log` there."""
    directory.mkdir(exist_ok=True)
    port = free_port()
    with (directory / "up.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *started(("up", f"--port={port}", f"--data={directory}", *options)),
            cwd=cwd,
            env=environment(variables),
            stdout=log,
            stderr=log,
        )
    up = Up(f"http://127.0.0.1:{port}", directory, process)
    try:
        await until(lambda: _ready(up), limit_s=LIMIT_S, poll_s=0.1)
        yield up
    finally:
        await up.end()


async def _ready(up: Up) -> bool:
    assert up.process.returncode is None, (up.directory / "up.log").read_text()
    try:
        async with httpx.AsyncClient(verify=AUTHORITIES) as client:
            return (await client.get(f"{up.url}/health/ready")).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
async def up() -> AsyncIterator[Up]:
    """One for all tests of a module, on PostgreSQL of its own."""
    # Not under pytest's own directory: the next run of pytest would close that to the server's user.
    with tempfile.TemporaryDirectory(prefix="casewalk-") as directory:
        async with running(Path(directory)) as up:
            yield up
