"""The life of a case: which moves there are, and which are refused with which reason."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given as generated
from hypothesis import strategies as st

from events.case import (
    CaseClosed,
    CaseObserved,
    CaseOpened,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    Category,
    FeedbackReceived,
    MessageReceived,
    MessageSent,
    Priority,
)
from events.errors import Invalid, Refused, Unknown
from events.event import Event
from events.personal import Clear, personal_fields
from events.store import New
from events.testing import CASE_ID, START, Given, given
from services.intake.decide import cases
from services.intake.decide.cases import FOLD, Message, Row
from tests.given import CUSTOMER, an

HOUR = timedelta(hours=1)
OPENED = an(CaseOpened)
RESOLVED = an(CaseResolved)
REOPENED = an(CaseReopened)
CLOSED = an(CaseClosed)
WORKING = an(CaseObserved, ordinal=1, category=Category.IN_PROGRESS)
DONE = an(CaseObserved, ordinal=2, category=Category.RESOLVED, resolution=True)


def received(text: str = "Any news?", message_id: str = "m-9", at: datetime | None = None) -> partial[list[New]]:
    return partial(cases.receive, Message(message_id, text), at)


def sent(at: datetime | None = None, **more: object) -> partial[list[New]]:
    return partial(cases.send, Message("m-9", "Here it is.", **more), at)  # type: ignore[arg-type]


def resolved(code: str | None = None, at: datetime | None = None) -> partial[list[New]]:
    return partial(cases.resolve, "agent", code, at)


def reopened(reason: str = "it broke again", at: datetime | None = None) -> partial[list[New]]:
    return partial(cases.reopen, reason, at)


def closed(reason: str = "closed", at: datetime | None = None) -> partial[list[New]]:
    return partial(cases.close, reason, at)


def judged(
    episode: int | None = None, accepted: bool | None = True, csat: int | None = None, nps: int | None = None
) -> partial[list[New]]:
    return partial(cases.feedback, episode, accepted, csat, nps, None)


# --------------------------------------------------------------------------------------------------------- opening


def test_a_contact_opens_a_case_when_the_customer_came_in() -> None:
    came_in = START - HOUR

    given(FOLD).when(partial(cases.open_case, OPENED, came_in), now=START).then(New(OPENED, came_in))


def test_a_contact_without_a_time_came_in_now() -> None:
    given(FOLD).when(partial(cases.open_case, OPENED, None), now=START).then(New(OPENED, START))


def test_a_clock_a_little_ahead_of_ours_means_now() -> None:
    ahead = START + timedelta(minutes=5)

    given(FOLD).when(partial(cases.open_case, OPENED, ahead), now=START).then(New(OPENED, START))


def test_a_clock_far_ahead_of_ours_is_left_for_the_store_to_refuse() -> None:
    ahead = START + timedelta(minutes=5, seconds=1)

    given(FOLD).when(partial(cases.open_case, OPENED, ahead), now=START).then(New(OPENED, ahead))


def test_a_case_that_exists_is_not_opened_over() -> None:
    error = given(FOLD, OPENED).when(partial(cases.open_case, OPENED, None)).rejects(cases.Known)

    assert error.facts == {"case_id": CASE_ID}


NAMED = an(
    CaseOpened, customer_name=Clear(CUSTOMER, "Kim Ünal"), customer_email=Clear(CUSTOMER, "kim@customer.example")
)
UNNAMED = an(CaseOpened, customer_name=None, customer_email=None)


def texts(opened: CaseOpened) -> dict[str, str]:
    """The event's personal texts as they are read back."""
    clear = {name: getattr(opened, name) for name in personal_fields(CaseOpened)}
    return {name: text.text for name, text in clear.items() if text is not None}


@pytest.mark.parametrize("opened", [NAMED, UNNAMED])
def test_the_same_contact_with_the_same_content_opens_nothing(opened: CaseOpened) -> None:
    given(FOLD, opened).when(partial(cases.open_again, opened), looked=texts(opened)).nothing()


