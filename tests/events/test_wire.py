"""An event on the wire: CloudEvents that others can read, partitions where Kafka puts them, and no bytes that hurt."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid5

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given as each
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from events import wire
from events.case import (
    CASE_EVENTS,
    CaseClosed,
    CaseOpened,
    CaseReleased,
    CaseResolved,
    ClockStarted,
    ClockStopped,
    ClockWarning,
    Priority,
)
from events.errors import Invalid, TooLarge, Undecodable
from events.event import NAMESPACE, CaseEvent, Event, Label, Ref, named
from events.operations import OPERATIONS_EVENTS, KeyRevoked, RoutingRule, RoutingTablePublished, When
from events.personal import Clear, Personal, Sealed
from events.schemas import schema
from events.schemas.__main__ import ROOT, at, brought
from events.testing import CASE_ID, recorded
from events.wire import PARTITIONS, VOCABULARY, Broken, Record, Vocabulary, from_kafka, headers, murmur2, partition_of
from tests import wire as golden
from tests.given import EXAMPLES, an

EVENTS = (*CASE_EVENTS, *OPERATIONS_EVENTS)
SAMPLES = golden.samples()
ACROSS = pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.TYPE)


def read(record: Record, **changed: Any) -> Record | Broken:
    """The record after a trip through Kafka's bytes, with some of them changed."""
    pairs = [(name, value) for name, value in headers(record) if name not in changed]
    pairs += [(name, value) for name, value in changed.items() if isinstance(value, bytes) and name != "value"]
    value = changed.get("value", record.data.encode())
    return from_kafka(record.topic, record.partition, 7, record.subject.encode(), pairs, value)


def written(event: Event, **more: Any) -> Record:
    return wire.record(recorded(event, **more))


