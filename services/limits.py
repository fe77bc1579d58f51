"""How much a request may bring."""

from __future__ import annotations

from contextlib import suppress

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.web import problem

BODY_BYTES = 512 * 1024
IMPORT_BYTES = 4 * 1024 * 1024


class BodyLimit:
    """Cut bodies that are larger than their route takes, before anything reads them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = IMPORT_BYTES if scope["path"].startswith("/v1/imports") else BODY_BYTES
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > limit:
            await _too_large(limit)(scope, receive, send)
            return
        read_bytes, started, refused = 0, False, False

        async def limited() -> Message:
            nonlocal read_bytes, refused
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > limit:
                refused = True
                raise _TooMuch
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if refused and not started:
                return  # whatever the door made of the broken body, it is not what is answered
            started = started or message["type"] == "http.response.start"
            await send(message)

        with suppress(_TooMuch):
            await self.app(scope, limited, watched)
        if refused and not started:
            await _too_large(limit)(scope, receive, send)


def _too_large(limit: int) -> Response:
    return problem(413, "too-large", f"a body has at most {limit} bytes here")


class _TooMuch(Exception):
    pass
