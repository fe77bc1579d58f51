"""The router's tables, all inline: a decision sees a case, an agent and a configuration as they are at that moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

import asyncpg
import sqlalchemy as sa

from events.case import (
    CaseAssigned,
    CaseDequeued,
    CaseOffered,
    CaseQueued,
    CaseReleased,
    CaseReranked,
    OfferDeclined,
    OfferExpired,
    OfferWithdrawn,
    UnitKind,
)
from events.database import Connection, fetch, later
from events.event import Recorded
from events.operations import (
    AgentRegistered,
    Presence,
    PresenceChanged,
    QueuePublished,
    RoutingTablePublished,
    UnitPublished,
)
from events.views import View
from services.router import table
from services.router.decide import Chart, Place, Seen
from services.router.organigram import Agent, evolve_agent
from services.router.work import Status, Work, evolve

WORK = View(
    "work",
    4,
    Work,
    (
        CaseQueued,
        CaseReranked,
        CaseOffered,
        OfferDeclined,
        OfferExpired,
        OfferWithdrawn,
        CaseAssigned,
        CaseReleased,
        CaseDequeued,
    ),
    evolve,
    inline=True,
    indexes=(
        "status, rank, enqueued_at, case_id",
        "agent_id, status",
        "queue_id, status, enqueued_at",
        "offered_to, offered_at",
        "due_at",
    ),
)

AGENTS = View("agents", 2, Agent, (AgentRegistered, PresenceChanged), evolve_agent, inline=True)


@dataclass(frozen=True, slots=True)
class Unit:
    subject: str
    unit_id: str
    version: int
    name: str
    kind: UnitKind
    markets: tuple[str, ...]


def fold_unit(unit: Unit | None, event: Recorded[UnitPublished]) -> Unit:
    """The unit as its last version has it."""
    data = event.data
    return Unit(event.subject, event.subject.removeprefix("unit:"), data.version, data.name, data.kind, data.markets)


UNITS = View("units", 1, Unit, (UnitPublished,), fold_unit, inline=True)


@dataclass(frozen=True, slots=True)
class Queue:
    subject: str
    queue_id: str
    version: int
    name: str
    unit_id: str
    level: int
    offer_s: int


def fold_queue(queue: Queue | None, event: Recorded[QueuePublished]) -> Queue:
    """The queue as its last version has it."""
    data, queue_id = event.data, event.subject.removeprefix("queue:")
    return Queue(event.subject, queue_id, data.version, data.name, data.unit_id, data.level, data.offer_s)


QUEUES = View("queues", 1, Queue, (QueuePublished,), fold_queue, inline=True)


@dataclass(frozen=True, slots=True)
class RoutingTable:
    subject: str
    table_id: str
    version: int
    rules: str
    """JSON."""


def fold_table(last: RoutingTable | None, event: Recorded[RoutingTablePublished]) -> RoutingTable:
    """The table as its last version has it."""
    table_id = event.subject.removeprefix("table:")
    return RoutingTable(event.subject, table_id, event.data.version, table.written(event.data.rules))


ROUTING_TABLES = View("routing_tables", 1, RoutingTable, (RoutingTablePublished,), fold_table, inline=True)

W, A, U, Q, T = WORK.table.c, AGENTS.table.c, UNITS.table.c, QUEUES.table.c, ROUTING_TABLES.table.c

HELD = (Status.OFFERED, Status.ASSIGNED)
"""What uses an agent's capacity."""


# ------------------------------------------------------------------------------------- what decisions look at (`look=`)


async def chart(conn: Connection, events: Sequence[Recorded[Any]] = ()) -> Chart:
    """The routing table in force and every queue with its unit's kind."""
    rows = await fetch(conn, _PLACES)
    places = {row["queue_id"]: Place(row["queue_id"], row["unit_id"], UnitKind(row["kind"])) for row in rows}
    (last,) = await fetch(conn, _RULES)
    return Chart(table.read(last["version"], last["rules"]), places)


_PLACES = sa.select(Q.queue_id, Q.unit_id, U.kind).where(Q.unit_id == U.unit_id)
_RULES = sa.select(T.version, T.rules).where(T.table_id == table.TABLE_ID)

_LOAD = sa.select(sa.func.count()).select_from(WORK.table).where(W.status.in_(HELD))
_LOAD_OF = _LOAD.where(W.agent_id == later("agent_id", W.agent_id.type))
_SEEN = sa.select(_LOAD_OF.scalar_subquery().label("load"), Q.level, Q.offer_s).where(
    Q.queue_id == later("queue_id", Q.queue_id.type)
)


