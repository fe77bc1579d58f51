"""The published shapes are those of the classes, and a change that readers would notice is found."""

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field

from events.case import CaseClosed, CaseOpened, Priority
from events.event import CASES, OPERATIONS, CaseEvent, Event, Label, Ref
from events.operations import KeyIssued, PartnerRegistered, RoutingTablePublished
from events.personal import personal_fields
from events.schemas import Schema, asyncapi, every_event, incompatible, older, schema
from events.schemas.__main__ import FOLDER, ROOT, baseline, broken, committed, main, stale
from events.testing import recorded
from events.wire import headers, record
from tests.given import an

ACROSS = pytest.mark.parametrize("event", every_event(), ids=lambda event: event.TYPE)


# -------------------------------------------------------------------------------------------------------- JSON Schemas


@ACROSS
def test_a_schema_says_what_an_event_is_who_says_it_and_where(event: type[Event]) -> None:
    made = schema(event)

    Draft202012Validator.check_schema(made)
    assert made["$id"] == f"/schemas/{event.TYPE}"
    assert (made["title"], made["x-type"]) == (event.__name__, event.TYPE)
    assert (made["x-topic"], made["x-writer"]) == (event.TOPIC, event.WRITER)
    assert made["description"], f"{event.__name__} needs a sentence"
    assert list(made["properties"]) == list(event.model_fields)


@ACROSS
def test_personal_fields_are_published_sealed_only(event: type[Event]) -> None:
    made = schema(event)

    assert made["x-personal"] == list(personal_fields(event))
    assert "Clear" not in json.dumps(made)
    assert '"not"' not in json.dumps(made)


def test_a_clear_text_does_not_fit_the_published_schema() -> None:
    value = json.loads(record(recorded(an(CaseOpened))).data)
    validator = Draft202012Validator(schema(CaseOpened))

    assert validator.is_valid(value)
    assert not validator.is_valid(value | {"title": "Where is my parcel?"})
    assert not validator.is_valid(value | {"title": {"person": "customer:1", "text": "Where is my parcel?"}})


def test_the_sentences_below_fields_are_published() -> None:
    assert (
        schema(CaseOpened)["properties"]["external_id"]["description"] == "The case's id in the channel's own system."
    )
    roles = schema(KeyIssued)["$defs"]["Role"]["x-enum-descriptions"]
    assert roles["admin"] == "Everything, including keys."
    assert schema(PartnerRegistered)["properties"]["contact"]["anyOf"][1] == {"type": "null"}


def test_what_older_records_may_lack_is_not_required() -> None:
    assert schema(CaseClosed)["required"] == ["episode"]


# ------------------------------------------------------------------------------------------------------ compatibility

OLD = schema(CaseOpened)
TABLE = schema(RoutingTablePublished)


def changed(schema_: Schema, change: Callable[[Schema], object]) -> Schema:
    new = copy.deepcopy(schema_)
    change(new)
    return new


