"""Promises and ladders: published by version, complete, and pinned to a calendar."""

from functools import partial

import pytest

from events.case import ClockKind, Priority
from events.errors import Invalid
from events.operations import LadderPublished, PromisePublished, PromiseTarget
from events.testing import folding, given
from services.escalation.calendars import NoWorkingTime
from services.escalation.clocks import Promise
from services.escalation.decide.configuration import LADDER, PROMISE, publish
from services.escalation.decide.promises import PinnedCalendar, publish_promise
from services.escalation.service import ALWAYS, STANDARD_LADDER, STANDARD_PROMISE
from services.escalation.views import CALENDARS, LADDERS, PROMISES
from services.escalation.views.calendars import CalendarRow
from tests.escalation.hearing import TIMETABLES, every
from tests.given import an

CALENDAR = PinnedCalendar("always@1", TIMETABLES["always@1"])


def wanted(**changes: object) -> PromisePublished:
    return STANDARD_PROMISE.model_copy(update={"calendar": "always", **changes})


def test_the_first_version_is_1_and_every_change_counts_on() -> None:
    given(LADDER).when(partial(publish, an(LadderPublished, version=7))).then(an(LadderPublished, version=1))
    changed = an(LadderPublished, unit_id="swat")
    given(LADDER, STANDARD_LADDER).when(partial(publish, changed)).then(an(LadderPublished, version=2, unit_id="swat"))


def test_the_same_content_again_is_no_version() -> None:
    given(LADDER, STANDARD_LADDER).when(partial(publish, an(LadderPublished, version=9))).nothing()


def test_a_promise_pins_the_calendar_version_that_is_in_force() -> None:
    published = given(PROMISE).when(
        partial(publish_promise, wanted()), looked=PinnedCalendar("always@4", TIMETABLES["always@1"])
    )
    published.then(STANDARD_PROMISE.model_copy(update={"calendar": "always@4"}))


def test_a_promise_names_a_target_for_every_clock_and_priority() -> None:
    some = STANDARD_PROMISE.targets[:-1]
    refused = given(PROMISE).when(partial(publish_promise, wanted(targets=some)), looked=CALENDAR)
    refused.rejects(Invalid, "missing: resolution/low")


def test_a_promise_names_one_target_only() -> None:
    double = PromiseTarget(clock=ClockKind.RESOLUTION, priority=Priority.LOW, target_s=1)
    more = wanted(targets=(*STANDARD_PROMISE.targets, double))
    given(PROMISE).when(partial(publish_promise, more), looked=CALENDAR).rejects(Invalid, "resolution/low")


OWNERSHIP = {"kind": "internal", "targets": every(ClockKind.OWNERSHIP, 2)}
PAUSE = {"clocks": ["resolution"], "categories": ["waiting_customer"]}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stop": {}}, "stop: every case"),
        ({"start": {"markets": ["de"]}, "stop": {"markets": ["de", "at"]}}, "stop: every case"),
        ({"start": {"markets": ["de"]}, "pauses": [PAUSE | {"when": {"markets": ["fr"]}}]}, "pauses: a pause is for"),
        ({"start": {"tiers": ["gold"]}, "pauses": [PAUSE | {"when": {"tiers": ["gold", "x"]}}]}, "pauses: a pause is"),
        ({"pauses": [PAUSE | {"categories": ["waiting_customer", "new"]}]}, "pauses: a case that is new waits"),
        ({"pauses": [PAUSE | {"categories": ["resolved"]}]}, "pauses: a case that is resolved waits"),
        ({"warnings": [75, 50]}, "warnings: name each"),
        ({"warnings": [50, 50]}, "warnings: name each"),
        ({"targets": [*STANDARD_PROMISE.targets, *OWNERSHIP["targets"]]}, "customer has no ownership clock"),
        (OWNERSHIP | {"targets": STANDARD_PROMISE.targets}, "kind internal has no first_response"),
        (OWNERSHIP | {"kind": "partner", "targets": STANDARD_PROMISE.targets}, "kind partner has no"),
        ({"targets": [t.model_copy(update={"tier": "gold"}) for t in STANDARD_PROMISE.targets]}, "missing: "),
        ({"targets": [t.model_copy(update={"market": "de"}) for t in STANDARD_PROMISE.targets]}, "missing: "),
    ],
)
def test_a_promise_that_cannot_be_meant_is_refused(changes: dict[str, object], why: str) -> None:
    order = PromisePublished.model_validate(wanted().model_dump() | changes)
    given(PROMISE).when(partial(publish_promise, order), looked=CALENDAR).rejects(Invalid, why)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        OWNERSHIP,
        OWNERSHIP | {"kind": "partner"},
        {"start": {"markets": ["de", "at"]}, "stop": {"markets": ["de"]}},
        {"start": {"markets": ["de"]}, "stop": {"tiers": ["gold"]}, "pauses": [PAUSE | {"when": {"tiers": ["gold"]}}]},
        {"pauses": [PAUSE | {"categories": ["waiting_customer", "waiting_partner", "waiting_internal"]}]},
        {"pauses": [PAUSE | {"categories": []}], "warnings": [1, 99]},
    ],
)
def test_a_promise_that_can_be_meant_is_published_as_it_was_wanted(changes: dict[str, object]) -> None:
    order = PromisePublished.model_validate(wanted().model_dump() | changes)
    published = order.model_copy(update={"calendar": "always@1"})
    given(PROMISE).when(partial(publish_promise, order), looked=CALENDAR).then(published)


def test_a_promise_that_its_calendar_has_no_time_for_is_refused() -> None:
    """Its clocks would run for ever and never be due."""
    rare = PinnedCalendar("rare@1", TIMETABLES["rare@1"])
    order = partial(publish_promise, wanted())
    given(PROMISE).when(order, looked=rare).rejects(NoWorkingTime, "rare@1 has less than 3 days")


def test_a_promise_on_an_unknown_calendar_is_refused() -> None:
    given(PROMISE).when(partial(publish_promise, wanted(calendar="lunar")), looked=None).rejects(Invalid, "lunar")


def test_what_is_built_in_promises_every_priority_something() -> None:
    given(PROMISE).when(partial(publish_promise, wanted()), looked=CALENDAR).then(STANDARD_PROMISE)


def test_the_rows_hold_what_was_published() -> None:
    promise = folding(PROMISES, an(PromisePublished, version=2), STANDARD_PROMISE, subject="promise:standard").row()
    assert promise is not None
    assert promise.promise == Promise("standard@1", STANDARD_PROMISE)
    ladder = folding(LADDERS, STANDARD_LADDER, subject="ladder:standard").row()
    assert ladder is not None
    assert (ladder.ladder_id, ladder.content) == ("standard", STANDARD_LADDER)
    row = CalendarRow("calendar:always", "always", 1, "24×7", always=True)
    folding(CALENDARS, ALWAYS, subject="calendar:always").row_is(row)
