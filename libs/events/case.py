"""Every event about a case, and what a case's events add up to.

To add one: write the class with its wire type and its writer, add it to `CASE_EVENTS`, give `evolve` its arm, run
`make schemas`. A field may be added with a default; a changed meaning is a new type ending in `.v2`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from events.event import Amount, CaseEvent, Label, Moment, Part, Recorded, Ref, Text, replace
from events.personal import Personal


class Category(StrEnum):
    """Where a case stands, whatever a unit or another system calls it."""

    NEW = "new"
    IN_PROGRESS = "in_progress"
    WAITING_CUSTOMER = "waiting_customer"
    WAITING_PARTNER = "waiting_partner"
    WAITING_INTERNAL = "waiting_internal"
    RESOLVED = "resolved"
    CLOSED = "closed"


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class UnitKind(StrEnum):
    """What a unit of the organigram is there for."""

    FRONT_END = "front_end"
    """Talks to customers of a market, language and journey: the first line."""
    BACK_END = "back_end"
    """A centre of excellence: specialists for one subject."""
    PARTNER = "partner"
    """An external company that handles cases under a contract."""
    ESCALATION = "escalation"
    """Takes over what the others could not bring to an end."""
    ENABLER = "enabler"
    """Helps the others; handles no cases."""


class ClockKind(StrEnum):
    """What a clock measures. Each counts only what its promise lets it, all time where nothing is promised."""

    FIRST_RESPONSE = "first_response"
    """From the customer's coming to the first public answer by a person."""
    NEXT_RESPONSE = "next_response"
    """From the oldest unanswered message to our public answer; one per customer turn."""
    PERIODIC_UPDATE = "periodic_update"
    """From one public message of ours to the next."""
    HANDLING = "handling"
    """The episode without the time in which the customer or a partner was waited for."""
    REQUESTER_WAIT = "requester_wait"
    """The episode without the time in which the customer was waited for."""
    RESOLUTION = "resolution"
    """The episode, all of it."""
    OWNERSHIP = "ownership"
    """From a unit's or partner's getting the case to its losing it; one per assignment."""


# ---------------------------------------------------------------------------------------------------- written by intake


class CaseOpened(CaseEvent, type="casewalk.case.opened.v1", writer="intake"):
    """A customer came in with something new. Occurs when the customer did it, not when we were told."""

    channel: Ref
    market: Ref
    language: Ref
    journey: Ref
    priority: Priority = Priority.NORMAL
    tier: Ref | None = None
    """What the customer is to us, such as `gold`; none where the channel does not say."""
    customer_ref: Ref
    customer_name: Personal | None = None
    """As the channel knows it; none where it did not say."""
    customer_email: Personal | None = None
    """Where the customer is answered, as the channel knows it; none where it did not say."""
    title: Personal
    body: Personal
    external_id: Ref | None = None
    """The case's id in the channel's own system."""
    to: Ref | None = None
    """The address of ours that the customer wrote to, such as a mailbox."""


class MessageReceived(CaseEvent, type="casewalk.case.message_received.v1", writer="intake"):
    """The customer wrote or said something on an existing case."""

    message_id: Ref
    channel: Ref
    title: Personal | None = None
    """What stood above it, where the channel has such a thing."""
    body: Personal
    to: Ref | None = None
    """The case's own address, where the customer wrote to it."""


class MessageSent(CaseEvent, type="casewalk.case.message_sent.v1", writer="intake"):
    """Somebody of ours or a partner's wrote: a public answer to the customer, or an internal note."""

    message_id: Ref
    channel: Ref
    visibility: Literal["public", "internal"]
    automatic: bool = False
    """Written by a machine: an acknowledgement is no first response."""
    waits_for: Literal["customer", "internal"] | None = None
    """Whom the case waits for from now on, if it does."""
    body: Personal


class CaseClassified(CaseEvent, type="casewalk.case.classified.v1", writer="intake"):
    """The case is seen otherwise from here on. What is none did not change; at least one of the three did."""

    priority: Priority | None = None
    tier: Ref | None = None
    journey: Ref | None = None
    reason: Label

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.priority is None and self.tier is None and self.journey is None:
            raise ValueError("say priority, tier or journey, or several of them")
        return self


