"""One key per person: sealing what the service says about them, opening it, and forgetting them for good."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import asyncpg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events.errors import CasewalkError, Invalid, Refused
from events.event import Event
from events.personal import Clear, Redacted, Sealed, personal_fields

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

TABLES = """
create table if not exists {privacy}.person (
    person      text collate "C" primary key,
    key_version smallint not null default 1,
    wrapped_key bytea,
    lookup      bytea unique,
    erased_at   timestamptz
);
"""
"""`wrapped_key` is the person's key under the master key; none after an erasure. `lookup` finds a person by an
external id without storing it: an HMAC under a key derived from the master key, dropped with the erasure."""

_PERSON = """
with known as (select person from person where lookup = $3),
new as (
    insert into person (person, wrapped_key, lookup)
    select $1, $2, $3 from (select set_config('synchronous_commit', 'off', true)) as unflushed
    where not exists (select from known)
    on conflict (lookup) do nothing returning person
)
select person from known union all select person from new
"""


class Keyring:
    """The keys of the persons one service owns. `master_key` has 32 bytes and never reaches the database."""

    def __init__(self, master_key: bytes) -> None:
        if len(master_key) != 32:
            raise Invalid("a master key has 32 bytes")
        self._wrap = AESGCM(_derive(master_key, b"wrap"))
        self._lookup = _derive(master_key, b"lookup")
        self._agents = _derive(master_key, b"observed")

    def lookup(self, *parts: str) -> bytes:
        """What stands for an external id in tables."""
        return hmac.digest(self._lookup, "\x1f".join(parts).encode(), "sha256")

    def fingerprint(self, body: bytes) -> bytes:
        """What stands for a request's body in the idempotency table."""
        return hmac.digest(self._lookup, body, "sha256")

    def pseudonym(self, text: str) -> str:
        """A stable, keyed stand-in for a person another system names, 32 hexadecimal digits."""
        return hmac.digest(self._agents, text.encode(), "sha256").hex()[:32]

    async def seal(self, conn: Connection, events: Mapping[str, Event]) -> dict[str, Event | CasewalkError]:
        """The events (by id) with every `Clear` field sealed, or why one cannot be: its person was erased, its text is
        no text. Keys are made first and held FOR SHARE until the transaction ends."""
        wanted = {
            (event_id, name): value
            for event_id, event in events.items()
            for name in personal_fields(type(event))
            if isinstance(value := getattr(event, name), Clear)
        }
        if not wanted:
            return dict(events)
        ciphers = await self._ciphers(conn, {clear.person for clear in wanted.values()})
        updates: dict[str, dict[str, Any]] = {}
        done: dict[str, Event | CasewalkError] = dict(events)
        for (event_id, name), clear in wanted.items():
            try:
                updates.setdefault(event_id, {})[name] = _seal(ciphers, events[event_id].TYPE, event_id, name, clear)
            except CasewalkError as error:
                done[event_id] = error
        for event_id, update in updates.items():
            if not isinstance(done[event_id], CasewalkError):
                done[event_id] = events[event_id].model_copy(update=update)
        return done

    async def open(self, conn: Connection, texts: Iterable[tuple[str, str, str, Sealed]]) -> list[str | Redacted]:
        """The clear texts of (event type, event id, field, sealed), in order; `Redacted` says why not."""
        texts = list(texts)
        rows = await conn.fetch(
            "select person, key_version, wrapped_key, erased_at from person where person = any($1)",
            list({sealed.person for *_, sealed in texts}),
        )
        known = {row["person"]: row for row in rows}
        return [
            self._open(known.get(sealed.person), kind, event_id, field, sealed)
            for kind, event_id, field, sealed in texts
        ]

    def _open(self, row: asyncpg.Record | None, kind: str, event_id: str, field: str, sealed: Sealed) -> str | Redacted:
        if row is None:
            return Redacted.NO_KEY
        if row["erased_at"] is not None:
            return Redacted.ERASED
        try:
            key = self._wrap.decrypt(row["wrapped_key"][:12], row["wrapped_key"][12:], sealed.person.encode())
            bound = _bound(kind, event_id, field, sealed.version)
            return AESGCM(key).decrypt(b64decode(sealed.nonce), b64decode(sealed.text), bound).decode()
        except (InvalidTag, ValueError):
            return Redacted.NO_KEY

    async def person(self, conn: Connection, lookup: bytes, candidate: str) -> str:
        """The person found by `lookup`, or `candidate` from now on; one person under any number of callers.

        One round trip, in a transaction of its own that is not waited for until it is on the disk: whatever is then
        said of the person is flushed after it in the same log, and only that is answered."""
        assert not conn.is_in_transaction(), "the caller's own transaction would not be waited for either"
        while True:
            found = await conn.fetchval(_PERSON, candidate, self._new_key(candidate), lookup)
            if found is not None:  # else another caller was faster, and whom that one inserted may be erased by now
                return str(found)

    async def erase(self, conn: Connection, persons: list[str]) -> None:
        """Destroy the persons' keys and look-ups. For good: there is no way back. Doing it twice is doing it once."""
        await conn.execute(
            "insert into person (person, erased_at) select p, clock_timestamp() from unnest($1::text[]) p"
            " on conflict (person) do update set wrapped_key = null, lookup = null,"
            " erased_at = coalesce(person.erased_at, excluded.erased_at)",
            sorted(set(persons)),
        )

    async def _ciphers(self, conn: Connection, persons: set[str]) -> dict[str, tuple[int, AESGCM]]:
        select = (
            "select person, key_version, wrapped_key, erased_at from person"
            " where person = any($1) order by person for share"
        )
        names = sorted(persons)
        rows = {row["person"]: row for row in await conn.fetch(select, names)}
        if missing := [name for name in names if name not in rows]:
            await conn.execute(
                "insert into person (person, wrapped_key) select * from unnest($1::text[], $2::bytea[])"
                " on conflict do nothing",
                missing,
                [self._new_key(name) for name in missing],
            )
            rows = {row["person"]: row for row in await conn.fetch(select, names)}
        return {
            name: (
                row["key_version"],
                AESGCM(self._wrap.decrypt(row["wrapped_key"][:12], row["wrapped_key"][12:], name.encode())),
            )
            for name, row in rows.items()
            if row["erased_at"] is None
        }

    def _new_key(self, person: str) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._wrap.encrypt(nonce, AESGCM.generate_key(256), person.encode())


def _derive(master_key: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(key=master_key, digest_size=32, person=purpose).digest()


def _seal(ciphers: dict[str, tuple[int, AESGCM]], kind: str, event_id: str, field: str, clear: Clear) -> Sealed:
    if clear.person not in ciphers:
        raise Refused("this person was erased; nothing more can be written about them", person=clear.person)
    version, cipher = ciphers[clear.person]
    nonce = os.urandom(12)
    try:
        text = cipher.encrypt(nonce, clear.text.encode(), _bound(kind, event_id, field, version))
    except UnicodeEncodeError as error:
        raise Invalid(f"{field} holds half a character (a lone surrogate)") from error
    return Sealed(
        enc=1, person=clear.person, version=version, nonce=b64encode(nonce).decode(), text=b64encode(text).decode()
    )


def _bound(kind: str, event_id: str, field: str, version: int) -> bytes:
    """What the ciphertext is bound to, so that it cannot be moved to another event or field."""
    return f"{kind}|{event_id}|{field}|{version}".encode()
