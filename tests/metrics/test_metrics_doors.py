"""What metrics answers: a case's walk, figures, definitions; and whom it answers."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from events.case import CaseAssigned, CaseQueued, CaseReleased
from events.event import CASES, CaseEvent
from events.store import Fold
from services.commands.profiles import load_profile
from services.metrics.definitions import FIGURES
from tests.casewalk import Casewalk
from tests.given import an
from tests.metrics.samples import VINST, printed
from tests.until import until

SPEAKER: Fold[int] = Fold(CASES, lambda case_id: 0, lambda count, event: count + 1)

NOBODYS_CASE = "0195571e-8a00-7000-8000-00000000dead"


async def sent(here: Casewalk, path: str, **body: Any) -> httpx.Response:
    answer = await here.admin.post(path, json=body)
    assert answer.is_success, answer.text
    return answer


async def opened(here: Casewalk, **changes: Any) -> httpx.Response:
    order = {
        "channel": "email",
        "market": "de",
        "language": "de",
        "journey": "delivery",
        "subject": "Wo ist mein Paket?",
        "body": "Es ist noch nicht da.",
        "customer": {"external_id": "crm-1", "name": "Kim Ünal"},
    }
    return await sent(here, "/v1/cases", **(order | changes))


async def said(here: Casewalk, case_id: str, *events: CaseEvent) -> None:
    for event in events:
        await here.hosts[event.WRITER].store.change(
            SPEAKER(case_id), decision=lambda now, count, event=event: [event], actor="agent:anna"
        )
    await here.settled()


async def read(client: httpx.AsyncClient, path: str, **params: Any) -> dict[str, Any]:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def once(
    client: httpx.AsyncClient, path: str, is_so: Callable[[dict[str, Any]], bool], **params: Any
) -> dict[str, Any]:
    """What the door answers as soon as it is so: another service's clocks are not in the log at once."""

    async def look() -> dict[str, Any] | None:
        found = await read(client, path, **params)
        return found if is_so(found) else None

    found = await until(look)
    assert found is not None
    return found


