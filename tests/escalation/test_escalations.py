"""Escalations: who may ask, what a breach leads to, and how one ends."""

from functools import partial

import pytest

from events.case import (
    CaseEscalated,
    ClockBreached,
    ClockKind,
    ClockStarted,
    ClockStopped,
    EscalationAcknowledged,
    EscalationResolved,
    EscalationReturned,
)
from events.errors import Refused, Unknown
from events.testing import CASE_ID, START, STEP, folding, given, reacting
from services.escalation.decide.case import FOLD
from services.escalation.decide.escalations import (
    Escalation,
    Outcome,
    Status,
    acknowledge,
    escalate,
    hand_back,
    resolve,
)
from services.escalation.react.escalations import REACTOR
from services.escalation.service import STANDARD_LADDER
from services.escalation.views import ESCALATIONS
from tests.given import an

LADDER = ("standard@1", STANDARD_LADDER)
ID = f"{CASE_ID}.1"

RUNNING = an(ClockStarted, clock=ClockKind.RESOLUTION, episode=1)
STOPPED = an(ClockStopped, clock=ClockKind.RESOLUTION, episode=1)
RUNNING_AGAIN = an(ClockStarted, clock=ClockKind.RESOLUTION, episode=2)
BREACHED = an(ClockBreached, clock=ClockKind.RESOLUTION, episode=1)
ASKED = CaseEscalated(
    escalation_id=ID, episode=1, unit_id="escalation", ladder=None, trigger="asked", reason="stranded abroad"
)
OWNED = EscalationAcknowledged(escalation_id=ID, unit_id="escalation", owner="olga")
SOLVED = EscalationResolved(escalation_id=ID, unit_id="escalation", owner="olga", code="refunded")
RETURNED = EscalationReturned(escalation_id=ID, unit_id="escalation", reason="not for us")


# ----------------------------------------------------------------------------------------------------------- asking


def test_a_person_may_ask_for_the_ladders_unit() -> None:
    given(FOLD, RUNNING).when(partial(escalate, "stranded abroad"), looked=STANDARD_LADDER).then(ASKED)


def test_asking_again_while_it_is_open_changes_nothing() -> None:
    given(FOLD, RUNNING, ASKED).when(partial(escalate, "again"), looked=STANDARD_LADDER).nothing()
    given(FOLD, RUNNING, ASKED, OWNED).when(partial(escalate, "again"), looked=STANDARD_LADDER).nothing()


def test_a_case_without_clocks_is_not_known_here() -> None:
    given(FOLD).when(partial(escalate, "?"), looked=STANDARD_LADDER).rejects(Unknown, "no case")


def test_a_resolved_case_is_not_escalated() -> None:
    given(FOLD, RUNNING, STOPPED).when(partial(escalate, "?"), looked=STANDARD_LADDER).rejects(Refused, "reopen")


def test_an_episode_is_escalated_once() -> None:
    asked_again = given(FOLD, RUNNING, ASKED, RETURNED).when(partial(escalate, "?"), looked=STANDARD_LADDER)
    asked_again.rejects(Refused, "escalated before")


def test_the_next_episode_may_be_escalated_anew() -> None:
    past = given(FOLD, RUNNING, ASKED, STOPPED, RUNNING_AGAIN)
    (said,) = past.when(partial(escalate, "again"), looked=STANDARD_LADDER).events
    assert isinstance(said, CaseEscalated)
    assert (said.escalation_id, said.episode) == (f"{CASE_ID}.2", 2)


def test_without_a_ladder_nobody_would_take_the_case() -> None:
    given(FOLD, RUNNING).when(partial(escalate, "?"), looked=None).rejects(Refused, "no ladder")


# ----------------------------------------------------------------------------------------------------------- the ladder


def test_a_breach_of_a_kind_on_the_ladder_escalates_the_case() -> None:
    reacting(REACTOR, RUNNING, BREACHED).to(BREACHED, looked=LADDER).then(
        CaseEscalated(
            escalation_id=ID,
            episode=1,
            unit_id="escalation",
            ladder="standard@1",
            trigger="resolution",
            reason="the resolution promise was not kept",
        )
    )


def test_a_breach_of_a_kind_that_is_not_on_the_ladder_escalates_nothing() -> None:
    first = an(ClockBreached, clock=ClockKind.FIRST_RESPONSE)
    reacting(REACTOR, RUNNING, first).to(first, looked=LADDER).nothing()


def test_a_breach_escalates_nothing_when_the_case_is_escalated_already() -> None:
    reacting(REACTOR, RUNNING, ASKED, BREACHED).to(BREACHED, looked=LADDER).nothing()


def test_a_breach_escalates_nothing_when_this_episode_was_handed_back_before() -> None:
    reacting(REACTOR, RUNNING, ASKED, RETURNED, BREACHED).to(BREACHED, looked=LADDER).nothing()


def test_a_breach_escalates_nothing_when_the_case_was_resolved_meanwhile() -> None:
    reacting(REACTOR, RUNNING, BREACHED, STOPPED).to(BREACHED, looked=LADDER).nothing()


def test_a_breach_of_an_earlier_episode_escalates_nothing() -> None:
    reacting(REACTOR, RUNNING, BREACHED, STOPPED, RUNNING_AGAIN).to(BREACHED, looked=LADDER).nothing()


