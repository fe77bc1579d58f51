"""Intake's tables: where every case stands, who may read its texts now, and which keys there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from events.case import (
    Case,
    CaseAssigned,
    CaseClassified,
    CaseClosed,
    CaseEscalated,
    CaseHandedOver,
    CaseObserved,
    CaseOpened,
    CaseQueued,
    CaseReleased,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    CaseTransferred,
    Category,
    EscalationAcknowledged,
    EscalationResolved,
    EscalationReturned,
    MessageReceived,
    MessageSent,
    PartnerReturned,
    Priority,
    evolve,
)
from events.database import Database
from events.event import CaseEvent, OperationsEvent, Recorded
from events.operations import KeyIssued, KeyRevoked, Role
from events.views import View
from services.intake.decide.keys import KEY

# ----------------------------------------------------------------------------------------------- where a case stands


def fold_case(case: Case | None, event: Recorded[CaseEvent]) -> Case:
    """Where the case stands after one more event of whichever service."""
    return evolve(case or Case(event.subject), event)


CASES_VIEW = View(
    "cases",
    3,
    Case,
    (
        CaseOpened,
        CaseClassified,
        MessageReceived,
        MessageSent,
        CaseResolved,
        CaseReopened,
        CaseClosed,
        CaseObserved,
        CaseTakenOver,
        CaseQueued,
        CaseAssigned,
        CaseReleased,
        CaseEscalated,
        EscalationReturned,
        CaseHandedOver,
        PartnerReturned,
    ),
    fold_case,
    indexes=("opened_at desc, case_id", "queue_id, opened_at", "unit_id, opened_at", "import_id, opened_at"),
)

# --------------------------------------------------------------------------------------------- who may read its texts


@dataclass(frozen=True, slots=True)
class Access:
    """Who works on the case now, and therefore may read what was said on it."""

    case_id: str
    agent_id: str | None = None
    owner_id: str | None = None
    """Who acknowledged the escalation."""
    partner_id: str | None = None

    def includes(self, role: Role, holder: str | None) -> bool:
        """Whether a key of this role and holder belongs to somebody who works on the case."""
        if holder is None:
            return False
        match role:
            case Role.AGENT:
                return holder in (self.agent_id, self.owner_id)
            case Role.PARTNER:
                return holder == self.partner_id
            case _:
                return False


def fold_access(access: Access | None, event: Recorded[CaseEvent]) -> Access:
    """Who works on the case after one more event."""
    access = access or Access(event.subject)
    match event.data:
        case CaseAssigned() as assigned:
            return replace(access, agent_id=assigned.agent_id)
        case CaseReleased() | CaseTransferred():
            return replace(access, agent_id=None)
        case CaseHandedOver() as handed_over:
            return replace(access, partner_id=handed_over.partner_id, agent_id=None)
        case PartnerReturned():
            return replace(access, partner_id=None)
        case CaseEscalated():
            return Access(access.case_id)
        case EscalationAcknowledged() as acknowledged:
            return replace(access, owner_id=acknowledged.owner)
        case EscalationReturned() | EscalationResolved():
            return replace(access, owner_id=None)
        case CaseResolved() | CaseClosed():
            return Access(access.case_id)
        case _:
            return access


ACCESS = View(
    "access",
    1,
    Access,
    (
        CaseAssigned,
        CaseReleased,
        CaseTransferred,
        CaseHandedOver,
        PartnerReturned,
        CaseEscalated,
        EscalationAcknowledged,
        EscalationReturned,
        EscalationResolved,
        CaseResolved,
        CaseClosed,
    ),
    fold_access,
    indexes=("partner_id",),
)

# -------------------------------------------------------------------------------------------------------------- keys


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key without its secret, as an administrator sees it."""

    subject: str
    role: Role
    label: str
    holder: str | None
    issued_at: datetime
    revoked_at: datetime | None = None


def fold_key(key: IssuedKey | None, event: Recorded[OperationsEvent]) -> IssuedKey | None:
    """The key after one more of its events."""
    match event.data:
        case KeyIssued() as issued:
            return IssuedKey(event.subject, issued.role, issued.label, issued.holder, event.occurred_at)
        case KeyRevoked():
            return key and replace(key, revoked_at=event.occurred_at)
        case _:
            return key


ISSUED_KEYS = View("issued_keys", 1, IssuedKey, (KeyIssued, KeyRevoked), fold_key)

VIEWS: tuple[View[Any], ...] = (CASES_VIEW, ACCESS, ISSUED_KEYS)

# ----------------------------------------------------------------------------------------------------------- queries


@dataclass(frozen=True)
class Wanted:
    """Which cases a list shows: a field that is None limits nothing."""

    category: Category | None = None
    priority: Priority | None = None
    tier: str | None = None
    market: str | None = None
    language: str | None = None
    journey: str | None = None
    channel: str | None = None
    queue_id: str | None = None
    unit_id: str | None = None
    import_id: str | None = None
    partner_id: str | None = None
    """Only what was handed to this partner, and is there now."""


async def cases(database: Database, wanted: Wanted, after: tuple[datetime, str] | None, limit: int) -> list[Case]:
    """The newest cases first, by the time they were opened; `after` is the last (opened_at, case_id) already shown."""
    table = CASES_VIEW.table
    named = {name: getattr(wanted, name) for name in Wanted.__dataclass_fields__ if name != "partner_id"}
    query = sa.select(table).where(table.c.opened_at.is_not(None))
    query = query.where(*(table.c[name] == str(value) for name, value in named.items() if value is not None))
    if wanted.partner_id is not None:
        access = ACCESS.table
        mine = sa.select(access.c.case_id).where(access.c.partner_id == wanted.partner_id)
        query = query.where(table.c.case_id.in_(mine))
    if after is not None:
        opened_at, case_id = after
        older = table.c.opened_at < opened_at
        query = query.where(older | ((table.c.opened_at == opened_at) & (table.c.case_id > case_id)))
    query = query.order_by(table.c.opened_at.desc(), table.c.case_id).limit(limit)
    return [CASES_VIEW.decode(row.values()) for row in await database.rows(query)]


async def case(database: Database, case_id: str) -> Case | None:
    """Where the case stands as far as the log has told."""
    row = await database.row(sa.select(CASES_VIEW.table).where(CASES_VIEW.table.c.case_id == case_id))
    return None if row is None else CASES_VIEW.decode(row.values())


async def access(database: Database, case_id: str) -> Access:
    """Who works on the case as far as the log has told."""
    row = await database.row(sa.select(ACCESS.table).where(ACCESS.table.c.case_id == case_id))
    return Access(case_id) if row is None else ACCESS.decode(row.values())


async def keys(database: Database, after: str | None, limit: int) -> list[IssuedKey]:
    """The keys in the order of their subjects, after the subject `after`."""
    table = ISSUED_KEYS.table
    query = sa.select(table).where(table.c.subject > (after or KEY)).order_by(table.c.subject).limit(limit)
    return [ISSUED_KEYS.decode(row.values()) for row in await database.rows(query)]


def stands(projected: Case | None, own: Sequence[Recorded[CaseEvent]], case_id: str) -> Case:
    """Where the case stands by all that is known: what the log has told, and our own events it has not told yet."""
    standing = projected or Case(case_id)
    known_until = standing.last_at
    for event in sorted(own, key=lambda event: event.key):
        told = known_until is not None and event.occurred_at <= known_until
        if not told and isinstance(event.data, CASES_VIEW.reads):
            standing = evolve(standing, event)
    return standing
