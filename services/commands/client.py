"""A client of the REST API: finds the door by the path, shows the key, waits where the server asks to wait."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self
from uuid import uuid4

import httpx

from services.commands.terminal import CommandFailed, ExitCode
from services.names import NAMES, SERVICE_OF

PATIENCE_S = 30.0
"""How long a request waits in all for a server that says "later"."""

REACH_S = 2.0
"""How long a request waits in all for a server that does not answer at all."""

LONGEST_PAUSE_S = 5.0

LATER = (429, 502, 503, 504)
"""Statuses that pass: of a busy service, or of a proxy before one that starts again."""

TIMEOUT = httpx.Timeout(30.0, connect=5.0)

Query = Mapping[str, str | int | Sequence[str] | None]


class NotReachable(CommandFailed):
    """No server answered in time, or it had no time for us."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, ExitCode.UNREACHABLE)


class ServerRefused(CommandFailed):
    """The server answered with a problem document; `status` and `kind` are its own."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(detail, ExitCode.REFUSED)
        self.status, self.kind = status, kind


class BadUrl(CommandFailed):
    """The text for the doors' URLs cannot be understood."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, ExitCode.USAGE)


@dataclass(frozen=True)
class Doors:
    """Where each service is."""

    urls: Mapping[str, str]
    """Service name → base URL without a slash at the end."""

    @classmethod
    def at(cls, text: str) -> Self:
        """The doors of `http://host:port` (one for all) or `intake=http://…,router=http://…`. Raises BadUrl."""
        urls = dict.fromkeys(NAMES, text)
        if "=" in text.split("://", 1)[0]:
            urls = dict(_named(part) for part in text.split(","))
        for name, url in urls.items():
            if not url.startswith(("http://", "https://")):
                raise BadUrl(
                    f"{url or name!r} is no URL; CASEWALK_URL is http://host:port or intake=http://…,router=http://…"
                )
        return cls({name: url.rstrip("/") for name, url in urls.items()})

    def url(self, path: str) -> str:
        """The whole URL of a path such as `/v1/cases/…:resolve`, `/v1/ops/router/views` or `/docs`. Raises BadUrl."""
        segments = re.split(r"[/:?]", path)
        if segments[1] != "v1":
            return next(iter(self.urls.values())) + path  # every service has it
        service = segments[3] if segments[2] == "ops" else SERVICE_OF.get(segments[2], "")
        if service not in self.urls:
            raise BadUrl(f"no URL is given for the service {service or 'unknown'}, which {path} belongs to")
        return self.urls[service] + path


@lru_cache(maxsize=1)
def _authorities() -> ssl.SSLContext:
    """Whom every client of this process trusts: to read that again for each takes longer than most requests."""
    return httpx.create_ssl_context()


def _named(part: str) -> tuple[str, str]:
    name, _, url = part.strip().partition("=")
    return name, url


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    body: Any
    position: str | None
    """`Casewalk-Position`: give it as `after` to see this write elsewhere."""
    next_page: str | None
    """The path of the next page, if there is one."""


class Client:
    """An open client; use it with `async with`.

    Every POST carries an idempotency key, so every request is repeated after a lost connection, for `reach_s` in all;
    what passes, such as 429 and 503, is waited for as `Retry-After` says, for `patience_s` in all.
    """

    def __init__(
        self,
        doors: Doors,
        key: str | None = None,
        *,
        patience_s: float = PATIENCE_S,
        reach_s: float = REACH_S,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.doors, self.patience_s, self.reach_s, self._pause = doors, patience_s, reach_s, pause
        self._http = httpx.AsyncClient(headers=headers, timeout=TIMEOUT, transport=transport, verify=_authorities())

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def get(self, path: str, **query: str | int | Sequence[str] | None) -> Answer:
        """Read. Raises NotReachable, ServerRefused."""
        return await self._send("GET", path, query)

    async def all(self, path: str, **query: str | int | Sequence[str] | None) -> AsyncIterator[Any]:
        """Every item of every page."""
        answer = await self._send("GET", path, query)
        while True:
            for item in answer.body["items"]:
                yield item
            if answer.next_page is None:
                return
            answer = await self._send("GET", answer.next_page, {})

    async def put(self, path: str, body: object) -> Answer:
        """Publish a version. Raises NotReachable, ServerRefused."""
        return await self._send("PUT", path, {}, json=body)

    async def post(
        self, path: str, body: object = None, *, once: str | None = None, after: str | None = None
    ) -> Answer:
        """Order something. `once` is the idempotency key where the caller repeats the order itself."""
        headers = {"Idempotency-Key": once or str(uuid4())} | ({"Casewalk-After": after} if after else {})
        return await self._send("POST", path, {}, headers=headers, json={} if body is None else body)

    async def post_lines(self, path: str, lines: str, **query: str | int | Sequence[str] | None) -> Answer:
        """Send NDJSON."""
        headers = {"Content-Type": "application/x-ndjson"}
        return await self._send("POST", path, query, headers=headers, content=lines.encode())

    async def delete(self, path: str) -> Answer:
        """Take away."""
        return await self._send("DELETE", path, {})

    async def lines(self, method: str, path: str) -> AsyncIterator[Any]:
        """The lines of an NDJSON answer as they come. Raises NotReachable, ServerRefused."""
        url = self.doors.url(path)
        try:
            async with self._http.stream(method, url) as response:
                if response.status_code >= 400:
                    await response.aread()
                    _answer(response)
                async for line in response.aiter_lines():
                    yield json.loads(line)
        except httpx.TransportError as error:
            raise _unanswered(url, error) from error

    async def _send(self, method: str, path: str, query: Query, **request: Any) -> Answer:
        url = self.doors.url(path)
        given = {name: value for name, value in query.items() if value is not None}
        busy_s, unanswered_s = 0.0, 0.0
        while True:
            try:
                response = await self._http.request(method, url, params=given or None, **request)
            except httpx.TransportError as error:
                pause_s = 0.1 + unanswered_s
                unanswered_s += pause_s
                if unanswered_s > self.reach_s:
                    raise _unanswered(url, error) from error
            else:
                if response.status_code not in LATER:
                    return _answer(response)
                pause_s = min(_retry_after_s(response), LONGEST_PAUSE_S)
                busy_s += pause_s
                if busy_s > self.patience_s:
                    raise NotReachable(f"the server is busy: {_problem(response)}")
            await self._pause(min(pause_s, LONGEST_PAUSE_S))


def _unanswered(url: str, error: httpx.TransportError) -> NotReachable:
    return NotReachable(f"no server answers at {url}: {str(error) or type(error).__name__}")


def _answer(response: httpx.Response) -> Answer:
    if response.status_code >= 500:
        raise NotReachable(f"the server failed with {response.status_code}: {_problem(response)}")
    if response.status_code >= 400:
        raise _problem(response)
    following = response.links.get("next", {}).get("url")
    body = response.json() if response.content else None
    return Answer(response.status_code, body, response.headers.get("Casewalk-Position"), following)


def _problem(response: httpx.Response) -> ServerRefused:
    """The problem document, or as much of it as a proxy in between left."""
    try:
        said = response.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        said = {}
    kind = str(said.get("type", "")).removeprefix("/problems/")
    return ServerRefused(
        response.status_code, kind, str(said.get("detail", f"{response.status_code} {response.reason_phrase}"))
    )


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "1")
    return float(text) if text.replace(".", "", 1).isdecimal() else 1.0
