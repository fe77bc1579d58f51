"""What the router decides about offers, answers, transfers and releases."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from events.case import (
    CaseAssigned,
    CaseOffered,
    CaseQueued,
    CaseReleased,
    CaseTransferred,
    OfferDeclined,
    OfferExpired,
    OfferWithdrawn,
    UnitKind,
)
from events.errors import Refused, Unknown
from events.event import Event
from events.operations import Presence
from events.store import New
from events.testing import START, firing, given
from services.router.decide import Seen, accept, decline, offer, release, transfer
from services.router.organigram import Agent
from services.router.react import OFFERS
from services.router.work import CASE, ESCALATED, Status
from tests.given import an
from tests.router.past import ANNA, ASSIGNED, BEN, FREE, OFFERED, QUEUED, WITH_A_PARTNER, chart, left

OVER = (OfferWithdrawn(offer_id="offer-1", agent_id="anna", reason="resolved"), left("resolved"))


# -------------------------------------------------------------------------------------------------------------- offer


def test_an_agent_who_is_here_and_free_is_asked_until_the_queues_time_is_over() -> None:
    decided = given(CASE, QUEUED).when(offer, ANNA, looked=Seen(4, "general", 2, 90))

    (offered,) = decided.events
    assert isinstance(offered, CaseOffered)
    assert (offered.agent_id, offered.queue_id, offered.unit_id) == ("anna", "general", "general")
    assert (offered.load, offered.capacity) == (4, 5)
    assert offered.expires_at == decided.now + timedelta(seconds=90)


def test_every_offer_of_a_case_has_an_id_of_its_own() -> None:
    first = given(CASE, QUEUED).when(offer, ANNA, looked=FREE)
    (offered,) = first.events
    assert isinstance(offered, CaseOffered)
    second = given(CASE, QUEUED, offered, OfferExpired(offer_id=offered.offer_id, agent_id="anna"))
    (again,) = second.when(offer, ANNA, looked=FREE).events

    assert isinstance(again, CaseOffered)
    assert again.offer_id != offered.offer_id


@pytest.mark.parametrize(
    ("agent", "seen"),
    [
        (ANNA, replace(FREE, load=5)),
        (ANNA, replace(FREE, load=9)),
        (ANNA, replace(FREE, level=3)),
        (ANNA, replace(FREE, queue_id="refunds")),
        (replace(ANNA, presence=Presence.BUSY), FREE),
        (replace(ANNA, presence=Presence.OFFLINE), FREE),
        (replace(ANNA, unit_ids=("refunds",)), FREE),
        (replace(ANNA, languages=("en",)), FREE),
        (replace(ANNA, markets=("fr",)), FREE),
        (replace(ANNA, journeys=("claims",)), FREE),
        (Agent("agent:nobody"), FREE),
    ],
)
def test_an_agent_who_is_not_here_not_free_or_not_eligible_is_not_asked(agent: Agent, seen: Seen) -> None:
    given(CASE, QUEUED).when(offer, agent, looked=seen).nothing()


@pytest.mark.parametrize(
    "past",
    [
        (),
        (WITH_A_PARTNER,),
        (an(CaseQueued, unit_kind=UnitKind.ESCALATION),),
        (QUEUED, OFFERED),
        (QUEUED, OFFERED, ASSIGNED),
        (QUEUED, left(ESCALATED)),
        (QUEUED, OFFERED, *OVER),
        (QUEUED, OFFERED, an(OfferDeclined)),
    ],
)
def test_a_case_is_offered_only_while_it_waits_and_never_to_one_who_declined(past: tuple[Event, ...]) -> None:
    given(CASE, *past).when(offer, ANNA, looked=FREE).nothing()


def test_a_case_one_agent_declined_is_offered_to_another() -> None:
    given(CASE, QUEUED, OFFERED, an(OfferDeclined)).when(offer, BEN, looked=FREE).then_types(CaseOffered)


# ------------------------------------------------------------------------------------------------------------- answers


def test_the_agent_who_was_asked_accepts_and_owns_the_case() -> None:
    decided = given(CASE, QUEUED, OFFERED).when(partial(accept, "anna", "offer-1"), ANNA, looked=1)

    decided.then(ASSIGNED)
    assert decided.after.state.status is Status.ASSIGNED
    assert decided.after.state.agent_id == "anna"


@pytest.mark.parametrize("offer_id", [None, "offer-1"])
def test_accepting_twice_is_accepting_once(offer_id: str | None) -> None:
    given(CASE, QUEUED, OFFERED, ASSIGNED).when(partial(accept, "anna", offer_id), ANNA, looked=1).nothing()


@pytest.mark.parametrize(
    ("past", "agent_id", "offer_id", "why"),
    [
        ((QUEUED, OFFERED), "ben", None, "not offered to agent ben: it is offered to agent anna"),
        ((QUEUED, OFFERED, ASSIGNED), "ben", None, "agent anna owns it"),
        ((QUEUED,), "anna", None, "it waits in the queue general"),
        ((QUEUED, OFFERED), "anna", "offer-0", "the offer offer-0 is over"),
        ((QUEUED, OFFERED, *OVER), "anna", None, "resolved or closed"),
        ((WITH_A_PARTNER,), "anna", None, "it lies with the unit swift"),
    ],
)
def test_what_is_not_offered_to_an_agent_cannot_be_answered(
    past: tuple[Event, ...], agent_id: str, offer_id: str | None, why: str
) -> None:
    given(CASE, *past).when(partial(accept, agent_id, offer_id), ANNA, looked=1).rejects(Refused, why)
    given(CASE, *past).when(partial(decline, agent_id, offer_id, "no")).rejects(Refused, why)


def test_an_offer_that_ended_cannot_be_accepted_even_before_its_end_is_recorded() -> None:
    late = given(CASE, QUEUED, OFFERED).when(partial(accept, "anna", None), ANNA, now=OFFERED.expires_at, looked=1)

    late.rejects(Refused, "this offer ended at")


def test_an_agent_whose_capacity_was_lowered_meanwhile_accepts_nothing_beyond_it() -> None:
    given(CASE, QUEUED, OFFERED).when(partial(accept, "anna", None), BEN, looked=2).then(ASSIGNED)
    given(CASE, QUEUED, OFFERED).when(partial(accept, "anna", None), BEN, looked=3).rejects(Refused, "capacity of 2")


def test_a_case_the_router_never_saw_is_unknown() -> None:
    given(CASE).when(partial(accept, "anna", None), ANNA, looked=0).rejects(Unknown)
    given(CASE).when(partial(release, None, "no"), looked=chart()).rejects(Unknown)
    given(CASE).when(partial(transfer, None, "refunds", "no"), looked=chart()).rejects(Unknown)


def test_a_declined_case_keeps_its_place_in_the_queue() -> None:
    decided = given(CASE, QUEUED, OFFERED).when(partial(decline, "anna", None, "at lunch"))

    decided.then(OfferDeclined(offer_id="offer-1", agent_id="anna", reason="at lunch"))
    after = decided.after.state
    assert (after.status, after.enqueued_at, after.agent_id, after.due_at) == (Status.WAITING, START, None, None)
    assert after.declined_by == ("anna",)
    decided.after.when(partial(decline, "anna", None, "at lunch")).nothing()


# --------------------------------------------------------------------------------------------------------------- expiry


def test_an_offer_nobody_answered_ends_once_at_its_end() -> None:
    due_at = OFFERED.expires_at
    fired = firing(OFFERS, QUEUED, OFFERED).at(due_at, now=due_at + timedelta(seconds=7))

    fired.then(New(OfferExpired(offer_id="offer-1", agent_id="anna"), occurred_at=due_at))
    assert fired.after.state.status is Status.WAITING
    assert fired.after.state.missed_by == ("anna",)
    assert fired.after.state.declined_by == ()


def test_the_end_of_an_offer_has_an_id_made_of_the_offer_alone() -> None:
    (early,) = firing(OFFERS, QUEUED, OFFERED).at(OFFERED.expires_at).items
    (late,) = firing(OFFERS, OFFERED).at(OFFERED.expires_at + timedelta(days=1)).items

    assert early.id == late.id


@pytest.mark.parametrize("past", [(QUEUED,), (QUEUED, OFFERED, ASSIGNED), (QUEUED, OFFERED, an(OfferDeclined)), ()])
def test_no_offer_ends_that_is_not_open(past: tuple[Event, ...]) -> None:
    firing(OFFERS, *past).at(OFFERED.expires_at + timedelta(days=1)).nothing()


def test_an_offer_does_not_end_before_its_time() -> None:
    firing(OFFERS, QUEUED, OFFERED).at(OFFERED.expires_at - timedelta(microseconds=1)).nothing()


# ------------------------------------------------------------------------------------------------ transfer and release


def test_the_owner_transfers_a_case_to_another_units_queue_with_all_that_routing_knows() -> None:
    decided = given(CASE, QUEUED, OFFERED, ASSIGNED).when(
        partial(transfer, "anna", "refunds", "money back"), looked=chart()
    )

    decided.then(
        CaseReleased(agent_id="anna", unit_id="general", reason="money back"),
        CaseTransferred(from_unit_id="general", to_unit_id="refunds", agent_id="anna", reason="money back"),
        CaseQueued(
            queue_id="refunds",
            unit_id="refunds",
            unit_kind=UnitKind.BACK_END,
            priority=QUEUED.priority,
            reason="money back",
            channel="email",
            market="de",
            language="de",
            journey="delivery",
        ),
    )
    assert decided.after.state.status is Status.WAITING
    decided.after.when(partial(transfer, "anna", "refunds", "money back"), looked=chart()).nothing()


def test_a_lead_transfers_what_is_offered_and_the_offer_is_withdrawn() -> None:
    given(CASE, QUEUED, OFFERED).when(partial(transfer, None, "refunds", "stuck"), looked=chart()).then_types(
        OfferWithdrawn, CaseTransferred, CaseQueued
    )


def test_a_move_within_the_unit_is_no_transfer_between_units() -> None:
    given(CASE, QUEUED).when(partial(transfer, None, "general-2", "tidy up"), looked=chart()).then_types(CaseQueued)


def test_a_case_transferred_to_a_partner_is_away() -> None:
    decided = given(CASE, QUEUED).when(partial(transfer, None, "parcels", "lost parcel"), looked=chart())

    assert decided.after.state.status is Status.AWAY
    assert decided.after.state.home_queue_id == "general"


@pytest.mark.parametrize(
    ("past", "agent_id", "queue_id", "why"),
    [
        ((QUEUED, OFFERED, ASSIGNED), "ben", "refunds", "agent anna owns it"),
        ((QUEUED,), "anna", "refunds", "it waits in the queue general"),
        ((QUEUED, OFFERED, ASSIGNED), "anna", "general", "release it to put it back there"),
        ((WITH_A_PARTNER,), None, "general", "it lies with the unit swift"),
        ((QUEUED, left(ESCALATED)), None, "refunds", "it is escalated"),
    ],
)
def test_what_is_not_theirs_or_not_here_cannot_be_transferred(
    past: tuple[Event, ...], agent_id: str | None, queue_id: str, why: str
) -> None:
    given(CASE, *past).when(partial(transfer, agent_id, queue_id, "no"), looked=chart()).rejects(Refused, why)


def test_a_transfer_to_no_queue_is_unknown() -> None:
    given(CASE, QUEUED).when(partial(transfer, None, "nowhere", "no"), looked=chart()).rejects(Unknown, "nowhere")


def test_a_released_case_waits_again_and_is_not_offered_to_the_same_agent() -> None:
    decided = given(CASE, QUEUED, OFFERED, ASSIGNED).when(partial(release, "anna", "end of shift"), looked=chart())

    decided.then_types(CaseReleased, CaseQueued)
    assert decided.after.state.declined_by == ("anna",)
    decided.after.when(offer, ANNA, looked=FREE).nothing()
    decided.after.when(partial(release, "anna", "end of shift"), looked=chart()).nothing()


@pytest.mark.parametrize("past", [(QUEUED, OFFERED), (WITH_A_PARTNER,), (QUEUED, OFFERED, *OVER)])
def test_only_what_is_owned_can_be_released(past: tuple[Event, ...]) -> None:
    given(CASE, *past).when(partial(release, None, "no"), looked=chart()).rejects(Refused, "nothing to release")


def test_only_the_owner_or_a_lead_releases() -> None:
    owned = given(CASE, QUEUED, OFFERED, ASSIGNED)

    owned.when(partial(release, "ben", "mine now"), looked=chart()).rejects(Refused, "agent anna owns it")
    owned.when(partial(release, None, "he is ill"), looked=chart()).then_types(CaseReleased, CaseQueued)


def test_assigned_events_name_the_unit_and_its_kind() -> None:
    specialist = an(CaseQueued, queue_id="refunds", unit_id="refunds", unit_kind=UnitKind.BACK_END)
    asked = an(CaseOffered, queue_id="refunds", unit_id="refunds", expires_at=OFFERED.expires_at)
    (assigned,) = given(CASE, specialist, asked).when(partial(accept, "anna", None), ANNA, looked=1).events

    assert isinstance(assigned, CaseAssigned)
    assert (assigned.unit_id, assigned.unit_kind) == ("refunds", UnitKind.BACK_END)
