"""The JSON Schema of every event, made from its class and the sentences that stand below its fields."""

from __future__ import annotations

import ast
import functools
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema

from events import case, operations, personal
from events.event import Event
from events.wire import VOCABULARY

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SEALED = "#/$defs/Sealed"


def every_event() -> list[type[Event]]:
    """Every event there is, topic by topic, in the order of the vocabulary."""
    return list(VOCABULARY.classes.values())


@functools.cache
def older() -> dict[str, Schema]:
    """Wire type → schema of every shape that is no longer written. Its records stay, and so does its file."""
    files = {wire_type: Path(__file__).with_name(f"{wire_type}.json") for wire_type in VOCABULARY.upcasts}
    return {wire_type: json.loads(file.read_text("utf-8")) for wire_type, file in files.items()}


class _Generate(GenerateJsonSchema):
    """Pydantic's generator, without titles repeated from names; `Clear` has no wire form, so it has no schema."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def get_union_of_schemas(self, schemas: list[JsonSchemaValue]) -> JsonSchemaValue:
        written = [schema for schema in schemas if schema != {"not": {}}]
        return written[0] if len(written) == 1 else super().get_union_of_schemas(written)

    def generate(self, schema: CoreSchema, mode: Any = "validation") -> JsonSchemaValue:
        return {"$schema": DIALECT, **super().generate(schema, mode)}


@functools.cache
def schema(event: type[Event]) -> Schema:
    """The JSON Schema (2020-12) of the event's value. A field is required if every record of this type has it. It is
    made once; copy it before changing it."""
    generated = event.model_json_schema(by_alias=True, schema_generator=_Generate)
    docs = _docs(sys.modules[event.__module__].__file__ or "")
    for name, part in {event.__name__: generated, **generated.get("$defs", {})}.items():
        _describe(part, docs.get(name, {}))
    fields = generated.get("properties", {})
    return {
        "$schema": generated.pop("$schema"),
        "$id": f"/schemas/{event.TYPE}",
        "title": generated.pop("title"),
        "description": one_line(generated.pop("description", "")),
        "x-type": event.TYPE,
        "x-topic": event.TOPIC,
        "x-writer": event.WRITER,
        "x-personal": [name for name, field in fields.items() if _SEALED in json.dumps(field)],
        **generated,
    }


def _describe(part: Schema, docs: dict[str, str]) -> None:
    for name, field in part.get("properties", {}).items():
        if name in docs:
            field.setdefault("description", docs[name])
    if "enum" in part and docs:
        part["x-enum-descriptions"] = {value: docs[value.upper()] for value in part["enum"] if value.upper() in docs}
    if "description" in part:
        part["description"] = one_line(part["description"])


@functools.cache
def _docs(path: str) -> dict[str, dict[str, str]]:
    """class → field or member → the sentence that stands below it, in the vocabulary and in `path`."""
    found: dict[str, dict[str, str]] = {}
    for file in dict.fromkeys((case.__file__, operations.__file__, personal.__file__, path)):
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, {}).update(_members(node))
    return found


def _members(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for member, below in zip(node.body, node.body[1:], strict=False):
        match member, below:
            case (
                (ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)])),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, one_line(text)


def one_line(text: str) -> str:
    return " ".join(inspect.cleandoc(text).split())
