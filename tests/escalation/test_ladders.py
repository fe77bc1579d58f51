"""Ladders: which one a case climbs, which rung fires when, and that each does once."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid5

import pytest

from events.case import (
    CaseClassified,
    CaseEscalated,
    CaseFlagged,
    CaseHandedOver,
    CaseOpened,
    CaseReopened,
    CaseTakenOver,
    CaseTransferred,
    ClockBreached,
    ClockKind,
    ClockStarted,
    ClockStopped,
    ClockWarned,
    EscalationAcknowledged,
    EscalationReturned,
    EscalationUnanswered,
    FeedbackReceived,
    Priority,
)
from events.errors import Refused, Unknown
from events.event import NAMESPACE, Event, Recorded
from events.operations import Applies, LadderPublished, OwnerRule, RotaPublished, Rung, Trigger, TriggerKind
from events.testing import CASE_ID, START, STEP, Decided, firing, given, history, reacting
from services.escalation.decide.case import FOLD
from services.escalation.decide.escalations import Outcome, Status
from services.escalation.decide.ladders import Facts, Ladder, Seen, escalate, facts_of, rungs_of, wrong_in
from services.escalation.react.escalations import REACTOR, TIMERS
from services.escalation.service import STANDARD_LADDER
from tests.given import an

ID = f"{CASE_ID}.1"
RESOLUTION = ClockKind.RESOLUTION

STARTED = an(ClockStarted, clock=RESOLUTION, episode=1)
STOPPED = an(ClockStopped, clock=RESOLUTION, episode=1)
STARTED_AGAIN = an(ClockStarted, clock=RESOLUTION, episode=2)
BREACHED = an(ClockBreached, clock=RESOLUTION, episode=1)
OPENED = an(CaseOpened, market="de", journey="delivery", priority=Priority.HIGH)


def trigger(kind: str, **more: Any) -> Trigger:
    return Trigger(kind=TriggerKind(kind), **more)


SECOND_LINE = Rung(
    rung="second-line",
    triggers=(trigger("clock_share", clock="resolution", percent=75), trigger("asked"), trigger("reopened", times=1)),
    unit_id="second-line",
    acknowledge_within_s=900,
)
COMPLAINTS = Rung(
    rung="complaints",
    triggers=(
        trigger("handed_over", times=3),
        trigger("flag", flag="sentiment"),
        trigger("low_survey", at_most=2),
        trigger("tier", tier="vip"),
    ),
    unit_id="complaints",
    acknowledge_within_s=600,
)
SWAT = Rung(
    rung="swat",
    triggers=(trigger("breach", clock="resolution"), trigger("regulator")),
    unit_id="swat",
    owner_rule=OwnerRule.ON_DUTY,
)
THREE = LadderPublished(version=4, unit_id="second-line", rungs=(SECOND_LINE, COMPLAINTS, SWAT))
ROTA = an(
    RotaPublished,
    unit_id="swat",
    tz="UTC",
    weekly=({"days": ["mon", "tue"], "opens": "00:00", "closes": "24:00", "agents": ["olga", "paul"]},),
    dated=(),
)


def seeing(*past: Event | Recorded[Any], ladder: LadderPublished = THREE, ladder_id: str = "standard") -> Seen:
    """The ladder and the rota in force, and what was heard about the case."""
    return Seen((Ladder(ladder_id, ladder),), {"swat": ROTA}, {CASE_ID: history(*past)})


def heard(*past: Event, own: tuple[Event, ...] = (STARTED,), ladder: LadderPublished = THREE) -> Decided[Any]:
    """What the last of these events makes fire; all of them were heard."""
    known = history(*past)
    return reacting(REACTOR, *own).to(known[-1], looked=seeing(*known, ladder=ladder))


def fired(decided: Decided[Any]) -> CaseEscalated:
    """The one rung that fired."""
    (said,) = decided.events
    assert isinstance(said, CaseEscalated)
    return said


def escalated(rung: str, **more: Any) -> CaseEscalated:
    """A rung of the three has fired."""
    unit_id = {"second-line": "second-line", "complaints": "complaints", "swat": "swat"}[rung]
    return an(CaseEscalated, **{"escalation_id": ID, "episode": 1, "rung": rung, "unit_id": unit_id, **more})


# ------------------------------------------------------------------------------------------------------ what makes fire


@pytest.mark.parametrize(
    ("past", "rung", "why"),
    [
        ((an(ClockWarned, clock=RESOLUTION, episode=1, percent=75),), "second-line", "resolution:75"),
        ((an(ClockWarned, clock=RESOLUTION, episode=1, percent=90),), "second-line", "resolution:75"),
        ((BREACHED,), "swat", "resolution"),
        ((OPENED, *[an(CaseTransferred, to_unit_id=unit) for unit in "abc"]), "complaints", "handed_over"),
        ((an(CaseFlagged, flag="sentiment", reason="furious"),), "complaints", "flag:sentiment"),
        ((an(CaseFlagged, flag="regulator", reason="a letter came"),), "swat", "regulator"),
        ((an(CaseOpened, tier="vip"),), "complaints", "tier:vip"),
        ((an(CaseTakenOver, tier="vip"),), "complaints", "tier:vip"),
        ((OPENED, an(CaseClassified, tier="vip")), "complaints", "tier:vip"),
        ((an(FeedbackReceived, episode=1, csat=2),), "complaints", "low_survey"),
    ],
)
def test_every_kind_of_trigger_makes_its_rung_fire(past: tuple[Event, ...], rung: str, why: str) -> None:
    said = fired(heard(*past, own=(STARTED, BREACHED) if past == (BREACHED,) else (STARTED,)))
    assert (said.rung, said.unit_id, said.trigger, said.ladder) == (rung, rung, why, "standard@4")
    assert (said.escalation_id, said.episode) == (ID, 1)


@pytest.mark.parametrize(
    "past",
    [
        (an(ClockWarned, clock=RESOLUTION, episode=1, percent=50),),
        (an(ClockWarned, clock=ClockKind.FIRST_RESPONSE, episode=1, percent=90),),
        (an(ClockBreached, clock=ClockKind.FIRST_RESPONSE),),
        (OPENED, an(CaseTransferred), an(CaseTransferred)),
        (an(CaseFlagged, flag="keyword", reason="lawyer"),),
        (an(CaseOpened, tier="gold"),),
        (an(FeedbackReceived, episode=1, csat=3),),
        (an(FeedbackReceived, episode=1, csat=None),),
        (an(CaseReopened, episode=2),),
    ],
)
def test_what_does_not_hold_makes_nothing_fire(past: tuple[Event, ...]) -> None:
    heard(*past).nothing()


def test_a_case_that_is_open_again_for_the_nth_time_climbs() -> None:
    own = (STARTED, STOPPED, STARTED_AGAIN)
    said = fired(heard(OPENED, an(CaseReopened, episode=2), own=own))
    assert (said.rung, said.trigger, said.reason, said.episode) == ("second-line", "reopened", "reopened 1 times", 2)
    twice = replace_trigger(SECOND_LINE, trigger("reopened", times=2))
    heard(OPENED, an(CaseReopened, episode=2), own=own, ladder=twice).nothing()


def replace_trigger(rung: Rung, *triggers: Trigger) -> LadderPublished:
    """A ladder of this rung with other triggers."""
    return LadderPublished(version=1, unit_id=rung.unit_id, rungs=(rung.model_copy(update={"triggers": triggers}),))


def test_a_share_that_no_warning_told_of_fires_with_the_breach_at_the_latest() -> None:
    share = replace_trigger(SECOND_LINE, trigger("clock_share", clock="resolution", percent=75))
    assert fired(heard(BREACHED, own=(STARTED, BREACHED), ladder=share)).trigger == "resolution:75"


def test_of_several_rungs_that_hold_the_highest_fires() -> None:
    both = THREE.model_copy(update={"rungs": (SECOND_LINE.model_copy(update={"triggers": SWAT.triggers}), SWAT)})
    assert fired(heard(BREACHED, own=(STARTED, BREACHED), ladder=both)).rung == "swat"


def test_a_transfer_to_a_partner_and_the_partners_getting_it_is_one_hand_over() -> None:
    to_swift = an(CaseTransferred, to_unit_id="swift")
    got = an(CaseHandedOver, unit_id="swift")
    assert facts_of(history(OPENED, to_swift, got)).handed_over == 1
    assert facts_of(history(OPENED, got, an(CaseTransferred, to_unit_id="care"), to_swift, got)).handed_over == 3


def test_hand_overs_count_up_to_the_event_in_hand_whatever_was_heard_since() -> None:
    moves = [an(CaseTransferred, to_unit_id=unit) for unit in "abc"]
    known = history(OPENED, *moves)
    seen = seeing(*known)
    reacting(REACTOR, STARTED).to(known[2], looked=seen).nothing()
    assert fired(reacting(REACTOR, STARTED).to(known[3], looked=seen)).reason == "handed over 3 times"


# ---------------------------------------------------------------------------------------------------- at most once each


def test_a_rung_fires_once_per_case_and_episode_by_an_id_made_of_exactly_that() -> None:
    decided = heard(BREACHED, own=(STARTED, BREACHED))
    assert decided.items[0].id == str(uuid5(NAMESPACE, f"{CASE_ID}/1/rung/swat"))
    letter = an(CaseFlagged, flag="regulator", reason="a letter came")
    heard(letter, own=(STARTED, BREACHED, escalated("swat"))).nothing()
    returned = an(EscalationReturned, escalation_id=ID)
    heard(letter, own=(STARTED, BREACHED, escalated("swat"), returned)).nothing()


def test_the_next_episode_climbs_from_the_bottom_again() -> None:
    own = (STARTED, escalated("second-line"), STOPPED, STARTED_AGAIN)
    said = fired(heard(OPENED, an(CaseReopened, episode=2), own=own))
    assert (said.rung, said.escalation_id) == ("second-line", f"{CASE_ID}.2")


def test_a_case_climbs_while_nobody_owns_it_and_never_down() -> None:
    open_one = (STARTED, escalated("complaints"))
    heard(an(ClockWarned, clock=RESOLUTION, episode=1, percent=75), own=open_one).nothing()
    decided = heard(BREACHED, own=(*open_one, BREACHED))
    said = fired(decided)
    assert (said.rung, said.escalation_id) == ("swat", f"{ID}.2")
    before, now = decided.after.state.escalations
    assert (before.outcome, before.status, now.status) == (Outcome.PASSED_ON, Status.ENDED, Status.OPEN)


def test_who_acknowledged_owns_the_case_and_nothing_fires_above_them() -> None:
    owned = an(EscalationAcknowledged, escalation_id=ID)
    heard(BREACHED, own=(STARTED, escalated("second-line"), owned, BREACHED)).nothing()


def test_after_a_return_another_rung_may_fire() -> None:
    own = (STARTED, escalated("complaints"), an(EscalationReturned, escalation_id=ID))
    said = fired(heard(an(ClockWarned, clock=RESOLUTION, episode=1, percent=75), own=own))
    assert (said.rung, said.escalation_id) == ("second-line", f"{ID}.2")


@pytest.mark.parametrize(
    "own",
    [(), (STARTED, BREACHED, STOPPED), (STARTED, BREACHED, STOPPED, STARTED_AGAIN)],
    ids=["unknown", "resolved", "moved on"],
)
def test_nothing_fires_for_a_case_without_clocks_or_that_is_resolved_or_moved_on(own: tuple[Event, ...]) -> None:
    heard(BREACHED, own=own).nothing()


def test_a_low_survey_escalates_a_resolved_case_and_says_so() -> None:
    low = an(FeedbackReceived, episode=1, csat=1)
    decided = heard(low, own=(STARTED, STOPPED))
    assert fired(decided).resolved
    assert decided.after.state.escalation.status is Status.OPEN
    heard(low, own=(STARTED, STOPPED, STARTED_AGAIN)).nothing()


def test_without_a_ladder_nothing_fires() -> None:
    reacting(REACTOR, STARTED, BREACHED).to(BREACHED, looked=Seen()).nothing()


# ------------------------------------------------------------------------------------------------------- nobody answers


def test_who_does_not_acknowledge_in_time_is_said_once_at_that_time() -> None:
    by = START + timedelta(minutes=20)
    open_one = escalated("second-line", acknowledge_by=by)
    firing(TIMERS, STARTED, open_one).at(by - STEP).nothing()
    late = firing(TIMERS, STARTED, open_one).at(by + timedelta(hours=3))
    late.then(EscalationUnanswered(escalation_id=ID, unit_id="second-line", rung="second-line", acknowledge_by=by))
    assert (late.items[0].occurred_at, late.items[0].id) == (
        by,
        str(uuid5(NAMESPACE, f"{CASE_ID}/1/rung/second-line/unanswered")),
    )


@pytest.mark.parametrize(
    "ends",
    [an(EscalationAcknowledged, escalation_id=ID), an(EscalationReturned, escalation_id=ID), STOPPED],
    ids=["acknowledged", "returned", "resolved"],
)
def test_nothing_is_missed_where_somebody_acknowledged_or_it_is_over(ends: Event) -> None:
    by = START + timedelta(minutes=20)
    firing(TIMERS, STARTED, escalated("second-line", acknowledge_by=by), ends).at(by + STEP).nothing()


def test_no_acknowledgement_makes_the_next_rung_fire_with_a_time_of_its_own() -> None:
    silent = an(EscalationUnanswered, escalation_id=ID, rung="second-line", unit_id="second-line")
    decided = reacting(REACTOR, STARTED, escalated("second-line"), silent).to(silent, looked=seeing(OPENED))
    said = fired(decided)
    assert (said.rung, said.trigger, said.escalation_id) == ("complaints", "unanswered", f"{ID}.2")
    assert said.acknowledge_by == decided.now + timedelta(seconds=600)
    assert "second-line" in said.reason


def test_the_last_rung_has_nowhere_to_go_and_stays_open() -> None:
    silent = an(EscalationUnanswered, escalation_id=ID, rung="swat", unit_id="swat")
    decided = reacting(REACTOR, STARTED, escalated("swat"), silent).to(silent, looked=seeing(OPENED))
    decided.nothing()
    latest = decided.given.state.escalation
    assert (latest.status, latest.unanswered, latest.due_at) == (Status.OPEN, True, None)


def test_silence_leads_nowhere_once_somebody_acknowledged_late() -> None:
    silent = an(EscalationUnanswered, escalation_id=ID, rung="second-line", unit_id="second-line")
    owned = an(EscalationAcknowledged, escalation_id=ID)
    own = (STARTED, escalated("second-line"), silent, owned)
    reacting(REACTOR, *own).to(silent, looked=seeing(OPENED)).nothing()


# ---------------------------------------------------------------------------------------------------------- who owns it


def test_where_the_rota_decides_the_escalation_names_who_is_on_duty() -> None:
    assert fired(heard(BREACHED, own=(STARTED, BREACHED))).on_duty == ("olga", "paul")
    assert fired(heard(an(CaseFlagged, flag="sentiment"))).on_duty == ()


def test_a_rota_that_names_nobody_then_leaves_it_to_whoever_comes_first() -> None:
    seen = replace(seeing(OPENED), rotas={"swat": ROTA.model_copy(update={"weekly": ()})})
    said = fired(reacting(REACTOR, STARTED, BREACHED).to(BREACHED, looked=seen))
    assert said.on_duty == ()


# --------------------------------------------------------------------------------------------------- which ladder it is


def ladder(ladder_id: str, **applies: Any) -> Ladder:
    return Ladder(ladder_id, LadderPublished(version=1, unit_id="swat", applies=Applies(**applies)))


STANDARD, DE, VIP = ladder("standard"), ladder("de", markets=("de",)), ladder("vip", tiers=("vip",))


@pytest.mark.parametrize(
    ("facts", "chosen"),
    [
        (Facts("de", "delivery"), "de"),
        (Facts("de", "delivery", "vip"), "de"),
        (Facts("fr", "delivery", "vip"), "vip"),
        (Facts("fr", "delivery"), "standard"),
        (Facts(), "standard"),
    ],
)
def test_the_first_ladder_by_id_whose_condition_holds_is_climbed_and_standard_comes_last(
    facts: Facts, chosen: str
) -> None:
    found = Seen((VIP, STANDARD, DE)).ladder(facts)
    assert found is not None
    assert found.ladder_id == chosen


def test_a_case_that_is_seen_otherwise_climbs_another_ladder_from_then_on() -> None:
    seen = Seen((STANDARD, ladder("z", priorities=("urgent",), journeys=("delivery",))))
    before = facts_of(history(OPENED))
    after = facts_of(history(OPENED, an(CaseClassified, priority=Priority.URGENT, tier=None, journey=None)))
    assert [ladder.ladder_id for ladder in map(seen.ladder, (before, after)) if ladder] == ["standard", "z"]


# ---------------------------------------------------------------------------------------- ladders of before, and asking


def test_a_ladder_without_rungs_is_one_rung_on_breach_or_if_somebody_asks() -> None:
    (rung,) = rungs_of(STANDARD_LADDER)
    assert (rung.unit_id, rung.acknowledge_within_s) == ("escalation", None)
    said = fired(heard(BREACHED, own=(STARTED, BREACHED), ladder=STANDARD_LADDER))
    assert (said.unit_id, said.trigger, said.reason) == (
        "escalation",
        "resolution",
        "the resolution promise was not kept",
    )


def test_an_escalation_of_before_counts_as_that_one_rung() -> None:
    before = an(CaseEscalated, escalation_id=ID, rung=None)
    returned = an(EscalationReturned, escalation_id=ID)
    for own in ((STARTED, before, BREACHED), (STARTED, before, returned, BREACHED)):
        heard(BREACHED, own=own, ladder=STANDARD_LADDER).nothing()


def asking(*own: Event, ladder: LadderPublished = STANDARD_LADDER) -> Decided[Any]:
    return given(FOLD, *own).when(partial(escalate, "stranded abroad"), looked=seeing(OPENED, ladder=ladder))


def test_a_person_may_ask_for_the_lowest_rung_that_asking_makes_fire() -> None:
    said = fired(asking(STARTED, ladder=THREE))
    assert (said.rung, said.trigger, said.reason, said.ladder) == (
        "second-line",
        "asked",
        "stranded abroad",
        "standard@4",
    )


def test_asking_again_while_it_is_open_changes_nothing() -> None:
    open_one = an(CaseEscalated, escalation_id=ID)
    asking(STARTED, open_one).nothing()
    asking(STARTED, open_one, an(EscalationAcknowledged, escalation_id=ID)).nothing()


def test_a_case_without_clocks_is_not_known_here() -> None:
    asking().rejects(Unknown, "no case")


def test_a_resolved_case_is_not_escalated_by_asking() -> None:
    asking(STARTED, STOPPED).rejects(Refused, "reopen")


def test_a_rung_that_was_handed_back_is_not_asked_again_in_its_episode() -> None:
    own = (STARTED, an(CaseEscalated, escalation_id=ID), an(EscalationReturned, escalation_id=ID))
    asking(*own).rejects(Refused, "escalated before")
    assert fired(asking(*own, STOPPED, STARTED_AGAIN)).escalation_id == f"{CASE_ID}.2"


def test_without_a_ladder_or_a_rung_for_it_asking_is_refused() -> None:
    given(FOLD, STARTED).when(partial(escalate, "?"), looked=Seen()).rejects(Refused, "no ladder")
    silent = THREE.model_copy(update={"rungs": (SWAT,)})
    asking(STARTED, ladder=silent).rejects(Refused, "no rung")


# -------------------------------------------------------------------------------------------------------- what is wrong


def test_a_good_ladder_has_nothing_wrong() -> None:
    assert wrong_in(THREE) == []
    assert wrong_in(STANDARD_LADDER) == []


@pytest.mark.parametrize(
    ("rungs", "why"),
    [
        ((SWAT, SWAT), "more than one rung called swat"),
        ((replace_trigger(SWAT, trigger("breach")).rungs[0],), "breach says no clock"),
        ((replace_trigger(SWAT, trigger("clock_share")).rungs[0],), "says no clock and no percent"),
        ((replace_trigger(SWAT, trigger("asked", times=2)).rungs[0],), "times mean nothing"),
        ((replace_trigger(SWAT).rungs[0],), "nothing makes the rung swat fire"),
        ((SWAT, replace_trigger(COMPLAINTS).rungs[0]), "nothing makes the rung complaints fire"),
    ],
)
def test_a_ladder_says_what_is_wrong_with_it(rungs: tuple[Rung, ...], why: str) -> None:
    assert any(why in sentence for sentence in wrong_in(THREE.model_copy(update={"rungs": rungs})))


def test_a_rung_without_triggers_may_stand_above_one_that_must_be_acknowledged() -> None:
    above = replace_trigger(SWAT).rungs[0]
    assert wrong_in(THREE.model_copy(update={"rungs": (SECOND_LINE, above)})) == []
