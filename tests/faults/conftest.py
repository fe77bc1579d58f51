"""How long to run, and where the tables go."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from tests.conftest import Engine, Postgres, delete_topics
from tests.faults.report import Report

REPORT = pytest.StashKey[Report]()


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether this is `make faults` or `make clocks`; else a test takes a sample of what it could do."""
    return bool(request.config.getoption("--faults"))


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """Takes tables; they are printed at the end, and kept in `--report`."""
    return request.config.stash.setdefault(REPORT, Report())


@pytest.fixture
async def twin(engine: Engine, postgres: Postgres) -> AsyncIterator[Engine]:
    """The same engine once more, beside `engine`: another database, other topics."""
    name, namespace = f"test_{secrets.token_hex(6)}", f"t{secrets.token_hex(5)}"
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        yield replace(engine, dsn=postgres.dsn(name), namespace=namespace)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()
    if engine.kafka is not None:
        await delete_topics(engine.kafka, namespace)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints every table, of failed tests too: that is when one reads them."""
    report = config.stash.get(REPORT, None)
    if report is None:
        return
    for section in report.sections.values():
        terminalreporter.write_line(f"\n{section}")
    if path := config.getoption("--report"):
        report.keep(path)
