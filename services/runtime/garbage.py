"""Garbage collection: seldom, because what comes and goes here are trees of events and rows, which free themselves."""

from __future__ import annotations

import gc

YOUNG = 50_000
"""Objects made and not freed before the young ones are looked at; Python's own 700 look at the whole program's objects
so often that importing, replaying and testing took a quarter to a half longer."""


def collect_seldom() -> None:
    """From now on, in this process and in those forked from it."""
    gc.set_threshold(YOUNG, 20, 100)
