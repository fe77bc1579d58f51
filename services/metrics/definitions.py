"""Every figure: what it means, where its formula comes from, and the formula itself over the case facts.

To add one: a `Figure` in `FIGURES`; its words become the built-in definition `<id>@1`. A changed formula is a new
version of the definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from events.case import ENDED
from events.operations import DefinitionPublished
from services.metrics.formulas import Column, answers, count, days, percent, quantile, ratio, rounded, seconds, total
from services.metrics.views import CASE_FACTS

_C = CASE_FACTS.table.c


@dataclass(frozen=True)
class Figure:
    """One figure: its definition in words, and its parts as SQL over all rows of a group."""

    id: str
    name: str
    unit: str
    formula: str
    description: str
    source: str
    parts: Mapping[str, Column]
    n: Column
    """What it was computed from, as a count."""
    missing: str | None = None
    """Which facts are not there when n is 0; such a figure is null. None: a count, which may be 0."""
    distinct: Column | None = None
    """An array column: the figure's `value` counts its different items."""
    version: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its parts."""
        return tuple(self.parts) if self.distinct is None else ("value",)

    @property
    def definition(self) -> str:
        return f"{self.id}@{self.version}"

    def published(self) -> DefinitionPublished:
        """The definition as an event."""
        return DefinitionPublished(
            version=self.version,
            name=self.name,
            unit=self.unit,
            formula=self.formula,
            description=self.description,
            source=self.source,
        )

    def of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The figure as answered: `value` or named parts, `n`, `definition`, and what is `missing` if it is."""
        n = row[f"{self.id}.n"]
        known = n > 0 or self.missing is None
        numbers = {part: _number(row[f"{self.id}.{part}"]) if known else None for part in self.names}
        return {**numbers, "n": n, "definition": self.definition, **({} if known else {"missing": self.missing})}


def _number(value: Decimal | int | None) -> int | float | None:
    return float(value) if isinstance(value, Decimal) else value


_CASES = count()
_RESOLVED = _C.resolutions > 0
_WITH_UNIT = sa.func.cardinality(_C.units) > 0
_OPEN = _C.category.not_in(ENDED)
_STEPS = total(_C.steps)
_GAPS = _STEPS - _CASES
_ALONE = answers(_C.solved_alone, _RESOLVED)
_ACCEPTED = answers(_C.accepted, _RESOLVED)
_PROMISE, _RESPONSE = answers(_C.in_time), answers(_C.response_kept)
_ESCALATED, _FIRST_LINE = answers(_C.escalated), answers(_C.first_line)
_RAISED, _RETURNED = total(_C.escalations), total(_C.escalations_returned)
_HANDOVERS = {str(count): _C.handovers == count for count in range(3)} | {"3+": _C.handovers >= 3}

_CHALLENGE = "BPI Challenge 2013 description; Rama-Maneiro et al., arXiv 2009.13251, Table 4"
_NO_CASES = "no case here"
_NO_UNITS = "no step here says which unit has the case"

