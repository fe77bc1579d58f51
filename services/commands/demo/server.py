"""The Casewalk the demo plays on: `casewalk up` in a process of its own, on a directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

from services.commands.terminal import CommandFailed, ExitCode

START_LIMIT_S = 120.0
STOP_LIMIT_S = 30.0
POLL_S = 0.1


@dataclass(frozen=True)
class Server:
    """A running `casewalk up`."""

    url: str
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def admin_key(self) -> str:
        return (self.directory / "admin.key").read_text().strip()

    @classmethod
    @contextmanager
    def running(cls, directory: Path, port: int, kafka: str | None) -> Iterator[Self]:
        """Start it, wait until its doors are open, and stop it at the end. Raises CommandFailed with its last words."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [sys.executable, "-m", "services", "up", f"--port={port}", f"--data={directory}"]
        environment = os.environ | ({"CASEWALK_KAFKA": kafka} if kafka else {})
        with (directory / "server.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment)
        try:
            server = cls(f"http://127.0.0.1:{port}", directory, process)
            server._wait_until_ready()
            yield server
        finally:
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        with httpx.Client(base_url=self.url) as client:
            while not self._is_ready(client):
                if self.process.poll() is not None:
                    raise CommandFailed(f"Casewalk did not start: {self._last_words()}", ExitCode.UNREACHABLE)
                if time.monotonic() > deadline:
                    why = f"was not ready after {START_LIMIT_S:.0f} s: {self._last_words()}"
                    raise CommandFailed(f"Casewalk {why}", ExitCode.UNREACHABLE)
                time.sleep(POLL_S)

    @staticmethod
    def _is_ready(client: httpx.Client) -> bool:
        try:
            return client.get("/health/ready").is_success
        except httpx.TransportError:
            return False

    def _last_words(self) -> str:
        lines = (self.directory / "server.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:]) or "it said nothing"


@contextmanager
def broker(directory: Path) -> Iterator[str]:
    """Bootstrap servers of a Kafka that runs until the end. Raises CommandFailed, saying how to get what is missing."""
    from services.runtime.broker import Broker, BrokerUnavailable  # with all of the wiring, which the others can spare

    try:
        with Broker.start(directory) as running:
            yield running.bootstrap
    except BrokerUnavailable as error:
        raise CommandFailed(str(error), ExitCode.UNREACHABLE) from error