@pytest.mark.parametrize(
    "other",
    [
        {"market": "fr"},
        {"language": "en"},
        {"journey": "billing"},
        {"priority": Priority.LOW},
        {"tier": "silver"},
        {"to": "other@shop.example"},
        {"customer_ref": "someone-else"},
        {"customer_name": Clear(CUSTOMER, "Kim Lee")},
        {"customer_name": None},
        {"customer_email": Clear(CUSTOMER, "kim@elsewhere.example")},
        {"customer_email": None},
        {"title": Clear(CUSTOMER, "Another title")},
        {"body": Clear(CUSTOMER, "Another body")},
    ],
)
def test_the_same_contact_with_other_content_is_refused_and_names_the_case(other: dict[str, object]) -> None:
    again = partial(cases.open_again, NAMED.model_copy(update=other))

    error = given(FOLD, NAMED).when(again, looked=texts(NAMED)).rejects(Refused, CASE_ID)

    assert error.facts == {"case_id": CASE_ID}


@pytest.mark.parametrize("name", ["customer_name", "customer_email"])
def test_the_same_contact_with_a_name_it_did_not_have_is_refused(name: str) -> None:
    again = partial(cases.open_again, UNNAMED.model_copy(update={name: getattr(NAMED, name)}))

    given(FOLD, UNNAMED).when(again, looked=texts(UNNAMED)).rejects(Refused, CASE_ID)


# -------------------------------------------------------------------------------------------------------- messages


def test_a_customers_message_is_recorded_under_the_customers_own_key() -> None:
    given(FOLD, OPENED).when(received("Any news?")).then(
        MessageReceived(message_id="m-9", channel="email", body=Clear(CUSTOMER, "Any news?"))
    )


def test_an_answer_goes_out_on_the_cases_channel_unless_another_is_named() -> None:
    (by_mail,) = given(FOLD, OPENED).when(sent()).events
    (by_phone,) = given(FOLD, OPENED).when(sent(channel="phone")).events

    assert isinstance(by_mail, MessageSent)
    assert isinstance(by_phone, MessageSent)
    assert (by_mail.channel, by_phone.channel) == ("email", "phone")


def test_an_answer_says_who_may_read_it_and_whom_the_case_waits_for() -> None:
    given(FOLD, OPENED).when(sent(visibility="internal", automatic=True, waits_for="internal")).then(
        MessageSent(
            message_id="m-9",
            channel="email",
            visibility="internal",
            automatic=True,
            waits_for="internal",
            body=Clear(CUSTOMER, "Here it is."),
        )
    )


@pytest.mark.parametrize("message", [received(), sent()])
def test_a_message_is_recorded_once(message: partial[list[New]]) -> None:
    given(FOLD, OPENED).when(message).after.when(message).nothing()


@pytest.mark.parametrize("message", [received(), sent()])
def test_a_message_on_a_closed_case_is_refused_with_the_way_out(message: partial[list[New]]) -> None:
    given(FOLD, OPENED, RESOLVED, CLOSED).when(message).rejects(Refused, "open a new case")


def test_a_customers_message_reopens_a_resolved_case() -> None:
    given(FOLD, OPENED, RESOLVED).when(received()).then_types(CaseReopened, MessageReceived)


def test_the_episode_a_message_begins_is_the_next_one() -> None:
    (reopening, _) = given(FOLD, OPENED, RESOLVED, REOPENED, an(CaseResolved, episode=2)).when(received()).events

    assert reopening == CaseReopened(episode=3, reason="the customer wrote again")


def test_a_message_written_before_the_resolution_reopens_the_case_when_we_hear_of_it() -> None:
    written, now = START + timedelta(minutes=1), START + HOUR
    history = (OPENED, (RESOLVED, START + timedelta(minutes=30)))

    given(FOLD, *history).when(received(at=written), now=now).then(
        New(CaseReopened(episode=2, reason="the customer wrote again"), now),
        New(MessageReceived(message_id="m-9", channel="email", body=Clear(CUSTOMER, "Any news?")), written),
    )


def test_an_answer_on_a_resolved_case_leaves_it_resolved() -> None:
    given(FOLD, OPENED, RESOLVED).when(sent()).then_types(MessageSent)


def test_nothing_was_said_on_a_case_before_it_began() -> None:
    given(FOLD, OPENED).when(received(at=START - HOUR)).rejects(Invalid, "2026-03-02T09:00:00Z")


