"""Clocks: what starts, pauses and stops them, what fires, and that the verdict goes by event time."""

from datetime import timedelta

import pytest

from events.case import (
    CaseAssigned,
    CaseClassified,
    CaseClosed,
    CaseEscalated,
    CaseHandedOver,
    CaseQueued,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    Category,
    ClockBreached,
    ClockCancelled,
    ClockEvent,
    ClockKind,
    ClockPaused,
    ClockRestated,
    ClockResumed,
    ClockRetargeted,
    ClockStarted,
    ClockStopped,
    ClockWarned,
    EscalationReturned,
    MessageReceived,
    MessageSent,
    PartnerReturned,
    Priority,
    PromisesPinned,
    UnitKind,
)
from events.event import CaseEvent
from events.testing import CASE_ID, START, folding
from services.escalation.clocks import ClockState, Times, obligation
from services.escalation.views.clocks import CLOCKS, CaseClocks
from tests.escalation.hearing import HOUR, MINUTE, TIMETABLES, Hearing, every, local, opened, promise
from tests.given import an

FIRST, NEXT, UPDATE = ClockKind.FIRST_RESPONSE, ClockKind.NEXT_RESPONSE, ClockKind.PERIODIC_UPDATE
HANDLING, WAIT, RESOLUTION, OWNERSHIP = (
    ClockKind.HANDLING,
    ClockKind.REQUESTER_WAIT,
    ClockKind.RESOLUTION,
    ClockKind.OWNERSHIP,
)
ANSWER = an(MessageSent, visibility="public", automatic=False, waits_for=None)
QUESTION = an(MessageSent, visibility="public", automatic=False, waits_for="customer")
NOTE = an(MessageSent, visibility="internal", waits_for=None)
CONTACT = an(MessageReceived)
RESOLVED = an(CaseResolved, episode=1)
TIMES = Times(TIMETABLES)


# ------------------------------------------------------------------------------------------------- start and stop


def test_an_opened_case_pins_the_promises_and_starts_its_clocks_when_the_customer_came_in() -> None:
    case = opened()
    assert case.events(PromisesPinned) == [PromisesPinned(promises=("standard@1",), reason="the case came in")]
    assert [one.data.clock for one in case.said if isinstance(one.data, ClockStarted)] == [
        FIRST,
        HANDLING,
        WAIT,
        RESOLUTION,
    ]
    assert {one.occurred_at for one in case.said} == {START}
    first, resolution = case.clock(FIRST), case.clock(RESOLUTION)
    assert (first.due_at, resolution.due_at) == (START + HOUR, START + 8 * HOUR)
    assert [warning.at for warning in first.warnings] == [START + m * MINUTE for m in (30, 45, 54)]


def test_times_exist_before_targets() -> None:
    case = opened(promises=()).hear(ANSWER, START + HOUR).hear(RESOLVED, START + 2 * HOUR)
    assert (case.clock(FIRST).elapsed_s, case.clock(FIRST).verdict) == (3600, None)
    assert case.clock(RESOLUTION).elapsed_s == 7200
    assert case.fire(START + 100 * HOUR).last == []


def test_a_taken_over_case_gets_the_clocks_of_its_episode() -> None:
    case = Hearing().hear(an(CaseTakenOver, episode=3, priority=Priority.HIGH), START)
    assert {(kind, episode) for kind, episode, _ in case.case.clocks} == {
        (kind, 3) for kind in (FIRST, HANDLING, WAIT, RESOLUTION)
    }


def test_the_first_response_is_the_first_public_answer_by_a_person() -> None:
    case = opened().hear(NOTE, START + MINUTE).hear(an(MessageSent, automatic=True, waits_for=None), START + 2 * MINUTE)
    assert case.clock(FIRST).running
    case.hear(ANSWER, START + timedelta(seconds=200.9))
    assert (case.clock(FIRST).elapsed_s, case.clock(FIRST).verdict) == (200, True)
    assert case.hear(ANSWER, START + 3 * HOUR).clock(FIRST).elapsed_s == 200