def test_without_a_ladder_a_breach_escalates_nothing() -> None:
    reacting(REACTOR, RUNNING, BREACHED).to(BREACHED, looked=None).nothing()


# ----------------------------------------------------------------------------------------- owning, resolving, returning


def test_acknowledging_makes_an_owner() -> None:
    given(FOLD, RUNNING, ASKED).when(partial(acknowledge, ID, "olga")).then(OWNED)


def test_acknowledging_twice_is_once() -> None:
    given(FOLD, RUNNING, ASKED, OWNED).when(partial(acknowledge, ID, "olga")).nothing()


def test_nobody_takes_an_escalation_from_its_owner() -> None:
    given(FOLD, RUNNING, ASKED, OWNED).when(partial(acknowledge, ID, "paul")).rejects(Refused, "olga")


def test_the_owner_resolves() -> None:
    given(FOLD, RUNNING, ASKED, OWNED).when(partial(resolve, ID, "refunded")).then(SOLVED)


def test_resolving_twice_is_once_also_after_the_case_itself_is_resolved() -> None:
    given(FOLD, RUNNING, ASKED, OWNED, SOLVED).when(partial(resolve, ID, "refunded")).nothing()
    given(FOLD, RUNNING, ASKED, OWNED, SOLVED, STOPPED).when(partial(resolve, ID, "refunded")).nothing()


def test_what_nobody_owns_nobody_resolves() -> None:
    given(FOLD, RUNNING, ASKED).when(partial(resolve, ID, "refunded")).rejects(Refused, "acknowledge")


def test_the_unit_hands_back_with_the_reason_whether_or_not_somebody_owns_it() -> None:
    given(FOLD, RUNNING, ASKED).when(partial(hand_back, ID, "not for us")).then(RETURNED)
    given(FOLD, RUNNING, ASKED, OWNED).when(partial(hand_back, ID, "not for us")).then(RETURNED)


def test_handing_back_twice_is_once() -> None:
    given(FOLD, RUNNING, ASKED, RETURNED).when(partial(hand_back, ID, "not for us")).nothing()


@pytest.mark.parametrize(
    ("ended", "why"),
    [((RETURNED,), "handed this escalation back"), ((OWNED, SOLVED), "resolved"), ((STOPPED,), "resolved meanwhile")],
)
def test_an_ended_escalation_says_how_it_ended(ended: tuple[object, ...], why: str) -> None:
    past = given(FOLD, RUNNING, ASKED, *ended)  # type: ignore[arg-type]
    past.when(partial(acknowledge, ID, "olga")).rejects(Refused, why)


def test_resolving_what_was_returned_and_returning_what_was_resolved_are_refused() -> None:
    given(FOLD, RUNNING, ASKED, RETURNED).when(partial(resolve, ID, "solved")).rejects(Refused, "handed")
    given(FOLD, RUNNING, ASKED, OWNED, SOLVED).when(partial(hand_back, ID, "?")).rejects(Refused, "resolved")


def test_there_is_no_escalation_under_another_id() -> None:
    for decision in (partial(acknowledge, f"{CASE_ID}.7", "olga"), partial(resolve, f"{CASE_ID}.7", "solved")):
        given(FOLD, RUNNING, ASKED).when(decision).rejects(Unknown, "no escalation")


def test_an_escalation_of_an_earlier_episode_is_still_known_as_ended() -> None:
    again = ASKED.model_copy(update={"escalation_id": f"{CASE_ID}.2", "episode": 2})
    past = given(FOLD, RUNNING, ASKED, STOPPED, RUNNING_AGAIN, again)
    past.when(partial(acknowledge, ID, "olga")).rejects(Refused, "resolved meanwhile")
    past.when(partial(acknowledge, f"{CASE_ID}.2", "olga")).then_types(EscalationAcknowledged)


# ------------------------------------------------------------------------------------------------------------- the view


def test_an_escalation_is_listed_as_it_stands() -> None:
    opened_at = START + STEP
    row = Escalation(CASE_ID, ID, 1, "escalation", Status.OPEN, "asked", "stranded abroad", None, opened_at)
    folding(ESCALATIONS, RUNNING, ASKED).row_is(row)
    listed = folding(ESCALATIONS, RUNNING, ASKED, OWNED, SOLVED).row()
    assert listed is not None
    assert (listed.status, listed.owner, listed.outcome) == (Status.ENDED, "olga", Outcome.RESOLVED)
    assert (listed.acknowledged_at, listed.ended_at) == (START + 2 * STEP, START + 3 * STEP)


def test_a_case_that_is_resolved_without_the_unit_ends_its_escalation() -> None:
    listed = folding(ESCALATIONS, RUNNING, ASKED, OWNED, STOPPED).row()
    assert listed is not None
    assert (listed.status, listed.outcome) == (Status.ENDED, Outcome.OVERTAKEN)


def test_a_first_response_ends_no_escalation() -> None:
    answered = an(ClockStopped, clock=ClockKind.FIRST_RESPONSE)
    listed = folding(ESCALATIONS, RUNNING, ASKED, answered).row()
    assert listed is not None
    assert listed.status is Status.OPEN


def test_a_case_that_was_never_escalated_is_not_listed() -> None:
    folding(ESCALATIONS, RUNNING, STOPPED).row_is(None)
