"""No promise is broken unseen, whatever breaks: at the end every clock says what the events alone make of it, and what
was recorded is off by at most what the database's clock was.

Two escalation processes run while cases come, are answered, paused, resolved and reopened, and are told of late. Both
are killed while clocks are due, one sleeps through its leases, the database's clock jumps by an hour and stands still,
PostgreSQL and Kafka are killed and started again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import asyncpg
import pytest

from events.case import CaseOpened, ClockBreached, ClockRestated, ClockWarned
from events.event import CASES, CaseEvent, Recorded
from events.store import New
from events.wire import VOCABULARY, stored
from services.escalation.clocks import account
from services.escalation.decide import clocks as decide
from services.escalation.decide.case import FOLD, Case
from services.escalation.decide.clocks import Rules
from services.escalation.react.clocks import FACTS, rules_for
from tests.conftest import ENGINE
from tests.faults.report import Report
from tests.faults.town import LIMIT_S, POLL_S, Town
from tests.until import until

SPEAKING = ("intake", "router", "vendor", "escalation")
ENGINES = ("embedded", *(("kafka",) if ENGINE == "all" else ()))

MEANWHILE = 12
"""Cases that come in after each thing that broke, before the next does."""

PROMISE = {
    "name": "Standard",
    "warnings": [50],
    "targets": [
        {"clock": clock, "priority": priority, "target_s": target_s * factor}
        for clock, target_s in (("first_response", 2), ("next_response", 2), ("requester_wait", 3), ("resolution", 4))
        for priority, factor in (("urgent", 1), ("high", 1), ("normal", 2), ("low", 3))
    ],
}

BREAKS: tuple[Callable[[Town], Awaitable[None]], ...] = (
    Town.timers_are_dead_for_an_hour,
    Town.postgresql_is_killed,
    Town.the_clock_goes_back_an_hour,
    Town.kafka_is_killed,
    Town.the_clock_stands_still,
    Town.the_clock_runs_again,
    Town.one_of_two_is_killed,
    Town.one_of_two_dies_and_the_clock_goes_back_an_hour,
    Town.the_other_sleeps_through_its_leases,
    Town.the_clock_goes_ahead_an_hour,
)


@pytest.fixture(params=ENGINES)
async def town(request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    async with Town.built(kafka=request.param == "kafka") as town:
        yield town


@pytest.mark.timeout(900)
async def test_every_obligation_ends_with_the_verdict_that_the_events_alone_make(town: Town, report: Report) -> None:
    await town.ask("escalation", "PUT", "/v1/promises/standard", PROMISE, "promise")
    evening = asyncio.Event()
    async with asyncio.TaskGroup() as coming:
        coming.create_task(town.customers_come(evening))
        for breaks in BREAKS:
            await breaks(town)
            await town.more_come(MEANWHILE)
        evening.set()
    await town.the_clock_is_ahead_of_whatever_it_showed()  # what was promised then becomes due too
    end = await until(partial(as_it_stands, town), LIMIT_S, POLL_S)
    assert await recorded_back_in_time(town) == 0
    verdicts: Counter[str] = Counter()
    for case_id, (earliest, latest) in town.opened.items():
        opened = next(one for one in end.facts[case_id] if isinstance(one.data, CaseOpened))
        assert earliest <= opened.recorded_at <= latest, f"{case_id}: off by more than the clock was"
        lived = FOLD.over(case_id, end.said[case_id])
        alone = from_nothing(case_id, end.facts[case_id], end.rules, end.at)
        assert accounts(lived) == accounts(alone), case_id
        assert said_twice(end.said[case_id]) == {}, case_id
        promised = [clock for clock in lived.clocks.values() if clock.span.promise and not clock.cancelled]
        assert all(clock.verdict is not None or clock.paused for clock in promised), case_id
        verdicts.update(WORDS[clock.verdict] for clock in promised)
    assert verdicts["kept"]
    assert verdicts["not kept"]
    restated = sum(isinstance(one.data, ClockRestated) for of in end.said.values() for one in of)
    report.table(
        f"Clocks under everything that breaks, {'kafka' if town.broker else 'embedded'}",
        ("cases", *WORDS.values(), "restated", "other than the events alone make them"),
        [(len(town.opened), *(verdicts[word] for word in WORDS.values()), restated, 0)],
        "In this order: "
        + ", ".join(
            breaks.__name__.replace("_", " ") for breaks in BREAKS if town.broker or breaks is not Town.kafka_is_killed
        )
        + ".",
    )


WORDS: Mapping[bool | None, str] = {True: "kept", False: "not kept", None: "still paused"}


# ---------------------------------------------------------------------------------------------------------- the verdict


@dataclass(frozen=True)
class Standing:
    """Everything at one moment; false while escalation has something left to do."""

    at: datetime
    """By the database's clock."""
    facts: Mapping[str, Sequence[Recorded[CaseEvent]]] = field(repr=False)
    """Case id → what every service has recorded of it that clocks go by, as it happened."""
    said: Mapping[str, Sequence[Recorded[CaseEvent]]] = field(repr=False)
    """Case id → what escalation has said of it."""
    rules: Rules = field(repr=False)
    not_heard: Sequence[str]
    """Facts: `source case sequence type`."""
    unsent: Mapping[str, int]
    """Service → events that are not in the log."""
    due: Sequence[tuple[str, Sequence[str]]]
    """Case id and what its clocks owe, the longest due first."""
    parked: Mapping[str, str]
    lanes: Mapping[str, int]
    """Owner → how many of the reactor's lanes it holds."""

    def __bool__(self) -> bool:
        return not (self.not_heard or self.due or self.parked)