def test_the_resolution_is_also_the_first_response_when_there_was_none() -> None:
    case = opened().hear(RESOLVED, START + HOUR / 2)
    assert (case.clock(FIRST).verdict, case.clock(RESOLUTION).verdict) == (True, True)
    assert case.case.running == ()


def test_the_next_response_runs_from_the_oldest_unanswered_message_once_per_turn() -> None:
    case = opened().hear(ANSWER, START + MINUTE).hear(CONTACT, START + HOUR).hear(CONTACT, START + 2 * HOUR)
    assert case.clock(NEXT, turn=1).started_at == START + HOUR
    case.hear(ANSWER, START + 3 * HOUR).hear(CONTACT, START + 4 * HOUR)
    assert case.clock(NEXT, turn=1).elapsed_s == 7200
    assert case.clock(NEXT, turn=2).started_at == START + 4 * HOUR


def test_the_periodic_update_runs_from_one_public_message_to_the_next() -> None:
    case = opened(promises=[promise("standard@1", targets=every(UPDATE, 24))])
    case.hear(ANSWER, START + HOUR).hear(NOTE, START + 2 * HOUR).hear(ANSWER, START + 30 * HOUR)
    assert (case.clock(UPDATE, turn=1).verdict, case.clock(UPDATE, turn=1).elapsed_s) == (False, 29 * 3600)
    assert case.clock(UPDATE, turn=2).due_at == START + 54 * HOUR


def test_a_thanks_after_the_resolution_starts_nothing_until_the_case_is_reopened() -> None:
    case = opened().hear(ANSWER, START + MINUTE).hear(RESOLVED, START + HOUR).hear(CONTACT, START + 2 * HOUR)
    assert case.case.running == ()
    case.hear(an(CaseReopened, episode=2), START + 3 * HOUR)
    assert case.clock(NEXT, 2, 1).started_at == START + 2 * HOUR
    assert case.clock(RESOLUTION, 2).started_at == START + 3 * HOUR


def test_a_case_reopened_after_a_breach_gets_a_clock_of_its_own_and_keeps_the_verdict() -> None:
    case = opened().hear(RESOLVED, START + 9 * HOUR).hear(an(CaseReopened, episode=2), START + 10 * HOUR)
    assert case.clock(RESOLUTION).verdict is False
    assert case.clock(RESOLUTION, 2).due_at == START + 18 * HOUR


def test_ownership_is_counted_per_unit_and_partner_and_judged_by_their_own_agreements() -> None:
    internal = promise("between-units@1", kind="internal", targets=every(OWNERSHIP, 2))
    partner = promise("contract@1", kind="partner", targets=every(OWNERSHIP, 4))
    case = opened(promises=[internal, partner])
    case.hear(an(CaseQueued, unit_id="care-de", unit_kind=UnitKind.FRONT_END), START + MINUTE)
    case.hear(an(CaseHandedOver, partner_id="acme"), START + 3 * HOUR).hear(RESOLVED, START + 6 * HOUR)
    ours, theirs = case.clock(OWNERSHIP, turn=1), case.clock(OWNERSHIP, turn=2)
    assert (ours.owner, ours.span.promise, ours.verdict) == ("care-de", "between-units@1", False)
    assert (theirs.owner, theirs.span.promise, theirs.verdict) == ("acme", "contract@1", True)


@pytest.mark.parametrize(
    ("taken", "given_back", "owner"),
    [
        (an(CaseHandedOver, partner_id="acme"), an(PartnerReturned, partner_id="acme"), "acme"),
        (an(CaseEscalated, unit_id="swat"), an(EscalationReturned, unit_id="swat"), "swat"),
    ],
)
def test_ownership_ends_when_the_case_is_given_back_not_when_it_is_queued_again(
    taken: CaseEvent, given_back: CaseEvent, owner: str
) -> None:
    case = opened().hear(taken, START + HOUR).hear(given_back, START + 3 * HOUR)
    theirs = case.clock(OWNERSHIP, turn=1)
    assert (theirs.owner, theirs.ended_at) == (owner, START + 3 * HOUR)
    case.hear(an(CaseQueued, unit_id="care-de", unit_kind=UnitKind.FRONT_END), START + 4 * HOUR)
    assert (case.clock(OWNERSHIP, turn=2).owner, case.clock(OWNERSHIP, turn=2).started_at) == (
        "care-de",
        START + 4 * HOUR,
    )


