"""Bearer tokens of an OpenID Connect issuer: checked against its published keys, and what they say of who calls."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import httpx
import jwt
import structlog
from fastapi import HTTPException
from pydantic import TypeAdapter, ValidationError

from events.errors import Invalid, Unavailable
from events.event import Ref
from events.operations import Role
from services.web.access import Principal

log_ = structlog.get_logger("tokens")

ALGORITHMS: Final[Mapping[str, tuple[str, ...]]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
"""By a key's `kty`. None of them is symmetric: a public key must not serve as anybody's secret (RFC 8725, 2.1)."""

SCOPE = "casewalk:"
"""What a role begins with in a claim, so that another application's word for something is no role here."""

CLOCKS_DIFFER_S = 30
FETCH_WITHIN_S = 5.0
SET_BYTES = 1024 * 1024
TOKEN_LENGTH = 16 * 1024

REFUSALS: Final[tuple[tuple[type[jwt.PyJWTError], str], ...]] = (
    (jwt.ExpiredSignatureError, "it has expired"),
    (jwt.ImmatureSignatureError, "it is not valid yet"),
    (jwt.InvalidAudienceError, "it was issued for another audience"),
    (jwt.InvalidIssuerError, "it is another issuer's"),
    (jwt.MissingRequiredClaimError, "it must say iss, aud, sub and exp"),
    (jwt.InvalidSignatureError, "its signature is not the issuer's"),
    (jwt.InvalidAlgorithmError, "it is signed in another way than the issuer's key allows"),
)

UNREADABLE = "it cannot be read"

_HOLDER: TypeAdapter[str] = TypeAdapter(Ref)


@dataclass(frozen=True)
class Issuer:
    """Whose tokens open doors here, and how to read them."""

    issuer: str
    audience: str
    jwks_url: str
    role_claim: str = "scope"
    """Holds one word like `casewalk:lead`, among any others; dots lead into objects, as in `realm_access.roles`."""
    holder_claim: str = "casewalk_holder"
    """The agent or partner whose token it is."""
    kept_s: float = 300.0
    """How long the key set is used before it is asked for again."""
    refresh_s: float = 10.0
    """The issuer is asked at most this often, whatever tokens come in."""


@dataclass(frozen=True)
class _Key:
    kid: str | None
    algorithms: tuple[str, ...]
    public: Any


