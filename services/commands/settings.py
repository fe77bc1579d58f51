"""What the environment and the options say: how a server runs, and how a client finds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from events.kafka_security import Mechanism, Protocol
from services.commands.client import PATIENCE_S, REACH_S, Client, Doors
from services.runtime import Service

DATA_DIR = Path("casewalk-data")
LOCAL_URL = "http://127.0.0.1:8080"

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="CASEWALK_URL",
        help="Where Casewalk is: one door, or one per service as intake=http://…,router=http://…",
    ),
]
KeyText = Annotated[
    str | None,
    typer.Option(
        "--key", envvar="CASEWALK_KEY", help="Your key. Default: the admin key in the data directory, if it is there."
    ),
]
DataDir = Annotated[
    Path,
    typer.Option("--data", envvar="CASEWALK_DATA_DIR", help="The data directory of a local `casewalk up`."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


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


def connect(
    services: Sequence[Service],
    url: str,
    key: str | None,
    data: Path,
    *,
    patience_s: float = PATIENCE_S,
    reach_s: float = REACH_S,
) -> Client:
    """A client for these options; the key is the given one, else the local admin key. Raises BadUrl."""
    local = data / "admin.key"
    if key is None and local.is_file():
        key = local.read_text().strip()
    return Client(Doors.at(url, services), key, patience_s=patience_s, reach_s=reach_s)
