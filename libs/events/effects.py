"""Effects: what is done outside, such as a mail. Only live events lead to one, at least once, under an id for ever.

A notifier's effects are rows of the table `effect`, written in the transaction that moves the consumer's offset. A
replay, a rebuild and a verify run no consumer's handler, so none of them can write one. The sender marks a row as being
sent (committed) before it sends and as sent afterwards: who dies between the two leaves a row that is sent again, under
the same id, and counted.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import asyncpg

from events.consume import Handler
from events.database import Connection
from events.event import Event, Recorded, named

TABLES = """
create table if not exists {schema}.effect (
    id         uuid primary key,
    target     text collate "C" not null,
    kind       text collate "C" not null,
    subject    text collate "C" not null,
    payload    text not null,
    urgent     boolean not null,
    state      text collate "C" not null default 'waiting',
    due_at     timestamptz not null default clock_timestamp(),
    attempts   integer not null default 0,
    repeats    integer not null default 0,
    unsure     boolean not null default false,
    worker     uuid,
    error      text,
    created_at timestamptz not null default clock_timestamp(),
    sent_at    timestamptz
);
create index if not exists effect_due on {schema}.effect (due_at) where state in ('waiting', 'sending');
create index if not exists effect_state on {schema}.effect (state, created_at, id);
create table if not exists {schema}.effect_count (
    what text collate "C" primary key,
    n    bigint not null
);
"""
"""`due_at` is when a waiting row is to be sent, and until when one that is being sent is left to its `worker`.
`unsure`: the last try may have arrived. `effect_count` outlives the rows."""

LIVE_FOR = timedelta(hours=1)
"""An event recorded longer ago is history: a log read again, a case parked for long. Nobody is told of it any more."""

KEPT = timedelta(days=30)
"""How long an effect that is done with stays listed; longer than `LIVE_FOR`, or a log read again could repeat it."""


class EffectState(StrEnum):
    WAITING = "waiting"
    SENDING = "sending"
    """Being sent, or its sender died: then it is sent again."""
    SENT = "sent"
    DEAD = "dead"
    """Given up: somebody has to look, and may ask for another try."""
    DROPPED = "dropped"
    """Whoever was to be told does not want to be any more."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Something to be done outside."""

    id: str
    """What the other side tells repeats by."""
    target: str
    """Who is told. Where that is reached is looked up when it is sent."""
    kind: str
    subject: str
    """What it is about: a case id."""
    payload: Mapping[str, Any]
    """JSON."""
    urgent: bool = False
    """It waits for nobody's hours."""


def effect_id(target: str, obligation: str) -> str:
    """The one id under which `target` is told of the obligation, whoever finds it out and how often."""
    return named(f"effect/{target}/{obligation}")


@dataclass(frozen=True)
class Notifier:
    """Which live events lead to effects. `decide(event, looked, now)` is pure; `looked` is what `look(conn, events)`
    read once for the batch (None without it)."""

    name: str
    reads: tuple[type[Event], ...]
    decide: Callable[[Recorded[Any], Any, datetime], Sequence[Effect]]
    look: Callable[[Connection, Sequence[Recorded[Any]]], Awaitable[Any]] | None = None


class Noticing:
    """A handler that does what another one does, and then writes the effects its notifiers ask for."""

    def __init__(self, handler: Handler, notifiers: Sequence[Notifier]) -> None:
        self.handler, self.notifiers = handler, tuple(notifiers)
        self.reads = handler.reads | {event.TYPE for notifier in notifiers for event in notifier.reads}

    async def handle(self, conn: Connection, events: Sequence[Recorded[Any]]) -> Any:
        outcomes = await self.handler.handle(conn, events)
        for notifier in self.notifiers:
            mine = [event for event in events if isinstance(event.data, notifier.reads)]
            if mine:
                await self._notice(conn, notifier, mine)
        return outcomes

    async def _notice(self, conn: Connection, notifier: Notifier, events: Sequence[Recorded[Any]]) -> None:
        now: datetime = await conn.fetchval("select clock_timestamp()")
        live = [event for event in events if now - event.recorded_at <= LIVE_FOR]
        if len(live) < len(events):
            await _count(conn, "skipped", len(events) - len(live))
        if live:
            looked = None if notifier.look is None else await notifier.look(conn, live)
            await write(conn, [effect for event in live for effect in notifier.decide(event, looked, now)])


async def write(conn: Connection, effects: Sequence[Effect]) -> None:
    """Add the effects; one that is there already stays as it is."""
    await conn.executemany(
        "insert into effect (id, target, kind, subject, payload, urgent) values ($1, $2, $3, $4, $5, $6)"
        " on conflict do nothing",
        [(e.id, e.target, e.kind, e.subject, json.dumps(dict(e.payload)), e.urgent) for e in effects],
    )


