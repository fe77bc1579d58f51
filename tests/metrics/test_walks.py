"""A walk tells everything that happened to a case, and cannot disagree with the figures."""

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.case import (
    CASE_EVENTS,
    CaseAssigned,
    CaseClassified,
    CaseEscalated,
    CaseFlagged,
    CaseLinked,
    CaseObserved,
    CaseOffered,
    CaseOpened,
    CaseQueued,
    CaseReleased,
    CaseReopened,
    CaseReranked,
    CaseResolved,
    ClockBreached,
    ClockEvent,
    ClockKind,
    ClockStarted,
    ClockStopped,
    FeedbackReceived,
    MessageReceived,
    MessageSent,
)
from events.event import CaseEvent
from events.personal import Sealed
from events.testing import START, Happened, folding, history
from services.metrics.facts import Verdict
from services.metrics.kinds import Kind
from services.metrics.views import CASE_FACTS
from services.metrics.walks import Walk, walk, what_happened
from tests.given import an

CLOCK = {"clock": ClockKind.RESOLUTION}

STORY: tuple[CaseEvent, ...] = (
    an(CaseOpened),
    an(ClockStarted, **CLOCK),
    an(CaseQueued),
    an(CaseOffered),
    an(CaseAssigned),
    an(MessageSent),
    an(CaseResolved),
    an(ClockStopped, **CLOCK, kept=True),
    an(CaseReleased),
    an(FeedbackReceived, accepted=True),
)


def walked(*happened: Happened) -> Walk:
    done = walk(history(*happened))
    assert done is not None
    return done


def test_nothing_is_no_walk() -> None:
    assert walk([]) is None


def test_a_walk_has_a_line_for_everything_in_the_order_it_happened() -> None:
    done = walked(*STORY)

    assert [line.kind for line in done.lines] == [
        Kind.STEP,
        Kind.CLOCK,
        Kind.STEP,
        Kind.OFFER,
        Kind.STEP,
        Kind.STEP,
        Kind.STEP,
        Kind.CLOCK,
        Kind.OFFER,
        Kind.SURVEY,
    ]
    assert [line.at for line in done.lines] == [START + timedelta(minutes=n) for n in range(10)]


def test_the_time_spent_on_the_steps_adds_up_to_the_walk() -> None:
    done = walked(*STORY)

    assert [line.spent_s for line in done.lines if line.kind is Kind.STEP] == [None, 120.0, 120.0, 60.0, 60.0]
    assert {line.spent_s for line in done.lines if line.kind is not Kind.STEP} == {None}
    assert sum(line.spent_s or 0 for line in done.lines) * 1_000_000 == done.facts.duration_us


def test_a_step_says_who_where_and_why() -> None:
    queued = walked(*STORY).lines[2]

    assert queued.what == "waits in queue general of unit general"
    assert (queued.who, queued.where) == ("service:test", "queue:general")
    assert queued.why == "routed (rule default of main@1)"
    assert queued.type == "casewalk.case.queued.v1"
    assert queued.details["priority"] == "high"


def test_an_observed_step_names_the_agent_the_other_system_named() -> None:
    observed = an(CaseObserved, agent="a1", unit="V5 3rd")

    (line,) = walked(observed).lines
    assert (line.who, line.where, line.why) == ("agent:a1", "unit:V5 3rd", "Accepted/Wait - User")


@pytest.mark.parametrize("kind", CASE_EVENTS, ids=lambda kind: kind.__name__)
def test_every_event_has_a_line_without_personal_text(kind: type[CaseEvent]) -> None:
    clock = (an(ClockStarted),) if issubclass(kind, ClockEvent) and kind is not ClockStarted else ()
    own = {name: getattr(an(ClockStarted), name) for name in ("clock", "episode", "turn")} if clock else {}
    events = history(*clock, an(kind, **own))
    done = walk(events)
    assert done is not None
    line = done.lines[-1]
    event = events[-1]

    assert line.what
    sealed = [value for value in dict(event.data).values() if isinstance(value, Sealed)]
    assert not [value for value in sealed if value.text in repr(line)]