# ---------------------------------------------------------------------------------------------------------- partitions


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        # org.apache.kafka.common.utils.UtilsTest
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
        # librdkafka, rdmurmur2.c
        (b"kafka", 0xD067CF64),
        (b"giberish123456789", 0x8F552B0C),
        (b"1234", 0x9FC97B14),
        (b"4", 0x5A4B5CA1),
        (b"", 0x106E08D9),
    ],
)
def test_murmur2_equals_what_kafka_and_librdkafka_publish(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected & 0xFFFFFFFF


@each(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_a_named_id_is_the_uuid5_of_its_text(text: str) -> None:
    assert named(text) == str(uuid5(NAMESPACE, text))


@each(st.binary(max_size=200))
def test_murmur2_equals_aiokafkas_for_any_bytes(key: bytes) -> None:
    assert murmur2(key) == aiokafka_murmur2(key) & 0xFFFFFFFF


@each(st.text(min_size=1, max_size=60))
def test_a_key_lies_in_the_partition_kafkas_default_partitioner_picks(key: str) -> None:
    partitions = list(range(PARTITIONS))
    assert partition_of(key) == DefaultPartitioner()(key.encode(), partitions, partitions)


# ------------------------------------------------------------------------------------------------------ others read us


@ACROSS
def test_the_official_cloudevents_sdk_reads_what_stands_in_kafka(event: type[Event]) -> None:
    sample = golden.sample(event)

    read_by_sdk = from_kafka_event(KafkaMessage(dict(sample.headers), sample.key, sample.value))

    assert read_by_sdk.get_specversion() == "1.0"
    assert read_by_sdk.get_id() == sample.record.id
    assert read_by_sdk.get_source() == f"urn:casewalk:{event.WRITER}"
    assert read_by_sdk.get_type() == event.TYPE
    assert read_by_sdk.get_subject() == sample.record.subject
    assert read_by_sdk.get_time() == sample.record.occurred_at
    assert read_by_sdk.get_datacontenttype() == "application/json"
    assert read_by_sdk.get_dataschema() == f"/schemas/{event.TYPE}"
    assert read_by_sdk.get_extension("sequence") == f"{sample.record.sequence:020d}"
    assert read_by_sdk.get_extension("partitionkey") == sample.record.subject
    assert read_by_sdk.get_data() == json.loads(sample.value)


def test_attribute_names_are_legal_everywhere() -> None:
    names = [name.removeprefix("ce_") for name, _ in headers(written(an(CaseOpened))) if name.startswith("ce_")]

    assert all(name.isascii() and name.isalnum() and name.islower() and len(name) <= 20 for name in names)


@ACROSS
def test_every_value_fits_its_published_schema(event: type[Event]) -> None:
    Draft202012Validator(schema(event)).validate(json.loads(golden.sample(event).value))


def test_a_structured_cloudevent_is_read_like_a_binary_one() -> None:
    sample = golden.sample(CaseOpened)
    attributes = {name.removeprefix("ce_"): value.decode() for name, value in sample.headers if name.startswith("ce_")}
    attributes["time"] = sample.record.occurred_at
    message = to_structured_event(CloudEvent(attributes, json.loads(sample.value)))

    structured = from_kafka(sample.topic, 0, 0, sample.key, message.headers.items(), message.value)

    assert isinstance(structured, Record)
    assert structured._replace(data="") == sample.record._replace(data="")
    assert VOCABULARY.recorded(structured) == VOCABULARY.recorded(sample.record)


# ------------------------------------------------------------------------------------------------------------- samples


def test_every_type_has_a_sample_and_every_sample_a_type() -> None:
    """`python -m tests.wire` writes the sample of a new type."""
    assert set(SAMPLES) >= {event.TYPE for event in EVENTS}
    assert set(SAMPLES) <= {*VOCABULARY.classes, *VOCABULARY.upcasts}
    assert set(EXAMPLES) == set(EVENTS)
    for event, example in EXAMPLES.items():
        assert example.model_fields_set == set(event.model_fields), f"{event.__name__}: a sample shows every field"


def test_a_sample_is_never_edited() -> None:
    """Each is what the commit that brought it said; where there is no history, nothing can be said."""
    for name, revision in (brought(ROOT, "tests/wire/casewalk.*.json") or {}).items():
        assert (ROOT / name).read_text(encoding="utf-8") == at(ROOT, revision, name), f"{name} was edited"


@pytest.mark.parametrize("name", SAMPLES)
def test_what_was_written_once_is_read_for_ever(name: str) -> None:
    sample = SAMPLES[name]

    event = VOCABULARY.recorded(sample.record)
    again = wire.record(event)

    assert VOCABULARY.recorded(again) == event
    if name == event.data.TYPE:
        assert _holds(json.loads(again.data), json.loads(sample.value))
        assert dict(headers(again)) == dict(sample.headers)


def _holds(grown: Any, written: Any) -> bool:
    """Whether everything that was written stands in what it became: fields may have come since, in parts too."""
    if isinstance(written, dict) and isinstance(grown, dict):
        return all(name in grown and _holds(grown[name], value) for name, value in written.items())
    if isinstance(written, list) and isinstance(grown, list):
        return len(grown) == len(written) and all(map(_holds, grown, written))
    return bool(grown == written)


def test_deterministic_ids_are_made_the_same_way_for_ever() -> None:
    assert UUID("6b1f7f0e-3f3a-5c58-9d53-0f6c1a1e8b52") == NAMESPACE


# -------------------------------------------------------------------------------------------------------- older shapes


class OpenedV2(CaseEvent, type="casewalk.case.opened.v2", writer="intake"):
    """The priority became an urgency, from 1 to 4."""

    channel: Ref
    market: Ref
    language: Ref
    journey: Ref
    urgency: int
    customer_ref: Ref
    title: Personal
    body: Personal
    external_id: Ref | None = None


class OpenedV3(OpenedV2, type="casewalk.case.opened.v3", writer="intake"):
    """The language became a list."""

    language: tuple[Ref, ...]  # type: ignore[assignment]


def urgency(fields: dict[str, Any]) -> dict[str, Any]:
    priority = fields.pop("priority", "normal")
    return fields | {"urgency": 1 + list(Priority).index(priority)}


def languages(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"language": [fields["language"]]}


V1, V2, V3 = CaseOpened.TYPE, OpenedV2.TYPE, OpenedV3.TYPE
SECOND = Vocabulary((OpenedV2, CaseResolved), {V1: (V2, urgency)})
THIRD = Vocabulary((OpenedV3, CaseResolved), {V1: (V2, urgency), V2: (V3, languages)})


def test_an_older_shape_becomes_the_newest_one() -> None:
    sample = golden.sample(CaseOpened)

    event = SECOND.recorded(sample.record)

    assert isinstance(event.data, OpenedV2)
    assert (event.data.urgency, event.data.journey) == (3, "delivery")
    assert (event.id, event.sequence) == (sample.record.id, sample.record.sequence)


def test_a_clock_that_was_started_in_the_first_shape_warns_at_the_share_its_moment_was() -> None:
    started = VOCABULARY.recorded(SAMPLES["casewalk.case.clock_started.v1"].record).data

    assert isinstance(started, ClockStarted)
    assert started.warnings == (ClockWarning(percent=50, at=datetime(2026, 3, 2, 12, tzinfo=UTC)),)
    assert (started.target_s, started.due_at) == (28_800, datetime(2026, 3, 2, 16, tzinfo=UTC))


def test_a_clock_that_was_stopped_in_the_first_shape_keeps_its_verdict() -> None:
    stopped = VOCABULARY.recorded(SAMPLES["casewalk.case.clock_stopped.v1"].record).data

    assert isinstance(stopped, ClockStopped)
    assert (stopped.kept, stopped.elapsed_s, stopped.ignored_s) == (True, 412, 0)


def test_upcasts_are_followed_to_the_newest_class() -> None:
    record = golden.sample(CaseOpened).record
    second = wire.record(SECOND.recorded(record))

    assert second.type == V2
    assert THIRD.recorded(record).data == THIRD.recorded(second).data
    assert THIRD.recorded(record).data.language == ("de",)
    assert (THIRD.newest(V1), THIRD.newest(V2), THIRD.newest(V3)) == (V3, V3, V3)


def test_an_upcast_leaves_ciphertext_untouched() -> None:
    sample = golden.sample(CaseOpened)
    before = json.loads(sample.value)

    after = json.loads(wire.record(THIRD.recorded(sample.record)).data)

    assert (after["title"], after["body"]) == (before["title"], before["body"])


def test_a_later_version_of_a_type_one_reads_is_newer_and_a_strange_type_is_not() -> None:
    assert VOCABULARY.is_newer(V2, frozenset({V1}))
    assert SECOND.is_newer(V3, frozenset({V2}))
    assert not SECOND.is_newer(V2, frozenset({V2}))
    assert not SECOND.is_newer(V1, frozenset({V2}))
    assert not VOCABULARY.is_newer(V2, frozenset({CaseResolved.TYPE}))
    assert not VOCABULARY.is_newer("casewalk.case.painted.v1", frozenset({V1}))
    assert not VOCABULARY.is_newer("com.example.opened.v2", frozenset({V1}))
    assert not VOCABULARY.is_newer("", frozenset({V1}))


@pytest.mark.parametrize("data", ["", "null", "[]", "7", '"text"', "{", "{}", '{"priority": []}', "[" * 100_000])
def test_an_older_shape_that_does_not_fit_is_undecodable(data: str) -> None:
    for vocabulary in (VOCABULARY, SECOND, THIRD):
        with pytest.raises(Undecodable, match=r"casewalk\.case\.opened\.v\d does not decode"):
            vocabulary.decode(V1, data)


def test_a_type_nobody_knows_is_undecodable() -> None:
    with pytest.raises(Undecodable, match="no type of ours"):
        VOCABULARY.decode("casewalk.case.painted.v1", "{}")


def test_a_reader_ignores_fields_it_does_not_know() -> None:
    assert VOCABULARY.decode(CaseClosed.TYPE, '{"episode": 1, "mood": "good"}') == CaseClosed(episode=1)


# ---------------------------------------------------------------------------------------------------------- round trip

FIRST, LAST = datetime.fromisoformat("1970-01-02"), datetime.fromisoformat("9998-12-30")
MOMENTS = st.datetimes(FIRST, LAST, timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11))]))
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)


