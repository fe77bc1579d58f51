"""A case as one caller may read it: what was said on it, by whom, and which texts are not theirs to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from events.case import Case, CaseOpened, FeedbackReceived, MessageReceived, MessageSent, address
from events.event import CaseEvent, Recorded
from events.operations import Role
from events.personal import Redacted, Sealed, personal_fields
from services.runtime import Host
from services.web import Answer
from services.web.access import Principal


class Hidden(Answer):
    """A text that is not readable here, and why."""

    redacted: Literal["erased", "no_key", "not_yours"]
    """`erased`: the customer was forgotten; `no_key`: their key is missing; `not_yours`: it is not your case."""


NOT_YOURS = Hidden(redacted="not_yours")

Text = str | Hidden

Texts = Mapping[tuple[str, str], Text]
"""(event id, field) → what may be read of it."""


class MessageAnswer(Answer):
    """What was said on a case, by whom and when."""

    message_id: str
    direction: Literal["in", "out"]
    visibility: Literal["public", "internal"]
    automatic: bool
    channel: str
    title: Text | None
    """None where the channel has no such thing."""
    body: Text
    written_by: str
    occurred_at: datetime


class FeedbackAnswer(Answer):
    """What the customer thought of an episode."""

    episode: int
    accepted: bool | None
    csat: int | None
    nps: int | None
    occurred_at: datetime


class CustomerAnswer(Answer):
    """Whose case it is. A name or an address is null where the channel did not say it."""

    ref: str
    name: Text | None
    email: Text | None


@dataclass(frozen=True, slots=True)
class CaseDetail(Case):
    """Where a case stands, whose it is, and what was said on it in the order it was recorded."""

    address: str = ""
    """The case's own: what a customer sends there comes in on this case."""
    customer: CustomerAnswer | None = None
    """None where another system opened the case and the customer has not come to us yet."""
    title: Text | None = None
    """None where another system opened the case."""
    body: Text | None = None
    messages: tuple[MessageAnswer, ...] = ()
    feedback: tuple[FeedbackAnswer, ...] = ()


async def detail(
    host: Host, stands: Case, own: Sequence[Recorded[CaseEvent]], reader: Principal, works_on_it: bool
) -> CaseDetail:
    """The case for this reader. `own` are intake's events of the case in their order."""
    visible = [event for event in own if _visible(event, reader)]
    reads = works_on_it or reader.role in (Role.ADMIN, Role.LEAD)
    texts = await _opened(host, visible if reads else [event for event in visible if _delivers(event, reader)])
    opened = {
        name: texts.get((event.id, name), NOT_YOURS)
        for event in visible
        if isinstance(event.data, CaseOpened)
        for _, _, name, _ in sealed(event)
    }
    return CaseDetail(
        **asdict(stands),
        address=address(stands.case_id),
        customer=_customer(stands.customer_ref, opened),
        title=opened.get("title"),
        body=opened.get("body"),
        messages=tuple(
            _message(event, event.data, texts)
            for event in visible
            if isinstance(event.data, MessageReceived | MessageSent)
        ),
        feedback=tuple(
            FeedbackAnswer(**event.data.model_dump(), occurred_at=event.occurred_at)
            for event in visible
            if isinstance(event.data, FeedbackReceived)
        ),
    )


def sealed(event: Recorded[CaseEvent]) -> list[tuple[str, str, str, Sealed]]:
    """The event's personal texts as the keyring opens them: (event type, event id, field, sealed)."""
    return [
        (event.data.TYPE, event.id, name, text)
        for name in personal_fields(type(event.data))
        if isinstance(text := getattr(event.data, name), Sealed)
    ]


def _visible(event: Recorded[CaseEvent], reader: Principal) -> bool:
    """Internal notes stay among us: a partner sees its own, a channel none."""
    if not (isinstance(event.data, MessageSent) and event.data.visibility == "internal"):
        return True
    match reader.role:
        case Role.CHANNEL:
            return False
        case Role.PARTNER:
            return event.actor == reader.actor
        case _:
            return True


def _delivers(event: Recorded[CaseEvent], reader: Principal) -> bool:
    """A channel brings to the customer what is written to them, and has to read it for that; nothing else."""
    sent = event.data
    return reader.role is Role.CHANNEL and isinstance(sent, MessageSent) and sent.visibility == "public"


async def _opened(host: Host, events: Sequence[Recorded[CaseEvent]]) -> Mapping[tuple[str, str], Text]:
    """(event id, field) → the text in clear, or why there is none."""
    wanted = [text for event in events for text in sealed(event)]
    async with host.database.readers.acquire() as conn:
        texts = await host.keyring.open(conn, wanted)
    return {(event_id, name): _text(text) for (_, event_id, name, _), text in zip(wanted, texts, strict=True)}


def _customer(ref: str | None, opened: Mapping[str, Text]) -> CustomerAnswer | None:
    if ref is None:
        return None
    return CustomerAnswer(ref=ref, name=opened.get("customer_name"), email=opened.get("customer_email"))


def _text(text: str | Redacted) -> Text:
    return Hidden(redacted=text.value) if isinstance(text, Redacted) else text


def _message(event: Recorded[CaseEvent], message: MessageReceived | MessageSent, texts: Texts) -> MessageAnswer:
    title = message.title if isinstance(message, MessageReceived) else None
    sent = message if isinstance(message, MessageSent) else None
    return MessageAnswer(
        message_id=message.message_id,
        direction="in" if sent is None else "out",
        visibility="public" if sent is None else sent.visibility,
        automatic=sent is not None and sent.automatic,
        channel=message.channel,
        title=None if title is None else texts.get((event.id, "title"), NOT_YOURS),
        body=texts.get((event.id, "body"), NOT_YOURS),
        written_by=event.actor,
        occurred_at=event.occurred_at,
    )
