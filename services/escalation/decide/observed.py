"""Another system's history, judged by the promises its import names.

It is a restatement from beginning to end, and says so: the clocks are told whole, as what they would have been, and
none of them ever fires. A log says where a case stood, not what was written: it has the clocks of episodes, no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import takewhile

from events.case import ENDED, Case, CaseObserved, CaseTakenOver, Category
from events.event import CaseEvent, Recorded
from events.store import New
from services.escalation.clocks import Clock, Key
from services.escalation.decide import case as told
from services.escalation.decide.clocks import Rules, Teller
from services.escalation.decide.promises import in_order
from services.escalation.timeline import EPISODE_CLOCKS, Timeline


class History(Timeline):
    """The sweep over the rows of a case."""

    def _move(self, data: CaseEvent, at: datetime, had_ended: bool) -> None:
        assert isinstance(data, CaseObserved)
        if self.case.category not in ENDED:
            if had_ended:
                self._give_up(at)
            for kind in EPISODE_CLOCKS:
                self._start(kind, at)
        if data.resolution:
            self._stop(at, *EPISODE_CLOCKS)
        elif data.category is Category.CLOSED:
            self._give_up(at)

    def _give_up(self, at: datetime) -> None:
        """An end that is no resolution is no verdict."""
        self._stop(at, *EPISODE_CLOCKS, cancelled=True)

    def _asked(self, at: datetime) -> bool:
        return True  # the log says whom the case waited for, not what was written

    def _counts(self) -> bool:
        return True


def judge(case: told.Case, facts: Sequence[Recorded[CaseEvent]], rules: Rules) -> list[New]:
    """Everything that is to be said about the case's history now that these facts are known."""
    rows = [fact for fact in takewhile(_is_before, facts) if isinstance(fact.data, CaseObserved)]
    named = named_by(rows)
    if not named:
        return []
    promises = in_order([rules.promises[ref] for ref in named if ref in rules.promises])
    sweep = History(Case(case.case_id), [(1, promises)])
    for row in rows:
        sweep.take(row)
    teller = Teller(case.case_id, rules.times, {}, sweep, _why(rows, named, rules))
    wanted = _history(sweep.clocks, facts)
    return [new for key in sorted(wanted) for new in teller.recorded(case.clocks.get(key), wanted[key])]


def named_by(facts: Sequence[Recorded[CaseEvent]]) -> tuple[str, ...]:
    """id@version of the promises that the import names; intake sees to it that all rows of a case name the same."""
    return next((fact.data.promises for fact in facts if isinstance(fact.data, CaseObserved)), ())


def _is_before(fact: Recorded[CaseEvent]) -> bool:
    return not isinstance(fact.data, CaseTakenOver)


def _history(clocks: Mapping[Key, Clock], facts: Sequence[Recorded[CaseEvent]]) -> dict[Key, Clock]:
    """Those that are history: what still ran when the case was taken over is a clock of ours from then on."""
    taken = next((fact.data for fact in facts if isinstance(fact.data, CaseTakenOver)), None)
    return {key: clock for key, clock in clocks.items() if taken is None or clock.episode < taken.episode}


def _why(rows: Sequence[Recorded[CaseEvent]], named: Sequence[str], rules: Rules) -> str:
    profile = next(row.data.profile for row in rows if isinstance(row.data, CaseObserved))
    missing = [ref for ref in named if ref not in rules.promises]
    said = f"imported by profile {profile}, which names {', '.join(named)}"
    said += f"; not published: {', '.join(missing)}" if missing else ""
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"


LONGEST = 200
"""A label has no more."""
