"""Mass issues: proposed, accepted or not; an accepted one gathers cases, and what goes for it goes for each of them."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from events.case import CaseIssueLinked, CaseIssueMessage, CaseIssueResolved, ClockKind, ClockStarted
from events.errors import Refused, Unknown
from events.event import Event
from events.operations import (
    IssueAccepted,
    IssueCancelled,
    IssueGathered,
    IssueMessageSent,
    IssueProposed,
    IssueRejected,
    IssueResolved,
)
from events.testing import START, STEP, Decided, Given, folding, given
from services.escalation.decide.case import FOLD
from services.escalation.decide.issues import (
    ISSUE,
    MOST,
    Grown,
    Issue,
    Stage,
    accept,
    cancel,
    link,
    propose,
    reject,
    resolve,
    tell,
)
from services.escalation.views.issues import ISSUES
from tests.given import an

SUBJECT = "issue:snow"
PROPOSED, ACCEPTED = an(IssueProposed), an(IssueAccepted, owner="olga")
ONE, TWO = "case-one", "case-two"
GATHERED = IssueGathered(case_ids=(ONE, TWO))
RUNNING = an(ClockStarted, clock=ClockKind.RESOLUTION, episode=1)


def issue(*past: Event) -> Given[Issue]:
    return given(ISSUE, *past, subject=SUBJECT)


def case(case_id: str, *past: Event) -> Given[Any]:
    return given(FOLD, *(past or (RUNNING,)), subject=case_id)


def streams(decided: Decided[Any]) -> list[tuple[int, Event]]:
    """Which stream each event belongs to: 0 is the issue's, 1 the first case's …"""
    assert decided.error is None
    return [(item.stream, item.event) for item in decided.items]


# ----------------------------------------------------------------------------------------------- whether it is an issue


def test_an_issue_is_proposed_once_under_an_id() -> None:
    asked = partial(propose, PROPOSED.title, PROPOSED.reason)
    issue().when(asked).then(PROPOSED)
    issue(PROPOSED).when(asked).nothing()
    issue(PROPOSED).when(partial(propose, "Something else", "?")).rejects(Refused, "already")


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (partial(accept, "olga"), ACCEPTED),
        (partial(reject, "two causes"), IssueRejected(reason="two causes")),
        (partial(cancel, "thawed"), IssueCancelled(reason="thawed")),
    ],
)
def test_a_proposal_is_accepted_rejected_or_cancelled_once(decision: Any, said: Event) -> None:
    issue(PROPOSED).when(decision).then(said)
    issue(PROPOSED, said).when(decision).nothing()
    issue().when(decision).rejects(Unknown)


def test_what_was_rejected_or_cancelled_is_not_accepted_and_what_was_accepted_is_not_rejected() -> None:
    for ended in (an(IssueRejected), an(IssueCancelled)):
        issue(PROPOSED, ended).when(partial(accept, "olga")).rejects(Refused, "not proposed")
    issue(PROPOSED, ACCEPTED).when(partial(reject, "no")).rejects(Refused, "accepted")
    issue(PROPOSED, ACCEPTED).when(partial(cancel, "thawed")).then_types(IssueCancelled)
    issue(PROPOSED, ACCEPTED, an(IssueResolved)).when(partial(cancel, "thawed")).rejects(Refused, "resolved")


# ---------------------------------------------------------------------------------------------- what goes for its cases


def test_an_accepted_issue_gathers_cases_and_says_so_on_each() -> None:
    decided = issue(PROPOSED, ACCEPTED).when(link, case(ONE), case(TWO))
    assert streams(decided) == [
        (0, GATHERED),
        (1, CaseIssueLinked(issue_id="snow")),
        (2, CaseIssueLinked(issue_id="snow")),
    ]


def test_a_case_belongs_to_an_issue_once() -> None:
    past = issue(PROPOSED, ACCEPTED, IssueGathered(case_ids=(ONE,)))
    past.when(link, case(ONE)).nothing()
    assert streams(past.when(link, case(ONE), case(TWO))) == [
        (0, IssueGathered(case_ids=(TWO,))),
        (2, CaseIssueLinked(issue_id="snow")),
    ]


def test_only_an_accepted_issue_gathers_and_only_cases_that_there_are() -> None:
    issue(PROPOSED).when(link, case(ONE)).rejects(Refused, "proposed")
    issue().when(link, case(ONE)).rejects(Unknown)
    nobody = given(FOLD, subject=TWO)
    issue(PROPOSED, ACCEPTED).when(link, case(ONE), nobody).rejects(Unknown, TWO)
    full = IssueGathered(case_ids=tuple(f"case-{n}" for n in range(MOST)))
    issue(PROPOSED, ACCEPTED, full).when(link, case(ONE)).rejects(Refused, str(MOST))


def test_one_message_goes_to_every_case_under_ids_made_of_issue_message_and_case() -> None:
    past = issue(PROPOSED, ACCEPTED, GATHERED)
    decided = past.when(partial(tell, "Snow."), case(ONE), case(TWO))
    told = CaseIssueMessage(issue_id="snow", message_id="snow.1", body="Snow.")
    assert streams(decided) == [(0, IssueMessageSent(message_id="snow.1", body="Snow.")), (1, told), (2, told)]
    assert len({item.id for item in decided.items}) == 3
    assert decided.after.state.messages == ("snow.1",)


def test_one_resolution_goes_for_every_case_once() -> None:
    past = issue(PROPOSED, ACCEPTED, GATHERED)
    decided = past.when(partial(resolve, "delivered"), case(ONE), case(TWO))
    said = CaseIssueResolved(issue_id="snow", code="delivered")
    assert streams(decided) == [(0, IssueResolved(code="delivered")), (1, said), (2, said)]
    decided.after.when(partial(resolve, "delivered"), case(ONE), case(TWO)).nothing()
    decided.after.when(partial(resolve, "other"), case(ONE), case(TWO)).rejects(Refused, "resolved")
    decided.after.when(partial(tell, "Late."), case(ONE), case(TWO)).rejects(Refused, "resolved")


def test_no_case_is_left_out_that_was_linked_at_the_same_moment() -> None:
    past = issue(PROPOSED, ACCEPTED, GATHERED)
    for decision in (partial(tell, "Snow."), partial(resolve, "delivered")):
        past.when(decision, case(ONE)).rejects(Grown)


def test_an_issue_is_listed_as_it_stands() -> None:
    folding(ISSUES, PROPOSED, ACCEPTED, GATHERED, IssueResolved(code="delivered"), subject=SUBJECT).row_is(
        Issue(
            SUBJECT,
            "snow",
            PROPOSED.title,
            PROPOSED.reason,
            Stage.RESOLVED,
            "olga",
            "delivered",
            START,
            START + 3 * STEP,
            (ONE, TWO),
        )
    )
    rejected = folding(ISSUES, PROPOSED, an(IssueRejected), subject=SUBJECT).row()
    assert rejected is not None
    assert (rejected.stage, rejected.ended_at) == (Stage.REJECTED, START + timedelta(minutes=1))
