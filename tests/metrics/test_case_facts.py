"""What a case's events add up to."""

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.case import (
    CASE_EVENTS,
    CaseAssigned,
    CaseClassified,
    CaseClosed,
    CaseDequeued,
    CaseEscalated,
    CaseFlagged,
    CaseHandedOver,
    CaseObserved,
    CaseOffered,
    CaseOpened,
    CaseQueued,
    CaseReleased,
    CaseReopened,
    CaseReranked,
    CaseResolved,
    CaseTakenOver,
    CaseTransferred,
    Category,
    ClockBreached,
    ClockCancelled,
    ClockKind,
    ClockRestated,
    ClockResumed,
    ClockStarted,
    ClockStopped,
    EscalationReturned,
    FeedbackReceived,
    MessageReceived,
    MessageSent,
    Priority,
    UnitKind,
)
from events.event import CaseEvent, Recorded
from events.testing import START, Happened, folding, history, recorded
from services.metrics.facts import CaseFacts, Verdict
from services.metrics.views import CASE_FACTS
from tests.given import an

YES, NO, UNKNOWN = Verdict.YES, Verdict.NO, Verdict.UNKNOWN

OPENED, RESOLVED, REOPENED, CLOSED = an(CaseOpened), an(CaseResolved), an(CaseReopened), an(CaseClosed)
RESOLVED_AGAIN = an(CaseResolved, episode=2)
QUEUED, ASSIGNED = an(CaseQueued), an(CaseAssigned)
AT_BACK_END = an(CaseQueued, queue_id="parcels", unit_id="parcels", unit_kind=UnitKind.BACK_END)


def facts(*happened: Happened) -> CaseFacts:
    row = folding(CASE_FACTS, *happened).row()
    assert row is not None
    return row


def after(**more: float) -> datetime:
    return START + timedelta(**more)


def said_by(actor: str, event: CaseEvent, sequence: int = 90) -> Recorded[Any]:
    return recorded(event, sequence=sequence, at=after(minutes=5), actor=actor)


def observed(**more: Any) -> CaseObserved:
    return an(CaseObserved, **{"category": Category.IN_PROGRESS, "unit": "V1", "line": "1", "agent": "a1", **more})


# ---------------------------------------------------------------------------------------------------------- the walk