class Tokens:
    """Checks tokens of one issuer. Raises Invalid when its keys would come over a line that anybody can write on."""

    def __init__(self, issuer: Issuer, pseudonym: Callable[[str], str]) -> None:
        url = urlsplit(issuer.jwks_url)
        if url.scheme != "https" and (url.scheme, url.hostname) not in (("http", "127.0.0.1"), ("http", "localhost")):
            raise Invalid("CASEWALK_OIDC_JWKS_URL must be an https address")
        self.issuer, self._pseudonym = issuer, pseudonym
        self._keys: tuple[_Key, ...] = ()
        self._fetched_at = self._tried_at = float("-inf")
        self._down = False
        self._fetching: asyncio.Task[None] | None = None

    async def principal(self, token: str) -> Principal:
        """Who calls with this token. Raises HTTPException 401 or 403, and Unavailable while nothing is known of the
        key that it names and the issuer does not answer."""
        key = await self._key(_named_key(token))
        try:
            claims = jwt.decode(
                token,
                key.public,
                algorithms=key.algorithms,
                audience=self.issuer.audience,
                issuer=self.issuer.issuer,
                leeway=CLOCKS_DIFFER_S,
                options={"require": ["iss", "aud", "sub", "exp"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            _refuse(next((why for kind, why in REFUSALS if isinstance(error, kind)), UNREADABLE))
        except (ValueError, TypeError, OverflowError, RecursionError):
            _refuse(UNREADABLE)
        return self._read(claims)

    def _read(self, claims: Mapping[str, Any]) -> Principal:
        role = _role(_claim(claims, self.issuer.role_claim))
        holder = _claim(claims, self.issuer.holder_claim) if role in (Role.AGENT, Role.PARTNER) else None
        if role in (Role.AGENT, Role.PARTNER):
            try:
                _HOLDER.validate_python(holder, strict=True)
            except ValidationError:
                raise HTTPException(403, f"this token does not say which {role} it belongs to") from None
        # A subject may be an e-mail address: events get to know that it was the same one, and not who.
        key_id = "token-" + self._pseudonym(f"{self.issuer.issuer} {claims['sub']}")
        return Principal(key_id, role, holder)

    async def stop(self) -> None:
        """Ask no more."""
        if self._fetching is not None:
            self._fetching.cancel()
            with suppress(asyncio.CancelledError):
                await self._fetching

    # -------------------------------------------------------------------------------------------------- the key set

    async def _key(self, kid: str | None) -> _Key:
        """The key of this name. A token may leave the name out where the issuer has one key only (RFC 7515, 4.1.4)."""
        if self._found(kid) is None or time.monotonic() - self._fetched_at > self.issuer.kept_s:
            fetching = self._fetch()
            # Nobody waits for an issuer that was down a moment ago, as long as the last good set will do.
            if fetching is not None and not (self._down and self._found(kid)):
                await asyncio.shield(fetching)
        key = self._found(kid)
        if key is None and (self._down or self._fetched_at < 0):
            raise Unavailable("the issuer of tokens does not say its keys now; try again")
        if key is None:
            _refuse("it names a key that the issuer does not have")
        return key

    def _found(self, kid: str | None) -> _Key | None:
        if kid is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.kid == kid), None)

    def _fetch(self) -> asyncio.Task[None] | None:
        """The fetch that runs, or a new one; None where it is too early for one."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if time.monotonic() - self._tried_at < self.issuer.refresh_s:
            return None
        self._tried_at = time.monotonic()
        self._fetching = asyncio.create_task(self._fetch_keys(), name="issuer's keys")
        return self._fetching

    async def _fetch_keys(self) -> None:
        try:
            async with asyncio.timeout(FETCH_WITHIN_S):
                keys = _usable(json.loads(await _body(self.issuer.jwks_url)))
        except (httpx.HTTPError, TimeoutError, OSError, ValueError, RecursionError) as error:
            self._down = True
            log_.warning("the issuer's keys cannot be fetched; the last ones stay", why=type(error).__name__)
            return
        self._keys, self._fetched_at, self._down = keys, time.monotonic(), False


async def _body(url: str) -> bytes:
    async with httpx.AsyncClient(timeout=FETCH_WITHIN_S) as client, client.stream("GET", url) as answer:
        if answer.status_code != 200:
            raise ValueError("the issuer answers something else")
        body = b""
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > SET_BYTES:
                raise ValueError("too large for a key set")
        return body


def _usable(document: Any) -> tuple[_Key, ...]:
    """The keys that may sign tokens; one that cannot be read takes nothing from the others. Raises ValueError."""
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("this is no key set")
    keys = []
    for jwk in document["keys"]:
        if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig" or "d" in jwk:
            continue
        algorithms = ALGORITHMS.get(str(jwk.get("kty")), ())
        stated = jwk.get("alg")
        with suppress(jwt.PyJWTError, ValueError, TypeError):
            if stated is None or stated in algorithms:
                keys.append(_Key(jwk.get("kid"), algorithms if stated is None else (stated,), jwt.PyJWK(jwk).key))
    return tuple(key for key in keys if key.algorithms)


def _named_key(token: str) -> str | None:
    if len(token) > TOKEN_LENGTH:
        _refuse("it is too long")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        _refuse(UNREADABLE)
    kid = header.get("kid")
    return kid if isinstance(kid, str) else None


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of this name; else, where its name has dots, what is at that place."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _role(value: Any) -> Role:
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    said = {word for word in words if isinstance(word, str) and word.startswith(SCOPE)}
    if len(said) != 1 or (role := said.pop().removeprefix(SCOPE)) not in set(Role):
        raise HTTPException(403, f"this token must say exactly one role, such as {SCOPE}{Role.READER}")
    return Role(role)


def _refuse(why: str) -> NoReturn:
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    raise HTTPException(401, f"this token is not valid here: {why}", headers)
