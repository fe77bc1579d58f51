"""How long to run, and where the tables go."""

from __future__ import annotations

from typing import Any

import pytest

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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands on what it has told."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tables"] = session.config.stash.get(REPORT, Report()).sections


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes what a worker handed on."""
    told = getattr(node, "workeroutput", {}).get("tables", {})
    if told:
        node.config.stash.setdefault(REPORT, Report()).sections.update(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints every table, of failed tests too: that is when one reads them."""
    report = config.stash.get(REPORT, None)
    if report is None:
        return
    for section in report.sections.values():
        terminalreporter.write_line(f"\n{section}")
    if path := config.getoption("--report"):
        report.keep(path)