@each(
    st.sampled_from([SAMPLES[event.TYPE].record for event in EVENTS]),
    st.uuids(),
    st.uuids(),
    st.none() | st.uuids(),
    st.integers(1, 2**63 - 1),
    MOMENTS,
    MOMENTS,
    WORDS.filter(bool),
    WORDS,
)
def test_a_record_comes_back_from_kafka_as_it_went(
    record: Record,
    event_id: UUID,
    correlation: UUID,
    causation: UUID | None,
    sequence: int,
    occurred_at: datetime,
    recorded_at: datetime,
    subject: str,
    actor: str,
) -> None:
    record = record._replace(
        id=str(event_id),
        correlation_id=str(correlation),
        causation_id=causation and str(causation),
        sequence=sequence,
        occurred_at=occurred_at,
        recorded_at=recorded_at,
        subject=subject,
        actor=actor,
        offset=7,
    )

    assert read(record) == record


@each(MOMENTS, MOMENTS)
def test_times_sort_as_text_as_they_do_as_time(one: datetime, other: datetime) -> None:
    assert (wire.rfc3339(one) < wire.rfc3339(other)) == (one < other)
    assert wire.moment(wire.rfc3339(one)) == one


def test_a_time_without_an_offset_is_no_moment() -> None:
    with pytest.raises(ValueError, match="offset"):
        wire.moment("2026-03-02T09:00:00")


