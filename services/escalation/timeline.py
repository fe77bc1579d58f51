"""What a case's clocks should be: a pure function of what happened to the case and of what was promised.

It is worked out anew from all facts whenever one more is heard, in the order in which they happened; so it does not
matter in which order they were heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from events.case import (
    ENDED,
    Case,
    CaseClosed,
    CaseEscalated,
    CaseHandedOver,
    CaseOpened,
    CaseQueued,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    Category,
    ClockKind,
    EscalationReturned,
    MessageReceived,
    MessageSent,
    PartnerReturned,
    UnitKind,
    evolve,
)
from events.event import CaseEvent, Recorded, replace
from events.operations import PromiseKind
from services.escalation.clocks import Clock, Key, Pause, Promise, Span
from services.escalation.decide.promises import applies, pauses_of, target_of

WAITING = (Category.WAITING_CUSTOMER, Category.WAITING_PARTNER, Category.WAITING_INTERNAL)

RECENT = timedelta(hours=1)
"""A pause for the customer needs a public message by a person of ours that is no older: else nobody asked the customer
anything, and a machine that acknowledges asks nothing."""

EPISODE_CLOCKS = (ClockKind.HANDLING, ClockKind.REQUESTER_WAIT, ClockKind.RESOLUTION)


class Ruling(NamedTuple):
    """What goes for a clock of a case as it is."""

    promise: Promise | None
    """The first that is about such clocks and applies to the case."""
    target_s: int | None
    pauses: tuple[Category, ...]
    """Where it does not count."""


@dataclass
class Timeline:
    """The sweep over one case's facts; `clocks` is what has come of them so far."""

    case: Case
    promises: Sequence[tuple[int, Sequence[Promise]]]
    """From which episode on, rising, and in the order in which they are asked whether they apply."""
    clocks: dict[Key, Clock] = field(default_factory=dict)
    contacts: list[datetime] = field(default_factory=list)
    """When the customer came in."""
    unanswered_since: datetime | None = None
    last_public_at: datetime | None = None
    owner_kind: PromiseKind = PromiseKind.INTERNAL
    begun: set[Key] = field(default_factory=set)
    """Clocks that started with the fact in hand."""
    rulings: dict[object, Ruling] = field(default_factory=dict)
    """By all that they depend on: few facts change any of it."""

    def take(self, event: Recorded[CaseEvent]) -> None:
        """One more fact, no earlier than the ones before."""
        before, at = self.case, event.occurred_at
        self.begun.clear()
        self.case = evolve(before, event)
        self._move(event.data, at, before.category in ENDED)
        self._pause(at)
        self._target(at)

    # -------------------------------------------------------------------------------------------------- start and stop

    def _move(self, data: CaseEvent, at: datetime, had_ended: bool) -> None:
        match data:
            case CaseOpened() | CaseTakenOver():
                for kind in (ClockKind.FIRST_RESPONSE, *EPISODE_CLOCKS):
                    self._start(kind, at)
            case MessageReceived():
                self._heard(at, had_ended)
            case MessageSent(visibility="public", automatic=False):
                self._answered(at, had_ended)
            case CaseQueued():
                partner = data.unit_kind is UnitKind.PARTNER
                self._own(data.unit_id, PromiseKind.PARTNER if partner else PromiseKind.INTERNAL, at)
            case CaseHandedOver():
                self._own(data.partner_id, PromiseKind.PARTNER, at)
            case CaseEscalated():
                self._own(data.unit_id, PromiseKind.INTERNAL, at)
            case PartnerReturned():
                self._disown(data.partner_id, at)
            case EscalationReturned():
                self._disown(data.unit_id, at)
            case CaseResolved():
                self._stop(at, *(clock.kind for clock in self._running() if clock.episode <= data.episode))
                self.unanswered_since = None
            case CaseReopened() if had_ended:
                self._reopened(at)
            case CaseClosed():
                for clock in self._running():
                    self._put(replace(_ended(clock, at), cancelled=True))

    def _heard(self, at: datetime, had_ended: bool) -> None:
        self.contacts.append(at)
        self.unanswered_since = self.unanswered_since or at
        if not had_ended and self._one(ClockKind.FIRST_RESPONSE) is None:
            self._start(ClockKind.NEXT_RESPONSE, at)

    def _answered(self, at: datetime, had_ended: bool) -> None:
        self.unanswered_since, self.last_public_at = None, at
        self._stop(at, ClockKind.FIRST_RESPONSE, ClockKind.NEXT_RESPONSE, ClockKind.PERIODIC_UPDATE)
        if not had_ended:
            self._start(ClockKind.PERIODIC_UPDATE, at)

    def _reopened(self, at: datetime) -> None:
        for kind in EPISODE_CLOCKS:
            self._start(kind, at)
        if self.unanswered_since is not None:
            self._start(ClockKind.NEXT_RESPONSE, self.unanswered_since)

    def _own(self, owner: str, kind: PromiseKind, at: datetime) -> None:
        running = self._one(ClockKind.OWNERSHIP)
        if self.case.category in ENDED or (running is not None and running.owner == owner):
            return
        self._stop(at, ClockKind.OWNERSHIP)
        self.owner_kind = kind
        self._start(ClockKind.OWNERSHIP, at, owner)

    def _disown(self, owner: str | None, at: datetime) -> None:
        """Whoever gave the case back has it no longer; nobody has until it is queued again."""
        running = self._one(ClockKind.OWNERSHIP)
        if running is not None and running.owner == owner:
            self._stop(at, ClockKind.OWNERSHIP)

    def _start(self, kind: ClockKind, at: datetime, owner: str | None = None) -> None:
        if not self._counts() or self._one(kind) is not None:
            return
        repeats = kind in (ClockKind.NEXT_RESPONSE, ClockKind.PERIODIC_UPDATE, ClockKind.OWNERSHIP)
        episode = self.case.episode
        turn = 1 + sum(k is kind and e == episode for k, e, _ in self.clocks) if repeats else 0
        if (kind, episode, turn) not in self.clocks:
            self.begun.add((kind, episode, turn))
            self._put(Clock(kind, episode, turn, at, (Span(at),), owner=owner))

    def _counts(self) -> bool:
        """Whether the case has clocks by now."""
        return self.case.live

    def _stop(self, at: datetime, *kinds: ClockKind, cancelled: bool = False) -> None:
        for clock in self._running():
            if clock.kind in kinds:
                self._put(replace(_ended(clock, at), cancelled=cancelled))

    def _running(self) -> list[Clock]:
        return [clock for clock in self.clocks.values() if clock.running]

    def _one(self, kind: ClockKind) -> Clock | None:
        """The running clock of a kind; there is at most one."""
        return next((clock for clock in self._running() if clock.kind is kind), None)

    def _put(self, clock: Clock) -> None:
        self.clocks[clock.key] = clock

    # ----------------------------------------------------------------------------------------------- pauses and targets

    def _pause(self, at: datetime) -> None:
        reason = self.case.category if self.case.category in WAITING else None
        asked = self._asked(at)
        for clock in self._running():
            last = clock.pauses[-1] if clock.paused else None
            wanted = reason if reason in self._ruling(clock).pauses else None
            if last is not None and last.reason is not wanted:
                clock = _resumed(clock, at)
                self._put(clock)
            may = wanted is not Category.WAITING_CUSTOMER or asked
            if wanted is not None and may and (last is None or last.reason is not wanted):
                self._put(replace(clock, pauses=(*clock.pauses, Pause(at, None, wanted))))

    def _asked(self, at: datetime) -> bool:
        """Whether the customer was asked something."""
        return self.last_public_at is not None and at - self.last_public_at <= RECENT

    def _target(self, at: datetime) -> None:
        for clock in self._running():
            promise, target_s, _ = self._ruling(clock)
            span = Span(at)
            if promise is not None and target_s is not None:
                span = Span(at, promise.ref, promise.content.calendar, target_s)
            if clock.key in self.begun:
                self._put(replace(clock, spans=(replace(span, since=clock.started_at),)))
            elif replace(span, since=clock.span.since) != clock.span:
                self._put(replace(clock, spans=(*clock.spans, span)))

    def _ruling(self, clock: Clock) -> Ruling:
        """Looked up by all that `applies`, `target_of` and `pauses_of` look at."""
        case, kind = self.case, clock.kind
        about = self.owner_kind if kind is ClockKind.OWNERSHIP else PromiseKind.CUSTOMER
        pins: tuple[int, Sequence[Promise]] = next(
            ((since, of) for since, of in reversed(self.promises) if since <= clock.episode), (0, ())
        )
        since, pinned = pins
        fields = (case.channel, case.market, case.language, case.journey, case.priority, case.tier)
        found = self.rulings.get(key := (kind, about, since, fields))
        if found is None:
            promise = next((p for p in pinned if p.content.kind is about and applies(p.content, case)), None)
            content = None if promise is None else promise.content
            target_s = None if content is None else target_of(content, kind, case)
            found = self.rulings[key] = Ruling(promise, target_s, pauses_of(content, kind, case))
        return found


def _resumed(clock: Clock, at: datetime) -> Clock:
    """A pause of no length was none."""
    *before, last = clock.pauses
    return replace(clock, pauses=(*before, replace(last, until=at)) if last.since < at else tuple(before))


def _ended(clock: Clock, at: datetime) -> Clock:
    """A pause that lasts ends with the clock."""
    return replace(_resumed(clock, at) if clock.paused else clock, ended_at=at)


def timeline(
    case_id: str, facts: Sequence[Recorded[CaseEvent]], promises: Sequence[tuple[int, Sequence[Promise]]]
) -> Timeline:
    """The sweep over all facts, in the order of `Recorded.key`."""
    sweep = Timeline(Case(case_id), promises)
    for event in facts:
        sweep.take(event)
    return sweep
