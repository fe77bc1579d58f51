"""Vendor's doors: partners see and move their own cases, and the split is exact under two processes."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx

from events.case import CaseQueued, UnitKind
from events.consume import Reacting
from events.database import Connection
from events.testing import recorded
from tests.casewalk import Casewalk
from tests.given import an
from tests.until import until
from tests.vendor.conftest import queue

UNKNOWN_CASE = "0195571e-8a00-7000-8000-00000000dead"


async def partner(here: Casewalk, partner_id: str, *queues: str) -> None:
    """A partner with a contract for these queues."""
    registered = await here.admin.put(f"/v1/partners/{partner_id}", json={"name": partner_id.title()})
    assert registered.status_code == 200, registered.text
    order = {"partner_id": partner_id, "queue_ids": queues}
    contract = await here.admin.put(f"/v1/contracts/{partner_id}-contract", json=order)
    assert contract.status_code == 200, contract.text


async def shares(here: Casewalk, queue_id: str, **percents: int) -> None:
    order = {"shares": [{"partner_id": partner_id, "percent": percent} for partner_id, percent in percents.items()]}
    answer = await here.admin.put(f"/v1/share-plans/{queue_id}", json=order)
    assert answer.status_code == 200, answer.text


async def opened(here: Casewalk) -> str:
    order = {
        "channel": "email",
        "market": "de",
        "language": "de",
        "journey": "delivery",
        "subject": "Wo ist mein Paket?",
        "body": "Es ist noch nicht da.",
        "customer": {"external_id": "crm-1"},
    }
    answer = await here.admin.post("/v1/cases", json=order)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["case_id"])


async def cases(client: httpx.AsyncClient, partner_id: str, **params: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/partners/{partner_id}/cases", params=params)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def handed_over(here: Casewalk, partner_id: str, case_id: str) -> None:
    async def lies_there() -> bool:
        return case_id in [item["case_id"] for item in await cases(here.admin, partner_id, status="handed_over")]

    await until(lies_there)


def is_problem(answer: httpx.Response, status: int, why: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert why in answer.json()["detail"]


async def test_a_queued_case_is_handed_over_accepted_and_resolved_by_the_partner(here: Casewalk) -> None:
    await partner(here, "swift", "parcels")
    swift = await here.key("partner", "swift")
    case_id = await opened(here)
    await queue(here, case_id)
    await handed_over(here, "swift", case_id)
    path = f"/v1/partners/swift/cases/{case_id}"
    for _ in range(2):
        accepted = await swift.post(f"{path}:accept", json={})
        order = accepted.json()
        assert (accepted.status_code, order["status"], order["order_id"]) == (200, "accepted", f"{case_id}.1")
    for _ in range(2):
        resolved = await swift.post(f"{path}:resolve", json={"code": "delivered"})
        assert (resolved.status_code, resolved.json()["code"]) == (200, "delivered")
    is_problem(await swift.post(f"{path}:return", json={"reason": "?"}), 409, "delivered")

    async def is_resolved() -> bool:
        case = (await here.admin.get(f"/v1/cases/{case_id}")).json()
        return bool(case["category"] == "resolved")

    await until(is_resolved)


async def test_two_processes_split_a_queue_exactly(here: Casewalk) -> None:
    for partner_id in ("swift", "steady", "slow"):
        await partner(here, partner_id, "parcels")
    await shares(here, "parcels", swift=60, steady=30, slow=10)
    await asyncio.gather(*(queue(here, str(uuid4())) for _ in range(60)))

    async def got() -> Counter[str]:
        return Counter({p: len(await cases(here.admin, p)) for p in ("swift", "steady", "slow")})

    async def all_lie_somewhere() -> bool:
        return (await got()).total() == 60

    await until(all_lie_somewhere)
    assert await got() == {"swift": 36, "steady": 18, "slow": 6}


async def test_two_transactions_at_once_count_what_the_other_gives(doors: Casewalk) -> None:
    """The second waits for the first: counting beside it, both would give their first case to the largest share."""
    await partner(doors, "swift", "parcels")
    await partner(doors, "steady", "parcels")
    await shares(doors, "parcels", swift=60, steady=40)
    host = doors.hosts["vendor"]
    reacting = Reacting(host.store, host.service.reactors)
    queued = an(CaseQueued, queue_id="parcels", unit_kind=UnitKind.PARTNER)

    async def hand_over_one(conn: Connection) -> None:
        await reacting.handle(conn, [recorded(queued, subject=str(uuid4()))])

    async def beside() -> None:
        async with host.database.writers.acquire() as conn, conn.transaction():
            await hand_over_one(conn)

    async with host.database.writers.acquire() as conn, conn.transaction():
        await hand_over_one(conn)
        second = asyncio.create_task(beside())

        async def second_waits() -> bool:
            waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            return second.done() or bool(await host.database.readers.fetchval(waiting))

        await until(second_waits)
    await second
    assert [len(await cases(doors.admin, partner_id)) for partner_id in ("swift", "steady")] == [1, 1]


async def test_a_queue_without_a_contract_sends_the_case_back_once_with_the_reason(here: Casewalk) -> None:
    case_id = str(uuid4())
    for _ in range(3):
        await queue(here, case_id, "letters")
        await here.settled()
    said = await here.hosts["vendor"].store.events("casewalk.cases", case_id)
    assert [(event.data.TYPE, event.data.partner_id, event.data.reason) for event in said] == [
        ("casewalk.case.partner_returned.v1", None, "no contract covers the queue letters")
    ]


async def test_a_partner_sees_its_own_cases_and_nothing_else(doors: Casewalk) -> None:
    await partner(doors, "swift", "parcels")
    await partner(doors, "steady", "letters")
    swift, steady = await doors.key("partner", "swift"), await doors.key("partner", "steady")
    mine, theirs, nobodys = str(uuid4()), str(uuid4()), str(uuid4())
    await queue(doors, mine, "parcels")
    await queue(doors, theirs, "letters")
    await queue(doors, nobodys, "general", UnitKind.FRONT_END)
    await handed_over(doors, "swift", mine)
    await handed_over(doors, "steady", theirs)
    assert [item["case_id"] for item in await cases(swift, "swift")] == [mine]
    is_problem(await steady.get("/v1/partners/swift/cases"), 403)
    is_problem(await steady.post(f"/v1/partners/swift/cases/{mine}:accept", json={}), 403)
    for foreign in (theirs, nobodys, UNKNOWN_CASE):
        for order, body in (("accept", {}), ("return", {"reason": "?"}), ("resolve", {})):
            is_problem(await swift.post(f"/v1/partners/swift/cases/{foreign}:{order}", json=body), 404)
    for config in ("/v1/partners", "/v1/partners/swift", "/v1/contracts", "/v1/share-plans"):
        is_problem(await swift.get(config), 403)


async def test_a_returned_case_is_nobodys_to_resolve(doors: Casewalk) -> None:
    await partner(doors, "swift", "parcels")
    case_id = str(uuid4())
    await queue(doors, case_id)
    await handed_over(doors, "swift", case_id)
    path = f"/v1/partners/swift/cases/{case_id}"
    returned = await doors.admin.post(f"{path}:return", json={"reason": "not our parcel"})
    assert (returned.status_code, returned.json()["status"]) == (200, "returned")
    is_problem(await doors.admin.post(f"{path}:resolve", json={}), 409, "not our parcel")
    is_problem(await doors.admin.post(f"{path}:accept", json={}), 409, "not our parcel")
    (item,) = await cases(doors.admin, "swift", status="returned")
    assert item["reason"] == "not our parcel"


async def test_a_case_that_ends_elsewhere_is_listed_as_ended_and_left_alone(doors: Casewalk) -> None:
    await partner(doors, "swift", "parcels")
    case_id = await opened(doors)
    await queue(doors, case_id)
    await handed_over(doors, "swift", case_id)
    await doors.admin.post(f"/v1/cases/{case_id}:resolve", json={})
    await doors.settled()
    assert [item["case_id"] for item in await cases(doors.admin, "swift", status="ended")] == [case_id]
    assert await cases(doors.admin, "swift", status="handed_over") == []
    is_problem(await doors.admin.post(f"/v1/partners/swift/cases/{case_id}:return", json={"reason": "?"}), 409, "end")


async def test_configuration_is_published_by_version(doors: Casewalk) -> None:
    await partner(doors, "swift", "parcels")
    await partner(doors, "steady", "parcels")
    await shares(doors, "parcels", swift=60, steady=40)
    await shares(doors, "parcels", swift=60, steady=40)
    one = await doors.admin.get("/v1/share-plans/parcels")
    assert (one.json()["version"], one.headers["ETag"]) == (1, '"1"')
    await shares(doors, "parcels", swift=50, steady=50)
    assert (await doors.admin.get("/v1/share-plans")).json()["items"][0]["version"] == 2
    names = [item["name"] for item in (await doors.admin.get("/v1/partners")).json()["items"]]
    assert names == ["Steady", "Swift"]
    contract = (await doors.admin.get("/v1/contracts/swift-contract")).json()
    expected = {"contract_id": "swift-contract", "version": 1, "partner_id": "swift", "queue_ids": ["parcels"]}
    assert contract == expected
    assert expected in (await doors.admin.get("/v1/contracts")).json()["items"]
    stale = {"If-Match": '"7"'}
    is_problem(await doors.admin.put("/v1/partners/swift", json={"name": "x"}, headers=stale), 412)
    odd = {"shares": [{"partner_id": "swift", "percent": 99}]}
    is_problem(await doors.admin.put("/v1/share-plans/parcels", json=odd), 422, "sum to 99")
    is_problem(await doors.admin.put("/v1/share-plans/letters", json=odd), 422, "covers the queue letters")


async def test_a_partners_cases_are_listed_page_by_page(doors: Casewalk) -> None:
    await partner(doors, "swift", "parcels")
    ids = [str(uuid4()) for _ in range(5)]
    for case_id in ids:
        await queue(doors, case_id)
        await handed_over(doors, "swift", case_id)
    listed: list[str] = []
    url: str | None = "/v1/partners/swift/cases?limit=2"
    while url is not None:
        page = await doors.admin.get(url)
        listed += [item["case_id"] for item in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else None
    assert listed == ids


MAY = {
    "reader": {"read"},
    "channel": set[str](),
    "agent": set[str](),
    "lead": {"read", "work", "publish"},
}


async def test_every_role_opens_its_doors_and_no_others(doors: Casewalk) -> None:
    for role, may in MAY.items():
        key = await doors.key(role, "olga" if role == "agent" else None)
        path = f"/v1/partners/swift/cases/{UNKNOWN_CASE}"
        answers = {
            "read": [await key.get("/v1/partners"), await key.get("/v1/partners/swift/cases")],
            "work": [await key.post(f"{path}:accept", json={}), await key.post(f"{path}:resolve", json={})],
            "publish": [await key.put("/v1/partners/swift", json={"name": "Swift"})],
        }
        for what, said in answers.items():
            assert {answer.status_code != 403 for answer in said} == {what in may}, (role, what)
    assert (await (await doors.client(None)).get("/v1/partners")).status_code == 401


BAD: list[tuple[str, str, object, int]] = [
    ("GET", "/v1/partners/nobody", None, 404),
    ("GET", "/v1/partners/nobody/cases", None, 404),
    ("GET", "/v1/partners/%00/cases", None, 422),
    ("GET", "/v1/partners/swift/cases?status=lost", None, 422),
    ("GET", "/v1/partners/swift/cases?limit=501", None, 422),
    ("GET", "/v1/contracts/none", None, 404),
    ("GET", "/v1/share-plans/none", None, 404),
    ("PUT", "/v1/partners/x", {"name": "a\x00b"}, 422),
    ("PUT", "/v1/partners/x", {"name": "x", "contact": "Sam"}, 422),
    ("PUT", "/v1/contracts/x", {"partner_id": "nobody", "queue_ids": ["parcels"]}, 422),
    ("PUT", "/v1/contracts/x", {"partner_id": "swift", "queue_ids": []}, 422),
    ("PUT", "/v1/share-plans/parcels", {"shares": [{"partner_id": "swift", "percent": 101}]}, 422),
    ("POST", "/v1/partners/swift/cases/nonsense:accept", {}, 422),
    ("POST", f"/v1/partners/swift/cases/{UNKNOWN_CASE}:return", {}, 422),
    ("POST", f"/v1/partners/swift/cases/{UNKNOWN_CASE}:explode", {}, 404),
]


async def test_bad_input_is_answered_with_a_problem_and_changes_nothing(doors: Casewalk) -> None:
    await partner(doors, "swift", "parcels")
    events = "select count(*) from events"
    before = await doors.hosts["vendor"].database.readers.fetchval(events)
    for method, path, body, status in BAD:
        is_problem(await doors.admin.request(method, path, json=body), status)
    assert await doors.hosts["vendor"].database.readers.fetchval(events) == before


async def test_the_examples_of_the_documentation_work(doors: Casewalk) -> None:
    shapes = (await doors.admin.get("/openapi.json")).json()["components"]["schemas"]
    for path, shape in (
        ("/v1/partners/swift", "PartnerOrder"),
        ("/v1/contracts/swift-parcels", "ContractOrder"),
        ("/v1/share-plans/parcels", "SharePlanOrder"),
    ):
        answer = await doors.admin.put(path, json=shapes[shape]["examples"][0])
        assert answer.status_code == 200, answer.text


async def test_every_view_equals_its_replay(here: Casewalk) -> None:
    await partner(here, "swift", "parcels")
    case_id = await opened(here)
    await queue(here, case_id)
    await handed_over(here, "swift", case_id)
    await here.admin.post(f"/v1/cases/{case_id}:resolve", json={})
    await here.settled()
    replay = here.hosts["vendor"].replay
    for view in replay.named("all"):
        assert (await replay.verify(view)).equal, view.name