def test_what_is_given_back_by_somebody_else_ends_nobodys_ownership() -> None:
    case = opened().hear(an(CaseQueued, unit_id="care-de", unit_kind=UnitKind.FRONT_END), START + MINUTE)
    case.hear(an(PartnerReturned, partner_id=None), START + HOUR)
    assert case.clock(OWNERSHIP, turn=1).running


def test_a_case_closed_without_a_resolution_cancels_its_clocks() -> None:
    case = opened().hear(an(CaseClosed, episode=1), START + HOUR / 2)
    assert {clock.state for clock in case.case.clocks.values()} == {ClockState.CANCELLED}
    assert len(case.events(ClockCancelled)) == 4
    assert case.fire(START + 100 * HOUR).last == []


# ---------------------------------------------------------------------------------------------------------- pauses


def test_waiting_for_the_customer_pauses_only_the_clocks_that_say_so() -> None:
    case = opened().hear(QUESTION, START + HOUR).hear(RESOLVED, START + 3 * HOUR)
    assert case.clock(HANDLING).elapsed_s == case.clock(WAIT).elapsed_s == 3600
    assert case.clock(RESOLUTION).elapsed_s == 3 * 3600


def test_a_case_closed_after_its_due_time_is_not_acquitted_by_it() -> None:
    """Whether the timer said it before, or the closing is heard first."""
    closed = an(CaseClosed, episode=1)
    for case in (opened().fire(START + 9 * HOUR), opened()):
        case.hear(closed, START + 10 * HOUR)
        assert {event.clock for event in case.events(ClockBreached)} == {FIRST, RESOLUTION}
        assert case.events(ClockRestated) == []
        assert {e.clock: e.kept for e in case.events(ClockCancelled)} == {
            FIRST: False,
            HANDLING: None,
            WAIT: None,
            RESOLUTION: False,
        }
        assert (case.clock(RESOLUTION).state, case.clock(RESOLUTION).verdict) == (ClockState.CANCELLED, False)


def test_a_case_closed_before_its_due_time_and_heard_of_after_it_owes_nothing_more() -> None:
    case = opened().fire(START + 9 * HOUR).hear(an(CaseClosed, episode=1), START + HOUR / 2)
    assert [(event.before.kept, event.after.kept) for event in case.events(ClockRestated)] == [(False, None)] * 2
    assert case.clock(RESOLUTION).verdict is None


def test_a_breached_clock_that_never_was_is_no_verdict() -> None:
    case = opened().hear(ANSWER, START).hear(CONTACT, START + HOUR).fire(START + 100 * HOUR)
    case.hear(RESOLVED, START + HOUR / 2)
    assert (case.clock(NEXT, turn=1).state, case.clock(NEXT, turn=1).verdict) == (ClockState.CANCELLED, None)


def test_waiting_for_a_partner_pauses_handling_and_not_the_requesters_wait() -> None:
    case = opened().hear(an(CaseHandedOver), START + HOUR).hear(RESOLVED, START + 3 * HOUR)
    assert (case.clock(HANDLING).elapsed_s, case.clock(WAIT).elapsed_s) == (3600, 3 * 3600)


def test_waiting_for_colleagues_pauses_only_what_says_so() -> None:
    internal = an(MessageSent, visibility="internal", automatic=False, waits_for="internal")
    case = opened().hear(internal, START + HOUR)
    assert not any(clock.paused for clock in case.case.running)
    pausing = promise("standard@1", pauses=[{"clocks": [RESOLUTION], "categories": [Category.WAITING_INTERNAL]}])
    case = opened(promises=[pausing]).hear(internal, START + HOUR)
    assert [clock.kind for clock in case.case.running if clock.paused] == [RESOLUTION]
    case.hear(an(CaseAssigned), START + 3 * HOUR)
    assert case.clock(RESOLUTION).due_at == START + 10 * HOUR