class CaseFlagged(CaseEvent, type="casewalk.case.flagged.v1", writer="intake"):
    """Somebody or something noticed what a ladder may ask for; once per episode and flag."""

    flag: Ref
    """Such as `sentiment`, `keyword`, `regulator` or `legal`."""
    reason: Label


class CaseResolved(CaseEvent, type="casewalk.case.resolved.v1", writer="intake"):
    """The customer has an answer that ends episode `episode`."""

    episode: int = Field(ge=1)
    by: Literal["agent", "partner", "escalation", "customer", "system"]
    code: Ref = "solved"


class CaseReopened(CaseEvent, type="casewalk.case.reopened.v1", writer="intake"):
    """The answer was not the end; episode `episode` begins."""

    episode: int = Field(ge=2)
    reason: Label


class CaseClosed(CaseEvent, type="casewalk.case.closed.v1", writer="intake"):
    """Nothing more is expected on the case; a later contact opens a new one."""

    episode: int = Field(ge=1)
    reason: Label = "closed"


class CaseLinked(CaseEvent, type="casewalk.case.linked.v1", writer="intake"):
    """Two cases are one; said about both. Each keeps its own contacts and clocks."""

    relation: Literal["duplicate_of", "has_duplicate"]
    """A duplicate is resolved as such if it is open; the other one goes on."""
    case_id: Ref
    """The other case."""
    reason: Label


class FeedbackReceived(CaseEvent, type="casewalk.case.feedback_received.v1", writer="intake"):
    """The customer answered the survey about episode `episode`."""

    episode: int = Field(ge=1)
    accepted: bool | None = None
    """The customer's own yes or no to "was the answer acceptable?"."""
    csat: int | None = Field(default=None, ge=1, le=5)
    nps: int | None = Field(default=None, ge=0, le=10)


class CaseObserved(CaseEvent, type="casewalk.case.observed.v1", writer="intake"):
    """One row of another system's history: what it recorded about the case at that moment. Nothing fires by it."""

    import_id: Ref
    profile: Ref
    ordinal: int = Field(ge=1)
    """The row's place within its case, as the other system counts: it orders rows of one instant."""
    category: Category
    code: Label
    """The other system's own status."""
    resolution: bool = False
    """This step is a resolution in the other system's terms."""
    unit: Label | None = None
    line: Ref | None = None
    """The unit's line of support: `1` is the first line."""
    agent: Ref | None = None
    """A keyed HMAC of who did it: the same person has the same value within one installation."""
    external_id: Label
    channel: Ref | None = None
    market: Ref | None = None
    language: Ref | None = None
    journey: Ref | None = None
    priority: Priority | None = None
    promises: tuple[Ref, ...] = ()
    """id@version: what the import asks its history to be judged by; the same on every row of a case."""


class CaseTakenOver(CaseEvent, type="casewalk.case.taken_over.v1", writer="intake"):
    """The first live contact of an observed case: from here on it is ours, with all that routing needs."""

    episode: int = Field(ge=1)
    channel: Ref
    market: Ref
    language: Ref
    journey: Ref
    priority: Priority
    tier: Ref | None = None
    customer_ref: Ref | None = None


# ---------------------------------------------------------------------------------------------------- written by router


class CaseQueued(CaseEvent, type="casewalk.case.queued.v1", writer="router"):
    """A rule of the routing table, or a person, decided which queue the case waits in."""

    queue_id: Ref
    unit_id: Ref
    unit_kind: UnitKind
    routing_table: Ref | None = None
    """id@version of the table that decided; none when a person or an escalation did."""
    rule: Ref | None = None
    priority: Priority
    reason: Label
    channel: Ref | None = None
    market: Ref | None = None
    language: Ref | None = None
    journey: Ref | None = None


class CaseReranked(CaseEvent, type="casewalk.case.reranked.v1", writer="router"):
    """The case was classified anew: it is served by this priority and journey now, in the queue and place it has."""

    priority: Priority
    journey: Ref | None = None


class CaseDequeued(CaseEvent, type="casewalk.case.dequeued.v1", writer="router"):
    """The case left the queue without being taken from it: it is resolved, closed or escalated."""

    queue_id: Ref
    unit_id: Ref
    reason: Label


class CaseOffered(CaseEvent, type="casewalk.case.offered.v1", writer="router"):
    """One agent is asked to take the case until `expires_at`."""

    offer_id: Ref
    agent_id: Ref
    queue_id: Ref
    unit_id: Ref
    expires_at: Moment
    load: int = Field(ge=0)
    """Cases and offers the agent had before this one."""
    capacity: int = Field(ge=1)


