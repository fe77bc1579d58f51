"""`casewalk up` and `casewalk serve`: the services run in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import structlog
import typer
import uvloop

from events.errors import CasewalkError, Unavailable
from events.kafka_security import KafkaSecurity
from services.commands.client import Client, Doors
from services.commands.settings import ServerEnvironment
from services.commands.terminal import ERR, OUT, CommandFailed, ExitCode, stopping
from services.runtime import LEAVE_AFTER_S, Service, Settings
from services.runtime import serve as serve_until_stopped
from services.runtime.postgres import AlreadyRunning, EmbeddedPostgres, PostgresFailed
from services.web.tokens import Issuer

LOOPBACK = "127.0.0.1"

START_LIMIT_S = 300.0
"""How long the announcement waits for the doors: a new version may build its views first."""

Port = Annotated[
    int, typer.Option("--port", envvar="CASEWALK_PORT", min=1, max=65_535, help="The port the doors are on.")
]
ServerData = Annotated[
    Path | None,
    typer.Option("--data", envvar="CASEWALK_DATA_DIR", help="Where data and keys are kept; made when it is new."),
]


def up(
    ctx: typer.Context,
    port: Port = 8080,
    data: ServerData = None,
    open_doors: Annotated[bool, typer.Option("--open", help="Ask for no keys. Only on loopback, only to try.")] = False,
) -> None:
    """Start all services on this machine, behind one port on loopback.

    PostgreSQL is started too, on the data directory, unless CASEWALK_DATABASE_URL names one. The log is in PostgreSQL,
    unless CASEWALK_KAFKA names brokers. Ctrl-C stops everything in order.
    """
    environment = _environment(data)
    _refuse_taken(LOOPBACK, port)
    with stopping(), _database(environment) as database_url:
        settings = _settings(environment, database_url, open_doors=open_doors)
        _run(_announced(ctx.obj, settings, port))


def serve(
    ctx: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="SERVICE…", help="intake, router, escalation, vendor, metrics.")
    ],
    port: Port = 8080,
    host: Annotated[str, typer.Option(help="The address the doors are on.")] = LOOPBACK,
    data: ServerData = None,
) -> None:
    """Run some of the services in this process, as in a distributed installation.

    CASEWALK_DATABASE_URL names the PostgreSQL database of these services, CASEWALK_KAFKA the brokers that all processes
    share, CASEWALK_MASTER_KEY the key that personal texts are sealed under. Any number of processes may run the same
    service.
    """
    known = {service.name: service for service in ctx.obj}
    if unknown := [name for name in names if name not in known]:
        raise CommandFailed(f"there is no service {', '.join(unknown)}; there are {', '.join(known)}", ExitCode.USAGE)
    environment = _environment(data)
    if environment.database_url is None:
        raise CommandFailed("set CASEWALK_DATABASE_URL to the services' PostgreSQL database", ExitCode.USAGE)
    _refuse_taken(host, port)
    with stopping():
        settings = _settings(environment, environment.database_url)
        services = [known[name] for name in dict.fromkeys(names)]
        _run(serve_until_stopped(services, settings, host, port, LEAVE_AFTER_S))


def _environment(data: Path | None) -> ServerEnvironment:
    environment = ServerEnvironment()
    return environment if data is None else environment.model_copy(update={"data_dir": data})


@contextmanager
def _database(environment: ServerEnvironment) -> Iterator[str]:
    """The URL of the database to use, started here if none is named."""
    if environment.database_url is not None:
        yield environment.database_url
        return
    try:
        with EmbeddedPostgres.start(environment.data_dir / "postgres") as postgres:
            postgres.create_database("casewalk")
            yield postgres.dsn("casewalk")
    except AlreadyRunning as error:
        raise CommandFailed(str(error), ExitCode.REFUSED) from error
    except PostgresFailed as error:
        raise CommandFailed(str(error), ExitCode.UNREACHABLE) from error


def _settings(environment: ServerEnvironment, database_url: str, *, open_doors: bool = False) -> Settings:
    return Settings(
        database_url=database_url,
        kafka=environment.kafka,
        kafka_security=_kafka_security(environment),
        data_dir=environment.data_dir,
        master_key=master_key(environment),
        open=open_doors,
        admin_key=environment.admin_key.get_secret_value() if environment.admin_key else None,
        oidc=_issuer(environment),
        namespace=environment.namespace,
        smtp_url=environment.smtp_url.get_secret_value() if environment.smtp_url else None,
        mail_from=environment.mail_from,
        webhooks_private=environment.webhooks_private,
    )


def _kafka_security(environment: ServerEnvironment) -> KafkaSecurity:
    password = environment.kafka_sasl_password
    return KafkaSecurity(
        protocol=environment.kafka_security_protocol,
        ca=environment.kafka_ssl_ca,
        certificate=environment.kafka_ssl_certificate,
        key=environment.kafka_ssl_key,
        mechanism=environment.kafka_sasl_mechanism,
        username=environment.kafka_sasl_username,
        password=None if password is None else password.get_secret_value(),
    )


def _issuer(environment: ServerEnvironment) -> Issuer | None:
    said = (environment.oidc_issuer, environment.oidc_audience, environment.oidc_jwks_url)
    match said:
        case (None, None, None):
            return None
        case (str(issuer), str(audience), str(jwks_url)):
            return Issuer(issuer, audience, jwks_url, environment.oidc_role_claim, environment.oidc_holder_claim)
        case _:
            names = "CASEWALK_OIDC_ISSUER, CASEWALK_OIDC_AUDIENCE and CASEWALK_OIDC_JWKS_URL"
            raise CommandFailed(f"set {names}, or none of them", ExitCode.USAGE)


def master_key(environment: ServerEnvironment) -> bytes:
    """The 32 bytes personal texts are sealed under: given, else kept in the data directory, else made there."""
    path = environment.data_dir / "master.key"
    if environment.master_key is not None:
        text, where = environment.master_key.get_secret_value(), "CASEWALK_MASTER_KEY"
    else:
        text, where = _kept(path), str(path)
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise CommandFailed(f"{where} must hold 64 hexadecimal digits", ExitCode.USAGE)
    return key


def _kept(path: Path) -> str:
    """What the file holds; a new key where there is none. Linked into place whole, so that nobody reads half a key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    if not path.exists():
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass  # another process was faster, and its key is the one
        finally:
            draft.unlink()
    return path.read_text()


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandFailed(f"port {port} on {host} cannot be used: {error.strerror}", ExitCode.USAGE) from error


