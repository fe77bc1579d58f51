"""A case's walk: everything that happened to it, in order and in plain words, and the four answers it ends in.

The answers and what counts as a step come from the same fold as the figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from events import case
from events.event import CaseEvent, Recorded
from events.personal import personal_fields
from services.metrics.facts import CaseFacts, Verdict, fold, wire_name
from services.metrics.kinds import Kind, kind_of
from services.metrics.overlaps import Overlap, overlaps

Detail = str | int | bool


@dataclass(frozen=True)
class Line:
    """One thing that happened."""

    id: str
    """The event's id."""
    kind: Kind
    at: datetime
    what: str
    """In plain words."""
    type: str
    """The event's wire type."""
    who: str
    """`agent:<id>`, `partner:<id>`, `key:<id>` or `service:<name>`; of an observed step, the agent it names."""
    where: str | None
    """`queue:<id>`, `unit:<id>` or `partner:<id>`, if it says where the case is."""
    why: str | None
    spent_s: float | None
    """Seconds since the step before; None for the first, and for what is no step."""
    details: dict[str, Detail]
    """Everything else the event says, except personal texts."""


@dataclass(frozen=True)
class Walk:
    """All lines of a case, and what they come to."""

    facts: CaseFacts
    lines: tuple[Line, ...]
    verdict: dict[str, Verdict]
    evidence: dict[str, tuple[str, ...]]
    """Per answer, the ids of the events that decided it; none where it is unknown, or where nothing happened."""
    overlaps: tuple[Overlap, ...] = ()
    """When several had the case at once."""


_SHOWN_BY: dict[str, tuple[str, ...]] = {
    "in_time": ("clock_episode", "clock_kept"),
    "accepted": ("survey_episode", "survey_accepted", "csat"),
    "solved_alone": ("units", "agents", "first_line", "resolved"),
    "escalated": ("escalations",),
}
"""Answer → the facts it is made of. A new value of a fact ending in `_episode` makes older evidence void."""


def walk(events: Iterable[Recorded[Any]]) -> Walk | None:
    """The walk of one case from its events, in whatever order they come; None without any."""
    facts, lines, promised = None, list[Line](), set[tuple[case.ClockKind, int, int]]()
    evidence: dict[str, list[str]] = {answer: [] for answer in _SHOWN_BY}
    ordered = sorted(events, key=lambda event: event.key)
    for event in ordered:
        before = facts or CaseFacts(event.subject)
        facts = fold(facts, event)
        if _is_told(event.data, promised):
            lines.append(_line(before, event))
        _collect(evidence, before, facts, event.id)
    if facts is None:
        return None
    verdict: dict[str, Verdict] = {answer: getattr(facts, answer) for answer in _SHOWN_BY}
    told = {a: tuple(ids) if verdict[a] is not Verdict.UNKNOWN else () for a, ids in evidence.items()}
    return Walk(facts, tuple(lines), verdict, told, overlaps(ordered))


def _is_told(data: CaseEvent, promised: set[tuple[case.ClockKind, int, int]]) -> bool:
    """Everything but clocks that nothing is promised about: they are asked for by themselves."""
    if not isinstance(data, case.ClockEvent):
        return True
    key = (data.clock, data.episode, data.turn)
    spans = data.after.spans if isinstance(data, case.ClockRestated) else (data,)
    if any(getattr(span, "promise", None) is not None for span in spans):
        promised.add(key)
    return key in promised


def _collect(evidence: dict[str, list[str]], before: CaseFacts, after: CaseFacts, event_id: str) -> None:
    for answer, names in _SHOWN_BY.items():
        changed = [name for name in names if getattr(before, name) != getattr(after, name)]
        if any(name.endswith("_episode") for name in changed):
            evidence[answer].clear()
        if changed:
            evidence[answer].append(event_id)


