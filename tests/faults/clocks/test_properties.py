"""What holds of working time and of clocks whatever the calendars, promises and stories are, over many made by chance.

Each example is made of its number, which a failure names.
"""

from __future__ import annotations

from datetime import timedelta
from functools import reduce
from itertools import pairwise
from random import Random

import pytest

from events.case import CaseOpened, ClockBreached, ClockKind, MessageSent, Priority
from services.escalation.calendars import ZERO, counted, due, elapsed, segments
from services.escalation.clocks import Promise
from services.escalation.views.clocks import fold_clocks
from tests.escalation import chance
from tests.escalation.hearing import Hearing
from tests.given import an

pytestmark = [pytest.mark.sample, pytest.mark.timeout(7200)]

MICROSECOND = timedelta(microseconds=1)


@pytest.fixture(scope="module")
def examples(full: bool) -> range:
    return range(100_000 if full else 2_000)


def test_working_time_adds_up_however_an_interval_is_split(examples: range) -> None:
    for number in examples:
        dice = Random(number)
        hours, start = chance.timetable(dice.randrange(chance.TIMETABLES)), chance.moment(dice)
        cuts = sorted(start + chance.span(dice) for _ in range(4))
        pauses = chance.pauses(dice, start)
        whole = elapsed(hours, cuts[0], cuts[-1], pauses)
        assert sum((elapsed(hours, a, b, pauses) for a, b in pairwise(cuts)), ZERO) == whole, number
        assert ZERO <= whole <= cuts[-1] - cuts[0], number


def test_a_due_time_is_the_first_moment_at_which_the_target_is_used_up(examples: range) -> None:
    for number in examples:
        dice = Random(number)
        hours, start = chance.timetable(dice.randrange(chance.TIMETABLES)), chance.moment(dice)
        target, pauses = chance.span(dice, 3) + MICROSECOND, chance.pauses(dice, start)
        found = due(hours, start, target, pauses)
        assert found is not None, number
        assert elapsed(hours, start, found, pauses) == target, number
        assert elapsed(hours, start, found - MICROSECOND, pauses) < target, number


def test_more_time_is_never_due_earlier_and_a_later_end_never_counts_less(examples: range) -> None:
    for number in examples:
        dice = Random(number)
        hours, start = chance.timetable(dice.randrange(chance.TIMETABLES)), chance.moment(dice)
        pauses = chance.pauses(dice, start)
        less, more = sorted((chance.span(dice, 3), chance.span(dice, 3)))
        first, second = due(hours, start, less, pauses), due(hours, start, more, pauses)
        assert first is not None, number
        assert second is not None, number
        assert start <= first <= second, number
        early, late = sorted((start + chance.span(dice), start + chance.span(dice)))
        assert elapsed(hours, start, early, pauses) <= elapsed(hours, start, late, pauses), number


def test_segments_cover_every_moment_once_and_their_counted_ones_are_the_working_time(examples: range) -> None:
    for number in examples:
        dice = Random(number)
        hours, start = chance.timetable(dice.randrange(chance.TIMETABLES)), chance.moment(dice)
        end, pauses = start + chance.span(dice), chance.pauses(dice, start)
        found = segments(hours, start, end, pauses)
        edges = [start, *(segment.until for segment in found)] if found else [end]
        assert [segment.since for segment in found] == edges[:-1], number
        assert edges[-1] == end, number
        assert all(before.why is not after.why for before, after in pairwise(found)), number
        assert [(s.since, s.until) for s in found if s.counted] == list(counted(hours, start, end, pauses)), number


def test_whatever_is_heard_when_the_clocks_are_what_all_facts_together_make_them(examples: range) -> None:
    """Heard one by one in any order, with timers and other promises in between, or all at once: the same accounts and
    verdicts, and no obligation is called breached twice."""
    for number in examples:
        _one_story(Random(number), number)


def _one_story(dice: Random, number: int) -> None:
    before, instead = chance.promises(dice), chance.promises(dice, version=2)
    opened_at = chance.moment(dice)
    facts = [(dice.choice(chance.FACTS), opened_at + chance.span(dice, 14)) for _ in range(dice.randrange(10))]
    shuffled = list(enumerate([(an(CaseOpened, priority=Priority.HIGH, tier=None), opened_at), *facts], start=1))
    dice.shuffle(shuffled)
    bit_by_bit, at_once = _hearing(before), _hearing(before)
    pinned_after, episode = dice.randrange(2 * len(shuffled)), 1
    for heard, (sequence, (event, at)) in enumerate(shuffled):
        bit_by_bit.hear(event, at, sequence)
        if dice.random() < 0.3:
            bit_by_bit.fire(opened_at + chance.span(dice, 14))
        if heard == pinned_after and bit_by_bit.case.clocks:
            latest = bit_by_bit.case.latest(ClockKind.RESOLUTION)
            episode = latest.episode if latest is not None and dice.random() < 0.5 else 1
            bit_by_bit.pin(*instead, now=at, episode=episode)
    end = opened_at + timedelta(days=40)
    note = an(MessageSent, visibility="internal", waits_for=None)
    at_once.facts = bit_by_bit.facts
    at_once.hear(note, end, 1000)
    if bit_by_bit.promises != before:
        at_once.pin(*instead, now=end, episode=episode)
    at_once.fire(end)
    bit_by_bit.hear(note, end, 1000).fire(end)
    told, whole = bit_by_bit.accounts(), at_once.accounts()
    assert {key: told[key] for key in whole} == whole, number
    assert all(told[key].cancelled for key in told.keys() - whole.keys()), f"{number}: clocks that never were"
    row = reduce(fold_clocks, bit_by_bit.said, None)
    assert row is None or row.due_at is None or row.due_at > end, f"{number}: due for ever"
    for case in (bit_by_bit, at_once):
        breaches = [one.id for one in case.said if isinstance(one.data, ClockBreached)]
        assert len(breaches) == len(set(breaches)), number


def _hearing(promises: list[Promise]) -> Hearing:
    return Hearing(promises, timetables={f"{n}": chance.timetable(n) for n in range(chance.TIMETABLES)})