# --------------------------------------------------------------------------------------- resolve, reopen and close


def test_an_open_case_is_resolved_in_its_episode() -> None:
    given(FOLD, OPENED).when(resolved("refunded")).then(CaseResolved(episode=1, by="agent", code="refunded"))
    given(FOLD, OPENED, RESOLVED, REOPENED).when(resolved()).then(CaseResolved(episode=2, by="agent", code="solved"))


@pytest.mark.parametrize("past", [(OPENED, RESOLVED), (OPENED, RESOLVED, CLOSED)])
def test_resolving_twice_is_resolving_once(past: tuple[Event, ...]) -> None:
    given(FOLD, *past).when(resolved()).nothing()
    given(FOLD, *past).when(resolved("solved")).nothing()


def test_a_resolution_is_not_renamed() -> None:
    given(FOLD, OPENED, RESOLVED).when(resolved("refunded")).rejects(Refused, "reopen it")


def test_a_resolved_case_is_reopened_into_the_next_episode() -> None:
    given(FOLD, OPENED, RESOLVED).when(reopened()).then(CaseReopened(episode=2, reason="it broke again"))


def test_reopening_twice_is_reopening_once() -> None:
    given(FOLD, OPENED, RESOLVED).when(reopened()).after.when(reopened()).nothing()


def test_an_open_case_has_nothing_to_reopen() -> None:
    given(FOLD, OPENED).when(reopened()).rejects(Refused, "episode 1")
    given(FOLD, OPENED, RESOLVED, REOPENED).when(reopened("something else")).rejects(Refused, "episode 2")


def test_a_closed_case_is_not_reopened() -> None:
    given(FOLD, OPENED, RESOLVED, CLOSED).when(reopened()).rejects(Refused, "open a new case")


def test_a_resolved_case_is_closed_once() -> None:
    given(FOLD, OPENED, RESOLVED).when(closed("no answer")).then(CaseClosed(episode=1, reason="no answer"))
    given(FOLD, OPENED, RESOLVED, CLOSED).when(closed("no answer")).nothing()


@pytest.mark.parametrize("past", [(OPENED,), (OPENED, RESOLVED, REOPENED)])
def test_an_unresolved_case_is_not_closed(past: tuple[Event, ...]) -> None:
    given(FOLD, *past).when(closed()).rejects(Refused, "resolve it")


@pytest.mark.parametrize(
    "order", [received(), sent(), resolved(), reopened(), closed(), judged()], ids=lambda order: order.func.__name__
)
def test_nothing_happens_to_a_case_that_does_not_exist(order: partial[list[New]]) -> None:
    given(FOLD).when(order).rejects(Unknown, CASE_ID)


def test_a_case_does_not_move_before_its_last_move() -> None:
    at_eight = START - HOUR

    given(FOLD, OPENED).when(resolved(at=at_eight)).rejects(Invalid, "cannot have happened before")
    given(FOLD, OPENED, RESOLVED).when(reopened(at=START)).rejects(Invalid, "2026-03-02T09:01:00Z")
    given(FOLD, OPENED, RESOLVED).when(closed(at=START)).rejects(Invalid)


# -------------------------------------------------------------------------------------------------------- feedback


def test_a_customer_judges_the_last_resolved_episode_unless_they_say_which() -> None:
    past = given(FOLD, OPENED, RESOLVED, REOPENED, an(CaseResolved, episode=2))

    past.when(judged(csat=5)).then(FeedbackReceived(episode=2, accepted=True, csat=5))
    past.when(judged(episode=1, accepted=False)).then(FeedbackReceived(episode=1, accepted=False))


def test_a_customer_judges_what_was_resolved_also_after_it_went_on() -> None:
    given(FOLD, OPENED, RESOLVED, REOPENED).when(judged()).then(FeedbackReceived(episode=1, accepted=True))
    given(FOLD, OPENED, RESOLVED, CLOSED).when(judged()).then(FeedbackReceived(episode=1, accepted=True))


