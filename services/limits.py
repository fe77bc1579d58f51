"""How much a request may bring, how slowly, and how many of one caller's are served at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, OrderedDict
from contextlib import suppress

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.web.problems import problem

BODY_BYTES = 512 * 1024
IMPORT_BYTES = 4 * 1024 * 1024
BODY_WITHIN_S = 30.0

AT_ONCE = 128
"""Requests of one caller that are served at a time."""

CALLERS = 10_000


class BodyLimit:
    """Cut bodies that are larger than their route takes, before anything reads them, and those that take too long."""

    def __init__(self, app: ASGIApp, within_s: float = BODY_WITHIN_S) -> None:
        self.app, self.within_s = app, within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = IMPORT_BYTES if scope["path"].startswith("/v1/imports") else BODY_BYTES
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > limit:
            await _too_large(limit)(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self.within_s
        read_bytes, whole, started = 0, False, False
        refused: Response | None = None

        async def limited() -> Message:
            nonlocal read_bytes, whole, refused
            if whole:
                return await receive()  # that the caller went away is worth waiting for
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                refused = _too_slow(self.within_s)
                raise _Cut from None
            read_bytes += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if read_bytes > limit:
                refused = _too_large(limit)
                raise _Cut
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if refused is not None and not started:
                return  # whatever the door made of the broken body, it is not what is answered
            started = started or message["type"] == "http.response.start"
            await send(message)

        with suppress(_Cut):
            await self.app(scope, limited, watched)
        if refused is not None and not started:
            await refused(scope, receive, send)


def _too_large(limit: int) -> Response:
    return problem(413, "too-large", f"a body has at most {limit} bytes here", _GO)


def _too_slow(within_s: float) -> Response:
    return problem(408, "too-slow", f"a body must be here within {within_s:g} s; send it again, or in parts", _GO)


_GO = {"Connection": "close"}
"""The rest of the body is not waited for."""


class _Cut(Exception):
    pass


class Turns:
    """Serve at most so many requests of one caller at a time, and tell the others to come back.

    A caller is who sends one key or token; only those that have opened a door count as somebody, all others together
    as one, so that made-up keys win nothing. Each path that needs no key counts for itself: a health check is answered
    whatever happens elsewhere.
    """

    def __init__(self, app: ASGIApp, at_once: int = AT_ONCE) -> None:
        self.app, self.at_once = app, at_once
        self._busy: Counter[bytes | str] = Counter()
        self._callers: OrderedDict[bytes, None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        credentials = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        caller = hashlib.sha256(credentials).digest()
        keyed = scope["path"].startswith("/v1/")
        lane = scope["path"] if not keyed else caller if caller in self._callers else "strangers"
        if self._busy[lane] >= self.at_once:
            await _too_many()(scope, receive, send)
            return

        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            if keyed and message["type"] == "http.response.start":
                self._note(caller, message["status"])
            await send(message)

        self._busy[lane] += 1
        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:  # the server stops, and has waited for this one as long as it may
            if started:
                raise
            await _stopping()(scope, receive, send)
        finally:
            self._busy[lane] -= 1
            if not self._busy[lane]:
                del self._busy[lane]

    def _note(self, caller: bytes, status: int) -> None:
        """Whom a door was opened to is somebody; who was turned away is nobody any more."""
        if status < 400:
            self._callers[caller] = None
            self._callers.move_to_end(caller)
            if len(self._callers) > CALLERS:
                self._callers.popitem(last=False)
        elif status == 401:
            self._callers.pop(caller, None)


def _stopping() -> Response:
    detail = "this process stops before it could answer; send it again"
    return problem(503, "unavailable", detail, {"Retry-After": "1"})


def _too_many() -> Response:
    detail = "too many requests of yours are being served; come back when some of them are answered"
    return problem(429, "too-many", detail, {"Retry-After": "1"})
