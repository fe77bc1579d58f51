"""Cases are opened, listed and read."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field, JsonValue, StringConstraints

from events.case import Case, CaseOpened, Category, MessageReceived, Priority
from events.database import Connection
from events.errors import Invalid, Unknown
from events.event import CASES, CaseEvent, Label, Moment, Recorded, Ref, named
from events.operations import Role
from events.personal import Clear, Redacted
from events.wire import moment, rfc3339
from services.intake import reading, views
from services.intake.api import contacts
from services.intake.decide import arriving
from services.intake.decide import cases as decide
from services.intake.decide.addresses import case_named
from services.intake.decide.cases import Life
from services.intake.reading import CaseDetail
from services.runtime import Host
from services.web import (
    Answer,
    Caller,
    CaseId,
    Cursor,
    Door,
    Limit,
    Order,
    PlainText,
    cursor,
    next_link,
    parse_cursor,
    written,
)

_OPENING: dict[str, JsonValue] = {
    "channel": "email",
    "market": "de",
    "language": "de",
    "journey": "delivery",
    "subject": "Wo ist mein Paket?",
    "body": "Es sollte am Freitag kommen und ist noch nicht da.",
    "customer": {"external_id": "crm-20417", "name": "Kim Ünal", "email": "kim@customer.example"},
    "priority": "high",
    "tier": "gold",
    "external_id": "MAIL-4711",
    "to": "hilfe@shop.example",
}


class CustomerOrder(Order):
    external_id: Label = Field(
        description="Who it is in your own system. Only a keyed HMAC of it is kept, so that they are found again."
    )
    name: Label | None = Field(
        default=None, description="Kept sealed with the case, for those who may read its texts, until an erasure."
    )
    email: (
        Annotated[str, StringConstraints(max_length=320, pattern=r"^[^@\x00-\x20\x7f]+@[^@\x00-\x20\x7f]+$")] | None
    ) = Field(default=None, description="Kept like the name.")


class OpenOrder(Order):
    """A customer came in with something new."""

    model_config = ConfigDict(json_schema_extra={"examples": [_OPENING]})

    channel: Ref = Field(description="How the customer came in: `email`, `chat`, `phone`, `web`, `app` …")
    market: Ref
    language: Ref
    journey: Ref = Field(description="What the customer was about to do.")
    subject: Annotated[PlainText, StringConstraints(max_length=1000)]
    body: PlainText
    customer: CustomerOrder
    priority: Priority = Priority.NORMAL
    tier: Ref | None = Field(default=None, description="What the customer is to you: `gold`, `business` …")
    external_id: Ref | None = Field(
        default=None, description="The contact's id in the channel's own system: one per channel, one case for ever."
    )
    to: Ref | None = Field(
        default=None,
        description="The address the customer wrote to. At a case's own, `case-<case_id>`, it belongs to that case.",
    )
    occurred_at: Moment | None = Field(default=None, description="When the customer came in; now, if you do not say.")


class Opened(Answer):
    case_id: str
    customer_ref: str = Field(description="The customer's name here; `DELETE /v1/customers/{ref}` forgets them.")


class Cases(Answer):
    items: list[Case]


_AT_ITS_ADDRESS: dict[int | str, dict[str, Any]] = {
    200: {"model": Opened, "description": "It came in at a case's own address and is a message on that case."}
}


def message_id_of(order: OpenOrder, caller: Caller) -> str:
    """The id of what came in at a case's own address, made like a case's."""
    if order.external_id is not None or caller.idempotency_key is not None:
        return named(f"{case_id_of(order, caller)}/message")
    return str(uuid4())


def case_id_of(order: OpenOrder, caller: Caller) -> str:
    """The case's id: made of the channel's own id, else of the idempotency key, so that a repeat finds the case."""
    if order.external_id is not None:
        return named(f"contact {order.channel} {order.external_id}")
    if caller.idempotency_key is not None:
        return named(f"{caller.scope}/{caller.idempotency_key}")
    return str(uuid4())


async def customer_ref_of(host: Host, external_id: str) -> str:
    """The person this customer is here: the same one every time, until they are erased."""
    lookup = host.keyring.lookup("customer", external_id)
    async with host.database.writers.acquire() as conn:
        return await host.keyring.person(conn, lookup, str(uuid4()))


async def _recorded_texts(host: Host, case_id: str, conn: Connection) -> Mapping[str, str | Redacted]:
    row = await conn.fetchrow(
        "select * from events where topic = $1 and subject = $2 and sequence = 1 and type = $3",
        CASES,
        case_id,
        CaseOpened.TYPE,
    )
    if row is None:
        return {}
    return await _texts(host, host.store.recorded(row), conn)


async def _message_texts(host: Host, case_id: str, message_id: str, conn: Connection) -> Mapping[str, str | Redacted]:
    rows = await conn.fetch(
        "select * from events where topic = $1 and subject = $2 and type = $3 order by sequence",
        CASES,
        case_id,
        MessageReceived.TYPE,
    )
    for event in map(host.store.recorded, rows):
        if event.data.message_id == message_id:
            return await _texts(host, event, conn)
    return {}


async def _texts(host: Host, event: Recorded[CaseEvent], conn: Connection) -> Mapping[str, str | Redacted]:
    sealed = reading.sealed(event)
    texts = await host.keyring.open(conn, sealed)
    return {name: text for (_, _, name, _), text in zip(sealed, texts, strict=True)}


def _last_shown(text: str | None) -> tuple[datetime, str] | None:
    values = parse_cursor(text, 2)
    if values is None:
        return None
    try:
        return moment(values[0]), str(UUID(values[1]))
    except (ValueError, OverflowError) as error:
        raise Invalid("this cursor is not one of ours") from error


Filter = Annotated[Ref | None, Query()]


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/cases` that open, list and read."""
    reads = door.caller(Role.READER, Role.CHANNEL, Role.AGENT, Role.LEAD, Role.PARTNER)
    _add_opening(router, door)
    _add_list(router, door.host, reads)
    _add_reading(router, door.host, reads)


