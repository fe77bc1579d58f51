"""Judging cases by a promise that came after them: a preview of what would change, and the duty that does it.

A version says itself which cases it judges. The duty looks for cases that are not judged by it yet, and judges each in
a change of its own; it keeps nothing, so any number of processes may do it and dying at any point is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
from services.escalation.decide.clocks import Pin, Rules
from services.escalation.decide.promises import in_order
from services.escalation.react.clocks import rules_for, times_of
from services.escalation.views.clocks import CLOCKS
from services.runtime import Host

EVERY_S = 2.0
PAGE = 50
SHOWN = 100
"""How many differences a preview tells one by one."""

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


@dataclass
class Preview:
    """What publishing a version would change, over all cases that it would judge."""

    cases: int = 0
    due_moved: int = 0
    """Clocks that would be due at another time."""
    would_break: int = 0
    """Clocks that would not have kept their promise, and are not said so now."""
    would_be_kept: int = 0
    """Clocks that are said not to have kept their promise, and would be no more."""
    differences: list[Difference] = field(default_factory=list)
    """The first of them, by case."""

    def add(self, one: Difference) -> None:
        self.due_moved += one.due_before != one.due_after
        self.would_break += one.kept_after is False and one.kept_before is not False
        self.would_be_kept += one.kept_before is False and one.kept_after is not False
        if len(self.differences) < SHOWN:
            self.differences.append(one)


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
        found = [(one, case_id) for one in asking for case_id in await _next(conn, one, _published(one))]
    for promise, case_id in found:
        await host.store.change(
            FOLD(case_id),
            decision=partial(_judge, promise),
            actor=f"service:{host.store.source}",
            look=partial(_look, case_id),
        )
    return len(found)


def _published(promise: Promise) -> datetime:
    assert promise.published_at is not None, "only what is in force is asked"
    return promise.published_at


Looked = tuple[Sequence[Recorded[CaseEvent]], Rules]


async def _look(case_id: str, conn: Connection) -> Looked:
    facts = await project.history(conn, CASES, [case_id], VOCABULARY, table="past")
    return facts[case_id], await rules_for(conn, [case_id])


def _judge(promise: Promise, now: datetime, case: Case, looked: Looked) -> list[New]:
    facts, rules = looked
    why = f"{promise.ref} was published to {promise.content.restate}"
    return decide.judge(case, facts, rules, instead(promise, case, rules, why))


def instead(promise: Promise, case: Case, rules: Rules, why: str) -> Pin:
    """What the case is judged by, with this version in the place of every other one of that promise: where it is to
    judge open cases, from the episode on that is open."""
    name = promise.ref.rpartition("@")[0]
    others = [rules.promises[ref] for ref in case.promises if ref.rpartition("@")[0] != name]
    latest = case.latest(ClockKind.RESOLUTION)
    since = 1 if latest is None or promise.content.restate is Restate.RESTATE_ALL else latest.episode
    return Pin(in_order((*others, promise)), why, since)


def _others(promise: Promise, at: datetime, *what: Any) -> sa.Select[Any]:
    """Of the cases that the version, published at `at`, is to judge and that are not judged by it."""
    rows = CLOCKS.table.c
    statement = sa.select(*what).where(sa.not_(sa.literal(promise.ref) == sa.any_(rows.promises)))
    if promise.content.restate is Restate.RESTATE_ALL:
        return statement
    # Open when it was published: a case that is reopened later was judged to its end by what held then.
    still = sa.or_(rows.open_until.is_(None), rows.open_until > at)
    return statement.where(rows.open_since <= at, still)


async def _next(conn: Connection, promise: Promise, at: datetime, after: str = "") -> list[str]:
    """Case ids."""
    of = CLOCKS.table.c.case_id
    statement = _others(promise, at, of).where(of > after).order_by(of).limit(PAGE)
    return [row["case_id"] for row in await fetch(conn, statement)]


async def preview(host: Host, promise: Promise, now: datetime) -> Preview:
    """What publishing this version now would change. Writes nothing."""
    found, after = Preview(), ""
    if promise.content.restate is Restate.FORWARD_ONLY:
        return found
    while True:
        async with host.database.readers.acquire() as conn, conn.transaction():
            case_ids = await _next(conn, promise, now, after)
            if not case_ids:
                return found
            facts = await project.history(conn, CASES, case_ids, VOCABULARY, table="past")
            rules = await rules_for(conn, case_ids)
            rules = replace(rules, times=await times_of(conn, (*rules.promises.values(), promise)))
        for case_id in case_ids:
            case, _ = await host.store.state(FOLD(case_id))
            if case.pinned <= rules.promises.keys():
                found.cases += 1
                for one in _differences(case, facts[case_id], rules, promise, now):
                    found.add(one)
        after = case_ids[-1]


def _differences(
    case: Case, facts: Sequence[Recorded[CaseEvent]], rules: Rules, promise: Promise, now: datetime
) -> list[Difference]:
    """Between what is said now, and what would be once the timers have said all that is due."""
    before = _after(case, decide.fire(now, case), facts[-1])
    after = _after(case, decide.judge(case, facts, rules, instead(promise, case, rules, "preview")), facts[-1])
    after = _after(after, decide.fire(now, after), facts[-1])
    keys = sorted({*before.clocks, *after.clocks})
    return [one for key in keys if (one := _difference(before, after, key)) is not None]


def _difference(case: Case, after: Case, key: Key) -> Difference | None:
    old, new = case.clocks.get(key), after.clocks.get(key)
    before = (None, None) if old is None else (old.due_at, old.verdict)
    later = (None, None) if new is None else (new.due_at, new.verdict)
    return None if before == later else Difference(case.case_id, *key, before[0], later[0], before[1], later[1])


def _after(case: Case, news: Sequence[New], last: Recorded[CaseEvent]) -> Case:
    """The case once all of this was recorded."""
    for new in news:
        assert isinstance(new.event, CaseEvent)
        at = new.occurred_at or last.recorded_at
        case = evolve(case, last._replace(source="escalation", occurred_at=at, recorded_at=at, data=new.event))
    return case
