"""Every event about something other than a case: units, agents, tables, promises, partners, contracts, keys.

Configuration is immutable versions: a `published` event holds one version whole; whatever used it pins `id@version`.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from pydantic import Field

from events.case import Category, ClockKind, Priority, UnitKind
from events.event import Label, Moment, OperationsEvent, Part, Ref, Text
from events.personal import Personal


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


class Hours(Part):
    """Local times of day, `09:00` to `18:00`; what closes at or before it opens runs past midnight."""

    opens: str = Field(pattern=r"^[0-2][0-9]:[0-5][0-9]$")
    closes: str = Field(pattern=r"^[0-2][0-9]:[0-5][0-9]$")
    """`24:00` is the end of the day."""


class Weekly(Part):
    """What a weekday opens; nothing: it is closed."""

    mon: tuple[Hours, ...] = ()
    tue: tuple[Hours, ...] = ()
    wed: tuple[Hours, ...] = ()
    thu: tuple[Hours, ...] = ()
    fri: tuple[Hours, ...] = ()
    sat: tuple[Hours, ...] = ()
    sun: tuple[Hours, ...] = ()


class OwnHours(Part):
    """What one date opens, whatever its weekday; nothing: it is closed."""

    on: date
    hours: tuple[Hours, ...] = ()


class HolidaySource(Part):
    """Where a calendar's holidays came from."""

    country: Ref | None = None
    """ISO 3166-1; none: all of them are own days."""
    subdivision: Ref | None = None
    """ISO 3166-2 without the country."""
    plus: tuple[date, ...] = ()
    minus: tuple[date, ...] = ()
    library: Ref | None = None


class CalendarPublished(OperationsEvent, type="casewalk.calendar.published.v1", writer="escalation"):
    """When time counts, by the clocks of one zone: an own date's hours, else none on a holiday, else the weekday's."""

    version: int = Field(ge=1)
    name: Label
    always: bool = True
    """24×7; what stands below does not matter then."""
    tz: Ref | None = None
    """IANA name."""
    weekly: Weekly = Weekly()
    holidays: tuple[date, ...] = ()
    """Frozen when it was published, whatever the law says later."""
    holidays_from: HolidaySource = HolidaySource()
    exceptions: tuple[OwnHours, ...] = ()
    valid_from: Moment | None = None
    """From when on it counts; a calendar's first version counts since ever."""
    tzdata: Ref | None = None
    """Version of the IANA database when it was published."""


class Cases(When):
    """Which cases; every non-empty field must contain the case's value."""

    tiers: tuple[Ref, ...] = ()


class PromiseTarget(Part):
    """How long a clock may run; where several fit a case, the one that says more about it."""

    clock: ClockKind
    priority: Priority
    target_s: int = Field(ge=1, le=366 * 86_400)
    tier: Ref | None = None
    market: Ref | None = None


class PromisePause(Part):
    """In which categories these clocks do not count. A clock no pause names keeps its kind's own."""

    clocks: tuple[ClockKind, ...] = Field(min_length=1)
    categories: tuple[Category, ...] = ()
    when: Cases = Cases()


class PromiseKind(StrEnum):
    CUSTOMER = "customer"
    """Made to customers: every clock but ownership."""
    INTERNAL = "internal"
    """An agreement between units: how long one may keep a case."""
    PARTNER = "partner"
    """Part of a contract: how long a partner may keep a case."""


class Restate(StrEnum):
    """Which cases a new version judges."""

    FORWARD_ONLY = "forward_only"
    """Those that come in from now on."""
    RESTATE_OPEN = "restate_open"
    """Those that are open then, too: the episode they are in, from its beginning on."""
    RESTATE_ALL = "restate_all"
    """Every case there ever was."""


class PromisePublished(OperationsEvent, type="casewalk.promise.published.v1", writer="escalation"):
    """What customers are promised, per clock and priority."""

    version: int = Field(ge=1)
    name: Label
    calendar: Ref
    """id@version."""
    targets: tuple[PromiseTarget, ...] = Field(min_length=1)
    warn_percent: int = Field(default=75, ge=1, le=99)
    """Where `warnings` are none: the only one."""
    kind: PromiseKind = PromiseKind.CUSTOMER
    start: Cases = Cases()
    """Cases it is made to."""
    stop: Cases | None = None
    """Cases it is not made to although they are among those, or any more."""
    pauses: tuple[PromisePause, ...] = ()
    warnings: tuple[int, ...] = ()
    """In percent of a target's working time, rising."""
    restate: Restate = Restate.FORWARD_ONLY


class TriggerKind(StrEnum):
    """What makes a rung of a ladder fire."""

    CLOCK_SHARE = "clock_share"
    """`clock` has used `percent` of its time."""
    BREACH = "breach"
    """`clock` is breached."""
    REOPENED = "reopened"
    """The case is open again for the `times`-th time."""
    HANDED_OVER = "handed_over"
    """The case went from one unit or partner to another for the `times`-th time."""
    FLAG = "flag"
    """Somebody or something set `flag`: a sentiment, a keyword."""
    TIER = "tier"
    """The customer is of `tier`."""
    REGULATOR = "regulator"
    """A regulator asks."""
    ASKED = "asked"
    """A person asks."""
    LOW_SURVEY = "low_survey"
    """The customer's satisfaction is `at_most` this."""


class Trigger(Part):
    """One reason for a rung to fire. Which of the other fields say something follows from `kind`."""

    kind: TriggerKind
    clock: ClockKind | None = None
    percent: int | None = Field(default=None, ge=1, le=99)
    times: int | None = Field(default=None, ge=1, le=1000)
    flag: Ref | None = None
    tier: Ref | None = None
    at_most: int | None = Field(default=None, ge=1, le=5)


