"""`casewalk walk`: what happened to one case, as a timeline, and what became of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.commands.settings import DATA_DIR, LOCAL_URL, DataDir, Json, KeyText, Url, connect
from services.commands.terminal import OUT, print_json

QUESTIONS = {
    "in_time": "Resolved in time?",
    "accepted": "Acceptable to the customer?",
    "solved_alone": "Solved alone?",
    "escalated": "Escalated?",
}

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

UNITS_S = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def walk(
    case: Annotated[str, typer.Argument(metavar="CASE", help="The case's id.")],
    url: Url = LOCAL_URL,
    key: KeyText = None,
    data: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Print a case's walk: every step with who, when, why and the time since the step before.

    It ends in four answers: resolved in time? acceptable to the customer? solved alone or with a specialist? escalated?
    What nobody said stays unknown. Times are UTC.
    """

    async def ask() -> Any:
        async with connect(url, key, data) as client:
            return (await client.get(f"/v1/walks/{case}")).body

    answer = asyncio.run(ask())
    if as_json:
        print_json(answer)
    else:
        OUT.print(timeline(answer))


def timeline(answer: dict[str, Any]) -> RenderableType:
    """The walk as `GET /v1/walks/{case_id}` answers it, for people."""
    steps = Table(
        "when (UTC)", "after", "what happened", "who", "why", title=f"Case {answer['case_id']}", title_justify="left"
    )
    for day, step in _with_days(answer["steps"]):
        if day is not None:
            steps.add_row(Text(day, style="bold"))
        spent = "" if step["spent_s"] is None else duration(step["spent_s"])
        at = f"{_moment(step['at']):%H:%M:%S}"
        style = None if step["kind"] == "step" else "dim"
        steps.add_row(at, spent, Text(step["what"]), Text(who(step["who"])), Text(step["why"] or ""), style=style)
    for overlap in answer["overlaps"]:
        steps.add_row("", "", Text(_overlap(overlap)), style="yellow")
    answers = Table.grid(padding=(0, 2))
    for name, question in QUESTIONS.items():
        answers.add_row(question, Text(answer["verdict"][name], style="bold"))
    return Group(steps, answers)


def _overlap(overlap: dict[str, Any]) -> str:
    since, until = _moment(overlap["since"]), overlap["until"]
    lasted = "until now" if until is None else f"for {duration((_moment(until) - since).total_seconds())}"
    return f"{' and '.join(map(who, overlap['holders']))} had it at once, from {since:%H:%M:%S} {lasted}"


def _with_days(steps: list[dict[str, Any]]) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Each step, with its day where a new day begins."""
    last = None
    for step in steps:
        day = f"{_moment(step['at']):%Y-%m-%d}"
        yield (day if day != last else None), step
        last = day


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def who(text: str) -> str:
    """Who did it, a key's id by its beginning: nobody reads 36 digits."""
    return UUID.sub(lambda found: f"{found[0][:8]}…", text)


def duration(seconds: float) -> str:
    """A duration in its two largest units: `2 h 5 min`, `3 d`, `40 s`, `0.2 s`."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 10:
        return f"{seconds:.1f} s"
    largest = next(i for i, (_, size_s) in enumerate(UNITS_S) if seconds >= size_s)
    left, parts = int(seconds), list[str]()
    for name, size_s in UNITS_S[largest : largest + 2]:
        count, left = divmod(left, size_s)
        parts += [f"{count} {name}"] if count else []
    return " ".join(parts)
