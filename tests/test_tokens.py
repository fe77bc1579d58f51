"""Bearer tokens of an OpenID Connect issuer: which are taken, as whom, and what happens when its keys change."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import time
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from fastapi import HTTPException
from starlette.responses import JSONResponse, Response

from events.errors import Invalid, Unavailable
from events.operations import Role
from services.every import SERVICES
from services.web.access import Principal
from services.web.tokens import FETCH_WITHIN_S, Issuer, Tokens
from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine, Postgres
from tests.doors.issuer import AUDIENCE, NAME, Login, claims, login, part, published, rsa_key, signed
from tests.until import until

KEY, STRANGER, SHORT = rsa_key(), rsa_key(), rsa_key(1024)
ELLIPTIC, EDWARDS = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def pseudonym(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def tokens(issuer: Login, **more: Any) -> Tokens:
    return Tokens(issuer.settings(**more), pseudonym)


async def refused(checking: Tokens, token: str) -> str:
    """Why the token opens nothing; the answer is a 401."""
    with pytest.raises(HTTPException) as refusal:
        await checking.principal(token)
    assert refusal.value.status_code == 401
    assert refusal.value.headers == {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return str(refusal.value.detail)


# ---------------------------------------------------------------------------------------------------- what is refused


def ahead(s: int) -> int:
    """The second that many seconds from now."""
    return int(time.time()) + s


def with_the_public_key(secret: bytes) -> str:
    """An HS256 token, signed by hand: no honest library would."""
    head = part(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "one"}).encode())
    body = part(json.dumps(claims(scope="casewalk:admin")).encode())
    return f"{head}.{body}.{part(hmac.digest(secret, f'{head}.{body}'.encode(), 'sha256'))}"


def with_anothers_body() -> str:
    head, _, signature = signed(KEY, claims()).split(".")
    return f"{head}.{part(json.dumps(claims(scope='casewalk:admin')).encode())}.{signature}"


def with_a_short_key() -> str:
    with warnings.catch_warnings(action="ignore", category=jwt.InsecureKeyLengthWarning):
        return signed(SHORT, claims(), kid="short")


REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "expired": (lambda: signed(KEY, claims(exp=ahead(-60))), "expired"),
    "not yet valid": (lambda: signed(KEY, claims(nbf=ahead(3600))), "not valid yet"),
    "issued in the future": (lambda: signed(KEY, claims(iat=ahead(3600))), "not valid yet"),
    "for another audience": (lambda: signed(KEY, claims(aud="the-shop")), "audience"),
    "for several others": (lambda: signed(KEY, claims(aud=["the-shop", "the-till"])), "audience"),
    "of another issuer": (lambda: signed(KEY, claims(iss="https://login.other.example/")), "issuer"),
    "without an end": (lambda: signed(KEY, claims(exp=None)), "must say"),
    "without an audience": (lambda: signed(KEY, claims(aud=None)), "must say"),
    "without an issuer": (lambda: signed(KEY, claims(iss=None)), "must say"),
    "of nobody": (lambda: signed(KEY, claims(sub=None)), "must say"),
    "signed with another key": (lambda: signed(STRANGER, claims()), "signature"),
    "naming an unknown key": (lambda: signed(KEY, claims(), kid="nine"), "names a key"),
    "naming no key of several": (lambda: signed(KEY, claims(), kid=None), "names a key"),
    "without a signature": (lambda: jwt.encode(claims(), None, "none", headers={"kid": "one"}), "another way"),
    "with the public key as its secret": (lambda: with_the_public_key(PUBLIC), "another way"),
    "with the modulus as its secret": (lambda: with_the_public_key(published("one", KEY)["n"].encode()), "another way"),
    "with another algorithm than the key's": (lambda: signed(KEY, claims(), "RS512"), "another way"),
    "with a key for encryption": (lambda: signed(STRANGER, claims(), kid="for-encryption"), "names a key"),
    "with a key that is too short": (with_a_short_key, "read"),
    "with extensions": (lambda: signed(KEY, claims(), crit=["exp"]), "read"),
    "with an end that is no time": (lambda: signed(KEY, claims(exp="soon")), "read"),
    "with an end that never comes": (lambda: signed(KEY, claims(exp=float("inf"))), "read"),
    "with another's body": (with_anothers_body, "signature"),
    "no token at all": (lambda: "ey.ey.ey", "read"),
    "deep": (lambda: part(b"[" * 9_000) + "." + part(b"{}") + ".x", "read"),
    "long": (lambda: signed(KEY, claims(more="x" * 20_000)), "too long"),
}


@pytest.fixture(scope="module")
async def issuer() -> AsyncIterator[Login]:
    async with login(
        published("one", KEY, alg="RS256"),
        published("two", ELLIPTIC),
        published("three", EDWARDS),
        published("for-encryption", STRANGER, use="enc"),
        published("short", SHORT),
        {"kid": "secret", "kty": "oct", "k": part(b"s" * 32)},
        {"kid": "broken", "kty": "RSA", "n": "!"},
        {"kty": 7},
    ) as running:
        yield running


@pytest.mark.parametrize("name", REFUSED)
async def test_a_token_is_refused_that_is(issuer: Login, name: str) -> None:
    token, why = REFUSED[name]
    detail = await refused(tokens(issuer), token())
    assert why in detail
    assert "shop.example" not in detail


async def test_every_token_is_refused_that_was_changed_anywhere(issuer: Login) -> None:
    """Each character of the token's signed parts stands for bits of its own, all but the last of a part."""
    good, checking = signed(KEY, claims()), tokens(issuer)
    await checking.principal(good)
    for at in range(0, good.rindex("."), 7):
        if good[at + 1] != "." and good[at] != ".":
            changed = good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
            with pytest.raises(HTTPException):
                await checking.principal(changed)


