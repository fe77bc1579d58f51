"""Intake's tables, folded from whatever order the log brings."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from events.case import (
    Case,
    CaseAssigned,
    CaseClassified,
    CaseClosed,
    CaseEscalated,
    CaseHandedOver,
    CaseObserved,
    CaseOpened,
    CaseQueued,
    CaseReleased,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    CaseTransferred,
    Category,
    EscalationAcknowledged,
    EscalationResolved,
    EscalationReturned,
    FeedbackReceived,
    MessageReceived,
    MessageSent,
    PartnerReturned,
)
from events.event import CaseEvent, Event, Recorded
from events.operations import KeyIssued, KeyRevoked, Role
from events.testing import CASE_ID, START, folding, history
from services.intake import views
from services.intake.views import ACCESS, CASES_VIEW, ISSUED_KEYS, Access, IssuedKey
from tests.given import CUSTOMER, an

MINUTE = timedelta(minutes=1)


def test_a_case_stands_where_all_services_together_say() -> None:
    folding(CASES_VIEW, an(CaseOpened), an(CaseQueued), an(CaseAssigned), an(MessageSent)).row_is(
        Case(
            CASE_ID,
            category=Category.WAITING_CUSTOMER,
            live=True,
            first_at=START,
            last_at=START + 3 * MINUTE,
            opened_at=START,
            channel="email",
            market="de",
            language="de",
            journey="delivery",
            priority=an(CaseOpened).priority,
            tier="gold",
            customer_ref=CUSTOMER,
            external_id="MAIL-4711",
            queue_id="general",
            unit_id="general",
            agent_id="anna",
        )
    )


def test_a_case_is_seen_as_it_was_classified_last() -> None:
    urgent = an(CaseClassified, priority="urgent", tier=None, journey=None)
    row = folding(CASES_VIEW, an(CaseOpened), an(CaseClassified, priority=None, tier="silver"), urgent).row()

    assert row is not None
    assert (row.priority, row.tier, row.journey) == ("urgent", "silver", "return")


def test_an_observed_case_stands_where_the_other_system_left_it_and_knows_its_import() -> None:
    row = folding(CASES_VIEW, an(CaseObserved, ordinal=1), an(CaseObserved, ordinal=2, category="resolved")).row()

    assert row is not None
    assert (row.category, row.import_id, row.unit_id) == (Category.RESOLVED, "import-1", "G97")


@pytest.mark.parametrize("observed_at", [START - MINUTE, START + MINUTE / 2, START + 90 * MINUTE], ids=str)
@pytest.mark.parametrize("category", [Category.CLOSED, Category.RESOLVED, Category.WAITING_INTERNAL])
def test_a_row_observed_late_does_not_change_where_a_live_case_stands(
    observed_at: datetime, category: Category
) -> None:
    ours = [an(CaseObserved, ordinal=1, category="new"), an(CaseTakenOver), an(MessageSent), an(CaseQueued)]
    late = an(CaseObserved, ordinal=2, category=category, import_id="import-2", unit="another")

    before = folding(CASES_VIEW, *ours).row()
    after = folding(CASES_VIEW, *ours, (late, observed_at)).row()

    assert before is not None
    assert after is not None
    assert before.category is Category.WAITING_CUSTOMER
    assert standing(after) == standing(before)


def standing(case: Case) -> tuple[object, ...]:
    """Where the case stands and with whom."""
    return case.live, case.category, case.episode, case.resolved_at, case.closed_at, case.queue_id, case.unit_id


@pytest.mark.parametrize(
    ("happened", "expected"),
    [
        ([an(CaseAssigned)], Access(CASE_ID, agent_id="anna")),
        ([an(CaseAssigned), an(CaseReleased)], Access(CASE_ID)),
        ([an(CaseAssigned), an(CaseTransferred)], Access(CASE_ID)),
        ([an(CaseAssigned), an(CaseHandedOver)], Access(CASE_ID, partner_id="swift")),
        ([an(CaseHandedOver), an(PartnerReturned)], Access(CASE_ID)),
        ([an(CaseAssigned), an(CaseEscalated)], Access(CASE_ID)),
        ([an(CaseEscalated), an(EscalationAcknowledged)], Access(CASE_ID, owner_id="olga")),
        ([an(EscalationAcknowledged), an(EscalationReturned)], Access(CASE_ID)),
        ([an(EscalationAcknowledged), an(EscalationResolved)], Access(CASE_ID)),
        ([an(CaseAssigned), an(CaseResolved)], Access(CASE_ID)),
        ([an(CaseHandedOver), an(CaseClosed)], Access(CASE_ID)),
    ],
)
def test_those_who_work_on_a_case_now_may_read_it(happened: list[Event], expected: Access) -> None:
    folding(ACCESS, *happened).row_is(expected)


@pytest.mark.parametrize(
    ("role", "holder", "included"),
    [
        (Role.AGENT, "anna", True),
        (Role.AGENT, "olga", True),
        (Role.AGENT, "swift", False),
        (Role.AGENT, None, False),
        (Role.PARTNER, "swift", True),
        (Role.PARTNER, "anna", False),
        (Role.PARTNER, None, False),
        (Role.CHANNEL, "anna", False),
        (Role.READER, "anna", False),
    ],
)
def test_a_right_belongs_to_a_role_and_a_holder_together(role: Role, holder: str | None, included: bool) -> None:
    assert Access(CASE_ID, "anna", "olga", "swift").includes(role, holder) is included


def test_nobody_has_a_right_to_a_case_nobody_works_on() -> None:
    assert not Access(CASE_ID).includes(Role.PARTNER, None)


def test_a_key_is_shown_with_the_time_it_was_revoked() -> None:
    issued = IssuedKey("key:1", Role.AGENT, "Anna's phone", "anna", START)

    folding(ISSUED_KEYS, an(KeyIssued), subject="key:1").row_is(issued)
    folding(ISSUED_KEYS, an(KeyIssued), an(KeyRevoked), subject="key:1").row_is(
        replace(issued, revoked_at=START + MINUTE)
    )


# ------------------------------------------------------------------------------------ what the log has not told yet


def told(events: Sequence[Recorded[CaseEvent]]) -> Case | None:
    """The row of a case of which the log has told this much."""
    return functools.reduce(CASES_VIEW.fold, events, None)


def test_our_own_events_count_before_the_log_has_told_them() -> None:
    own = history(an(CaseOpened), an(CaseResolved))

    assert views.stands(told(own[:1]), own, CASE_ID).category is Category.RESOLVED
    assert views.stands(None, own, CASE_ID).category is Category.RESOLVED


def test_what_the_others_said_is_not_lost_by_it() -> None:
    happened = history(an(CaseOpened), an(CaseQueued), an(CaseAssigned), an(MessageSent, waits_for=None))
    own = [event for event in happened if event.source == "intake"]

    case = views.stands(told(happened[:3]), own, CASE_ID)

    assert (case.agent_id, case.queue_id, case.category) == ("anna", "general", Category.IN_PROGRESS)
    assert case.last_at == own[-1].occurred_at


def test_what_the_log_has_told_is_not_counted_twice() -> None:
    happened = history(
        an(CaseOpened), an(CaseResolved), an(CaseReopened), an(MessageReceived), an(CaseAssigned), an(CaseReleased)
    )
    own = [event for event in happened if event.source == "intake"]

    assert views.stands(told(happened), own, CASE_ID) == told(happened)


def test_an_event_that_does_not_move_a_case_does_not_move_it_ahead_of_the_log_either() -> None:
    own = history(an(CaseOpened), an(CaseResolved), an(FeedbackReceived))

    assert views.stands(told(own[:2]), own, CASE_ID) == told(own[:2])
