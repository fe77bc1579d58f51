"""The arithmetic of the figures as SQL: exact in whole numbers and numeric, rounded to six places at the very end."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from services.metrics.facts import Verdict

Column = sa.ColumnElement[Any]

_DAY_US = sa.literal_column("86400000000.0", sa.Numeric())
_SECOND_US = sa.literal_column("1000000.0", sa.Numeric())
_HUNDRED = sa.literal_column("100.0", sa.Numeric())


def count(condition: Column | None = None) -> Column:
    """How many rows there are, or fulfil the condition."""
    every = sa.func.count()
    return every if condition is None else every.filter(condition)


def total(column: Column) -> Column:
    """The sum, 0 over nothing."""
    return sa.cast(sa.func.coalesce(sa.func.sum(column), 0), sa.BigInteger())


def rounded(value: Column) -> Column:
    """As it is answered."""
    return sa.func.round(sa.cast(value, sa.Numeric()), 6)


def ratio(part: Column, whole: Column) -> Column:
    """`part / whole` unrounded; null where there is nothing to divide by."""
    return sa.cast(part, sa.Numeric()) / sa.func.nullif(whole, 0)


def percent(part: Column, whole: Column) -> Column:
    """`part` of `whole`; null where there is nothing to divide by."""
    return rounded(_HUNDRED * part / sa.func.nullif(whole, 0))


def quantile(share: float, column: Column, condition: Column | None = None) -> Column:
    """The value at position share × (n − 1) of the sorted values, interpolated (Hyndman & Fan 1996, type 7), unrounded.

    PostgreSQL interpolates in double precision, which holds whole microseconds exactly up to 285 years.
    """
    value = sa.func.percentile_cont(share).within_group(column)
    return sa.cast(value if condition is None else value.filter(condition), sa.Numeric())


def days(us: Column) -> Column:
    """Microseconds as days."""
    return rounded(us / _DAY_US)


def seconds(us: Column) -> Column:
    """Microseconds as seconds."""
    return rounded(us / _SECOND_US)


def answers(column: Column, among: Column | None = None) -> dict[str, Column]:
    """How many rows say `yes`, how many yes or no (`known`), and how many `unknown`."""
    told = {"yes": (Verdict.YES,), "known": (Verdict.YES, Verdict.NO), "unknown": (Verdict.UNKNOWN,)}
    conditions = {name: column.in_(verdicts) for name, verdicts in told.items()}
    return {name: count(c if among is None else sa.and_(among, c)) for name, c in conditions.items()}
