"""Clocks: what starts and stops them, what fires, and that the verdict goes by event time."""

from datetime import datetime, timedelta

from hypothesis import given as for_all
from hypothesis import strategies as st

from events.case import (
    CaseOpened,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    ClockBreached,
    ClockKind,
    ClockStarted,
    ClockStopped,
    ClockWarned,
    MessageSent,
    Priority,
)
from events.store import New
from events.testing import CASE_ID, START, Given, firing, folding, given, reacting
from services.escalation import clocks
from services.escalation.clocks import Clock, ClockState, Promise
from services.escalation.decide.case import FOLD, Case
from services.escalation.react.clocks import REACTOR, TIMERS
from services.escalation.service import STANDARD_PROMISE
from services.escalation.views.clocks import CLOCKS, CaseClocks
from tests.given import an

PROMISE = Promise("standard@1", STANDARD_PROMISE)
HOUR = timedelta(hours=1)

FIRST = ClockStarted(
    clock=ClockKind.FIRST_RESPONSE,
    episode=1,
    promise="standard@1",
    calendar="always@1",
    target_s=3600,
    warn_at=START + timedelta(minutes=45),
    due_at=START + HOUR,
)
RESOLUTION = ClockStarted(
    clock=ClockKind.RESOLUTION,
    episode=1,
    promise="standard@1",
    calendar="always@1",
    target_s=8 * 3600,
    warn_at=START + 6 * HOUR,
    due_at=START + 8 * HOUR,
)
BOTH = ((FIRST, START), (RESOLUTION, START))


def stopped(kind: ClockKind, elapsed_s: int, kept: bool, episode: int = 1) -> ClockStopped:
    target = FIRST if kind is ClockKind.FIRST_RESPONSE else RESOLUTION
    return ClockStopped(
        clock=kind, episode=episode, promise="standard@1", due_at=target.due_at, elapsed_s=elapsed_s, kept=kept
    )


def breached(started: ClockStarted) -> ClockBreached:
    return ClockBreached(clock=started.clock, episode=started.episode, promise=started.promise, due_at=started.due_at)


# --------------------------------------------------------------------------------------------------- start and stop


def test_an_opened_case_gets_a_clock_for_the_first_response_and_one_for_the_resolution() -> None:
    opened = an(CaseOpened, priority=Priority.HIGH)
    reacting(REACTOR).to((opened, START), looked=PROMISE).then(
        New(FIRST, occurred_at=START), New(RESOLUTION, occurred_at=START)
    )


def test_a_clock_starts_when_the_customer_came_in_not_when_we_heard_of_it() -> None:
    opened = an(CaseOpened, priority=Priority.HIGH)
    decided = reacting(REACTOR).to((opened, START), looked=PROMISE, now=START + 9 * HOUR)
    decided.then(New(FIRST, occurred_at=START), New(RESOLUTION, occurred_at=START))


def test_the_target_goes_by_the_case_priority() -> None:
    opened = an(CaseOpened, priority=Priority.URGENT)
    started = reacting(REACTOR).to(opened, looked=PROMISE).events
    assert [event.target_s for event in started if isinstance(event, ClockStarted)] == [15 * 60, 4 * 3600]


def test_a_taken_over_case_gets_the_clocks_of_its_episode() -> None:
    taken_over = an(CaseTakenOver, episode=3, priority=Priority.HIGH)
    started = reacting(REACTOR).to(taken_over, looked=PROMISE).events
    assert [(event.clock, event.episode) for event in started if isinstance(event, ClockStarted)] == [
        (ClockKind.FIRST_RESPONSE, 3),
        (ClockKind.RESOLUTION, 3),
    ]


def test_where_nothing_is_promised_no_clock_runs() -> None:
    reacting(REACTOR).to(an(CaseOpened), looked=None).nothing()


