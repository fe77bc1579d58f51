"""The client finds the right door, shows its key, waits where it is asked to, and says clearly what went wrong."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from services.commands.client import BadUrl, Client, Doors, NotReachable, ServerRefused
from services.commands.terminal import ExitCode

ONE = Doors.at("http://casewalk.test/")
APART = Doors.at("intake=http://intake.test,router=http://router.test")

Handler = Callable[[httpx.Request], httpx.Response]


class Pauses(list[float]):
    """Remembers the pauses instead of making them."""

    async def __call__(self, pause_s: float) -> None:
        self.append(pause_s)


def client(handler: Handler, pauses: Pauses | None = None, **more: float) -> Client:
    return Client(
        ONE, "secret", transport=httpx.MockTransport(handler), pause=Pauses() if pauses is None else pauses, **more
    )


def answers(*responses: httpx.Response | type[httpx.TransportError]) -> tuple[Handler, list[httpx.Request]]:
    """A server that gives these answers, one per request, and the requests it got."""
    requests: list[httpx.Request] = []
    left = list(responses)

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        answer = left.pop(0)
        if isinstance(answer, httpx.Response):
            return answer
        raise answer("connection lost", request=request)

    return handler, requests


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/v1/cases", "http://intake.test/v1/cases"),
        ("/v1/cases?limit=2", "http://intake.test/v1/cases?limit=2"),
        ("/v1/cases/17:resolve", "http://intake.test/v1/cases/17:resolve"),
        ("/v1/work/17:accept", "http://router.test/v1/work/17:accept"),
        ("/health/ready", "http://intake.test/health/ready"),
        ("/v1/ops/router/views/keys:rebuild", "http://router.test/v1/ops/router/views/keys:rebuild"),
    ],
)
def test_the_first_segment_of_a_path_finds_its_service(path: str, url: str) -> None:
    assert APART.url(path) == url
    assert ONE.url(path) == "http://casewalk.test" + path


def test_a_path_of_a_service_without_a_url_is_said_to_be_one() -> None:
    with pytest.raises(BadUrl, match="no URL is given for the service router"):
        Doors.at("intake=http://intake.test").url("/v1/work")


@pytest.mark.parametrize("text", ["", "localhost:8080", "intake=", "intake=http://a,router", "ftp://x"])
def test_what_is_no_url_is_a_usage_error(text: str) -> None:
    with pytest.raises(BadUrl) as raised:
        Doors.at(text)
    assert raised.value.code is ExitCode.USAGE


async def test_a_request_shows_the_key_and_an_answer_brings_its_position() -> None:
    handler, requests = answers(httpx.Response(201, json={"case_id": "1"}, headers={"Casewalk-Position": "p1"}))
    async with client(handler) as casewalk:
        answer = await casewalk.post("/v1/cases", {"a": 1}, after="p0")
    assert (answer.status, answer.body, answer.position) == (201, {"case_id": "1"}, "p1")
    assert requests[0].headers["Authorization"] == "Bearer secret"
    assert requests[0].headers["Casewalk-After"] == "p0"


async def test_a_post_repeated_after_a_lost_connection_is_the_same_order() -> None:
    handler, requests = answers(httpx.ReadError, httpx.ConnectError, httpx.Response(201, json={}))
    async with client(handler) as casewalk:
        await casewalk.post("/v1/cases", {"a": 1})
        handler_of_another, others = answers(httpx.Response(201, json={}))
    async with client(handler_of_another) as casewalk:
        await casewalk.post("/v1/cases", {"a": 1})
    keys = [request.headers["Idempotency-Key"] for request in requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert others[0].headers["Idempotency-Key"] != keys[0], "another order is another one"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_busy_server_is_waited_for_as_long_as_it_asks(status: int) -> None:
    later = httpx.Response(status, headers={"Retry-After": "2"}, json={"detail": "live work goes first"})
    pauses = Pauses()
    handler, _ = answers(later, later, httpx.Response(200, json={"ok": True}))
    async with client(handler, pauses) as casewalk:
        assert (await casewalk.get("/v1/cases")).body == {"ok": True}
    assert pauses == [2.0, 2.0]


async def test_a_server_that_stays_busy_is_given_up_with_its_own_words() -> None:
    later = httpx.Response(429, headers={"Retry-After": "4"}, json={"detail": "live work goes first"})
    handler, requests = answers(*[later] * 9)
    with pytest.raises(NotReachable, match="live work goes first") as raised:
        async with client(handler, patience_s=10.0) as casewalk:
            await casewalk.get("/v1/cases")
    assert raised.value.code is ExitCode.UNREACHABLE
    assert len(requests) == 3


async def test_a_server_that_is_not_there_is_given_up_soon() -> None:
    pauses = Pauses()
    handler, _ = answers(*[httpx.ConnectError] * 99)
    with pytest.raises(NotReachable, match=r"no server answers at http://casewalk\.test/v1/cases"):
        async with client(handler, pauses, reach_s=2.0) as casewalk:
            await casewalk.get("/v1/cases")
    assert 1.0 < sum(pauses) <= 2.0


async def test_a_problem_document_becomes_an_error_with_its_detail() -> None:
    problem = {"type": "/problems/refused", "title": "Conflict", "status": 409, "detail": "the case is closed"}
    handler, _ = answers(httpx.Response(409, json=problem))
    with pytest.raises(ServerRefused, match="the case is closed") as raised:
        async with client(handler) as casewalk:
            await casewalk.post("/v1/cases/17:resolve")
    assert (raised.value.status, raised.value.kind, raised.value.code) == (409, "refused", ExitCode.REFUSED)


@pytest.mark.parametrize("body", [b"", b"<html>nginx</html>", b"[1]"])
async def test_an_error_without_a_problem_document_is_still_said(body: bytes) -> None:
    handler, _ = answers(httpx.Response(404, content=body))
    with pytest.raises(ServerRefused, match="404 Not Found"):
        async with client(handler) as casewalk:
            await casewalk.get("/v1/cases/17")


async def test_a_failing_server_is_not_a_refusal() -> None:
    handler, _ = answers(httpx.Response(500, json={"detail": "out of order"}))
    with pytest.raises(NotReachable, match="500: out of order"):
        async with client(handler) as casewalk:
            await casewalk.get("/v1/cases")


async def test_pages_are_followed_to_the_last() -> None:
    first = httpx.Response(200, json={"items": [1, 2]}, headers={"Link": '</v1/cases?market=de&cursor=c1>; rel="next"'})
    handler, requests = answers(first, httpx.Response(200, json={"items": [3]}))
    async with client(handler) as casewalk:
        assert [item async for item in casewalk.all("/v1/cases", market="de", unit=None)] == [1, 2, 3]
    assert [str(request.url.query, "ascii") for request in requests] == ["market=de", "market=de&cursor=c1"]
