"""A PostgreSQL whose clock can be moved while it runs, by libfaketime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg

from tests.until import until

CLOSE = timedelta(seconds=1)
"""The server reads the file again after a second."""


@dataclass(frozen=True)
class Clock:
    """How far the server's clock is from the machine's is said in `file`."""

    file: Path

    @classmethod
    def at(cls, directory: Path, offset: timedelta) -> Clock:
        """That far ahead; in a directory that the server's user can read."""
        clock = cls(directory / "offset")
        clock.set(offset)
        clock.file.chmod(0o644)
        return clock

    @property
    def variables(self) -> Mapping[str, str]:
        """For the server's environment. Only what time it is, is faked; how long something takes is not."""
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        assert found, "moving a clock needs libfaketime; on Debian: apt-get install libfaketime"
        return {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: timedelta) -> None:
        """To this distance from the machine's clock, within a second."""
        self.file.write_text(f"{int(offset.total_seconds()):+d}\n")

    async def move(self, url: str, offset: timedelta) -> None:
        """To this distance from the machine's clock; returns when the server's clock shows it."""
        self.set(offset)
        await until(partial(_shows, url, offset), limit_s=60, poll_s=0.2)


async def _shows(url: str, offset: timedelta) -> bool:
    connection = await asyncpg.connect(url)
    try:
        asked_at = datetime.now(UTC)
        shown: datetime = await connection.fetchval("select clock_timestamp()")
    finally:
        await connection.close()
    return asked_at - CLOSE < shown - offset < datetime.now(UTC) + CLOSE
