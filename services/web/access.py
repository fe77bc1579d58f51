"""Who may call: the keys as every service knows them, and what a caller is once a key or a token was checked."""

from __future__ import annotations

from dataclasses import dataclass

from events.event import Recorded
from events.operations import KeyIssued, KeyRevoked, Role
from events.views import View


@dataclass(frozen=True, slots=True)
class Key:
    """A key as a service knows it."""

    key_id: str
    role: Role
    sha256: str
    holder: str | None
    revoked: bool


def _fold_key(key: Key | None, event: Recorded[KeyIssued | KeyRevoked]) -> Key | None:
    match event.data:
        case KeyIssued() as issued:
            return Key(event.subject, issued.role, issued.sha256, issued.holder, key is not None and key.revoked)
        case KeyRevoked():
            return None if key is None else Key(key.key_id, key.role, key.sha256, key.holder, True)


KEYS = View("keys", 1, Key, (KeyIssued, KeyRevoked), _fold_key, indexes=("sha256",))
"""Every service's own copy of the keys, projected from the log."""


@dataclass(frozen=True)
class Principal:
    """Who calls."""

    key_id: str
    role: Role
    holder: str | None

    @property
    def actor(self) -> str:
        """As events name them."""
        if self.role in (Role.AGENT, Role.PARTNER) and self.holder is not None:
            return f"{self.role}:{self.holder}"
        return f"key:{self.key_id}"


OPEN = Principal("open", Role.ADMIN, None)
"""Everybody, where `--open` was asked for on loopback."""