class OfferDeclined(CaseEvent, type="casewalk.case.offer_declined.v1", writer="router"):
    """The agent said no; the case keeps its place in the queue."""

    offer_id: Ref
    agent_id: Ref
    reason: Label


class OfferExpired(CaseEvent, type="casewalk.case.offer_expired.v1", writer="router"):
    """Nobody answered the offer in time; the case keeps its place in the queue."""

    offer_id: Ref
    agent_id: Ref


class OfferWithdrawn(CaseEvent, type="casewalk.case.offer_withdrawn.v1", writer="router"):
    """The offer lost its reason before it was answered."""

    offer_id: Ref
    agent_id: Ref
    reason: Label


class CaseAssigned(CaseEvent, type="casewalk.case.assigned.v1", writer="router"):
    """The agent accepted the offer and owns the case now."""

    offer_id: Ref
    agent_id: Ref
    queue_id: Ref
    unit_id: Ref
    unit_kind: UnitKind


class CaseTransferred(CaseEvent, type="casewalk.case.transferred.v1", writer="router"):
    """The case leaves a unit for another one's queue; `case.queued` says which."""

    from_unit_id: Ref
    to_unit_id: Ref
    agent_id: Ref | None = None
    reason: Label


class CaseReleased(CaseEvent, type="casewalk.case.released.v1", writer="router"):
    """The agent no longer owns the case and has the capacity back."""

    agent_id: Ref
    unit_id: Ref
    reason: Label


# ------------------------------------------------------------------------------------------------ written by escalation


class ClockWarning(Part):
    """The clock will have used `percent` of its target at `at`, if nothing happens before."""

    percent: int = Field(ge=1, le=99)
    at: Moment


class ClockEvent(CaseEvent):
    """Something about one clock, which is named by its kind, its episode and its turn."""

    clock: ClockKind
    episode: int = Field(ge=1)
    turn: int = Field(default=0, ge=0)
    """1, 2, 3 … within the episode where a kind repeats in it, else 0."""


class PromisesPinned(CaseEvent, type="casewalk.case.promises_pinned.v1", writer="escalation"):
    """The promise versions by which the case is judged from its beginning on, until others are pinned."""

    promises: tuple[Ref, ...]
    """id@version, in the order in which they are asked whether they apply; none: nothing is promised."""
    reason: Label
    episode: int = Field(default=1, ge=1)
    """From which episode on; those before stay judged by what was pinned for them."""


class ClockStarted(ClockEvent, type="casewalk.case.clock_started.v2", writer="escalation"):
    """The clock counts from here on. What is none was not promised: time is measured all the same."""

    owner: Ref | None = None
    """Whose time it is, for an ownership clock."""
    promise: Ref | None = None
    """id@version."""
    calendar: Ref | None = None
    """id@version."""
    target_s: int | None = Field(default=None, ge=1)
    due_at: Moment | None = None
    warnings: tuple[ClockWarning, ...] = ()
    tzdata: Ref | None = None
    """The version of the time zone data that `due_at` was computed with."""
    fires: bool = True
    """False for another system's history: it is measured, and nobody is warned."""


class ClockPaused(ClockEvent, type="casewalk.case.clock_paused.v1", writer="escalation"):
    """The clock does not count until it is resumed; it is due never, or was before."""

    reason: Category
    """Whom the case waits for."""
    due_at: Moment | None = None
    tzdata: Ref | None = None


class ClockResumed(ClockEvent, type="casewalk.case.clock_resumed.v1", writer="escalation"):
    """The clock counts again."""

    due_at: Moment | None = None
    warnings: tuple[ClockWarning, ...] = ()
    tzdata: Ref | None = None
    ignored_s: int = Field(default=0, ge=0)
    """Seconds of the pause after the customer had come in again."""
    ignored_since: Moment | None = None
    """When the customer came in during the pause, if at all."""


class ClockRetargeted(ClockEvent, type="casewalk.case.clock_retargeted.v1", writer="escalation"):
    """Another target applies, counted from the clock's start; what counted until now, counted by what held then."""

    promise: Ref | None = None
    calendar: Ref | None = None
    target_s: int | None = Field(default=None, ge=1)
    due_at: Moment | None = None
    warnings: tuple[ClockWarning, ...] = ()
    tzdata: Ref | None = None


