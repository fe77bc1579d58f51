"""The line to the brokers: in clear, over TLS, with a password or a certificate."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from events.errors import Invalid


class Protocol(StrEnum):
    """As Kafka names them."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class Mechanism(StrEnum):
    """How a password is proved."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


@dataclass(frozen=True)
class KafkaSecurity:
    """What every client of ours does to be let in. Brokers are believed only under the name they are called by."""

    protocol: Protocol = Protocol.PLAINTEXT
    ca: Path | None = None
    """PEM of who signs the brokers' certificates; None: the system's authorities."""
    certificate: Path | None = None
    """PEM of our own certificate, where brokers ask for one, and of its key."""
    key: Path | None = None
    mechanism: Mechanism = Mechanism.SCRAM_SHA_512
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def options(self) -> dict[str, Any]:
        """As aiokafka's clients take them. Raises Invalid."""
        options: dict[str, Any] = {"security_protocol": self.protocol.value}
        if self.protocol in (Protocol.SSL, Protocol.SASL_SSL):
            options["ssl_context"] = self._context()
        if self.protocol in (Protocol.SASL_PLAINTEXT, Protocol.SASL_SSL):
            if self.username is None or self.password is None:
                raise Invalid("Kafka asks for a password: set CASEWALK_KAFKA_SASL_USERNAME and …_PASSWORD")
            if self.mechanism is Mechanism.PLAIN and self.protocol is Protocol.SASL_PLAINTEXT:
                raise Invalid("PLAIN would send Kafka's password in clear: use SASL_SSL, or SCRAM-SHA-512")
            options |= {
                "sasl_mechanism": self.mechanism.value,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ValueError) as error:
            raise Invalid(f"the certificates for Kafka cannot be read: {error}") from error
        return context
