"""Promises and ladders: published by version, complete, and pinned to a calendar."""

from functools import partial

from events.case import ClockKind, Priority
from events.errors import Invalid
from events.operations import CalendarPublished, LadderPublished, PromisePublished, PromiseTarget
from events.testing import folding, given
from services.escalation.clocks import Promise
from services.escalation.decide.configuration import LADDER, PROMISE, publish
from services.escalation.decide.promises import publish_promise
from services.escalation.service import ALWAYS, STANDARD_LADDER, STANDARD_PROMISE
from services.escalation.views import CALENDARS, LADDERS, PROMISES
from services.escalation.views.calendars import CalendarRow
from tests.given import an


def wanted(**changes: object) -> PromisePublished:
    return STANDARD_PROMISE.model_copy(update={"calendar": "always", **changes})


def test_the_first_version_is_1_and_every_change_counts_on() -> None:
    given(LADDER).when(partial(publish, an(LadderPublished, version=7))).then(an(LadderPublished, version=1))
    changed = an(LadderPublished, unit_id="swat")
    given(LADDER, STANDARD_LADDER).when(partial(publish, changed)).then(an(LadderPublished, version=2, unit_id="swat"))


def test_the_same_content_again_is_no_version() -> None:
    given(LADDER, STANDARD_LADDER).when(partial(publish, an(LadderPublished, version=9))).nothing()


def test_a_promise_pins_the_calendar_version_that_is_in_force() -> None:
    published = given(PROMISE).when(partial(publish_promise, wanted()), looked="always@4")
    published.then(STANDARD_PROMISE.model_copy(update={"calendar": "always@4"}))


def test_a_promise_names_a_target_for_every_clock_and_priority() -> None:
    some = STANDARD_PROMISE.targets[:-1]
    refused = given(PROMISE).when(partial(publish_promise, wanted(targets=some)), looked="always@1")
    refused.rejects(Invalid, "missing: resolution/low")


def test_a_promise_names_one_target_only() -> None:
    double = PromiseTarget(clock=ClockKind.RESOLUTION, priority=Priority.LOW, target_s=1)
    more = wanted(targets=(*STANDARD_PROMISE.targets, double))
    given(PROMISE).when(partial(publish_promise, more), looked="always@1").rejects(Invalid, "resolution/low")


def test_a_promise_on_an_unknown_calendar_is_refused() -> None:
    given(PROMISE).when(partial(publish_promise, wanted(calendar="lunar")), looked=None).rejects(Invalid, "lunar")


def test_what_is_built_in_promises_every_priority_something() -> None:
    given(PROMISE).when(partial(publish_promise, wanted()), looked="always@1").then(STANDARD_PROMISE)


def test_the_rows_hold_what_was_published() -> None:
    promise = folding(PROMISES, an(PromisePublished, version=2), STANDARD_PROMISE, subject="promise:standard").row()
    assert promise is not None
    assert promise.promise == Promise("standard@1", STANDARD_PROMISE)
    ladder = folding(LADDERS, STANDARD_LADDER, subject="ladder:standard").row()
    assert ladder is not None
    assert (ladder.ladder_id, ladder.content) == ("standard", STANDARD_LADDER)
    row = CalendarRow("calendar:always", "always", 1, "24×7", always=True)
    folding(CALENDARS, an(CalendarPublished), subject="calendar:always").row_is(row)
    assert an(CalendarPublished) == ALWAYS
