"""`casewalk clock`: the clocks of one case, and where every minute of them went."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.commands.settings import DATA_DIR, LOCAL_URL, DataDir, Json, KeyText, Url, connect
from services.commands.terminal import OUT, print_json
from services.commands.walk import duration

VERDICTS = {True: ("kept", "green"), False: ("not kept", "red"), None: ("", "")}


def clock(
    case: Annotated[str, typer.Argument(metavar="CASE", help="The case's id.")],
    url: Url = LOCAL_URL,
    key: KeyText = None,
    data: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Print a case's clocks: what was promised, what is left of it, and why each minute counted or did not.

    Clocks about which nothing is promised are measured, too, and come last. Times are UTC.
    """

    async def ask() -> Any:
        async with connect(url, key, data) as client:
            return (await client.get("/v1/clocks", case=case)).body

    answer = asyncio.run(ask())
    if as_json:
        print_json(answer)
    else:
        OUT.print(explanation(case, answer))


def explanation(case: str, answer: dict[str, Any]) -> RenderableType:
    """What `GET /v1/clocks` answers, for people."""
    if not answer["items"]:
        return Text(f"Case {case} has no clocks.")
    ordered = sorted(answer["items"], key=lambda one: (one["promise"] is None, one["started_at"], one["clock"]))
    imported = {one["promise"]: None for one in ordered if one["promise"] and not one["fires"]}
    judged = ", ".join([*answer["promises"], *imported]) or "nothing"
    head = Text(f"Case {case}, judged by {judged}; time zones of {answer['tzdata'] or 'no calendar'}")
    return Group(head, *(part for one in ordered for part in _clock(one)))


def _clock(one: dict[str, Any]) -> Iterator[RenderableType]:
    name = one["clock"].replace("_", " ")
    which = [f"episode {one['episode']}"] if one["episode"] > 1 else []
    which += [f"turn {one['turn']}"] if one["turn"] > 1 else []
    which += [f"of {one['owner']}"] if one["owner"] else []
    which += [] if one["fires"] else ["in imported history"]
    verdict, colour = VERDICTS[one["kept"]]
    yield Text()
    yield Text.assemble(
        (name, "bold"), f" ({', '.join(which)})" if which else "", f": {one['state']}", ", " if verdict else "",
        (verdict, colour), f"; {duration(one['elapsed_s'])} used{_left(one)}{_warned(one)}{_ignored(one)}",
    )  # fmt: skip
    table = Table("from", "to", "", "why", "by", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for segment in one["segments"]:
        by = " on ".join(filter(None, (segment["promise"], segment["calendar"]))) or "all time"
        counted = "counted" if segment["counted"] else "not counted"
        spent = duration(segment["seconds"])
        why = segment["why"] if segment["pieces"] == 1 else f"{segment['why']}, {segment['pieces']} times"
        table.add_row(_at(segment["since"]), _at(segment["until"]), f"{spent} {counted}", why, by)
    yield table


def _left(one: dict[str, Any]) -> str:
    if one["target_s"] is None:
        return ", nothing promised"
    of = f" of {duration(one['target_s'])}"
    if one["due_at"] is not None:
        return f"{of}, due {_at(one['due_at'])}"
    if one["state"] == "no_working_time":
        return f"{of}, never due: {one['calendar']} has too little working time"
    return f"{of}, {duration(one['remaining_s'])} left when it goes on"


def _warned(one: dict[str, Any]) -> str:
    return f"; warned at {', '.join(map(str, one['warned']))} %" if one["warned"] else ""


def _ignored(one: dict[str, Any]) -> str:
    return f"; {duration(one['ignored_s'])} paused after the customer had come in again" if one["ignored_s"] else ""


def _at(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S}"