# ----------------------------------------------------------------------------------------------------------- as whom


@pytest.mark.parametrize(
    ("kid", "key", "algorithm"), [("one", KEY, "RS256"), ("two", ELLIPTIC, "ES256"), ("three", EDWARDS, "EdDSA")]
)
async def test_a_token_says_the_role_of_its_caller_and_not_its_name(
    issuer: Login, kid: str, key: Any, algorithm: str
) -> None:
    principal = await tokens(issuer).principal(signed(key, claims(), algorithm, kid=kid))
    assert principal == Principal("token-" + pseudonym(f"{NAME} kim@shop.example"), Role.LEAD, None)
    assert "kim" not in principal.actor


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("scope", "casewalk:reader"),
        ("scope", "openid the-shop:admin casewalk:reader profile"),
        ("groups", ["everybody", "casewalk:reader"]),
        ("realm_access.roles", {"roles": ["casewalk:reader", 7]}),
        ("https://shop.example/role", "casewalk:reader"),
    ],
)
async def test_a_role_is_read_from_the_claim_that_the_operator_names(issuer: Login, claim: str, said: Any) -> None:
    name = claim.removesuffix(".roles")
    token = signed(KEY, claims(**{"scope": None, name: said}))
    assert (await tokens(issuer, role_claim=claim).principal(token)).role is Role.READER


@pytest.mark.parametrize(
    "said", [None, "", "admin", "openid", "casewalk:king", "casewalk:", "casewalk:lead casewalk:reader", 7, {"a": 1}]
)
async def test_a_token_that_does_not_say_one_role_opens_no_door(issuer: Login, said: Any) -> None:
    with pytest.raises(HTTPException) as refusal:
        await tokens(issuer).principal(signed(KEY, claims(scope=said)))
    assert refusal.value.status_code == 403


@pytest.mark.parametrize("role", ["agent", "partner"])
async def test_an_agents_or_partners_token_says_whose_it_is(issuer: Login, role: str) -> None:
    checking, scope = tokens(issuer), f"casewalk:{role}"
    assert (await checking.principal(signed(KEY, claims(scope=scope, casewalk_holder="ana")))).holder == "ana"
    for holder in (None, "", 7, ["ana"], "Ana Åkesson", "x" * 200):
        with pytest.raises(HTTPException) as refusal:
            await checking.principal(signed(KEY, claims(scope=scope, casewalk_holder=holder)))
        assert refusal.value.status_code == 403, holder


# ------------------------------------------------------------------------------------------------- keys of the issuer


async def test_a_new_key_of_the_issuer_is_taken_at_once_and_a_withdrawn_one_no_more() -> None:
    new, old = signed(STRANGER, claims(), kid="new"), signed(KEY, claims())
    async with login(published("one", KEY)) as issuer:
        checking = tokens(issuer, refresh_s=0)
        await checking.principal(old)
        issuer.keys = [published("new", STRANGER)]
        await checking.principal(new)
        assert "names a key" in await refused(checking, old)


async def test_a_withdrawn_key_opens_nothing_once_the_set_is_too_old() -> None:
    async with login(published("one", KEY)) as issuer:
        checking = tokens(issuer, refresh_s=0, kept_s=0)
        await checking.principal(signed(KEY, claims()))
        issuer.keys = []
        assert "names a key" in await refused(checking, signed(KEY, claims()))


async def test_a_flood_of_unknown_keys_asks_the_issuer_once() -> None:
    async with login(published("one", KEY)) as issuer:
        checking = tokens(issuer)
        await asyncio.gather(*(refused(checking, signed(KEY, claims(), kid=f"k{n}")) for n in range(50)))
        await checking.principal(signed(KEY, claims()))
        assert issuer.asked == 1


