"""Escalations: who may own one, how one ends, and how it is listed."""

from datetime import timedelta
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
    EscalationUnanswered,
)
from events.errors import Refused, Unknown
from events.testing import CASE_ID, START, STEP, folding, given
from services.escalation.decide.case import FOLD
from services.escalation.decide.escalations import (
    Escalation,
    Outcome,
    Status,
    acknowledge,
    hand_back,
    resolve,
)
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
OWNED = EscalationAcknowledged(escalation_id=ID, unit_id="escalation", owner="olga", address=f"case-{CASE_ID}")
SOLVED = EscalationResolved(escalation_id=ID, unit_id="escalation", owner="olga", code="refunded")
RETURNED = EscalationReturned(escalation_id=ID, unit_id="escalation", reason="not for us")


# ----------------------------------------------------------------------------------------- owning, resolving, returning


def test_acknowledging_makes_an_owner() -> None:
    given(FOLD, RUNNING, ASKED).when(partial(acknowledge, ID, "olga")).then(OWNED)


def test_acknowledging_twice_is_once() -> None:
    given(FOLD, RUNNING, ASKED, OWNED).when(partial(acknowledge, ID, "olga")).nothing()


def test_nobody_takes_an_escalation_from_its_owner() -> None:
    given(FOLD, RUNNING, ASKED, OWNED).when(partial(acknowledge, ID, "paul")).rejects(Refused, "olga")


ON_DUTY = ASKED.model_copy(update={"on_duty": ("paul",)})


def test_where_the_rota_decides_only_whom_it_names_may_own_it() -> None:
    past = given(FOLD, RUNNING, ON_DUTY)
    past.when(partial(acknowledge, ID, "olga"), looked={}).rejects(Refused, "paul")
    past.when(partial(acknowledge, ID, "paul"), looked={}).then_types(EscalationAcknowledged)
    past.when(partial(acknowledge, ID, "olga"), looked={"escalation": ("olga",)}).then(OWNED)


def test_an_escalation_that_was_passed_on_says_where_it_is_now() -> None:
    above = ASKED.model_copy(update={"escalation_id": f"{ID}.2", "unit_id": "swat", "rung": "swat"})
    past = given(FOLD, RUNNING, ASKED, above)
    past.when(partial(acknowledge, ID, "olga")).rejects(Refused, f"swat as {ID}.2")
    past.when(partial(acknowledge, f"{ID}.2", "olga")).then_types(EscalationAcknowledged)


def test_every_return_of_a_case_is_counted() -> None:
    above = ASKED.model_copy(update={"escalation_id": f"{ID}.2", "rung": "swat"})
    (second,) = given(FOLD, RUNNING, ASKED, RETURNED, above).when(partial(hand_back, f"{ID}.2", "nor for us")).events
    assert isinstance(second, EscalationReturned)
    assert second.times == 2
    row = folding(ESCALATIONS, RUNNING, ASKED, RETURNED, above, second).row()
    assert row is not None
    assert row.returns == 2


def test_an_escalation_of_a_resolved_case_outlives_its_episodes_answer_and_ends_with_the_next() -> None:
    aftercare = ASKED.model_copy(update={"resolved": True})
    late = folding(ESCALATIONS, RUNNING, STOPPED, aftercare, STOPPED).row()
    assert late is not None
    assert late.status is Status.OPEN
    again = folding(
        ESCALATIONS, RUNNING, STOPPED, aftercare, RUNNING_AGAIN, an(ClockStopped, episode=2, clock=ClockKind.RESOLUTION)
    ).row()
    assert again is not None
    assert again.outcome is Outcome.OVERTAKEN


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
    assert listed.address == f"case-{CASE_ID}"


def test_a_row_is_due_until_it_is_known_whether_anybody_acknowledged() -> None:
    by = START + timedelta(hours=1)
    timed = ASKED.model_copy(update={"acknowledge_by": by, "rung": "second-line"})
    silent = EscalationUnanswered(escalation_id=ID, unit_id="escalation", rung="second-line", acknowledge_by=by)
    dues = [folding(ESCALATIONS, RUNNING, timed, *after).row() for after in ((), (silent,), (OWNED,), (RETURNED,))]
    assert [(row.due_at, row.acknowledge_by, row.unanswered) for row in dues if row] == [
        (by, by, False),
        (None, by, True),
        (None, by, False),
        (None, by, False),
    ]


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
