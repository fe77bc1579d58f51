"""The router's standing duty: while anybody is free and a case waits for them, ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial

import asyncpg
import structlog

from events.errors import Unavailable
from events.store import PASSING, Changed
from services.router import decide, views
from services.router.matching import Candidate, Match, Round, Waiting
from services.router.organigram import AGENT
from services.router.work import CASE
from services.runtime import Host

POLL_S = 0.2
"""How long a case can wait for the attention of a process that did not hear of it: another one queued it, say."""

REST_S = 0.02
"""How long to wait where it cannot be told whether what was appended is new."""

PAGE = 500

log_ = structlog.get_logger("router")


async def match(host: Host) -> None:
    """Match until cancelled. It keeps nothing: any number of processes may do it, and dying at any point is harmless.

    After a round that asked nobody it rests twice as long as the round took, so that a queue nobody can work on costs
    little, and then until something new was appended.
    """
    loop = asyncio.get_running_loop()
    while True:
        began, asked = loop.time(), 0
        news = asyncio.create_task(_news(host.store.appended))
        try:
            asked = await match_once(host)
            if not asked:
                await asyncio.sleep(2 * (loop.time() - began))
                await asyncio.wait([news], timeout=POLL_S)
        except (Unavailable, *PASSING) as error:
            log_.warning("matching begins again", why=f"{type(error).__name__}: {error}")
            await asyncio.sleep(POLL_S)
        finally:
            news.cancel()


async def match_once(host: Host) -> int:
    """Ask eligible agents for waiting cases until nobody is free or nothing is left; how many were asked."""
    rows = await host.database.rows(views.available_agents())
    this_round = Round([Candidate(views.as_agent(row), row["load"], row["last_offer_at"]) for row in rows])
    asked = 0
    async for page in _pages(host):
        if this_round.is_over:
            break
        asked += await _ask(host, this_round.match(page))
        if this_round.is_over:
            break
    return asked


async def _ask(host: Host, matches: list[Match]) -> int:
    """Make the offers, together, so that they share commits. One that came too late is no offer, and no error."""
    outcomes = await asyncio.gather(
        *(
            host.store.change(
                CASE(match.case_id),
                AGENT(match.agent_id),
                decision=decide.offer,
                actor="service:router",
                look=partial(views.seen, match.agent_id, match.queue_id),
            )
            for match in matches
        ),
        return_exceptions=True,
    )
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, Unavailable):
            raise outcome
    return sum(1 for outcome in outcomes if isinstance(outcome, Changed) and outcome.events)


async def _pages(host: Host) -> AsyncIterator[list[Waiting]]:
    after: tuple[int, datetime, str] | None = None
    while True:
        rows = await host.database.rows(views.waiting(after, PAGE))
        if rows:
            yield [_waiting(row) for row in rows]
        if len(rows) < PAGE:
            return
        after = (rows[-1]["rank"], rows[-1]["enqueued_at"], rows[-1]["case_id"])


def _waiting(row: asyncpg.Record) -> Waiting:
    return Waiting(
        row["case_id"],
        row["queue_id"],
        row["unit_id"],
        row["market"],
        row["language"],
        row["journey"],
        row["level"],
        tuple(row["declined_by"]),
        tuple(row["missed_by"]),
    )


async def _news(appended: asyncio.Event) -> None:
    """Until something is appended here. It begins before the round, so what is appended during it is not missed; an
    event that was set before says nothing new."""
    if appended.is_set():
        await asyncio.sleep(REST_S)
    else:
        await appended.wait()
