"""What is said about a case and moves it nowhere: how it is seen, and what was noticed."""

from datetime import datetime, timedelta
from functools import partial

import pytest
from pydantic import ValidationError

from events.case import (
    CaseClassified,
    CaseClosed,
    CaseFlagged,
    CaseObserved,
    CaseOpened,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    Category,
    MessageReceived,
    Priority,
)
from events.errors import Invalid, Refused, Unknown
from events.store import New
from events.testing import CASE_ID, START, given
from services.intake.decide import cases, labels
from services.intake.decide.cases import FOLD, Message
from services.intake.decide.labels import Classification
from tests.given import an

HOUR = timedelta(hours=1)
OPENED = an(CaseOpened, priority=Priority.NORMAL, tier=None, journey="delivery")
RAISED = an(CaseFlagged)
WHY = "the customer called again"


def classified(
    priority: Priority | None = None, tier: str | None = None, journey: str | None = None, at: datetime | None = None
) -> partial[list[New]]:
    return partial(labels.classify, Classification(priority, tier, journey), WHY, at)


def flagged(flag: str = "regulator", at: datetime | None = None) -> partial[list[New]]:
    return partial(labels.flag, an(CaseFlagged, flag=flag), at)


def test_a_case_is_classified_when_somebody_says_so() -> None:
    given(FOLD, OPENED).when(classified(Priority.URGENT, "gold", "return"), now=START + HOUR).then(
        New(CaseClassified(priority=Priority.URGENT, tier="gold", journey="return", reason=WHY), START + HOUR)
    )


def test_only_what_differs_is_said() -> None:
    given(FOLD, OPENED).when(classified(Priority.NORMAL, "gold", "delivery")).then(
        CaseClassified(tier="gold", reason=WHY)
    )


def test_the_same_values_again_say_nothing() -> None:
    urgent = CaseClassified(priority=Priority.URGENT, tier="gold", reason=WHY)

    given(FOLD, OPENED, urgent).when(classified(Priority.URGENT, "gold", "delivery")).nothing()


def test_an_event_that_says_nothing_is_none() -> None:
    with pytest.raises(ValidationError, match="priority, tier or journey"):
        CaseClassified(reason=WHY)


@pytest.mark.parametrize("order", [classified(Priority.LOW), flagged()], ids=["classify", "flag"])
def test_a_closed_case_takes_no_label(order: partial[list[New]]) -> None:
    error = given(FOLD, OPENED, an(CaseResolved), an(CaseClosed)).when(order).rejects(Refused, "closed")

    assert error.facts == {"case_id": CASE_ID}


@pytest.mark.parametrize("order", [classified(Priority.LOW), flagged()], ids=["classify", "flag"])
def test_a_case_nobody_knows_takes_no_label(order: partial[list[New]]) -> None:
    given(FOLD).when(order).rejects(Unknown, "no case")


def test_a_resolved_case_takes_labels_and_stays_resolved() -> None:
    resolved = given(FOLD, OPENED, an(CaseResolved))

    labelled = resolved.when(classified(Priority.LOW)).then_types(CaseClassified).after.when(flagged())

    assert labelled.then_types(CaseFlagged).after.state.ended


def test_a_case_is_not_classified_before_it_was_classified_last() -> None:
    urgent = (CaseClassified(priority=Priority.URGENT, reason=WHY), START + HOUR)
    case = given(FOLD, (OPENED, START), urgent)

    case.when(classified(Priority.LOW, at=START + HOUR - timedelta(seconds=1)), now=START + 2 * HOUR).rejects(
        Invalid, "cannot have happened before"
    )
    case.when(classified(Priority.LOW, at=START + HOUR), now=START + 2 * HOUR).then(
        New(CaseClassified(priority=Priority.LOW, reason=WHY), START + HOUR)
    )


def test_a_flag_is_raised_once_in_an_episode() -> None:
    given(FOLD, OPENED, RAISED).when(flagged()).nothing()
    given(FOLD, OPENED, RAISED).when(flagged("sentiment")).then(an(CaseFlagged, flag="sentiment"))
    given(FOLD, OPENED, RAISED, an(CaseResolved), an(CaseReopened)).when(flagged()).then(RAISED)


def test_a_flag_belongs_to_the_episode_that_runs() -> None:
    reopened = (an(CaseReopened), START + 2 * HOUR)
    case = given(FOLD, (OPENED, START), (an(CaseResolved), START + HOUR), reopened)

    case.when(flagged(at=START + HOUR), now=START + 3 * HOUR).rejects(Invalid, "episode 2 began")


def test_an_observed_case_keeps_its_labels_when_it_is_taken_over() -> None:
    observed = an(CaseObserved, ordinal=1, category=Category.IN_PROGRESS, priority=Priority.LOW, journey="incident")
    urgent = CaseClassified(priority=Priority.URGENT, tier="gold", reason=WHY)

    taken_over = given(FOLD, observed, urgent).when(partial(cases.receive, Message("m-9", "Any news?"), None))

    taken_over.then_types(CaseTakenOver, MessageReceived)
    event = taken_over.events[0]
    assert isinstance(event, CaseTakenOver)
    assert (event.priority, event.tier, event.journey) == (Priority.URGENT, "gold", "incident")


def test_the_same_contact_is_the_same_case_whatever_it_was_classified_as_since() -> None:
    urgent = CaseClassified(priority=Priority.URGENT, tier="gold", journey="return", reason=WHY)
    plain = an(CaseOpened, customer_name=None, customer_email=None)
    texts = {"title": plain.title.text, "body": plain.body.text}  # type: ignore[union-attr]

    given(FOLD, plain, urgent).when(partial(cases.open_again, plain), looked=texts).nothing()
