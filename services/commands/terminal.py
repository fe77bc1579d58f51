"""What the commands share at the terminal: where output goes, progress bars, exit codes."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

OUT = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
"""Results. What a script reads goes through `print_json` and stays free of colours and wrapping."""

ERR = Console(stderr=True, highlight=False)
"""Progress and complaints."""


class ExitCode(IntEnum):
    """What a script can tell a command's end by."""

    OK = 0
    NO = 1
    """The answer is "no" or "different"."""
    USAGE = 2
    """The command line, a profile or a file is wrong."""
    UNREACHABLE = 3
    """No server answered, or not now."""
    REFUSED = 4
    """The server said no; its reason was printed."""


class CommandFailed(Exception):
    """The command ends here; `main` prints the sentence and exits with `code`."""

    def __init__(self, sentence: str, code: ExitCode) -> None:
        super().__init__(sentence)
        self.code = code


@contextmanager
def stopping() -> Iterator[None]:
    """SIGINT and SIGTERM end the program in order, whatever it is doing: every `with` on the way is left."""

    def leave(number: int, frame: object) -> NoReturn:
        raise SystemExit(ExitCode.OK)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_json(value: object) -> None:
    """Print `value` as JSON and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def progress() -> Progress:
    """A bar on stderr with count and time to go; nothing at all where stderr is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=ERR,
        disable=not ERR.is_terminal,
    )


def records_read() -> Progress:
    """A bar for work that says how many records it has read, not how many there are."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} records read"),
        TimeElapsedColumn(),
        console=ERR,
        disable=not ERR.is_terminal,
    )
