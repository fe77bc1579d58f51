"""Keys are issued, listed and revoked."""

import hashlib
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Self
from uuid import uuid4

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import ConfigDict, Field, model_validator

from events.errors import Invalid
from events.event import Label, Ref, named
from events.operations import KeyIssued, Role
from services.intake import views
from services.intake.decide import keys as decide
from services.intake.decide.keys import KEY
from services.intake.keys import new_secret
from services.runtime import Host
from services.web import Answer, Caller, Cursor, Door, Limit, Order, cursor, next_link, parse_cursor, written

KeyId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class KeyOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "agent", "label": "Anna", "holder": "anna"}]})

    role: Role
    label: Label = Field(description="What you will know the key by; not a person's name.")
    holder: Ref | None = Field(default=None, description="The agent or partner it belongs to; those roles require it.")

    @model_validator(mode="after")
    def _belongs_to_somebody(self) -> Self:
        if self.role in (Role.AGENT, Role.PARTNER) and self.holder is None:
            raise ValueError(f"a key for the role {self.role} belongs to a holder: say which {self.role}")
        return self


class NewKey(Answer):
    key_id: str
    secret: str | None = Field(
        description="What the key's holder sends as `Authorization: Bearer …`. Said once: it is not kept, and null when"
        " an Idempotency-Key is repeated."
    )


class KeyAnswer(Answer):
    key_id: str
    role: Role
    label: str
    holder: str | None
    issued_at: datetime
    revoked_at: datetime | None


class Keys(Answer):
    items: list[KeyAnswer]


class Revoked(Answer):
    key_id: str
    revoked: bool = True


def _key_id(caller: Caller) -> str:
    if caller.idempotency_key is None:
        return str(uuid4())
    return named(f"{caller.scope}/{caller.idempotency_key}")


def _last_shown(text: str | None) -> str | None:
    values = parse_cursor(text, 1)
    if values is None:
        return None
    if not values[0].isascii():
        raise Invalid("this cursor is not one of ours")
    return values[0]


def _shown(key: views.IssuedKey) -> KeyAnswer:
    return KeyAnswer(
        key_id=key.subject.removeprefix(KEY),
        role=key.role,
        label=key.label,
        holder=key.holder,
        issued_at=key.issued_at,
        revoked_at=key.revoked_at,
    )


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/keys`."""
    admin = door.caller()
    _add_issue(router, door.host, admin)
    _add_list(router, door.host, admin)
    _add_revoke(router, door.host, admin)


def _add_issue(router: APIRouter, host: Host, admin: Any) -> None:

    @router.post("/v1/keys", status_code=201, summary="Issue a key")
    async def issue(order: KeyOrder, response: Response, caller: Annotated[Caller, admin]) -> NewKey:
        """A key for a person, a partner or a program. Every service knows it within moments.

        The answer is the only time its secret is said; only a SHA-256 of it is kept.
        """
        key_id, secret = _key_id(caller), new_secret()
        issued = KeyIssued(
            role=order.role,
            sha256=hashlib.sha256(secret.encode()).hexdigest(),
            holder=order.holder,
            label=order.label,
        )
        changed = await host.store.change(
            decide.FOLD(KEY + key_id),
            decision=partial(decide.issue, issued),
            actor=caller.actor,
            once=caller.once(order, 201, key_id=key_id),
        )
        written(response, changed)
        return NewKey(key_id=key_id, secret=secret if changed.events else None)


def _add_list(router: APIRouter, host: Host, admin: Any) -> None:
    @router.get("/v1/keys", summary="List keys")
    async def list_keys(
        request: Request,
        response: Response,
        caller: Annotated[Caller, admin],
        cursor_: Annotated[Cursor, Query(alias="cursor")] = None,
        limit: Limit = 100,
    ) -> Keys:
        """Every key there ever was, without its secret."""
        found = await views.keys(host.database, _last_shown(cursor_), limit)
        if len(found) == limit:
            next_link(request, response, cursor(found[-1].subject))
        return Keys(items=[_shown(key) for key in found])


def _add_revoke(router: APIRouter, host: Host, admin: Any) -> None:
    @router.delete("/v1/keys/{key_id}", summary="Revoke a key")
    async def revoke(key_id: KeyId, response: Response, caller: Annotated[Caller, admin]) -> Revoked:
        """The key opens nothing any more, for good, within about a second. Nobody revokes the key they call with."""
        changed = await host.store.change(
            decide.FOLD(KEY + key_id),
            decision=partial(decide.revoke, caller.principal.key_id, "revoked"),
            actor=caller.actor,
            expected=caller.expected,
        )
        written(response, changed)
        return Revoked(key_id=key_id)
