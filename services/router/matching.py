"""Which agent is asked to take which waiting case. Pure; `duties.py` does the reading and the asking."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.router.organigram import Agent

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Candidate:
    """An agent who is here, with what they have by now."""

    agent: Agent
    load: int
    """Cases and open offers, those of this round included."""
    last_offer_at: datetime | None
    turn: int = 0
    """Place in the line of who was asked longest ago; set by the round."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A case in a queue, as far as matching looks at it."""

    case_id: str
    queue_id: str
    unit_id: str
    market: str | None
    language: str | None
    journey: str | None
    level: int
    declined_by: tuple[str, ...] = ()
    missed_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    case_id: str
    queue_id: str
    agent_id: str


_Shape = tuple[str, str | None, str | None, str | None, int]


@dataclass
class Round:
    """One look at everything that waits, given page by page in the order of the queue.

    An agent is eligible as member of the queue's unit, skilled for the case's market, language and journey, of the
    queue's level at least, below capacity, and without having declined the case. Of those, one who did not let an offer
    of this case run out, then the lowest share of capacity in use, then the lowest skill surplus, then who was asked
    longest ago, then the lowest id. The same input gives the same matches.
    """

    candidates: list[Candidate]
    _eligible: dict[_Shape, list[Candidate]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.candidates = [c for c in self.candidates if c.load < c.agent.capacity]
        self.candidates.sort(key=lambda c: (c.last_offer_at or _LONG_AGO, c.agent.agent_id))
        for turn, candidate in enumerate(self.candidates):
            candidate.turn = turn

    @property
    def is_over(self) -> bool:
        """True when nobody has capacity left."""
        return not self.candidates

    def match(self, page: Iterable[Waiting]) -> list[Match]:
        """Whom to ask for which of these cases; each ask uses capacity at once."""
        matches = []
        for case in page:
            chosen = self._choose(case)
            if chosen is not None:
                self._ask(chosen)
                matches.append(Match(case.case_id, case.queue_id, chosen.agent.agent_id))
        return matches

    def _choose(self, case: Waiting) -> Candidate | None:
        shape = (case.unit_id, case.market, case.language, case.journey, case.level)
        eligible = self._eligible.get(shape)
        if eligible is None:
            eligible = self._eligible[shape] = [c for c in self.candidates if c.agent.can_take(*shape)]
        if case.declined_by:
            eligible = [c for c in eligible if c.agent.agent_id not in case.declined_by]
        return min(
            eligible,
            key=lambda c: (
                c.agent.agent_id in case.missed_by,
                c.load / c.agent.capacity,
                c.agent.level - case.level,
                c.turn,
            ),
            default=None,
        )

    def _ask(self, candidate: Candidate) -> None:
        candidate.load += 1
        candidate.turn = 1 + max(other.turn for other in self.candidates)
        if candidate.load >= candidate.agent.capacity:
            self.candidates.remove(candidate)
            for eligible in self._eligible.values():
                if candidate in eligible:
                    eligible.remove(candidate)
