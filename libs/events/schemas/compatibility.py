"""Whether a changed shape is a change: what a reader of old or of new records would trip over."""

from __future__ import annotations

from collections.abc import Iterator

from events.schemas.shapes import Schema


def incompatible(old: Schema, new: Schema) -> list[str]:
    """What a reader would trip over, as sentences: one that reads old records by the new schema, or new records by the
    old one. New optional fields, longer lists of values and wider bounds are not among it; an empty list is fine."""
    said = [f"{key} changed" for key in ("x-type", "x-writer", "x-topic") if old.get(key) != new.get(key)]
    return said + list(_different("", old, new, old, new))


_BOUNDS = (("minLength", 1), ("minItems", 1), ("minimum", 1), ("maxLength", -1), ("maxItems", -1), ("maximum", -1))


def _different(at: str, old: Schema, new: Schema, olds: Schema, news: Schema) -> Iterator[str]:
    old, new = _resolved(old, olds), _resolved(new, news)
    where = at or "the event"
    alternatives = [old.get("anyOf", []), new.get("anyOf", [])]
    if _kind(old) != _kind(new) or len(alternatives[0]) != len(alternatives[1]):
        yield f"{where} changed its type from {_kind(old)} to {_kind(new)}"
        return
    for key in ("pattern", "format", "const", "default"):
        if old.get(key) != new.get(key):
            yield f"{where} changed its {key} from {old.get(key)!r} to {new.get(key)!r}"
    if gone := [value for value in old.get("enum", []) if value not in new.get("enum", [])]:
        yield f"{where} no longer takes {', '.join(map(str, gone))}"
    for key, sign in _BOUNDS:
        if key in new and (key not in old or sign * new[key] > sign * old[key]):
            yield f"{where} has a narrower {key}: {old.get(key)} became {new[key]}"
    for before, after in zip(*alternatives, strict=True):
        yield from _different(at, before, after, olds, news)
    if "items" in old and "items" in new:
        yield from _different(f"{at}[]", old["items"], new["items"], olds, news)
    yield from _fields(at, old, new, olds, news)


def _fields(at: str, old: Schema, new: Schema, olds: Schema, news: Schema) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    was_required, is_required = set(old.get("required", [])), set(new.get("required", []))
    for name in before:
        path = f"{at}.{name}".lstrip(".")
        if name not in after:
            yield f"{path} was removed"
        else:
            yield from _different(path, before[name], after[name], olds, news)
            if name in was_required - is_required:
                yield f"{path} was in every record and may be missing now"
    for name in sorted(is_required - was_required):
        yield f"{at}.{name}".lstrip(".") + " is required now; older records do not have it"


def _resolved(part: Schema, root: Schema) -> Schema:
    """The part with its reference followed; what stands beside a reference adds to it."""
    while "$ref" in part:
        beside = {key: value for key, value in part.items() if key != "$ref"}
        part = {**root["$defs"][part["$ref"].removeprefix("#/$defs/")], **beside}
    return part


def _kind(part: Schema) -> str:
    return str(part.get("type", "any of" if "anyOf" in part else "anything"))