def test_a_public_answer_by_a_person_stops_the_first_response() -> None:
    answer = an(MessageSent, visibility="public", automatic=False)
    at = START + timedelta(seconds=90.9)
    reacting(REACTOR, *BOTH).to((answer, at), looked=PROMISE).then(
        New(stopped(ClockKind.FIRST_RESPONSE, 90, kept=True), occurred_at=at)
    )


def test_an_internal_note_is_no_first_response() -> None:
    note = an(MessageSent, visibility="internal", automatic=False, waits_for=None)
    reacting(REACTOR, *BOTH).to(note, looked=PROMISE).nothing()


def test_an_automatic_acknowledgement_is_no_first_response() -> None:
    reacting(REACTOR, *BOTH).to(an(MessageSent, automatic=True), looked=PROMISE).nothing()


def test_a_second_answer_stops_nothing() -> None:
    answered = (stopped(ClockKind.FIRST_RESPONSE, 60, kept=True), START + timedelta(minutes=1))
    reacting(REACTOR, *BOTH, answered).to(an(MessageSent), looked=PROMISE).nothing()


def test_the_resolution_is_also_the_first_response_when_there_was_none() -> None:
    at = START + timedelta(minutes=30)
    reacting(REACTOR, *BOTH).to((an(CaseResolved), at), looked=PROMISE).then(
        New(stopped(ClockKind.FIRST_RESPONSE, 1800, kept=True), occurred_at=at),
        New(stopped(ClockKind.RESOLUTION, 1800, kept=True), occurred_at=at),
    )


def test_what_happens_exactly_at_the_due_time_is_in_time() -> None:
    at = FIRST.due_at
    reacting(REACTOR, *BOTH).to((an(MessageSent), at), looked=PROMISE).then(
        New(stopped(ClockKind.FIRST_RESPONSE, 3600, kept=True), occurred_at=at)
    )


def test_a_late_answer_breaches_its_clock_although_the_timer_has_not_fired() -> None:
    at = START + 2 * HOUR
    reacting(REACTOR, *BOTH).to((an(MessageSent), at), looked=PROMISE).then(
        New(breached(FIRST), occurred_at=FIRST.due_at, id=breach_id(FIRST)),
        New(stopped(ClockKind.FIRST_RESPONSE, 7200, kept=False), occurred_at=at),
    )


def test_a_fact_that_comes_after_the_breach_but_happened_before_it_keeps_the_promise() -> None:
    at = START + timedelta(minutes=10)
    told = reacting(REACTOR, *BOTH, (breached(FIRST), FIRST.due_at)).to((an(MessageSent), at), looked=PROMISE)
    told.then(New(stopped(ClockKind.FIRST_RESPONSE, 600, kept=True), occurred_at=at))
    clock = told.after.state.clocks[0]
    assert (clock.state, clock.kept) == (ClockState.STOPPED, True)


def test_an_answer_before_the_clock_started_took_no_time() -> None:
    at = START - HOUR
    reacting(REACTOR, *BOTH).to((an(MessageSent), at), looked=PROMISE).then(
        New(stopped(ClockKind.FIRST_RESPONSE, 0, kept=True), occurred_at=at)
    )


# ----------------------------------------------------------------------------------------------------------- reopening


def test_a_reopened_case_gets_a_resolution_clock_of_the_promise_it_had() -> None:
    resolved = (stopped(ClockKind.RESOLUTION, 60, kept=True), START + timedelta(minutes=1))
    at = START + 24 * HOUR
    again = RESOLUTION.model_copy(update={"episode": 2, "warn_at": at + 6 * HOUR, "due_at": at + 8 * HOUR})
    reacting(REACTOR, *BOTH, resolved).to((an(CaseReopened, episode=2), at), looked=PROMISE).then(
        New(again, occurred_at=at)
    )


def test_reopening_an_episode_whose_clock_runs_starts_no_second_one() -> None:
    reacting(REACTOR, *BOTH).to(an(CaseReopened, episode=2), looked=PROMISE).nothing()
    second = an(ClockStarted, episode=2)
    reacting(REACTOR, second).to(an(CaseReopened, episode=2), looked=PROMISE).nothing()


