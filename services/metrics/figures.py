"""Figures over any cases: which are asked for, the one statement that computes them all, and its answer.

One statement, so that the figures of one answer belong together. What each figure is: `definitions.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

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
class Asked:
    """Which cases, and how they are split. `from_` and `until` bound `opened_at`: from ≤ opened < until."""

    where: Mapping[Dimension, Sequence[str]] = field(default_factory=dict)
    """Any of a dimension's values, in every dimension."""
    by: By | None = None
    from_: datetime | None = None
    until: datetime | None = None


def parse_where(conditions: Sequence[str]) -> dict[Dimension, list[str]]:
    """`["market=de", "market=at"]` → `{MARKET: ["de", "at"]}`. Raises Invalid."""
    where: dict[Dimension, list[str]] = {}
    for condition in conditions:
        name, sign, value = condition.partition("=")
        if not sign or not value or name not in list(Dimension):
            raise Invalid(f"where takes <dimension>=<value>, the dimension one of {', '.join(Dimension)}")
        where.setdefault(Dimension(name), []).append(value)
    return where


_COLUMNS: dict[By, Column] = {
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
_OPENED_UTC = sa.func.timezone(sa.literal_column("'UTC'"), _C.opened_at)
_COLUMNS |= {
    Bucket.DAY: sa.func.to_char(_OPENED_UTC, sa.literal_column("'YYYY-MM-DD'")),
    Bucket.WEEK: sa.func.to_char(_OPENED_UTC, sa.literal_column("'IYYY-\"W\"IW'")),
    Bucket.MONTH: sa.func.to_char(_OPENED_UTC, sa.literal_column("'YYYY-MM'")),
}


def statement(asked: Asked) -> sa.Select[Any]:
    """One row per group with every figure's parts as `<figure>.<part>` and `<figure>.n`; one row without `by`."""
    group = _group(asked.by)
    facts = _aggregated(asked, group)
    joined: sa.FromClause = facts
    counts = []
    for figure in FIGURES:
        if figure.distinct is not None:
            items = _distinct(asked, group, figure.distinct, figure.id)
            joined = joined.outerjoin(items, facts.c.grp == items.c.grp)
            counts.append(sa.func.coalesce(items.c.value, 0).label(f"{figure.id}.value"))
    return sa.select(*facts.c, *counts).select_from(joined).order_by(facts.c.grp)


def answer(asked: Asked, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows of `statement(asked)` as the door answers: figures by id, or `by` and `groups` of them."""
    groups = {row["grp"]: {figure.id: figure.of(row) for figure in FIGURES} for row in rows}
    return groups[""] if asked.by is None else {"by": asked.by.value, "groups": groups}


def _group(by: By | None) -> Column:
    """What groups are told apart by; never null, so that the parts of one statement can be joined by it."""
    if by is None:
        return sa.literal_column("''", TEXT)
    return sa.func.coalesce(_COLUMNS[by], sa.literal_column(f"'{NONE}'"))


def _aggregated(asked: Asked, group: Column) -> sa.Subquery:
    parts = [
        part.label(f"{figure.id}.{name}")
        for figure in FIGURES
        for name, part in {**figure.parts, "n": figure.n}.items()
    ]
    return _grouped(asked, group, sa.select(group.label("grp"), *parts)).subquery("facts")


def _distinct(asked: Asked, group: Column, array: Column, name: str) -> sa.Subquery:
    """How many different items the arrays of a group have: few arrays differ, so those are looked for first."""
    arrays = limited(asked, sa.select(group.label("grp"), array.label("items")).distinct()).subquery(f"{name}_arrays")
    item = sa.func.unnest(arrays.c["items"]).table_valued("item", name=f"{name}_item").render_derived()
    items = sa.select(arrays.c.grp, item.c.item).select_from(arrays.join(item, sa.true())).distinct()
    each = items.subquery(f"{name}_items")
    return sa.select(each.c.grp, sa.func.count().label("value")).group_by(each.c.grp).subquery(name)


def _grouped(asked: Asked, group: Column, query: Query) -> Query:
    query = limited(asked, query)
    return query if asked.by is None else query.group_by(group)


def limited(asked: Asked, query: Query) -> Query:
    """`query` over the cases that are asked for."""
    # A case whose only events are a clock's or a survey's so far has no walk yet.
    query = query.where(FACTS.c.steps > 0)
    for dimension, values in asked.where.items():
        query = query.where(_COLUMNS[dimension].in_(values))
    if asked.from_ is not None:
        query = query.where(FACTS.c.opened_at >= asked.from_)
    if asked.until is not None:
        query = query.where(FACTS.c.opened_at < asked.until)
    return query
