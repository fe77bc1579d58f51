"""What an event is: a frozen model with a wire type and one writer, and the envelope it travels in."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints

CASES = "casewalk.cases"
OPERATIONS = "casewalk.operations"

Ref = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/+-]*$")]
"""An id or code of ours or of a neighbour: no spaces, no control characters, never a name or an e-mail address."""

Label = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""One line of text that is not about a person: a unit's name, a reason, another system's status."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]+$")]
"""Text of several lines that is the same for everybody and about nobody: no names, no addresses."""

Amount = Annotated[str, StringConstraints(max_length=40, pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
"""A decimal number, exact."""

Moment = AwareDatetime
"""A point in time with an offset; recorded and answered in UTC."""


NAMESPACE = UUID("6b1f7f0e-3f3a-5c58-9d53-0f6c1a1e8b52")
"""Under it every deterministic id is made (uuid5)."""


def named(text: str) -> str:
    """The deterministic id of this text: uuid5 under `NAMESPACE`, made without objects, since every event has one."""
    digest = bytearray(hashlib.sha1(NAMESPACE.bytes + text.encode(), usedforsecurity=False).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80
    h = digest.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


class Event(BaseModel):
    """Something that happened. Subclasses say `type=` (wire type with version), `writer=` (the one service that may
    say it) and `topic=` as class arguments; readers ignore fields they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_timedelta="iso8601")

    TYPE: ClassVar[str] = ""
    WRITER: ClassVar[str] = ""
    TOPIC: ClassVar[str] = ""

    def __init_subclass__(cls, type: str = "", writer: str = "", topic: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.TYPE, cls.WRITER, cls.TOPIC = type or cls.TYPE, writer or cls.WRITER, topic or cls.TOPIC


class CaseEvent(Event, topic=CASES):
    """An event about a case; its subject is the case id."""


class OperationsEvent(Event, topic=OPERATIONS):
    """An event about something other than a case; its subject is the entity's id."""


class Part(BaseModel):
    """A part of an event."""

    model_config = ConfigDict(frozen=True, extra="ignore")


E = TypeVar("E", bound=Event, covariant=True)

Key = tuple[datetime, int, datetime, str, int]


class Recorded(NamedTuple, Generic[E]):
    """An event as it was recorded. A tuple, for one is made of every record.

    `sequence` counts 1, 2, 3 … in the stream (source, topic, subject).
    """

    id: str
    source: str
    """The writing service's name, as in `urn:casewalk:<source>`."""
    topic: str
    subject: str
    sequence: int
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    """Who did it: `agent:<id>`, `key:<id>`, `partner:<id>`, `service:<name>`."""
    correlation_id: str
    causation_id: str | None
    data: E
    traceparent: str = ""

    @property
    def key(self) -> Key:
        """The order of a fold over several sources: when it happened, the fact's own ordinal, when it was recorded."""
        ordinal = vars(self.data).get("ordinal", 0)  # pydantic makes an exception of every attribute that is not there
        return (self.occurred_at, ordinal, self.recorded_at, self.source, self.sequence)


if TYPE_CHECKING:
    from dataclasses import replace as replace
else:

    def replace(row, /, **changes):
        """What `dataclasses.replace` does, for frozen rows with a `__dict__` and no `__post_init__`: a fold's hottest
        step. That one sets every field through the class's `__init__`, this copies all of them at once."""
        fields = row.__dict__.copy()
        fields.update(changes)
        if len(fields) != len(row.__dict__):
            raise TypeError(f"{type(row).__name__} has no {', '.join(sorted(changes.keys() - row.__dict__.keys()))}")
        made = object.__new__(type(row))
        object.__setattr__(made, "__dict__", fields)
        return made