# ---------------------------------------------------------------------------------------------------------- bad records

RECORD = SAMPLES[CaseOpened.TYPE].record
NAMES = [name for name, _ in headers(RECORD)]


def storable(text: str) -> bool:
    return "\x00" not in text and text.encode() is not None


def check(found: Record | Broken) -> None:
    """Whatever stands in Kafka: PostgreSQL can keep it."""
    if isinstance(found, Broken):
        assert found.error
        assert storable(found.subject)
        assert json.loads(found.raw).keys() == {"key", "headers", "value"}
        return
    texts = (found.subject, found.source, found.type, found.actor, found.traceparent, found.data)
    assert all(storable(text) for text in texts)
    assert 1 <= found.sequence < 2**63
    for name in (found.id, found.correlation_id, found.causation_id or found.id):
        assert str(UUID(name)) == name
    assert found.occurred_at.utcoffset() == found.recorded_at.utcoffset() == timedelta(0)


@each(
    st.none() | st.binary(max_size=40),
    st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=10), st.none() | st.binary(max_size=40))),
    st.none() | st.binary(max_size=100),
)
def test_no_bytes_in_kafka_break_the_reader(
    key: bytes | None, pairs: list[tuple[str, bytes | None]], value: bytes | None
) -> None:
    check(from_kafka("casewalk.cases", 0, 0, key, pairs, value))  # type: ignore[arg-type] # brokers do give None


@each(st.dictionaries(st.sampled_from(NAMES), st.none() | st.binary(max_size=40) | st.text(max_size=40), max_size=3))
def test_no_damage_to_a_good_record_breaks_the_reader(damage: dict[str, bytes | str | None]) -> None:
    changed = {
        name: value.encode() if isinstance(value, str) else value
        for name, value in damage.items()
        if storable_bytes(value)
    }
    check(read(RECORD, **changed))


