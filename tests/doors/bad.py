"""Bad input, made from a door's schema and a good order: one thing is wrong with each, and only one."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.limits import BODY_BYTES
from tests.doors.town import resolved

Place = tuple[str | int, ...]
"""Where in a body: names and indexes from the outside in."""

MALFORMED = (b"{", b"[1,", b'{"a": nul}', b"\xff\xfe{}", b"[" * 50_000, b'{"a":' * 50_000)

WRONG: Mapping[str, tuple[Any, ...]] = {
    "string": (7, True, [], {}),
    "integer": ("one", "1", 1.5, True, [], {}, 2**70, -(2**70)),
    "boolean": ("maybe", "true", 1, 7, [], {}),
    "array": ("x", 7, {}),
    "object": ("x", 7, []),
}
"""By JSON type: values of other types, and numbers out of every range."""

TEXTS = ("\x00", "a\x00b", "\ud800", "a\udfffb", "x" * 200_001)
"""NUL, halves of surrogate pairs, too long."""


MAY_BE_AHEAD = ("start", "end", "now", "valid_from", "pauses")
"""Fields whose time is no fact: it may lie ahead, within reason."""


def moments(place: Place) -> tuple[Any, ...]:
    """Times that cannot be, or cannot have been."""
    now = datetime.now(UTC)
    ahead = (timedelta(minutes=6), timedelta(days=36_500)) if not set(place) & set(MAY_BE_AHEAD) else ()
    return (
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-23:59",
        "1969-12-31T23:59:59Z",
        *((now + span).isoformat() for span in ahead),
        now.replace(tzinfo=None).isoformat(),
        "2026-13-01T00:00:00Z",
        "yesterday",
        "1700000000",
        1_700_000_000,
        1e30,
        {},
    )


@dataclass(frozen=True)
class Bad:
    """A body and what is wrong with it."""

    what: str
    content: bytes
    statuses: frozenset[int] = frozenset({422})


def bodies(document: Mapping[str, Any], schema: dict[str, Any], good: dict[str, Any]) -> Iterator[Bad]:
    """Every kind of bad body for a door that takes `good`."""
    for content in MALFORMED:
        yield Bad(f"malformed {content[:12]!r}", content, frozenset({400}))
    for value in ([], "x", 7, True, [good]):
        yield Bad(f"{value!r} instead of an object"[:60], _json(value))
    yield Bad("too large", _json(good) + b" " * BODY_BYTES, frozenset({413}))
    for place, part in parts(document, schema, good):
        yield from _at(place, part, good)


def _at(place: Place, part: dict[str, Any], good: dict[str, Any]) -> Iterator[Bad]:
    for value in WRONG[part["type"]]:
        yield Bad(f"{place} = {value!r}", _json(put(good, place, value)))
    if part["type"] == "object":
        for name in ("surprise", "\x00", "\ud800"):
            yield Bad(f"{place} has {name!r}", _json(put(good, (*place, name), 1)))
    if part["type"] == "string":
        for text in TEXTS:
            yield Bad(f"{place} = {text[:8]!r}", _json(put(good, place, text)))
    if part.get("format") == "date-time":
        for moment in moments(place):
            yield Bad(f"{place} = {moment!r}", _json(put(good, place, moment)))


def parts(
    document: Mapping[str, Any], schema: dict[str, Any], good: Any, place: Place = ()
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Every place in the body, optional ones as well, with its schema; lists by their first item, if `good` has one."""
    schema = resolved(document, schema)
    if "anyOf" in schema:
        forms = [resolved(document, form) for form in schema["anyOf"]]
        schema = forms[-1] if isinstance(good, list) else forms[0]  # what is wrong for one form is right for another
    else:
        yield place, schema
    if schema["type"] == "object":
        for name, part in schema.get("properties", {}).items():
            yield from parts(document, part, good.get(name, {}) if isinstance(good, dict) else {}, (*place, name))
    if schema["type"] == "array" and isinstance(good, list) and good:
        yield from parts(document, schema["items"], good[0], (*place, 0))


def put(body: dict[str, Any], place: Place, value: Any) -> Any:
    """The body with another value in this place."""
    if not place:
        return value
    changed = deepcopy(body)
    inside: Any = changed
    for name in place[:-1]:
        inside = inside.setdefault(name, {}) if isinstance(inside, dict) else inside[name]
    inside[place[-1]] = value
    return changed


def _json(value: Any) -> bytes:
    """As clients write it: whatever is not ASCII as an escape, half a surrogate pair as well."""
    return json.dumps(value).encode()


def opaque(value: Any) -> str:
    """A cursor or position that holds it."""
    return urlsafe_b64encode(_json(value)).decode().rstrip("=")