# ----------------------------------------------------------------------------------------------------------- the outbox


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An effect on its way."""

    effect: Effect
    attempts: int
    """Tries that were begun, before this one."""
    created_at: datetime


async def due(conn: Connection, limit: int) -> list[Outgoing]:
    """What is to be sent now, the longest due first, locked by this transaction; what others hold is left out."""
    rows = await conn.fetch(
        "select * from effect where state in ('waiting', 'sending') and due_at <= clock_timestamp()"
        " order by due_at, id limit $1 for update skip locked",
        limit,
    )
    return [_outgoing(row) for row in rows]


async def begin(conn: Connection, id: str, worker: str, lease: timedelta) -> None:
    """It is being sent by `worker`, and by nobody else while the lease lasts. One that may have arrived before is
    counted as a repeat."""
    repeated = await conn.fetchval(
        "update effect e set state = 'sending', worker = $2, due_at = clock_timestamp() + $3, unsure = false,"
        " attempts = e.attempts + 1, repeats = e.repeats + (o.state = 'sending' or o.unsure)::integer"
        " from effect o where e.id = $1 and o.id = e.id returning o.state = 'sending' or o.unsure",
        id,
        worker,
        lease,
    )
    if repeated:
        await _count(conn, "repeats", 1)


async def postpone(conn: Connection, id: str, until: datetime) -> None:
    """It is not to be sent before `until`."""
    await conn.execute("update effect set due_at = $2 where id = $1", id, until)


async def drop(conn: Connection, id: str, why: str) -> None:
    """Nobody wants it any more."""
    await conn.execute("update effect set state = 'dropped', error = $2 where id = $1", id, why)


async def sent(conn: Connection, id: str, worker: str) -> bool:
    """It arrived. False when the lease ran out meanwhile and somebody else has it."""
    status = await conn.execute(
        "update effect set state = 'sent', sent_at = clock_timestamp(), error = null, worker = null"
        " where id = $1 and worker = $2 and state = 'sending'",
        id,
        worker,
    )
    return str(status) == "UPDATE 1"


async def failed(conn: Connection, id: str, worker: str, why: str, again: timedelta | None, unsure: bool) -> None:
    """It did not arrive, or nobody knows (`unsure`): tried again after a while, or dead (`again` is None)."""
    await conn.execute(
        "update effect set state = case when $4::interval is null then 'dead' else 'waiting' end, error = $3,"
        " due_at = clock_timestamp() + coalesce($4::interval, '0'), unsure = $5, worker = null"
        " where id = $1 and worker = $2 and state = 'sending'",
        id,
        worker,
        why[:500],
        again,
        unsure,
    )


async def retry(conn: Connection, id: str) -> bool:
    """Try a dead one from the beginning. False when there is no dead one under this id."""
    status = await conn.execute(
        "update effect set state = 'waiting', attempts = 0, due_at = clock_timestamp()"
        " where id = $1 and state = 'dead'",
        id,
    )
    return str(status) == "UPDATE 1"


async def forget(conn: Connection) -> None:
    """Delete what has been done with for long."""
    await conn.execute(
        "delete from effect where state in ('sent', 'dropped') and created_at < clock_timestamp() - $1::interval", KEPT
    )


async def page(
    conn: Connection, state: EffectState | None, limit: int, after: tuple[datetime, str] | None
) -> list[asyncpg.Record]:
    """Effects by age, the oldest first; `after` is the age and id of the last one seen."""
    age, last = after or (None, None)
    rows: list[asyncpg.Record] = await conn.fetch(
        "select * from effect where ($1::text is null or state = $1)"
        " and ($2::timestamptz is null or (created_at, id) > ($2, $3::uuid)) order by created_at, id limit $4",
        state,
        age,
        last,
        limit,
    )
    return rows


async def states(conn: Connection) -> dict[EffectState, int]:
    """How many effects stand where."""
    rows = await conn.fetch("select state, count(*) as n from effect group by state")
    found = {EffectState(row["state"]): int(row["n"]) for row in rows}
    return {state: found.get(state, 0) for state in EffectState}


async def counts(conn: Connection) -> dict[str, int]:
    """`repeats`: sends that may have arrived twice. `skipped`: events that were too old to tell anybody."""
    rows = await conn.fetch("select what, n from effect_count")
    return {"repeats": 0, "skipped": 0, **{row["what"]: int(row["n"]) for row in rows}}


async def _count(conn: Connection, what: str, n: int) -> None:
    await conn.execute(
        "insert into effect_count values ($1, $2) on conflict (what) do update set n = effect_count.n + excluded.n",
        what,
        n,
    )


def _outgoing(row: asyncpg.Record) -> Outgoing:
    effect = Effect(
        str(row["id"]), row["target"], row["kind"], row["subject"], json.loads(row["payload"]), row["urgent"]
    )
    return Outgoing(effect, row["attempts"], row["created_at"])
