"""A service's database backed up, lost and restored with the commands of docs/operating.md."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import asyncpg

from services.runtime.postgres import binaries
from tests.conftest import Engine

OPERATING = Path(__file__).resolve().parents[1] / "docs" / "operating.md"


def dump(engine: Engine, service: str, to: Path) -> None:
    """The step "back up" of docs/operating.md."""
    run("pg_dump", "--format=custom", f"--schema={service}", f"--schema={service}_privacy", f"--file={to}", engine.dsn)


def copy(directory: Path, to: Path) -> None:
    """The step that copies the directory of a stopped PostgreSQL, owners and rights included."""
    subprocess.run(["cp", "--archive", directory, to], check=True)


async def lose(engine: Engine, service: str) -> None:
    await execute(engine, f"drop schema {service} cascade; drop schema {service}_privacy cascade")


def restore(engine: Engine, backup: Path) -> None:
    """The step "restore" of docs/operating.md."""
    run("pg_restore", "--exit-on-error", f"--dbname={engine.dsn}", str(backup))


async def by_the_page(program: str, directory: Path, url: str) -> None:
    """The page's own line that begins with the program, as a shell in the directory runs it."""
    (line,) = [line for line in OPERATING.read_text("utf-8").splitlines() if line.strip().startswith(program)]
    variables = {"PATH": f"{binaries()}:{os.environ['PATH']}", "CASEWALK_DATABASE_URL": url}
    process = await asyncio.create_subprocess_shell(line, cwd=directory, env=variables)
    assert await process.wait() == 0, line


def run(name: str, *arguments: str) -> None:
    subprocess.run([binaries() / name, *arguments], check=True, capture_output=True, env={"LC_ALL": "C"})


async def execute(engine: Engine, sql: str) -> None:
    conn = await asyncpg.connect(engine.dsn)
    try:
        await conn.execute(sql)
    finally:
        await conn.close()
