"""The demo's day: told by a seed, as varied as a real one, and played to its end through the REST API."""

from __future__ import annotations

import socket
from collections import Counter
from functools import partial
from itertools import chain
from typing import Any

import pytest

from services.commands.client import Client
from services.commands.demo import play, staffed
from services.commands.demo.day import Day
from services.commands.demo.script import BROKEN, CASES, EDGE, ODYSSEY, PAUSED, SAVED, SHOWN, Act, visits
from services.commands.demo.town import CHANNELS, JOURNEYS, LANGUAGES, MARKETS, published
from services.commands.settings import connect
from tests.commands.conftest import Up, called, command, free_port

SEED = 7


async def clock(admin: Client, case_id: str, kind: str) -> dict[str, Any]:
    """The case's only clock of the kind."""
    (one,) = [one for one in (await admin.get("/v1/clocks", case=case_id)).body["items"] if one["clock"] == kind]
    return dict(one)


def test_a_seed_tells_one_day() -> None:
    assert visits(SEED) == visits(SEED)
    assert visits(SEED) != visits(SEED + 1)


def test_a_day_has_some_hundred_cases_of_every_market_language_journey_and_channel() -> None:
    orders = [visit.order for visit in visits(SEED)]
    assert len(orders) == CASES >= 200
    for name, values in (("market", MARKETS), ("language", LANGUAGES), ("journey", JOURNEYS), ("channel", CHANNELS)):
        assert {order[name] for order in orders} == set(values), name
    assert (len(MARKETS), len(LANGUAGES), len(JOURNEYS), len(CHANNELS)) == (5, 6, 6, 5)


def test_every_kind_of_story_happens_on_a_day() -> None:
    acts = Counter(chain.from_iterable(visit.acts for visit in visits(SEED)))
    assert set(acts) == set(Act)
    assert sum(visit.survey is not None for visit in visits(SEED)) > CASES / 3


def test_what_is_published_names_only_what_was_published_before() -> None:
    known = {"general", "escalation"}
    for path, body in published():
        named = {body.get("unit_id"), body.get("partner_id"), *body.get("unit_ids", ()), *body.get("queue_ids", ())}
        named |= {rule["queue_id"] for rule in body.get("rules", ())}
        named |= {share["partner_id"] for share in body.get("shares", ())}
        assert named - {None} <= known, path
        known.add(path.rsplit("/", 1)[1])


async def test_a_short_day_is_played_to_its_end_and_measured(up: Up) -> None:
    short = visits(SEED, 40)
    opened = partial(connect, up.url, data=up.directory)
    ended: list[None] = []
    async with opened(key=up.key) as admin, staffed(admin, opened) as staff:
        day = Day(staff, SEED, ended=lambda: ended.append(None))
        await play(admin, day, short)
        figures = (await admin.get("/v1/figures")).body
        explained = [one async for one in admin.all("/v1/figures/promise_kept/cases", limit=7)]
        walks = {acts: (await admin.get(f"/v1/walks/{day.case_of(acts)}")).body for acts in SHOWN}
        saved, broken = [await clock(admin, day.case_of(acts), "resolution") for acts in (SAVED, BROKEN)]
        paused = await clock(admin, day.case_of(PAUSED), "requester_wait")

    assert len(ended) == figures["cases"]["value"] == len(short)
    counted = Counter(case["verdict"] for case in explained if case["counted"])
    kept = figures["promise_kept"]
    assert (len(explained), counted["yes"], counted.total()) == (len(short), kept["cases"], kept["n"])
    assert {case["why"] for case in explained if not case["counted"]} == {"the clock still runs"}
    printed = await up.command("figures", "--cases", "promise_kept")
    assert f"{kept['cases']} of {kept['n']}; {len(short) - kept['n']} not counted" in printed.out
    assert figures["backlog"]["value"] == sum(visit.stays_open for visit in short)
    walk = walks[ODYSSEY]
    assert walk["verdict"] == {"in_time": "yes", "accepted": "yes", "solved_alone": "no", "escalated": "yes"}
    told = " ".join(step["type"] for step in walk["steps"])
    for happened in ("transferred", "handed_over", "partner_returned", "escalated", "feedback_received"):
        assert f"casewalk.case.{happened}.v1" in told
    assert any("to the case's own address" in step["what"] for step in walks[EDGE]["steps"])
    assert any("of unit edge-cases owns it now" in step["what"] for step in walks[EDGE]["steps"])
    assert (saved["kept"], saved["warned"][:1], broken["kept"]) == (True, [30], False)
    assert (paused["state"], paused["segments"][-1]["why"]) == ("paused", "paused: waiting customer")
    assert (await up.command("verify")).code == 0


ON_KAFKA = pytest.param(("--kafka",), marks=pytest.mark.broker, id="kafka")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [pytest.param((), id="embedded"), ON_KAFKA])
async def test_the_demo_plays_its_day_shows_what_came_of_it_and_ends(options: tuple[str, ...]) -> None:
    port = free_port()
    ended = await command("demo", "--once", "--visits=10", f"--port={port}", *options, limit_s=290)
    assert ended.code == 0, ended.err
    clocks = ("warned of: saved", "hurried for: broken", "waits for the customer")
    for shown in ("Resolved in time?", "An edge case", *clocks, "Figures", f"http://127.0.0.1:{port}/docs"):
        assert shown in ended.out
    with socket.socket() as gone:
        assert gone.connect_ex(("127.0.0.1", port)) != 0


async def test_the_demo_does_not_start_a_broker_for_somebody_elses_casewalk() -> None:
    ended = await called("demo", "--once", "--kafka", "--url", "http://127.0.0.1:8080")
    assert ended.code == 2
    assert "--kafka starts a Casewalk of its own" in ended.err
