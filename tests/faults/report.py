"""The tables of a run, as Markdown; a file keeps the last of each."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

HEAD = """# Faults

What `make faults` and `make clocks` printed last with `REPORT=docs/faults.md`. Each table says when and on what size of
machine it was made.

All of `make faults` runs two tests at a time on two cores and took 38 minutes, half of them the crash matrix, on both
engines beside each other. `ENGINE=embedded` or `ARGS="-k crash"` takes a part, and a part keeps the other tables.
"""


class Report:
    """Title → a section with the table, its date and the machine's size."""

    def __init__(self) -> None:
        self.sections: dict[str, str] = {}

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], note: str = "") -> None:
        """Add a table, or put it in the place of the one with the same title. `note` is a paragraph under it."""
        lines = [list(columns), *([_cell(value) for value in row] for row in rows)]
        widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(columns))]
        text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
        text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
        parts = [f"## {title}", f"{_where()}.", "\n".join(text), *([note] if note else [])]
        self.sections[title] = "\n\n".join(parts)

    def keep(self, path: Path) -> None:
        """Write the tables to the file; what else it holds stays, so that a part of a run may be kept too."""
        kept: dict[str, str] = {}
        if path.exists():
            for section in re.split(r"^(?=## )", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
                kept[section.splitlines()[0].removeprefix("## ")] = section.strip()
        path.write_text("\n\n".join([HEAD.strip(), *(kept | self.sections).values()]) + "\n", "utf-8")


def _cell(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _where() -> str:
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory_gib:.0f} GiB"
