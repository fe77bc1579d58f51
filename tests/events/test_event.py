"""What an event is, and how a row becomes the next one."""

import dataclasses

import pytest

from events.case import Case, CaseObserved, CaseResolved, Category
from events.event import replace
from events.testing import recorded
from tests.given import an


def test_a_replaced_row_is_the_one_the_standard_library_makes_and_the_old_one_stays() -> None:
    before = Case("case", market="de")

    after = replace(before, category=Category.RESOLVED, episode=2)

    assert after == dataclasses.replace(before, category=Category.RESOLVED, episode=2)
    assert hash(after) == hash(dataclasses.replace(after))
    assert before == Case("case", market="de")


def test_a_field_the_row_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="Case has no marked"):
        replace(Case("case"), marked="de")  # type: ignore[call-arg]


def test_a_replaced_row_is_as_frozen_as_the_first() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        replace(Case("case"), market="de").market = "fr"  # type: ignore[misc]


def test_facts_of_one_moment_are_ordered_by_their_own_ordinal_and_by_zero_where_they_have_none() -> None:
    assert recorded(an(CaseObserved, ordinal=3)).key[1] == 3
    assert recorded(an(CaseResolved)).key[1] == 0
