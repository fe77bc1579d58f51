"""What metrics keeps: the facts of every case, one row each, and the definitions its figures follow."""

from __future__ import annotations

from dataclasses import dataclass

from events.case import CASE_EVENTS
from events.event import Recorded
from events.operations import DefinitionPublished
from events.views import View
from services.metrics.facts import CaseFacts, fold

CASE_FACTS = View(
    "case_facts",
    8,
    CaseFacts,
    CASE_EVENTS,
    fold,
    indexes=("import_id", "opened_at"),
)
"""One row per case. It reads offers too, which change nothing in it: a walk shows them."""


@dataclass(frozen=True)
class Definition:
    """The version of a definition that is in force."""

    definition: str
    """The stream's subject: `definition:<id>`."""
    version: int
    name: str
    unit: str
    formula: str
    description: str
    source: str


def fold_definition(_: Definition | None, event: Recorded[DefinitionPublished]) -> Definition:
    """The last published version."""
    data = event.data
    return Definition(event.subject, data.version, data.name, data.unit, data.formula, data.description, data.source)


DEFINITIONS = View("definitions", 1, Definition, (DefinitionPublished,), fold_definition)
