"""Problem documents: how every error is answered, and documented."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from events.errors import CasewalkError, Unavailable
from events.store import PASSING

log_ = structlog.get_logger("web")


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(description="`/problems/<kind>`: stable, for programs.")
    title: str
    status: int
    detail: str = Field(description="A sentence to act on.")


_DOCUMENTED = {
    400: "The request is not readable.",
    401: "No key, or one that is not valid here.",
    403: "The key's role does not open this door.",
    404: "There is nothing under this id.",
    405: "This path does not take this method.",
    408: "The body took too long.",
    409: "Understood, and not allowed now; the detail says why.",
    412: "Somebody was faster; the detail says which version it is by now.",
    413: "Too large.",
    415: "The body has another content type than this door takes.",
    422: "A field is wrong; the detail names it.",
    429: "Too much at once; `Retry-After` says when to come back.",
    503: "Not now; `Retry-After` says when to come back.",
}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, text in _DOCUMENTED.items()
}
"""Every error every route may answer with."""


_NAME = re.compile("[a-z][a-z0-9_-]{0,39}", re.IGNORECASE)


def _shown(place: int | str) -> str:
    """A part of where an error is: a misspelt field is named, but whatever else stands for a name is not repeated."""
    return str(place) if isinstance(place, int) or _NAME.fullmatch(place) else "…"


def problem(
    status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None, **facts: object
) -> JSONResponse:
    """A problem document."""
    body = {
        "type": f"/problems/{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **facts,
    }
    return JSONResponse(body, status, dict(headers or {}), "application/problem+json")


def install_problems(app: FastAPI) -> None:
    """Answer every error with a problem document; nothing of the request's content is repeated in it."""

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, CasewalkError)
        headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Unavailable) else None
        return problem(error.status, error.kind, error.message, headers, **error.facts)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [{"field": ".".join(map(_shown, e["loc"])), "message": e["msg"]} for e in error.errors()]
        kind, status = (
            ("malformed", 400) if any(e["type"] == "json_invalid" for e in error.errors()) else ("invalid", 422)
        )
        return problem(status, kind, "; ".join(f"{e['field']}: {e['message']}" for e in errors[:5]), errors=errors[:50])

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        kind = HTTPStatus(error.status_code).name.lower().replace("_", "-")
        return problem(error.status_code, kind, str(error.detail), error.headers)

    async def away(_: Request, error: Exception) -> Response:
        log_.warning("the database is away", why=f"{type(error).__name__}: {error}")
        return problem(503, "unavailable", "the database is not answering; try again", {"Retry-After": "1"})

    for passing in PASSING:
        app.add_exception_handler(passing, away)
    app.add_exception_handler(CasewalkError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(StarletteHTTPException, http)
