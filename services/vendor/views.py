"""Vendor's tables: configuration in force and work orders, inline as decisions need them; cases' ends, from the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from events.case import (
    CaseClosed,
    CaseHandedOver,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    PartnerAccepted,
    PartnerResolved,
    PartnerReturned,
)
from events.database import Connection, fetch, later
from events.event import CaseEvent, Recorded
from events.operations import ContractPublished, PartnerRegistered, Share, SharePlanPublished
from events.views import View
from services.vendor.decide import OPEN, WorkOrder, ordered
from services.vendor.shares import Split

# ------------------------------------------------------------------------------------------------------- configuration


@dataclass(frozen=True, slots=True)
class PartnerRow:
    subject: str
    partner_id: str
    version: int
    name: str


def fold_partner(row: PartnerRow | None, event: Recorded[PartnerRegistered]) -> PartnerRow:
    return PartnerRow(event.subject, _id(event), event.data.version, event.data.name)


@dataclass(frozen=True, slots=True)
class ContractRow:
    subject: str
    contract_id: str
    version: int
    partner_id: str
    queue_ids: tuple[str, ...]

    @property
    def content(self) -> ContractPublished:
        """The version as it was published."""
        return ContractPublished(version=self.version, partner_id=self.partner_id, queue_ids=self.queue_ids)


def fold_contract(row: ContractRow | None, event: Recorded[ContractPublished]) -> ContractRow:
    data = event.data
    return ContractRow(event.subject, _id(event), data.version, data.partner_id, data.queue_ids)


@dataclass(frozen=True, slots=True)
class SharePlanRow:
    """`partner_ids` and `percents` go together, place by place."""

    subject: str
    queue_id: str
    version: int
    partner_ids: tuple[str, ...]
    percents: tuple[int, ...]

    @property
    def content(self) -> SharePlanPublished:
        """The version as it was published."""
        shares = zip(self.partner_ids, self.percents, strict=True)
        return SharePlanPublished(
            version=self.version,
            queue_id=self.queue_id,
            shares=tuple(Share(partner_id=partner_id, percent=percent) for partner_id, percent in shares),
        )


def fold_share_plan(row: SharePlanRow | None, event: Recorded[SharePlanPublished]) -> SharePlanRow:
    data = event.data
    return SharePlanRow(
        event.subject,
        data.queue_id,
        data.version,
        tuple(share.partner_id for share in data.shares),
        tuple(share.percent for share in data.shares),
    )


def _id(event: Recorded[PartnerRegistered] | Recorded[ContractPublished]) -> str:
    """`partner:swift` → `swift`."""
    return event.subject.partition(":")[2]


PARTNERS = View("partners", 1, PartnerRow, (PartnerRegistered,), fold_partner, inline=True)
CONTRACTS = View("contracts", 2, ContractRow, (ContractPublished,), fold_contract, inline=True)
SHARE_PLANS = View("share_plans", 2, SharePlanRow, (SharePlanPublished,), fold_share_plan, inline=True)

# --------------------------------------------------------------------------------------------------------- work orders

ORDERS = View(
    "orders",
    1,
    WorkOrder,
    (CaseHandedOver, PartnerAccepted, PartnerReturned, PartnerResolved),
    ordered,
    inline=True,
    indexes=("queue_id, share_plan, partner_id", "partner_id, handed_over_at, case_id"),
)
"""A case's latest work order. A case counts for the partner it was handed to last."""


@dataclass(frozen=True, slots=True)
class CaseEnd:
    """Which episode of a case is under way, and which was the last to end."""

    case_id: str
    episode: int = 1
    ended_episode: int = 0


def fold_end(row: CaseEnd | None, event: Recorded[CaseEvent]) -> CaseEnd:
    """By episode, not by time: a resolution that is told late ends no later episode."""
    row = row or CaseEnd(event.subject)
    match event.data:
        case CaseResolved() | CaseClosed() as data:
            return replace(row, ended_episode=max(row.ended_episode, data.episode))
        case CaseReopened() | CaseTakenOver() as data:
            return replace(row, episode=max(row.episode, data.episode))
        case _:
            return row


CASE_ENDS = View("case_ends", 1, CaseEnd, (CaseResolved, CaseClosed, CaseReopened, CaseTakenOver), fold_end)

INLINE = (PARTNERS, CONTRACTS, SHARE_PLANS, ORDERS)
PROJECTED = (CASE_ENDS,)


class Listed(StrEnum):
    """How a partner sees a work order."""

    HANDED_OVER = "handed_over"
    ACCEPTED = "accepted"
    RETURNED = "returned"
    RESOLVED = "resolved"
    ENDED = "ended"
    """The case came to its end without the partner; nothing is left to do."""


