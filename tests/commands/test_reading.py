"""What the reading commands print: clean JSON, readable text, and exit codes a script can use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from rich.console import Console

from services.commands.clock import explanation
from services.commands.figures import shown
from services.commands.walk import duration
from tests.commands.conftest import Up, called, free_port
from tests.until import until

ORDER = {
    "channel": "chat",
    "market": "de",
    "language": "de",
    "journey": "billing",
    "subject": "Charged twice",
    "body": "I was charged twice.",
    "customer": {"external_id": "c-1"},
}


@pytest.fixture(scope="module")
async def case_id(up: Up) -> str:
    """A case that was resolved and that its customer found acceptable, as metrics sees it too."""
    async with up.client() as client:
        case_id: str = (await client.post("/v1/cases", json=ORDER)).json()["case_id"]
        await client.post(f"/v1/cases/{case_id}:resolve", json={})
        answer = await client.post(f"/v1/cases/{case_id}/feedback", json={"accepted": True})
        assert answer.status_code == 201, answer.text

        async def accepted() -> bool:
            walk = await client.get(f"/v1/walks/{case_id}")
            return walk.is_success and walk.json()["verdict"]["accepted"] == "yes"

        await until(accepted)
        return case_id


async def test_figures_as_json_are_what_the_door_answers_and_nothing_else(up: Up, case_id: str) -> None:
    ended = await up.command("figures", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json["resolved_cases"]["value"] == 1
    assert ended.json["cases"]["definition"] == "cases@1"


async def test_figures_are_limited_and_split_by_dimensions(up: Up, case_id: str) -> None:
    limited = await up.command("figures", "--json", "--where", "market=de", "--where", "market=fr")
    elsewhere = await up.command("figures", "--json", "--where", "market=fr")
    split = await up.command("figures", "--by", "market")
    assert limited.json["cases"]["value"] == 1
    assert elsewhere.json["cases"]["value"] == 0
    assert "Figures by market" in split.out


async def test_a_dimension_that_does_not_exist_is_refused_with_the_ones_that_do(up: Up) -> None:
    ended = await up.command("figures", "--where", "colour=red")
    assert ended.code == 4
    assert "import, market" in ended.err


async def test_a_walk_is_a_timeline_that_ends_in_four_answers(up: Up, case_id: str) -> None:
    ended = await up.command("walk", case_id)
    assert ended.code == 0
    for words in ("a customer came in by chat", "resolved by", "the customer answered the survey"):
        assert words in ended.out
    for question, answer in (("in time", "yes"), ("Acceptable", "yes"), ("Escalated", "no")):
        assert any(question in line and answer in line for line in ended.out.splitlines())
    assert (await up.command("walk", case_id, "--json")).json["case_id"] == case_id


async def test_a_case_nobody_knows_is_refused_with_the_servers_words(up: Up) -> None:
    ended = await up.command("walk", "00000000-0000-5000-8000-000000000000")
    assert (ended.code, ended.out) == (4, "")
    assert "no case 00000000-0000-5000-8000-000000000000 is known here" in ended.err


async def test_a_key_that_is_none_is_refused(up: Up) -> None:
    ended = await up.command("figures", CASEWALK_KEY="cw_wrong")
    assert ended.code == 4
    assert "this key is not valid here" in ended.err


async def test_without_a_server_the_exit_code_is_3() -> None:
    ended = await called("figures", CASEWALK_URL=f"http://127.0.0.1:{free_port()}")
    assert ended.code == 3
    assert "no server answers" in ended.err


async def test_clock_says_what_was_promised_and_where_every_minute_went(up: Up, case_id: str) -> None:
    shown = await up.command("clock", case_id)
    assert shown.code == 0
    assert "judged by standard@1" in shown.out
    assert "first response" in shown.out
    assert "working time" in shown.out
    assert "nothing promised" in shown.out
    told = (await up.command("clock", case_id, "--json")).json
    assert {item["clock"] for item in told["items"]} >= {"first_response", "resolution", "handling"}


def told(**changes: Any) -> str:
    """How a clock of eight hours is printed."""
    piece = {"since": "2026-03-30T09:00:00Z", "until": "2026-03-30T10:00:00Z", "counted": True, "why": "working time"}
    piece |= {"seconds": 3600.0, "pieces": 1, "promise": "standard@1", "calendar": "office@2"}
    clock = {"clock": "resolution", "episode": 1, "turn": 0, "owner": None, "state": "running", "kept": None}
    clock |= {"promise": "standard@1", "calendar": "office@2", "started_at": piece["since"], "warned": []}
    clock |= {"due_at": "2026-03-30T17:00:00Z", "target_s": 28_800, "elapsed_s": 3600, "remaining_s": 25_200}
    clock |= {"fires": True, "ignored_s": 0, "segments": [piece | changes.pop("piece", {})]} | changes
    console = Console(width=160)
    with console.capture() as shown:
        console.print(explanation("c-1", {"items": [clock], "promises": ["standard@1"], "tzdata": "2026f"}))
    return shown.get()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "resolution: running; 1 h used of 8 h, due 2026-03-30 17:00:00"),
        (
            {"kept": False, "state": "breached", "warned": [50, 75]},
            "breached, not kept; 1 h used of 8 h, due",
        ),
        ({"state": "paused", "due_at": None}, "paused; 1 h used of 8 h, 7 h left when it goes on"),
        ({"state": "no_working_time", "due_at": None}, "of 8 h, never due: office@2 has too little working time"),
        ({"ignored_s": 3600}, "; 1 h paused after the customer had come in again"),
        ({"piece": {"pieces": 12}}, "working time, 12 times"),
        ({"piece": {"calendar": "night@1", "promise": "vip@3"}}, "vip@3 on night@1"),
    ],
)
def test_a_clock_is_told_in_words_a_team_lead_can_check(changes: dict[str, Any], says: str) -> None:
    assert says in told(**changes)


@pytest.mark.parametrize("name", ["up", "serve", "import", "figures", "walk", "clock", "rebuild", "verify", "demo"])
async def test_every_command_explains_itself(name: str) -> None:
    shown = await called(name, "--help")
    assert shown.code == 0
    assert f"Usage: casewalk {name}" in shown.out


@pytest.fixture
async def tampered(up: Up, case_id: str) -> AsyncIterator[None]:
    """A row of a view that no event ever made, in a view that is whole again afterwards."""
    socket_directory = up.directory / "postgres" / "socket"
    password = (up.directory / "postgres" / "password").read_text()
    connection = await asyncpg.connect(
        host=str(socket_directory), user="postgres", password=password, database="casewalk"
    )
    try:
        (table,) = await connection.fetch("select table_name from metrics.view where name = 'case_facts'")
        done = await connection.execute(f"update metrics.{table['table_name']} set market = 'mars'")
        assert done == "UPDATE 1"
        yield
    finally:
        await connection.close()
        await up.command("rebuild", "all")


async def test_verify_exits_0_when_all_is_equal(up: Up, case_id: str) -> None:
    ended = await up.command("verify", "--json")
    assert ended.code == 0, ended.out
    assert ended.json["equal"] is True
    assert {view["service"] for view in ended.json["views"]} == {"intake", "router", "escalation", "vendor", "metrics"}


async def test_verify_exits_1_and_names_what_differs(up: Up, case_id: str, tampered: None) -> None:
    ended = await up.command("verify")
    assert ended.code == 1
    (different,) = [line for line in ended.out.splitlines() if "DIFFERENT" in line]
    assert different.startswith("metrics/case_facts@")
    assert case_id in different


async def test_a_rebuild_makes_a_view_what_the_log_says(up: Up, case_id: str, tampered: None) -> None:
    rebuilt = await up.command("rebuild", "case_facts")
    verified = await up.command("verify")
    assert (rebuilt.code, verified.code) == (0, 0), verified.out
    assert rebuilt.out.splitlines() == ["metrics/case_facts: 1 rows"]


async def test_a_view_that_does_not_exist_is_a_usage_error(up: Up) -> None:
    ended = await up.command("rebuild", "castles")
    assert ended.code == 2
    assert "no service has a view named castles" in ended.err


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (59, "59 s"), (60, "1 min"), (3_725, "1 h 2 min"), (176_400, "2 d 1 h")],
)
def test_durations_are_said_in_their_two_largest_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said
    assert duration(-seconds) == f"-{said}"


@pytest.mark.parametrize(
    ("value", "said"), [(None, "–"), (0.0, "0.00"), (0.00042, "0.00042"), (12.083, "12.08"), (65_533, "65,533")]
)
def test_numbers_are_printed_as_people_read_them(value: float | None, said: str) -> None:
    assert shown(value) == said
