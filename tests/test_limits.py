"""One caller's flood or slow body does not take the doors from the others."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from services.intake.service import SERVICE
from services.limits import AT_ONCE, BodyLimit, Turns
from tests.casewalk import ADMIN_KEY, Casewalk, casewalk
from tests.commands.conftest import free_port
from tests.conftest import Engine
from tests.doors.fuzz import served
from tests.until import until

FLOOD = 4 * AT_ONCE

SLOW_S = 0.3


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[Casewalk]:
    async with casewalk(Engine("embedded", database, None, "limits"), tmp_path, (SERVICE,)) as running:
        yield running


async def test_a_flood_is_told_to_come_back_while_others_are_served(world: Casewalk) -> None:
    loud, quiet = await world.key("reader"), await world.key("reader")
    assert [(await client.get("/v1/cases")).status_code for client in (loud, quiet)] == [200, 200]

    flood = asyncio.gather(*(loud.get("/v1/cases") for _ in range(FLOOD)))
    others = [await quiet.get("/v1/cases") for _ in range(5)]
    answers = await flood

    assert {answer.status_code for answer in others} == {200}
    assert Counter(answer.status_code for answer in answers) == {200: AT_ONCE, 429: FLOOD - AT_ONCE}
    for answer in answers:
        if answer.status_code == 429:
            assert answer.headers["Retry-After"] == "1"
            assert answer.headers["content-type"] == "application/problem+json"
    assert (await loud.get("/v1/cases")).status_code == 200


async def test_a_flood_under_made_up_keys_takes_nothing_from_those_who_have_one(world: Casewalk) -> None:
    known, new = await world.key("reader"), await world.key("reader")
    assert (await known.get("/v1/cases")).status_code == 200

    flood = asyncio.gather(*(_junk(world) for _ in range(FLOOD)))
    others = [await known.get("/v1/cases") for _ in range(5)]
    statuses = Counter(await flood)

    assert {answer.status_code for answer in others} == {200}
    assert statuses == {401: AT_ONCE, 429: FLOOD - AT_ONCE}
    assert (await new.get("/v1/cases")).status_code == 200


async def _junk(world: Casewalk) -> int:
    key = {"Authorization": f"Bearer cw_{secrets.token_urlsafe(32)}"}
    return (await world.admin.get("/v1/cases", headers=key)).status_code


async def test_whether_casewalk_runs_is_said_whatever_else_is_asked(world: Casewalk) -> None:
    nobody = await world.client(None)
    flood = asyncio.gather(*(nobody.get("/metrics") for _ in range(FLOOD)))
    healthy = [await nobody.get(f"/health/{what}") for what in ("live", "ready")]
    assert {answer.status_code for answer in healthy} == {200}
    assert 429 in {answer.status_code for answer in await flood}


async def test_a_key_that_was_revoked_is_one_of_the_strangers(world: Casewalk) -> None:
    issued = (await world.admin.post("/v1/keys", json={"role": "reader", "label": "x"})).json()
    lost = await world.client(issued["secret"])
    await until(lambda: _status(lost, 200))
    await world.admin.delete(f"/v1/keys/{issued['key_id']}")
    await until(lambda: _status(lost, 401))

    flood = asyncio.gather(*(_junk(world) for _ in range(FLOOD)))
    await asyncio.sleep(0)  # the flood goes first
    assert (await lost.get("/v1/cases")).status_code == 429
    await flood


async def _status(client: httpx.AsyncClient, status: int) -> bool:
    return (await client.get("/v1/cases")).status_code == status


# -------------------------------------------------------------------------------------------------------- slow bodies


async def test_a_slow_body_is_cut_and_its_connection_closed(world: Casewalk) -> None:
    async with served(BodyLimit(world.app, within_s=SLOW_S)) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        writer.write(_head("POST /v1/keys", 1000))

        async def drip() -> None:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(SLOW_S / 10)  # as slow as the sender is

        dripping = asyncio.create_task(drip())
        try:
            async with asyncio.timeout(10):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await reader.readuntil(b"}")
        finally:
            dripping.cancel()
            await asyncio.wait([dripping])
            writer.close()
    assert head.startswith(b"http/1.1 408 "), head
    assert b"connection: close" in head
    assert json.loads(body)["type"] == "/problems/too-slow"


async def test_an_answer_may_take_longer_than_a_body() -> None:
    """A stream waits all the time for its reader to go away, and that is no slow body."""
    loop = asyncio.get_running_loop()

    async def later() -> AsyncIterator[bytes]:
        yield b"first "
        ends_at = loop.time() + 2 * SLOW_S
        await until(lambda: _passed(ends_at))
        yield b"last"

    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        await StreamingResponse(later())(scope, receive, send)

    async with served(BodyLimit(streaming, within_s=SLOW_S)) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.post("/", content=b"x")).text == "first last"


async def _passed(moment: float) -> bool:
    return asyncio.get_running_loop().time() > moment


def _head(what: str, length: int) -> bytes:
    return (
        f"{what} HTTP/1.1\r\nHost: casewalk\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


# ------------------------------------------------------------------------------------------------------------- a stop


async def test_a_request_that_a_stop_cuts_is_told_to_come_again() -> None:
    async def hangs(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    config = uvicorn.Config(
        Turns(hangs), port=free_port(), lifespan="off", log_level="critical", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    async def asked() -> bool:
        return bool(server.server_state.tasks)

    await until(started)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{config.port}") as client:
        asking = asyncio.create_task(client.get("/v1/cases"))
        await until(asked)
        server.should_exit = True
        answer = await asking
    await serving

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["type"] == "/problems/unavailable"