def storable_bytes(value: bytes | str | None) -> bool:
    """Half a character has no bytes at all; everything else can stand in Kafka."""
    return not (isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
ATTRIBUTES = ("id", "source", "subject", "type", "time", "sequence", "correlationid", "causationid", "actor", "data")


@each(st.dictionaries(st.sampled_from(ATTRIBUTES), JSON) | JSON)
def test_no_structured_event_breaks_the_reader(damage: Any) -> None:
    good = {name.removeprefix("ce_"): value.decode() for name, value in headers(RECORD)} | {"data": {}}
    event = good | damage if isinstance(damage, dict) else damage
    pairs = [("content-type", b"application/cloudevents+json; charset=UTF-8")]

    check(from_kafka("casewalk.cases", 0, 0, b"key", pairs, json.dumps(event).encode()))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_sequence", b"0"),
        ("ce_sequence", b"-1"),
        ("ce_sequence", b"9223372036854775808"),
        ("ce_sequence", b"one"),
        ("ce_sequence", None),
        ("ce_source", b"urn:somebody:else"),
        ("ce_source", b"urn:casewalk:"),
        ("ce_source", b"urn:casewalk:int\x00ake"),
        ("ce_source", None),
        ("ce_id", b"4711"),
        ("ce_id", None),
        ("ce_subject", b"case\x001"),
        ("ce_subject", b"\xff"),
        ("ce_subject", None),
        ("ce_type", b"nul\x00"),
        ("ce_type", None),
        ("ce_time", b"yesterday"),
        ("ce_time", b"2026-03-02T09:00:00"),
        ("ce_time", b"0001-01-01T00:00:00+23:59"),
        ("ce_time", b"9999-12-31T23:59:59-23:59"),
        ("ce_time", None),
        ("ce_correlationid", b"not a uuid"),
        ("ce_causationid", b"not a uuid"),
        ("ce_actor", b"nul\x00"),
        ("value", b"nul\x00"),
        ("value", b"\xff\xfe"),
    ],
)
def test_an_envelope_that_cannot_be_kept_is_broken(name: str, value: bytes | None) -> None:
    found = read(RECORD, **{name: value})

    assert isinstance(found, Broken)
    assert (found.topic, found.partition, found.offset, found.subject) == (RECORD.topic, 0, 7, CASE_ID)
    check(found)


def test_a_header_without_a_value_is_broken_or_unneeded() -> None:
    pairs: list[Any] = [*headers(RECORD), ("note", None)]
    assert isinstance(from_kafka(RECORD.topic, 0, 7, RECORD.subject.encode(), pairs, b"{}"), Record)

    pairs = [(name, None if name == "ce_id" else value) for name, value in headers(RECORD)]
    assert isinstance(from_kafka(RECORD.topic, 0, 7, b"key", pairs, b"{}"), Broken)


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 100_000,
        b"[]",
        b"null",
        b"",
        b'{"data": {"title": "\\ud800"}}',
        b'{"data": {}, "subject": "nul \\u0000"}',
        b'{"data": {}, "subject": "half \\ud800"}',
        b'{"data_base64": "e30="}',
    ],
)
def test_a_structured_event_that_cannot_be_kept_is_broken(value: bytes) -> None:
    if value.startswith(b"{"):
        good = {name.removeprefix("ce_"): text.decode() for name, text in headers(RECORD)}
        value = (json.dumps(good)[:-1] + ", " + value.decode()[1:]).encode()

    found = from_kafka(RECORD.topic, 0, 7, b"key", [("Content-Type", b"application/CloudEvents+json")], value)

    assert isinstance(found, Broken)
    check(found)