@given(
    st.lists(st.tuples(st.sampled_from(CASE_EVENTS), st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=14),
)
def test_facts_depend_on_what_happened_and_not_on_how_it_arrived(story: list[tuple[Any, int, int]]) -> None:
    happened = []
    for kind, minute, number in story:
        counted = next((name for name in ("episode", "ordinal") if name in kind.model_fields), None)
        value = {} if counted is None else {counted: max(number, 2) if kind is CaseReopened else number}
        happened.append((an(kind, **value), after(minutes=minute)))

    # The row is folded in order, then from five shuffled deliveries with repeats; a difference fails there.
    facts(*happened)


@pytest.mark.parametrize("kind", CASE_EVENTS, ids=lambda kind: kind.__name__)
def test_every_event_of_a_case_can_be_the_first_one(kind: type[CaseEvent]) -> None:
    assert facts(an(kind)).case_id


def test_a_case_counts_on_the_day_in_utc_on_which_it_was_opened() -> None:
    early = datetime(2026, 3, 2, 0, 30, tzinfo=timezone(timedelta(hours=2)))

    assert facts((OPENED, early), (RESOLVED, early + timedelta(days=3))).opened_on == date(2026, 3, 1)


def test_surveys_clocks_and_offers_are_no_steps() -> None:
    row = facts(OPENED, QUEUED, an(ClockStarted), an(CaseOffered), an(ClockStopped), an(FeedbackReceived))

    assert row.steps == 2
    assert row.duration_us == 60_000_000
    assert row.codes == ("opened", "queued")


@pytest.mark.parametrize("tidied", [CaseReleased, CaseDequeued])
def test_what_is_tidied_up_after_the_end_does_not_make_the_walk_longer(tidied: type[CaseEvent]) -> None:
    row = facts(OPENED, RESOLVED, (an(tidied), after(days=3)))

    assert row.last_at == after(minutes=1)


def test_a_case_counts_as_it_is_seen_at_the_end() -> None:
    urgent = an(CaseClassified, priority=Priority.URGENT, tier=None, journey=None)
    row = facts(an(CaseOpened, tier=None), RESOLVED, an(CaseClassified, priority=None, tier="gold"), urgent)

    assert (row.priority, row.tier, row.journey) == (Priority.URGENT, "gold", "return")


@pytest.mark.parametrize("label", [CaseClassified, CaseFlagged, CaseReranked])
def test_what_is_said_about_a_case_is_no_work_on_it(label: type[CaseEvent]) -> None:
    happened = (OPENED, QUEUED, ASSIGNED, RESOLVED)
    row = facts(*happened, said_by("agent:ben", an(label)))

    assert (row.steps, row.last_at, row.agents) == (4, after(minutes=3), ("anna",))
    assert row.solved_alone is YES


def test_returned_escalations_are_counted() -> None:
    twice = (an(CaseEscalated), an(EscalationReturned), an(CaseEscalated, escalation_id="another"))

    assert (facts(OPENED, *twice).escalations, facts(OPENED, *twice).escalations_returned) == (2, 1)


def test_pauses_that_ignored_the_customer_are_counted_when_they_end_and_anew_when_they_are_told_anew() -> None:
    resumed = an(ClockResumed, clock=ClockKind.HANDLING, ignored_s=60)
    stopped = an(ClockStopped, clock=ClockKind.HANDLING, ignored_s=30)
    pause = {"since": START, "until": after(hours=1), "reason": "waiting_partner"}
    account = {"started_at": START, "spans": [{"since": START}]}
    restated = an(
        ClockRestated,
        clock=ClockKind.HANDLING,
        before=account | {"pauses": [pause | {"ignored_s": 60}, pause | {"ignored_s": 30}]},
        after=account | {"pauses": [pause | {"ignored_s": 600}]},
    )

    assert facts(OPENED, resumed, an(ClockResumed, clock=ClockKind.REQUESTER_WAIT, ignored_s=60)).ignored_s == 60
    assert facts(OPENED, resumed, stopped).ignored_s == 90
    assert facts(OPENED, resumed, stopped, restated).ignored_s == 600


def test_a_cancelled_clock_says_no_where_it_was_late_and_nothing_else() -> None:
    started = an(ClockStarted, clock=ClockKind.RESOLUTION)
    late, void = (an(ClockCancelled, clock=ClockKind.RESOLUTION, turn=0, kept=kept) for kept in (False, None))
    breached = an(ClockBreached, clock=ClockKind.RESOLUTION)

    assert facts(OPENED, started, breached, late).in_time is NO
    assert facts(OPENED, started, breached, void).in_time is UNKNOWN


def test_a_release_of_an_open_case_is_a_step() -> None:
    assert facts(OPENED, QUEUED, ASSIGNED, an(CaseReleased)).steps == 4


def test_durations_are_whole_microseconds() -> None:
    row = facts((OPENED, START), (QUEUED, after(microseconds=7)), (ASSIGNED, after(days=400, microseconds=9)))

    assert row.duration_us == 400 * 86_400_000_000 + 9
    assert row.longest_gap_us == 400 * 86_400_000_000 + 2


def test_a_handover_is_a_change_of_unit_between_steps_that_say_where_the_case_is() -> None:
    row = facts(
        OPENED,
        QUEUED,
        ASSIGNED,
        an(MessageSent),
        an(CaseTransferred),
        an(CaseReleased),
        AT_BACK_END,
        an(CaseHandedOver, unit_id="parcels"),
        QUEUED,
    )

    assert row.handovers == 2
    assert row.units == ("general", "parcels")


def test_observed_handovers_are_changes_of_team() -> None:
    teams = ["V1", "V1", "V5 3rd", None, "V5 3rd", "V1"]
    row = facts(*(observed(unit=unit, ordinal=n) for n, unit in enumerate(teams, 1)))

    assert row.handovers == 2


def test_rows_of_one_instant_are_walked_in_the_order_of_their_ordinal() -> None:
    row = facts((observed(unit="V2", ordinal=2), START), (observed(unit="V1", ordinal=1), START))

    assert row.units == ("V1", "V2")


# ------------------------------------------------------------------------------------------------------- resolutions


def test_resolved_and_then_closed_is_one_resolution() -> None:
    row = facts(
        observed(ordinal=1),
        observed(ordinal=2, category=Category.RESOLVED, resolution=True),
        observed(ordinal=3, category=Category.CLOSED, resolution=True),
    )

    assert (row.resolutions, row.resolved_at, row.reopened) == (1, after(minutes=1), False)


@pytest.mark.parametrize("category", [c for c in Category if c not in (Category.RESOLVED, Category.CLOSED)])
def test_any_open_category_after_a_resolution_is_a_reopening(category: Category) -> None:
    row = facts(observed(ordinal=1, category=Category.CLOSED, resolution=True), observed(ordinal=2, category=category))

    assert (row.reopened, row.resolved, row.resolutions) == (True, False, 1)


def test_open_again_after_an_end_that_was_no_resolution_is_no_reopening() -> None:
    row = facts(observed(ordinal=1, category=Category.CLOSED, resolution=False), observed(ordinal=2))

    assert not row.reopened


def test_first_and_last_resolution_are_kept_apart() -> None:
    row = facts(OPENED, RESOLVED, REOPENED, RESOLVED_AGAIN, an(CaseClosed, episode=2))

    assert (row.resolutions, row.reopened, row.episode) == (2, True, 2)
    assert (row.first_resolved_at, row.resolved_at) == (after(minutes=1), after(minutes=3))


def test_a_resolved_case_that_is_taken_over_is_open_again() -> None:
    row = facts(observed(ordinal=1, category=Category.RESOLVED, resolution=True), an(CaseTakenOver, episode=2))

    assert (row.reopened, row.category) == (True, Category.IN_PROGRESS)


def test_another_systems_late_row_is_a_step_that_moves_no_live_case() -> None:
    late = {"category": Category.CLOSED, "resolution": True, "unit": "V9", "line": "3", "market": "fr", "agent": "a9"}
    row = facts(observed(ordinal=1, market="de"), an(CaseTakenOver, market="de"), observed(ordinal=2, **late))

    assert (row.category, row.market, row.units, row.first_line) == (Category.IN_PROGRESS, "de", ("V1",), YES)
    assert (row.resolved, row.resolutions, row.handovers, row.steps) == (False, 0, 0, 3)


# --------------------------------------------------------------------------------------------------- first response


def test_the_first_response_is_the_first_public_message_of_a_human() -> None:
    row = facts(
        (OPENED, START),
        (an(MessageSent, automatic=True), after(seconds=1)),
        (an(MessageSent, visibility="internal"), after(seconds=20)),
        (an(MessageSent), after(seconds=90)),
        (an(MessageSent), after(seconds=300)),
    )

    assert (row.first_response_us, row.first_response_at) == (90_000_000, after(seconds=90))


def test_an_imported_case_has_no_first_response() -> None:
    assert facts(observed(), an(CaseTakenOver), an(MessageSent)).first_response_us is None


# ------------------------------------------------------------------------------------------------- resolved in time?

RESOLUTION = {"clock": ClockKind.RESOLUTION}
STARTED, BREACHED = an(ClockStarted, **RESOLUTION), an(ClockBreached, **RESOLUTION)
KEPT, LATE = an(ClockStopped, **RESOLUTION, kept=True), an(ClockStopped, **RESOLUTION, kept=False)
STARTED_2, KEPT_2 = an(ClockStarted, **RESOLUTION, episode=2), an(ClockStopped, **RESOLUTION, kept=True, episode=2)
BREACHED_2 = an(ClockBreached, **RESOLUTION, episode=2)


@pytest.mark.parametrize(
    ("happened", "answer"),
    [
        ([OPENED], UNKNOWN),
        ([OPENED, STARTED], UNKNOWN),
        ([OPENED, STARTED, RESOLVED], UNKNOWN),
        ([OPENED, STARTED, RESOLVED, KEPT], YES),
        ([OPENED, STARTED, BREACHED], NO),
        ([OPENED, STARTED, BREACHED, RESOLVED, LATE], NO),
        # Stopped before the due time, noticed after it: what the clock says when it stops is the last word.
        ([OPENED, STARTED, KEPT, BREACHED], YES),
        ([OPENED, STARTED, BREACHED, KEPT], YES),
        # A response in time is no resolution in time.
        ([OPENED, STARTED, an(ClockStopped, clock=ClockKind.FIRST_RESPONSE, kept=True)], UNKNOWN),
        # Only the last episode counts.
        ([OPENED, STARTED, LATE, REOPENED], UNKNOWN),
        ([OPENED, STARTED, KEPT, REOPENED, STARTED_2], UNKNOWN),
        ([OPENED, STARTED, LATE, REOPENED, STARTED_2, KEPT_2], YES),
        ([OPENED, STARTED, KEPT, REOPENED, STARTED_2, BREACHED_2], NO),
        ([OPENED, STARTED, REOPENED, STARTED_2, KEPT_2, BREACHED], YES),
    ],
)
def test_in_time_is_what_the_last_episodes_resolution_clock_says(happened: list[CaseEvent], answer: Verdict) -> None:
    assert facts(*happened).in_time is answer


@pytest.mark.parametrize(
    ("happened", "answer"),
    [
        ([], UNKNOWN),
        ([an(ClockStopped, kept=True)], YES),
        ([an(ClockStopped, kept=False)], NO),
        ([an(ClockBreached, clock=ClockKind.FIRST_RESPONSE)], NO),
        ([an(ClockStopped, kept=True), an(ClockBreached, clock=ClockKind.FIRST_RESPONSE)], YES),
        ([KEPT], UNKNOWN),
    ],
)
def test_the_first_response_is_in_time_when_its_own_clock_says_so(happened: list[CaseEvent], answer: Verdict) -> None:
    assert facts(OPENED, *happened).response_kept is answer


# --------------------------------------------------------------------------------------------------------- acceptable?


def survey(**answers: Any) -> FeedbackReceived:
    return an(FeedbackReceived, **{"accepted": None, "csat": None, "nps": None, **answers})


@pytest.mark.parametrize(
    ("happened", "answer"),
    [
        ([], UNKNOWN),
        ([survey()], UNKNOWN),
        ([survey(accepted=True)], YES),
        ([survey(accepted=False)], NO),
        ([survey(accepted=True, csat=1)], YES),
        ([survey(accepted=False, csat=5)], NO),
        *(([survey(csat=csat)], answer) for csat, answer in ((1, NO), (2, NO), (3, UNKNOWN), (4, YES), (5, YES))),
        # Recommending is another question.
        ([survey(nps=10)], UNKNOWN),
        # A later answer completes or replaces an earlier one.
        ([survey(accepted=False), survey(csat=5)], NO),
        ([survey(accepted=False), survey(accepted=True)], YES),
        ([survey(csat=5), survey(nps=0)], YES),
        # Only the last episode counts, and silence about it is no answer.
        ([survey(accepted=True), REOPENED], UNKNOWN),
        ([survey(accepted=True), REOPENED, RESOLVED_AGAIN], UNKNOWN),
        ([survey(accepted=False), REOPENED, RESOLVED_AGAIN, survey(accepted=True, episode=2)], YES),
        ([REOPENED, RESOLVED_AGAIN, survey(csat=1, episode=2), survey(csat=5, episode=1)], NO),
    ],
)
def test_accepted_is_what_the_customer_said_about_the_last_episode(happened: list[CaseEvent], answer: Verdict) -> None:
    assert facts(OPENED, RESOLVED, *happened).accepted is answer


# ------------------------------------------------------------------------------------------------------- solved alone?


@pytest.mark.parametrize(
    ("happened", "answer"),
    [
        ([QUEUED, ASSIGNED], UNKNOWN),
        ([QUEUED, ASSIGNED, RESOLVED], YES),
        ([QUEUED, ASSIGNED, RESOLVED, CLOSED], YES),
        ([QUEUED, ASSIGNED, RESOLVED, REOPENED], UNKNOWN),
        ([QUEUED, ASSIGNED, RESOLVED, REOPENED, RESOLVED_AGAIN], YES),
        # Nobody of ours had it: a machine or the customer ended it.
        ([QUEUED, RESOLVED], UNKNOWN),
        ([QUEUED, ASSIGNED, an(CaseAssigned, agent_id="bert"), RESOLVED], NO),
        ([QUEUED, ASSIGNED, an(CaseQueued, queue_id="second", unit_id="second"), RESOLVED], NO),
        ([AT_BACK_END, an(CaseAssigned, unit_id="parcels", unit_kind=UnitKind.BACK_END), RESOLVED], NO),
        ([QUEUED, ASSIGNED, an(CaseHandedOver), RESOLVED], NO),
        ([QUEUED, ASSIGNED, an(CaseEscalated), RESOLVED], NO),
        ([QUEUED, ASSIGNED, CLOSED], UNKNOWN),
        # Whoever did something about it had a part in it; bringing in what the customer said is none.
        ([QUEUED, ASSIGNED, said_by("agent:bert", an(MessageSent, visibility="internal")), RESOLVED], NO),
        ([QUEUED, ASSIGNED, said_by("agent:anna", an(MessageSent)), RESOLVED], YES),
        ([QUEUED, ASSIGNED, said_by("agent:bert", an(MessageReceived)), RESOLVED], YES),
        ([QUEUED, ASSIGNED, said_by("key:mail", an(MessageSent)), RESOLVED], YES),
    ],
)
def test_solved_alone_is_one_agent_of_one_first_line_unit(happened: list[Happened], answer: Verdict) -> None:
    times = [(item, after(minutes=2 * n)) for n, item in enumerate([OPENED, *happened]) if isinstance(item, CaseEvent)]
    given = [item for item in happened if isinstance(item, Recorded)]

    assert facts(*history(*times, *given)).solved_alone is answer


SOLVED: dict[str, Any] = {"ordinal": 2, "category": Category.RESOLVED, "resolution": True}


@pytest.mark.parametrize(
    ("happened", "answer"),
    [
        ([observed(), observed(**SOLVED)], YES),
        ([observed(agent=None), observed(**SOLVED)], YES),
        ([observed(), observed(**SOLVED, agent="a2")], NO),
        ([observed(), observed(**SOLVED, unit="V2")], NO),
        ([observed(line="2"), observed(**SOLVED, line="2")], NO),
        # The log does not say which line the team belongs to, or who it was.
        ([observed(line=None), observed(**SOLVED)], UNKNOWN),
        ([observed(agent=None), observed(**SOLVED, agent=None)], UNKNOWN),
        ([observed(), observed(ordinal=2)], UNKNOWN),
    ],
)
def test_an_observed_case_is_solved_alone_by_the_same_rule(happened: list[CaseEvent], answer: Verdict) -> None:
    assert facts(*happened).solved_alone is answer


# ---------------------------------------------------------------------------------------- escalated? first line alone?


@pytest.mark.parametrize(
    ("happened", "answer"),
    [
        ([OPENED], NO),
        ([OPENED, an(CaseEscalated)], YES),
        ([OPENED, an(CaseEscalated), RESOLVED, REOPENED], YES),
        ([observed()], UNKNOWN),
        ([observed(), an(CaseTakenOver)], UNKNOWN),
        ([observed(), an(CaseTakenOver), an(CaseEscalated)], YES),
        ([STARTED], UNKNOWN),
    ],
)
def test_escalated_is_known_of_live_cases_only(happened: list[CaseEvent], answer: Verdict) -> None:
    assert facts(*happened).escalated is answer


@pytest.mark.parametrize(
    ("happened", "answer"),
    [
        ([OPENED], None),
        ([OPENED, QUEUED, ASSIGNED], YES),
        ([OPENED, QUEUED, an(CaseQueued, unit_id="second")], YES),
        ([OPENED, AT_BACK_END, QUEUED], NO),
        ([OPENED, QUEUED, an(CaseHandedOver)], NO),
        ([OPENED, QUEUED, an(CaseEscalated)], NO),
        ([observed(), observed(ordinal=2, unit="V2")], YES),
        ([observed(), observed(ordinal=2, line="2/3")], NO),
        ([observed(), observed(ordinal=2, line=None)], UNKNOWN),
        ([observed(line=None), observed(ordinal=2, line="2")], NO),
        ([observed(), observed(ordinal=2, line=None, unit=None)], YES),
    ],
)
def test_first_line_alone_needs_every_unit_to_be_a_first_line_one(
    happened: list[CaseEvent], answer: Verdict | None
) -> None:
    assert facts(*happened).first_line is answer