async def load(agent_id: str, conn: Connection) -> int:
    """Cases and open offers of the agent."""
    ((count,),) = await fetch(conn, _LOAD_OF, agent_id=agent_id)
    return int(count)


async def seen(agent_id: str, queue_id: str, conn: Connection) -> Seen:
    """What an offer from this queue to this agent is decided on."""
    (row,) = await fetch(conn, _SEEN, agent_id=agent_id, queue_id=queue_id)
    return Seen(row["load"], queue_id, row["level"], row["offer_s"])


async def unit_kinds(conn: Connection) -> dict[str, UnitKind]:
    """Every unit's kind."""
    return {row["unit_id"]: UnitKind(row["kind"]) for row in await fetch(conn, sa.select(U.unit_id, U.kind))}


async def queue_ids(conn: Connection) -> frozenset[str]:
    """Every queue there is."""
    return frozenset(row["queue_id"] for row in await fetch(conn, sa.select(Q.queue_id)))


# ------------------------------------------------------------------------------------------------------------- queries


def agents_with_load(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Every agent's row with `load` (cases and open offers) and `last_offer_at`, by agent id."""
    held = _LOAD.where(W.agent_id == A.agent_id).scalar_subquery()
    last = sa.select(sa.func.max(W.offered_at)).where(W.offered_to == A.agent_id).scalar_subquery()
    return (
        sa.select(AGENTS.table, held.label("load"), last.label("last_offer_at"))
        .where(A.version > 0, *conditions)
        .order_by(A.agent_id)
    )


@cache
def available_agents() -> sa.Select[Any]:
    """Agents who are here."""
    return agents_with_load(A.presence == Presence.AVAILABLE)


@lru_cache(maxsize=4)
def waiting(after: tuple[int, datetime, str] | None, limit: int) -> sa.Select[Any]:
    """Waiting cases, the most urgent and then the oldest first, with their queue's level."""
    statement = (
        sa.select(
            W.case_id,
            W.rank,
            W.enqueued_at,
            W.queue_id,
            W.unit_id,
            W.market,
            W.language,
            W.journey,
            W.declined_by,
            W.missed_by,
            Q.level,
        )
        .where(W.status == Status.WAITING, Q.queue_id == W.queue_id)
        .order_by(W.rank, W.enqueued_at, W.case_id)
        .limit(limit)
    )
    return statement if after is None else statement.where(_behind(after))


def work(
    after: tuple[int, datetime, str] | None,
    limit: int,
    statuses: Sequence[Status],
    agent_id: str | None,
    queue_id: str | None,
) -> sa.Select[Any]:
    """Cases in these states, in the order of `waiting`."""
    statement = (
        sa.select(WORK.table).where(W.status.in_(statuses)).order_by(W.rank, W.enqueued_at, W.case_id).limit(limit)
    )
    if after is not None:
        statement = statement.where(_behind(after))
    if agent_id is not None:
        statement = statement.where(W.agent_id == agent_id)
    return statement if queue_id is None else statement.where(W.queue_id == queue_id)


def queues_with_waiting(after: str, limit: int) -> sa.Select[Any]:
    """Queues by id, with how many cases wait in each and since when the oldest does."""
    here = sa.and_(W.queue_id == Q.queue_id, W.status == Status.WAITING)
    count = sa.select(sa.func.count()).where(here).scalar_subquery()
    oldest = sa.select(sa.func.min(W.enqueued_at)).where(here).scalar_subquery()
    return (
        sa.select(QUEUES.table, count.label("waiting"), oldest.label("waiting_since"))
        .where(Q.queue_id > after)
        .order_by(Q.queue_id)
        .limit(limit)
    )


def units(after: str, limit: int) -> sa.Select[Any]:
    """Units by id."""
    return sa.select(UNITS.table).where(U.unit_id > after).order_by(U.unit_id).limit(limit)


def _behind(after: tuple[int, datetime, str]) -> sa.ColumnElement[bool]:
    return sa.tuple_(W.rank, W.enqueued_at, W.case_id) > sa.tuple_(
        *(sa.literal(v, c.type) for v, c in zip(after, (W.rank, W.enqueued_at, W.case_id), strict=True))
    )


def as_agent(row: asyncpg.Record) -> Agent:
    """A row of `agents` as the agent it says."""
    values: dict[str, Any] = {
        name: tuple(row[name]) if isinstance(row[name], list) else row[name] for name in AGENTS.columns
    }
    return Agent(**{**values, "presence": Presence(row["presence"])})
