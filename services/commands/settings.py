"""The options every client command has, which the environment may say too: where Casewalk is, and by which key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.commands.client import PATIENCE_S, REACH_S, Client, Doors

DATA_DIR = Path("casewalk-data")
LOCAL_URL = "http://127.0.0.1:8080"

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="CASEWALK_URL",
        help="Where Casewalk is: one door, or one per service as intake=http://…,router=http://…",
    ),
]
KeyText = Annotated[
    str | None,
    typer.Option(
        "--key", envvar="CASEWALK_KEY", help="Your key. Default: the admin key in the data directory, if it is there."
    ),
]
DataDir = Annotated[
    Path,
    typer.Option("--data", envvar="CASEWALK_DATA_DIR", help="The data directory of a local `casewalk up`."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def connect(
    url: str, key: str | None, data: Path, *, patience_s: float = PATIENCE_S, reach_s: float = REACH_S
) -> Client:
    """A client for these options; the key is the given one, else the local admin key. Raises BadUrl."""
    local = data / "admin.key"
    if key is None and local.is_file():
        key = local.read_text().strip()
    return Client(Doors.at(url), key, patience_s=patience_s, reach_s=reach_s)