def test_a_resolution_of_an_earlier_episode_does_not_stop_a_later_clock() -> None:
    second = an(ClockStarted, episode=2)
    reacting(REACTOR, second).to(an(CaseResolved, episode=1), looked=PROMISE).nothing()


# -------------------------------------------------------------------------------------------------------------- timers


def breach_id(started: ClockStarted) -> str | None:
    return clocks.breach(clocks.started(CASE_ID, started, START)).id


def test_nothing_fires_before_its_time() -> None:
    firing(TIMERS, *BOTH).at(FIRST.warn_at - timedelta(microseconds=1)).nothing()


def test_a_clock_warns_at_its_percentage_as_of_that_moment() -> None:
    warned = ClockWarned(clock=ClockKind.FIRST_RESPONSE, episode=1, percent=75, due_at=FIRST.due_at)
    firing(TIMERS, *BOTH).at(FIRST.warn_at, now=FIRST.warn_at + timedelta(seconds=3)).then(
        New(warned, occurred_at=FIRST.warn_at)
    )


def test_a_breach_occurs_at_the_due_time_whenever_it_is_noticed() -> None:
    warned = (an(ClockWarned, clock=ClockKind.FIRST_RESPONSE, due_at=FIRST.due_at), FIRST.warn_at)
    firing(TIMERS, *BOTH, warned).at(FIRST.due_at, now=FIRST.due_at + timedelta(minutes=3)).then(
        New(breached(FIRST), occurred_at=FIRST.due_at)
    )


def test_a_case_that_came_in_beyond_its_due_times_breaches_at_once() -> None:
    firing(TIMERS, *BOTH).at(START + 100 * HOUR).then_types(ClockWarned, ClockBreached, ClockWarned, ClockBreached)


def test_a_stopped_clock_fires_no_more() -> None:
    ends = [(stopped(kind, 60, kept=True), START + timedelta(minutes=1)) for kind in ClockKind]
    firing(TIMERS, *BOTH, *ends).at(START + 100 * HOUR).nothing()


def test_an_obligation_has_one_id_whoever_says_it() -> None:
    by_timer = firing(TIMERS, (FIRST, START)).at(FIRST.due_at).items
    by_late_stop = reacting(REACTOR, (FIRST, START)).to((an(MessageSent), START + 2 * HOUR), looked=PROMISE).items
    (timer_id,) = [item.id for item in by_timer if isinstance(item.event, ClockBreached)]
    (stop_id,) = [item.id for item in by_late_stop if isinstance(item.event, ClockBreached)]
    assert timer_id == stop_id is not None


moments = st.integers(min_value=0, max_value=3 * 3600 * 1_000_000).map(lambda us: START + timedelta(microseconds=us))


@for_all(stop_at=moments, marks=st.lists(moments, max_size=4), heard_after=st.integers(0, 4))
def test_the_verdict_goes_by_event_time_however_stop_and_timer_interleave(
    stop_at: datetime, marks: list[datetime], heard_after: int
) -> None:
    """The answer is heard before, between or after the timers, which fire at ever later marks."""
    case: Given[Case] = given(FOLD, (FIRST, START))
    for turn, mark in enumerate([*sorted(marks), START + 4 * HOUR]):
        if turn == min(heard_after, len(marks)):
            now = max(stop_at, mark)
            case = case.when(lambda now, state: clocks.stop(state.clocks[0], stop_at), now=now).after
        case = case.when(lambda now, state, mark=mark: TIMERS.fire(mark, now, state), now=mark).after
    clock = case.state.clocks[0]
    ids = [event.id for event in case.events if isinstance(event.data, ClockBreached)]
    in_time = stop_at <= FIRST.due_at
    assert clock.kept is in_time
    assert len(ids) <= 1
    assert in_time or len(ids) == 1
    assert sum(isinstance(event.data, ClockStopped) for event in case.events) == 1
    assert clock.elapsed_s(START + 4 * HOUR) == (stop_at - START) // timedelta(seconds=1)
    assert clock.remaining_s(START + 4 * HOUR) >= 0


