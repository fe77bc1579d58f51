"""The facts of a case: what all figures and walks are made of, folded from everything that happened to it.

A figure and a walk cannot disagree: there is no other fold. The four answers are `_answered`; what is counted when a
case moves is `_step`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from events.case import (
    ENDED,
    Case,
    CaseAssigned,
    CaseEscalated,
    CaseHandedOver,
    CaseObserved,
    CaseOpened,
    CaseQueued,
    CaseResolved,
    CaseTakenOver,
    Category,
    ClockBreached,
    ClockCancelled,
    ClockKind,
    ClockRestated,
    ClockResumed,
    ClockStarted,
    ClockStopped,
    EscalationReturned,
    FeedbackReceived,
    MessageReceived,
    MessageSent,
    Priority,
    UnitKind,
    evolve,
)
from events.event import CaseEvent, Recorded, replace
from services.metrics.clocks import clock_told
from services.metrics.kinds import Kind, kind_of

FIRST_LINE = "1"
"""`CaseObserved.line` of a first-line unit."""


class Verdict(StrEnum):
    """An answer about a case. What nobody said and nothing shows is unknown, never yes."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, answer: bool | None) -> Verdict:
        return cls.UNKNOWN if answer is None else cls.YES if answer else cls.NO


@dataclass(frozen=True)
class CaseFacts:
    """All that the figures know about one case. Durations are whole microseconds."""

    case_id: str
    # where it stands, as events.case says
    category: Category = Category.NEW
    live: bool = False
    episode: int = 1
    opened_at: datetime | None = None
    channel: str | None = None
    market: str | None = None
    language: str | None = None
    journey: str | None = None
    priority: Priority | None = None
    tier: str | None = None
    queue_id: str | None = None
    unit_id: str | None = None
    import_id: str | None = None
    opened_on: date | None = None
    """The day of `opened_at` in UTC."""
    # the walk
    steps: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    duration_us: int = 0
    """From the first step to the last."""
    longest_gap_us: int = 0
    """Between two consecutive steps."""
    handovers: int = 0
    """Changes of unit between consecutive steps that say where the case is."""
    codes: tuple[str, ...] = ()
    """The different activities: another system's own statuses, and the wire names of live steps."""
    units: tuple[str, ...] = ()
    """The units it has been with, in the order they came."""
    agents: tuple[str, ...] = ()
    """The agents who took it or did something about it, in the order they came."""
    first_line: Verdict | None = None
    """Whether only first-line units ever had it; None before any unit did."""
    # resolutions and answers to the customer
    resolved: bool = False
    """The last resolution still stands."""
    resolutions: int = 0
    first_resolved_at: datetime | None = None
    resolved_at: datetime | None = None
    """The last resolution."""
    reopened: bool = False
    """It was open again after a resolution."""
    first_response_at: datetime | None = None
    """The first public message a human sent on a live case."""
    first_response_us: int | None = None
    # what the clocks, the survey and the escalation unit said
    response_kept: Verdict = Verdict.UNKNOWN
    clock_episode: int = 0
    """The last episode with a resolution clock."""
    clock_kept: Verdict = Verdict.UNKNOWN
    """That clock's promise."""
    ignored_s: int = 0
    """Working time of the handling clock's pauses after the customer had come in again."""
    clock_promise: str | None = None
    """id@version of it."""
    clock_due_at: datetime | None = None
    clock_ended_at: datetime | None = None
    clock_imported: bool = False
    """It is of another system's history, and never fires."""
    survey_episode: int = 0
    """The last episode with a survey answer."""
    survey_accepted: bool | None = None
    csat: int | None = None
    nps: int | None = None
    escalations: int = 0
    escalations_returned: int = 0
    """Those the escalation unit handed back."""
    # the four answers
    in_time: Verdict = Verdict.UNKNOWN
    accepted: Verdict = Verdict.UNKNOWN
    solved_alone: Verdict = Verdict.UNKNOWN
    escalated: Verdict = Verdict.UNKNOWN

    @property
    def case(self) -> Case:
        """As much of the case as `events.case.evolve` goes by."""
        return replace(_NO_CASE, case_id=self.case_id, **_standing(self))


_STANDING = (
    "category",
    "live",
    "episode",
    "opened_at",
    "channel",
    "market",
    "language",
    "journey",
    "priority",
    "tier",
    "queue_id",
    "unit_id",
    "import_id",
)
_NO_CASE = Case("")


def _standing(of: Case | CaseFacts) -> dict[str, Any]:
    """Where it stands."""
    fields = vars(of)
    return {name: fields[name] for name in _STANDING}


def fold(facts: CaseFacts | None, event: Recorded[Any]) -> CaseFacts:
    """The case's facts after one more of its events, in the order of `Recorded.key`."""
    facts = facts or CaseFacts(event.subject)
    match kind_of(facts.category, event.data):
        case Kind.STEP:
            return _answered(_step(facts, event))
        case Kind.CLOCK:
            return _answered(_clock_stands(_clock(facts, event.data), event))
        case Kind.LABEL:
            return _labelled(facts, event)
        case Kind.SURVEY:
            return _answered(_survey(facts, event.data))
        case Kind.OFFER:
            return facts