def test_a_promise_says_itself_what_pauses_a_clock() -> None:
    pausing = promise("standard@1", pauses=[{"clocks": [RESOLUTION], "categories": [Category.WAITING_CUSTOMER]}])
    case = opened(promises=[pausing]).hear(QUESTION, START + HOUR)
    assert (case.clock(RESOLUTION).state, case.clock(RESOLUTION).due_at) == (ClockState.PAUSED, None)
    case.hear(CONTACT, START + 100 * HOUR)
    assert case.clock(RESOLUTION).due_at == START + 107 * HOUR
    (resumed,) = [event for event in case.last if isinstance(event, ClockResumed) and event.clock is RESOLUTION]
    assert [warning.percent for warning in resumed.warnings] == [50, 75, 90]


def test_a_customers_message_resumes_at_its_own_time_however_late_it_is_heard() -> None:
    case = opened().hear(QUESTION, START + HOUR).hear(NOTE, START + 9 * HOUR).hear(CONTACT, START + 2 * HOUR)
    assert TIMES.elapsed_s(case.clock(HANDLING), START + 9 * HOUR) == 8 * 3600


def test_a_pause_for_the_customer_needs_a_recent_message_of_ours() -> None:
    waiting = an(MessageSent, visibility="internal", waits_for="customer")
    assert not opened().hear(waiting, START + HOUR).clock(HANDLING).paused
    assert opened().hear(ANSWER, START + HOUR).hear(waiting, START + HOUR + 30 * MINUTE).clock(HANDLING).paused
    assert not opened().hear(ANSWER, START).hear(waiting, START + 2 * HOUR).clock(HANDLING).paused
    acknowledged = an(MessageSent, visibility="public", automatic=True, waits_for=None)
    assert not opened().hear(acknowledged, START).hear(waiting, START + MINUTE).clock(HANDLING).paused


def test_minutes_of_a_pause_after_the_customer_came_in_are_measured() -> None:
    case = opened().hear(an(CaseHandedOver), START + HOUR).hear(CONTACT, START + 2 * HOUR)
    case.hear(RESOLVED, START + 5 * HOUR)
    (stopped,) = [event for event in case.events(ClockStopped) if event.clock is HANDLING]
    assert (stopped.elapsed_s, stopped.ignored_s, stopped.ignored_since) == (3600, 3 * 3600, START + 2 * HOUR)


def test_a_contact_heard_of_after_the_pause_it_fell_into_is_measured_all_the_same() -> None:
    case = opened().hear(an(CaseHandedOver), START + HOUR).hear(an(PartnerReturned), START + 5 * HOUR)
    case.hear(CONTACT, START + 2 * HOUR)
    (restated,) = [event for event in case.events(ClockRestated) if event.clock is HANDLING]
    told = [(pause.ignored_since, pause.ignored_s) for pause in restated.after.pauses]
    assert told == [(START + 2 * HOUR, 3 * 3600)]
    assert case.clock(HANDLING).pauses[0].ignored_s == 3 * 3600


def test_a_pause_that_ends_with_a_closed_case_is_measured_too() -> None:
    case = opened().hear(an(CaseHandedOver), START + HOUR).hear(CONTACT, START + 2 * HOUR)
    case.hear(an(CaseClosed, episode=1), START + 5 * HOUR)
    (cancelled,) = [event for event in case.events(ClockCancelled) if event.clock is HANDLING]
    assert (cancelled.ignored_s, cancelled.ignored_since) == (3 * 3600, START + 2 * HOUR)


def test_two_pauses_in_one_minute_are_two() -> None:
    case = opened()
    for s in (0, 20):
        case.hear(QUESTION, START + HOUR + timedelta(seconds=s)).hear(CONTACT, START + HOUR + timedelta(seconds=s + 10))
    assert len(case.clock(HANDLING).pauses) == 2
    assert TIMES.elapsed_s(case.clock(HANDLING), START + HOUR + MINUTE) == 3600 + 40


OFFICE = promise(
    "office@1",
    calendar="berlin@1",
    targets=every(HANDLING, 8),
    pauses=[{"clocks": [HANDLING], "categories": [Category.WAITING_CUSTOMER]}],
)


