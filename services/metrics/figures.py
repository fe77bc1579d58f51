"""Figures over any cases: which are asked for, the one statement that computes them all, and its answer.

One statement, so that the figures of one answer belong together. What each figure is: `definitions.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import visitors

from events.database import later
from events.errors import Invalid
from events.views import TEXT
from services.metrics.definitions import FIGURES
from services.metrics.formulas import Column
from services.metrics.views import CASE_FACTS

Query = sa.Select[*tuple[Any, ...]]

FACTS = CASE_FACTS.table
_C = FACTS.c

NONE = "(none)"
"""The group of the cases that have no value in the dimension."""


class Dimension(StrEnum):
    """What figures can be limited to, and split by. A case counts where it stands now."""

    IMPORT = "import"
    MARKET = "market"
    LANGUAGE = "language"
    JOURNEY = "journey"
    CHANNEL = "channel"
    PRIORITY = "priority"
    TIER = "tier"
    QUEUE = "queue"
    UNIT = "unit"


class Bucket(StrEnum):
    """When the case was opened, in UTC; weeks are ISO 8601, such as `2026-W09`."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


By = Dimension | Bucket


@dataclass(frozen=True)
class Form:
    """What a question asks with, whatever the values are."""

    by: By | None
    where: tuple[Dimension, ...]
    begins: bool
    ends: bool


@dataclass(frozen=True)
class Asked:
    """Which cases, and how they are split. `from_` and `until` bound `opened_at`: from ≤ opened < until."""

    where: Mapping[Dimension, Sequence[str]] = field(default_factory=dict)
    """Any of a dimension's values, in every dimension."""
    by: By | None = None
    from_: datetime | None = None
    until: datetime | None = None

    @property
    def form(self) -> Form:
        """Questions of one form share a statement."""
        return Form(self.by, tuple(self.where), self.from_ is not None, self.until is not None)

    @property
    def values(self) -> dict[str, Any]:
        """What that statement is given."""
        bounds = {"from_": self.from_, "until": self.until}
        return dict(self.where) | {name: at for name, at in bounds.items() if at is not None}


def parse_where(conditions: Sequence[str]) -> dict[Dimension, list[str]]:
    """`["market=de", "market=at"]` → `{MARKET: ["de", "at"]}`. Raises Invalid."""
    where: dict[Dimension, list[str]] = {}
    for condition in conditions:
        name, sign, value = condition.partition("=")
        if not sign or not value or name not in list(Dimension):
            raise Invalid(f"where takes <dimension>=<value>, the dimension one of {', '.join(Dimension)}")
        where.setdefault(Dimension(name), []).append(value)
    return where


_COLUMNS: dict[Dimension, Column] = {
    Dimension.IMPORT: _C.import_id,
    Dimension.MARKET: _C.market,
    Dimension.LANGUAGE: _C.language,
    Dimension.JOURNEY: _C.journey,
    Dimension.CHANNEL: _C.channel,
    Dimension.PRIORITY: _C.priority,
    Dimension.TIER: _C.tier,
    Dimension.QUEUE: _C.queue_id,
    Dimension.UNIT: _C.unit_id,
}

# Their constants are literals: with parameters, the same expression twice is two expressions to GROUP BY.
_NEVER = sa.literal_column("'-infinity'::timestamp", sa.DateTime())
_SHOWN = {Bucket.DAY: "'YYYY-MM-DD'", Bucket.WEEK: "'IYYY-\"W\"IW'", Bucket.MONTH: "'YYYY-MM'"}


def _parts() -> dict[str, list[Column]]:
    """The parts of all figures, labelled, by how they are worked out."""
    parts: dict[str, list[Column]] = {"sums": [], "quantiles": []}
    for figure in FIGURES:
        for name, part in {**figure.parts, "n": figure.n}.items():
            sorts = any(isinstance(one, sa.WithinGroup) for one in visitors.iterate(part))
            parts["quantiles" if sorts else "sums"].append(part.label(f"{figure.id}.{name}"))
    return parts