def _step(facts: CaseFacts, event: Recorded[CaseEvent]) -> CaseFacts:
    """One step more. What another system still says of a case that is live here moves it nowhere."""
    at, data = event.occurred_at, event.data
    case = evolve(facts.case, event)
    first_at = facts.first_at or at
    late = facts.live and isinstance(data, CaseObserved)
    resolution = _is_resolution(data) and not late
    resolved_anew = resolution and not facts.resolved
    open_again = facts.resolved and case.category not in ENDED
    responded_at = facts.first_response_at or (at if _is_response(facts, data) else None)
    return replace(
        facts,
        **_standing(case),
        opened_on=facts.opened_on or (case.opened_at and case.opened_at.astimezone(UTC).date()),
        steps=facts.steps + 1,
        first_at=first_at,
        last_at=at,
        duration_us=_us(at - first_at),
        longest_gap_us=max(facts.longest_gap_us, _us(at - (facts.last_at or at))),
        handovers=facts.handovers + (facts.unit_id is not None and case.unit_id != facts.unit_id),
        codes=_with(facts.codes, _code(data)),
        units=_with(facts.units, case.unit_id),
        agents=_with(facts.agents, _agent(event)),
        first_line=_all_first_line(facts.first_line, None if late else _on_first_line(data)),
        resolved=resolution or (facts.resolved and not open_again),
        resolutions=facts.resolutions + resolved_anew,
        first_resolved_at=facts.first_resolved_at or (at if resolved_anew else None),
        resolved_at=at if resolved_anew else facts.resolved_at,
        reopened=facts.reopened or open_again,
        first_response_at=responded_at,
        first_response_us=_us(responded_at - case.opened_at) if responded_at and case.opened_at else None,
        escalations=facts.escalations + isinstance(data, CaseEscalated),
        escalations_returned=facts.escalations_returned + isinstance(data, EscalationReturned),
    )


def _labelled(facts: CaseFacts, event: Recorded[CaseEvent]) -> CaseFacts:
    """A case counts where it is seen at the end; that somebody sees it otherwise is no work on it."""
    return replace(facts, **_standing(evolve(facts.case, event)))


def _clock(facts: CaseFacts, data: CaseEvent) -> CaseFacts:
    """A stopped clock says whether its promise was kept; a breached one says no until it is stopped, and a restated one
    whatever is true by then."""
    if ignored_s := _ignored_s(data):
        facts = replace(facts, ignored_s=facts.ignored_s + ignored_s)
    match data:
        case ClockCancelled(clock=ClockKind.RESOLUTION) if data.episode >= facts.clock_episode:
            return replace(facts, clock_episode=data.episode, clock_kept=Verdict.of(data.kept))
        case ClockCancelled(clock=ClockKind.FIRST_RESPONSE):
            return replace(facts, response_kept=Verdict.of(data.kept))
        case ClockRestated(clock=ClockKind.FIRST_RESPONSE):
            return replace(facts, response_kept=Verdict.of(data.after.kept))
        case ClockRestated(clock=ClockKind.RESOLUTION) if data.episode >= facts.clock_episode:
            return replace(facts, clock_episode=data.episode, clock_kept=Verdict.of(data.after.kept))
        case ClockStopped(clock=ClockKind.FIRST_RESPONSE):
            return replace(facts, response_kept=Verdict.of(data.kept))
        case ClockBreached(clock=ClockKind.FIRST_RESPONSE) if facts.response_kept is Verdict.UNKNOWN:
            return replace(facts, response_kept=Verdict.NO)
        case ClockStarted(clock=ClockKind.RESOLUTION) if data.episode > facts.clock_episode:
            return replace(facts, clock_episode=data.episode, clock_kept=Verdict.UNKNOWN)
        case ClockStopped(clock=ClockKind.RESOLUTION) if data.episode >= facts.clock_episode:
            return replace(facts, clock_episode=data.episode, clock_kept=Verdict.of(data.kept))
        case ClockBreached(clock=ClockKind.RESOLUTION) if data.episode >= facts.clock_episode:
            stopped = data.episode == facts.clock_episode and facts.clock_kept is not Verdict.UNKNOWN
            return facts if stopped else replace(facts, clock_episode=data.episode, clock_kept=Verdict.NO)
        case _:
            return facts


def _ignored_s(data: CaseEvent) -> int:
    """What the event adds to it: a pause counts when it ends, and is counted anew where the clock is told anew."""
    match data:
        case ClockResumed() | ClockStopped() | ClockCancelled() if data.clock is ClockKind.HANDLING:
            return data.ignored_s
        case ClockRestated(clock=ClockKind.HANDLING):
            before = () if data.before is None else data.before.pauses
            return sum(p.ignored_s for p in data.after.pauses) - sum(p.ignored_s for p in before)
        case _:
            return 0


