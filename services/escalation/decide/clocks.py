"""What has to be said about a case's clocks: the difference between what they should be and what was said of them.

Where what was said is the beginning of what should be, the rest is said, each thing at its own time. Where it is not,
because a fact was heard of late or other promises were pinned, the clock is told anew in one `clock.restated`. Nothing
is ever unsaid: a breach stays in the stream, and stays the only one of its clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from events.case import (
    CaseObserved,
    ClockBreached,
    ClockCancelled,
    ClockPaused,
    ClockRestated,
    ClockResumed,
    ClockRetargeted,
    ClockStarted,
    ClockStopped,
    ClockWarned,
    PromisesPinned,
)
from events.event import CaseEvent, Recorded, replace
from events.store import New
from services.escalation.clocks import Clock, Key, Promise, Times, account, obligation, percents_of, pinned
from services.escalation.decide.case import Case
from services.escalation.timeline import Timeline, timeline


@dataclass(frozen=True)
class Pin:
    """Promises that a case is to be judged by from now on, and why."""

    promises: tuple[Promise, ...]
    why: str
    episode: int = 1
    """From which episode on: what was said of those before stands."""


@dataclass(frozen=True)
class Rules:
    """What clocks are judged by."""

    in_force: tuple[Promise, ...]
    """The latest versions, in the order in which they are asked whether they apply."""
    promises: Mapping[str, Promise]
    """id@version → every version that is in force or pinned to a case at hand."""
    times: Times


Step = tuple[datetime, int, str, Any]
"""(when, place among things of one moment, what, its content)."""


def judge(
    case: Case,
    facts: Sequence[Recorded[CaseEvent]],
    rules: Rules,
    pin: Pin | None = None,
) -> list[New]:
    """Everything that is to be said now that these facts are known, and that the case is judged by `pin`.

    What another system recorded is no fact here: `decide.observed` judges it.
    """
    facts = [fact for fact in facts if not isinstance(fact.data, CaseObserved)]
    if not facts:
        return []
    wanted = pin or (None if case.pins else Pin(rules.in_force, "the case came in"))
    known = {**rules.promises, **{promise.ref: promise for promise in (wanted.promises if wanted else ())}}
    pins = case.pins
    if wanted is not None:
        pins = pinned(pins, wanted.episode, tuple(promise.ref for promise in wanted.promises))
    sweep = timeline(case.case_id, facts, [(since, [known[ref] for ref in refs]) for since, refs in pins])
    if not sweep.clocks and not case.clocks:
        return []
    said: list[New] = []
    if wanted is not None and pins != case.pins:
        event = PromisesPinned(promises=pins[-1][1], reason=wanted.why, episode=wanted.episode)
        said.append(New(event, occurred_at=None if case.pins or pin is not None else facts[0].occurred_at))
    teller = Teller(case.case_id, rules.times, known, sweep, "a fact was heard of late" if pin is None else pin.why)
    firing = (key for key, clock in case.clocks.items() if clock.fires)
    told = [new for key in sorted({*sweep.clocks, *firing}) for new in teller.tell(case.clocks.get(key), key)]
    return said + sorted(told, key=lambda new: (new.occurred_at is None, new.occurred_at))


def fire(mark: datetime, case: Case) -> list[New]:
    """Every warning and breach due at or before `mark` that was not said."""
    return [new for clock in case.clocks.values() for new in _fire(mark, case.case_id, clock)]


def _fire(mark: datetime, case_id: str, clock: Clock) -> list[New]:
    if not clock.running or not clock.fires:
        return []
    said = [_warn(case_id, clock, warning.percent, warning.at) for warning in clock.warnings if warning.at <= mark]
    if clock.breached_at is None and clock.due_at is not None and clock.due_at <= mark:
        said.append(_breach(case_id, clock))
    return said


def _warn(case_id: str, clock: Clock, percent: int, at: datetime) -> New:
    assert clock.due_at is not None or clock.paused
    event = ClockWarned(**_name(clock), percent=percent, due_at=clock.due_at or at, tzdata=clock.tzdata)
    return New(event, occurred_at=at, id=obligation(case_id, clock.key, f"warned {percent}"))


def _breach(case_id: str, clock: Clock) -> New:
    """The breach, at the due time. Its id is made of the obligation alone: timer and late stop cannot both write it. A
    clock that was called breached before, and then not, is restated."""
    assert clock.due_at is not None
    if clock.breach_said:
        # The warnings before it are said with it, or were: told on, they would be said again under the same ids.
        after = account(replace(clock, breached_at=clock.due_at, warnings=()))
        event = ClockRestated(**_name(clock), reason="the later due time passed", before=account(clock), after=after)
        what = f"breached again {clock.due_at.isoformat()}"
        return New(event, occurred_at=clock.due_at, id=obligation(case_id, clock.key, what))
    promise = clock.span.promise or ""
    breached = ClockBreached(**_name(clock), promise=promise, due_at=clock.due_at, tzdata=clock.tzdata)
    return New(breached, occurred_at=clock.due_at, id=obligation(case_id, clock.key, "breached"))


def _name(clock: Clock) -> dict[str, Any]:
    kind, episode, turn = clock.key
    return {"clock": kind, "episode": episode, "turn": turn}


@dataclass
class Teller:
    """Says the difference for one case."""

    case_id: str
    times: Times
    promises: Mapping[str, Promise]
    sweep: Timeline
    why: str

    def tell(self, said: Clock | None, key: Key) -> list[New]:
        wanted = self.sweep.clocks.get(key)
        if wanted is None:
            return self._never_was(said)
        wanted = self._judged(wanted, said)
        if said is not None and not said.fires:
            return self._anew(said, wanted, "the case was taken over")
        before, after = ([] if said is None else _steps(said)), _steps(wanted)
        if said is not None and (after[: len(before)] != before or self._acquits(said, wanted)):
            return self._restate(said, wanted)
        news = [self._step(step, wanted) for step in after[len(before) :]]
        late = wanted.kept is False and (said is None or said.breached_at is None) and wanted.fires
        if late and said is not None and said.breach_said:
            return self._restate(said, wanted)
        return [*news[:-1], _breach(self.case_id, wanted), news[-1]] if late else news

    def recorded(self, said: Clock | None, wanted: Clock) -> list[New]:
        """The same of a clock in another system's history: it is told whole, and never fires."""
        return self._anew(said, replace(self._judged(wanted, None), fires=False), self.why)

    def _anew(self, said: Clock | None, wanted: Clock, why: str) -> list[New]:
        before, after = None if said is None else account(said), account(wanted)
        same = (
            before is not None
            and before.model_copy(update={"warnings": after.warnings, "tzdata": after.tzdata}) == after
        )
        return [] if same else [New(ClockRestated(**_name(wanted), reason=why, before=before, after=after))]

    def _never_was(self, said: Clock | None) -> list[New]:
        if said is None or said.cancelled:
            return []
        return [New(ClockCancelled(**_name(said), reason=self.why))]

    def _judged(self, wanted: Clock, said: Clock | None) -> Clock:
        """With its due time, and its verdict where it ended."""
        if said is not None:
            wanted = replace(wanted, warned=said.warned, breach_said=said.breach_said)
        wanted = self.times.ignoring(self._owing(wanted), self.sweep.contacts)
        if wanted.ended_at is None:
            return wanted
        late = wanted.due_at is not None and wanted.ended_at > wanted.due_at
        if wanted.cancelled:
            # What was broken by then stays broken: closing a case is no way out of its promises.
            return replace(wanted, kept=False if late else None, warnings=())
        kept = None if wanted.span.target_s is None else not late
        return replace(wanted, kept=kept, elapsed_s=self.times.elapsed_s(wanted, wanted.ended_at), warnings=())

    def _owing(self, clock: Clock) -> Clock:
        promise = self.promises.get(clock.span.promise or "")
        return self.times.owing(clock, () if promise is None else percents_of(promise.content))

    def _acquits(self, said: Clock, wanted: Clock) -> bool:
        """Whether the clock was called breached and is not, by what is known now."""
        if said.breached_at is None:
            return False
        if not wanted.running:
            return wanted.kept is not False
        return wanted.due_at is None or wanted.due_at > said.breached_at

    def _restate(self, said: Clock, wanted: Clock) -> list[New]:
        if wanted.running and said.breached_at is not None and not self._acquits(said, wanted):
            wanted = replace(wanted, breached_at=wanted.due_at)
        return self._anew(said, wanted, self.why)

    def _step(self, step: Step, wanted: Clock) -> New:
        """One thing that happened to the clock, as it stood then."""
        at, _, what, content = step
        then = self._owing(_as_of(wanted, step))
        due: dict[str, Any] = {"due_at": then.due_at, "warnings": then.warnings, "tzdata": then.tzdata}
        held: dict[str, Any] = {name: getattr(then.span, name) for name in ("promise", "calendar", "target_s")}
        name = _name(wanted)
        match what:
            case "started":
                event: CaseEvent = ClockStarted(**name, owner=wanted.owner, fires=wanted.fires, **held, **due)
            case "retargeted":
                event = ClockRetargeted(**name, **held, **due)
            case "paused":
                event = ClockPaused(**name, reason=content, due_at=then.due_at, tzdata=then.tzdata)
            case "resumed":
                _, since, ignored_s = content
                event = ClockResumed(**name, **due, ignored_since=since, ignored_s=ignored_s)
            case "cancelled":
                since, ignored_s = content
                event = ClockCancelled(
                    **name,
                    reason="the case was closed",
                    kept=wanted.kept,
                    ignored_since=since,
                    ignored_s=ignored_s,
                )
            case _:
                since, ignored_s = content
                event = ClockStopped(
                    **name,
                    promise=wanted.span.promise,
                    due_at=wanted.due_at,
                    elapsed_s=wanted.elapsed_s or 0,
                    kept=wanted.kept,
                    ignored_since=since,
                    ignored_s=ignored_s,
                    tzdata=wanted.tzdata,
                )
        return New(event, occurred_at=at)


