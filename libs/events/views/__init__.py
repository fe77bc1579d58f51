"""Views: one row per subject, folded from its events; live, rebuilt and verified by the same fold.

To add one: a frozen dataclass for the row (its first field is the subject), a pure `fold(row, event) -> row`, and a
`View` that names the event types it reads. Change the fold or the types, and the version goes up by one.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from events.event import Event, Recorded
from events.views.fingerprint import fingerprint

R = TypeVar("R")

TEXT = sa.Text(collation="C")


@dataclass(frozen=True)
class View(Generic[R]):
    """A table derived from events of one topic: one row per subject.

    `row` is a frozen dataclass whose first field is the subject and whose fields are str, int, bool, date, datetime,
    Decimal, a StrEnum, a tuple of str or of int, or None of these; nothing else can be compared bit by bit. `fold` gets
    the row so far (None at first) and returns the next (None: there is no row). An `inline` view folds only the
    service's own events, in the transaction that appends them.
    """

    name: str
    version: int
    row: type[R]
    reads: tuple[type[Event], ...]
    fold: Callable[[R | None, Recorded[Any]], R | None]
    inline: bool = False
    indexes: tuple[str, ...] = ()
    """Column lists such as `market, opened_at`."""

    @functools.cached_property
    def topic(self) -> str:
        (topic,) = {event.TOPIC for event in self.reads}
        return topic

    @functools.cached_property
    def types(self) -> frozenset[str]:
        return frozenset(event.TYPE for event in self.reads)

    @functools.cached_property
    def columns(self) -> dict[str, sa.types.TypeEngine[Any]]:
        """Column name → SQL type, in the order of the row's fields."""
        hints = typing.get_type_hints(self.row)
        return {f.name: _sql_type(hints[f.name]) for f in dataclasses.fields(self.row)}  # type: ignore[arg-type]

    @functools.cached_property
    def subject(self) -> str:
        """The name of the subject's column."""
        return next(iter(self.columns))

    @functools.cached_property
    def decoders(self) -> tuple[Callable[[Any], Any] | None, ...]:
        """What turns a stored value back into the row's own type, per column; None where it is that already."""
        hints = typing.get_type_hints(self.row)
        return tuple(_decoder(hints[name]) for name in self.columns)

    def decode(self, values: Iterable[Any]) -> R:
        """A stored row as the row class."""
        return self.row(*(v if d is None or v is None else d(v) for d, v in zip(self.decoders, values, strict=True)))

    @functools.cached_property
    def table(self) -> sa.TableClause:
        """The view as SQLAlchemy Core sees it: `select(VIEW.table).where(VIEW.table.c.market == "de")`."""
        return sa.table(self.name, *(sa.column(name, kind) for name, kind in self.columns.items()))

    @functools.cached_property
    def all_rows(self) -> sa.Select[Any]:
        """One statement, so that it is compiled once."""
        return sa.select(self.table)

    @functools.cached_property
    def declaration(self) -> str:
        """A fingerprint of what the view is: columns, types read, and what the fold does."""
        columns = {name: str(kind) for name, kind in self.columns.items()}
        return fingerprint(self.fold, self.topic, sorted(self.types), columns, self.inline)


_SQL: dict[type, sa.types.TypeEngine[Any]] = {
    str: TEXT,
    int: sa.BigInteger(),
    bool: sa.Boolean(),
    date: sa.Date(),
    datetime: sa.DateTime(timezone=True),
    Decimal: sa.Numeric(),
}


def _plain(hint: Any) -> Any:
    """The type without `| None`."""
    if isinstance(hint, types.UnionType):
        (hint,) = [arg for arg in typing.get_args(hint) if arg is not type(None)]
    return hint


def _decoder(hint: Any) -> Callable[[Any], Any] | None:
    hint = _plain(hint)
    if typing.get_origin(hint) is tuple:
        return tuple
    return hint if isinstance(hint, type) and issubclass(hint, StrEnum) else None


def _sql_type(hint: Any) -> sa.types.TypeEngine[Any]:
    hint = _plain(hint)
    if typing.get_origin(hint) is tuple:
        return postgresql.ARRAY(_SQL[typing.get_args(hint)[0]])
    return TEXT if isinstance(hint, type) and issubclass(hint, StrEnum) else _SQL[hint]
