"""What the rows are fed with: whole walks as log records, and another system's history as a file.

The same number gives the same walk; ids and times are made up, sizes and mixtures are those of the demo's day.
"""

from __future__ import annotations

import csv
import heapq
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from uuid import UUID, uuid5

from bench.bodies import BODY, CHANNELS, JOURNEYS, MARKETS
from events import case
from events.case import ClockKind, Priority, UnitKind
from events.event import CASES, NAMESPACE, Event
from events.personal import Sealed
from events.wire import Record, partition_of, traceparent

BEGAN = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
CASE_EVERY_S = 1.0
VARIANTS = 500
"""Different walks; cases beyond them repeat one at another time."""

# --------------------------------------------------------------------------------------------------------------- walks


def records(events: int) -> Iterator[Record]:
    """At least `events` records of whole walks, in the order in which they happened: a case comes in every second, and
    its events are spread over the minutes after, so that neighbours in the log are of different cases."""
    open_walks: list[tuple[datetime, int, int, Iterator[Record], Record]] = []
    made, n, tie = 0, 0, 0
    while made < events or open_walks:
        opens_at = BEGAN + timedelta(seconds=n * CASE_EVERY_S)
        if made < events and (not open_walks or opens_at <= open_walks[0][0]):
            walk = iter(walk_of(n))
            first = next(walk)
            heapq.heappush(open_walks, (first.occurred_at, tie, n, walk, first))
            made, n = made + len(_variant(n % VARIANTS)), n + 1
        else:
            _, _, number, walk, record = heapq.heappop(open_walks)
            yield record
            following = next(walk, None)
            if following is not None:
                heapq.heappush(open_walks, (following.occurred_at, tie, number, walk, following))
        tie += 1


def walk_of(n: int) -> list[Record]:
    """The n-th case's walk as records; sequences count per source."""
    case_id = str(uuid5(NAMESPACE, f"bench case {n}"))
    partition, trace, ids = partition_of(case_id), traceparent(), Random(n)
    opened = BEGAN + timedelta(seconds=n * CASE_EVERY_S)
    sequences = dict.fromkeys(("intake", "router", "escalation"), 0)
    made = []
    first_id = ""
    for kind, source, after, data in _variant(n % VARIANTS):
        sequences[source] += 1
        event_id = str(UUID(int=ids.getrandbits(128), version=4))
        first_id = first_id or event_id
        at = opened + after
        made.append(
            Record(
                CASES, partition, -1, case_id, event_id, source, sequences[source], kind, at, at,
                f"service:{source}", first_id, None if event_id == first_id else first_id, trace, data,
            )
        )  # fmt: skip
    return made


@cache
def _variant(n: int) -> list[tuple[str, str, timedelta, str]]:
    """(type, source, time since the opening, data) of one of the different walks."""
    random = Random(n)
    after, steps = timedelta(), []
    for event in _events(random):
        steps.append((event.TYPE, event.WRITER, after, event.model_dump_json(by_alias=True)))
        after += timedelta(seconds=random.choice((0.02, 0.5, 5, 30, 90)) * random.uniform(0.5, 1.5))
    return steps


