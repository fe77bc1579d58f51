"""The post: mails by SMTP, webhooks by HTTP. Sends once and says how it went, without addresses and secrets."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import unquote, urlsplit

import aiosmtplib
import httpx
from standardwebhooks import Webhook as Signature

from events.errors import Invalid

SEND_WITHIN_S = 20.0
"""Whoever does not take it in that time gets it again later."""

LARGEST_BODY = 64 * 1024

NAT64 = ip_network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Mail:
    to: str
    subject: str
    text: str


@dataclass(frozen=True)
class Webhook:
    """A JSON body that is posted to `url`; signed by the rules of Standard Webhooks where there is a secret."""

    url: str
    body: Mapping[str, Any]
    secret: str | None = None


class NotSent(Exception):
    """It was not taken. `unsure`: it may have been all the same. `for_good`: another try would end alike."""

    def __init__(self, why: str, *, unsure: bool = False, for_good: bool = False) -> None:
        super().__init__(why)
        self.why, self.unsure, self.for_good = why, unsure, for_good


@dataclass(frozen=True)
class MailServer:
    """Where mails are handed in."""

    host: str
    port: int
    user: str | None
    password: str | None
    tls: bool
    """From the first byte; otherwise STARTTLS is used where it is offered, and asked for where there is a password."""

    @classmethod
    def at(cls, url: str) -> MailServer:
        """Of `smtp://user:password@host:port` or `smtps://…`. Raises Invalid, which does not repeat the URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Invalid("CASEWALK_SMTP_URL is no URL") from error
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise Invalid("CASEWALK_SMTP_URL begins with smtp:// or smtps:// and names a host")
        tls = parts.scheme == "smtps"
        user, password = (None if text is None else unquote(text) for text in (parts.username, parts.password))
        return cls(parts.hostname, port or (465 if tls else 587), user, password, tls)


