"""What all doors share: keys and roles, idempotency, versions, positions, paging."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from fastapi import Depends, Header, HTTPException, Query, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from events.errors import Invalid
from events.operations import Role
from events.store import Changed, Once
from services.web.access import OPEN, Key, Principal

if TYPE_CHECKING:
    from services.runtime import Host

# ------------------------------------------------------------------------------------------------- shapes of requests


class Order(BaseModel):
    """What a client asks for. Unknown fields are refused: a misspelt one must not be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _is_what_it_says(cls, value: object, field: ValidationInfo) -> object:
        """Pydantic would take "1" and true for 1, and 7 for a moment in 1970; who sends that means something else."""
        wanted = _plain_types(cls, field.field_name or "")
        match value:
            case bool():
                fits = bool in wanted
            case int() | float():
                fits = bool(wanted & {int, float})
            case str():
                fits = not wanted <= {bool, int, float} and (AwareDatetime not in wanted or "-" in value[1:])
            case _:
                fits = True
        if not fits:
            raise ValueError("this value has another type than the field")
        return value


@cache
def _plain_types(order: type[Order], field: str) -> frozenset[object]:
    """What the field may hold, without constraints and without null."""
    waiting, found = [order.model_fields[field].annotation], set[object]()
    while waiting:
        annotation = waiting.pop()
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            waiting.append(arguments[0])
        elif origin in (Union, UnionType):
            waiting.extend(arguments)
        else:
            found |= {type(one) for one in arguments} if origin is Literal else {annotation}
    return frozenset(found - {NoneType})


class Answer(BaseModel):
    """What a client gets."""

    model_config = ConfigDict(frozen=True)


PlainText = Annotated[str, StringConstraints(min_length=1, max_length=100_000, pattern=r"^[^\x00]*$")]
"""Free text without NUL."""

CaseId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
"""A case id: a UUID in lower case."""

FIRST_YEAR, LAST_YEAR = 1970, 2200


def _written(value: object) -> object:
    # Pydantic would also take a number, as seconds since 1970, and a date without a time.
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\dT", value, re.ASCII):
        raise ValueError("write a time with its offset, such as 2026-03-27T16:30:00+01:00")
    return value


Time = Annotated[
    AwareDatetime,
    BeforeValidator(_written),
    Field(ge=datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), lt=datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC)),
]
"""A time of the years 1970 to 2200."""

Limit = Annotated[int, Query(ge=1, le=500, description="Rows in one answer, at most 500.")]

Cursor = Annotated[
    str | None,
    Query(max_length=500, pattern=r"^[A-Za-z0-9_-]+$", description="The `cursor` of the last page's `next` link."),
]


def cursor(*values: str) -> str:
    """Opaque text for where the next page starts."""
    return urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def parse_cursor(text: str | None, parts: int) -> list[str] | None:
    """The values of `cursor`, or None at the first page. Raises Invalid."""
    if text is None:
        return None
    values = _opened(text) or []
    texts = [value for value in values if isinstance(value, str)]
    if not len(values) == len(texts) == parts:
        raise Invalid("this cursor is not one of ours")
    return texts


def _opened(text: str) -> list[str | int] | None:
    """What is in an opaque text of ours; None if it cannot be one: no database can be asked for what it holds."""
    try:
        values = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, list) and all(map(_storable, values)) else None


def _storable(value: object) -> bool:
    match value:
        case str():
            return "\x00" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
        case int():
            return abs(value) < 2**63
        case _:
            return False


def next_link(request: Request, response: Response, after: str | None) -> None:
    """Add the `Link` header to the next page, if there is one."""
    if after is not None:
        url = request.url.include_query_params(cursor=after)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'


# ---------------------------------------------------------------------------------------------------- keys and callers


KEYS_KNOWN_FOR_S = 1.0


@dataclass(frozen=True)
class Caller:
    """One request's caller with what the headers asked for."""

    principal: Principal
    route: str
    idempotency_key: str | None
    expected: int | None
    """The version in `If-Match`."""
    fingerprint: Callable[[bytes], bytes]

    @property
    def actor(self) -> str:
        return self.principal.actor

    @property
    def scope(self) -> str:
        return f"{self.principal.key_id} {self.route}"

    def once(self, body: BaseModel, status: int, **ids: str | int) -> Once | None:
        """The idempotency record of this request, if it brought a key."""
        if self.idempotency_key is None:
            return None
        fingerprint = self.fingerprint(body.model_dump_json().encode())
        return Once(self.scope, self.idempotency_key, fingerprint, {"status": status, **ids})


Credentials = Annotated[
    HTTPAuthorizationCredentials | None,
    Depends(
        HTTPBearer(
            auto_error=False,
            description="A key, made with `POST /v1/keys`, or a token of the issuer that the operator chose.",
        )
    ),
]

IdempotencyKey = Annotated[
    str | None,
    Header(max_length=255, pattern=r"^[\x21-\x7e]+$", description="The same key, the same answer: safe to repeat."),
]

IfMatch = Annotated[
    str | None,
    Header(pattern=r'^(\*|"[0-9]{1,18}")$', description="The `ETag` you decided on; 412 if somebody was faster."),
]

