"""What vendor knows about a case, and what it decides about it.

Every hand-over of a case to a partner is a work order; all orders of one case are one stream. Who gets a case is
`shares.py`; what a partner may do with it is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from events.case import CaseHandedOver, CaseQueued, PartnerAccepted, PartnerResolved, PartnerReturned
from events.errors import Invalid, Refused, Unknown
from events.event import CASES, OPERATIONS, CaseEvent, Event, Recorded
from events.operations import ContractPublished, PartnerRegistered, SharePlanPublished
from events.store import Fold
from services.vendor.shares import Choice


class Status(StrEnum):
    """Where a work order stands."""

    HANDED_OVER = "handed_over"
    ACCEPTED = "accepted"
    RETURNED = "returned"
    RESOLVED = "resolved"


OPEN = (Status.HANDED_OVER, Status.ACCEPTED)


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """A case that lies, or lay, with a partner."""

    case_id: str
    order_id: str
    partner_id: str
    queue_id: str
    unit_id: str
    contract: str
    """id@version."""
    share_plan: str | None
    """id@version."""
    status: Status
    handed_over_at: datetime
    accepted_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str | None = None
    """Why it was returned."""
    code: str | None = None
    """How it was resolved."""


@dataclass(frozen=True, slots=True)
class Case:
    """A case as vendor knows it."""

    case_id: str
    orders: tuple[WorkOrder, ...] = ()
    numbered: int = 0
    """Order ids given out; a return without a contract takes one too."""
    uncovered: frozenset[str] = frozenset()
    """Queues that sent the case back for want of a contract, since it last lay with a partner."""

    @property
    def order(self) -> WorkOrder | None:
        """The latest order."""
        return self.orders[-1] if self.orders else None

    @property
    def next_order_id(self) -> str:
        return f"{self.case_id}.{self.numbered + 1}"


def evolve(case: Case, event: Recorded[CaseEvent]) -> Case:
    """The case after one more event of vendor's own."""
    order = ordered(case.order, event)
    before = case.orders if isinstance(event.data, CaseHandedOver) else case.orders[:-1]
    case = replace(case, orders=case.orders if order is None else (*before, order))
    match event.data:
        case CaseHandedOver():
            return replace(case, numbered=case.numbered + 1, uncovered=frozenset())
        case PartnerReturned(partner_id=None) as data:
            return replace(case, numbered=case.numbered + 1, uncovered=case.uncovered | {data.queue_id})
        case _:
            return case


def ordered(latest: WorkOrder | None, event: Recorded[CaseEvent]) -> WorkOrder | None:
    """The case's latest order after one more event."""
    data, at = event.data, event.occurred_at
    if isinstance(data, CaseHandedOver):
        return WorkOrder(
            event.subject,
            data.order_id,
            data.partner_id,
            data.queue_id,
            data.unit_id,
            data.contract,
            data.share_plan,
            Status.HANDED_OVER,
            at,
        )
    if latest is None:
        return None
    match data:
        case PartnerAccepted():
            return replace(latest, status=Status.ACCEPTED, accepted_at=at)
        case PartnerReturned(partner_id=str()):
            return replace(latest, status=Status.RETURNED, ended_at=at, reason=data.reason)
        case PartnerResolved():
            return replace(latest, status=Status.RESOLVED, ended_at=at, code=data.code)
        case _:
            return latest


FOLD = Fold(CASES, Case, evolve)

# ------------------------------------------------------------------------------------------------- what the log brings


def hand_over(queued: CaseQueued, choice: Choice | None, case: Case) -> list[Event]:
    """The case goes to the chosen partner; where there is none it goes back, once, with the reason.

    Once, because whoever routes it may have nowhere else to send it: the same queue again is then no event.
    """
    if choice is not None:
        return [
            CaseHandedOver(
                order_id=case.next_order_id,
                partner_id=choice.partner_id,
                queue_id=queued.queue_id,
                unit_id=queued.unit_id,
                contract=choice.contract,
                share_plan=choice.share_plan,
                deficit=choice.deficit,
            )
        ]
    if queued.queue_id in case.uncovered:
        return []
    return [
        PartnerReturned(
            order_id=case.next_order_id,
            partner_id=None,
            queue_id=queued.queue_id,
            unit_id=queued.unit_id,
            reason=f"no contract covers the queue {queued.queue_id}",
        )
    ]


def take_back(reason: str, case: Case) -> list[Event]:
    """The case leaves the partner it lies with, if it lies with one."""
    order = case.order
    return [] if order is None or order.status not in OPEN else [_returned(order, reason)]


