"""Who is told what: subscriptions to notices are published by version."""

import secrets
from base64 import b64encode
from functools import partial
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field, StringConstraints

from events.database import Connection
from events.errors import Invalid, Unknown
from events.event import Ref
from events.operations import NoticeChannel, NoticeEvent, Role
from services.escalation.api.configuration import ConfigId
from services.escalation.decide import notices as decide
from services.escalation.decide.notices import NOTICE, Looked, Subscription, Wanted
from services.escalation.views import calendars
from services.escalation.views import notices as views
from services.runtime import Host
from services.runtime.post import checked
from services.web import Answer, Caller, Door, Order, written

MAIL_ADDRESS = r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,10}$"

Address = Annotated[str, StringConstraints(min_length=3, max_length=2000, pattern=r"^[\x21-\x7e]+$")]


class MailAddress(Order):
    address: Annotated[str, StringConstraints(max_length=254, pattern=MAIL_ADDRESS)]


class NoticeOrder(Order):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": ["clock_warned", "clock_breached"],
                    "markets": ["de"],
                    "channel": "email",
                    "address": "duty@example.org",
                    "calendar": "always",
                }
            ]
        }
    )

    events: tuple[NoticeEvent, ...] = Field(min_length=1, max_length=20)
    unit_ids: tuple[Ref, ...] = Field(default=(), max_length=200, description="Only cases of these units.")
    markets: tuple[Ref, ...] = Field(default=(), max_length=200, description="Only cases of these markets.")
    channel: NoticeChannel
    address: Address = Field(description="A mail address; for a webhook and a chat a URL.")
    calendar: Ref | None = Field(
        default=None, description="Outside this calendar's hours a notice waits, unless it is a breach."
    )
    active: bool = Field(default=True, description="False: nobody is told any more, of what waits neither.")
    new_secret: bool = Field(default=False, description="Sign with a new secret from now on.")


class NoticeAnswer(Answer):
    notice_id: str
    version: int
    events: tuple[NoticeEvent, ...]
    unit_ids: tuple[str, ...]
    markets: tuple[str, ...]
    channel: NoticeChannel
    address: str = Field(description="Where it leads, not the whole address.")
    calendar: str | None
    active: bool


class NoticePublishedAnswer(NoticeAnswer):
    secret: str | None = Field(
        description="What a webhook is signed with, by the rules of Standard Webhooks. Said once, when it is made."
    )


class Notices(Answer):
    items: list[NoticeAnswer]


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/notices`."""
    host, leads = door.host, door.caller(Role.LEAD)

    @router.get("/v1/notices", summary="Who is told what")
    async def notices(caller: Annotated[Caller, leads]) -> Notices:
        """The version in force of every subscription."""
        async with host.database.readers.acquire() as conn:
            rows = await views.subscriptions(conn)
            texts = await views.opened(conn, host.keyring, rows)
        return Notices(items=[_answer(row, address) for row, (address, _) in zip(rows, texts, strict=True)])

    @router.get("/v1/notices/{notice_id}", summary="One subscription")
    async def notice(notice_id: ConfigId, response: Response, caller: Annotated[Caller, leads]) -> NoticeAnswer:
        """The version in force; its number is the `ETag`."""
        row, address, _ = await _read(host, notice_id)
        response.headers["ETag"] = f'"{row.version}"'
        return _answer(row, address)

    @router.put("/v1/notices/{notice_id}", summary="Say who is told what")
    async def publish_notice(
        notice_id: ConfigId, order: NoticeOrder, response: Response, caller: Annotated[Caller, leads]
    ) -> NoticePublishedAnswer:
        """The next version, in force for everything that is sent from now on. The same content again changes nothing.

        A webhook is signed with a secret that is made here and said once. A notice names ids, the clock, when it is
        due and the unit; never what a customer wrote.
        """
        wanted = _wanted(host, notice_id, order)
        changed = await host.store.change(
            NOTICE(f"notice:{notice_id}"),
            decision=partial(decide.publish, wanted),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, notice_id=notice_id),
            look=partial(_look, host, wanted),
        )
        written(response, changed)
        row, address, secret = await _read(host, notice_id)
        made = bool(changed.events) and secret == wanted.fresh_secret
        return NoticePublishedAnswer(**_answer(row, address).model_dump(), secret=secret if made else None)


def _wanted(host: Host, notice_id: str, order: NoticeOrder) -> Wanted:
    """Raises Invalid where the channel has no such address."""
    if order.channel is NoticeChannel.EMAIL:
        try:
            MailAddress(address=order.address)
        except ValueError as error:
            raise Invalid("address: this is no mail address") from error
    else:
        checked(order.address, host.settings.webhooks_private)
    return Wanted(
        notice_id,
        tuple(sorted(set(order.events))),
        tuple(sorted(set(order.unit_ids))),
        tuple(sorted(set(order.markets))),
        order.channel,
        order.address,
        host.keyring.lookup("notice", order.address).hex(),
        order.calendar,
        order.active,
        f"whsec_{b64encode(secrets.token_bytes(32)).decode()}",
        order.new_secret,
    )


async def _look(host: Host, wanted: Wanted, conn: Connection) -> Looked:
    row = await views.subscription(conn, wanted.notice_id)
    _, secret = (None, None) if row is None else (await views.opened(conn, host.keyring, [row]))[0]
    calendar = None if wanted.calendar is None else await calendars.calendar_in_force(conn, wanted.calendar)
    return Looked(secret, calendar)


async def _read(host: Host, notice_id: str) -> tuple[Subscription, str | None, str | None]:
    """The subscription, its address and its secret. Raises Unknown."""
    async with host.database.readers.acquire() as conn:
        row = await views.subscription(conn, notice_id)
        if row is None:
            raise Unknown(f"there is no subscription called {notice_id}")
        ((address, secret),) = await views.opened(conn, host.keyring, [row])
    return row, address, secret


def _answer(row: Subscription, address: str | None) -> NoticeAnswer:
    return NoticeAnswer(
        notice_id=row.notice_id,
        version=row.version,
        events=tuple(NoticeEvent(kind) for kind in row.events),
        unit_ids=row.unit_ids,
        markets=row.markets,
        channel=row.channel,
        address="unreadable" if address is None else _where(row.channel, address),
        calendar=row.calendar,
        active=row.active,
    )


def _where(channel: NoticeChannel, address: str) -> str:
    """`…@example.org`, `https://example.org/…`: enough to tell one from another."""
    if channel is NoticeChannel.EMAIL:
        return f"…@{address.rpartition('@')[2]}"
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}/…"
