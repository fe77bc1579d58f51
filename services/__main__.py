"""The command line `casewalk`, and the one list of services that everything is wired from.

To add a command: a function in `services/commands/`, and its line below.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from services.commands.clock import clock
from services.commands.demo import demo
from services.commands.figures import figures
from services.commands.importing import import_file
from services.commands.running import serve, up
from services.commands.terminal import ERR, CommandFailed
from services.commands.upkeep import rebuild, verify
from services.commands.walk import walk
from services.escalation.service import SERVICE as ESCALATION
from services.intake.service import SERVICE as INTAKE
from services.metrics.service import SERVICE as METRICS
from services.router.service import SERVICE as ROUTER
from services.runtime import Service
from services.runtime.garbage import collect_seldom
from services.runtime.zones import only_the_wheel
from services.vendor.service import SERVICE as VENDOR

SERVICES: tuple[Service, ...] = (INTAKE, ROUTER, ESCALATION, VENDOR, METRICS)

ENDS = """
Exit codes: 0 done; 1 the answer is no, or different; 2 the command line or a file is wrong; 3 no server answers;
4 the server refused, and its reason was printed.
"""


def command_line() -> typer.Typer:
    """All commands."""
    casewalk = typer.Typer(
        help="Follows every customer case from first contact to an accepted resolution.",
        epilog=ENDS,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    casewalk.command()(up)
    casewalk.command()(serve)
    casewalk.command("import")(import_file)
    casewalk.command()(figures)
    casewalk.command()(walk)
    casewalk.command()(clock)
    casewalk.command()(rebuild)
    casewalk.command()(verify)
    casewalk.command()(demo)
    return casewalk


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command of `arguments`, or of `sys.argv`; ends with one of the exit codes above."""
    only_the_wheel()
    collect_seldom()
    try:
        sys.exit(command_line()(arguments, obj=SERVICES, prog_name="casewalk"))
    except CommandFailed as failed:
        ERR.print(f"casewalk: {failed}", markup=False, soft_wrap=True)
        sys.exit(failed.code)


if __name__ == "__main__":
    main()
