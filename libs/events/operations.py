"""Every event about something other than a case: units, agents, tables, promises, partners, contracts, keys.

Configuration is immutable versions: a `published` event holds one version whole; whatever used it pins `id@version`.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from events.case import ClockKind, Priority, UnitKind
from events.event import Label, OperationsEvent, Ref
from events.personal import Personal


class Part(BaseModel):
    """A part of a configuration version."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Role(StrEnum):
    """What a key may do."""

    ADMIN = "admin"
    """Everything, including keys."""
    LEAD = "lead"
    """Runs the operation: publishes configuration, sees every case and figure, rebuilds and verifies."""
    AGENT = "agent"
    """Takes offers and works on cases."""
    CHANNEL = "channel"
    """A channel integration: opens cases, brings messages, feedback and imports."""
    PARTNER = "partner"
    """Sees and moves the cases that were handed to this partner, nothing else."""
    READER = "reader"
    """Reads cases, walks, figures and the event feed."""


class Presence(StrEnum):
    AVAILABLE = "available"
    BUSY = "busy"
    AWAY = "away"
    OFFLINE = "offline"


# ---------------------------------------------------------------------------------------------------- written by intake


class KeyIssued(OperationsEvent, type="casewalk.key.issued.v1", writer="intake"):
    """A key exists; only the SHA-256 of its 256-bit random secret is kept."""

    role: Role
    sha256: Ref
    holder: Ref | None = None
    """The agent or partner the key belongs to; required for those roles."""
    label: Label


class KeyRevoked(OperationsEvent, type="casewalk.key.revoked.v1", writer="intake"):
    """The key opens nothing any more."""

    reason: Label = "revoked"


class CustomerErased(OperationsEvent, type="casewalk.customer.erased.v1", writer="intake"):
    """The customer's key was destroyed on request: no personal text of theirs can be read again."""

    reason: Label = "requested"


# ---------------------------------------------------------------------------------------------------- written by router


class UnitPublished(OperationsEvent, type="casewalk.unit.published.v1", writer="router"):
    """A unit of the organigram, as it is from now on."""

    version: int = Field(ge=1)
    name: Label
    kind: UnitKind
    markets: tuple[Ref, ...] = ()
    """Empty: every market."""


class QueuePublished(OperationsEvent, type="casewalk.queue.published.v1", writer="router"):
    """Where cases wait for one unit."""

    version: int = Field(ge=1)
    name: Label
    unit_id: Ref
    level: int = Field(default=1, ge=1, le=9)
    """The skill level an agent needs for cases of this queue."""
    offer_s: int = Field(default=60, ge=1, le=86_400)
    """Seconds an agent has to answer an offer."""


class Skills(Part):
    """What an agent can take; an empty tuple means every one."""

    markets: tuple[Ref, ...] = ()
    languages: tuple[Ref, ...] = ()
    journeys: tuple[Ref, ...] = ()
    level: int = Field(default=1, ge=1, le=9)


class AgentRegistered(OperationsEvent, type="casewalk.agent.registered.v1", writer="router"):
    """An agent, as they are from now on. The subject is the agent id."""

    version: int = Field(ge=1)
    name: Personal
    unit_ids: tuple[Ref, ...]
    skills: Skills = Skills()
    capacity: int = Field(ge=1, le=1000)
    """Cases and offers the agent may hold at once."""


class PresenceChanged(OperationsEvent, type="casewalk.agent.presence_changed.v1", writer="router"):
    """The agent came, went, or wants no offers for a while."""

    presence: Presence


class When(Part):
    """A rule's condition: every non-empty field must contain the case's value."""

    channels: tuple[Ref, ...] = ()
    markets: tuple[Ref, ...] = ()
    languages: tuple[Ref, ...] = ()
    journeys: tuple[Ref, ...] = ()
    priorities: tuple[Priority, ...] = ()


class RoutingRule(Part):
    rule: Ref
    when: When = When()
    queue_id: Ref


class RoutingTablePublished(OperationsEvent, type="casewalk.routing_table.published.v1", writer="router"):
    """Which queue a case goes to: the first rule whose condition holds. The last rule has none."""

    version: int = Field(ge=1)
    rules: tuple[RoutingRule, ...] = Field(min_length=1, max_length=2000)


# ------------------------------------------------------------------------------------------------ written by escalation


class CalendarPublished(OperationsEvent, type="casewalk.calendar.published.v1", writer="escalation"):
    """When time counts. `always` is 24×7, the only kind there is yet."""

    version: int = Field(ge=1)
    name: Label
    always: bool = True


class PromiseTarget(Part):
    clock: ClockKind
    priority: Priority
    target_s: int = Field(ge=1, le=366 * 86_400)


class PromisePublished(OperationsEvent, type="casewalk.promise.published.v1", writer="escalation"):
    """What customers are promised, per clock and priority."""

    version: int = Field(ge=1)
    name: Label
    calendar: Ref
    """id@version."""
    targets: tuple[PromiseTarget, ...] = Field(min_length=1)
    warn_percent: int = Field(default=75, ge=1, le=99)


class LadderPublished(OperationsEvent, type="casewalk.ladder.published.v1", writer="escalation"):
    """Which unit takes ownership when a clock of these kinds is breached."""

    version: int = Field(ge=1)
    unit_id: Ref
    on_breach: tuple[ClockKind, ...] = ()


# ---------------------------------------------------------------------------------------------------- written by vendor


class PartnerRegistered(OperationsEvent, type="casewalk.partner.registered.v1", writer="vendor"):
    """An external company, as it is from now on. The subject is the partner id."""

    version: int = Field(ge=1)
    name: Label
    contact: Personal | None = None


class ContractPublished(OperationsEvent, type="casewalk.contract.published.v1", writer="vendor"):
    """A partner handles the cases of these queues."""

    version: int = Field(ge=1)
    partner_id: Ref
    queue_ids: tuple[Ref, ...] = Field(min_length=1)


class Share(Part):
    partner_id: Ref
    percent: int = Field(ge=0, le=100)


class SharePlanPublished(OperationsEvent, type="casewalk.share_plan.published.v1", writer="vendor"):
    """How the cases of a queue are split between its partners; the percentages sum to 100."""

    version: int = Field(ge=1)
    queue_id: Ref
    shares: tuple[Share, ...] = Field(min_length=1)


# --------------------------------------------------------------------------------------------------- written by metrics


class DefinitionPublished(OperationsEvent, type="casewalk.definition.published.v1", writer="metrics"):
    """What a figure means, in words and by the formula's name; figures say which version they follow."""

    version: int = Field(ge=1)
    name: Label
    unit: Ref
    formula: Label
    description: Label
    source: Label


OPERATIONS_EVENTS: tuple[type[OperationsEvent], ...] = (
    KeyIssued,
    KeyRevoked,
    CustomerErased,
    UnitPublished,
    QueuePublished,
    AgentRegistered,
    PresenceChanged,
    RoutingTablePublished,
    CalendarPublished,
    PromisePublished,
    LadderPublished,
    PartnerRegistered,
    ContractPublished,
    SharePlanPublished,
    DefinitionPublished,
)
"""Every event of the topic `casewalk.operations`."""
