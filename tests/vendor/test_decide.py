"""Work orders: handed over, accepted, returned, resolved; and the configuration they rest on."""

from functools import partial

import pytest

from events.case import (
    CaseClosed,
    CaseEscalated,
    CaseHandedOver,
    CaseQueued,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    PartnerAccepted,
    PartnerResolved,
    PartnerReturned,
    UnitKind,
)
from events.errors import Invalid, Refused, Unknown
from events.operations import ContractPublished, PartnerRegistered, Share, SharePlanPublished
from events.testing import CASE_ID, START, STEP, Happened, Reacting, folding, given, reacting
from services.vendor import decide
from services.vendor.decide import CONTRACT, FOLD, PARTNER, SHARE_PLAN, Status, WorkOrder
from services.vendor.react import REACTOR
from services.vendor.shares import Choice
from services.vendor.views import CASE_ENDS, CONTRACTS, ORDERS, PARTNERS, SHARE_PLANS, CaseEnd, PartnerRow
from tests.given import an

ID = f"{CASE_ID}.1"
CHOICE = Choice("swift", "swift-parcels@1", "parcels@1", "0.6")

HANDED = CaseHandedOver(
    order_id=ID,
    partner_id="swift",
    queue_id="parcels",
    unit_id="parcels",
    contract="swift-parcels@1",
    share_plan="parcels@1",
    deficit="0.6",
)
ACCEPTED = PartnerAccepted(order_id=ID, partner_id="swift")
RETURNED = PartnerReturned(
    order_id=ID, partner_id="swift", queue_id="parcels", unit_id="parcels", reason="not our parcel"
)
RESOLVED = PartnerResolved(order_id=ID, partner_id="swift", code="delivered")
UNCOVERED = PartnerReturned(
    order_id=ID,
    partner_id=None,
    queue_id="parcels",
    unit_id="parcels",
    reason="no contract covers the queue parcels",
)
TO_OTHERS = HANDED.model_copy(update={"order_id": f"{CASE_ID}.2", "partner_id": "steady"})
QUEUED = an(CaseQueued, queue_id="parcels", unit_id="parcels", unit_kind=UnitKind.PARTNER)


# -------------------------------------------------------------------------------------------------- what the log brings


class Chosen(dict[str, Choice]):
    """Whatever the event: this partner."""

    def get(self, key: str, default: object = None) -> Choice:
        return CHOICE


def after(*own: Happened) -> Reacting:
    return reacting(REACTOR, *own)


def test_a_case_queued_for_partners_is_handed_over_by_contract_and_share_plan() -> None:
    after().to(QUEUED, looked=Chosen()).then(HANDED)


def test_a_case_queued_for_our_own_units_is_left_alone() -> None:
    after().to(an(CaseQueued, unit_kind=UnitKind.FRONT_END), looked={}).nothing()


def test_a_queue_without_a_contract_sends_the_case_back_with_the_reason() -> None:
    after().to(QUEUED, looked={}).then(UNCOVERED)


def test_it_is_sent_back_once_however_often_it_comes_again() -> None:
    after(UNCOVERED).to(QUEUED, looked={}).nothing()


def test_another_queue_without_a_contract_sends_it_back_once_more() -> None:
    other = QUEUED.model_copy(update={"queue_id": "letters"})
    after(UNCOVERED).to(other, looked={}).then_types(PartnerReturned)


def test_a_queue_that_has_got_a_contract_by_now_hands_the_case_over() -> None:
    after(UNCOVERED).to(QUEUED, looked=Chosen()).then(HANDED.model_copy(update={"order_id": f"{CASE_ID}.2"}))


def test_a_case_that_comes_again_is_a_new_order() -> None:
    after(HANDED, RETURNED).to(QUEUED, looked=Chosen()).then(HANDED.model_copy(update={"order_id": f"{CASE_ID}.2"}))


def test_an_escalated_case_leaves_its_partner() -> None:
    for order in ((HANDED,), (HANDED, ACCEPTED)):
        after(*order).to(an(CaseEscalated), looked={}).then(RETURNED.model_copy(update={"reason": "escalated"}))