def test_a_structured_attribute_that_is_null_is_absent() -> None:
    good = {name.removeprefix("ce_"): text.decode() for name, text in headers(RECORD)}
    value = json.dumps(good | {"causationid": None, "data": {}}).encode()

    key, structured = RECORD.subject.encode(), [("content-type", b"application/cloudevents+json")]
    found = from_kafka(RECORD.topic, 0, 7, key, structured, value)

    assert isinstance(found, Record)
    assert found.causation_id is None


def test_a_record_whose_key_is_not_its_subject_is_broken() -> None:
    """It may stand in another partition than the rest of its case: its order means nothing."""
    found = from_kafka(RECORD.topic, 0, 7, b"another", headers(RECORD), RECORD.data.encode())

    assert isinstance(found, Broken)
    assert "key is not the event's subject" in found.error


def test_an_event_from_a_service_that_may_not_say_it_is_undecodable() -> None:
    forged = read(RECORD, ce_source=b"urn:casewalk:metrics")

    assert isinstance(forged, Record)
    with pytest.raises(Undecodable, match="written by intake, not by metrics"):
        VOCABULARY.recorded(forged)


def test_an_event_on_another_topic_is_undecodable() -> None:
    with pytest.raises(Undecodable, match=r"belongs on casewalk\.operations"):
        VOCABULARY.recorded(written(an(KeyRevoked))._replace(topic="casewalk.cases"))


# ------------------------------------------------------------------------------------------- what is not written at all


@pytest.mark.parametrize("text", ["nul \x00", "half \ud800", "line\nbreak", "escape \x1b", ""])
def test_labels_and_refs_take_no_control_characters_and_no_half_characters(text: str) -> None:
    with pytest.raises(ValidationError):
        an(CaseReleased, reason=text)
    with pytest.raises(ValidationError):
        an(CaseReleased, agent_id=text)


def test_half_a_character_that_slipped_through_is_refused_as_the_callers_mistake() -> None:
    slipped = CaseClosed.model_construct(episode=1, reason="half \ud800")

    with pytest.raises(Invalid, match="cannot be written"):
        written(slipped)


def test_a_subject_that_has_no_bytes_is_refused_as_the_callers_mistake() -> None:
    with pytest.raises(Invalid):
        written(an(CaseClosed), subject="half \ud800", id=RECORD.id)


def test_an_event_over_256_kib_is_refused_with_its_size() -> None:
    rules = tuple(
        RoutingRule(rule=f"rule-{n}", when=When(markets=("m" * 128,)), queue_id="q" * 128) for n in range(2000)
    )

    with pytest.raises(TooLarge, match=r"casewalk\.routing_table\.published\.v1 has \d+ bytes") as refused:
        written(RoutingTablePublished(version=1, rules=rules))
    assert refused.value.status == 413


def test_the_limit_counts_bytes_and_not_characters() -> None:
    def body(characters: int) -> Record:
        text = Sealed(enc=1, person="p", version=1, nonce="", text="ü" * characters)
        return written(an(CaseOpened, title=text, body=text.model_copy(update={"text": ""})))

    largest = (wire.MAX_DATA_BYTES - len(body(0).data.encode())) // 2
    assert len(body(largest).data.encode()) in (wire.MAX_DATA_BYTES, wire.MAX_DATA_BYTES - 1)
    with pytest.raises(TooLarge):
        body(largest + 1)


def test_a_personal_text_that_was_not_sealed_is_not_written() -> None:
    open_text = recorded(an(CaseOpened))._replace(data=an(CaseOpened, title=Clear("customer:1", "Where is my parcel?")))

    with pytest.raises(Invalid, match="sealed") as refused:
        wire.record(open_text)
    assert "parcel" not in refused.value.message


def test_refs_and_labels_are_what_the_vocabulary_is_made_of() -> None:
    """Free text in an event is personal or a label; a bare `str` would take a NUL."""
    for event in EVENTS:
        for name, field in event.model_fields.items():
            assert field.annotation is not str or field.metadata, f"{event.__name__}.{name} takes any text"
    assert Ref is not Label
