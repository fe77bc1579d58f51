"""One good event of every type, for tests that need something to have happened.

    an(CaseOpened)                        as it stands below
    an(CaseOpened, market="fr")           with another market

To add one: put it into `EXAMPLES`; `tests/events/test_wire.py` says when one is missing.
"""

from datetime import UTC, date, datetime
from typing import Any, TypeVar

from events import case, operations
from events.case import Category, ClockKind, Priority, UnitKind
from events.event import Event
from events.operations import Presence, PromiseTarget, Role, RoutingRule, Share, Skills, When
from events.personal import Clear

E = TypeVar("E", bound=Event)

CUSTOMER = "customer:0195571e-8a00-7000-8000-00000000000c"
ANNA = "agent:anna"
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
AFTERNOON = datetime(2026, 3, 2, 16, 0, tzinfo=UTC)

_ESCALATION = "0195571e-8a00-7000-8000-000000000001.1"
_ORDER = "0195571e-8a00-7000-8000-000000000001.1.1"

_INTAKE: tuple[Event, ...] = (
    case.CaseOpened(
        channel="email",
        market="de",
        language="de",
        journey="delivery",
        priority=Priority.HIGH,
        tier="gold",
        customer_ref=CUSTOMER,
        customer_name=Clear(CUSTOMER, "Kim Ünal"),
        customer_email=Clear(CUSTOMER, "kim@customer.example"),
        title=Clear(CUSTOMER, "Where is my parcel?"),
        body=Clear(CUSTOMER, "It should have been here on Friday. Grüße, K. Ünal 📦"),
        external_id="MAIL-4711",
        to="help@shop.example",
    ),
    case.MessageReceived(
        message_id="m-2",
        channel="email",
        title=Clear(CUSTOMER, "Re: Where is my parcel?"),
        body=Clear(CUSTOMER, "Any news?"),
        to="case-0195571e-8a00-7000-8000-000000000001",
    ),
    case.MessageSent(
        message_id="m-3",
        channel="email",
        visibility="public",
        automatic=False,
        waits_for="customer",
        body=Clear(CUSTOMER, "Which address did you give?"),
    ),
    case.CaseClassified(priority=Priority.URGENT, tier="gold", journey="return", reason="the customer called again"),
    case.CaseFlagged(flag="regulator", reason="the customer names the ombudsman"),
    case.CaseResolved(episode=1, by="agent", code="solved"),
    case.CaseReopened(episode=2, reason="the parcel did not come"),
    case.CaseClosed(episode=1, reason="closed"),
    case.CaseLinked(
        relation="duplicate_of", case_id="0195571e-8a00-7000-8000-000000000002", reason="the customer wrote twice"
    ),
    case.FeedbackReceived(episode=1, accepted=True, csat=4, nps=9),
    case.CaseObserved(
        import_id="import-1",
        profile="vinst",
        ordinal=3,
        category=Category.WAITING_CUSTOMER,
        code="Accepted/Wait - User",
        resolution=False,
        unit="G97",
        line="1",
        agent="0f343b0931126a20f133d67c2b018a3b",
        external_id="1-364285768",
        channel="phone",
        market="se",
        language="sv",
        journey="incident",
        priority=Priority.NORMAL,
        promises=("resolution@1",),
    ),
    case.CaseTakenOver(
        episode=1,
        channel="phone",
        market="se",
        language="sv",
        journey="incident",
        priority=Priority.NORMAL,
        tier="gold",
        customer_ref=CUSTOMER,
    ),
    operations.KeyIssued(
        role=Role.AGENT,
        sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        holder="anna",
        label="Anna's phone",
    ),
    operations.KeyRevoked(reason="lost"),
    operations.CustomerErased(reason="requested"),
)

_ROUTER: tuple[Event, ...] = (
    case.CaseQueued(
        queue_id="general",
        unit_id="general",
        unit_kind=UnitKind.FRONT_END,
        routing_table="main@1",
        rule="default",
        priority=Priority.HIGH,
        reason="routed",
        channel="email",
        market="de",
        language="de",
        journey="delivery",
    ),
    case.CaseOffered(
        offer_id="offer-1",
        agent_id="anna",
        queue_id="general",
        unit_id="general",
        expires_at=NOON,
        load=2,
        capacity=5,
    ),
    case.OfferDeclined(offer_id="offer-1", agent_id="anna", reason="at lunch"),
    case.OfferExpired(offer_id="offer-1", agent_id="anna"),
    case.OfferWithdrawn(offer_id="offer-1", agent_id="anna", reason="resolved"),
    case.CaseAssigned(
        offer_id="offer-1", agent_id="anna", queue_id="general", unit_id="general", unit_kind=UnitKind.FRONT_END
    ),
    case.CaseTransferred(from_unit_id="general", to_unit_id="parcels", agent_id="anna", reason="needs a specialist"),
    case.CaseReranked(priority=Priority.URGENT, journey="return"),
    case.CaseDequeued(queue_id="general", unit_id="general", reason="resolved"),
    case.CaseReleased(agent_id="anna", unit_id="general", reason="transferred"),
    operations.UnitPublished(version=1, name="General enquiries", kind=UnitKind.FRONT_END, markets=("de", "at")),
    operations.QueuePublished(version=2, name="General", unit_id="general", level=1, offer_s=60),
    operations.AgentRegistered(
        version=1,
        name=Clear(ANNA, "Anna Åkesson"),
        unit_ids=("general",),
        skills=Skills(markets=("de",), languages=("de", "en"), journeys=(), level=2),
        capacity=5,
    ),
    operations.PresenceChanged(presence=Presence.AVAILABLE),
    operations.RoutingTablePublished(
        version=1,
        rules=(
            RoutingRule(
                rule="parcels", when=When(journeys=("delivery",), priorities=(Priority.HIGH,)), queue_id="parcels"
            ),
            RoutingRule(rule="default", queue_id="general"),
        ),
    ),
)

