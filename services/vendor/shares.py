"""How the cases of a queue are split between its partners: deterministic, and never a whole case off.

A partner with share s of n cases is owed s·n of them. Always giving to whoever is owed most lets small shares fall
behind by more than a case (35/32/11/9/3/3/3/1/1/1/1 does). So each partner's next case gets a window instead: it may be
given once the partner is owed more than it has, and must be given before the partner is owed a whole case more. Among
those whose window is open, the one whose window ends first gets the case. With one case at a time that keeps every
partner within one case of what it is owed, at every moment (Baruah, Cohen, Plaxton, Varvel: Proportionate progress,
Algorithmica 15, 1996; for one case at a time also Tijdeman: The chairman assignment problem, 1980).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

HUNDREDTH = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Choice:
    """The partner that gets a case, and by what."""

    partner_id: str
    contract: str
    """id@version."""
    share_plan: str | None
    """id@version; none where nothing but the contracts decides."""
    deficit: str
    """Cases the partner was behind its share, this one counted, as a decimal."""


@dataclass(frozen=True, slots=True)
class Split:
    """Who may get the cases of one queue, by what is in force."""

    contracts: Mapping[str, str]
    """Partner → id@version of its contract for this queue."""
    share_plan: str | None = None
    """id@version."""
    percents: Mapping[str, int] | None = None
    """Partner → percent by the share plan; without one, every partner gets the same."""

    @property
    def weights(self) -> dict[str, int]:
        """Partner → weight, for those with a contract and a share."""
        if self.percents is None:
            return dict.fromkeys(self.contracts, 1)
        return {p: weight for p, weight in self.percents.items() if weight > 0 and p in self.contracts}


def assign(
    queued: Iterable[tuple[str, str]], splits: Mapping[str, Split], given: Mapping[str, Mapping[str, int]]
) -> dict[str, Choice]:
    """Key → choice, for `queued` (key, queue) in that order; a queue nobody may handle gets none.

    `given` is queue → partner → cases given so far under what is in force.
    """
    counts = {queue: Counter(given.get(queue, {})) for queue in splits}
    choices = {}
    for key, queue in queued:
        split = splits.get(queue)
        if split is None or not split.weights:
            continue
        partner = choose(split.weights, counts[queue])
        deficit = _deficit(partner, split.weights, counts[queue])
        choices[key] = Choice(partner, split.contracts[partner], split.share_plan, deficit)
        counts[queue][partner] += 1
    return choices


def choose(weights: Mapping[str, int], given: Mapping[str, int]) -> str:
    """The partner that gets the next case; ties go by partner id. There is at least one weight, and none is 0."""
    total = sum(weights.values())
    number = sum(given.get(partner, 0) for partner in weights) + 1
    open_windows = [p for p in weights if weights[p] * number > given.get(p, 0) * total]

    def ends(partner: str) -> tuple[int, str]:
        """The number of cases with which the partner is owed one more than it has."""
        return -(-(given.get(partner, 0) + 1) * total // weights[partner]), partner

    return min(open_windows, key=ends)


def _deficit(partner: str, weights: Mapping[str, int], given: Mapping[str, int]) -> str:
    total = sum(weights.values())
    number = sum(given.get(p, 0) for p in weights) + 1
    behind = Decimal(weights[partner] * number - given.get(partner, 0) * total) / Decimal(total)
    return f"{behind.quantize(HUNDREDTH).normalize():f}"