def _add_opening(router: APIRouter, door: Door) -> None:
    host, opens = door.host, door.caller(Role.CHANNEL, Role.AGENT, Role.LEAD)

    @router.post("/v1/cases", status_code=201, summary="Open a case", responses=_AT_ITS_ADDRESS)
    async def open_case(order: OpenOrder, response: Response, caller: Annotated[Caller, opens]) -> Opened:
        """A customer came in with something new.

        The same `channel` and `external_id` again is the same case: with the same content it is answered as before
        and nothing happens; with other content it is refused (409) and the problem names the case as `case_id`.

        What came in at a case's own address (`to`) opens nothing: it becomes a message on that case, as at
        `/v1/cases/{case_id}/messages`, and the answer is that case with 200. How the order sees the contact, its
        priority for example, changes nothing there.
        """
        owner = None if order.to is None else case_named(order.to)
        if owner is not None:
            response.status_code = 200
            return await _arrived(host, owner, order, response, caller)
        case_id = case_id_of(order, caller)
        customer_ref = await customer_ref_of(host, order.customer.external_id)
        opened = _opened(order, customer_ref)
        once = caller.once(order, 201, case_id=case_id, customer_ref=customer_ref)
        change = partial(
            host.store.change, decide.FOLD(case_id), actor=caller.actor, expected=caller.expected, once=once
        )
        try:
            changed = await change(decision=partial(decide.open_case, opened, order.occurred_at))
        except decide.Known:
            again = partial(decide.open_again, opened)
            changed = await change(decision=again, look=partial(_recorded_texts, host, case_id))
        written(response, changed)
        ids = changed.answer or {"case_id": case_id, "customer_ref": customer_ref}
        return Opened(case_id=ids["case_id"], customer_ref=ids["customer_ref"])