def _line(before: CaseFacts, event: Recorded[CaseEvent]) -> Line:
    kind, data = kind_of(before.category, event.data), event.data
    since = before.last_at if kind is Kind.STEP else None
    return Line(
        id=event.id,
        kind=kind,
        at=event.occurred_at,
        what=what_happened(data),
        type=data.TYPE,
        who=f"agent:{data.agent}" if isinstance(data, case.CaseObserved) and data.agent else event.actor,
        where=_where(data),
        why=_why(data),
        spent_s=None if since is None else (event.occurred_at - since).total_seconds(),
        details=_details(data),
    )


def _where(data: CaseEvent) -> str | None:
    for kind, name in (("partner", "partner_id"), ("queue", "queue_id"), ("unit", "unit_id"), ("unit", "unit")):
        if (value := getattr(data, name, None)) is not None:
            return f"{kind}:{value}"
    return f"unit:{data.to_unit_id}" if isinstance(data, case.CaseTransferred) else None


def _why(data: CaseEvent) -> str | None:
    """The reason given, with the rule that decided; a resolution's or another system's code."""
    match data:
        case case.CaseQueued(routing_table=str(table), rule=str(rule)):
            decided = f"rule {rule} of {table}"
            return data.reason if decided in data.reason else f"{data.reason} ({decided})"
        case case.CaseEscalated(ladder=str(ladder)):
            return f"{data.reason} (ladder {ladder})"
        case case.CaseHandedOver():
            return f"contract {data.contract}" + (f", share plan {data.share_plan}" if data.share_plan else "")
        case case.ClockStarted() | case.ClockRetargeted() | case.ClockStopped() | case.ClockBreached():
            return None if data.promise is None else f"promise {data.promise}"
        case _:
            return getattr(data, "reason", None) or getattr(data, "code", None)


def _details(data: CaseEvent) -> dict[str, Detail]:
    said = data.model_dump(mode="json", exclude=set(personal_fields(type(data))), exclude_none=True)
    return {name: value for name, value in said.items() if name not in ("reason", "code") and isinstance(value, Detail)}


def what_happened(data: CaseEvent) -> str:
    """The event in plain words, ids instead of names."""
    match data:
        case case.CaseOpened():
            return f"a customer came in by {data.channel}"
        case case.CaseObserved():
            return f"{data.profile} recorded {data.code}"
        case case.CaseTakenOver():
            return f"taken over from the other system, by {data.channel}"
        case case.MessageReceived():
            return f"the customer wrote by {data.channel}" + (" to the case's own address" if data.to else "")
        case case.MessageSent():
            return _sent(data)
        case case.CaseResolved():
            return f"resolved by {_BY[data.by]}" + _of(data.episode)
        case case.CaseReopened():
            return f"reopened, episode {data.episode} begins"
        case case.CaseClosed():
            return "closed"
        case case.CaseLinked():
            duplicate = data.relation == "duplicate_of"
            return f"a duplicate of case {data.case_id}" if duplicate else f"case {data.case_id} is a duplicate of it"
        case case.FeedbackReceived():
            return _answered(data)
        case case.PromisesPinned():
            return "judged by " + (", ".join(data.promises) or "nothing")
        case case.ClockEvent():
            return _clock(data)
        case _:
            return _routed(data)


_BY = {
    "agent": "an agent",
    "partner": "a partner",
    "escalation": "the escalation unit",
    "customer": "the customer",
    "system": "a machine",
}


def _of(episode: int) -> str:
    return "" if episode == 1 else f" (episode {episode})"


def _seen(data: case.CaseClassified | case.CaseReranked) -> str:
    said = ((name, getattr(data, name, None)) for name in ("priority", "tier", "journey"))
    return ", ".join(f"{name} {value}" for name, value in said if value is not None)


def _sent(data: case.MessageSent) -> str:
    if data.visibility == "internal":
        said = "an internal note was left"
    elif data.automatic:
        said = f"an automatic message went out by {data.channel}"
    else:
        said = f"the customer was answered by {data.channel}"
    waits = {"customer": "the customer", "internal": "colleagues"}
    return said if data.waits_for is None else f"{said}; waiting for {waits[data.waits_for]}"