CasewalkAfter = Annotated[
    str | None, Header(max_length=1000, description="A `Casewalk-Position` to wait for, up to 2 s.")
]

After = Annotated[str | None, Query(max_length=1000, description="The same as `Casewalk-After`.")]


class Door:
    """The way into one service: who may come in, and on what terms."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._known: dict[str, tuple[float, Key | None]] = {}
        self._looking: dict[str, asyncio.Task[Key | None]] = {}
        """One look-up per key at a time, however many callers show it."""

    def caller(self, *roles: Role, waits: bool = True) -> Any:
        """A dependency that yields the `Caller`: any of `roles`, and always an admin.

        With `waits` it takes a position in `?after=` or `Casewalk-After` and waits for it before the door opens. Raises
        401, 403, 503.
        """
        allowed = frozenset((*roles, Role.ADMIN))

        # By itself, because what others depend on is asked first: without a key nobody hears what else is wrong. What
        # depends on what is said by defaults: annotations are text here, and no local name is found by it.
        async def admit(credentials: Credentials) -> Principal:
            principal = await self._principal(credentials)
            if principal.role not in allowed:
                raise HTTPException(403, f"a key with the role {principal.role} does not open this door")
            return principal

        async def enter(
            request: Request,
            principal: Principal = Depends(admit),
            idempotency_key: IdempotencyKey = None,
            if_match: IfMatch = None,
        ) -> Caller:
            _refuse_unknown_parameters(request)
            route = f"{request.method} {request.url.path}"
            return Caller(principal, route, idempotency_key, _version(if_match), self.host.keyring.fingerprint)

        async def enter_after(
            request: Request,
            principal: Principal = Depends(admit),
            idempotency_key: IdempotencyKey = None,
            if_match: IfMatch = None,
            casewalk_after: CasewalkAfter = None,
            after: After = None,
        ) -> Caller:
            caller = await enter(request, principal, idempotency_key, if_match)
            position = casewalk_after or after
            if position is not None:
                if _opened(position) is None:
                    raise Invalid("this is no position of ours; hand back a Casewalk-Position as it was given")
                await self.host.wait_for(position)
            return caller

        return Depends(enter_after if waits else enter)

    async def _principal(self, credentials: HTTPAuthorizationCredentials | None) -> Principal:
        if self.host.settings.open:
            return OPEN
        if credentials is None:
            raise HTTPException(401, "send your key as Authorization: Bearer <key>", {"WWW-Authenticate": "Bearer"})
        token = credentials.credentials
        if self.host.tokens is not None and token.startswith("ey") and token.count(".") == 2:
            return await self.host.tokens.principal(token)
        key = await self._key(hashlib.sha256(credentials.credentials.encode("utf-8", "replace")).hexdigest())
        if key is None or key.revoked:
            raise HTTPException(401, "this key is not valid here", {"WWW-Authenticate": "Bearer"})
        return Principal(key.key_id.removeprefix("key:"), key.role, key.holder)

    async def _key(self, sha256: str) -> Key | None:
        known_at, key = self._known.get(sha256, (-KEYS_KNOWN_FOR_S, None))
        if time.monotonic() - known_at < KEYS_KNOWN_FOR_S and key is not None:
            return key
        looking = self._looking.get(sha256)
        if looking is None:
            looking = self._looking[sha256] = asyncio.create_task(self._look_up(sha256))
            looking.add_done_callback(lambda _: self._looking.pop(sha256))
        # Whoever comes meanwhile takes its word for a key, but not for there being none: that may be older than theirs.
        return await asyncio.shield(looking) or await self._look_up(sha256)

    async def _look_up(self, sha256: str) -> Key | None:
        row = await self.host.database.readers.fetchrow(
            "select key_id, role, sha256, holder, revoked from keys where sha256 = $1", sha256
        )
        key = None
        if row is not None and hmac.compare_digest(row["sha256"], sha256):
            key = Key(row["key_id"], Role(row["role"]), row["sha256"], row["holder"], row["revoked"])
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[sha256] = (time.monotonic(), key)
        return key


def _version(if_match: str | None) -> int | None:
    return None if if_match is None or if_match == "*" else int(if_match.strip('"'))


def _refuse_unknown_parameters(request: Request) -> None:
    """A misspelt filter must not be ignored: it would answer everything; nor one that is said twice. Raises Invalid."""
    known = _parameters(request.scope["route"].dependant)
    if not request.query_params.keys() <= known.keys():
        takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
        raise Invalid(f"query: there is a parameter that this door does not know; {takes}")
    for name, is_many in known.items():
        if not is_many and len(request.query_params.getlist(name)) > 1:
            raise Invalid(f"query: say {name} once")


def _parameters(dependant: Dependant) -> dict[str, bool]:
    """The query parameters of a door and of all that it depends on, and whether each may be repeated."""
    found = {field.alias: get_origin(field.field_info.annotation) is tuple for field in dependant.query_params}
    for part in dependant.dependencies:
        found |= _parameters(part)
    return found


def written(response: Response, changed: Changed) -> None:
    """Say in the headers what a write came to: `ETag` and `Casewalk-Position`."""
    response.headers["ETag"] = f'"{changed.version}"'
    response.headers["Casewalk-Position"] = changed.position