def test_a_pause_across_a_weekend_costs_only_working_time() -> None:
    case = opened(local("2026-03-27 15:00"), [OFFICE]).hear(QUESTION, local("2026-03-27 16:00"))
    case.hear(CONTACT, local("2026-03-30 10:00"))
    assert case.clock(HANDLING).due_at == local("2026-03-30 17:00")


def test_a_pause_that_begins_outside_hours_costs_nothing_until_they_begin() -> None:
    case = opened(local("2026-03-30 15:00"), [OFFICE]).hear(QUESTION, local("2026-03-30 20:00"))
    case.hear(CONTACT, local("2026-03-31 10:00"))
    assert case.clock(HANDLING).due_at == local("2026-03-31 16:00")


def test_a_customer_who_answers_at_night_resumes_the_clock_which_counts_from_the_morning_on() -> None:
    case = opened(local("2026-03-30 09:00"), [OFFICE]).hear(QUESTION, local("2026-03-30 12:00"))
    case.hear(CONTACT, local("2026-03-31 02:00"))
    assert case.clock(HANDLING).due_at == local("2026-03-31 14:00")


# --------------------------------------------------------------------------------------------------------- targets


def test_a_raised_priority_counts_from_the_beginning_with_the_pauses() -> None:
    case = opened(promises=[promise("standard@1", targets=(*every(RESOLUTION, 24)[:3], *every(RESOLUTION, 4)[3:]))])
    assert case.clock(RESOLUTION).due_at == START + 24 * HOUR
    case.hear(an(CaseClassified, priority=Priority.URGENT, tier=None, journey=None), START + 3 * HOUR)
    assert case.clock(RESOLUTION).due_at == START + 4 * HOUR
    (told,) = [event for event in case.last if isinstance(event, ClockRetargeted)]
    assert (told.target_s, [warning.percent for warning in told.warnings]) == (4 * 3600, [50, 75, 90])
    late = opened(promises=case.promises)
    late.hear(an(CaseClassified, priority=Priority.URGENT, tier=None, journey=None), START + 5 * HOUR)
    assert late.clock(RESOLUTION).due_at == START + 4 * HOUR
    assert late.hear(RESOLVED, START + 6 * HOUR).clock(RESOLUTION).verdict is False


def test_each_stretch_of_time_counts_by_what_held_then() -> None:
    vip = promise("vip@1", calendar="berlin@1", start={"tiers": ["gold"]}, targets=every(RESOLUTION, 10))
    case = opened(local("2026-03-27 15:00"), [vip, promise("standard@1", targets=every(RESOLUTION, 24))])
    case.hear(an(CaseClassified, tier="gold", priority=None, journey=None), local("2026-03-28 00:00"))
    clock = case.clock(RESOLUTION)
    assert [span.promise for span in clock.spans] == ["standard@1", "vip@1"]
    assert TIMES.elapsed_s(clock, local("2026-03-30 09:00")) == 9 * 3600, "24×7 until midnight, then no office hours"
    assert clock.due_at == local("2026-03-30 10:00")


def test_the_promise_made_to_fewer_cases_comes_first_and_a_target_that_says_more() -> None:
    vip = promise("a-vip@1", start={"tiers": ["gold"]}, stop={"markets": ["fr"]}, targets=every(FIRST, 0.25))
    markets = [*every(FIRST, 1), {"clock": FIRST, "priority": "high", "market": "de", "target_s": 600}]
    both = [promise("standard@1", targets=markets), vip]
    assert opened(promises=both, tier="gold").clock(FIRST).span.target_s == 900
    assert opened(promises=both, tier="gold", market="fr").clock(FIRST).span.promise == "standard@1"
    assert opened(promises=both).clock(FIRST).span.target_s == 600
    assert opened(promises=both, market="fr").clock(FIRST).span.target_s == 3600


def test_a_case_keeps_the_promises_it_came_in_under() -> None:
    case = opened()
    case.promises = (*case.promises, promise("standard@2", targets=every(RESOLUTION, 1)))
    case.hear(ANSWER, START + MINUTE)
    assert case.case.promises == ("standard@1",)
    assert case.clock(RESOLUTION).due_at == START + 8 * HOUR


