"""A server, from the variables of its environment to the words that say where it is."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import structlog
import uvloop
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from events.errors import CasewalkError, Unavailable
from events.kafka_security import KafkaSecurity, Mechanism, Protocol
from services.commands.client import Client, Doors
from services.commands.settings import DATA_DIR
from services.commands.terminal import ERR, OUT, CommandFailed, ExitCode
from services.every import SERVICES
from services.runtime import LEAVE_AFTER_S, Settings
from services.runtime import serve as serve_until_stopped
from services.runtime.postgres import AlreadyRunning, EmbeddedPostgres, PostgresFailed
from services.web.tokens import Issuer

START_LIMIT_S = 300.0
"""How long the announcement waits for the doors: a new version may build its views first."""


class ServerEnvironment(BaseSettings):
    """The `CASEWALK_*` variables a server reads; options of the command line go before them."""

    model_config = SettingsConfigDict(env_prefix="CASEWALK_", frozen=True)

    database_url: str | None = None
    """None: PostgreSQL is started by the program, in the data directory."""
    kafka: str | None = None
    """Bootstrap servers. None: the log is in PostgreSQL."""
    kafka_security_protocol: Protocol = Protocol.PLAINTEXT
    kafka_ssl_ca: Path | None = None
    """PEM of who signs the brokers' certificates. None: the system's authorities."""
    kafka_ssl_certificate: Path | None = None
    kafka_ssl_key: Path | None = None
    kafka_sasl_mechanism: Mechanism = Mechanism.SCRAM_SHA_512
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    namespace: str = ""
    """Prefix of the topics' names, where installations share brokers."""
    data_dir: Path = DATA_DIR
    admin_key: SecretStr | None = None
    master_key: SecretStr | None = None
    oidc_issuer: str | None = None
    """Whose tokens are taken beside keys; then `oidc_audience` and `oidc_jwks_url` are needed, too."""
    oidc_audience: str | None = None
    oidc_jwks_url: str | None = None
    oidc_role_claim: str = "scope"
    oidc_holder_claim: str = "casewalk_holder"
    smtp_url: SecretStr | None = None
    """`smtp://user:password@host:port`, or `smtps://…`."""
    mail_from: str | None = None
    webhooks_private: bool = False
    """Webhooks may go to this machine and to private networks."""


def read_environment(data: Path | None) -> ServerEnvironment:
    """The variables, with the data directory of the command line before theirs."""
    environment = ServerEnvironment()
    return environment if data is None else environment.model_copy(update={"data_dir": data})


@contextmanager
def database(environment: ServerEnvironment) -> Iterator[str]:
    """The URL of the database to use, started here if none is named. Raises CommandFailed."""
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


def settings(environment: ServerEnvironment, database_url: str, *, open_doors: bool = False) -> Settings:
    """How the hosts run. Raises CommandFailed where the variables contradict each other or hold no key."""
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


def run(server: Coroutine[Any, Any, None]) -> None:
    """Run it until it ends, with logs on stderr. Raises CommandFailed."""
    _log_to_stderr()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server)
    except CasewalkError as error:
        code = ExitCode.UNREACHABLE if isinstance(error, Unavailable) else ExitCode.USAGE
        raise CommandFailed(error.message, code) from error
    except (OSError, asyncpg.PostgresError) as error:
        raise CommandFailed(f"the database does not answer: {error}", ExitCode.UNREACHABLE) from error


async def serving(names: Sequence[str], settings: Settings, host: str, port: int) -> None:
    """These services, until the process is told to stop; each once."""
    known = {service.name: service for service in SERVICES}
    services = [known[name] for name in dict.fromkeys(names)]
    await serve_until_stopped(services, settings, host, port, LEAVE_AFTER_S)


async def announced(settings: Settings, host: str, port: int) -> None:
    """All services, until the process is told to stop, and a word on the terminal once they are there."""
    announcement = asyncio.create_task(_announce(settings, f"http://{host}:{port}"))
    try:
        await serve_until_stopped(SERVICES, settings, host, port)
    finally:
        announcement.cancel()


async def _announce(settings: Settings, url: str) -> None:
    """Say where everything is, once the doors are open."""
    async with Client(Doors.at(url), patience_s=START_LIMIT_S, reach_s=START_LIMIT_S) as client:
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
