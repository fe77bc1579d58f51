"""The specifications of `events.testing` pass where they should, and fail where they should."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from events.case import Case, CaseClosed, CaseOpened, CaseQueued, CaseResolved, Category, ClockStarted, evolve
from events.consume import Reactor
from events.errors import Refused, Unknown
from events.event import CASES, Event, Recorded
from events.operations import CustomerErased
from events.personal import Sealed
from events.store import Fold, New
from events.testing import CASE_ID, START, STEP, firing, folding, given, history, reacting, recorded
from events.timers import Timers
from events.views import View
from tests.given import AFTERNOON, NOON, an

FOLD = Fold(CASES, Case, evolve)


def resolve(code: str, now: datetime, case: Case) -> list[Event | New]:
    if case.first_at is None:
        raise Unknown("there is no case under this id")
    if case.category is Category.CLOSED:
        raise Refused("a closed case cannot be resolved")
    if case.resolved_at is not None:
        return []
    return [New(CaseResolved(episode=case.episode, by="agent", code=code), occurred_at=now - STEP)]


SOLVED = CaseResolved(episode=1, by="agent", code="solved")
SOLVE = partial(resolve, "solved")


# ----------------------------------------------------------------------------------------------------------- decisions


def test_a_decision_says_exactly_the_expected_events() -> None:
    decided = given(FOLD, an(CaseOpened)).when(SOLVE)

    decided.then(SOLVED).then_types(CaseResolved)
    with pytest.raises(AssertionError, match="but it said"):
        decided.nothing()
    with pytest.raises(AssertionError, match="expected"):
        decided.then(SOLVED, SOLVED)
    with pytest.raises(AssertionError, match="expected"):
        decided.then_types(CaseClosed)


def test_a_new_event_is_compared_with_its_time_and_a_plain_one_without() -> None:
    decided = given(FOLD, an(CaseOpened)).when(SOLVE, now=NOON)

    decided.then(New(SOLVED, occurred_at=NOON - STEP))
    with pytest.raises(AssertionError):
        decided.then(New(SOLVED, occurred_at=NOON))


def test_an_id_is_compared_only_where_one_is_expected() -> None:
    decided = given(FOLD).when(lambda now, case: [New(SOLVED, id="made-of-something")])

    decided.then(New(SOLVED))
    decided.then(New(SOLVED, id="made-of-something"))
    with pytest.raises(AssertionError):
        decided.then(New(SOLVED, id="made-of-something-else"))


def test_a_refusal_is_compared_by_kind_and_sentence() -> None:
    decided = given(FOLD, an(CaseOpened), an(CaseClosed)).when(SOLVE)

    decided.rejects(Refused, "closed case")
    with pytest.raises(AssertionError, match="not"):
        decided.rejects(Unknown)
    with pytest.raises(AssertionError, match="open case"):
        decided.rejects(Refused, "open case")
    with pytest.raises(Refused):
        decided.nothing()


def test_what_was_not_refused_does_not_pass_as_refused() -> None:
    with pytest.raises(AssertionError, match="expected Refused"):
        given(FOLD, an(CaseOpened)).when(SOLVE).rejects(Refused)


def test_deciding_goes_on_after_what_was_decided() -> None:
    after = given(FOLD, an(CaseOpened)).when(SOLVE, now=NOON).after

    assert after.state.resolved_at == NOON - STEP
    after.when(SOLVE).nothing()


def test_a_decision_that_is_not_pure_is_caught() -> None:
    codes = iter("abcdef")

    with pytest.raises(AssertionError, match="pure"):
        given(FOLD, an(CaseOpened)).when(lambda now, case: resolve(next(codes), now, case))


def test_other_states_and_what_was_looked_up_come_after_the_stream() -> None:
    seen: list[tuple[Any, ...]] = []

    def look_on(now: datetime, *rest: Any) -> list[Event]:
        seen.append(rest)
        return []

    other = given(FOLD, an(CaseOpened), an(CaseClosed))
    given(FOLD).when(look_on, other, "a state", looked=None).nothing()

    assert seen[0] == (Case(CASE_ID), other.state, "a state", None)


def test_a_service_cannot_say_what_is_anothers_to_say() -> None:
    with pytest.raises(AssertionError, match="not this service's"):
        given(FOLD, an(CaseOpened)).when(lambda now, case: [an(CaseQueued)])
    with pytest.raises(AssertionError, match=r"is not on casewalk\.cases"):
        given(FOLD, an(CaseOpened)).when(lambda now, case: [an(CustomerErased)])
    with pytest.raises(AssertionError, match="one writer"):
        given(FOLD, an(CaseOpened), an(CaseQueued))


# ------------------------------------------------------------------------------------------------------------- history


def test_sequences_count_per_source_and_times_go_forward() -> None:
    happened = history(an(CaseOpened), an(CaseQueued), (an(CaseResolved), NOON), New(an(CaseClosed)))

    assert [(event.source, event.sequence) for event in happened] == [
        ("intake", 1),
        ("router", 1),
        ("intake", 2),
        ("intake", 3),
    ]
    assert [event.occurred_at for event in happened] == [START, START + STEP, NOON, NOON + STEP]
    assert len({event.id for event in happened}) == 4


def test_what_is_told_late_keeps_its_time_and_is_recorded_last() -> None:
    _, late = history(an(CaseOpened), (an(CaseClosed), START - timedelta(days=1)))

    assert late.occurred_at == START - timedelta(days=1)
    assert late.recorded_at > START


def test_personal_texts_come_back_sealed() -> None:
    event = recorded(an(CaseOpened))

    assert isinstance(event.data.title, Sealed)
    assert "parcel" not in event.data.model_dump_json()


# ------------------------------------------------------------------------------------------------ reactors and timers


def close_when_queued(event: Recorded[Any], looked: Any, now: datetime, case: Case) -> list[Event]:
    return [] if case.closed_at else [CaseClosed(episode=case.episode, reason=looked or "queued")]


REACTOR = Reactor("closer", (CaseQueued, CaseOpened), FOLD, close_when_queued)


def test_a_reactor_hears_an_event_after_what_its_service_said() -> None:
    reacting(REACTOR, an(CaseOpened)).to(an(CaseQueued)).then(CaseClosed(episode=1, reason="queued"))
    reacting(REACTOR, an(CaseOpened)).to((an(CaseQueued), NOON), looked="why").then(CaseClosed(episode=1, reason="why"))
    reacting(REACTOR, an(CaseOpened), an(CaseClosed)).to(an(CaseQueued)).nothing()


def test_a_reactor_is_not_asked_about_what_it_does_not_read() -> None:
    with pytest.raises(AssertionError, match="does not read"):
        reacting(REACTOR, an(CaseOpened)).to(an(CaseClosed))


def test_a_reactor_finds_its_services_own_event_in_the_past() -> None:
    seen: list[Recorded[Any]] = []
    reactor = Reactor("own", (CaseOpened,), FOLD, lambda event, *rest: seen.append(event) or [])

    reacting(reactor, (an(CaseOpened), NOON)).to(an(CaseOpened)).nothing()

    assert (seen[0].sequence, seen[0].occurred_at) == (1, NOON)


@dataclass(frozen=True)
class Due:
    case_id: str
    due_at: datetime | None


TIMERS_VIEW = View(
    "due", 1, Due, (ClockStarted,), lambda row, event: Due(event.subject, event.data.due_at), inline=True
)


def close_at_due(mark: datetime, now: datetime, case: Case) -> list[New]:
    if case.closed_at or mark < AFTERNOON:
        return []
    return [New(CaseClosed(episode=1), occurred_at=AFTERNOON, id=f"{case.case_id}/due")]


def test_timers_fire_at_their_time_and_once() -> None:
    timers = firing(Timers(TIMERS_VIEW, FOLD, close_at_due), an(CaseOpened))

    timers.at(NOON).nothing()
    timers.at(AFTERNOON).then(New(CaseClosed(episode=1), occurred_at=AFTERNOON, id=f"{CASE_ID}/due"))


def test_a_timer_that_would_fire_for_ever_is_caught() -> None:
    for_ever = Timers(TIMERS_VIEW, FOLD, lambda mark, now, case: [New(CaseClosed(episode=1), id="x")])

    with pytest.raises(AssertionError, match="fires once"):
        firing(for_ever, an(CaseOpened)).at(NOON)


# --------------------------------------------------------------------------------------------------------------- views


@dataclass(frozen=True)
class Row:
    case_id: str
    events: int = 0
    last: str = ""


def count(row: Row | None, event: Recorded[Any]) -> Row:
    return Row(event.subject, row.events + 1 if row else 1, event.data.TYPE)


READS = (CaseOpened, CaseQueued, CaseResolved)
VIEW = View("counted", 1, Row, READS, count)


def test_a_view_is_folded_in_the_order_of_what_happened() -> None:
    folding(VIEW, (an(CaseQueued), NOON), (an(CaseOpened), START)).row_is(Row(CASE_ID, 2, CaseQueued.TYPE))


def test_events_a_view_does_not_read_pass_it_by() -> None:
    folding(VIEW, an(CaseOpened), an(CaseClosed)).row_is(Row(CASE_ID, 1, CaseOpened.TYPE))
    folding(VIEW, an(CaseClosed)).row_is(None)
    folding(VIEW).row_is(None)


def test_a_wrong_row_is_shown_beside_the_expected_one() -> None:
    with pytest.raises(AssertionError, match=r"events=2.*\n.*\n.*events=1"):
        folding(VIEW, an(CaseOpened)).row_is(Row(CASE_ID, events=2))


def test_a_fold_that_remembers_is_caught() -> None:
    seen: list[int] = []

    def remember(row: Row | None, event: Recorded[Any]) -> Row:
        seen.append(1)
        return Row(event.subject, len(seen))

    with pytest.raises(AssertionError, match="arrival"):
        folding(View("remembering", 1, Row, READS, remember), an(CaseOpened), an(CaseQueued)).row()


def test_an_inline_view_is_folded_in_the_streams_order() -> None:
    inline = View("inline", 1, Row, READS, count, inline=True)

    folding(inline, (an(CaseOpened), NOON), (an(CaseResolved), START)).row_is(Row(CASE_ID, 2, CaseResolved.TYPE))


@dataclass(frozen=True)
class Loose:
    case_id: str
    value: Any


@pytest.mark.parametrize("value", [0.5, 2**63, "nul \x00", datetime(2026, 3, 2), Case("x"), (0.5,), ["a"]])  # noqa: DTZ001
def test_a_row_holds_only_what_a_column_can_hold_and_compare(value: object) -> None:
    view = View("loose", 1, Loose, (CaseOpened,), lambda row, event: Loose(event.subject, value))
    vars(view)["columns"] = {"case_id": None, "value": None}  # `Any` has no column: stands for a lie in the types

    with pytest.raises(AssertionError, match="no column can hold"):
        folding(view, an(CaseOpened)).row()


def test_a_rows_first_field_is_its_subject() -> None:
    with pytest.raises(AssertionError, match="first field"):
        folding(View("odd", 1, Row, READS, lambda row, event: Row("somebody else")), an(CaseOpened)).row()