def _events(random: Random) -> Iterator[Event]:
    """From coming in to the survey: 13 events, or 19 where a specialist is asked."""
    market, journey, priority = random.choice(MARKETS), random.choice(JOURNEYS), random.choice(list(Priority))
    channel, kept = random.choice(CHANNELS), random.random() < 0.8
    yield case.CaseOpened(
        channel=channel, market=market, language=market, journey=journey, priority=priority,
        customer_ref="customer:bench", customer_name=_sealed(8), customer_email=_sealed(20), title=_sealed(20),
        body=_sealed(len(BODY)),
    )  # fmt: skip
    yield case.PromisesPinned(promises=(f"{priority}@1",), reason="opened")
    for clock, target_s in ((ClockKind.FIRST_RESPONSE, 3600), (ClockKind.RESOLUTION, 86400)):
        yield case.ClockStarted(
            clock=clock, episode=1, promise=f"{priority}@1", calendar="always@1", target_s=target_s,
            due_at=BEGAN + timedelta(days=1), warnings=(case.ClockWarning(percent=80, at=BEGAN),), tzdata="2025.2",
        )  # fmt: skip
    yield from _assigned(random, f"care-{market}", UnitKind.FRONT_END, priority, channel, market, journey)
    yield case.MessageSent(message_id="m-1", channel=channel, visibility="public", body=_sealed(200))
    yield _stopped(ClockKind.FIRST_RESPONSE, priority, True)
    if random.random() < 0.25:
        care = f"care-{market}"
        yield case.CaseTransferred(from_unit_id=care, to_unit_id="experts", reason="needs a specialist")
        yield case.CaseReleased(agent_id=f"{care}-1", unit_id=care, reason="transferred")
        yield from _assigned(random, "experts", UnitKind.BACK_END, priority, channel, market, journey)
        yield case.MessageSent(message_id="m-2", channel=channel, visibility="public", body=_sealed(200))
    yield case.CaseResolved(episode=1, by="agent", code="solved")
    yield _stopped(ClockKind.RESOLUTION, priority, kept)
    if random.random() < 0.5:
        yield case.FeedbackReceived(episode=1, accepted=kept, csat=random.randint(1, 5), nps=random.randint(0, 10))


def _assigned(
    random: Random, unit: str, kind: UnitKind, priority: Priority, channel: str, market: str, journey: str
) -> Iterator[Event]:
    agent = f"{unit}-{random.randint(1, 20)}"
    yield case.CaseQueued(
        queue_id=unit, unit_id=unit, unit_kind=kind, routing_table="main@1", rule=market, priority=priority,
        reason="routed", channel=channel, market=market, language=market, journey=journey,
    )  # fmt: skip
    yield case.CaseOffered(
        offer_id="offer-1", agent_id=agent, queue_id=unit, unit_id=unit, expires_at=BEGAN, load=2, capacity=6
    )
    yield case.CaseAssigned(offer_id="offer-1", agent_id=agent, queue_id=unit, unit_id=unit, unit_kind=kind)


def _stopped(clock: ClockKind, priority: Priority, kept: bool) -> Event:
    return case.ClockStopped(
        clock=clock, episode=1, promise=f"{priority}@1", due_at=BEGAN + timedelta(days=1), elapsed_s=1200, kept=kept
    )


def _sealed(letters: int) -> Sealed:
    """As long as the ciphertext of so many letters."""
    text = "A" * ((letters + 16) * 4 // 3)
    return Sealed(enc=1, person="customer:bench", version=1, nonce="A" * 16, text=text)


# ------------------------------------------------------------------------------------------------------- another system

_HEADER = ("case_id", "event_seq", "timestamp", "activity", "workgroup", "resource", "product")
_STEPS = ("Insert ticket", "Assign seriousness", "Take in charge ticket", "Wait", "Take in charge ticket")
_ENDS = ("Resolve ticket", "Closed")
PROFILE = "helpdesk-it"


def write_history(path: Path, rows: int) -> None:
    """A file of exactly `rows` rows in the shape of the shipped profile, 4 to 7 a case, case after case."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(_HEADER)
        for row in _history(rows):
            out.writerow(row)


def _history(rows: int) -> Iterator[tuple[str, int, str, str, str, str, str]]:
    made, n = 0, 0
    while True:
        random = Random(n)
        at = datetime(2020, 1, 6, 8, 0, tzinfo=UTC) + timedelta(minutes=5 * n)
        for ordinal, step in enumerate((*_STEPS[: random.randint(2, 5)], *_ENDS), 1):
            if made == rows:
                return
            at += timedelta(minutes=random.randint(1, 600))
            if at.hour < 4:  # the profile's times are local: not into the hours that come twice or never
                at += timedelta(hours=4)
            yield (
                f"Case {n}", ordinal, f"{at:%Y-%m-%dT%H:%M:%S}", step, f"Workgroup {random.randint(1, 4)}",
                f"Value {random.randint(1, 20)}", f"Value {random.randint(1, 20)}",
            )  # fmt: skip
            made += 1
        n += 1