# ---------------------------------------------------------------------------------------------- firing and restating


def test_a_clock_warns_and_breaches_when_it_is_due_and_not_before() -> None:
    case = opened()
    assert case.fire(START + 30 * MINUTE - timedelta(microseconds=1)).last == []
    case.fire(START + 50 * MINUTE)
    assert [(e.clock, e.percent) for e in case.events(ClockWarned)] == [(FIRST, 50), (FIRST, 75)]
    case.fire(START + 2 * HOUR)
    (breached,) = case.events(ClockBreached)
    assert (breached.clock, breached.due_at) == (FIRST, START + HOUR)
    assert [one.occurred_at for one in case.said if isinstance(one.data, ClockBreached)] == [START + HOUR]
    assert case.fire(START + 2 * HOUR).last == []


def test_a_paused_clock_fires_nothing() -> None:
    case = opened(promises=[OFFICE]).hear(QUESTION, START + MINUTE)
    assert case.fire(START + 1000 * HOUR).last == []


def test_the_timer_and_a_late_stop_call_a_breach_by_the_same_id() -> None:
    by_timer = opened().fire(START + 2 * HOUR)
    by_stop = opened().hear(ANSWER, START + 2 * HOUR)
    ids = [{one.id for one in case.said if isinstance(one.data, ClockBreached)} for case in (by_timer, by_stop)]
    assert ids == [{obligation(CASE_ID, (FIRST, 1, 0), "breached")}] * 2


def test_a_late_fact_after_a_breach_restates_the_clock_and_edits_nothing() -> None:
    case = opened().fire(START + 2 * HOUR).hear(ANSWER, START + HOUR / 2)
    assert len(case.events(ClockBreached)) == 1
    (restated,) = case.events(ClockRestated)
    assert (restated.before.kept, restated.after.kept, restated.after.elapsed_s) == (False, True, 1800)
    assert case.clock(FIRST).verdict is True


def test_a_longer_target_after_a_breach_restates_and_a_second_breach_is_a_restatement() -> None:
    """One `clock.breached` per obligation, whatever happens."""
    case = opened(promises=[promise("standard@1", targets=(*every(FIRST, 24)[:2], *every(FIRST, 1)[2:]))])
    case.fire(START + 2 * HOUR)
    case.hear(an(CaseClassified, priority=Priority.LOW, tier=None, journey=None), START + 3 * HOUR)
    assert (case.clock(FIRST).verdict, case.clock(FIRST).due_at) == (None, START + 24 * HOUR)
    case.fire(START + 25 * HOUR)
    assert case.clock(FIRST).verdict is False
    assert len(case.events(ClockBreached)) == 1
    assert [event.after.kept for event in case.events(ClockRestated)] == [None, False]


def test_a_second_breach_says_the_warnings_before_it_once() -> None:
    """The pause after the due time took away those of the first one, before the timer came to say them."""
    pauses = [{"clocks": [RESOLUTION], "categories": [Category.WAITING_CUSTOMER]}]
    slow, fast = every(RESOLUTION, 24)[:2], every(RESOLUTION, 1)[2:]
    case = opened(promises=[promise("standard@1", targets=(*slow, *fast), pauses=pauses)])
    case.hear(QUESTION, START + 2 * HOUR).fire(START + 3 * HOUR).hear(CONTACT, START + 3 * HOUR)
    case.hear(an(CaseClassified, priority=Priority.LOW, tier=None, journey=None), START + HOUR / 2)
    case.fire(START + 26 * HOUR)
    assert [event.percent for event in case.events(ClockWarned) if event.clock is RESOLUTION] == [50, 75, 90]
    assert case.clock(RESOLUTION).verdict is False
    assert case.fire(START + 27 * HOUR).last == []