def _run(server: Coroutine[Any, Any, None]) -> None:
    _log_to_stderr()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server)
    except CasewalkError as error:
        code = ExitCode.UNREACHABLE if isinstance(error, Unavailable) else ExitCode.USAGE
        raise CommandFailed(error.message, code) from error
    except (OSError, asyncpg.PostgresError) as error:
        raise CommandFailed(f"the database does not answer: {error}", ExitCode.UNREACHABLE) from error


async def _announced(services: Sequence[Service], settings: Settings, port: int) -> None:
    url = f"http://{LOOPBACK}:{port}"
    announcement = asyncio.create_task(_announce(services, settings, url))
    try:
        await serve_until_stopped(services, settings, LOOPBACK, port)
    finally:
        announcement.cancel()


async def _announce(services: Sequence[Service], settings: Settings, url: str) -> None:
    """Say where everything is, once the doors are open."""
    async with Client(Doors.at(url, services), patience_s=START_LIMIT_S, reach_s=START_LIMIT_S) as client:
        await client.get("/health/ready")
    OUT.print(f"Casewalk runs at {url}")
    OUT.print(f"  API     {url}/docs")
    OUT.print(f"  data    {settings.data_dir.absolute()}")
    OUT.print(
        "  key     none asked for (--open)" if settings.open else f"  key     {settings.data_dir.absolute()}/admin.key"
    )
    OUT.print("Ctrl-C stops it.")


def _log_to_stderr() -> None:
    """Logs for people on a terminal, as JSON lines anywhere else; results have stdout for themselves.

    Tracebacks come without the values of local variables: those may be keys, or customers' words.
    """
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    as_dict = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    as_json = (structlog.processors.ExceptionRenderer(as_dict), structlog.processors.JSONRenderer())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("iso"),
            *([plain] if ERR.is_terminal else as_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
