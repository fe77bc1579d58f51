"""What the router does when intake, escalation and vendor say something about a case."""

from dataclasses import replace
from datetime import timedelta

import pytest

from events.case import (
    CaseClassified,
    CaseClosed,
    CaseDequeued,
    CaseEscalated,
    CaseOpened,
    CaseQueued,
    CaseReleased,
    CaseReopened,
    CaseReranked,
    CaseResolved,
    CaseTakenOver,
    EscalationResolved,
    EscalationReturned,
    OfferDeclined,
    OfferWithdrawn,
    PartnerReturned,
    Priority,
    UnitKind,
)
from events.event import Event
from events.testing import reacting
from services.router.decide import Place
from services.router.react import REACTOR
from services.router.work import Status
from tests.given import an
from tests.router.past import ASSIGNED, OFFERED, PARCELS_FIRST, QUEUED, WITH_A_PARTNER, chart, left

ENDED, OUT_FOR_ESCALATION = left("resolved"), left("escalated")
RETURNED = an(PartnerReturned, queue_id="parcels", unit_id="swift", reason="not our parcel")


@pytest.mark.parametrize("came", [an(CaseOpened), an(CaseTakenOver)])
def test_a_new_case_is_queued_by_the_table_with_the_rule_and_all_that_matching_needs(came: Event) -> None:
    assert isinstance(came, CaseOpened | CaseTakenOver)
    reacting(REACTOR).to(came, looked=chart()).then(
        CaseQueued(
            queue_id="general",
            unit_id="general",
            unit_kind=UnitKind.FRONT_END,
            routing_table="main@3",
            rule="default",
            priority=came.priority,
            reason="rule default of main@3",
            channel=came.channel,
            market=came.market,
            language=came.language,
            journey=came.journey,
        )
    )


def test_a_case_for_a_partners_queue_is_queued_there_and_away() -> None:
    decided = reacting(REACTOR).to(an(CaseOpened, journey="delivery"), looked=chart(PARCELS_FIRST))

    (queued,) = decided.events
    assert isinstance(queued, CaseQueued)
    assert (queued.queue_id, queued.unit_kind, queued.rule) == ("parcels", UnitKind.PARTNER, "parcels")
    assert decided.after.state.status is Status.AWAY


@pytest.mark.parametrize("past", [(QUEUED,), (QUEUED, OFFERED, ASSIGNED), (QUEUED, ENDED)])
def test_a_case_that_has_a_queue_is_not_routed_again(past: tuple[Event, ...]) -> None:
    reacting(REACTOR, *past).to(an(CaseOpened), looked=chart()).nothing()


@pytest.mark.parametrize(
    ("past", "said"),
    [
        ((QUEUED,), (CaseDequeued,)),
        ((QUEUED, OFFERED), (OfferWithdrawn, CaseDequeued)),
        ((QUEUED, OFFERED, ASSIGNED), (CaseReleased,)),
        ((WITH_A_PARTNER,), (CaseDequeued,)),
    ],
)
@pytest.mark.parametrize(
    ("why", "reason", "status"),
    [
        (an(CaseResolved), "resolved", Status.DONE),
        (an(CaseClosed), "closed", Status.DONE),
        (an(CaseEscalated), "escalated", Status.ESCALATED),
    ],
)
def test_a_case_that_ends_or_is_escalated_leaves_every_hand_and_queue_once(
    past: tuple[Event, ...], said: tuple[type[Event], ...], why: Event, reason: str, status: Status
) -> None:
    decided = reacting(REACTOR, *past).to(why, looked=chart())

    decided.then_types(*said)
    assert {getattr(event, "reason", None) for event in decided.events} == {reason}
    after = decided.after.state
    assert (after.status, after.agent_id, after.offer_id, after.due_at) == (status, None, None, None)
    reacting(REACTOR, *past, *decided.events).to(why, looked=chart()).nothing()


@pytest.mark.parametrize("ends", [an(CaseResolved), an(CaseClosed), an(CaseEscalated), an(CaseReopened)])
def test_a_case_that_was_never_routed_has_nothing_to_leave(ends: Event) -> None:
    reacting(REACTOR).to(ends, looked=chart()).nothing()


def test_closing_what_is_resolved_changes_nothing() -> None:
    reacting(REACTOR, QUEUED, ENDED).to(an(CaseClosed), looked=chart()).nothing()


def test_a_reopened_case_waits_in_its_last_queue_and_everybody_may_be_asked() -> None:
    past = (QUEUED, OFFERED, an(OfferDeclined), ENDED)
    decided = reacting(REACTOR, *past).to(an(CaseReopened, reason="no parcel"), looked=chart())

    (queued,) = decided.events
    assert isinstance(queued, CaseQueued)
    assert (queued.queue_id, queued.market, queued.priority) == ("general", "de", Priority.HIGH)
    assert (queued.routing_table, queued.reason) == (None, "reopened: no parcel")
    assert decided.after.state.status is Status.WAITING
    assert decided.after.state.declined_by == ()


