"""The routing table: from what is known about a case to one queue, with the rule that decided and why."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from events.case import CaseOpened, CaseTakenOver, Priority
from events.errors import Invalid
from events.operations import RoutingRule, When

TABLE_ID = "main"

_RULES = TypeAdapter(tuple[RoutingRule, ...])


@dataclass(frozen=True, slots=True)
class Facts:
    """What routing looks at. None: not known, which only a rule without that condition accepts."""

    channel: str | None
    market: str | None
    language: str | None
    journey: str | None
    priority: Priority

    @classmethod
    def of(cls, came: CaseOpened | CaseTakenOver) -> Facts:
        """The facts a case came with."""
        return cls(came.channel, came.market, came.language, came.journey, came.priority)


@dataclass(frozen=True, slots=True)
class Routed:
    """Where a case goes: the queue, the rule, the table as id@version, and a sentence that explains it."""

    queue_id: str
    rule: str
    table: str

    @property
    def why(self) -> str:
        return f"rule {self.rule} of {self.table}"[:200]


@dataclass(frozen=True, slots=True)
class Table:
    """One published version."""

    version: int
    rules: tuple[RoutingRule, ...]

    @property
    def ref(self) -> str:
        return f"{TABLE_ID}@{self.version}"

    @property
    def default(self) -> RoutingRule:
        """The last rule, which takes every case."""
        return self.rules[-1]

    def route(self, facts: Facts) -> Routed:
        """The first rule whose condition holds; there always is one."""
        rule = next((rule for rule in self.rules if holds(rule.when, facts)), self.default)
        return Routed(rule.queue_id, rule.rule, self.ref)


def holds(when: When, facts: Facts) -> bool:
    """True if every non-empty field of the condition contains the case's value."""
    return (
        (not when.channels or facts.channel in when.channels)
        and (not when.markets or facts.market in when.markets)
        and (not when.languages or facts.language in when.languages)
        and (not when.journeys or facts.journey in when.journeys)
        and (not when.priorities or facts.priority in when.priorities)
    )


def check(rules: Sequence[RoutingRule], queue_ids: frozenset[str]) -> None:
    """Raises Invalid unless every case finds exactly one queue that exists, by a rule that can be named."""
    if rules[-1].when != When():
        raise Invalid(f"the last rule, {rules[-1].rule}, has a condition; it must take every case the others leave")
    named: set[str] = set()
    for rule in rules:
        if rule.rule in named:
            raise Invalid(f"two rules are called {rule.rule}; events name the rule that decided")
        if rule.queue_id not in queue_ids:
            raise Invalid(f"rule {rule.rule} leads to the queue {rule.queue_id}, which does not exist")
        named.add(rule.rule)


def written(rules: Sequence[RoutingRule]) -> str:
    """The rules as JSON text, for a column."""
    return _RULES.dump_json(tuple(rules)).decode()


@functools.lru_cache(maxsize=8)
def read(version: int, text: str) -> Table:
    """The table whose rules `written` gave. Kept, because every case asks for the same few versions."""
    return Table(version, _RULES.validate_json(text))