# -------------------------------------------------------------------------------------------------- what a partner does


def accept(partner_id: str, now: datetime, case: Case, ended: bool) -> list[Event]:
    """The partner works on the case; again is no event. `ended`: the case came to its end. Raises Unknown, Refused."""
    order = _order(partner_id, case)
    if order.status is Status.ACCEPTED:
        return []
    _must_be_open(order, ended)
    return [PartnerAccepted(order_id=order.order_id, partner_id=partner_id)]


def hand_back(partner_id: str, reason: str, now: datetime, case: Case, ended: bool) -> list[Event]:
    """The case comes back unsolved, with the reason; again is no event. Raises Unknown, Refused."""
    order = _order(partner_id, case)
    if order.status is Status.RETURNED:
        return []
    _must_be_open(order, ended)
    return [_returned(order, reason)]


def resolve(partner_id: str, code: str, now: datetime, case: Case, ended: bool) -> list[Event]:
    """The partner brought the case to an end; again is no event. Raises Unknown, Refused."""
    order = _order(partner_id, case)
    if order.status is Status.RESOLVED:
        return []
    _must_be_open(order, ended)
    return [PartnerResolved(order_id=order.order_id, partner_id=partner_id, code=code)]


def _returned(order: WorkOrder, reason: str) -> PartnerReturned:
    return PartnerReturned(
        order_id=order.order_id,
        partner_id=order.partner_id,
        queue_id=order.queue_id,
        unit_id=order.unit_id,
        reason=reason,
    )


def _order(partner_id: str, case: Case) -> WorkOrder:
    """The partner's order, if it is the case's latest."""
    if case.order is not None and case.order.partner_id == partner_id:
        return case.order
    if any(order.partner_id == partner_id for order in case.orders):
        raise Refused("the case lies with another partner by now")
    raise Unknown("no such case was handed to this partner")


def _must_be_open(order: WorkOrder, ended: bool) -> None:
    match order.status:
        case Status.RETURNED:
            raise Refused(f"the case was returned before: {order.reason}")
        case Status.RESOLVED:
            raise Refused(f"the case was resolved before, as {order.code}")
        case Status.HANDED_OVER | Status.ACCEPTED:
            if ended:
                raise Refused("the case was brought to an end elsewhere; nothing is left to do")


# ----------------------------------------------------------------------------------------------------- configuration

V = TypeVar("V", PartnerRegistered, ContractPublished, SharePlanPublished)


def _none(subject: str) -> None:
    return None


def _latest(version: V | None, event: Recorded[V]) -> V | None:
    return event.data


PARTNER: Fold[PartnerRegistered | None] = Fold(OPERATIONS, _none, _latest)
CONTRACT: Fold[ContractPublished | None] = Fold(OPERATIONS, _none, _latest)
SHARE_PLAN: Fold[SharePlanPublished | None] = Fold(OPERATIONS, _none, _latest)


def publish(wanted: V, now: datetime, current: V | None) -> list[Event]:
    """`wanted` as the next version, whatever version it says itself; no event if nothing would change."""
    if current is not None and wanted.model_copy(update={"version": current.version}) == current:
        return []
    return [wanted.model_copy(update={"version": 1 if current is None else current.version + 1})]


def publish_contract(
    wanted: ContractPublished, now: datetime, current: ContractPublished | None, partners: Collection[str]
) -> list[Event]:
    """The next version of a contract with one of `partners`. Raises Invalid for another one."""
    if wanted.partner_id not in partners:
        raise Invalid(f"partner_id: there is no partner {wanted.partner_id}; register it first")
    return publish(wanted, now, current)


def publish_share_plan(
    wanted: SharePlanPublished,
    now: datetime,
    current: SharePlanPublished | None,
    covered: Mapping[str, Collection[str]],
) -> list[Event]:
    """The next version of a queue's share plan. `covered` is partner → queues its contracts cover. Raises Invalid."""
    partners = [share.partner_id for share in wanted.shares]
    if double := sorted({partner for partner in partners if partners.count(partner) > 1}):
        raise Invalid("shares: one share for each partner; more than one: " + ", ".join(double))
    if unknown := [partner for partner in partners if partner not in covered]:
        raise Invalid("shares: there is no partner " + ", ".join(unknown))
    if bare := [partner for partner in partners if wanted.queue_id not in covered[partner]]:
        raise Invalid(f"shares: no contract covers the queue {wanted.queue_id} for " + ", ".join(bare))
    if (total := sum(share.percent for share in wanted.shares)) != 100:
        raise Invalid(f"shares: the percentages sum to {total}, not to 100")
    return publish(wanted, now, current)