def test_an_episode_that_was_not_resolved_cannot_be_judged() -> None:
    given(FOLD, OPENED).when(judged()).rejects(Refused, "episode 1 was not resolved")
    given(FOLD, OPENED, RESOLVED, REOPENED).when(judged(episode=2)).rejects(Refused, "episode 2 was not resolved")


def test_the_same_answer_counts_once_and_another_is_refused() -> None:
    answered = given(FOLD, OPENED, RESOLVED).when(judged(csat=4)).after

    answered.when(judged(csat=4)).nothing()
    answered.when(judged(csat=1)).rejects(Refused, "not changed")


# ------------------------------------------------------------------------------------------ history of other systems


def row(ordinal: int, at: datetime, category: Category = Category.IN_PROGRESS) -> Row:
    return Row(an(CaseObserved, ordinal=ordinal, category=category), at, f"row-{ordinal}")


def test_rows_are_recorded_when_the_other_system_says_they_happened() -> None:
    first, second = row(1, START - 2 * HOUR), row(2, START - HOUR)

    given(FOLD).when(partial(cases.observe, [first, second]), now=START).then(
        New(first.observed, first.at, "row-1"), New(second.observed, second.at, "row-2")
    )


def test_a_row_is_recorded_once() -> None:
    rows = [row(1, START - HOUR), row(1, START - HOUR), row(2, START - HOUR)]

    first = given(FOLD).when(partial(cases.observe, rows), now=START)

    first.then(rows[0].observed, rows[2].observed)
    first.after.when(partial(cases.observe, rows)).nothing()


def test_what_a_history_is_judged_by_is_settled_with_its_first_row() -> None:
    promised, plain = [
        [Row(one.observed.model_copy(update={"promises": refs}), one.at, one.id) for one in rows]
        for refs in (("gold@1",), ())
        for rows in ([row(1, START - 2 * HOUR), row(2, START - HOUR)],)
    ]

    def promises(first: list[Row], then: list[Row]) -> list[tuple[str, ...]]:
        begun = given(FOLD).when(partial(cases.observe, first[:1]), now=START)
        rest = begun.after.when(partial(cases.observe, then), now=START)
        return [one.promises for one in (*begun.events, *rest.events) if isinstance(one, CaseObserved)]

    assert promises(promised, plain) == [("gold@1",)] * 2
    assert promises(plain, promised) == [()] * 2


def test_rows_of_an_impossible_time_are_left_out() -> None:
    rows = [
        row(1, datetime(1969, 12, 31, tzinfo=UTC)),
        row(2, datetime(1, 1, 1, tzinfo=UTC)),
        row(3, START + HOUR),
        row(4, datetime(9999, 12, 31, tzinfo=UTC)),
        row(5, START),
    ]

    (recorded,) = given(FOLD).when(partial(cases.observe, rows), now=START).events

    assert isinstance(recorded, CaseObserved)
    assert recorded.ordinal == 5


@generated(st.permutations([1, 2, 3, 4, 5]), st.integers(1, 4))
def test_the_order_in_which_rows_arrive_does_not_matter_where_the_case_stands(order: list[int], split: int) -> None:
    past = {n: row(n, START + n * HOUR, Category.RESOLVED if n == 5 else Category.IN_PROGRESS) for n in order}
    now = START + 9 * HOUR

    after = given(FOLD).when(partial(cases.observe, [past[n] for n in order[:split]]), now=now).after
    state = after.when(partial(cases.observe, [past[n] for n in order[split:]]), now=now).after.state

    assert state.case.category is Category.RESOLVED
    assert state.ordinals == {1, 2, 3, 4, 5}
    assert state.resolved == {1}
    assert not state.case.live


def observed(*rows: CaseObserved) -> Given[cases.Life]:
    return given(FOLD, *rows)


TAKEN_OVER = CaseTakenOver(
    episode=1,
    channel="phone",
    market="se",
    language="sv",
    journey="incident",
    priority=Priority.NORMAL,
    customer_ref=CASE_ID,
)


@pytest.mark.parametrize(
    ("order", "kind"), [(received(), MessageReceived), (sent(), MessageSent), (resolved(), CaseResolved)]
)
def test_the_first_live_contact_takes_an_observed_case_over(order: partial[list[New]], kind: type[Event]) -> None:
    decided = observed(WORKING).when(order)

    decided.then_types(CaseTakenOver, kind)
    assert decided.events[0] == TAKEN_OVER
    assert decided.after.state.case.live


