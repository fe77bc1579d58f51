"""The streams of definitions. There is nothing to decide yet: every definition is built in."""

from __future__ import annotations

from events.event import OPERATIONS, Recorded
from events.operations import DefinitionPublished
from events.store import Fold


def _evolve(_: int, event: Recorded[DefinitionPublished]) -> int:
    return event.data.version


DEFINITION: Fold[int] = Fold(OPERATIONS, lambda subject: 0, _evolve)
"""A definition's stream, `definition:<id>`; the state is the version in force, 0 before there is one."""