def test_the_same_shape_is_compatible() -> None:
    for event in every_event():
        assert incompatible(schema(event), schema(event)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["properties"].update(mood={"type": "string", "default": "good"}),
        lambda s: s["$defs"]["Priority"]["enum"].append("whenever"),
        lambda s: s["properties"]["channel"].update(maxLength=256),
        lambda s: s["properties"]["channel"].pop("minLength"),
        lambda s: s["properties"]["channel"].update(description="Where it came in."),
        lambda s: s["properties"]["external_id"]["anyOf"][0].update(maxLength=256),
        lambda s: s.update(description="Other words."),
    ],
)
def test_what_only_adds_is_compatible(change: Callable[[Schema], object]) -> None:
    assert incompatible(OLD, changed(OLD, change)) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s["properties"].pop("external_id"), "external_id was removed"),
        (lambda s: s["required"].append("mood"), "mood is required now; older records do not have it"),
        (lambda s: s["required"].append("priority"), "priority is required now; older records do not have it"),
        (lambda s: s["required"].remove("channel"), "channel was in every record and may be missing now"),
        (lambda s: s["$defs"]["Priority"]["enum"].remove("low"), "priority no longer takes low"),
        (
            lambda s: s["properties"]["channel"].update(type="integer"),
            "channel changed its type from string to integer",
        ),
        (lambda s: s["properties"]["channel"].update(maxLength=64), "channel has a narrower maxLength: 128 became 64"),
        (lambda s: s["properties"]["channel"].update(minLength=2), "channel has a narrower minLength: 1 became 2"),
        (lambda s: s["properties"]["channel"].update(minimum=2), "channel has a narrower minimum: None became 2"),
        (lambda s: s["properties"]["channel"].update(pattern="^x"), "channel changed its pattern"),
        (lambda s: s["properties"]["priority"].update(default="low"), "priority changed its default from 'normal'"),
        (lambda s: s["properties"]["external_id"]["anyOf"].pop(), "external_id changed its type"),
        (
            lambda s: s["properties"]["external_id"]["anyOf"][0].update(maxLength=5),
            "external_id has a narrower maxLength",
        ),
        (lambda s: s["properties"].update(title={"type": "string"}), "title changed its type from object to string"),
        (lambda s: s["$defs"]["Sealed"]["properties"].pop("c"), "title.c was removed"),
        (lambda s: s.update({"x-writer": "router"}), "x-writer changed"),
        (lambda s: s.update({"x-topic": "elsewhere"}), "x-topic changed"),
    ],
)
def test_what_a_reader_would_trip_over_is_said(change: Callable[[Schema], object], sentence: str) -> None:
    said = incompatible(OLD, changed(OLD, change))

    assert any(one.startswith(sentence) for one in said), said


def test_parts_and_lists_are_compared_too() -> None:
    def narrow(s: Schema) -> None:
        s["$defs"]["RoutingRule"]["properties"]["rule"]["maxLength"] = 5
        s["$defs"]["When"]["properties"]["markets"]["items"]["type"] = "integer"
        s["properties"]["rules"]["maxItems"] = 10

    assert incompatible(TABLE, changed(TABLE, narrow)) == [
        "rules has a narrower maxItems: 2000 became 10",
        "rules[].rule has a narrower maxLength: 128 became 5",
        "rules[].when.markets[] changed its type from string to integer",
    ]


def test_a_class_that_grew_is_compatible_and_one_that_changed_is_not() -> None:
    class Closed(CaseEvent, type=CaseClosed.TYPE, writer="intake"):
        """The same with one more field."""

        episode: int = Field(ge=1)
        reason: Label = "closed"
        mood: Annotated[Priority, Field(description="How urgent it felt.")] | None = None

    class Renamed(CaseEvent, type=CaseClosed.TYPE, writer="intake"):
        """A field has another name."""

        episode: int = Field(ge=1)
        cause: Ref

    assert incompatible(schema(CaseClosed), schema(Closed)) == []
    assert incompatible(schema(CaseClosed), schema(Renamed)) == [
        "reason was removed",
        "cause is required now; older records do not have it",
    ]


# ------------------------------------------------------------------------------------------------------------ AsyncAPI


def test_asyncapi_names_every_message_on_its_channel() -> None:
    document = asyncapi("1.2.3")

    assert (document["asyncapi"], document["info"]["version"]) == ("3.0.0", "1.2.3")
    assert {channel["address"] for channel in document["channels"].values()} == {CASES, OPERATIONS}
    for channel in document["channels"].values():
        written = {e.TYPE for e in every_event() if channel["address"] == e.TOPIC}
        read = {wire_type for wire_type, made in older().items() if channel["address"] == made["x-topic"]}
        assert set(channel["messages"]) == written | read
        assert channel["bindings"]["kafka"]["partitions"] == 12


