"""One service's PostgreSQL: its schemas, two small pools, and SQLAlchemy Core statements run on asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]

CLOSE_WITHIN_S = 5.0

ANSWER_WITHIN_S = 30.0
"""For any statement but those of a rebuild, a verification or a recovery, which are `PATIENT`. Who waits longer has a
dead line: no packet says so where the other end is gone without a word, and asyncpg by itself waits for ever."""

TRANSACTION_WITHIN_S = 60.0
"""For any transaction but those. A client that stops between two messages of one statement counts as active, and no
other limit ends it: what it has locked would stay locked for as long as it hangs."""

SETUP_LOCK = 0x6361736577616C6B

_SAME_EVERYWHERE = 10_000
"""Types below this number are PostgreSQL's own, and the same in every database (postgresql.org, System Catalog Initial
Data, OID assignment)."""


PATIENT = {
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "0",
}


class Database:
    """Connections of one service: at most six that write, four that read, one for its relay, one spare.

    Writers are named `casewalk:<service>:write`, which is how a relay sees that an append is still open. Inside,
    every name resolves in the service's own schemas and nowhere else.
    """

    def __init__(self, dsn: str, service: str, writers: asyncpg.Pool, readers: asyncpg.Pool) -> None:
        self.dsn, self.service, self.writers, self.readers = dsn, service, writers, readers

    @classmethod
    async def open(cls, dsn: str, service: str, tables: str) -> Database:
        """Connect and make sure that the service's schemas and durable tables exist."""
        writers = await pool(dsn, service, "write", 6)
        try:
            async with writers.acquire() as conn, conn.transaction():
                await conn.execute("select pg_advisory_xact_lock($1)", SETUP_LOCK)
                await conn.execute(
                    f"create schema if not exists {service}; create schema if not exists {service}_privacy"
                )
                await conn.execute(tables)
            return cls(dsn, service, writers, await pool(dsn, service, "read", 4))
        except BaseException:
            await close(writers)
            raise

    async def close(self) -> None:
        """Close both pools; what is not given back within 5 s is cut."""
        await asyncio.gather(close(self.writers), close(self.readers))

    async def rows(self, statement: sa.Select[Any], **values: Any) -> list[asyncpg.Record]:
        """The rows of a SQLAlchemy Core select; `values` are what comes `later`."""
        sql, args = compiled(statement, **values)
        rows: list[asyncpg.Record] = await self.readers.fetch(sql, *args)
        return rows

    async def row(self, statement: sa.Select[Any]) -> asyncpg.Record | None:
        """The first row of a select, or None."""
        sql, args = compiled(statement)
        return await self.readers.fetchrow(sql, *args)


async def fetch(conn: Connection, statement: sa.Select[Any], **values: Any) -> list[asyncpg.Record]:
    """The rows of a Core select on a connection that is in a transaction already; `values` are what comes `later`."""
    sql, args = compiled(statement, **values)
    rows: list[asyncpg.Record] = await conn.fetch(sql, *args)
    return rows


async def insert(
    conn: Connection, table: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]], otherwise: str = ""
) -> None:
    """Insert rows in one statement; `columns` are names and PostgreSQL's types of them. Not COPY, which is faster: a
    client that stops in the middle of one is ended by no timeout of the server's, and keeps what it has locked."""
    values = [list(column) for column in zip(*rows, strict=True)]
    if values:
        arrays = ", ".join(f"${i}::{kind}[]" for i, kind in enumerate(columns.values(), 1))
        await conn.execute(
            f"insert into {table} ({', '.join(columns)}) select * from unnest({arrays}) {otherwise}", *values
        )


async def connect(dsn: str, service: str, purpose: str, **settings: str) -> asyncpg.Connection:
    """A connection outside the pools, for a relay, a recovery, a rebuild."""
    limits = {**_settings(service, purpose), **settings}
    answer_within_s = None if limits["statement_timeout"] == "0" else ANSWER_WITHIN_S
    return await asyncpg.connect(
        dsn, server_settings=limits, command_timeout=answer_within_s, connection_class=_Connection
    )


async def pool(dsn: str, service: str, purpose: str, size: int) -> asyncpg.Pool:
    """At most `size` connections. Nobody leaves session state behind, so none is reset between two uses: that would
    cost a round trip each time."""
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        server_settings=_settings(service, purpose),
        reset=_as_it_is,
        command_timeout=ANSWER_WITHIN_S,
        connection_class=_Connection,
    )


class _Connection(asyncpg.Connection):
    """Asks once in a process what PostgreSQL's own types, such as bigint[], are made of. asyncpg asks on every
    connection: three round trips, and more work for the server than to connect."""

    _known: ClassVar[dict[frozenset[int], Any]] = {}

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float) -> Any:  # noqa: ASYNC109
        asked = frozenset(typeoids)
        if asked not in self._known:
            found = await super()._introspect_types(asked, timeout)  # type: ignore[misc]  # protected
            if max(asked) >= _SAME_EVERYWHERE:
                return found
            self._known[asked] = found
        return self._known[asked]


async def close(pool: asyncpg.Pool) -> None:
    """Close it; what is not given back within 5 s is cut."""
    try:
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def _as_it_is(conn: Connection) -> None:
    return None


def later(name: str, kind: sa.types.TypeEngine[Any]) -> sa.BindParameter[Any]:
    """A value that `fetch` is given by this name: a statement with such is written, and compiled, once."""
    return sa.bindparam(name, _MISSING, kind)


_MISSING = object()
"""Which asyncpg refuses."""


def compiled(statement: sa.Select[Any], **values: Any) -> tuple[str, Sequence[Any]]:
    """SQL text with $1, $2 … and its arguments, in order; at once for a statement object that was compiled before."""
    sql, names, fixed = _compiled(statement)
    params = {**fixed, **values}
    return sql, [params[name] for name in names]


@lru_cache(maxsize=256)
def _compiled(statement: sa.Select[Any]) -> tuple[str, Sequence[str], Mapping[str, Any]]:
    done = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(done), done.positiontup or (), done.params


def _settings(service: str, purpose: str) -> dict[str, str]:
    return {
        "search_path": f"{service},{service}_privacy",
        "application_name": f"casewalk:{service}:{purpose}",
        "lock_timeout": "5s",
        "statement_timeout": f"{ANSWER_WITHIN_S:.0f}s",
        "transaction_timeout": f"{TRANSACTION_WITHIN_S:.0f}s",
        "idle_in_transaction_session_timeout": "30s",
        "timezone": "UTC",
        "jit": "off",
    }
