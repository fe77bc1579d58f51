"""A view's rows in PostgreSQL: which table is the active one, and how rows get in and out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, Generic, TypeVar

import asyncpg
from sqlalchemy.dialects import postgresql

from events.database import Connection
from events.errors import CasewalkError
from events.event import Recorded
from events.views import View
from events.wire import partition_of

R = TypeVar("R")

TABLES = """
create table if not exists {schema}.view (
    name        text collate "C" primary key,
    version     integer not null,
    declaration text not null,
    types       text[] not null,
    build       integer not null,
    table_name  text not null
);
create table if not exists {schema}.history (
    topic          text collate "C" not null,
    subject        text collate "C" not null,
    key            text collate "C" not null,
    source         text collate "C" not null,
    sequence       bigint not null,
    id             uuid not null,
    type           text collate "C" not null,
    occurred_at    timestamptz not null,
    recorded_at    timestamptz not null,
    actor          text collate "C" not null,
    correlation_id uuid not null,
    causation_id   uuid,
    traceparent    text collate "C" not null,
    data           text not null,
    primary key (topic, subject, key)
);
create table if not exists {schema}.past (like {schema}.history including all);
"""
"""`view` says which table holds a view's active version. `history` holds every event any view of the service reads,
`past` every event that reactors of the service read and keep."""


class Outdated(CasewalkError):
    """Another version of the view is active: this process must not write it any more."""

    status, kind = 503, "outdated"


@dataclass(frozen=True, slots=True)
class Saved(Generic[R]):
    """A row with the key of the last event it holds."""

    folded_to: str
    row: R


def sort_key(event: Recorded[Any]) -> str:
    """`Recorded.key` as text that sorts the same way in any C collation."""
    occurred_at, ordinal, recorded_at, source, sequence = event.key
    return f"{_micros(occurred_at):017d}.{ordinal:010d}.{_micros(recorded_at):017d}.{source}.{sequence:020d}"


def _micros(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond


async def hold(conn: Connection, views: Sequence[View[Any]]) -> dict[str, str]:
    """View name → active table, unchanged until the transaction ends. Raises Outdated."""
    rows = await conn.fetch(
        "select name, version, declaration, table_name from view where name = any($1) order by name for share",
        [view.name for view in views],
    )
    found = {row["name"]: row for row in rows}
    for view in views:
        row = found.get(view.name)
        if row is None or row["version"] != view.version or row["declaration"] != view.declaration:
            active = "none" if row is None else row["version"]
            raise Outdated(f"view {view.name} is active in version {active}, this program has version {view.version}")
    return {view.name: str(found[view.name]["table_name"]) for view in views}


async def create(conn: Connection, view: View[Any], table: str) -> None:
    """The view's table without its secondary indexes."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    columns = ", ".join(f"{name} {kind.compile(dialect)}" for name, kind in view.columns.items())
    await conn.execute(
        f'create table {table} ({columns}, partition smallint not null, folded_to text collate "C" not null,'
        f" primary key ({view.subject}))"
    )


async def index(conn: Connection, view: View[Any], table: str) -> None:
    """The secondary indexes, made after the rows are in, and fresh statistics."""
    for n, columns in enumerate(view.indexes):
        await conn.execute(f"create index {table}_{n} on {table} ({columns})")
    await conn.execute(f"analyze {table}")


async def load(conn: Connection, view: View[R], table: str, subjects: Sequence[str]) -> dict[str, Saved[R]]:
    """Subject → saved row, for those that have one."""
    rows = await conn.fetch(_select(view, table) + f" where {view.subject} = any($1)", subjects)
    return {row[0]: saved(view, row) for row in rows}


def saved(view: View[R], row: asyncpg.Record) -> Saved[R]:
    """A row as `select` gave it: the view's columns and then folded_to."""
    values = tuple(row)
    return Saved(values[-1], view.decode(values[:-1]))


def _select(view: View[Any], table: str) -> str:
    return f"select {', '.join(view.columns)}, folded_to from {table}"


async def save(conn: Connection, view: View[R], table: str, rows: Sequence[Saved[R]], gone: Sequence[str] = ()) -> None:
    """Write rows over what was there; take `gone` away. Sorted, so that two writers never deadlock."""
    if rows:
        names = [*view.columns, "partition", "folded_to"]
        slots = ", ".join(f"${i}" for i in range(1, len(names) + 1))
        sets = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
        await conn.executemany(
            f"insert into {table} ({', '.join(names)}) values ({slots})"
            f" on conflict ({view.subject}) do update set {sets}",
            sorted((values(row) for row in rows), key=lambda row: str(row[0])),
        )
    if gone:
        await conn.execute(f"delete from {table} where {view.subject} = any($1)", list(gone))


async def copy(conn: Connection, view: View[R], table: str, rows: Iterable[Saved[R]]) -> None:
    """Write rows into a table that has none of them yet, as fast as PostgreSQL takes them."""
    names = [*view.columns, "partition", "folded_to"]
    await conn.copy_records_to_table(table, columns=names, records=[values(row) for row in rows])


def values(item: Saved[Any]) -> tuple[Any, ...]:
    """A saved row as the table's columns."""
    kind: Any = type(item.row)
    row = _fields(kind)(item.row)
    return (*row, partition_of(row[0]), item.folded_to)


@cache
def _fields(kind: type[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """A row's fields, in their order: looked up once, for this is done for every row."""
    names = [field.name for field in dataclasses.fields(kind)]
    return attrgetter(*names) if len(names) > 1 else lambda row: (getattr(row, names[0]),)


async def activate(conn: Connection, view: View[Any], build: int, table: str) -> str | None:
    """Make `table` what the view's name reads, in the caller's transaction; answers the table it replaces."""
    before = await conn.fetchval("select table_name from view where name = $1 for update", view.name)
    await conn.execute(
        "insert into view values ($1, $2, $3, $4, $5, $6) on conflict (name) do update set version = excluded.version,"
        " declaration = excluded.declaration, types = excluded.types, build = excluded.build,"
        " table_name = excluded.table_name",
        view.name,
        view.version,
        view.declaration,
        sorted(view.types),
        build,
        table,
    )
    await conn.execute(f"drop view if exists {view.name}")
    await conn.execute(f"create view {view.name} as select {', '.join(view.columns)} from {table}")
    return None if before is None else str(before)