def test_an_answer_heard_of_late_splits_a_turn_in_two() -> None:
    case = opened().hear(ANSWER, START).hear(CONTACT, START + HOUR).hear(CONTACT, START + 3 * HOUR)
    case.hear(ANSWER, START + 2 * HOUR)
    assert case.clock(NEXT, turn=1).elapsed_s == 3600
    assert case.clock(NEXT, turn=2).started_at == START + 3 * HOUR


def test_every_event_with_a_due_time_says_which_zone_data_it_was_reckoned_with() -> None:
    pausing = promise("standard@1", pauses=[{"clocks": [RESOLUTION], "categories": [Category.WAITING_CUSTOMER]}])
    case = opened(promises=[pausing]).fire(START + HOUR / 2).hear(QUESTION, START + HOUR)
    case.hear(CONTACT, START + 2 * HOUR)
    case.hear(an(CaseClassified, priority=Priority.URGENT, tier=None, journey=None), START + 3 * HOUR)
    case.fire(START + 9 * HOUR).hear(QUESTION, START + 9 * HOUR)
    case.hear(RESOLVED, START + 10 * HOUR).hear(RESOLVED, START + HOUR * 1.5)
    with_due = {
        type(one.data).__name__: one.data.tzdata
        for one in case.said
        if isinstance(one.data, ClockEvent) and getattr(one.data, "due_at", None) is not None
    }
    assert with_due.keys() == {
        kind.__name__
        for kind in (ClockStarted, ClockPaused, ClockResumed, ClockRetargeted, ClockWarned, ClockBreached, ClockStopped)
    }
    assert set(with_due.values()) == {"2026.6"}
    (restated,) = [event for event in case.events(ClockRestated) if event.clock is RESOLUTION]
    assert (restated.before.tzdata, restated.after.tzdata) == ("2026.6", "2026.6")
    assert case.clock(FIRST).tzdata == "2026.6"


def test_a_case_that_came_in_when_nothing_was_promised_is_not_judged_by_what_came_later() -> None:
    case = opened(promises=())
    assert case.events(PromisesPinned) == [PromisesPinned(promises=(), reason="the case came in")]
    case.promises = (promise("standard@1"),)
    case.hear(ANSWER, START + 2 * HOUR)
    assert (len(case.events(PromisesPinned)), case.clock(FIRST).verdict) == (1, None)


def test_promises_pinned_for_an_episode_leave_those_before_it_as_they_were_judged() -> None:
    """Whatever is heard afterwards, and however late."""
    case = opened().hear(ANSWER, START + MINUTE).hear(RESOLVED, START + 2 * HOUR)
    case.hear(an(CaseReopened, episode=2), START + 3 * HOUR)
    case.pin(promise("standard@2", targets=[*every(FIRST, 1), *every(RESOLUTION, 1)]), now=START + 3 * HOUR, episode=2)
    assert case.case.pins == ((1, ("standard@1",)), (2, ("standard@2",)))
    case.hear(NOTE, START + HOUR / 2).hear(NOTE, START + 5 * HOUR).fire(START + 5 * HOUR)
    assert (case.clock(RESOLUTION).verdict, case.clock(RESOLUTION).span.promise) == (True, "standard@1")
    assert (case.clock(RESOLUTION, 2).verdict, case.clock(RESOLUTION, 2).span.promise) == (False, "standard@2")


def test_pinning_other_promises_restates_from_the_beginning_and_says_so() -> None:
    case = opened().fire(START + 2 * HOUR)
    case.pin(promise("standard@2", targets=[*every(FIRST, 4), *every(RESOLUTION, 4)]), now=START + 3 * HOUR)
    assert case.case.promises == ("standard@2",)
    assert (case.clock(FIRST).verdict, case.clock(FIRST).due_at) == (None, START + 4 * HOUR)
    assert case.clock(RESOLUTION).due_at == START + 4 * HOUR
    assert {event.reason for event in case.events(ClockRestated)} == {"asked for"}


# ------------------------------------------------------------------------------------------------ the deadlines view


