"""What has to be said about a case's clocks: the difference between what they should be and what was said of them.

Where what was said is the beginning of what should be, the rest is said, each thing at its own time. Where it is not,
because a fact was heard of late or other promises were pinned, the clock is told anew in one `clock.restated`. Nothing
is ever unsaid: a breach stays in the stream, and stays the only one of its clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from events.case import (
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
from events.event import CaseEvent, Recorded
from events.store import New
from services.escalation.clocks import Clock, Key, Promise, Times, account, obligation, percents_of
from services.escalation.decide.case import Case
from services.escalation.timeline import Timeline, timeline


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
    pin: tuple[Promise, ...] | None = None,
    why: str = "",
) -> list[New]:
    """Everything that is to be said now that these facts are known. `pin`: promises to judge by from now on."""
    pinned = pin if pin is not None else tuple(rules.promises[ref] for ref in case.promises) or rules.in_force
    sweep = timeline(case.case_id, facts, pinned)
    if not sweep.clocks and not case.clocks:
        return []
    said: list[New] = []
    refs = tuple(promise.ref for promise in pinned)
    if refs != case.promises:
        first = not case.promises
        event = PromisesPinned(promises=refs, reason=why or "the case came in")
        said.append(New(event, occurred_at=facts[0].occurred_at if first and pin is None else None))
    teller = _Teller(case.case_id, rules.times, {p.ref: p for p in pinned}, sweep, why or "a fact was heard of late")
    told = [new for key in sorted({*sweep.clocks, *case.clocks}) for new in teller.tell(case.clocks.get(key), key)]
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
    event = ClockWarned(**_name(clock), percent=percent, due_at=clock.due_at or at)
    return New(event, occurred_at=at, id=obligation(case_id, clock.key, f"warned {percent}"))


def _breach(case_id: str, clock: Clock) -> New:
    """The breach, at the due time. Its id is made of the obligation alone: timer and late stop cannot both write it. A
    clock that was called breached before, and then not, is restated."""
    assert clock.due_at is not None
    if clock.breach_said:
        after = account(replace(clock, breached_at=clock.due_at))
        event = ClockRestated(**_name(clock), reason="the later due time passed", before=account(clock), after=after)
        what = f"breached again {clock.due_at.isoformat()}"
        return New(event, occurred_at=clock.due_at, id=obligation(case_id, clock.key, what))
    breached = ClockBreached(**_name(clock), promise=clock.span.promise or "", due_at=clock.due_at)
    return New(breached, occurred_at=clock.due_at, id=obligation(case_id, clock.key, "breached"))


def _name(clock: Clock) -> dict[str, Any]:
    kind, episode, turn = clock.key
    return {"clock": kind, "episode": episode, "turn": turn}


@dataclass
class _Teller:
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
        before, after = ([] if said is None else _steps(said)), _steps(wanted)
        if said is not None and (after[: len(before)] != before or self._acquits(said, wanted)):
            return self._restate(said, wanted)
        news = [self._step(step, wanted) for step in after[len(before) :]]
        late = wanted.kept is False and (said is None or said.breached_at is None) and wanted.fires
        if late and said is not None and said.breach_said:
            return self._restate(said, wanted)
        return [*news[:-1], _breach(self.case_id, wanted), news[-1]] if late else news

    def _never_was(self, said: Clock | None) -> list[New]:
        if said is None or said.cancelled:
            return []
        return [New(ClockCancelled(**_name(said), reason=self.why))]

    def _judged(self, wanted: Clock, said: Clock | None) -> Clock:
        """With its due time, and its verdict where it ended."""
        if said is not None:
            wanted = replace(wanted, fires=said.fires, warned=said.warned, breach_said=said.breach_said)
        wanted = self._owing(wanted)
        if wanted.ended_at is None:
            return wanted
        kept = None if wanted.due_at is None and wanted.span.target_s is None else True
        if wanted.due_at is not None:
            kept = wanted.ended_at <= wanted.due_at
        return replace(
            wanted,
            kept=None if wanted.cancelled else kept,
            elapsed_s=self.times.elapsed_s(wanted, wanted.ended_at),
            warnings=(),
        )

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
        before, after = account(said), account(wanted)
        if before.model_copy(update={"warnings": after.warnings}) == after:
            return []
        return [New(ClockRestated(**_name(said), reason=self.why, before=before, after=after))]

    def _step(self, step: Step, wanted: Clock) -> New:
        """One thing that happened to the clock, as it stood then."""
        at, _, what, content = step
        then = self._owing(_as_of(wanted, step))
        tzdata = self.times.tzdata if then.due_at else None
        due: dict[str, Any] = {"due_at": then.due_at, "warnings": then.warnings, "tzdata": tzdata}
        held: dict[str, Any] = {name: getattr(then.span, name) for name in ("promise", "calendar", "target_s")}
        name = _name(wanted)
        match what:
            case "started":
                event: CaseEvent = ClockStarted(**name, owner=wanted.owner, fires=wanted.fires, **held, **due)
            case "retargeted":
                event = ClockRetargeted(**name, **held, **due)
            case "paused":
                event = ClockPaused(**name, reason=content, due_at=then.due_at)
            case "resumed":
                event = ClockResumed(**name, **due, ignored_s=self._ignored_s(wanted, at))
            case "cancelled":
                event = ClockCancelled(**name, reason="the case was closed")
            case _:
                event = ClockStopped(
                    **name,
                    promise=wanted.span.promise,
                    due_at=wanted.due_at,
                    elapsed_s=wanted.elapsed_s or 0,
                    kept=wanted.kept,
                    ignored_s=self._ignored_s(wanted, at),
                )
        return New(event, occurred_at=at)

    def _ignored_s(self, clock: Clock, at: datetime) -> int:
        """Of the pause that ended then, if one did."""
        ended = next((pause for pause in clock.pauses if pause.until == at), None)
        return 0 if ended is None else self.times.ignored_s(clock, ended, self.sweep.contacts, at)


def _steps(clock: Clock) -> list[Step]:
    """What happened to the clock, in order. A pause that ended with the clock ended unsaid."""
    first, *others = clock.spans
    steps: list[Step] = [(clock.started_at, 0, "started", (first.promise, first.calendar, first.target_s, clock.owner))]
    steps += [(s.since, 1, "retargeted", (s.promise, s.calendar, s.target_s)) for s in others]
    for pause in clock.pauses:
        steps.append((pause.since, 3, "paused", pause.reason))
        if pause.until is not None and pause.until != clock.ended_at:
            steps.append((pause.until, 2, "resumed", pause.since))
    if clock.ended_at is not None:
        steps.append((clock.ended_at, 4, "cancelled" if clock.cancelled else "stopped", None))
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