_ESCALATION_UNIT: tuple[Event, ...] = (
    case.ClockStarted(
        clock=ClockKind.RESOLUTION,
        episode=1,
        turn=0,
        owner=None,
        fires=True,
        promise="standard@1",
        calendar="always@1",
        target_s=28_800,
        due_at=AFTERNOON,
        warnings=(case.ClockWarning(percent=75, at=NOON),),
        tzdata="2026.6",
    ),
    case.PromisesPinned(promises=("vip@2", "standard@1"), reason="the case came in", episode=1),
    case.ClockPaused(
        clock=ClockKind.HANDLING, episode=1, turn=0, reason=Category.WAITING_CUSTOMER, due_at=None, tzdata=None
    ),
    case.ClockResumed(
        clock=ClockKind.HANDLING,
        episode=1,
        turn=0,
        due_at=AFTERNOON,
        warnings=(case.ClockWarning(percent=90, at=NOON),),
        tzdata="2026.6",
        ignored_s=60,
        ignored_since=NOON,
    ),
    case.ClockRetargeted(
        clock=ClockKind.RESOLUTION,
        episode=1,
        turn=0,
        promise="vip@2",
        calendar="office@3",
        target_s=14_400,
        due_at=AFTERNOON,
        warnings=(case.ClockWarning(percent=75, at=NOON),),
        tzdata="2026.6",
    ),
    case.ClockCancelled(
        clock=ClockKind.NEXT_RESPONSE,
        episode=1,
        turn=2,
        reason="the case was closed",
        kept=None,
        ignored_s=0,
        ignored_since=None,
    ),
    case.ClockRestated(
        clock=ClockKind.NEXT_RESPONSE,
        episode=1,
        turn=1,
        reason="an answer was heard of late",
        before=case.ClockAccount(started_at=NOON, spans=(case.ClockSpan(since=NOON),), kept=False),
        after=case.ClockAccount(
            started_at=NOON,
            spans=(case.ClockSpan(since=NOON, promise="standard@1", calendar="always@1", target_s=14_400),),
            pauses=(case.ClockPause(since=NOON, until=AFTERNOON, reason=Category.WAITING_CUSTOMER),),
            ended_at=AFTERNOON,
            due_at=AFTERNOON,
            tzdata="2026.6",
            elapsed_s=3600,
            kept=True,
        ),
    ),
    case.ClockWarned(clock=ClockKind.RESOLUTION, episode=1, turn=0, percent=75, due_at=AFTERNOON, tzdata="2026.6"),
    case.ClockBreached(
        clock=ClockKind.RESOLUTION, episode=1, turn=0, promise="standard@1", due_at=AFTERNOON, tzdata="2026.6"
    ),
    case.ClockStopped(
        clock=ClockKind.FIRST_RESPONSE,
        episode=1,
        turn=0,
        promise="standard@1",
        due_at=NOON,
        elapsed_s=412,
        kept=True,
        ignored_s=0,
        ignored_since=None,
        tzdata="2026.6",
    ),
    case.CaseEscalated(
        escalation_id=_ESCALATION,
        episode=1,
        unit_id="escalation",
        ladder="standard@1",
        trigger="resolution",
        reason="the promise was not kept",
        rung="first",
        acknowledge_by=None,
        on_duty=(),
        resolved=False,
    ),
    case.EscalationUnanswered(
        escalation_id=_ESCALATION, unit_id="escalation", rung="second-line", acknowledge_by=AFTERNOON
    ),
    case.EscalationAcknowledged(
        escalation_id=_ESCALATION,
        unit_id="escalation",
        owner="olga",
        address="case-0195571e-8a00-7000-8000-000000000001",
    ),
    case.EscalationResolved(escalation_id=_ESCALATION, unit_id="escalation", owner="olga", code="solved"),
    case.EscalationReturned(escalation_id=_ESCALATION, unit_id="escalation", reason="nothing to escalate", times=1),
    operations.CalendarPublished(
        version=2,
        name="Office",
        always=False,
        tz="Europe/Berlin",
        weekly=operations.Weekly(mon=(operations.Hours(opens="09:00", closes="17:30"),)),
        holidays=(date(2026, 4, 3),),
        holidays_from=operations.HolidaySource(country="DE", subdivision="BE", library="holidays-0.109"),
        exceptions=(operations.OwnHours(on=date(2026, 12, 24), hours=()),),
        valid_from=NOON,
        tzdata="2026.3",
    ),
    operations.PromisePublished(
        version=1,
        name="Standard",
        calendar="always@1",
        targets=(
            PromiseTarget(clock=ClockKind.FIRST_RESPONSE, priority=Priority.HIGH, target_s=3_600),
            PromiseTarget(clock=ClockKind.RESOLUTION, priority=Priority.HIGH, target_s=28_800),
        ),
        warn_percent=75,
        kind=operations.PromiseKind.CUSTOMER,
        start=operations.Cases(),
        stop=operations.Cases(tiers=("staff",)),
        pauses=(operations.PromisePause(clocks=(ClockKind.RESOLUTION,), categories=(Category.WAITING_CUSTOMER,)),),
        warnings=(50, 75, 90),
        restate=operations.Restate.FORWARD_ONLY,
    ),
    operations.LadderPublished(
        version=1,
        unit_id="escalation",
        on_breach=(ClockKind.RESOLUTION,),
        applies=operations.Applies(),
        rungs=(),
    ),
    case.CaseIssueLinked(issue_id="issue-1"),
    case.CaseIssueMessage(issue_id="issue-1", message_id="issue-1.1", body="The parcels are late.\nWe are on it."),
    case.CaseIssueResolved(issue_id="issue-1", code="solved"),
    operations.IssueProposed(title="Hub closed by snow", reason="40 cases since this morning"),
    operations.IssueAccepted(owner="olga"),
    operations.IssueRejected(reason="two causes"),
    operations.IssueCancelled(reason="the hub never closed"),
    operations.IssueGathered(case_ids=("0195571e-8a00-7000-8000-000000000001",)),
    operations.IssueMessageSent(message_id="issue-1.1", body="The parcels are late.\nWe are on it."),
    operations.IssueResolved(code="solved"),
    operations.RotaPublished(
        version=1,
        unit_id="escalation",
        tz="Europe/Berlin",
        weekly=(operations.WeeklyShift(days=("mon", "tue"), opens="08:00", closes="20:00", agents=("olga",)),),
        dated=(operations.DatedShift(date="2026-12-24", opens="00:00", closes="24:00", agents=("paul",)),),
    ),
    operations.NoticePublished(
        version=1,
        events=(operations.NoticeEvent.CLOCK_WARNED, operations.NoticeEvent.CLOCK_BREACHED),
        unit_ids=("escalation",),
        markets=("de",),
        channel=operations.NoticeChannel.WEBHOOK,
        address=Clear("notice:duty", "https://example.org/casewalk"),
        address_key="5d41402abc4b2a76b9719d911017c592",
        secret=Clear("notice:duty", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        calendar="office",
        active=True,
    ),
)

_VENDOR: tuple[Event, ...] = (
    case.CaseHandedOver(
        order_id=_ORDER,
        partner_id="swift",
        queue_id="parcels",
        unit_id="parcels",
        contract="swift-parcels@1",
        share_plan="parcels@1",
        deficit="0.6",
    ),
    case.PartnerAccepted(order_id=_ORDER, partner_id="swift"),
    case.PartnerReturned(
        order_id=_ORDER, partner_id="swift", queue_id="parcels", unit_id="parcels", reason="not our parcel"
    ),
    case.PartnerResolved(order_id=_ORDER, partner_id="swift", code="delivered"),
    operations.PartnerRegistered(
        version=1, name="Swift Parcels", contact=Clear("partner:swift", "Sam <sam@swift.example>")
    ),
    operations.ContractPublished(version=1, partner_id="swift", queue_ids=("parcels",)),
    operations.SharePlanPublished(
        version=1,
        queue_id="parcels",
        shares=(Share(partner_id="swift", percent=60), Share(partner_id="steady", percent=40)),
    ),
)

_METRICS: tuple[Event, ...] = (
    operations.DefinitionPublished(
        version=1,
        name="Reopened cases",
        unit="percent",
        formula="reopened / resolved × 100",
        description="How many of the resolved cases came back.",
        source="Casewalk",
    ),
)

EXAMPLES: dict[type[Event], Event] = {
    type(event): event for event in (*_INTAKE, *_ROUTER, *_ESCALATION_UNIT, *_VENDOR, *_METRICS)
}


def an(kind: type[E], **changes: Any) -> E:
    """A good event of this type with some fields changed; the changes are validated."""
    event = EXAMPLES[kind]
    return kind.model_validate({name: getattr(event, name) for name in kind.model_fields} | changes)