FIGURES: tuple[Figure, ...] = (
    Figure(
        "cases",
        "Cases",
        "cases",
        "count of cases with at least one step",
        "Live and observed cases, open and ended ones.",
        _CHALLENGE,
        {"value": _CASES},
        _CASES,
    ),
    Figure(
        "events",
        "Events",
        "events",
        "count of steps",
        "The steps of all walks: what was done about a case. Clocks, offers and survey answers are no steps.",
        _CHALLENGE,
        {"value": _STEPS},
        _CASES,
    ),
    Figure(
        "backlog",
        "Backlog",
        "cases",
        "count of cases neither resolved nor closed",
        "Cases that are open now, whoever they wait for.",
        "GitLab handbook, metrics definitions; dbt_zendesk decision log",
        {"value": count(_OPEN)},
        _CASES,
    ),
    Figure(
        "events_per_case",
        "Events per case",
        "events",
        "steps / cases; the most steps of one case",
        "How long walks are in steps.",
        _CHALLENGE,
        {"mean": ratio(_STEPS, _CASES), "max": sa.func.max(_C.steps)},
        _CASES,
        _NO_CASES,
    ),
    Figure(
        "throughput_days",
        "Throughput time",
        "days",
        "last step - first step; quantiles interpolate between order statistics (Hyndman-Fan type 7)",
        "Calendar time a case took so far, open cases included. Surveys and clocks make no walk longer.",
        _CHALLENGE,
        {
            "median": days(quantile(0.5, _C.duration_us)),
            "mean": days(ratio(sa.func.sum(_C.duration_us), _CASES)),
            "p95": days(quantile(0.95, _C.duration_us)),
            "p99": days(quantile(0.99, _C.duration_us)),
            "max": days(sa.func.max(_C.duration_us)),
        },
        _CASES,
        _NO_CASES,
    ),
    Figure(
        "within_24h",
        "Done within 24 hours",
        "percent",
        "cases whose last step is at most 24 hours after the first / cases",
        "The share of short walks, open cases included.",
        "process-mining practice on the BPI Challenge 2013 log",
        {
            "cases": count(_C.duration_us <= 86_400_000_000),
            "percent": percent(count(_C.duration_us <= 86_400_000_000), _CASES),
        },
        _CASES,
        _NO_CASES,
    ),
    Figure(
        "days_between_events",
        "Time between events",
        "days",
        "sum of throughput times / (steps - cases); the longest pause between two steps",
        "How long nothing happens to a case. A ratio of sums, over all pairs of consecutive steps.",
        _CHALLENGE,
        {"mean": days(ratio(sa.func.sum(_C.duration_us), _GAPS)), "max": days(sa.func.max(_C.longest_gap_us))},
        _GAPS,
        "no case here has two steps",
    ),
    Figure(
        "handovers",
        "Handovers",
        "handovers",
        "changes of unit between consecutive steps of a case that say where it is",
        "How often cases change hands. `none`: cases that stayed with one unit.",
        "process-mining practice on the BPI Challenge 2013 log (handover of work between support teams)",
        {
            "mean": ratio(sa.func.sum(_C.handovers).filter(_WITH_UNIT), count(_WITH_UNIT)),
            "median": rounded(quantile(0.5, _C.handovers, _WITH_UNIT)),
            "max": sa.func.max(_C.handovers).filter(_WITH_UNIT),
            "none": count(sa.and_(_WITH_UNIT, _HANDOVERS["0"])),
        },
        count(_WITH_UNIT),
        _NO_UNITS,
    ),
    Figure(
        "throughput_by_handovers",
        "Throughput time by handovers",
        "days",
        "median throughput time of the cases with 0, 1, 2 and 3 or more handovers",
        "What changing hands goes along with.",
        "process-mining practice on the BPI Challenge 2013 log",
        {
            part: days(quantile(0.5, _C.duration_us, sa.and_(_WITH_UNIT, condition)))
            for part, condition in _HANDOVERS.items()
        },
        count(_WITH_UNIT),
        _NO_UNITS,
    ),
    Figure(
        "first_line_alone",
        "First line alone",
        "percent",
        "cases only first-line units ever had / cases whose units' lines are all known or include another line",
        "A live case is on the first line with front-end units, an observed one with units of line 1.",
        "BPI Challenge 2013, support lines 1, 2 and 3",
        {"cases": _FIRST_LINE["yes"], "percent": percent(_FIRST_LINE["yes"], _FIRST_LINE["known"])},
        _FIRST_LINE["known"],
        "no step here says which line a unit belongs to",
    ),
    Figure(
        "resolved_cases",
        "Resolved cases",
        "cases",
        "count of cases with at least one resolution",
        "Cases that reached a resolution, also those that were opened again.",
        "process-mining practice on the BPI Challenge 2013 log (cases that reach Resolved or Closed)",
        {"value": count(_RESOLVED)},
        _CASES,
    ),
    Figure(
        "reopened",
        "Reopened",
        "percent",
        "cases that were open again after a resolution / cases with at least one resolution",
        "Per case, however often it came back. A resolution that stands today may still be reopened.",
        "process-mining practice on the BPI Challenge 2013 log (Accepted or Queued after Resolved or Closed)",
        {"cases": count(_C.reopened), "percent": percent(count(_C.reopened), count(_RESOLVED))},
        count(_RESOLVED),
        "no case here was resolved",
    ),
    Figure(
        "promise_kept",
        "Resolution promise kept",
        "percent",
        "cases whose last episode's resolution clock stopped in time / cases where it stopped or was breached",
        "By the promise in force when the clock started. Clocks that still run are not counted.",
        "SLA attainment: obligations met / obligations stopped or due (dbt_zendesk decision log)",
        {"cases": _PROMISE["yes"], "percent": percent(_PROMISE["yes"], _PROMISE["known"])},
        _PROMISE["known"],
        "no resolution clock here was stopped or breached",
    ),
    Figure(
        "first_response",
        "First response time",
        "seconds",
        "first public message of a human - opening; quantiles of type 7",
        "Calendar time. Acknowledgements by a machine do not count; a case resolved without a message has none.",
        "Zendesk first reply time (dbt_zendesk decision log), without automatic replies",
        {
            "median_s": seconds(quantile(0.5, _C.first_response_us)),
            "p90_s": seconds(quantile(0.9, _C.first_response_us)),
        },
        count(_C.first_response_us.is_not(None)),
        "no live case here has a public answer of a human",
    ),
    Figure(
        "first_response_kept",
        "First response promise kept",
        "percent",
        "first-response clocks that stopped in time / those that stopped or were breached",
        "Where nobody wrote before, the resolution is the response the clock waits for.",
        "SLA attainment: obligations met / obligations stopped or due (dbt_zendesk decision log)",
        {"cases": _RESPONSE["yes"], "percent": percent(_RESPONSE["yes"], _RESPONSE["known"])},
        _RESPONSE["known"],
        "no first-response clock here was stopped or breached",
    ),
    Figure(
        "accepted",
        "Acceptable to the customer",
        "percent",
        "resolved cases the customer accepted / resolved cases the customer answered yes or no about",
        "The survey's yes or no about the last episode, else 4-5 of 5 is yes and 1-2 is no. Silence is unknown.",
        "order of evidence: the survey first, silence never counts as yes",
        {
            "percent": percent(_ACCEPTED["yes"], _ACCEPTED["known"]),
            "unknown_percent": percent(_ACCEPTED["unknown"], count(_RESOLVED)),
        },
        _ACCEPTED["known"],
        "no customer here answered the survey with yes or no",
    ),
    Figure(
        "csat",
        "Customer satisfaction",
        "score",
        "mean: sum of scores / scores; satisfied_percent: scores of 4 and 5 / scores",
        "Two different metrics, side by side. The last score of each case.",
        "R. Sielinski, CSAT: an emperor with no clothes",
        {
            "mean": rounded(sa.func.avg(_C.csat)),
            "satisfied_percent": percent(count(_C.csat >= 4), sa.func.count(_C.csat)),
        },
        sa.func.count(_C.csat),
        "no customer here gave a score",
    ),
    Figure(
        "nps",
        "Net promoter score",
        "points",
        "percent of scores 9-10 minus percent of scores 0-6, from -100 to 100",
        "Asked about one case, not about the company. The last score of each case.",
        "arXiv 1601.07235; cybaea.net, NPS intervals",
        {
            "value": percent(
                count(_C.nps >= 9) - count(_C.nps <= 6),
                sa.func.count(_C.nps),
            )
        },
        sa.func.count(_C.nps),
        "no customer here said how likely they are to recommend",
    ),
    Figure(
        "escalated",
        "Escalated",
        "percent",
        "cases an escalation unit was asked to take / cases of which that is known",
        "Whether a ladder or a person asked. Another system's history does not say it.",
        "escalation rate: raised escalations, not acknowledged ones",
        {"cases": _ESCALATED["yes"], "percent": percent(_ESCALATED["yes"], _ESCALATED["known"])},
        _ESCALATED["known"],
        "no live case here",
    ),
    Figure(
        "escalations_returned",
        "Escalations returned",
        "percent",
        "escalations the escalation unit handed back / escalations",
        "Asked for, and not the escalation unit's to solve. Per escalation, of which a case may have several.",
        "escalation quality: returned escalations / raised escalations",
        {"escalations": _RETURNED, "percent": percent(_RETURNED, _RAISED)},
        _RAISED,
        "no case here was escalated",
    ),
    Figure(
        "solved_alone",
        "Solved alone",
        "percent",
        "resolved cases one agent of one first-line unit solved alone / resolved cases of which that is known",
        "A second agent, a second unit, or one that is not first-line, is no. Reopened: unknown.",
        "solved alone or with a specialist; a team-mate who covers a shift counts as a second agent",
        {
            "percent": percent(_ALONE["yes"], _ALONE["known"]),
            "unknown_percent": percent(_ALONE["unknown"], count(_RESOLVED)),
        },
        _ALONE["known"],
        "no resolved case here says which agents and lines had it",
    ),
    Figure(
        "ignored_pauses",
        "Ignored pauses",
        "seconds",
        "working time of handling clocks that was paused after the customer had come in again, over ended pauses",
        "A clock that waits for a partner, or for nobody, while the customer asks: waiting that nobody may charge.",
        "pause-abuse audit: pause time after a customer contact",
        {"cases": count(_C.ignored_s > 0), "seconds": total(_C.ignored_s)},
        count(_C.clock_episode > 0),
        "no case here has clocks",
    ),
    Figure(
        "activities",
        "Activities",
        "activities",
        "count of different activities in the steps",
        "Another system's own statuses, and the kinds of live steps.",
        _CHALLENGE,
        {},
        _CASES,
        _NO_CASES,
        _C.codes,
    ),
    Figure(
        "teams",
        "Teams",
        "units",
        "count of different units that had a case",
        "Units of every kind, as the steps name them.",
        _CHALLENGE,
        {},
        count(_WITH_UNIT),
        _NO_UNITS,
        _C.units,
    ),
)
