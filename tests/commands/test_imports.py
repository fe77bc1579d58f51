"""A command imports only what it needs: who asks a server, or asks wrongly, does not wait for one to be loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.commands.conftest import environment

PART = """
import sys
from services.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit:
    print(*sys.modules, file=sys.stderr)
"""
"""Runs a command as `casewalk` does, and says last what was imported."""

OF_SERVERS = {"fastapi", "sqlalchemy", "aiokafka", "pydantic_settings", "services.runtime", "services.every"}


def imported(*arguments: str) -> set[str]:
    whole = [sys.executable, "-c", PART, *arguments]
    ended = subprocess.run(whole, env=environment({}), capture_output=True, text=True, check=True)
    return set(ended.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "figures --help",
        "figures --nonsense",
        "nonsense",
        "serve nonsense",
        "up --help",
        "walk 17 --url intake=nonsense",
        "verify --url nonsense",
    ],
)
def test_a_command_that_runs_no_server_imports_none(arguments: str) -> None:
    assert imported(*arguments.split()) & OF_SERVERS == set()


def test_a_server_imports_what_the_others_do_without() -> None:
    """Or the names above are out of date."""
    assert imported("serve", "intake") >= OF_SERVERS
