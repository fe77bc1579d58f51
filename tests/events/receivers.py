"""Receivers of effects: a real HTTP server and a real mail server that write down what they get."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import uvicorn
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook
from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True)
class Certificate:
    """A certificate for `localhost` that signed itself, and who believes it."""

    cert: Path
    key: Path

    @classmethod
    def made(cls, directory: Path) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        cert = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        made = cls(directory / "cert.pem", directory / "key.pem")
        made.cert.write_bytes(cert.public_bytes(Encoding.PEM))
        made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return made

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.cert))

    def shown(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


@dataclass
class Receiver:
    """Takes webhooks. `answers` are the statuses of the next ones; then 204."""

    url: str = ""
    path: str = field(default_factory=lambda: f"/{secrets.token_hex(8)}")
    """Nobody else's: the port may have been another receiver's, and whoever sends to that may still be at it."""
    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    hold: Callable[[str], Awaitable[None]] | None = None
    """Waits before it answers; given the webhook-id."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if not request.url.path.startswith(self.path):
            await Response(status_code=404)(scope, receive, send)
            return
        headers = dict(request.headers)
        self.got.append((headers, await request.body()))
        status = self.answers.pop(0) if self.answers else 204
        if self.hold is not None:
            await self.hold(headers["webhook-id"])
        more = {"location": f"{self.url}/elsewhere"} if 300 <= status < 400 else {}
        await Response(status_code=status, headers=more)(scope, receive, send)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]

    def verified(self, secret: str) -> list[Any]:
        """The bodies, as a receiver that trusts nobody reads them."""
        return [Webhook(secret).verify(body, headers) for headers, body in self.got]

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, body in self.got]


@asynccontextmanager
async def receiving(**tls: Any) -> AsyncIterator[Receiver]:
    """A receiver on a free port of this machine."""
    receiver = Receiver()
    server = uvicorn.Server(
        uvicorn.Config(receiver, host="127.0.0.1", port=0, log_level="warning", lifespan="off", **tls)
    )
    config = server.config
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{receiver.path}"
    running = asyncio.create_task(server.main_loop())
    try:
        yield receiver
    finally:
        server.should_exit = True
        await running
        await server.shutdown()


@dataclass
class MailServer:
    """Takes mails. `answers` are its words to the next ones; then it takes them."""

    url: str = ""
    answers: list[str] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    got: list[Message] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: Any
    ) -> AuthResult:
        self.logins.append(login.password.decode())
        return AuthResult(success=True)

    async def handle_RCPT(  # noqa: N802 — the mail server calls it so
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuses:
            return f"550 5.1.1 <{address}> unknown"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.got.append(message_from_bytes(envelope.content))
        return self.answers.pop(0) if self.answers else "250 taken"


@asynccontextmanager
async def taking_mail(certificate: Certificate | None = None) -> AsyncIterator[MailServer]:
    """A mail server on a free port of this machine; one with a certificate asks for a password, over TLS."""
    mails = MailServer()
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    if certificate is not None:
        options = {"tls_context": certificate.shown(), "auth_required": True, "authenticator": mails.authenticate}
    server = await loop.create_server(lambda: SMTP(mails, hostname="mail.test", **options), "127.0.0.1", 0)
    mails.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield mails
    finally:
        server.close()
        await server.wait_closed()