class ClockWarned(ClockEvent, type="casewalk.case.clock_warned.v1", writer="escalation"):
    """The clock has used `percent` of its time."""

    percent: int = Field(ge=1, le=99)
    due_at: Moment
    tzdata: Ref | None = None


class ClockBreached(ClockEvent, type="casewalk.case.clock_breached.v1", writer="escalation"):
    """The promise was not kept. Occurs at the due time, whenever it was noticed; once per clock, for ever."""

    promise: Ref
    due_at: Moment
    tzdata: Ref | None = None


class ClockStopped(ClockEvent, type="casewalk.case.clock_stopped.v2", writer="escalation"):
    """What the clock waited for happened, in time or not."""

    promise: Ref | None = None
    due_at: Moment | None = None
    elapsed_s: int = Field(ge=0)
    kept: bool | None = None
    """None where nothing was promised."""
    ignored_s: int = Field(default=0, ge=0)
    """Seconds of a pause that lasted until now after the customer had come in again."""
    ignored_since: Moment | None = None
    tzdata: Ref | None = None


class ClockCancelled(ClockEvent, type="casewalk.case.clock_cancelled.v1", writer="escalation"):
    """The clock lost its reason."""

    reason: Label
    kept: bool | None = None
    """False where that was after its due time; else it is no verdict."""
    ignored_s: int = Field(default=0, ge=0)
    """As `clock_stopped` says it."""
    ignored_since: Moment | None = None


class ClockPause(Part):
    since: Moment
    until: Moment | None = None
    reason: Category
    ignored_since: Moment | None = None
    """When the customer came in during the pause, if at all."""
    ignored_s: int = Field(default=0, ge=0)
    """Seconds of the pause after that."""


class ClockSpan(Part):
    """What held from `since` on."""

    since: Moment
    promise: Ref | None = None
    calendar: Ref | None = None
    target_s: int | None = None


class ClockAccount(Part):
    """All there is to say about a clock."""

    started_at: Moment
    owner: Ref | None = None
    spans: tuple[ClockSpan, ...]
    pauses: tuple[ClockPause, ...] = ()
    ended_at: Moment | None = None
    cancelled: bool = False
    due_at: Moment | None = None
    tzdata: Ref | None = None
    """The version of the time zone data that `due_at` was computed with."""
    warnings: tuple[ClockWarning, ...] = ()
    elapsed_s: int | None = None
    """Once it ended."""
    kept: bool | None = None
    """None while that is open, and where nothing was promised."""
    fires: bool = True


class ClockRestated(ClockEvent, type="casewalk.case.clock_restated.v1", writer="escalation"):
    """What was said about the clock is not what is true by what is known, or asked to be judged by, now."""

    reason: Label
    before: ClockAccount | None = None
    after: ClockAccount


class CaseEscalated(CaseEvent, type="casewalk.case.escalated.v1", writer="escalation"):
    """An escalation unit is asked to take ownership of the case."""

    escalation_id: Ref
    episode: int = Field(ge=1)
    unit_id: Ref
    ladder: Ref | None = None
    """id@version of the ladder whose rung fired; in older records none when a person asked."""
    trigger: Ref
    reason: Label
    rung: Ref | None = None
    """The rung that fired, once per case and episode; none in older records, which knew one rung only."""
    acknowledge_by: Moment | None = None
    """When the next rung is asked unless somebody owns the case by then; none: this unit has all the time."""
    on_duty: tuple[Ref, ...] = ()
    """Whom the unit's rota names, where the rung leaves the ownership to them; none: whoever acknowledges first."""
    resolved: bool = False
    """The customer has an answer already; the unit looks after what came of it."""


class EscalationUnanswered(CaseEvent, type="casewalk.case.escalation_unanswered.v1", writer="escalation"):
    """Nobody of the unit acknowledged in time; the next rung of the ladder is asked, if there is one."""

    escalation_id: Ref
    unit_id: Ref
    rung: Ref
    acknowledge_by: Moment


class EscalationAcknowledged(CaseEvent, type="casewalk.case.escalation_acknowledged.v1", writer="escalation"):
    """Somebody of the escalation unit owns the case from here."""

    escalation_id: Ref
    unit_id: Ref
    owner: Ref
    address: Ref | None = None
    """Where the customer reaches the owner: the case's own address."""


