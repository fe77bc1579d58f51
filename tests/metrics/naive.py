"""The figures once more, in plain Python over lists: slow, exact, and written without a look at the SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC
from fractions import Fraction
from typing import Any

from events.case import Category
from services.metrics.facts import CaseFacts, Verdict

DAY_US = 24 * 60 * 60 * 1_000_000
SECOND_US = 1_000_000

Answer = dict[str, Fraction | int | None]


def quantile(values: Sequence[int], share: Fraction) -> Fraction | None:
    if not values:
        return None
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def over(part: Fraction | int | None, whole: int) -> Fraction | None:
    return None if part is None or whole == 0 else Fraction(part) / whole


def percent(part: int, whole: int) -> Fraction | None:
    return over(100 * part, whole)


def figures(cases: Iterable[CaseFacts]) -> dict[str, Answer]:
    """Every figure of these cases, without its definition."""
    walks = [case for case in cases if case.steps > 0]
    resolved = [case for case in walks if case.resolutions > 0]
    placed = [case for case in walks if case.units]
    return {
        **_sizes(walks, placed),
        **_times(walks, placed),
        **_ends(walks, resolved),
        **_customers(walks, resolved),
    }


def _sizes(walks: list[CaseFacts], placed: list[CaseFacts]) -> dict[str, Answer]:
    steps = sum(case.steps for case in walks)
    changes = [case.handovers for case in placed]
    ended = {Category.RESOLVED, Category.CLOSED}
    return {
        "cases": {"value": len(walks), "n": len(walks)},
        "events": {"value": steps, "n": len(walks)},
        "backlog": {"value": len([1 for case in walks if case.category not in ended]), "n": len(walks)},
        "events_per_case": {
            "mean": over(steps, len(walks)),
            "max": max((case.steps for case in walks), default=None),
            "n": len(walks),
        },
        "handovers": {
            "mean": over(sum(changes), len(placed)),
            "median": quantile(changes, Fraction(1, 2)),
            "max": max(changes, default=None),
            "none": changes.count(0) if placed else None,
            "n": len(placed),
        },
        "activities": {
            "value": len({code for case in walks for code in case.codes}) if walks else None,
            "n": len(walks),
        },
        "teams": {
            "value": len({unit for case in placed for unit in case.units}) if placed else None,
            "n": len(placed),
        },
    }


def _times(walks: list[CaseFacts], placed: list[CaseFacts]) -> dict[str, Answer]:
    took = [case.duration_us for case in walks]
    pairs = sum(case.steps - 1 for case in walks)
    short = len([1 for us in took if us <= DAY_US])
    responses = [case.first_response_us for case in walks if case.first_response_us is not None]
    groups: dict[str, Callable[[int], bool]] = {
        "0": lambda n: n == 0,
        "1": lambda n: n == 1,
        "2": lambda n: n == 2,
        "3+": lambda n: n > 2,
    }
    return {
        "throughput_days": {
            "median": over(quantile(took, Fraction(1, 2)), DAY_US),
            "mean": over(over(sum(took), len(took)), DAY_US),
            "p95": over(quantile(took, Fraction(95, 100)), DAY_US),
            "p99": over(quantile(took, Fraction(99, 100)), DAY_US),
            "max": over(max(took, default=None), DAY_US),
            "n": len(took),
        },
        "within_24h": {"cases": short if walks else None, "percent": percent(short, len(walks)), "n": len(walks)},
        "days_between_events": {
            "mean": over(over(sum(took), pairs), DAY_US),
            "max": over(max(case.longest_gap_us for case in walks), DAY_US) if pairs else None,
            "n": pairs,
        },
        "throughput_by_handovers": {
            **{
                name: over(quantile([c.duration_us for c in placed if chosen(c.handovers)], Fraction(1, 2)), DAY_US)
                for name, chosen in groups.items()
            },
            "n": len(placed),
        },
        "first_response": {
            "median_s": over(quantile(responses, Fraction(1, 2)), SECOND_US),
            "p90_s": over(quantile(responses, Fraction(9, 10)), SECOND_US),
            "n": len(responses),
        },
    }


def _ends(walks: list[CaseFacts], resolved: list[CaseFacts]) -> dict[str, Answer]:
    again = len([1 for case in walks if case.reopened])
    clocked = len([1 for case in walks if case.clock_episode])
    raised, returned = sum(case.escalations for case in walks), sum(case.escalations_returned for case in walks)
    return {
        "resolved_cases": {"value": len(resolved), "n": len(walks)},
        "reopened": {
            "cases": again if resolved else None,
            "percent": percent(again, len(resolved)),
            "n": len(resolved),
        },
        "promise_kept": _share([case.in_time for case in walks]),
        "first_response_kept": _share([case.response_kept for case in walks]),
        "escalated": _share([case.escalated for case in walks]),
        "escalations_returned": {
            "escalations": returned if raised else None,
            "percent": percent(returned, raised),
            "n": raised,
        },
        "ignored_pauses": {
            "cases": len([1 for case in walks if case.ignored_s]) if clocked else None,
            "seconds": sum(case.ignored_s for case in walks) if clocked else None,
            "n": clocked,
        },
        "first_line_alone": _share([case.first_line for case in walks]),
    }


def _customers(walks: list[CaseFacts], resolved: list[CaseFacts]) -> dict[str, Answer]:
    csat = [case.csat for case in walks if case.csat is not None]
    nps = [case.nps for case in walks if case.nps is not None]
    promoters, detractors = len([1 for n in nps if n in (9, 10)]), len([1 for n in nps if n in range(7)])
    return {
        "accepted": _share_with_unknown([case.accepted for case in resolved]),
        "solved_alone": _share_with_unknown([case.solved_alone for case in resolved]),
        "csat": {
            "mean": over(sum(csat), len(csat)),
            "satisfied_percent": percent(csat.count(4) + csat.count(5), len(csat)),
            "n": len(csat),
        },
        "nps": {"value": percent(promoters - detractors, len(nps)), "n": len(nps)},
    }


def _share(answers: list[Verdict | None]) -> Answer:
    yes, known = answers.count(Verdict.YES), answers.count(Verdict.YES) + answers.count(Verdict.NO)
    return {"cases": yes if known else None, "percent": percent(yes, known), "n": known}


def _share_with_unknown(answers: list[Verdict]) -> Answer:
    share = _share([*answers])
    unknown = percent(answers.count(Verdict.UNKNOWN), len(answers))
    return {"percent": share["percent"], "unknown_percent": unknown if share["n"] else None, "n": share["n"]}


def groups(cases: Iterable[CaseFacts], by: str) -> dict[str, list[CaseFacts]]:
    """The cases by a dimension's value or by when they were opened."""
    found: dict[str, list[CaseFacts]] = {}
    for case in cases:
        if case.steps > 0:
            found.setdefault(_value(case, by), []).append(case)
    return found


def _value(case: CaseFacts, by: str) -> str:
    if by in ("day", "week", "month"):
        if case.opened_at is None:
            return "(none)"
        at = case.opened_at.astimezone(UTC)
        year, week, _ = at.isocalendar()
        return {"day": f"{at:%Y-%m-%d}", "week": f"{year:04}-W{week:02}", "month": f"{at:%Y-%m}"}[by]
    value: Any = getattr(case, {"import": "import_id", "queue": "queue_id", "unit": "unit_id"}.get(by, by))
    return "(none)" if value is None else str(value)
