"""Who may come in: a key is issued once and revoked once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from events.errors import Refused, Unknown
from events.event import OPERATIONS, OperationsEvent, Recorded
from events.operations import KeyIssued, KeyRevoked
from events.store import Fold

KEY = "key:"
"""What a key's subject starts with; the rest is the key id."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as its own events tell it."""

    subject: str
    sha256: str | None = None
    revoked: bool = False


def evolve(key: Key, event: Recorded[OperationsEvent]) -> Key:
    """The key after one more of its events."""
    match event.data:
        case KeyIssued() as issued:
            return replace(key, sha256=issued.sha256)
        case KeyRevoked():
            return replace(key, revoked=True)
        case _:
            return key


FOLD = Fold(OPERATIONS, Key, evolve)


def issue(issued: KeyIssued, now: datetime, key: Key) -> list[KeyIssued]:
    """Make the key; one that exists keeps its secret."""
    return [issued] if key.sha256 is None else []


def revoke(by: str, reason: str, now: datetime, key: Key) -> list[KeyRevoked]:
    """Let the key open nothing any more. `by` is the id of the key that asks: nobody locks themselves out."""
    if key.sha256 is None:
        raise Unknown(f"there is no key {key.subject.removeprefix(KEY)}")
    if key.revoked:
        return []
    if by == key.subject.removeprefix(KEY):
        raise Refused("this is the key you are calling with; revoke it with another admin key")
    return [KeyRevoked(reason=reason)]