_PARTS = _parts()


@lru_cache(maxsize=256)
def statement(form: Form) -> sa.Select[Any]:
    """One row per group with every figure's parts as `<figure>.<part>` and `<figure>.n`; one row without `by`.

    Sums, quantiles and counts of different items are worked out apart and joined: what sorts nothing PostgreSQL divides
    among its processes, and what quantiles sort is narrow. Written and compiled once a form, which takes longer than
    answering about few cases.
    """
    group = _group(form.by)
    sums, *others = [*_aggregated(form, group), *_distinct(form, group)]
    joined: sa.FromClause = sums
    for other in others:
        joined = joined.outerjoin(other, sums.c.grp == other.c.grp)
    columns = [column for one in (sums, *others) for column in one.c if column.key != "grp"]
    shown = _shown(form.by, sums.c.grp).label("grp")
    return sa.select(shown, *columns).select_from(joined).order_by(shown)


def answer(asked: Asked, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows of the question's statement as the door answers: figures by id, or `by` and `groups` of them."""
    groups = {row["grp"]: {figure.id: figure.of(row) for figure in FIGURES} for row in rows}
    return groups[""] if asked.by is None else {"by": asked.by.value, "groups": groups}


def _group(by: By | None) -> Column:
    """What groups are told apart by; never null, so that the parts of one statement can be joined by it."""
    match by:
        case None:
            return sa.literal_column("''", TEXT)
        case Dimension():
            return sa.func.coalesce(_COLUMNS[by], sa.literal_column(f"'{NONE}'"))
        case Bucket():
            return sa.func.date_trunc(sa.literal_column(f"'{by}'"), sa.func.coalesce(_C.opened_on, _NEVER))


def _shown(by: By | None, group: Column) -> Column:
    """The name of a group."""
    if not isinstance(by, Bucket):
        return group
    named = sa.func.to_char(group, sa.literal_column(_SHOWN[by]))
    return sa.case((group == _NEVER, sa.literal_column(f"'{NONE}'")), else_=named).collate("C")


def _aggregated(form: Form, group: Column) -> Iterator[sa.Subquery]:
    """The sums and the quantiles, a row per group each."""
    for name, parts in _PARTS.items():
        query = limited(form, sa.select(group.label("grp"), *parts))
        yield (query if form.by is None else query.group_by(group)).subquery(name)


def _distinct(form: Form, group: Column) -> Iterator[sa.Subquery]:
    """How many different items the arrays of a group have: few arrays differ, so those are looked for first."""
    counted = {figure.id: figure.distinct for figure in FIGURES if figure.distinct is not None}
    different = sa.select(group.label("grp"), *(array.label(name) for name, array in counted.items())).distinct()
    arrays = limited(form, different).cte("arrays")
    for name in counted:
        item = sa.func.unnest(arrays.c[name]).table_valued("item", name=f"{name}_item").render_derived()
        each = sa.select(arrays.c.grp, item.c.item).select_from(arrays.join(item, sa.true())).distinct().subquery()
        yield sa.select(each.c.grp, sa.func.count().label(f"{name}.value")).group_by(each.c.grp).subquery(name)


def limited(form: Form, query: Query) -> Query:
    """`query` over the cases that are asked for, which `Asked.values` say."""
    # A case whose only events are a clock's or a survey's so far has no walk yet.
    query = query.where(FACTS.c.steps > 0)
    for dimension in form.where:
        query = query.where(_COLUMNS[dimension] == sa.any_(later(dimension, sa.ARRAY(TEXT))))
    if form.begins:
        query = query.where(FACTS.c.opened_at >= later("from_", FACTS.c.opened_at.type))
    if form.ends:
        query = query.where(FACTS.c.opened_at < later("until", FACTS.c.opened_at.type))
    return query