def _clock_stands(facts: CaseFacts, event: Recorded[CaseEvent]) -> CaseFacts:
    told = clock_told(event, facts.clock_episode)
    return replace(facts, **told) if told else facts


def _survey(facts: CaseFacts, data: FeedbackReceived) -> CaseFacts:
    """The last word on each question about the latest episode that was answered for."""
    if data.episode < facts.survey_episode:
        return facts
    same = data.episode == facts.survey_episode
    return replace(
        facts,
        survey_episode=data.episode,
        survey_accepted=facts.survey_accepted if same and data.accepted is None else data.accepted,
        csat=facts.csat if same and data.csat is None else data.csat,
        nps=facts.nps if same and data.nps is None else data.nps,
    )


def _answered(facts: CaseFacts) -> CaseFacts:
    in_time = facts.clock_kept if facts.clock_episode >= facts.episode else Verdict.UNKNOWN
    accepted, alone, escalated = _accepted(facts), _solved_alone(facts), _escalated(facts)
    if (in_time, accepted, alone, escalated) == (facts.in_time, facts.accepted, facts.solved_alone, facts.escalated):
        return facts
    return replace(facts, in_time=in_time, accepted=accepted, solved_alone=alone, escalated=escalated)


def _accepted(facts: CaseFacts) -> Verdict:
    """What the customer said about the last episode: yes or no in so many words, else 4–5 of 5 is yes, 1–2 is no."""
    if facts.survey_episode < facts.episode:
        return Verdict.UNKNOWN
    if facts.survey_accepted is not None:
        return Verdict.of(facts.survey_accepted)
    if facts.csat is None or facts.csat == 3:
        return Verdict.UNKNOWN
    return Verdict.of(facts.csat > 3)


def _solved_alone(facts: CaseFacts) -> Verdict:
    """One agent of one first-line unit, known to be so, brought it to a resolution that stands.

    The same rule for live and observed cases. A team-mate who covers a shift is a second agent: no.
    """
    if not facts.resolved:
        return Verdict.UNKNOWN
    if facts.first_line is Verdict.NO or len(facts.units) > 1 or len(facts.agents) > 1:
        return Verdict.NO
    return Verdict.YES if facts.first_line is Verdict.YES and facts.agents else Verdict.UNKNOWN


def _escalated(facts: CaseFacts) -> Verdict:
    if facts.escalations:
        return Verdict.YES
    # Another system's history does not say what was escalated there.
    return Verdict.UNKNOWN if facts.import_id is not None or facts.opened_at is None else Verdict.NO


def _is_resolution(data: CaseEvent) -> bool:
    return isinstance(data, CaseResolved) or (isinstance(data, CaseObserved) and data.resolution)


def _is_response(facts: CaseFacts, data: CaseEvent) -> bool:
    """A human answers the customer of a case that came in here; what an import was answered first is not known."""
    return (
        isinstance(data, MessageSent) and data.visibility == "public" and not data.automatic and facts.import_id is None
    )


def _agent(event: Recorded[CaseEvent]) -> str | None:
    """The agent who took the case, or did something about it. Bringing in what the customer said is no work on it."""
    match event.data:
        case CaseAssigned(agent_id=agent) | CaseObserved(agent=agent):
            return agent
        case CaseOpened() | CaseTakenOver() | MessageReceived():
            return None
        case _:
            kind, _, agent_id = event.actor.partition(":")
            return agent_id if kind == "agent" else None


def _on_first_line(data: CaseEvent) -> Verdict | None:
    """Whether the unit the event puts the case with is a first-line one; None where it puts it nowhere."""
    match data:
        case CaseObserved(line=None, unit=None):
            return None
        case CaseObserved(line=line):
            return Verdict.of(None if line is None else line == FIRST_LINE)
        case CaseQueued(unit_kind=unit_kind) | CaseAssigned(unit_kind=unit_kind):
            return Verdict.of(unit_kind is UnitKind.FRONT_END)
        case CaseHandedOver() | CaseEscalated():
            return Verdict.NO
        case _:
            return None


def _all_first_line(so_far: Verdict | None, here: Verdict | None) -> Verdict | None:
    """No beats unknown, unknown beats yes, anything beats nothing."""
    if here is None or here is so_far:
        return so_far
    said = (so_far, here)
    return next((answer for answer in (Verdict.NO, Verdict.UNKNOWN, Verdict.YES) if answer in said), None)


def _code(data: CaseEvent) -> str:
    return data.code if isinstance(data, CaseObserved) else wire_name(type(data))


@functools.cache
def wire_name(kind: type[CaseEvent]) -> str:
    """`casewalk.case.message_sent.v1` → `message_sent`."""
    return kind.TYPE.split(".")[-2]


def _with(items: tuple[str, ...], item: str | None) -> tuple[str, ...]:
    return items if item is None or item in items else (*items, item)


_MICROSECOND = timedelta(microseconds=1)


def _us(duration: timedelta) -> int:
    return duration // _MICROSECOND