def test_a_case_is_taken_over_once() -> None:
    observed(WORKING).when(received()).after.when(resolved()).then_types(CaseResolved)


def test_what_the_other_system_did_not_say_is_unknown() -> None:
    blank = an(CaseObserved, ordinal=1, category="new", channel=None, market=None, language=None, journey=None)

    taken_over = observed(blank.model_copy(update={"priority": None})).when(received()).events[0]

    assert isinstance(taken_over, CaseTakenOver)
    assert {taken_over.channel, taken_over.market, taken_over.language, taken_over.journey} == {"unknown"}
    assert taken_over.priority is Priority.NORMAL


@pytest.mark.parametrize("order", [received(), reopened("the customer wrote again")])
def test_a_resolved_case_is_taken_over_in_the_episode_that_begins(order: partial[list[New]]) -> None:
    taken_over, reopening, *_ = observed(WORKING, DONE).when(order).events

    assert taken_over == TAKEN_OVER.model_copy(update={"episode": 2})
    assert reopening == CaseReopened(episode=2, reason="the customer wrote again")


def test_a_survey_answer_or_a_closing_takes_nothing_over() -> None:
    observed(WORKING, DONE).when(judged()).then_types(FeedbackReceived)
    observed(WORKING, DONE).when(closed()).then_types(CaseClosed)
    observed(WORKING, DONE).when(sent()).then_types(MessageSent)


def test_what_the_other_system_calls_a_resolution_can_be_judged_whatever_its_category() -> None:
    solved = an(CaseObserved, ordinal=2, category=Category.IN_PROGRESS, resolution=True)

    observed(WORKING, solved).when(judged()).then_types(FeedbackReceived)
    observed(WORKING).when(judged()).rejects(Refused, "not resolved")


def test_a_case_the_other_system_closed_stays_closed() -> None:
    ended = an(CaseObserved, ordinal=2, category=Category.CLOSED)

    observed(WORKING, ended).when(received()).rejects(Refused, "open a new case")


def test_a_take_over_is_never_before_what_was_observed() -> None:
    now = START + HOUR
    late = given(FOLD, (WORKING, START), (an(CaseObserved, ordinal=2, category="in_progress"), START + HOUR / 2))

    moves = late.when(received(at=START + timedelta(minutes=1)), now=now)

    assert [item.occurred_at for item in moves.items] == [now, START + timedelta(minutes=1)]


def test_history_may_still_arrive_for_a_case_that_is_ours() -> None:
    ours = observed(WORKING).when(received()).after
    rows = [row(7, START, Category.CLOSED)]

    after = ours.when(partial(cases.observe, rows)).after

    assert after.state.ordinals == {1, 7}
    assert after.state.case.category is Category.IN_PROGRESS


# ----------------------------------------------------------------------------------------------------- any order


ORDERS: list[Callable[[], partial[list[New]]]] = [received, sent, resolved, reopened, closed, judged]


@generated(st.lists(st.integers(0, len(ORDERS) - 1), max_size=30))
def test_whatever_is_asked_episodes_count_up_by_one_and_each_ends_once(choices: list[int]) -> None:
    past = given(FOLD, OPENED)
    for number, choice in enumerate(choices):
        order = ORDERS[choice]()
        if choice < 2:
            message = replace(order.args[0], message_id=f"m-{number}")
            order = partial(order.func, message, *order.args[1:])
        decided = past.when(order)
        past = past if decided.error else decided.after

    said = [event.data for event in past.events]
    begun = [e.episode for e in said if isinstance(e, CaseReopened)]
    ended = [e.episode for e in said if isinstance(e, CaseResolved)]
    answered = [e.episode for e in said if isinstance(e, FeedbackReceived)]

    assert begun == list(range(2, len(begun) + 2))
    assert ended == list(range(1, len(ended) + 1))
    assert len(ended) - len(begun) in (0, 1)
    assert sorted(set(answered)) == sorted(answered)
    assert set(answered) <= set(ended)
    assert sum(isinstance(e, CaseClosed) for e in said) <= 1
