"""Brokers and databases are reached over TLS, and no others are believed."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from events.errors import Invalid, Unavailable
from events.kafka_log import KafkaLog
from events.kafka_security import KafkaSecurity, Mechanism, Protocol
from services.intake.service import SERVICE
from services.runtime.broker import Broker
from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine
from tests.events.receivers import Certificate

PASSWORD = "brokers-only"

LISTENERS = """
listeners=BROKER://127.0.0.1:${{port}},TLS://127.0.0.1:{tls},LOGIN://127.0.0.1:{login},CONTROLLER://127.0.0.1:${{controller_port}}
advertised.listeners=BROKER://127.0.0.1:${{port}},TLS://localhost:{tls},LOGIN://localhost:{login}
listener.security.protocol.map=BROKER:PLAINTEXT,TLS:SSL,LOGIN:SASL_SSL,CONTROLLER:PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
listener.name.tls.ssl.client.auth=required
listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
required user_casewalk="{password}";
listener.name.login.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


@dataclass(frozen=True)
class Secured:
    """A broker that takes certificates at one address and passwords at another."""

    tls: str
    login: str
    certificate: Certificate

    def by(self, way: str) -> tuple[str, KafkaSecurity]:
        """Where a client goes that is let in by its certificate, or by a password proved in this way."""
        if way == "certificate":
            own = self.certificate
            return self.tls, KafkaSecurity(Protocol.SSL, ca=own.cert, certificate=own.cert, key=own.key)
        login = {"mechanism": Mechanism(way), "username": "casewalk", "password": PASSWORD}
        return self.login, KafkaSecurity(Protocol.SASL_SSL, ca=self.certificate.cert, **login)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    certificate = Certificate.made(tmp_path_factory.mktemp("tls"))
    keystore = certificate.cert.with_name("keystore.pem")
    keystore.write_text(certificate.key.read_text() + certificate.cert.read_text())
    tls, login = free_port(), free_port()
    properties = LISTENERS.format(
        tls=tls, login=login, keystore=keystore, truststore=certificate.cert, password=PASSWORD
    )
    with (
        tempfile.TemporaryDirectory(prefix="casewalk-") as directory,
        Broker.start(Path(directory), properties=properties) as broker,
    ):
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        made = admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion("casewalk", info, PASSWORD.encode(), b"some-salt-of-it")]
        )
        made["casewalk"].result(20)
        yield Secured(f"localhost:{tls}", f"localhost:{login}", certificate)


async def opens_a_case(world: Casewalk) -> None:
    """Through every kind of client there is: one that writes, ones that read, one that follows marks."""
    order = {"channel": "email", "market": "de", "language": "de", "journey": "delivery", "subject": "x", "body": "y"}
    opened = await world.admin.post("/v1/cases", json=order | {"customer": {"external_id": "1"}})
    assert opened.status_code == 201, opened.text
    await world.settled()
    assert len((await world.admin.get("/v1/cases")).json()["items"]) == 1


@pytest.mark.broker
@pytest.mark.parametrize("way", ["certificate", "PLAIN", "SCRAM-SHA-512"])
async def test_cases_are_opened_over_tls_brokers(secured: Secured, database: str, tmp_path: Path, way: str) -> None:
    bootstrap, security = secured.by(way)
    engine = Engine("kafka", database, bootstrap, f"tls-{way.lower()}-")
    async with casewalk(engine, tmp_path, (SERVICE,), kafka_security=security) as world:
        await opens_a_case(world)


@pytest.mark.broker
@pytest.mark.parametrize("wrong", ["password", "authority", "name", "no certificate"])
async def test_a_client_and_a_broker_that_do_not_trust_each_other_part(
    secured: Secured, tmp_path: Path, wrong: str
) -> None:
    bootstrap, security = secured.by("certificate" if wrong == "no certificate" else "SCRAM-SHA-512")
    match wrong:
        case "password":
            security = replace(security, password="guessed")
        case "authority":
            security = replace(security, ca=Certificate.made(tmp_path).cert)
        case "name":
            bootstrap = bootstrap.replace("localhost", "127.0.0.1")
        case _:
            security = replace(security, certificate=None, key=None)
    log = KafkaLog(bootstrap, "tls-", security)
    try:
        with pytest.raises(Unavailable) as away:
            await log.start()
    finally:
        await log.stop()
    assert "guessed" not in away.value.message


LOGIN = {"username": "casewalk", "password": PASSWORD}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"protocol": Protocol.SASL_SSL}, "CASEWALK_KAFKA_SASL_USERNAME"),
        (
            {"protocol": Protocol.SASL_PLAINTEXT, "mechanism": Mechanism.PLAIN, "username": "a", "password": "b"},
            "clear",
        ),
        ({"protocol": Protocol.SSL, "ca": Path("/nowhere.pem")}, "cannot be read"),
    ],
)
def test_what_would_not_be_safe_or_cannot_work_is_said_at_the_start(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        KafkaLog("localhost:9092", security=KafkaSecurity(**wrong))


# --------------------------------------------------------------------------------------------------------- PostgreSQL


@asynccontextmanager
async def behind_tls(dsn: str, certificate: Certificate) -> AsyncIterator[str]:
    """The database's address behind a listener that ends TLS as PostgreSQL does: the server in the wheel has none."""
    found = urlsplit(dsn)
    path = f"{parse_qs(found.query)['host'][0]}/.s.PGSQL.5432"
    async with AsyncExitStack() as stack:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked = await reader.readexactly(8)
            if asked[4:] != (80877103).to_bytes(4, "big"):  # SSLRequest
                writer.close()
                return
            writer.write(b"S")
            await writer.drain()
            try:
                await writer.start_tls(certificate.shown())
            except (ssl.SSLError, OSError):
                return
            theirs, ours = await asyncio.open_unix_connection(path)
            await asyncio.gather(_pour(reader, ours), _pour(theirs, writer))

        server = await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0))
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://{found.username}:{found.password}@localhost:{port}{found.path}"


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    except OSError:
        pass  # one end went away, and the other learns of it
    finally:
        writer.close()


async def test_a_service_runs_on_a_database_over_tls(database: str, tmp_path: Path) -> None:
    certificate = Certificate.made(tmp_path)
    async with behind_tls(database, certificate) as dsn:
        dsn += f"?sslmode=verify-full&sslrootcert={certificate.cert}"
        async with casewalk(Engine("embedded", dsn, None, "tls"), tmp_path / "data", (SERVICE,)) as world:
            await opens_a_case(world)


async def test_a_database_that_cannot_prove_who_it_is_is_not_used(database: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    certificate, other = Certificate.made(tmp_path), Certificate.made(tmp_path / "other")
    async with behind_tls(database, certificate) as dsn:
        for address in (
            f"{dsn}?sslmode=verify-full&sslrootcert={other.cert}",
            f"{dsn}?sslmode=verify-full&sslrootcert={certificate.cert}".replace("@localhost:", "@127.0.0.1:"),
        ):
            with pytest.raises(ssl.SSLCertVerificationError):
                async with casewalk(Engine("embedded", address, None, "tls"), tmp_path / "data", (SERVICE,)):
                    pass