@pytest.mark.parametrize(
    "answer",
    [
        Response(status_code=500),
        Response("no JSON"),
        Response("[" * 100_000),
        JSONResponse({"keys": "none"}),
        Response(b" " * 2_000_000),
        Response(status_code=302, headers={"Location": "/keys"}),
    ],
)
async def test_the_last_good_keys_stay_while_the_issuer_is_down(answer: Response) -> None:
    async with login(published("one", KEY)) as issuer:
        checking = tokens(issuer, refresh_s=0, kept_s=0)
        await checking.principal(signed(KEY, claims()))
        issuer.answer = answer
        for _ in range(3):
            await checking.principal(signed(KEY, claims()))
        with pytest.raises(Unavailable):
            await checking.principal(signed(STRANGER, claims(), kid="new"))
        asked, issuer.answer, issuer.keys = issuer.asked, None, [published("new", STRANGER)]
        await checking.principal(signed(STRANGER, claims(), kid="new"))
        assert issuer.asked > asked > 1
        await checking.stop()


async def test_nobody_waits_for_an_issuer_that_hangs_once_its_keys_are_known() -> None:
    async with login(published("one", KEY)) as issuer:
        checking = tokens(issuer, refresh_s=0, kept_s=0)
        await checking.principal(signed(KEY, claims()))
        issuer.answer = Response(status_code=500)
        await checking.principal(signed(KEY, claims()))
        issuer.hangs = asyncio.Event()
        async with asyncio.timeout(FETCH_WITHIN_S / 2):
            for _ in range(20):
                await checking.principal(signed(KEY, claims()))
            await checking.stop()
        issuer.hangs.set()


async def test_an_issuer_that_never_answered_is_said_to_be_away() -> None:
    checking = Tokens(Issuer(NAME, AUDIENCE, "http://127.0.0.1:9/keys"), pseudonym)
    for _ in range(2):
        with pytest.raises(Unavailable, match="issuer"):
            await checking.principal(signed(KEY, claims()))


@pytest.mark.parametrize("url", ["http://login.shop.example/keys", "ftp://127.0.0.1/keys", "file:///keys", "keys", ""])
def test_keys_are_not_fetched_over_a_line_that_anybody_can_write_on(url: str) -> None:
    with pytest.raises(Invalid):
        Tokens(Issuer(NAME, AUDIENCE, url), pseudonym)


# ------------------------------------------------------------------------------------------------------ at the doors


@pytest.fixture(scope="module")
async def world(postgres: Postgres, issuer: Login, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Casewalk]:
    name, connection = f"tokens_{secrets.token_hex(6)}", await asyncpg.connect(postgres.url)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        engine = Engine("embedded", postgres.dsn(name), None, "tokens")
        async with casewalk(engine, tmp_path_factory.mktemp("tokens"), SERVICES, oidc=issuer.settings()) as running:
            yield running
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


async def knock(world: Casewalk, path: str, said: dict[str, Any]) -> httpx.Response:
    return await (await world.client(signed(KEY, said))).get(path)


async def test_a_token_opens_the_doors_of_its_role_at_every_service(world: Casewalk) -> None:
    for path in ("/v1/cases", "/v1/units", "/v1/clocks?case=00000000-0000-4000-8000-000000000000", "/v1/partners",
                 "/v1/figures", *(f"/v1/ops/{service.name}/parked" for service in SERVICES)):  # fmt: skip
        assert (await knock(world, path, claims())).status_code == 200, path
        refusal = await knock(world, path, claims(scope="casewalk:partner", casewalk_holder="nordfix"))
        assert refusal.status_code == (200 if path == "/v1/cases" else 403), path
        refusal = await knock(world, path, claims(exp=ahead(-60)))
        assert (refusal.status_code, refusal.headers["content-type"]) == (401, "application/problem+json"), path
        assert refusal.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"', path


async def test_keys_open_doors_beside_tokens(world: Casewalk) -> None:
    assert (await world.admin.get("/v1/cases")).status_code == 200


async def test_a_token_acts_for_its_holder_only(world: Casewalk) -> None:
    ana = claims(scope="casewalk:agent", casewalk_holder="ana")
    assert (await knock(world, "/v1/work?agent=tom", ana)).status_code == 403
    assert (await knock(world, "/v1/work?agent=ana", ana)).status_code == 200


async def test_an_event_knows_a_tokens_subject_by_its_pseudonym(world: Casewalk) -> None:
    lead = await world.client(signed(KEY, claims()))
    assert (await lead.put("/v1/units/by-token", json={"name": "Care", "kind": "front_end"})).is_success
    store = world.hosts["router"].store
    (event,) = await store.events("casewalk.operations", "unit:by-token")
    assert event.actor.startswith("key:token-")
    assert "kim" not in event.actor
    await until(lambda: knows(world, "by-token"))


async def knows(world: Casewalk, unit_id: str) -> bool:
    units = (await world.admin.get("/v1/units")).json()["items"]
    return unit_id in {unit["unit_id"] for unit in units}
