"""An OpenID Connect issuer on loopback: it publishes keys, changes them, goes down, and signs what a test says."""

from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.web.tokens import Issuer
from tests.doors.fuzz import served

NAME, AUDIENCE = "https://login.shop.example/", "casewalk"

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def published(kid: str, key: Private, **more: str) -> dict[str, Any]:
    """The public half as a JWK."""
    match key:
        case rsa.RSAPrivateKey():
            jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case ec.EllipticCurvePrivateKey():
            jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case _:
            jwk = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {name: value for name, value in jwk.items() if name != "key_ops"} | {"kid": kid, "use": "sig", **more}


def claims(**more: Any) -> dict[str, Any]:
    """What a token says that opens the doors of a lead; None leaves a claim out."""
    now = int(time.time())
    said = {"iss": NAME, "aud": AUDIENCE, "sub": "kim@shop.example", "iat": now, "exp": now + 300}
    said |= {"scope": "openid casewalk:lead", **more}
    return {name: value for name, value in said.items() if value is not None}


def signed(key: Private, said: Mapping[str, Any], algorithm: str = "RS256", **header: Any) -> str:
    named = {name: value for name, value in {"kid": "one", **header}.items() if value is not None}
    return jwt.encode(dict(said), key, algorithm, headers=named)


def part(data: bytes) -> str:
    """A part of a token that is put together by hand."""
    return urlsafe_b64encode(data).decode().rstrip("=")


@dataclass
class Login:
    """What is at the issuer's address; a test changes it."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list)
    answer: Response | None = None
    """Instead of the keys."""
    hangs: asyncio.Event | None = None
    """No answer before it is set."""
    asked: int = 0

    def settings(self, **more: Any) -> Issuer:
        return Issuer(NAME, AUDIENCE, f"{self.url}/keys", **more)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert Request(scope).url.path == "/keys"
        self.asked += 1
        if self.hangs is not None:
            await self.hangs.wait()
        await (self.answer or JSONResponse({"keys": self.keys}))(scope, receive, send)


@asynccontextmanager
async def login(*keys: dict[str, Any]) -> AsyncIterator[Login]:
    """An issuer that publishes these keys, on a socket of its own."""
    issuer = Login(keys=list(keys))
    async with served(issuer) as issuer.url:
        yield issuer
