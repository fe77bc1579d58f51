"""The command line `casewalk`. A command is imported when it is asked for, and with it only what it needs.

To add a command: a function in `services/commands/`, and its line below.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from services.commands.terminal import ERR, CommandFailed
from services.process import collect_seldom, only_the_wheel

COMMANDS = {
    "up": "running:up",
    "serve": "running:serve",
    "import": "importing:import_file",
    "figures": "figures:figures",
    "walk": "walk:walk",
    "clock": "clock:clock",
    "rebuild": "upkeep:rebuild",
    "verify": "upkeep:verify",
    "demo": "demo:demo",
}
"""Name → module in `services.commands`, and the function in it."""

ENDS = """
Exit codes: 0 done; 1 the answer is no, or different; 2 the command line or a file is wrong; 3 no server answers;
4 the server refused, and its reason was printed.
"""

MARKUP: Final = "markdown"


class Imported(TyperGroup):
    """Has names, and a command once it is asked for."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=MARKUP)
        alone.command(cmd_name)(getattr(import_module(f"services.commands.{module}"), function))
        return typer.main.get_command(alone)


def command_line() -> TyperGroup:
    """All commands."""
    return Imported(
        commands={name: TyperCommand(name) for name in COMMANDS},
        help="Follows every customer case from first contact to an accepted resolution.",
        epilog=ENDS,
        no_args_is_help=True,
        rich_markup_mode=MARKUP,
    )


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command of `arguments`, or of `sys.argv`; ends with one of the exit codes above."""
    only_the_wheel()
    collect_seldom()
    try:
        sys.exit(command_line()(arguments, prog_name="casewalk"))
    except CommandFailed as failed:
        ERR.print(f"casewalk: {failed}", markup=False, soft_wrap=True)
        sys.exit(failed.code)


if __name__ == "__main__":
    main()