async def as_it_stands(town: Town) -> Standing:
    """In one snapshot: a breach leads to an escalation, which is a fact again."""
    async with town.connected() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        await conn.execute("set local search_path to escalation")
        facts = await events_of(conn, FACTS)
        heard = {str(row["id"]) for row in await conn.fetch("select id from past")}
        table = await conn.fetchval("select table_name from view where name = 'clocks'")
        due = await conn.fetch(f"select case_id, owed from {table} where due_at is not null order by due_at limit 10")
        lanes = await conn.fetch(
            "select owner, count(*) from lane where consumer = 'escalation.reactor' and until > clock_timestamp()"
            " group by owner"
        )
        return Standing(
            await conn.fetchval("select clock_timestamp()"),
            {case_id: sorted(events, key=lambda one: one.key) for case_id, events in facts.items()},
            await events_of(conn, None),
            await rules_for(conn, sorted(facts)),
            [
                f"{one.source} {one.subject} {one.sequence} {one.data.TYPE}"
                for of in facts.values()
                for one in of
                if one.id not in heard
            ],
            {name: await conn.fetchval(f"select count(*) from {name}.outbox") for name in SPEAKING},
            [tuple(row) for row in due],
            dict(await conn.fetch("select subject, error from parked limit 10")),
            dict(lanes),
        )


async def recorded_back_in_time(town: Town) -> int:
    """Events whose recorded time is not after that of the one before in their stream."""
    before = "lag(recorded_at) over (partition by topic, subject order by sequence)"
    async with town.connected() as conn:
        found = [
            await conn.fetchval(
                f"select count(*) from (select recorded_at <= {before} as back from {name}.events) e where back"
            )
            for name in SPEAKING
        ]
    return sum(found)


async def events_of(
    conn: asyncpg.Connection, types: Sequence[type[CaseEvent]] | None
) -> dict[str, list[Recorded[CaseEvent]]]:
    """Case id → its events of these types in every service's store, in the order of its sequences; None: all of
    escalation's."""
    found: dict[str, list[Recorded[CaseEvent]]] = {}
    for service in ("escalation",) if types is None else SPEAKING:
        wanted = None if types is None else [one.TYPE for one in types]
        rows = await conn.fetch(
            f"select * from {service}.events where topic = $1 and ($2::text[] is null or type = any($2))"
            " order by subject, sequence",
            CASES,
            wanted,
        )
        for row in rows:
            found.setdefault(row["subject"], []).append(VOCABULARY.recorded(stored(row, service)))
    return found


def from_nothing(case_id: str, facts: Sequence[Recorded[CaseEvent]], rules: Rules, end: datetime) -> Case:
    """What escalation would say if it heard everything at once, and nothing had ever been said."""
    case: Case = FOLD.initial(case_id)
    sequence = 0
    for decision in (partial(decide.judge, facts=facts, rules=rules), partial(decide.fire, end)):
        for new in decision(case):
            sequence += 1
            case = FOLD.evolve(case, _recorded(new, facts[0], sequence, end))
    return case


def _recorded(new: New, like: Recorded[Any], sequence: int, end: datetime) -> Recorded[Any]:
    at = new.occurred_at or end
    return like._replace(
        id=new.id or "", source="escalation", sequence=sequence, occurred_at=at, recorded_at=end, data=new.event
    )


def accounts(case: Case) -> dict[object, object]:
    """Every clock as it stands; what was warned of before somebody knew better stays said."""
    return {
        key: account(clock).model_copy(update={"warnings": ()})
        for key, clock in case.clocks.items()
        if not clock.cancelled
    }


def said_twice(said: Sequence[Recorded[CaseEvent]]) -> dict[tuple[object, ...], int]:
    """What was called broken or warned of more than once."""
    names = Counter(
        (one.data.TYPE, one.data.clock, one.data.episode, one.data.turn, getattr(one.data, "percent", 100))
        for one in said
        if isinstance(one.data, ClockBreached | ClockWarned)
    )
    return {name: times for name, times in names.items() if times > 1}
