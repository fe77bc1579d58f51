"""What a customer sends to a case's own address becomes a message on that case, once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from events.errors import Invalid, Refused
from events.personal import Redacted
from events.store import New
from services.intake.decide.cases import Known, Life, Message, receive


def arrive(message: Message, at: datetime | None, now: datetime, life: Life) -> list[New]:
    """What a customer sent to the case's own address is received. Raises Invalid where nothing has that address, and
    Known where this contact arrived before: whether it is the same one, its texts must tell: ask `arrive_again`."""
    if not life.exists:
        raise Invalid(f"{message.to} looks like a case's own address, and no case has it")
    if message.message_id in life.messages:
        raise Known(f"this contact is a message on case {life.case.case_id} already", case_id=life.case.case_id)
    return receive(message, at, now, life)


def arrive_again(message: Message, now: datetime, life: Life, texts: Mapping[str, str | Redacted]) -> list[New]:
    """The same contact once more: nothing happens if it says the same. `texts` as for `open_again`. Raises Refused."""
    if texts == {name: text for name, text in (("title", message.title), ("body", message.text)) if text is not None}:
        return []
    raise Refused(
        f"this contact is a message on case {life.case.case_id} already, with other content; use another external_id",
        case_id=life.case.case_id,
    )