def test_asyncapi_names_the_one_writer_of_every_message() -> None:
    said: dict[str, str] = {}
    for name, operation in asyncapi("1")["operations"].items():
        for message in operation["messages"]:
            said[message["$ref"].rpartition("/")[2]] = name.partition("_")[0]

    assert said == {event.TYPE: event.WRITER for event in every_event()}


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi("1")

    def walk(node: Any) -> None:
        match node:
            case {"$ref": str(path)}:
                target: Any = document
                for step in path.removeprefix("#/").split("/"):
                    target = target[step]
            case dict():
                for value in node.values():
                    walk(value)
            case list():
                for value in node:
                    walk(value)

    walk(document)


def test_asyncapi_describes_exactly_the_headers_we_write() -> None:
    trait = asyncapi("1")["components"]["messageTraits"]["record"]["headers"]
    written = {name for name, _ in headers(record(recorded(an(CaseOpened))))}

    assert set(trait["required"]) == written
    assert set(trait["properties"]) == written | {"ce_causationid"}


def test_asyncapi_tells_other_readers_how_to_drop_repeats() -> None:
    assert "`ce_source` + `ce_id`" in asyncapi("1")["info"]["description"]


# ----------------------------------------------------------------------------------------------------------- the files


def test_the_committed_files_are_what_the_classes_say() -> None:
    assert stale(ROOT) == []


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one committed schema."""
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    (folder / "casewalk.case.opened.v1.json").write_text(json.dumps(OLD))
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "First"]):
        git(tmp_path, *command)
    return tmp_path


def git(repository: Path, *command: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", str(repository), *author, *command], check=True)


def test_a_committed_shape_that_changed_is_found(repository: Path) -> None:
    path = repository / FOLDER / "casewalk.case.opened.v1.json"
    assert broken(repository, committed(repository, "HEAD")) == []

    path.write_text(json.dumps(changed(OLD, lambda s: s["properties"].pop("external_id"))))
    assert broken(repository, committed(repository, "HEAD")) == ["casewalk.case.opened.v1: external_id was removed"]

    path.unlink()
    (sentence,) = broken(repository, committed(repository, "HEAD"))
    assert "never removed" in sentence


def test_before_a_release_a_shape_is_compared_with_the_commit_that_brought_it(repository: Path) -> None:
    """So that a break is found however many commits ago it was made."""
    path = repository / FOLDER / "casewalk.case.opened.v1.json"
    path.write_text(json.dumps(changed(OLD, lambda s: s["properties"].pop("external_id"))))
    for message in ("Break it", "Go on"):
        git(repository, "commit", "--quiet", "--all", "--allow-empty", "--message", message)
    against = baseline(repository)
    assert against is not None
    assert broken(repository, against) == ["casewalk.case.opened.v1: external_id was removed"]

    git(repository, "tag", "v1.0.0")
    assert baseline(repository) == committed(repository, "v1.0.0")
    assert broken(repository, committed(repository, "v1.0.0")) == []


def test_a_repository_without_its_history_says_that_nothing_was_compared(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    shallow = tmp_path_factory.mktemp("clone")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "Go on")
    subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{repository}", str(shallow)], check=True)
    assert baseline(shallow) is None
    main(["--check"], shallow)
    assert "shapes are compared with nothing" in capsys.readouterr().err


def test_the_command_writes_what_it_checks(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], repository) == 1
    assert "docs/events.md is not what the classes say" in capsys.readouterr().err

    assert main(["--write"], repository) == 0
    assert main(["--check"], repository) == 0
    assert len(list((repository / FOLDER).glob("*.json"))) == len(every_event())


def test_a_file_that_belongs_to_no_event_is_found(repository: Path) -> None:
    main(["--write"], repository)
    (repository / FOLDER / "casewalk.case.painted.v1.json").write_text("{}")

    assert stale(repository) == ["casewalk.case.painted.v1.json belongs to no event"]
