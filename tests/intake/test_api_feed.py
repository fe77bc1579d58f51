"""The event feed: everything about every case, in each case's order, for subscribers without Kafka."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from cloudevents.v1.http import from_json

from events.case import CaseAssigned, CaseQueued
from services.web import cursor
from tests.given import an
from tests.intake.conftest import Doors, opening
from tests.until import until


async def read(
    doors: Doors, after: str | None = None, query: str = "", limit: int = 500
) -> tuple[list[dict[str, Any]], str]:
    """Everything from `after` on, in pages of at most `limit`, and where it ends."""
    items: list[dict[str, Any]] = []
    while True:
        where = f"&after={after}" if after else ""
        page = await doors("GET", f"/v1/events?limit={limit}{query}{where}", role="reader")
        assert page.status_code == 200, page.text
        assert len(page.json()["items"]) <= limit
        items += page.json()["items"]
        if page.json()["next"] == after:
            return items, page.json()["next"]
        after = page.json()["next"]


async def test_a_subscriber_reads_everything_once_in_each_cases_order(engine_doors: Doors) -> None:
    doors = engine_doors
    _, start = await read(doors)
    ids = [await doors.open() for _ in range(8)]
    for case_id in ids:
        await doors.say(case_id, an(CaseQueued), an(CaseAssigned))
        await doors("POST", f"/v1/cases/{case_id}:resolve", role="lead")
    seen: list[dict[str, Any]] = []

    async def all_read(state: dict[str, str]) -> bool:
        items, state["after"] = await read(doors, state["after"], limit=3)
        seen.extend(items)
        return len(seen) >= 32

    await until(partial(all_read, {"after": start}))

    assert len({(item["source"], item["id"]) for item in seen}) == len(seen) == 32
    for case_id in ids:
        types = [item["type"].split(".")[2] for item in seen if item["subject"] == case_id]
        assert types == ["opened", "queued", "assigned", "resolved"]


async def test_the_official_sdk_reads_every_item(engine_doors: Doors) -> None:
    case_id = await engine_doors.open()

    async def items() -> list[dict[str, Any]]:
        found, _ = await read(engine_doors)
        return [item for item in found if item["subject"] == case_id]

    (item,) = await until(items)
    event = from_json(json.dumps(item))

    assert event["type"] == "casewalk.case.opened.v1"
    assert event["source"] == "urn:casewalk:intake"
    assert event["sequence"] == "00000000000000000001"
    assert event["dataschema"] == "/schemas/casewalk.case.opened.v1"
    assert event.data["market"] == "de"
    assert event.data["title"]["$enc"] == 1


async def test_a_subscriber_may_ask_for_one_type_only(doors: Doors) -> None:
    case_id = await doors.open()
    last = await doors("POST", f"/v1/cases/{case_id}:resolve", role="lead")
    await doors.host.wait_for(last.headers["Casewalk-Position"])

    items, _ = await read(doors, query="&type=casewalk.case.resolved.v1")

    assert case_id in {item["subject"] for item in items}
    assert {item["type"] for item in items} == {"casewalk.case.resolved.v1"}


async def test_a_cursor_beyond_the_end_gives_nothing_and_stays(engine_doors: Doors) -> None:
    ahead = cursor(*["999999999999999999"] * 12)

    page = await engine_doors("GET", f"/v1/events?after={ahead}", role="reader")

    assert page.json() == {"items": [], "next": ahead}


@pytest.mark.parametrize("query", ["after=x", "after=WyJhIl0", "after=%00", "limit=0", "limit=x", "type=DROP"])
async def test_a_cursor_that_is_none_is_refused(doors: Doors, query: str) -> None:
    assert (await doors("GET", f"/v1/events?{query}", role="reader")).status_code == 422


async def test_after_is_the_feeds_own_cursor_and_no_position_to_wait_for(doors: Doors) -> None:
    described = (await doors.client.get("/openapi.json")).json()
    taken = [parameter["name"].lower() for parameter in described["paths"]["/v1/events"]["get"]["parameters"]]
    position = (await doors("POST", "/v1/cases", opening(), role="channel")).headers["Casewalk-Position"]

    answer = await doors("GET", f"/v1/events?after={position}", role="reader")

    assert taken.count("after") == 1
    assert "casewalk-after" not in taken
    assert (answer.status_code, answer.json()["detail"]) == (422, "this cursor is not one of ours")


async def test_the_feed_is_for_keys_that_may_read_it(doors: Doors) -> None:
    assert (await doors.client.get("/v1/events")).status_code == 401
    assert (await doors("GET", "/v1/events", role="partner:swift")).status_code == 403
