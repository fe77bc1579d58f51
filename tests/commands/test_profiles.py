"""Profiles read what another system logged, and refuse what they cannot read."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from events.event import Ref
from services.commands.profiles import Profile, ProfileError, Row, Value, load_profile

VINST = ("case_id", "event_seq", "timestamp", "status", "sub_status", "support_team", "support_line")
VINST += ("owner_first_name", "org_country", "product", "impact")

SMALL = """
name: small
case: ticket
occurred_at: at
code: what
categories: {opened: new, "done*": resolved, "*": in_progress}
resolutions: ["done*"]
"""


def file(header: tuple[str, ...], *rows: tuple[str, ...]) -> io.StringIO:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    text.seek(0)
    return text


def vinst(**columns: str) -> Row:
    """One row of the Volvo log, as the profile reads it."""
    usual = dict(
        zip(
            VINST,
            (
                "1-364",
                "2",
                "2010-03-31T16:59:42+02:00",
                "Accepted",
                "In Progress",
                "V30",
                "1",
                "Ann",
                "fr",
                "P1",
                "Low",
            ),
            strict=True,
        )
    )
    (row,) = load_profile("vinst").rows(file(VINST, tuple((usual | columns).values())))
    return row


@pytest.fixture
def small(tmp_path: Path) -> Profile:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return load_profile(str(path))


def test_a_row_of_the_volvo_log_becomes_one_observed_fact() -> None:
    assert vinst() == {
        "case": "1-364",
        "ordinal": 2,
        "occurred_at": "2010-03-31T14:59:42Z",
        "category": "in_progress",
        "code": "Accepted/In Progress",
        "resolution": False,
        "unit": "V30",
        "line": "1",
        "agent": "Ann",
        "market": "fr",
        "journey": "P1",
        "priority": "low",
    }


@pytest.mark.parametrize(
    ("status", "category", "resolution"),
    [
        (("Queued", "Awaiting Assignment"), "new", False),
        (("Accepted", "Assigned"), "in_progress", False),
        (("Accepted", "Wait - User"), "waiting_customer", False),
        (("Accepted", "Wait - Vendor"), "waiting_partner", False),
        (("Accepted", "Wait - Implementation"), "waiting_internal", False),
        (("Completed", "Resolved"), "resolved", True),
        (("Completed", "Closed"), "closed", True),
        (("Completed", "In Call"), "closed", False),
    ],
)
def test_volvos_statuses_say_where_the_case_stands(status: tuple[str, str], category: str, resolution: bool) -> None:
    row = vinst(status=status[0], sub_status=status[1])
    assert (row["category"], row["resolution"]) == (category, resolution)


def test_the_traps_of_the_volvo_log_are_known() -> None:
    assert "agent" not in vinst(owner_first_name="Siebel"), "the system is no agent"
    assert vinst(org_country="SE")["market"] == vinst(org_country="se")["market"] == "se"
    assert "market" not in vinst(org_country="0")
    assert "journey" not in vinst(product="- -"), "nothing that can be read says nothing"


def test_local_times_of_the_help_desk_get_the_offset_of_their_zone_and_season() -> None:
    header = ("case_id", "event_seq", "timestamp", "activity", "workgroup", "resource", "product")
    rows = (
        ("Case1", "1", "2010-01-13T08:40:25", "Take in charge ticket", "Value 1", "Value 2", "Value 3"),
        ("Case1", "2", "2010-07-13T08:40:25", "Resolve ticket", "Value 1", "Value 2", "Value 3"),
        ("Case1", "3", "2010-08-13T08:40:25", "Closed", "Value 1", "Value 2", "Value 3"),
    )
    taken, resolved, closed = load_profile("helpdesk-it").rows(file(header, *rows))
    assert (taken["occurred_at"], resolved["occurred_at"]) == ("2010-01-13T07:40:25Z", "2010-07-13T06:40:25Z")
    assert (resolved["category"], resolved["resolution"]) == ("resolved", True)
    assert (closed["category"], closed["resolution"]) == ("closed", False), "it closes by itself a month later"
    assert (taken["unit"], taken["journey"]) == ("Value 1", "Value-3")


def test_rows_without_an_ordinal_are_counted_within_their_case(small: Profile) -> None:
    moment = "2024-05-01T10:00:00Z"
    lines = file(("ticket", "at", "what"), ("A", moment, "opened"), ("B", moment, "opened"), ("A", moment, "done well"))
    assert [(row["case"], row["ordinal"]) for row in small.rows(lines)] == [("A", 1), ("B", 1), ("A", 2)]


def test_the_first_pattern_that_fits_decides(small: Profile) -> None:
    moment = "2024-05-01T10:00:00Z"
    lines = file(("ticket", "at", "what"), ("A", moment, "opened"), ("A", moment, "done+"), ("A", moment, "undone"))
    assert [row["category"] for row in small.rows(lines)] == ["new", "resolved", "in_progress"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("A", "yesterday", "opened"), "line 2: 'yesterday' is no time"),
        (("A", "2024-05-01T10:00:00", "opened"), "line 2: 2024-05-01T10:00:00 has no offset"),
        ((" ", "2024-05-01T10:00:00Z", "opened"), "line 2: the row names no case"),
        (("A", "2024-05-01T10:00:00Z"), "line 2: the row has not as many columns"),
        (("A", "2024-05-01T10:00:00Z", "opened", "more"), "line 2: the row has not as many columns"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_by_its_line(small: Profile, row: tuple[str, ...], said: str) -> None:
    with pytest.raises(ProfileError, match=said):
        list(small.rows(file(("ticket", "at", "what"), row)))


def test_a_check_counts_the_rows_and_names_each_problem_once() -> None:
    rows = [("1", "1", "2010-03-31T16:59:42+02:00", status, "?", "V", "1", "A", "fr", "P", "Low") for status in "XYX"]
    count, problems = load_profile("vinst").check(file(VINST, *rows))
    assert count == 3
    assert problems == ["line 2: no category covers the code 'X/?'", "line 3: no category covers the code 'Y/?'"]


def test_a_column_that_is_not_there_is_said_before_anything_is_read(small: Profile) -> None:
    with pytest.raises(ProfileError, match="has no column what; it has at, ticket"):
        small.check(file(("ticket", "at"), ("A", "2024-05-01T10:00:00Z")))


def test_a_value_the_map_does_not_know_is_refused_rather_than_dropped() -> None:
    with pytest.raises(ProfileError, match="does not know 'Huge'"):
        vinst(impact="Huge")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "is no YAML"),
        ("name: x", "case: Field required"),
        (SMALL + "colour: blue", "colour: Extra inputs"),
        (SMALL.replace("at: at", "at: {column: at, zone: Mars/Olympus}"), "there is no time zone 'Mars/Olympus'"),
        (SMALL.replace("resolved", "finished"), "categories.done"),
        (SMALL + "unit: {column: a, text: b}", "either a column or a text"),
    ],
)
def test_a_profile_that_cannot_be_meant_is_refused_with_the_reason(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=said):
        load_profile(str(path))


def test_an_unknown_profile_is_answered_with_the_shipped_ones() -> None:
    with pytest.raises(ProfileError, match="shipped are helpdesk-it, vinst"):
        load_profile("visnt")


def test_yaml_words_stay_words(tmp_path: Path) -> None:
    path = tmp_path / "norway.yaml"
    path.write_text(SMALL + "market: {column: ticket, map: {A: no}}")
    (row,) = load_profile(str(path)).rows(file(("ticket", "at", "what"), ("A", "2024-05-01T10:00:00Z", "opened")))
    assert row["market"] == "no"


@given(st.integers(631_152_000, 2_051_222_400), st.sampled_from(["Europe/Rome", "America/Sao_Paulo", "UTC"]))
@example(780_451_200, "Europe/Rome")  # the first of two
def test_a_moment_survives_its_way_through_the_local_clock(unix_s: int, zone: str) -> None:
    local = datetime.fromtimestamp(unix_s, ZoneInfo(zone))
    profile = Profile.model_validate(
        {
            "name": "x",
            "case": "c",
            "code": "c",
            "categories": {"*": "new"},
            "occurred_at": {"column": "at", "zone": zone},
        }
    )
    (row,) = profile.rows(file(("c", "at"), ("1", local.replace(tzinfo=None).isoformat())))
    read = datetime.fromisoformat(str(row["occurred_at"]))
    assert read.timestamp() == unix_s or local.fold == 1, "only the second of two equal readings is ambiguous"


@given(st.text())
def test_whatever_a_column_says_an_id_is_made_of_it_or_nothing(text: str) -> None:
    profile = Profile.model_validate(
        {"name": "x", "case": "c", "code": "c", "categories": {"*": "new"}, "occurred_at": "at", "market": "m"}
    )
    (row,) = profile.rows(file(("c", "at", "m"), ("1", "2024-05-01T10:00:00Z", text)))
    TypeAdapter(Ref | None).validate_python(row.get("market"))


def test_a_value_reads_a_text_of_several_columns() -> None:
    value = Value(text="{a}/{b}", lower=True)
    assert value.columns == {"a", "b"}
    assert value.of({"a": "X", "b": " y  z"}) == "x/ y z"