@for_all(
    target_s=st.integers(1, 366 * 86_400),
    percent=st.integers(1, 99),
    priority=st.sampled_from(Priority),
    kind=st.sampled_from(ClockKind),
)
def test_a_clock_warns_after_its_percentage_of_any_target(
    target_s: int, percent: int, priority: Priority, kind: ClockKind
) -> None:
    targets = tuple(target.model_copy(update={"target_s": target_s}) for target in STANDARD_PROMISE.targets)
    content = STANDARD_PROMISE.model_copy(update={"targets": targets, "warn_percent": percent})
    (new,) = clocks.start(Promise("standard@2", content), kind, priority, 1, START)
    clock = given(FOLD, new).state.clocks[0]
    assert START < clock.warn_at < clock.due_at == START + timedelta(seconds=target_s)
    warned = clocks.warn(clock).event
    assert isinstance(warned, ClockWarned)
    assert warned.percent == percent


def test_a_running_clock_says_how_much_time_is_left_and_never_less_than_none() -> None:
    clock: Clock = given(FOLD, (FIRST, START)).state.clocks[0]
    assert (clock.elapsed_s(START + HOUR / 4), clock.remaining_s(START + HOUR / 4)) == (900, 2700)
    assert (clock.elapsed_s(START + 2 * HOUR), clock.remaining_s(START + 2 * HOUR)) == (7200, 0)
    assert (clock.state, clock.kept) == (ClockState.RUNNING, None)


# ------------------------------------------------------------------------------------------------------- deadlines view


def test_a_case_is_due_at_the_earliest_thing_its_clocks_owe() -> None:
    folding(CLOCKS, *BOTH).row_is(
        CaseClocks(CASE_ID, FIRST.warn_at, FIRST.warn_at, FIRST.due_at, RESOLUTION.warn_at, RESOLUTION.due_at)
    )


def test_what_a_clock_has_said_it_does_not_owe_any_more() -> None:
    warned = an(ClockWarned, clock=ClockKind.FIRST_RESPONSE, due_at=FIRST.due_at)
    folding(CLOCKS, *BOTH, warned).row_is(
        CaseClocks(CASE_ID, FIRST.due_at, None, FIRST.due_at, RESOLUTION.warn_at, RESOLUTION.due_at)
    )
    folding(CLOCKS, *BOTH, warned, breached(FIRST)).row_is(
        CaseClocks(CASE_ID, RESOLUTION.warn_at, None, None, RESOLUTION.warn_at, RESOLUTION.due_at)
    )


def test_a_case_whose_clocks_owe_nothing_has_no_row() -> None:
    ends = [stopped(kind, 60, kept=True) for kind in ClockKind]
    folding(CLOCKS, *BOTH, *ends).row_is(None)


@for_all(data=st.data())
def test_the_row_is_due_exactly_when_the_next_obligation_of_the_stream_is(data: st.DataObject) -> None:
    """Whatever has fired and stopped: firing at the row's due time says something, and a moment before, nothing."""
    case = given(FOLD, *BOTH)
    for mark in sorted(data.draw(st.lists(moments, max_size=3))):
        case = case.when(lambda now, state, mark=mark: TIMERS.fire(mark, now, state), now=mark).after
    for clock in data.draw(st.sets(st.sampled_from(range(2)))):
        case = case.when(lambda now, state, n=clock: clocks.stop(state.clocks[n], START + HOUR)).after
    row = folding(CLOCKS, *case.events).row()
    if row is None or row.due_at is None:
        assert TIMERS.fire(START + 1000 * HOUR, START, case.state) == []
    else:
        assert TIMERS.fire(row.due_at, START, case.state) != []
        assert TIMERS.fire(row.due_at - timedelta(microseconds=1), START, case.state) == []
