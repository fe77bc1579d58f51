"""Ladders: which one a case climbs, which rung an event makes fire, and what a version must say to be published.

A rung fires at most once per case, episode and rung. Somebody who acknowledged owns the case, so nothing fires above
them; an escalation nobody acknowledged is passed on to a higher rung, never to a lower one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from events.case import (
    CaseClassified,
    CaseEscalated,
    CaseFlagged,
    CaseHandedOver,
    CaseOpened,
    CaseReopened,
    CaseTakenOver,
    CaseTransferred,
    ClockBreached,
    ClockKind,
    ClockWarned,
    EscalationUnanswered,
    FeedbackReceived,
    Priority,
)
from events.errors import Refused, Unknown
from events.event import CaseEvent, Recorded, named
from events.operations import LadderPublished, OwnerRule, RotaPublished, Rung, Trigger, TriggerKind
from events.store import New
from services.escalation.decide.escalations import ONLY_RUNG, Escalation, Status
from services.escalation.decide.rotas import on_duty

if TYPE_CHECKING:
    from services.escalation.decide.case import Case

STANDARD = "standard"
"""The ladder of whatever no other ladder is for."""

REGULATOR = "regulator"
"""The flag of a case that a regulator asks about."""

UNANSWERED = "unanswered"
"""The trigger of a rung that fires because nobody acknowledged the one below."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """The version of a ladder that is in force."""

    ladder_id: str
    content: LadderPublished

    @property
    def ref(self) -> str:
        """id@version."""
        return f"{self.ladder_id}@{self.content.version}"

    @property
    def rungs(self) -> tuple[Rung, ...]:
        return rungs_of(self.content)


def rungs_of(content: LadderPublished) -> tuple[Rung, ...]:
    """From the bottom to the top. A ladder without any is one rung: its unit, on breach of its clocks or if asked."""
    if content.rungs:
        return content.rungs
    breaches = (Trigger(kind=TriggerKind.BREACH, clock=clock) for clock in content.on_breach)
    return (Rung(rung=ONLY_RUNG, triggers=(*breaches, Trigger(kind=TriggerKind.ASKED)), unit_id=content.unit_id),)


@dataclass(frozen=True, slots=True)
class Facts:
    """What ladders look at in a case, at one moment."""

    market: str | None = None
    journey: str | None = None
    tier: str | None = None
    priority: Priority | None = None
    handed_over: int = 0
    """How often it went from one unit or partner to another."""


@dataclass(frozen=True)
class Seen:
    """What a rung is decided on beside the case: configuration in force, and what others said about the case."""

    ladders: tuple[Ladder, ...] = ()
    rotas: Mapping[str, RotaPublished] = field(default_factory=dict)
    """Unit id → its rota."""
    pasts: Mapping[str, Sequence[Recorded[CaseEvent]]] = field(default_factory=dict)
    """Case id → what was heard about it, in the order in which it happened."""

    def facts(self, case_id: str, until: Recorded[CaseEvent] | None = None) -> Facts:
        """As of the event, which counts; None: as of now."""
        past = self.pasts.get(case_id, ())
        return facts_of(event for event in past if until is None or event.key <= until.key)

    def ladder(self, facts: Facts) -> Ladder | None:
        """The first by id whose condition holds; the standard ladder comes last."""
        ordered = sorted(self.ladders, key=lambda ladder: (ladder.ladder_id == STANDARD, ladder.ladder_id))
        return next((ladder for ladder in ordered if applies(ladder.content, facts)), None)


def facts_of(past: Iterable[Recorded[CaseEvent]]) -> Facts:
    """What the events come to. A hand-over to a partner whose unit the case was just transferred to is the same one."""
    market = journey = tier = priority = at = None
    handed_over = 0
    for event in past:
        match event.data:
            case CaseOpened() | CaseTakenOver() as data:
                market, journey, tier, priority = data.market, data.journey, data.tier, data.priority
            case CaseClassified() as data:
                journey, tier, priority = data.journey or journey, data.tier or tier, data.priority or priority
            case CaseTransferred(to_unit_id=unit_id):
                handed_over, at = handed_over + 1, unit_id
            case CaseHandedOver(unit_id=unit_id):
                handed_over, at = handed_over + (unit_id != at), unit_id
    return Facts(market, journey, tier, priority, handed_over)


def applies(content: LadderPublished, facts: Facts) -> bool:
    """Whether the ladder is for such a case; what is not known is in no list."""
    wanted = content.applies
    pairs = (
        (wanted.markets, facts.market),
        (wanted.journeys, facts.journey),
        (wanted.tiers, facts.tier),
        (wanted.priorities, facts.priority),
    )
    return all(not values or value in values for values, value in pairs)


# ------------------------------------------------------------------------------------------------------------- climbing


def climb(event: Recorded[CaseEvent], seen: Seen, now: datetime, case: Case) -> list[New]:
    """The highest rung that the event makes fire; none if the case has moved on, or somebody owns the escalation."""
    if not _concerns(event.data, case) or (case.escalation and case.escalation.status is Status.ACKNOWLEDGED):
        return []
    facts = seen.facts(case.case_id, event)
    ladder = seen.ladder(facts)
    if ladder is None:
        return []
    if isinstance(event.data, EscalationUnanswered):
        silence = f"nobody of the unit {event.data.unit_id} acknowledged in time"
        return [fire(ladder, rung, UNANSWERED, silence, now, case, seen) for rung in left(ladder, case)[:1]]
    for rung in reversed(left(ladder, case)):
        for trigger in rung.triggers:
            if (reason := held(trigger, event.data, facts)) is not None:
                return [fire(ladder, rung, _name(trigger), reason, now, case, seen)]
    return []


def _concerns(data: CaseEvent, case: Case) -> bool:
    """Whether the event is about the episode the case is in, and the episode has no answer yet; a survey is about an
    answer. A breach that was taken back since concerns nobody."""
    clock = case.latest(ClockKind.RESOLUTION)
    if clock is None:
        return False
    match data:
        case FeedbackReceived(episode=episode):
            return episode == clock.episode
        case EscalationUnanswered(escalation_id=escalation_id):
            latest = case.escalation
            return latest is not None and latest.escalation_id == escalation_id and latest.status is Status.OPEN
        case ClockBreached() as breach:
            said = case.clocks.get((breach.clock, breach.episode, breach.turn))
            return breach.episode == clock.episode and clock.running and (said is None or said.breached_at is not None)
        case ClockWarned(episode=episode) | CaseReopened(episode=episode):
            return episode == clock.episode and clock.running
        case _:
            return clock.running


def held(trigger: Trigger, data: CaseEvent, facts: Facts) -> str | None:
    """Why the event makes a rung with this trigger fire, in words; None if it does not."""
    match trigger.kind, data:
        case TriggerKind.CLOCK_SHARE, ClockWarned(clock=clock, percent=percent):
            reached = clock is trigger.clock and percent >= (trigger.percent or 0)
            return f"{percent} % of the {_words(clock)} time are used" if reached else None
        case TriggerKind.CLOCK_SHARE | TriggerKind.BREACH, ClockBreached(clock=clock):
            return f"the {_words(clock)} promise was not kept" if clock is trigger.clock else None
        case TriggerKind.REOPENED, CaseReopened(episode=episode):
            return _times("reopened", episode - 1, trigger)
        case TriggerKind.HANDED_OVER, CaseTransferred() | CaseHandedOver():
            return _times("handed over", facts.handed_over, trigger)
        case TriggerKind.FLAG, CaseFlagged(flag=flag, reason=reason) if flag == trigger.flag:
            return reason
        case TriggerKind.REGULATOR, CaseFlagged(flag=flag, reason=reason) if flag == REGULATOR:
            return reason
        case TriggerKind.TIER, CaseOpened() | CaseTakenOver() | CaseClassified():
            return f"the customer is {facts.tier}" if facts.tier == trigger.tier else None
        case TriggerKind.LOW_SURVEY, FeedbackReceived(csat=int(csat)):
            return f"the customer's satisfaction is {csat} of 5" if csat <= (trigger.at_most or 0) else None
        case _:
            return None


def _times(what: str, times: int, trigger: Trigger) -> str | None:
    return f"{what} {times} times" if times >= (trigger.times or 1) else None


def _words(clock: ClockKind) -> str:
    return clock.replace("_", " ")


def _name(trigger: Trigger) -> str:
    """What a record says fired: a clock by its kind, a flag or tier with its value."""
    match trigger.kind:
        case TriggerKind.BREACH:
            return str(trigger.clock)
        case TriggerKind.CLOCK_SHARE:
            return f"{trigger.clock}:{trigger.percent}"
        case TriggerKind.FLAG:
            return f"flag:{trigger.flag}"
        case TriggerKind.TIER:
            return f"tier:{trigger.tier}"
        case kind:
            return str(kind)


def left(ladder: Ladder, case: Case) -> tuple[Rung, ...]:
    """The rungs that may still fire, from the bottom: those that have not in this episode, and while an escalation is
    open only those above it."""
    clock, latest = case.latest(ClockKind.RESOLUTION), case.escalation
    episode = clock.episode if clock else 1
    fired = {escalation.rung for escalation in case.escalations if escalation.episode == episode}
    above = 0
    if latest is not None and latest.status is not Status.ENDED and latest.episode == episode:
        names = [rung.rung for rung in ladder.rungs]
        above = names.index(latest.rung) + 1 if latest.rung in names else 0
    return tuple(rung for rung in ladder.rungs[above:] if rung.rung not in fired)


def fire(ladder: Ladder, rung: Rung, trigger: str, reason: str, now: datetime, case: Case, seen: Seen) -> New:
    """The rung's unit is asked. The event's id is made of the case, the episode and the rung alone."""
    clock = case.latest(ClockKind.RESOLUTION)
    episode = clock.episode if clock else 1
    nth = 1 + sum(escalation.episode == episode for escalation in case.escalations)
    rota = seen.rotas.get(rung.unit_id) if rung.owner_rule is OwnerRule.ON_DUTY else None
    within_s = rung.acknowledge_within_s
    escalated = CaseEscalated(
        escalation_id=f"{case.case_id}.{episode}" + (f".{nth}" if nth > 1 else ""),
        episode=episode,
        unit_id=rung.unit_id,
        ladder=ladder.ref,
        trigger=trigger,
        reason=reason[:200],
        rung=rung.rung,
        acknowledge_by=None if within_s is None else now + timedelta(seconds=within_s),
        on_duty=() if rota is None else on_duty(rota, now),
        resolved=clock is not None and not clock.running,
    )
    return New(escalated, id=named(f"{case.case_id}/{episode}/rung/{rung.rung}"))


def unanswered(mark: datetime, now: datetime, case: Case) -> list[New]:
    """The timer: nobody owns the latest escalation and its time is over by `mark`; said once."""
    match case.escalation:
        case Escalation(due_at=datetime() as due_at, rung=str(rung)) as open_one if due_at <= mark:
            said = EscalationUnanswered(
                escalation_id=open_one.escalation_id, unit_id=open_one.unit_id, rung=rung, acknowledge_by=due_at
            )
            obligation = f"{case.case_id}/{open_one.episode}/rung/{rung}/unanswered"
            return [New(said, occurred_at=due_at, id=named(obligation))]
        case _:
            return []


def escalate(reason: str, now: datetime, case: Case, seen: Seen) -> list[New]:
    """A person asks: the lowest rung for which asking is enough fires. No event while an escalation is open.

    Raises Unknown for a case without clocks, Refused for a resolved case or where no such rung is left in the episode.
    """
    clock, latest = case.latest(ClockKind.RESOLUTION), case.escalation
    if clock is None:
        raise Unknown("there is no case with clocks under this id")
    if latest is not None and latest.status is not Status.ENDED:
        return []
    if not clock.running:
        raise Refused("the case is resolved; reopen it before you escalate it")
    ladder = seen.ladder(seen.facts(case.case_id))
    if ladder is None:
        raise Refused("no ladder is published, so nobody would take the case")
    asked = [rung for rung in ladder.rungs if any(trigger.kind is TriggerKind.ASKED for trigger in rung.triggers)]
    free = [rung for rung in asked if rung in left(ladder, case)]
    if free:
        return [fire(ladder, free[0], TriggerKind.ASKED, reason, now, case, seen)]
    if asked and latest is not None:
        raise Refused(f"episode {clock.episode} was escalated before and is {latest.outcome}; it is not again")
    raise Refused(f"the ladder {ladder.ref} has no rung that a person's asking makes fire")


# ----------------------------------------------------------------------------------------------------------- publishing

_NEEDS: Mapping[TriggerKind, tuple[str, ...]] = {
    TriggerKind.CLOCK_SHARE: ("clock", "percent"),
    TriggerKind.BREACH: ("clock",),
    TriggerKind.REOPENED: ("times",),
    TriggerKind.HANDED_OVER: ("times",),
    TriggerKind.FLAG: ("flag",),
    TriggerKind.TIER: ("tier",),
    TriggerKind.LOW_SURVEY: ("at_most",),
}

_MAY = ("clock", "percent", "times", "flag", "tier", "at_most")


def wrong_in(content: LadderPublished) -> list[str]:
    """What a version says wrongly, in sentences; none if it can be published."""
    found = [_wrong_in_trigger(rung, trigger) for rung in content.rungs for trigger in rung.triggers]
    double = [name for name, times in Counter(rung.rung for rung in content.rungs).items() if times > 1]
    names = [f"there is more than one rung called {name}" for name in double]
    bottom = content.rungs[:1]
    idle = [f"nothing makes the rung {rung.rung} fire: give it triggers" for rung in bottom if not rung.triggers]
    idle += [
        f"nothing makes the rung {rung.rung} fire: give it triggers, or the one below a time to acknowledge within"
        for below, rung in zip(content.rungs, content.rungs[1:], strict=False)
        if not rung.triggers and below.acknowledge_within_s is None
    ]
    return [sentence for sentence in (*found, *names, *idle) if sentence is not None]


def _wrong_in_trigger(rung: Rung, trigger: Trigger) -> str | None:
    needs = _NEEDS.get(trigger.kind, ())
    missing = [name for name in needs if getattr(trigger, name) is None]
    too_much = [name for name in _MAY if name not in needs and getattr(trigger, name) is not None]
    if missing:
        return f"rung {rung.rung}: the trigger {trigger.kind} says no {' and no '.join(missing)}"
    if too_much:
        return f"rung {rung.rung}: {' and '.join(too_much)} mean nothing for the trigger {trigger.kind}"
    return None
