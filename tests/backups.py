"""A service's database backed up, lost and restored with the commands of docs/operating.md."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncpg

from services.runtime.postgres import binaries
from tests.conftest import Engine


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


def run(name: str, *arguments: str) -> None:
    subprocess.run([binaries() / name, *arguments], check=True, capture_output=True, env={"LC_ALL": "C"})


async def execute(engine: Engine, sql: str) -> None:
    conn = await asyncpg.connect(engine.dsn)
    try:
        await conn.execute(sql)
    finally:
        await conn.close()