def test_the_row_is_due_exactly_when_the_next_obligation_of_the_stream_is() -> None:
    case = opened().hear(QUESTION, START + MINUTE).hear(CONTACT, START + HOUR)
    while True:
        row = folding(CLOCKS, *case.said).row()
        assert isinstance(row, CaseClocks)
        assert row.promises == ("standard@1",)
        if row.due_at is None:
            break
        assert case.fire(row.due_at - timedelta(microseconds=1)).last == []
        assert case.fire(row.due_at).last != []
    assert case.fire(START + 1000 * HOUR).last == []


@pytest.mark.parametrize("after", ["paused", "paused and resumed", "given less time", "told anew"])
def test_a_broken_clock_to_which_more_happens_is_not_due_again(after: str) -> None:
    pausing = promise("standard@1", pauses=[{"clocks": [RESOLUTION], "categories": [Category.WAITING_CUSTOMER]}])
    case = opened(promises=[pausing]).hear(ANSWER, START + MINUTE).fire(START + 100 * HOUR)
    match after:
        case "paused":
            case.hear(QUESTION, START + 101 * HOUR)
        case "paused and resumed":
            case.hear(QUESTION, START + 101 * HOUR).hear(CONTACT, START + 102 * HOUR).fire(START + 200 * HOUR)
        case "given less time":
            case.hear(an(CaseClassified, priority=Priority.URGENT, tier=None, journey=None), START + 101 * HOUR)
        case _:
            case.hear(QUESTION, START + 2 * MINUTE).hear(CONTACT, START + 3 * MINUTE)
            case.fire(START + 200 * HOUR)
    row = folding(CLOCKS, *case.said).row()
    assert isinstance(row, CaseClocks)
    assert (case.clock(RESOLUTION).state, row.due_at, row.promised) == (ClockState.BREACHED, None, ())


NEVER = promise("rare@1", calendar="rare@1", targets=every(RESOLUTION, 8))
"""On a calendar that opens for three hours once."""


def test_a_clock_whose_calendar_has_too_little_time_says_so_and_is_found() -> None:
    case = opened(promises=[NEVER])
    assert (case.clock(RESOLUTION).state, case.clock(RESOLUTION).due_at) == (ClockState.NO_WORKING_TIME, None)
    row = folding(CLOCKS, *case.said).row()
    assert isinstance(row, CaseClocks)
    assert row.unreachable == ("resolution/1/0 rare@1",)
    case.hear(RESOLVED, START + HOUR)
    row = folding(CLOCKS, *case.said).row()
    assert isinstance(row, CaseClocks)
    assert (row.unreachable, row.promised) == ((), ())


def test_a_paused_clock_and_one_without_a_promise_are_not_called_unreachable() -> None:
    pausing = promise("standard@1", pauses=[{"clocks": [RESOLUTION], "categories": [Category.WAITING_CUSTOMER]}])
    for case in (opened(promises=[pausing]).hear(QUESTION, START + HOUR), opened(promises=())):
        row = folding(CLOCKS, *case.said).row()
        assert isinstance(row, CaseClocks)
        assert row.unreachable == ()
    assert case.clock(RESOLUTION).state is ClockState.RUNNING


def test_the_row_knows_since_when_the_latest_episode_lasts_and_what_any_episode_is_judged_by() -> None:
    case = opened().hear(RESOLVED, START + HOUR).hear(an(CaseReopened, episode=2), START + 3 * HOUR)
    case.pin(promise("standard@2"), now=START + 3 * HOUR, episode=2)
    row = folding(CLOCKS, *case.said).row()
    assert isinstance(row, CaseClocks)
    assert (row.open_since, row.open_until) == (START + 3 * HOUR, None)
    assert (row.promises, row.earlier) == (("standard@2",), ("standard@1",))
    case.hear(an(CaseResolved, episode=2), START + 4 * HOUR)
    row = folding(CLOCKS, *case.said).row()
    assert isinstance(row, CaseClocks)
    assert row.open_until == START + 4 * HOUR


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata"])
def test_no_clock_is_paused_by_nobody(zone: str) -> None:
    case = opened(local("2026-03-27 15:00", zone), [OFFICE]).hear(QUESTION, local("2026-03-27 16:00", zone))
    assert [event.reason for event in case.events(ClockPaused)] == [Category.WAITING_CUSTOMER] * 2