def test_an_escalated_case_that_lies_with_no_partner_is_left_alone() -> None:
    for order in ((), (HANDED, RETURNED), (HANDED, RESOLVED)):
        after(*order).to(an(CaseEscalated), looked={}).nothing()


# -------------------------------------------------------------------------------------------------- what a partner does

ACCEPT = partial(decide.accept, "swift")
RETURN = partial(decide.hand_back, "swift", "not our parcel")
RESOLVE = partial(decide.resolve, "swift", "delivered")


def test_a_partner_accepts_what_was_handed_over() -> None:
    given(FOLD, HANDED).when(ACCEPT, looked=False).then(ACCEPTED)


def test_a_partner_returns_with_the_reason_before_or_after_accepting() -> None:
    given(FOLD, HANDED).when(RETURN, looked=False).then(RETURNED)
    given(FOLD, HANDED, ACCEPTED).when(RETURN, looked=False).then(RETURNED)


def test_a_partner_resolves_before_or_after_accepting() -> None:
    given(FOLD, HANDED).when(RESOLVE, looked=False).then(RESOLVED)
    given(FOLD, HANDED, ACCEPTED).when(RESOLVE, looked=False).then(RESOLVED)


@pytest.mark.parametrize(("done", "again"), [(ACCEPTED, ACCEPT), (RETURNED, RETURN), (RESOLVED, RESOLVE)])
@pytest.mark.parametrize("ended", [False, True])
def test_doing_it_twice_is_doing_it_once_also_after_the_case_ended(
    done: Happened, again: partial[object], ended: bool
) -> None:
    given(FOLD, HANDED, done).when(again, looked=ended).nothing()  # type: ignore[arg-type]


def test_what_was_returned_is_not_resolved_and_the_reason_is_said() -> None:
    given(FOLD, HANDED, RETURNED).when(RESOLVE, looked=False).rejects(Refused, "not our parcel")
    given(FOLD, HANDED, RETURNED).when(ACCEPT, looked=False).rejects(Refused, "returned before")


def test_what_was_resolved_is_neither_returned_nor_accepted() -> None:
    given(FOLD, HANDED, RESOLVED).when(RETURN, looked=False).rejects(Refused, "delivered")
    given(FOLD, HANDED, RESOLVED).when(ACCEPT, looked=False).rejects(Refused, "resolved before")


def test_a_case_that_ended_elsewhere_leaves_nothing_to_do() -> None:
    for decision in (ACCEPT, RETURN, RESOLVE):
        given(FOLD, HANDED).when(decision, looked=True).rejects(Refused, "brought to an end elsewhere")


def test_a_partner_does_not_know_cases_that_were_not_handed_to_it() -> None:
    for past in ((), (UNCOVERED,), (TO_OTHERS,)):
        given(FOLD, *past).when(ACCEPT, looked=False).rejects(Unknown, "no such case")


def test_a_partner_whose_case_went_on_to_another_is_told_so() -> None:
    given(FOLD, HANDED, RETURNED, TO_OTHERS).when(ACCEPT, looked=False).rejects(Refused, "another partner")


# -------------------------------------------------------------------------------------------------------- configuration


def test_a_partner_is_registered_by_version() -> None:
    swift = PartnerRegistered(version=1, name="Swift Parcels")
    given(PARTNER).when(partial(decide.publish, swift)).then(swift)
    given(PARTNER, swift).when(partial(decide.publish, swift)).nothing()
    renamed = PartnerRegistered(version=1, name="Swift")
    given(PARTNER, swift).when(partial(decide.publish, renamed)).then(PartnerRegistered(version=2, name="Swift"))


def test_a_contract_is_with_a_registered_partner() -> None:
    contract = partial(decide.publish_contract, an(ContractPublished, partner_id="swift"))
    given(CONTRACT).when(contract, looked={"swift"}).then(an(ContractPublished))
    given(CONTRACT).when(contract, looked={"steady"}).rejects(Invalid, "no partner swift")


def plan(*shares: tuple[str, int]) -> SharePlanPublished:
    return SharePlanPublished(
        version=1, queue_id="parcels", shares=tuple(Share(partner_id=p, percent=percent) for p, percent in shares)
    )


