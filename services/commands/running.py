"""`casewalk up` and `casewalk serve`: the services run in this process until it is told to stop."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from services.commands.terminal import CommandFailed, ExitCode, stopping
from services.names import NAMES

LOOPBACK = "127.0.0.1"

Port = Annotated[
    int, typer.Option("--port", envvar="CASEWALK_PORT", min=1, max=65_535, help="The port the doors are on.")
]
ServerData = Annotated[
    Path | None,
    typer.Option("--data", envvar="CASEWALK_DATA_DIR", help="Where data and keys are kept; made when it is new."),
]


def up(
    port: Port = 8080,
    data: ServerData = None,
    open_doors: Annotated[bool, typer.Option("--open", help="Ask for no keys. Only on loopback, only to try.")] = False,
) -> None:
    """Start all services on this machine, behind one port on loopback.

    PostgreSQL is started too, on the data directory, unless CASEWALK_DATABASE_URL names one. The log is in PostgreSQL,
    unless CASEWALK_KAFKA names brokers. Ctrl-C stops everything in order.
    """
    from services.commands import server  # 2 s, which only those pay who start one

    environment = server.read_environment(data)
    _refuse_taken(LOOPBACK, port)
    with stopping(), server.database(environment) as database_url:
        settings = server.settings(environment, database_url, open_doors=open_doors)
        server.run(server.announced(settings, LOOPBACK, port))


def serve(
    names: Annotated[list[str], typer.Argument(metavar="SERVICE…", help=f"{', '.join(NAMES)}.")],
    port: Port = 8080,
    host: Annotated[str, typer.Option(help="The address the doors are on.")] = LOOPBACK,
    data: ServerData = None,
) -> None:
    """Run some of the services in this process, as in a distributed installation.

    CASEWALK_DATABASE_URL names the PostgreSQL database of these services, CASEWALK_KAFKA the brokers that all processes
    share, CASEWALK_MASTER_KEY the key that personal texts are sealed under. Any number of processes may run the same
    service.
    """
    if unknown := [name for name in names if name not in NAMES]:
        raise CommandFailed(f"there is no service {', '.join(unknown)}; there are {', '.join(NAMES)}", ExitCode.USAGE)
    from services.commands import server  # as above

    environment = server.read_environment(data)
    if environment.database_url is None:
        raise CommandFailed("set CASEWALK_DATABASE_URL to the services' PostgreSQL database", ExitCode.USAGE)
    _refuse_taken(host, port)
    with stopping():
        settings = server.settings(environment, environment.database_url)
        server.run(server.serving(names, settings, host, port))


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandFailed(f"port {port} on {host} cannot be used: {error.strerror}", ExitCode.USAGE) from error
