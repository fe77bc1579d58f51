"""`casewalk figures`: what the walks add up to."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table
from rich.text import Text

from services.commands.settings import DATA_DIR, LOCAL_URL, DataDir, Json, KeyText, Url, connect
from services.commands.terminal import OUT, CommandFailed, ExitCode, print_json

NO_PARTS = ("n", "definition", "missing")

COLUMNS = {
    "cases": "value",
    "backlog": "value",
    "throughput_days": "median",
    "handovers": "mean",
    "first_line_alone": "percent",
    "reopened": "percent",
    "promise_kept": "percent",
}
"""What a table with one line per group shows of each figure."""

Figures = dict[str, dict[str, Any]]


def figures(
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="DIMENSION=VALUE", help="Only these cases, such as market=de or import=<id>; repeatable."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="DIMENSION", help="One line per market, journey, queue, …, day, week or month."),
    ] = None,
    cases: Annotated[
        str | None,
        typer.Option(metavar="FIGURE", help="Case by case: which ones promise_kept, accepted, … counted, and why."),
    ] = None,
    url: Url = LOCAL_URL,
    key: KeyText = None,
    data: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Print the figures over all cases, or over some of them.

    Dimensions are import, market, language, journey, channel, priority, tier, queue and unit. Several values of one
    dimension are alternatives. Every figure names the version of its definition; `GET /v1/definitions` says what it
    means. `--cases` says which cases made a figure, and why the others were left out.
    """

    if cases is not None and by is not None:
        raise CommandFailed("say either --by or --cases", ExitCode.USAGE)

    async def ask() -> Any:
        async with connect(url, key, data) as client:
            if cases is not None:
                return [
                    one
                    async for one in client.all(f"/v1/figures/{quote(cases, safe='')}/cases", where=where, limit=500)
                ]
            return (await client.get("/v1/figures", where=where, by=by)).body

    answer = asyncio.run(ask())
    if as_json:
        print_json(answer)
    elif cases is not None:
        OUT.print(table_of_cases(cases, answer))
    else:
        OUT.print(table(answer) if by is None else table_by(answer["by"], answer["groups"]))


def table(answer: Figures) -> Table:
    """Every figure on a line of its own."""
    made = Table("figure", "value", "n", "definition", title="Figures", title_justify="left")
    for figure_id, figure in answer.items():
        parts = {name: value for name, value in figure.items() if name not in NO_PARTS}
        said = ", ".join(
            shown(value) if name == "value" else f"{name}: {shown(value)}" for name, value in parts.items()
        )
        value = Text(figure["missing"], style="dim") if "missing" in figure else Text(said)
        made.add_row(figure_id.replace("_", " "), value, f"{figure['n']:,}", figure["definition"])
    return made


def table_of_cases(figure_id: str, cases: list[dict[str, Any]]) -> Table:
    """One line per case, and at the end what they add up to."""
    yes, n = (sum(case["counted"] and case["verdict"] in of for case in cases) for of in (("yes",), ("yes", "no")))
    made = Table(
        "case", "counted", "why", "due", "ended", "promise",
        title=f"{figure_id.replace('_', ' ')}: {yes:,} of {n:,}; {len(cases) - n:,} not counted", title_justify="left",
    )  # fmt: skip
    for case in cases:
        counted = case["verdict"] if case["counted"] else "–"
        due, ended = (case[name].replace("T", " ")[:19] if case[name] else "–" for name in ("due_at", "ended_at"))
        made.add_row(case["case_id"], counted, case["why"], due, ended, case["promise"] or "–")
    return made


def table_by(dimension: str, groups: dict[str, Figures]) -> Table:
    """One line per group, with the figures a team lead looks at first."""
    made = Table(dimension, title=f"Figures by {dimension}", title_justify="left")
    for figure_id, part in COLUMNS.items():
        made.add_column(f"{figure_id.replace('_', ' ')}" + ("" if part == "value" else f"\n{part}"), justify="right")
    for group, answer in groups.items():
        made.add_row(group, *(shown(answer[figure_id].get(part)) for figure_id, part in COLUMNS.items()))
    return made


def shown(value: float | int | None) -> str:
    """A number as people read it: two decimals, two digits where those were zeros, a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if value == 0 or abs(value) >= 0.1 else f"{value:.2g}"