class Post:
    """Sends what it is given. `private`: webhooks may go to this machine and to private networks. `trusts`: whose
    certificates are believed; none: those of the well-known authorities."""

    def __init__(
        self,
        mail_server: MailServer | None,
        mail_from: str | None,
        private: bool = False,
        trusts: ssl.SSLContext | None = None,
    ) -> None:
        self.mail_server, self.mail_from, self.private = mail_server, mail_from, private
        self._trusts = trusts

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        """Made for the first webhook: to read all authorities' certificates takes 50 ms."""
        # A kept connection is known by its address alone, whichever name its certificate was checked for.
        limits = httpx.Limits(max_keepalive_connections=0)
        verify = self._trusts or True
        return httpx.AsyncClient(trust_env=False, timeout=SEND_WITHIN_S, limits=limits, verify=verify)

    async def close(self) -> None:
        if "_client" in vars(self):
            await self._client.aclose()

    async def send(self, id: str, at: datetime, what: Mail | Webhook) -> None:
        """Send it under the id it has for ever; `at` is when it came about. Raises NotSent."""
        try:
            async with asyncio.timeout(SEND_WITHIN_S):
                await (self._mail(id, at, what) if isinstance(what, Mail) else self._webhook(id, what))
        except TimeoutError as error:
            raise NotSent(f"no answer within {SEND_WITHIN_S:.0f} s", unsure=True) from error

    # ------------------------------------------------------------------------------------------------------------- mail

    async def _mail(self, id: str, at: datetime, mail: Mail) -> None:
        server, sender = self.mail_server, self.mail_from
        if server is None or sender is None:
            raise NotSent("no mail server is named: set CASEWALK_SMTP_URL and CASEWALK_MAIL_FROM")
        try:
            await aiosmtplib.send(
                _message(id, at, sender, mail),
                hostname=server.host,
                port=server.port,
                username=server.user,
                password=server.password,
                use_tls=server.tls,
                start_tls=True if server.password and not server.tls else None,
                timeout=SEND_WITHIN_S,
                tls_context=self._trusts,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            code = max(refused.code for refused in error.recipients)
            raise NotSent(f"the mail server refuses the recipient: {code}", for_good=code >= 500) from error
        except aiosmtplib.SMTPResponseException as error:
            raise NotSent(f"the mail server answered {error.code}") from error
        except (aiosmtplib.SMTPConnectError, aiosmtplib.SMTPNotSupported, ConnectionRefusedError) as error:
            raise NotSent(f"the mail server does not serve us: {type(error).__name__}") from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise NotSent(f"the mail server broke off: {type(error).__name__}", unsure=True) from error

    # --------------------------------------------------------------------------------------------------------- webhooks

    async def _webhook(self, id: str, webhook: Webhook) -> None:
        body = json.dumps(dict(webhook.body), ensure_ascii=False, separators=(",", ":"))
        if len(body.encode()) > LARGEST_BODY:
            raise NotSent("the body is too large", for_good=True)
        try:
            request = await self._request(webhook, {"webhook-id": id, **_signed(id, body, webhook.secret)}, body)
            answer = await self._client.send(request, stream=True)
            await answer.aclose()  # what it says is nobody's business, however long it is
        except (httpx.ConnectError, httpx.ConnectTimeout, socket.gaierror) as error:
            raise NotSent(f"the receiver cannot be reached: {type(error).__name__}") from error
        except (httpx.HTTPError, OSError) as error:
            raise NotSent(f"the receiver broke off: {type(error).__name__}", unsure=True) from error
        except (httpx.InvalidURL, ValueError) as error:
            raise NotSent("the receiver's URL cannot be used", for_good=True) from error
        if not answer.is_success:
            # Where it points to was never asked for; 410 is how a receiver says that it is gone.
            for_good = answer.is_redirect or answer.status_code == httpx.codes.GONE
            raise NotSent(f"the receiver answered {answer.status_code}", for_good=for_good)

    async def _request(self, webhook: Webhook, headers: Mapping[str, str], body: str) -> httpx.Request:
        """To the address that was looked up and looked at, under the name that was asked for."""
        url = httpx.URL(checked(webhook.url, self.private))
        port = url.port or (443 if url.scheme == "https" else 80)
        found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        addresses = [ip_address(str(info[4][0]).partition("%")[0]) for info in found]
        if not addresses or not (self.private or all(map(is_public, addresses))):
            raise NotSent("the receiver is not on the public internet; CASEWALK_WEBHOOKS_PRIVATE=1 allows that")
        return self._client.build_request(
            "POST",
            url.copy_with(host=str(addresses[0])),
            headers={"Host": url.netloc.decode(), "Content-Type": "application/json", **headers},
            content=body.encode(),
            extensions={"sni_hostname": url.host},
        )


def checked(url: str, private: bool) -> str:
    """The URL, if a webhook may go there: https, no user, no address of a private network. Raises Invalid."""
    try:
        parts = urlsplit(url)
        host, _, _ = parts.hostname, parts.port, httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:
        raise Invalid("a webhook goes to a URL such as https://example.org/casewalk") from error
    if not host or parts.scheme not in (("http", "https") if private else ("https",)):
        raise Invalid("a webhook goes to a URL such as https://example.org/casewalk")
    if parts.username is not None or parts.password is not None:
        raise Invalid("a webhook's URL names no user: the signature says who it is from")
    if not private and not is_public_name(host):
        raise Invalid("a webhook goes to the public internet, unless CASEWALK_WEBHOOKS_PRIVATE=1")
    return url


def is_public_name(host: str) -> bool:
    """Whether the name may lead out; what it leads to is looked at before anything is sent."""
    try:
        return is_public(ip_address(host))
    except ValueError:
        return host != "localhost" and not host.endswith((".localhost", ".local", ".internal"))


def is_public(address: Address) -> bool:
    """Whether the address is anybody's on the internet; one wrapped into an IPv6 address is looked at itself."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _signed(id: str, body: str, secret: str | None) -> dict[str, str]:
    now = datetime.now(UTC)
    stamp = {"webhook-timestamp": str(int(now.timestamp()))}
    return stamp if secret is None else {**stamp, "webhook-signature": Signature(secret).sign(id, now, body)}


def _message(id: str, at: datetime, sender: str, mail: Mail) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, mail.to, mail.subject
    message["Date"] = format_datetime(at)
    message["Message-ID"] = f"<{id}@{sender.rpartition('@')[2].rstrip('>') or 'casewalk'}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    return message