class EscalationResolved(CaseEvent, type="casewalk.case.escalation_resolved.v1", writer="escalation"):
    """The escalation unit brought the case to an end."""

    escalation_id: Ref
    unit_id: Ref
    owner: Ref
    code: Ref = "solved"


class EscalationReturned(CaseEvent, type="casewalk.case.escalation_returned.v1", writer="escalation"):
    """The escalation unit handed the case back, with the reason."""

    escalation_id: Ref
    unit_id: Ref
    reason: Label
    times: int = Field(default=1, ge=1)
    """How often an escalation of the case was handed back, this time included."""


class CaseIssueLinked(CaseEvent, type="casewalk.case.issue_linked.v1", writer="escalation"):
    """The case is one of many with the same cause: what is said and done about the issue goes for it, too."""

    issue_id: Ref


class CaseIssueMessage(CaseEvent, type="casewalk.case.issue_message.v1", writer="escalation"):
    """What is told to every customer of the issue; intake makes it a message of the case."""

    issue_id: Ref
    message_id: Ref
    body: Text


class CaseIssueResolved(CaseEvent, type="casewalk.case.issue_resolved.v1", writer="escalation"):
    """The issue has its answer; intake makes it the case's resolution."""

    issue_id: Ref
    code: Ref = "solved"


# ---------------------------------------------------------------------------------------------------- written by vendor


class CaseHandedOver(CaseEvent, type="casewalk.case.handed_over.v1", writer="vendor"):
    """The case lies with a partner now, chosen by the share plan."""

    order_id: Ref
    partner_id: Ref
    queue_id: Ref
    unit_id: Ref
    contract: Ref
    """id@version."""
    share_plan: Ref | None = None
    """id@version; none when the queue has one partner only."""
    deficit: Amount = "0"
    """Cases the partner was behind its share before this one, as a decimal."""


class PartnerAccepted(CaseEvent, type="casewalk.case.partner_accepted.v1", writer="vendor"):
    """The partner works on the case."""

    order_id: Ref
    partner_id: Ref


class PartnerReturned(CaseEvent, type="casewalk.case.partner_returned.v1", writer="vendor"):
    """The case comes back unsolved; `partner_id` is none when no contract covered its queue."""

    order_id: Ref
    partner_id: Ref | None = None
    queue_id: Ref
    unit_id: Ref
    reason: Label


class PartnerResolved(CaseEvent, type="casewalk.case.partner_resolved.v1", writer="vendor"):
    """The partner brought the case to an end; intake makes it the case's resolution."""

    order_id: Ref
    partner_id: Ref
    code: Ref = "solved"


CASE_EVENTS: tuple[type[CaseEvent], ...] = (
    CaseOpened,
    MessageReceived,
    MessageSent,
    CaseClassified,
    CaseFlagged,
    CaseResolved,
    CaseReopened,
    CaseClosed,
    CaseLinked,
    FeedbackReceived,
    CaseObserved,
    CaseTakenOver,
    CaseQueued,
    CaseReranked,
    CaseDequeued,
    CaseOffered,
    OfferDeclined,
    OfferExpired,
    OfferWithdrawn,
    CaseAssigned,
    CaseTransferred,
    CaseReleased,
    PromisesPinned,
    ClockStarted,
    ClockPaused,
    ClockResumed,
    ClockRetargeted,
    ClockWarned,
    ClockBreached,
    ClockStopped,
    ClockCancelled,
    ClockRestated,
    CaseEscalated,
    EscalationUnanswered,
    EscalationAcknowledged,
    EscalationResolved,
    EscalationReturned,
    CaseIssueLinked,
    CaseIssueMessage,
    CaseIssueResolved,
    CaseHandedOver,
    PartnerAccepted,
    PartnerReturned,
    PartnerResolved,
)
"""Every event of the topic `casewalk.cases`."""


# ------------------------------------------------------------------------------------------- what the events add up to


def address(case_id: str) -> str:
    """The case's own address: what a customer sends there comes in on the case."""
    return f"case-{case_id}"