async def _arrived(host: Host, case_id: str, order: OpenOrder, response: Response, caller: Caller) -> Opened:
    """The contact is a message on the case at whose own address it came in."""
    message_id = message_id_of(order, caller)
    message = decide.Message(message_id, order.body, order.channel, title=order.subject, to=order.to)
    change = partial(contacts.change, host, case_id, caller=caller, order=order)
    try:
        changed = await change(partial(arriving.arrive, message, order.occurred_at))
    except decide.Known:
        again, look = partial(arriving.arrive_again, message), partial(_message_texts, host, case_id, message_id)
        changed = await change(again, look=look)
    written(response, changed)
    life: Life = changed.states[0]
    return Opened(case_id=case_id, customer_ref=life.person)


def _opened(order: OpenOrder, customer_ref: str) -> CaseOpened:
    name, email = order.customer.name, order.customer.email
    return CaseOpened(
        channel=order.channel,
        market=order.market,
        language=order.language,
        journey=order.journey,
        priority=order.priority,
        tier=order.tier,
        customer_ref=customer_ref,
        customer_name=None if name is None else Clear(customer_ref, name),
        customer_email=None if email is None else Clear(customer_ref, email),
        title=Clear(customer_ref, order.subject),
        body=Clear(customer_ref, order.body),
        external_id=order.external_id,
        to=order.to,
    )


def _add_list(router: APIRouter, host: Host, reads: Any) -> None:
    @router.get("/v1/cases", summary="List cases, the newest first")
    async def list_cases(
        request: Request,
        response: Response,
        caller: Annotated[Caller, reads],
        category: Category | None = None,
        priority: Priority | None = None,
        tier: Filter = None,
        market: Filter = None,
        language: Filter = None,
        journey: Filter = None,
        channel: Filter = None,
        queue: Filter = None,
        unit: Annotated[Label | None, Query(description="A unit of ours, or another system's name for one.")] = None,
        import_id: Annotated[Ref | None, Query(alias="import", description="Cases an import brought.")] = None,
        cursor_: Annotated[Cursor, Query(alias="cursor")] = None,
        limit: Limit = 100,
    ) -> Cases:
        """Where every case stands, as far as the log has told; no texts. A partner's key lists the partner's cases.

        To see what you have just written, hand its `Casewalk-Position` back as `after`.
        """
        mine = caller.principal.holder or "" if caller.principal.role is Role.PARTNER else None
        wanted = views.Wanted(
            category, priority, tier, market, language, journey, channel, queue, unit, import_id, partner_id=mine
        )
        found = await views.cases(host.database, wanted, _last_shown(cursor_), limit)
        if len(found) == limit and found[-1].opened_at is not None:
            next_link(request, response, cursor(rfc3339(found[-1].opened_at), found[-1].case_id))
        return Cases(items=found)


def _add_reading(router: APIRouter, host: Host, reads: Any) -> None:
    @router.get("/v1/cases/{case_id}", summary="Read a case")
    async def read_case(case_id: CaseId, response: Response, caller: Annotated[Caller, reads]) -> CaseDetail:
        """Where the case stands and what was said on it.

        Texts, and the customer's name and e-mail address, are for leads, the agent the case is assigned to, and the
        partner it was handed to; a channel reads what is written to the customer, to deliver it. For everybody else,
        and after an erasure, they read `{"redacted": why}`. Internal notes are not for partners and channels.
        """
        own = await host.store.events(CASES, case_id)
        access = await views.access(host.database, case_id)
        theirs = access.includes(caller.principal.role, caller.principal.holder)
        if not own or (caller.principal.role is Role.PARTNER and not theirs):
            raise Unknown(f"there is no case {case_id}")
        stands = views.stands(await views.case(host.database, case_id), own, case_id)
        response.headers["ETag"] = f'"{len(own)}"'
        return await reading.detail(host, stands, own, caller.principal, theirs)
