"""Judging cases by a promise that came after them: a preview of what would change, and the duty that does it.

A version says itself which cases it judges. The duty looks for cases that are not judged by it yet, and judges each in
a change of its own; it keeps nothing, so any number of processes may do it and dying at any point is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog

from events.case import ClockKind
from events.database import Connection, fetch
from events.errors import Unavailable
from events.event import CASES, CaseEvent, Recorded
from events.operations import Restate
from events.store import PASSING, New
from events.views import project
from events.wire import VOCABULARY
from services.escalation.clocks import Key, Promise
from services.escalation.decide import clocks as decide
from services.escalation.decide.case import FOLD, Case, evolve
from services.escalation.decide.clocks import Rules
from services.escalation.decide.promises import in_order
from services.escalation.react.clocks import rules_for, times_of
from services.escalation.views.clocks import CLOCKS
from services.runtime import Host

EVERY_S = 2.0
PAGE = 50
SHOWN = 100
"""How many cases a preview judges."""

log_ = structlog.get_logger("restating")


@dataclass(frozen=True)
class Difference:
    """What would be said otherwise about a clock."""

    case_id: str
    clock: ClockKind
    episode: int
    turn: int
    due_before: datetime | None
    due_after: datetime | None
    kept_before: bool | None
    kept_after: bool | None


@dataclass(frozen=True)
class Preview:
    cases: int
    """How many would be judged anew."""
    looked_at: int
    """How many of them were judged for this answer."""
    differences: tuple[Difference, ...]


async def restate(host: Host) -> None:
    """Restate until cancelled."""
    while True:
        try:
            while await restate_once(host):
                pass
        except (Unavailable, *PASSING) as error:
            log_.warning("restating begins again", why=f"{type(error).__name__}: {error}")
        await asyncio.sleep(EVERY_S)


async def restate_once(host: Host) -> int:
    """Judge the next cases by the versions that ask for it; how many were judged."""
    async with host.database.readers.acquire() as conn:
        rules = await rules_for(conn, [])
        asking = [one for one in rules.in_force if one.content.restate is not Restate.FORWARD_ONLY]
        found = [(one, case_id) for one in asking for case_id in await _next(conn, one, PAGE)]
    for promise, case_id in found:
        await host.store.change(
            FOLD(case_id),
            decision=partial(_judge, promise),
            actor=f"service:{host.store.source}",
            look=partial(_look, case_id),
        )
    return len(found)


Looked = tuple[Sequence[Recorded[CaseEvent]], Rules]


async def _look(case_id: str, conn: Connection) -> Looked:
    facts = await project.history(conn, CASES, [case_id], VOCABULARY, table="past")
    return facts[case_id], await rules_for(conn, [case_id])


def _judge(promise: Promise, now: datetime, case: Case, looked: Looked) -> list[New]:
    facts, rules = looked
    pin = instead(promise, case, rules)
    return decide.judge(case, facts, rules, pin, f"{promise.ref} was published to {promise.content.restate}")


def instead(promise: Promise, case: Case, rules: Rules) -> tuple[Promise, ...]:
    """What the case is judged by, with this version in the place of every other one of that promise."""
    name = promise.ref.rpartition("@")[0]
    others = [rules.promises[ref] for ref in case.promises if ref.rpartition("@")[0] != name]
    return in_order((*others, promise))


def _others(promise: Promise, *what: Any) -> sa.Select[Any]:
    """Of the cases that the version is to judge and that are not judged by it."""
    rows = CLOCKS.table.c
    statement = sa.select(*what).where(sa.not_(sa.literal(promise.ref) == sa.any_(rows.promises)))
    return statement.where(rows.running != []) if promise.content.restate is Restate.RESTATE_OPEN else statement


async def _next(conn: Connection, promise: Promise, limit: int) -> list[str]:
    """Case ids."""
    of = CLOCKS.table.c.case_id
    return [row["case_id"] for row in await fetch(conn, _others(promise, of).order_by(of).limit(limit))]


async def preview(host: Host, promise: Promise) -> Preview:
    """What publishing this version would change. Writes nothing."""
    if promise.content.restate is Restate.FORWARD_ONLY:
        return Preview(0, 0, ())
    async with host.database.readers.acquire() as conn, conn.transaction():
        (count,) = await fetch(conn, _others(promise, sa.func.count().label("n")))
        case_ids = await _next(conn, promise, SHOWN)
        facts = await project.history(conn, CASES, case_ids, VOCABULARY, table="past")
        rules = await rules_for(conn, case_ids)
        rules = replace(rules, times=await times_of(conn, (*rules.promises.values(), promise)))
    differences: list[Difference] = []
    for case_id in case_ids:
        case, _ = await host.store.state(FOLD(case_id))
        if set(case.promises) <= set(rules.promises):
            differences += _differences(case, facts[case_id], rules, promise)
    return Preview(count["n"], len(case_ids), tuple(differences))


def _differences(case: Case, facts: Sequence[Recorded[CaseEvent]], rules: Rules, promise: Promise) -> list[Difference]:
    after = case
    for number, new in enumerate(decide.judge(case, facts, rules, instead(promise, case, rules), "preview")):
        after = evolve(after, _as_if(new, facts[-1], number))
    keys = sorted({*case.clocks, *after.clocks})
    return [one for key in keys if (one := _difference(case, after, key)) is not None]


def _difference(case: Case, after: Case, key: Key) -> Difference | None:
    old, new = case.clocks.get(key), after.clocks.get(key)
    before = (None, None) if old is None else (old.due_at, old.verdict)
    later = (None, None) if new is None else (new.due_at, new.verdict)
    return None if before == later else Difference(case.case_id, *key, before[0], later[0], before[1], later[1])


def _as_if(new: New, last: Recorded[CaseEvent], number: int) -> Recorded[CaseEvent]:
    """The event as it would be recorded."""
    assert isinstance(new.event, CaseEvent)
    at = new.occurred_at or last.recorded_at
    return replace(last, id=f"preview {number}", source="escalation", occurred_at=at, recorded_at=at, data=new.event)