class OwnerRule(StrEnum):
    FIRST_TO_ACKNOWLEDGE = "first_to_acknowledge"
    """Whoever of the unit acknowledges first."""
    ON_DUTY = "on_duty"
    """Whom the unit's rota names."""


class Rung(Part):
    """A step of a ladder: any of its triggers asks its unit to own the case."""

    rung: Ref
    """Its name in the ladder."""
    triggers: tuple[Trigger, ...] = ()
    """None: only a rung below that nobody acknowledged leads here."""
    unit_id: Ref
    acknowledge_within_s: int | None = Field(default=None, ge=1, le=30 * 86_400)
    owner_rule: OwnerRule = OwnerRule.FIRST_TO_ACKNOWLEDGE


class Applies(Part):
    """Which cases a ladder is for: every non-empty field must contain the case's value."""

    markets: tuple[Ref, ...] = ()
    journeys: tuple[Ref, ...] = ()
    tiers: tuple[Ref, ...] = ()
    priorities: tuple[Priority, ...] = ()


class LadderPublished(OperationsEvent, type="casewalk.ladder.published.v1", writer="escalation"):
    """Which units are asked to own a case, one after another, and what makes each be asked."""

    version: int = Field(ge=1)
    unit_id: Ref
    """Of a ladder without `rungs`, which has one rung: this unit. Else the first rung's."""
    on_breach: tuple[ClockKind, ...] = ()
    """Of a ladder without `rungs`: the clocks whose breach makes it fire, beside a person's asking."""
    applies: Applies = Applies()
    rungs: tuple[Rung, ...] = ()
    """From the bottom to the top."""


class Shift(Part):
    """Who is on duty between two times of day; one that closes at or before it opens runs past midnight."""

    opens: Ref
    """Local time such as 09:00."""
    closes: Ref
    """24:00 is the end of the day."""
    agents: tuple[Ref, ...] = ()
    """None: nobody was found yet."""


class WeeklyShift(Shift):
    days: tuple[Ref, ...] = Field(min_length=1)
    """mon, tue, wed, thu, fri, sat, sun: on which it begins."""


class DatedShift(Shift):
    date: Ref
    """2026-12-24: the date on which it begins. What is said of a date replaces that weekday's shifts."""


class RotaPublished(OperationsEvent, type="casewalk.rota.published.v1", writer="escalation"):
    """Who of an escalation unit is on duty when."""

    version: int = Field(ge=1)
    unit_id: Ref
    tz: Ref
    """IANA name of the zone the times are local in."""
    weekly: tuple[WeeklyShift, ...] = ()
    dated: tuple[DatedShift, ...] = ()


class NoticeEvent(StrEnum):
    """What somebody may want to be told of."""

    CLOCK_WARNED = "clock_warned"
    CLOCK_BREACHED = "clock_breached"
    ESCALATED = "escalated"
    ESCALATION_UNANSWERED = "escalation_unanswered"
    ESCALATION_ACKNOWLEDGED = "escalation_acknowledged"
    RETURNED = "returned"


class NoticeChannel(StrEnum):
    EMAIL = "email"
    WEBHOOK = "webhook"
    """A signed JSON body, by the rules of Standard Webhooks."""
    CHAT = "chat"
    """`{"text": …}`, as chat systems take it."""


class NoticePublished(OperationsEvent, type="casewalk.notice.published.v1", writer="escalation"):
    """Who is told what happens to cases, where, and when."""

    version: int = Field(ge=1)
    events: tuple[NoticeEvent, ...] = Field(min_length=1)
    unit_ids: tuple[Ref, ...] = ()
    """Empty: every unit."""
    markets: tuple[Ref, ...] = ()
    """Empty: every market."""
    channel: NoticeChannel
    address: Personal
    """A mail address or a URL. Many a URL is a secret itself."""
    address_key: Ref
    """A keyed HMAC of the address: the same address has the same value within one installation."""
    secret: Personal | None = None
    """What a webhook is signed with."""
    calendar: Ref | None = None
    """The id of the calendar outside whose hours only breaches are told; none: at any time."""
    active: bool = True


class IssueProposed(OperationsEvent, type="casewalk.issue.proposed.v1", writer="escalation"):
    """Somebody sees one cause behind many cases. The subject is `issue:` and the issue id."""

    title: Label
    reason: Label


class IssueAccepted(OperationsEvent, type="casewalk.issue.accepted.v1", writer="escalation"):
    """It is one: from here on it gathers cases."""

    owner: Ref
    """Who leads it."""


class IssueRejected(OperationsEvent, type="casewalk.issue.rejected.v1", writer="escalation"):
    """It is none."""

    reason: Label


class IssueCancelled(OperationsEvent, type="casewalk.issue.cancelled.v1", writer="escalation"):
    """It was none, or it does not matter any more; its cases go on by themselves."""

    reason: Label


class IssueGathered(OperationsEvent, type="casewalk.issue.gathered.v1", writer="escalation"):
    """These cases belong to it from here on."""

    case_ids: tuple[Ref, ...] = Field(min_length=1)


class IssueMessageSent(OperationsEvent, type="casewalk.issue.message_sent.v1", writer="escalation"):
    """One message for the customers of all its cases."""

    message_id: Ref
    body: Text


class IssueResolved(OperationsEvent, type="casewalk.issue.resolved.v1", writer="escalation"):
    """One resolution for all its cases."""

    code: Ref = "solved"


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
    RotaPublished,
    IssueProposed,
    IssueAccepted,
    IssueRejected,
    IssueCancelled,
    IssueGathered,
    IssueMessageSent,
    IssueResolved,
    NoticePublished,
    PartnerRegistered,
    ContractPublished,
    SharePlanPublished,
    DefinitionPublished,
)
"""Every event of the topic `casewalk.operations`."""
