"""Which time zone data is reckoned with: that of the `tzdata` wheel, so that every machine reckons the same times."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import tzdata

SYSTEM = Path("/usr/share/zoneinfo/tzdata.zi")
"""Where a system says which version it has; its first line is `# version 2026f`."""


@cache
def tzdata_version() -> str:
    """Which version of the IANA database is reckoned with, such as `2026f`."""
    return str(tzdata.IANA_VERSION)


def difference(system: Path = SYSTEM) -> str | None:
    """A sentence if the system's zones are another version than ours; None if they are the same or it has none."""
    try:
        with system.open(encoding="ascii", errors="replace") as file:
            has = file.readline().removeprefix("# version").strip()
    except OSError:
        return None
    if has == tzdata_version():
        return None
    return (
        f"the system's time zones are {has or 'of an unknown version'}, Casewalk reckons with {tzdata_version()};"
        " other programs on this machine may show other times"
    )