@pytest.mark.parametrize(
    ("shares", "why"),
    [
        ([("swift", 60), ("steady", 39)], "sum to 99"),
        ([("swift", 60), ("swift", 40)], "more than one: swift"),
        ([("swift", 60), ("nobody", 40)], "no partner nobody"),
        ([("swift", 60), ("letters-only", 40)], "covers the queue parcels for letters-only"),
    ],
)
def test_a_share_plan_that_cannot_be_kept_is_refused(shares: list[tuple[str, int]], why: str) -> None:
    covered = {"swift": {"parcels"}, "steady": {"parcels"}, "letters-only": {"letters"}}
    given(SHARE_PLAN).when(partial(decide.publish_share_plan, plan(*shares)), looked=covered).rejects(Invalid, why)


def test_a_share_plan_that_can_be_kept_is_published() -> None:
    wanted = plan(("swift", 60), ("steady", 40))
    covered = {"swift": {"parcels"}, "steady": {"parcels", "letters"}}
    given(SHARE_PLAN).when(partial(decide.publish_share_plan, wanted), looked=covered).then(wanted)


# ------------------------------------------------------------------------------------------------------------ the views


def row(status: Status, **more: object) -> WorkOrder:
    fixed = (CASE_ID, ID, "swift", "parcels", "parcels", "swift-parcels@1", "parcels@1", status, START)
    return WorkOrder(*fixed, **more)  # type: ignore[arg-type]


def test_a_work_order_is_listed_as_it_stands() -> None:
    folding(ORDERS, HANDED).row_is(row(Status.HANDED_OVER))
    folding(ORDERS, HANDED, ACCEPTED).row_is(row(Status.ACCEPTED, accepted_at=START + STEP))
    folding(ORDERS, HANDED, RETURNED).row_is(row(Status.RETURNED, ended_at=START + STEP, reason="not our parcel"))
    folding(ORDERS, HANDED, RESOLVED).row_is(row(Status.RESOLVED, ended_at=START + STEP, code="delivered"))


def test_a_case_lies_with_the_partner_it_was_handed_to_last() -> None:
    listed = folding(ORDERS, HANDED, RETURNED, TO_OTHERS).row()
    assert listed is not None
    assert (listed.partner_id, listed.status, listed.reason) == ("steady", Status.HANDED_OVER, None)


def test_a_case_no_partner_ever_had_is_not_listed() -> None:
    folding(ORDERS, UNCOVERED).row_is(None)
    folding(ORDERS, HANDED, RETURNED, UNCOVERED).row_is(
        row(Status.RETURNED, ended_at=START + STEP, reason="not our parcel")
    )


def test_a_case_has_ended_until_it_is_reopened() -> None:
    folding(CASE_ENDS, an(CaseResolved, episode=1)).row_is(CaseEnd(CASE_ID, 1, 1))
    folding(CASE_ENDS, an(CaseResolved, episode=1), an(CaseReopened, episode=2)).row_is(CaseEnd(CASE_ID, 2, 1))
    folding(CASE_ENDS, an(CaseTakenOver, episode=3), an(CaseClosed, episode=3)).row_is(CaseEnd(CASE_ID, 3, 3))


def test_a_resolution_told_late_ends_no_later_episode() -> None:
    told_late = (an(CaseResolved, episode=1), START)
    folding(CASE_ENDS, (an(CaseReopened, episode=2), START - STEP), told_late).row_is(CaseEnd(CASE_ID, 2, 1))


def test_the_rows_hold_what_was_published() -> None:
    registered = an(PartnerRegistered, name="Swift Parcels")
    folding(PARTNERS, registered, subject="partner:swift").row_is(
        PartnerRow("partner:swift", "swift", 1, "Swift Parcels")
    )
    contract = folding(CONTRACTS, an(ContractPublished), subject="contract:swift-parcels").row()
    assert contract is not None
    assert (contract.contract_id, contract.content) == ("swift-parcels", an(ContractPublished))
    shares = folding(SHARE_PLANS, an(SharePlanPublished), subject="share_plan:parcels").row()
    assert shares is not None
    assert shares.content == an(SharePlanPublished)