def test_a_clock_nothing_is_promised_about_is_not_told_in_a_walk() -> None:
    silent = {"clock": ClockKind.HANDLING, "promise": None}
    done = walked(an(CaseOpened), an(ClockStarted, **silent), an(ClockStopped, **silent, due_at=None, kept=None))
    assert [line.type for line in done.lines] == [CaseOpened.TYPE]


def test_how_a_case_was_seen_and_what_was_noticed_stand_beside_its_walk() -> None:
    done = walked(an(CaseOpened), an(CaseClassified), an(CaseReranked), an(CaseFlagged))

    assert [(line.kind, line.what, line.why) for line in done.lines[1:]] == [
        (Kind.LABEL, "seen otherwise: priority urgent, tier gold, journey return", "the customer called again"),
        (Kind.OFFER, "ranked anew: priority urgent, journey return", None),
        (Kind.LABEL, "flagged: regulator", "the customer names the ombudsman"),
    ]


def test_two_cases_that_are_one_say_so_in_both_walks() -> None:
    told = walked(an(CaseOpened), an(CaseLinked), an(CaseLinked, relation="has_duplicate", case_id="twin"))

    assert [(line.kind, line.what, line.why) for line in told.lines[1:]] == [
        (Kind.LABEL, "a duplicate of case 0195571e-8a00-7000-8000-000000000002", "the customer wrote twice"),
        (Kind.LABEL, "case twin is a duplicate of it", "the customer wrote twice"),
    ]


def test_a_message_to_the_cases_own_address_is_told_so() -> None:
    said = [what_happened(an(MessageReceived)), what_happened(an(MessageReceived, to=None))]

    assert said == ["the customer wrote by email to the case's own address", "the customer wrote by email"]


def test_the_verdict_of_a_good_walk_comes_with_its_evidence() -> None:
    done = walked(*STORY)
    ids = [line.id for line in done.lines]

    assert done.verdict == {
        "in_time": Verdict.YES,
        "accepted": Verdict.YES,
        "solved_alone": Verdict.YES,
        "escalated": Verdict.NO,
    }
    assert done.evidence["in_time"] == (ids[1], ids[7])
    assert done.evidence["accepted"] == (ids[9],)
    assert done.evidence["solved_alone"] == (ids[2], ids[4], ids[6])
    assert done.evidence["escalated"] == ()


def test_an_escalation_is_its_own_evidence() -> None:
    done = walked(an(CaseOpened), an(CaseEscalated))

    assert done.verdict["escalated"] is Verdict.YES
    assert done.evidence["escalated"] == (done.lines[1].id,)


def test_evidence_about_an_earlier_episode_is_void() -> None:
    again = {"episode": 2, **CLOCK}
    done = walked(*STORY, an(CaseReopened), an(ClockStarted, **again), an(ClockBreached, **again))

    assert done.verdict["in_time"] is Verdict.NO
    assert done.evidence["in_time"] == (done.lines[-2].id, done.lines[-1].id)
    assert (done.verdict["accepted"], done.evidence["accepted"]) == (Verdict.UNKNOWN, ())


@given(st.lists(st.tuples(st.sampled_from(CASE_EVENTS), st.integers(0, 5)), min_size=1, max_size=12), st.randoms())
def test_walk_and_figures_cannot_disagree(story: list[tuple[Any, int]], chance: random.Random) -> None:
    events = history(*((an(kind), START + timedelta(minutes=minute)) for kind, minute in story))
    facts = folding(CASE_FACTS, *events).row()
    chance.shuffle(events)

    done = walk(events)

    assert done is not None
    assert done.facts == facts
    assert sum(line.kind is Kind.STEP for line in done.lines) == done.facts.steps