@dataclass(frozen=True)
class Case:
    """Where a case stands, folded from every service's events in the order of `Recorded.key`."""

    case_id: str
    category: Category = Category.NEW
    live: bool = False
    """It is handled here: opened here, or taken over from the system it was observed in."""
    episode: int = 1
    first_at: datetime | None = None
    last_at: datetime | None = None
    opened_at: datetime | None = None
    resolved_at: datetime | None = None
    closed_at: datetime | None = None
    channel: str | None = None
    market: str | None = None
    language: str | None = None
    journey: str | None = None
    priority: Priority | None = None
    tier: str | None = None
    customer_ref: str | None = None
    external_id: str | None = None
    import_id: str | None = None
    queue_id: str | None = None
    unit_id: str | None = None
    agent_id: str | None = None
    partner_id: str | None = None
    escalation_id: str | None = None


def evolve(case: Case, event: Recorded[CaseEvent]) -> Case:
    """The case after one more event. Total: an event out of its place changes what it can and refuses nothing."""
    at, data = event.occurred_at, event.data
    if isinstance(data, CaseObserved) and not case.live:
        return _observed(case, data, at)
    case = replace(case, first_at=case.first_at or at, last_at=at)
    match data:
        case CaseOpened() | CaseTakenOver():
            case = replace(
                case,
                category=case.category if isinstance(data, CaseOpened) else Category.IN_PROGRESS,
                live=True,
                opened_at=case.opened_at or at,
                channel=data.channel,
                market=data.market,
                language=data.language,
                journey=data.journey,
                priority=data.priority,
                tier=data.tier,
                customer_ref=data.customer_ref or case.customer_ref,
            )
            if isinstance(data, CaseOpened):
                return replace(case, external_id=data.external_id)
            return replace(case, episode=data.episode, resolved_at=None, closed_at=None)
        case CaseClassified():
            return replace(
                case,
                priority=data.priority or case.priority,
                tier=data.tier or case.tier,
                journey=data.journey or case.journey,
            )
        case MessageReceived():
            return _working(case) if case.category is Category.WAITING_CUSTOMER else case
        case MessageSent(waits_for="customer"):
            return _waiting(case, Category.WAITING_CUSTOMER)
        case MessageSent(waits_for="internal"):
            return _waiting(case, Category.WAITING_INTERNAL)
        case CaseResolved():
            return replace(
                case, category=Category.RESOLVED, resolved_at=at, agent_id=None, partner_id=None, escalation_id=None
            )
        case CaseReopened():
            return replace(case, category=Category.IN_PROGRESS, episode=data.episode, resolved_at=None)
        case CaseClosed():
            return replace(case, category=Category.CLOSED, closed_at=at)
        case CaseQueued():
            waits = data.unit_kind is UnitKind.BACK_END and case.category is not Category.NEW
            case = replace(case, queue_id=data.queue_id, unit_id=data.unit_id)
            return _waiting(case, Category.WAITING_INTERNAL) if waits else case
        case CaseAssigned():
            return _working(replace(case, agent_id=data.agent_id, unit_id=data.unit_id, queue_id=data.queue_id))
        case CaseReleased():
            return replace(case, agent_id=None)
        case CaseEscalated():
            return _working(replace(case, escalation_id=data.escalation_id, unit_id=data.unit_id, agent_id=None))
        case EscalationReturned():
            return replace(case, escalation_id=None)
        case CaseHandedOver():
            return _waiting(replace(case, partner_id=data.partner_id, agent_id=None), Category.WAITING_PARTNER)
        case PartnerReturned():
            return _working(replace(case, partner_id=None))
        case _:  # among them another system's late row: it moves no live case
            return case


ENDED = (Category.RESOLVED, Category.CLOSED)


def _working(case: Case) -> Case:
    return case if case.category in ENDED else replace(case, category=Category.IN_PROGRESS)


def _waiting(case: Case, category: Category) -> Case:
    return case if case.category in ENDED else replace(case, category=category)


def _observed(case: Case, data: CaseObserved, at: datetime) -> Case:
    reopened = case.category in ENDED and data.category not in ENDED
    return replace(
        case,
        first_at=case.first_at or at,
        last_at=at,
        category=data.category,
        episode=case.episode + reopened,
        opened_at=case.opened_at or at,
        resolved_at=at if data.resolution else None if reopened else case.resolved_at,
        closed_at=at if data.category is Category.CLOSED else None,
        channel=data.channel or case.channel,
        market=data.market or case.market,
        language=data.language or case.language,
        journey=data.journey or case.journey,
        priority=data.priority or case.priority,
        external_id=data.external_id,
        import_id=data.import_id,
        unit_id=data.unit or case.unit_id,
    )