def is_problem(answer: httpx.Response, status: int, why: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert why in answer.json()["detail"]


async def test_a_case_walks_from_first_contact_to_four_answers(here: Casewalk) -> None:
    case_id = (await opened(here)).json()["case_id"]
    await here.settled()
    await said(here, case_id, an(CaseQueued), an(CaseAssigned))
    await sent(here, f"/v1/cases/{case_id}/messages", direction="out", body="Es kommt morgen.")
    await sent(here, f"/v1/cases/{case_id}:resolve")
    await sent(here, f"/v1/cases/{case_id}/feedback", accepted=True, csat=5, nps=9)

    walk = await once(here.admin, f"/v1/walks/{case_id}", lambda walk: walk["verdict"]["in_time"] != "unknown")

    assert walk["verdict"] == {"in_time": "yes", "accepted": "yes", "solved_alone": "yes", "escalated": "no"}
    ids = {line["id"] for line in walk["steps"]}
    assert all(set(walk["evidence"][answer]) <= ids for answer in walk["verdict"])
    assert all(walk["evidence"][answer] for answer in ("in_time", "accepted", "solved_alone"))
    steps = [line["type"].split(".")[2] for line in walk["steps"] if line["kind"] == "step"]
    assert steps == ["opened", "queued", "assigned", "message_sent", "resolved"]
    assert "Paket" not in json.dumps(walk)
    assert "Kim" not in json.dumps(walk)


async def test_a_walk_shows_that_two_had_the_case_at_once(here: Casewalk) -> None:
    """The router lets go of the agent only after the unit was asked."""
    case_id = (await opened(here)).json()["case_id"]
    await here.settled()
    await said(here, case_id, an(CaseQueued), an(CaseAssigned, agent_id="anna"))
    order = {"case_id": case_id, "reason": "the customer is stranded abroad"}
    unit_id = (await sent(here, "/v1/escalations", **order)).json()["unit_id"]
    await here.settled()

    (lasting,) = (await read(here.admin, f"/v1/walks/{case_id}"))["overlaps"]
    await said(here, case_id, an(CaseReleased, agent_id="anna"))
    (over,) = (await read(here.admin, f"/v1/walks/{case_id}"))["overlaps"]

    assert (lasting["holders"], lasting["until"]) == (["agent:anna", f"unit:{unit_id}"], None)
    assert over["since"] == lasting["since"] < over["until"]


async def test_figures_count_what_happened_in_the_market_asked_for(here: Casewalk) -> None:
    case_id = (await opened(here)).json()["case_id"]
    await opened(here, market="fr")
    await sent(here, f"/v1/cases/{case_id}/messages", direction="out", body="Es kommt morgen.")
    await sent(here, f"/v1/cases/{case_id}:resolve")
    position = (await sent(here, f"/v1/cases/{case_id}/feedback", csat=2)).headers["Casewalk-Position"]

    stopped = {"where": "market=de", "after": position}
    figures = await once(here.admin, "/v1/figures", lambda figures: figures["promise_kept"]["n"] == 1, **stopped)
    split = await read(here.admin, "/v1/figures", by="market")

    assert figures["cases"] == {"value": 1, "n": 1, "definition": "cases@1"}
    assert figures["backlog"]["value"] == 0
    assert figures["promise_kept"] == {"cases": 1, "percent": 100.0, "n": 1, "definition": "promise_kept@1"}
    assert figures["first_response_kept"]["percent"] == 100.0
    assert figures["first_response"]["median_s"] > 0
    assert figures["accepted"]["percent"] == 0.0
    assert figures["nps"]["value"] is None
    assert "recommend" in figures["nps"]["missing"]
    assert split["by"] == "market"
    assert split["groups"]["de"] == figures
    assert split["groups"]["fr"]["backlog"]["value"] == 1


async def test_a_case_counts_where_it_is_seen_now_and_its_walk_says_why(here: Casewalk) -> None:
    case_id = (await opened(here, tier="silver")).json()["case_id"]
    await sent(
        here, f"/v1/cases/{case_id}:classify", tier="gold", priority="urgent", reason="the customer called again"
    )
    flagged = await sent(here, f"/v1/cases/{case_id}:flag", flag="legal", reason="a lawyer wrote")
    after = {"after": flagged.headers["Casewalk-Position"]}

    by_tier = await read(here.admin, "/v1/figures", by="tier", **after)
    urgent = await read(here.admin, "/v1/figures", where="priority=urgent", **after)
    walk = await read(here.admin, f"/v1/walks/{case_id}", **after)

    assert set(by_tier["groups"]) == {"gold"}
    assert (urgent["cases"]["value"], urgent["events"]["value"]) == (1, 1)
    assert [(line["what"], line["why"]) for line in walk["steps"] if line["kind"] == "label"] == [
        ("seen otherwise: priority urgent, tier gold", "the customer called again"),
        ("flagged: legal", "a lawyer wrote"),
    ]


async def test_an_import_gives_its_figures_also_after_a_rebuild(here: Casewalk) -> None:
    rows = load_profile("vinst").rows(VINST.small.splitlines())
    answer = await here.admin.post(
        "/v1/imports",
        params={"profile": "vinst", "import_id": "history"},
        content="\n".join(json.dumps(row) for row in rows),
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert answer.status_code == 200, answer.text
    await opened(here)
    await here.settled()
    before = await read(here.admin, "/v1/figures", where="import=history")

    await sent(here, "/v1/ops/metrics/views/case_facts:rebuild")
    after = await read(here.admin, "/v1/figures", where="import=history")
    verified = await here.admin.get("/v1/ops/metrics/verify")

    assert printed(before, VINST.counted) == VINST.counted
    assert after == before
    assert verified.status_code == 200, verified.text


async def test_a_client_reads_its_own_write_in_the_figures(doors: Casewalk) -> None:
    for number in range(1, 6):
        position = (await opened(doors, market="own")).headers["Casewalk-Position"]
        figures = await read(doors.admin, "/v1/figures", where="market=own", after=position)
        assert figures["cases"]["value"] == number


async def test_a_case_nobody_knows_has_no_walk(doors: Casewalk) -> None:
    is_problem(await doors.admin.get(f"/v1/walks/{NOBODYS_CASE}"), 404, f"no case {NOBODYS_CASE}")


async def test_every_figure_is_defined_and_names_its_definition(doors: Casewalk) -> None:
    await doors.settled()

    items = (await read(doors.admin, "/v1/definitions"))["items"]
    figures = await read(doors.admin, "/v1/figures")

    assert {item["id"] for item in items} == {figure.id for figure in FIGURES} == set(figures)
    assert {item["definition"] for item in items} == {figure["definition"] for figure in figures.values()}
    assert all(item["formula"] and item["source"] and item["unit"] for item in items)


@pytest.mark.parametrize(
    ("role", "holder", "walks", "figures"),
    [
        ("reader", None, 404, 200),
        ("lead", None, 404, 200),
        ("agent", "anna", 404, 403),
        ("channel", None, 403, 403),
        ("partner", "swift", 403, 403),
    ],
)
async def test_each_role_comes_through_its_own_doors_only(
    doors: Casewalk, role: str, holder: str | None, walks: int, figures: int
) -> None:
    client = await doors.key(role, holder)

    assert (await client.get(f"/v1/walks/{NOBODYS_CASE}")).status_code == walks
    assert (await client.get("/v1/figures")).status_code == figures


async def test_without_a_key_no_door_opens(doors: Casewalk) -> None:
    client = await doors.client(None)

    for path in (f"/v1/walks/{NOBODYS_CASE}", "/v1/figures", "/v1/definitions"):
        is_problem(await client.get(path), 401, "Authorization")


@pytest.mark.parametrize(
    "query",
    [
        "where=market",
        "where=country%3Dde",
        "where=market%3D",
        "where=market%3Dd%00e",
        "where=market%3D" + "x" * 300,
        "where=" + "&where=".join(["market%3Dde"] * 51),
        "by=weather",
        "by=",
        "from=yesterday",
        "from=2026-03-02T09:00:00",
        "from=0001-01-01T00:00:00%2B14:00",
        "until=9999-12-31T23:59:59-14:00",
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(doors: Casewalk, query: str) -> None:
    is_problem(await doors.admin.get(f"/v1/figures?{query}"), 422)


@pytest.mark.parametrize("case_id", ["x", "%00", NOBODYS_CASE.upper(), NOBODYS_CASE + "0", "%F0%9F%93%A6"])
async def test_what_is_no_case_id_is_refused(doors: Casewalk, case_id: str) -> None:
    is_problem(await doors.admin.get(f"/v1/walks/{case_id}"), 422)


async def test_a_period_is_half_open(doors: Casewalk) -> None:
    at = "2026-03-02T09:00:00Z"
    position = (await opened(doors, market="period", occurred_at=at)).headers["Casewalk-Position"]
    asked = {"where": "market=period", "after": position}

    since = await read(doors.admin, "/v1/figures", **asked, **{"from": at})
    before = await read(doors.admin, "/v1/figures", **asked, until=at)
    days = await read(doors.admin, "/v1/figures", **asked, by="day")

    assert (since["cases"]["value"], before["cases"]["value"]) == (1, 0)
    assert list(days["groups"]) == ["2026-03-02"]
