"""What every process of ours does first, before it reckons a time or makes many objects."""

from __future__ import annotations

import gc
import zoneinfo

YOUNG = 50_000
"""Objects made and not freed before the young ones are looked at; Python's own 700 look at the whole program's objects
so often that importing, replaying and testing took a quarter to a half longer."""


def only_the_wheel() -> None:
    """Take time zones from the `tzdata` wheel from now on, whatever the system or `PYTHONTZPATH` has."""
    zoneinfo.reset_tzpath(())
    zoneinfo.ZoneInfo.clear_cache()


def collect_seldom() -> None:
    """From now on, in this process and in those forked from it: what comes and goes here are trees of events and rows,
    which free themselves."""
    gc.set_threshold(YOUNG, 20, 100)
