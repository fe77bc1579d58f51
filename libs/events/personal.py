"""Personal fields: clear only in the owner's hands, sealed everywhere else, and two ways to be unreadable."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    WrapSerializer,
)
from pydantic_core import CoreSchema, core_schema

from events.event import Event


class Redacted(StrEnum):
    """Why a personal text cannot be read."""

    ERASED = "erased"
    """The person's key was destroyed on request."""
    NO_KEY = "no_key"
    """This service never had the key, or lost it; it is not an erasure."""


class Sealed(BaseModel):
    """Ciphertext under the key of one person (AES-256-GCM); `n` nonce and `c` ciphertext are base64."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    enc: Literal[1] = Field(1, alias="$enc")
    person: str = Field(alias="s")
    version: int = Field(alias="v")
    nonce: str = Field(alias="n")
    text: str = Field(alias="c")


@dataclass(frozen=True, slots=True)
class Clear:
    """Text about a person, before the store seals it. It has no wire form on purpose."""

    person: str
    text: str = field(repr=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"not": {}}


def _sealed_only(value: Any, handler: SerializerFunctionWrapHandler) -> Any:
    """Around the union, not on `Clear`: a union swallows its members' errors and writes what it finds."""
    if isinstance(value, Clear):
        raise ValueError("a personal text must be sealed before it is written")
    return handler(value)


Personal = Annotated[Sealed | Clear, WrapSerializer(_sealed_only), Field(json_schema_extra={"x-personal": True})]
"""A field about a person. Decisions write `Clear`; whatever is read back is `Sealed`."""


@functools.cache
def personal_fields(event: type[Event]) -> tuple[str, ...]:
    """The names of an event's personal fields, optional ones too, in order."""
    return tuple(name for name, info in event.model_fields.items() if _holds(info.annotation, Clear))


def _holds(annotation: Any, kind: type) -> bool:
    return annotation is kind or any(_holds(part, kind) for part in get_args(annotation))