def test_who_owned_a_case_when_it_was_resolved_may_be_asked_when_it_is_reopened() -> None:
    resolved = reacting(REACTOR, QUEUED, OFFERED, ASSIGNED).to(an(CaseResolved), looked=chart()).after
    reopened = reacting(REACTOR, *resolved.events).to(an(CaseReopened), looked=chart())

    assert reopened.after.state.declined_by == ()


def test_nothing_is_routed_while_a_case_is_escalated_and_it_comes_back_where_it_was() -> None:
    escalated = (QUEUED, OUT_FOR_ESCALATION)

    reacting(REACTOR, *escalated).to(an(CaseReopened), looked=chart()).nothing()
    reacting(REACTOR, *escalated).to(RETURNED, looked=chart()).nothing()
    (queued,) = reacting(REACTOR, *escalated).to(an(EscalationReturned, reason="no reason"), looked=chart()).events
    assert isinstance(queued, CaseQueued)
    assert (queued.queue_id, queued.reason) == ("general", "back from escalation: no reason")


@pytest.mark.parametrize("past", [(QUEUED,), (QUEUED, OFFERED), (QUEUED, OFFERED, ASSIGNED), (WITH_A_PARTNER,)])
@pytest.mark.parametrize(
    "comes",
    [
        an(CaseOpened),
        an(CaseTakenOver),
        an(CaseReopened),
        an(CaseEscalated),
        an(EscalationResolved),
        RETURNED,
        an(PartnerReturned, queue_id="parcels", unit_id="swift", reason="escalated"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_escalated_case_is_routed_nowhere_whatever_comes(past: tuple[Event, ...], comes: Event) -> None:
    escalated = reacting(REACTOR, *past).to(an(CaseEscalated), looked=chart()).after

    reacting(REACTOR, *escalated.events).to(comes, looked=chart()).nothing()
    assert escalated.state.status is Status.ESCALATED


def test_an_escalated_case_that_is_classified_is_queued_nowhere() -> None:
    classified = an(CaseClassified, priority=Priority.URGENT)
    seen_otherwise = reacting(REACTOR, QUEUED, OUT_FOR_ESCALATION).to(classified, looked=chart())

    seen_otherwise.then_types(CaseReranked)
    assert seen_otherwise.after.state.status is Status.ESCALATED


AFTERCARE = an(CaseEscalated, resolved=True)


def test_a_resolved_case_that_an_escalation_unit_looks_after_goes_to_it_when_it_is_reopened() -> None:
    looked_after = reacting(REACTOR, QUEUED, ENDED).to(AFTERCARE, looked=chart())
    looked_after.then_types(CaseDequeued)
    assert looked_after.after.state.status is Status.LOOKED_AFTER
    past = looked_after.after.events
    reacting(REACTOR, *past).to(AFTERCARE, looked=chart()).nothing()

    reopened = reacting(REACTOR, *past).to(an(CaseReopened), looked=chart())

    reopened.then_types(CaseDequeued)
    assert reopened.after.state.status is Status.ESCALATED
    back = reacting(REACTOR, *reopened.after.events).to(an(EscalationReturned), looked=chart())
    back.then_types(CaseQueued)
    assert back.after.state.status is Status.WAITING


@pytest.mark.parametrize("ends", [an(EscalationReturned), an(EscalationResolved), an(CaseClosed)])
def test_a_case_that_was_looked_after_is_over_when_the_unit_is_through_and_routed_when_it_is_reopened(
    ends: Event,
) -> None:
    past = reacting(REACTOR, QUEUED, ENDED).to(AFTERCARE, looked=chart()).after.events
    over = reacting(REACTOR, *past).to(ends, looked=chart())

    assert over.after.state.status is Status.DONE
    reacting(REACTOR, *over.after.events).to(an(CaseReopened), looked=chart()).then_types(CaseQueued)


def test_a_case_that_came_back_after_its_unit_was_through_waits_where_it_was_last() -> None:
    past = reacting(REACTOR, QUEUED, ENDED).to(AFTERCARE, looked=chart()).after.events
    reopened = reacting(REACTOR, *past).to(an(CaseReopened), looked=chart()).after
    came_back = reopened.state.reopened_at
    assert came_back is not None

    through_before = (an(EscalationResolved), came_back - timedelta(seconds=1))
    reacting(REACTOR, *reopened.events).to(through_before, looked=chart()).then_types(CaseQueued)
    through_after = (an(EscalationResolved), came_back + timedelta(seconds=1))
    reacting(REACTOR, *reopened.events).to(through_after, looked=chart()).nothing()


def test_an_escalation_that_crossed_the_cases_resolution_leaves_it_resolved() -> None:
    reacting(REACTOR, QUEUED, ENDED).to(an(CaseEscalated), looked=chart()).nothing()


def test_an_escalated_case_that_was_resolved_does_not_come_back_from_escalation() -> None:
    resolved = reacting(REACTOR, QUEUED, OUT_FOR_ESCALATION).to(an(CaseResolved), looked=chart())

    resolved.then(ENDED)
    reacting(REACTOR, QUEUED, OUT_FOR_ESCALATION, ENDED).to(an(EscalationReturned), looked=chart()).nothing()


def test_what_a_partner_returns_goes_to_the_last_queue_of_our_own() -> None:
    to_refunds = an(CaseQueued, queue_id="refunds", unit_id="refunds", unit_kind=UnitKind.BACK_END)
    (queued,) = reacting(REACTOR, to_refunds, WITH_A_PARTNER).to(RETURNED, looked=chart()).events

    assert isinstance(queued, CaseQueued)
    assert (queued.queue_id, queued.unit_kind) == ("refunds", UnitKind.BACK_END)
    assert queued.reason == "back from the partner: not our parcel"


def test_what_a_partner_returns_without_ever_having_been_ours_goes_to_the_default_queue() -> None:
    (queued,) = reacting(REACTOR, WITH_A_PARTNER).to(RETURNED, looked=chart()).events

    assert isinstance(queued, CaseQueued)
    assert queued.queue_id == "general"


def test_a_returned_case_never_goes_to_a_partners_queue_again() -> None:
    only_partners = replace(chart(), places={"parcels": Place("parcels", "swift", UnitKind.PARTNER)})

    reacting(REACTOR, WITH_A_PARTNER).to(RETURNED, looked=only_partners).nothing()


def test_a_partner_returns_only_what_lies_in_its_queue() -> None:
    reacting(REACTOR, QUEUED).to(RETURNED, looked=chart()).nothing()
    reacting(REACTOR, WITH_A_PARTNER).to(an(PartnerReturned, queue_id="claims"), looked=chart()).nothing()
    reacting(REACTOR, WITH_A_PARTNER, ENDED).to(RETURNED, looked=chart()).nothing()


def test_an_order_that_ended_by_escalation_brings_nothing_back_even_if_it_is_heard_of_late() -> None:
    back = reacting(REACTOR, WITH_A_PARTNER, an(CaseDequeued, queue_id="parcels", reason="escalated")).to(
        an(EscalationReturned), looked=chart()
    )
    late = an(PartnerReturned, queue_id="parcels", unit_id="swift", reason="escalated")

    assert back.after.state.status is Status.AWAY
    reacting(REACTOR, *back.after.events).to(late, looked=chart()).nothing()


def test_a_reason_too_long_for_a_label_is_cut() -> None:
    long = an(CaseReopened, reason="x" * 200)
    (queued,) = reacting(REACTOR, QUEUED, ENDED).to(long, looked=chart()).events

    assert isinstance(queued, CaseQueued)
    assert len(queued.reason) == 200


def test_the_time_of_a_reaction_does_not_change_what_is_decided() -> None:
    late = OFFERED.expires_at + timedelta(days=3)
    reacting(REACTOR, QUEUED, OFFERED).to(an(CaseResolved), looked=chart(), now=late).then_types(
        OfferWithdrawn, CaseDequeued
    )


URGENT = an(CaseClassified, priority=Priority.URGENT, tier="gold", journey=None)


@pytest.mark.parametrize("past", [(QUEUED,), (QUEUED, OFFERED), (QUEUED, OFFERED, ASSIGNED), (WITH_A_PARTNER,)])
def test_a_case_that_is_classified_is_served_by_it_wherever_it_is_and_stays_there(past: tuple[Event, ...]) -> None:
    before = reacting(REACTOR, *past).past.state

    reranked = reacting(REACTOR, *past).to(URGENT, looked=chart())

    reranked.then(CaseReranked(priority=Priority.URGENT, journey="delivery"))
    after = reranked.after.state
    assert after.rank == 0
    assert replace(after, priority=before.priority, rank=before.rank) == before


def test_another_journey_routes_nothing_by_itself_and_is_what_the_next_queue_is_told() -> None:
    classified = an(CaseClassified, priority=None, tier=None, journey="return")

    moved = reacting(REACTOR, QUEUED).to(classified, looked=chart(PARCELS_FIRST))

    moved.then(CaseReranked(priority=Priority.HIGH, journey="return"))
    assert moved.after.state.queue_id == "general"
    assert moved.after.state.facts.journey == "return"


def test_a_case_classified_while_it_was_over_waits_by_it_when_it_comes_back() -> None:
    over = reacting(REACTOR, QUEUED, ENDED).to(URGENT, looked=chart()).events
    (queued,) = reacting(REACTOR, QUEUED, ENDED, *over).to(an(CaseReopened), looked=chart()).events

    assert isinstance(queued, CaseQueued)
    assert queued.priority is Priority.URGENT


@pytest.mark.parametrize("past", [(), (QUEUED, an(CaseReranked, priority=Priority.URGENT, journey="delivery"))])
def test_what_is_known_already_or_was_never_routed_is_not_ranked_again(past: tuple[Event, ...]) -> None:
    reacting(REACTOR, *past).to(URGENT, looked=chart()).nothing()


def test_another_tier_alone_ranks_nothing() -> None:
    tier = an(CaseClassified, priority=None, tier="gold", journey=None)

    reacting(REACTOR, QUEUED).to(tier, looked=chart()).nothing()