def _answered(data: case.FeedbackReceived) -> str:
    said = {True: "yes, acceptable", False: "no, not acceptable", None: None}[data.accepted]
    scores = (
        said,
        None if data.csat is None else f"satisfaction {data.csat} of 5",
        None if data.nps is None else f"would recommend: {data.nps} of 10",
    )
    told = ", ".join(score for score in scores if score is not None)
    return f"the customer answered the survey{_of(data.episode)}" + (f": {told}" if told else "")


_KEPT = {True: "in time", False: "too late", None: "open"}


def _clock(data: case.ClockEvent) -> str:
    name = f"{data.clock.replace('_', '-')} clock{_of(data.episode)}"
    match data:
        case case.ClockPaused():
            return f"{name} paused"
        case case.ClockResumed():
            return f"{name} goes on"
        case case.ClockRetargeted():
            return f"{name} has another target"
        case case.ClockCancelled():
            return f"{name} ended without a verdict"
        case case.ClockRestated():
            return f"{name} told anew: " + _KEPT[data.after.kept]
        case case.ClockStarted():
            return f"{name} started"
        case case.ClockWarned():
            return f"{name} has used {data.percent} % of its time"
        case case.ClockBreached():
            return f"{name} breached its promise"
        case case.ClockStopped():
            return f"{name} stopped" + ("" if data.kept is None else f", {_KEPT[data.kept]}")
        case _:
            return name


def _routed(data: CaseEvent) -> str:
    match data:
        case case.CaseClassified():
            return f"seen otherwise: {_seen(data)}"
        case case.CaseFlagged():
            return f"flagged: {data.flag}"
        case case.CaseReranked():
            return f"ranked anew: {_seen(data)}"
        case case.CaseQueued():
            return f"waits in queue {data.queue_id} of unit {data.unit_id}"
        case case.CaseDequeued():
            return f"left queue {data.queue_id}"
        case case.CaseOffered():
            return f"offered to agent {data.agent_id}"
        case case.OfferDeclined():
            return f"agent {data.agent_id} declined"
        case case.OfferExpired():
            return f"agent {data.agent_id} did not answer the offer"
        case case.OfferWithdrawn():
            return f"the offer to agent {data.agent_id} was withdrawn"
        case case.CaseAssigned():
            return f"agent {data.agent_id} took it"
        case case.CaseTransferred():
            return f"transferred from unit {data.from_unit_id} to unit {data.to_unit_id}"
        case case.CaseReleased():
            return f"agent {data.agent_id} gave it up"
        case _:
            return _elsewhere(data)


def _elsewhere(data: CaseEvent) -> str:
    match data:
        case case.CaseEscalated():
            return f"escalated to unit {data.unit_id}"
        case case.EscalationUnanswered():
            return f"nobody of unit {data.unit_id} acknowledged in time"
        case case.EscalationAcknowledged():
            return f"{data.owner} of unit {data.unit_id} owns it now"
        case case.EscalationResolved():
            return f"unit {data.unit_id} brought it to an end"
        case case.EscalationReturned():
            return f"unit {data.unit_id} handed it back"
        case case.CaseIssueLinked():
            return f"it belongs to the issue {data.issue_id}"
        case case.CaseIssueMessage():
            return f"all customers of the issue {data.issue_id} are told"
        case case.CaseIssueResolved():
            return f"the issue {data.issue_id} has its answer"
        case case.CaseHandedOver():
            return f"handed over to partner {data.partner_id}"
        case case.PartnerAccepted():
            return f"partner {data.partner_id} works on it"
        case case.PartnerReturned(partner_id=None):
            return f"no partner takes the cases of queue {data.queue_id}"
        case case.PartnerReturned():
            return f"partner {data.partner_id} gave it back"
        case case.PartnerResolved():
            return f"partner {data.partner_id} brought it to an end"
        case _:
            return wire_name(type(data)).replace("_", " ")
