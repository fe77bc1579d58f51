"""The AsyncAPI 3.0 document: our topics, who says what on them, and how a record is read."""

from __future__ import annotations

import functools
import json

from events.event import CASES, OPERATIONS, Event
from events.schemas.shapes import Schema, every_event, older, one_line, schema
from events.wire import PARTITIONS, VOCABULARY

BINDING = "0.5.0"

TOPICS = {
    CASES: (
        "Everything that happens to a case, whichever service says it. The key is the case id: one case has one order "
        "for every reader, and a walk can be followed in one partition."
    ),
    OPERATIONS: (
        "Units, queues, agents, tables, calendars, promises, partners, contracts, keys and definitions. The key is the "
        "entity's id. Configuration is immutable versions: what used one names it as id@version."
    ),
}

READING = (
    "CloudEvents 1.0 in Kafka's binary mode. Delivery is at least once: a record may come again, with the same id. "
    "Drop repeats by `ce_source` + `ce_id`, or by `ce_sequence`, which counts 1, 2, 3 … per source and subject. "
    "Ignore fields you do not know, and let types pass by that you do not read: fields are only added, lists of "
    "values only grow, and a changed meaning is a new type ending in the next version. Personal texts are "
    "ciphertext under a key per person; when the key is destroyed they stay unreadable for good."
)

_HEADERS: dict[str, tuple[str, str | None, bool]] = {
    "content-type": ("Always `application/json`.", None, True),
    "ce_specversion": ("Always `1.0`.", None, True),
    "ce_id": ("The event's id; repeats carry the same one.", "uuid", True),
    "ce_source": ("The one service that says this: `urn:casewalk:<service>`.", "uri", True),
    "ce_type": ("The wire type with its version.", None, True),
    "ce_subject": ("What it is about: the case id or the entity's id. Equals the record's key.", None, True),
    "ce_time": ("When it happened, UTC.", "date-time", True),
    "ce_recordedtime": ("When it was recorded, UTC; never before what caused it.", "date-time", True),
    "ce_partitionkey": ("The record's key.", None, True),
    "ce_sequence": ("Its place in the stream of this source and subject: 20 digits, starting at 1.", None, True),
    "ce_actor": ("Who did it: `agent:<id>`, `key:<id>`, `partner:<id>`, `service:<name>`.", None, True),
    "ce_correlationid": ("The id of the first event of the flow.", "uuid", True),
    "ce_causationid": ("The id of the event that directly caused this one.", "uuid", False),
    "ce_dataschema": ("The JSON Schema of the value, relative to any of our doors.", "uri-reference", True),
    "ce_traceparent": ("The W3C trace in which it was recorded.", None, True),
    "traceparent": ("The same, where OpenTelemetry looks for it.", None, True),
}


@functools.cache
def asyncapi(version: str) -> Schema:
    """The AsyncAPI 3.0 document of this version of Casewalk. It is made once; copy it before changing it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Casewalk events",
            "version": version,
            "description": READING,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_id(topic): _channel(topic) for topic in TOPICS},
        "operations": {
            f"{writer}_says_on_{_id(topic)}": _operation(writer, topic)
            for topic in TOPICS
            for writer in dict.fromkeys(event.WRITER for event in every_event() if topic == event.TOPIC)
        },
        "components": {
            "messages": {event.TYPE: _message(event) for event in every_event()}
            | {wire_type: _older(wire_type, made) for wire_type, made in older().items()},
            "messageTraits": {"record": _record_trait()},
            "schemas": _components(),
        },
    }


def _channel(topic: str) -> Schema:
    types = [event.TYPE for event in every_event() if topic == event.TOPIC]
    types += [wire_type for wire_type, made in older().items() if topic == made["x-topic"]]
    return {
        "address": topic,
        "description": TOPICS[topic],
        "messages": {wire_type: _ref("components", "messages", wire_type) for wire_type in types},
        "bindings": {
            "kafka": {
                "topic": topic,
                "partitions": PARTITIONS,
                "topicConfiguration": {"cleanup.policy": ["delete"], "retention.ms": -1},
                "bindingVersion": BINDING,
            }
        },
    }


def _operation(writer: str, topic: str) -> Schema:
    return {
        "action": "send",
        "summary": f"What only {writer} says on {topic}.",
        "channel": _ref("channels", _id(topic)),
        "messages": [
            _ref("channels", _id(topic), "messages", event.TYPE)
            for event in every_event()
            if (writer, topic) == (event.WRITER, event.TOPIC)
        ],
    }


def _message(event: type[Event]) -> Schema:
    return _named(event.TYPE, event.__name__, one_line(event.__doc__ or ""), event.WRITER)


def _older(wire_type: str, made: Schema) -> Schema:
    summary = f"No longer written: {VOCABULARY.newest(wire_type)} took its place. {made['description']}"
    return _named(wire_type, made["title"], summary, made["x-writer"])


def _named(wire_type: str, title: str, summary: str, writer: str) -> Schema:
    return {
        "name": wire_type,
        "title": title,
        "summary": summary,
        "traits": [_ref("components", "messageTraits", "record")],
        "headers": {
            "type": "object",
            "properties": {
                "ce_type": {"type": "string", "const": wire_type},
                "ce_source": {"type": "string", "const": f"urn:casewalk:{writer}"},
            },
        },
        "payload": _ref("components", "schemas", wire_type),
    }


def _record_trait() -> Schema:
    return {
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "required": [name for name, (_, _, required) in _HEADERS.items() if required],
            "properties": {
                name: {"type": "string", "description": meaning} | ({"format": form} if form else {})
                for name, (meaning, form, _) in _HEADERS.items()
            },
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "The subject; murmur2 of it picks the partition."},
                "bindingVersion": BINDING,
            }
        },
    }


def _components() -> Schema:
    """Every schema and the parts they share, in one flat room as AsyncAPI wants it. What is no longer written has its
    own parts: they stay as they were."""
    found: Schema = {}
    for event in every_event():
        _place(found, event.TYPE, schema(event), prefix="")
    for wire_type, made in older().items():
        _place(found, wire_type, made, prefix=f"{wire_type}.")
    return dict(sorted(found.items()))


def _place(found: Schema, wire_type: str, made: Schema, prefix: str) -> None:
    own = json.loads(json.dumps(made).replace('"#/$defs/', f'"#/components/schemas/{prefix}'))
    for name, part in own.pop("$defs", {}).items():
        assert found.setdefault(f"{prefix}{name}", part) == part, f"{name} means two things"
    found[wire_type] = {key: value for key, value in own.items() if key not in ("$schema", "$id")}


def _id(topic: str) -> str:
    return topic.rpartition(".")[2]


def _ref(*path: str) -> Schema:
    return {"$ref": "#/" + "/".join(path)}