def page_of_orders(
    partner_id: str, status: Listed | None, limit: int, after: tuple[datetime, str] | None
) -> sa.Select[Any]:
    """The partner's work orders with `listed`, the longest there first; one more than `limit` tells of a next page."""
    order, end = ORDERS.table, CASE_ENDS.table
    ended = sa.and_(order.c.status.in_(OPEN), end.c.ended_episode >= end.c.episode)
    listed = sa.case((ended, sa.literal(Listed.ENDED)), else_=order.c.status)
    statement = (
        sa.select(order, listed.label("listed"))
        .select_from(order.outerjoin(end, end.c.case_id == order.c.case_id))
        .where(order.c.partner_id == partner_id)
        .order_by(order.c.handed_over_at, order.c.case_id)
        .limit(limit + 1)
    )
    if status is not None:
        statement = statement.where(listed == status)
    if after is not None:
        place = sa.tuple_(order.c.handed_over_at, order.c.case_id)
        statement = statement.where(place > sa.tuple_(*map(sa.literal, after)))
    return statement


# --------------------------------------------------------------------------------------------- what decisions look at


async def has_ended(conn: Connection, case_id: str) -> bool:
    """Whether the case came to an end and was not reopened, as far as the log has told."""
    return any(row["ended_episode"] >= row["episode"] for row in await fetch(conn, _END_OF, case_id=case_id))


_END_OF = CASE_ENDS.all_rows.where(CASE_ENDS.table.c.case_id == later("case_id", CASE_ENDS.table.c.case_id.type))


async def partner_ids(conn: Connection) -> frozenset[str]:
    """Every registered partner."""
    return frozenset(row["partner_id"] for row in await fetch(conn, PARTNERS.all_rows))


async def covered(conn: Connection) -> dict[str, set[str]]:
    """Registered partner → queues its contracts cover."""
    queues = {partner: set[str]() for partner in await partner_ids(conn)}
    for row in await fetch(conn, CONTRACTS.all_rows):
        queues.setdefault(row["partner_id"], set()).update(row["queue_ids"])
    return queues


async def lock(conn: Connection, queues: Sequence[str]) -> None:
    """Until the transaction ends nobody else splits these queues: what is counted stays what was given."""
    for queue in sorted(queues):
        await conn.execute("select pg_advisory_xact_lock(hashtextextended('vendor share of ' || $1, 0))", queue)


async def splits(conn: Connection, queues: Sequence[str]) -> dict[str, Split]:
    """Queue → who may get its cases; a partner with several contracts for a queue goes by the first."""
    contracts: dict[str, dict[str, str]] = {queue: {} for queue in queues}
    table = CONTRACTS.table
    wanted = table.c.queue_ids.op("&&")(sa.cast(sa.literal(list(queues)), table.c.queue_ids.type))
    for row in await fetch(conn, sa.select(table).where(wanted).order_by(table.c.contract_id)):
        for queue in contracts.keys() & set(row["queue_ids"]):
            contracts[queue].setdefault(row["partner_id"], f"{row['contract_id']}@{row['version']}")
    plans: dict[str, SharePlanRow] = {}
    for row in await fetch(conn, sa.select(SHARE_PLANS.table).where(SHARE_PLANS.table.c.queue_id.in_(queues))):
        plans[row["queue_id"]] = SHARE_PLANS.decode(row)
    return {queue: _split(contracts[queue], plans.get(queue)) for queue in queues}


def _split(contracts: Mapping[str, str], plan: SharePlanRow | None) -> Split:
    if plan is None:
        return Split(contracts)
    shares = dict(zip(plan.partner_ids, plan.percents, strict=True))
    return Split(contracts, f"{plan.queue_id}@{plan.version}", shares)


async def given(conn: Connection, of: Mapping[str, Split]) -> dict[str, dict[str, int]]:
    """Queue → partner → cases it was given under the share plan version in force."""
    c = ORDERS.table.c
    under = [
        sa.and_(c.queue_id == queue, c.share_plan.is_(None) if s.share_plan is None else c.share_plan == s.share_plan)
        for queue, s in of.items()
    ]
    statement = sa.select(c.queue_id, c.partner_id, sa.func.count().label("cases")).where(sa.or_(*under))
    counts: dict[str, dict[str, int]] = {queue: {} for queue in of}
    for row in await fetch(conn, statement.group_by(c.queue_id, c.partner_id)):
        counts[row["queue_id"]][row["partner_id"]] = row["cases"]
    return counts
