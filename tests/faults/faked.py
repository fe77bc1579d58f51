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
            "TZ": "UTC",  # of the time at which it stands still
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
        await until(partial(_is_off_by, url, offset), limit_s=60, poll_s=0.2)

    async def stop(self, url: str) -> None:
        """At the second that it shows; returns when the server's clock stands still."""
        stands_at = (await _shown(url)).replace(microsecond=0)
        self.file.write_text(f"{stands_at:%Y-%m-%d %H:%M:%S}\n")
        await until(partial(_stands_at, url, stands_at), limit_s=60, poll_s=0.2)


async def _shown(url: str) -> datetime:
    connection = await asyncpg.connect(url)
    try:
        shown: datetime = await connection.fetchval("select clock_timestamp()")
    finally:
        await connection.close()
    return shown


async def _is_off_by(url: str, offset: timedelta) -> bool:
    asked_at = datetime.now(UTC)
    shown = await _shown(url)
    return asked_at - CLOSE < shown - offset < datetime.now(UTC) + CLOSE


async def _stands_at(url: str, moment: datetime) -> bool:
    return await _shown(url) == moment