def _steps(clock: Clock) -> list[Step]:
    """What happened to the clock, in order. A pause that ended with the clock ended unsaid: the end tells of it."""
    first, *others = clock.spans
    steps: list[Step] = [(clock.started_at, 0, "started", (first.promise, first.calendar, first.target_s, clock.owner))]
    steps += [(s.since, 1, "retargeted", (s.promise, s.calendar, s.target_s)) for s in others]
    for pause in clock.pauses:
        steps.append((pause.since, 3, "paused", pause.reason))
        if pause.until is not None and pause.until != clock.ended_at:
            steps.append((pause.until, 2, "resumed", (pause.since, pause.ignored_since, pause.ignored_s)))
    if clock.ended_at is not None:
        last = clock.pauses[-1] if clock.pauses and clock.pauses[-1].until == clock.ended_at else None
        ignored = (None, 0) if last is None else (last.ignored_since, last.ignored_s)
        steps.append((clock.ended_at, 4, "cancelled" if clock.cancelled else "stopped", ignored))
    return sorted(steps, key=lambda step: step[:2])


def _as_of(clock: Clock, step: Step) -> Clock:
    """The clock as it was once the step was done, knowing nothing later."""
    at, place, _, _ = step
    known = (at, place)
    pauses = tuple(
        p if p.until is not None and (p.until, 2) <= known else replace(p, until=None)
        for p in clock.pauses
        if (p.since, 3) <= known
    )
    spans = clock.spans[:1] + tuple(s for s in clock.spans[1:] if (s.since, 1) <= known)
    return replace(clock, pauses=pauses, spans=spans, ended_at=None)
