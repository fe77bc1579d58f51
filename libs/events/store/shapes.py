"""What a change is: streams and their folds, a pure decision, and what came of it."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import uuid4

from events.database import Connection
from events.errors import Invalid
from events.event import Event, Recorded, named

S = TypeVar("S")

AHEAD = timedelta(minutes=5)
"""How far ahead of our clock another one may be before its times are refused."""

OLDEST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Fold(Generic[S]):
    """How a stream's events add up: the topic, the state before the first event, and the step."""

    topic: str
    initial: Callable[[str], S]
    """subject → state"""
    evolve: Callable[[S, Recorded[Any]], S]

    def __call__(self, subject: str) -> Stream[S]:
        return Stream(self, subject)

    def over(self, subject: str, events: Iterable[Recorded[Any]]) -> S:
        """The state after `events`."""
        state = self.initial(subject)
        for event in events:
            state = self.evolve(state, event)
        return state


@dataclass(frozen=True)
class Stream(Generic[S]):
    """One service's events about one subject; the source is the store's service."""

    fold: Fold[S]
    subject: str

    @property
    def key(self) -> tuple[str, str]:
        return (self.fold.topic, self.subject)


@dataclass(frozen=True)
class New:
    """An event a decision wants, where the defaults do not do."""

    event: Event
    occurred_at: datetime | None = None
    """Default: now."""
    id: str | None = None
    """Default: made of the cause, or of the idempotency key, or random. Timers give their obligation's id."""
    stream: int = 0
    """Which of the change's streams it belongs to."""


Decision = Callable[..., Sequence[Event | New]]
"""(now, state of each stream …, what `look` returned if there is one) → events. Pure; raises Refused and the like."""


@dataclass(frozen=True)
class Once:
    """An idempotency key's record. `answer` is kept 48 h and given again: a status and ids, never a body."""

    scope: str
    """Principal and route."""
    key: str
    fingerprint: bytes
    answer: dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What is to be decided, over which streams, by whom, and why."""

    streams: tuple[Stream[Any], ...]
    decision: Decision
    actor: str
    expected: int | None = None
    """The version of the first stream the caller decided on."""
    once: Once | None = None
    look: Callable[[Connection], Awaitable[Any]] | None = None
    """Reads the decision needs beside the states, made after the heads are locked."""
    cause: Recorded[Any] | None = None
    consumer: str = ""
    """Who reacts to `cause`."""

    def event_id(self, index: int) -> str:
        if self.cause is not None:
            return named(f"{self.consumer}/{self.cause.source}/{self.cause.id}/{index}")
        if self.once is not None:
            return named(f"{self.once.scope}/{self.once.key}/{index}")
        return str(uuid4())


@dataclass(frozen=True)
class Changed:
    """What came of a change. `version` and `position` are the first stream's; `states` are as they are now."""

    events: tuple[Recorded[Any], ...]
    version: int
    position: str
    states: tuple[Any, ...] = ()
    answer: dict[str, Any] | None = None
    """The first answer under this idempotency key, when this was a repeat."""
    baselines: tuple[tuple[Stream[Any], int, Any], ...] = ()
    """What the store may remember once this is committed."""


class Retry(Exception):
    """The change lost a race for a head; nothing happened, decide again."""


Outcome = Changed | BaseException


def position(source: str, topic: str, subject: str, sequence: int) -> str:
    """Opaque text naming an event's place: what a client hands back to read its own write."""
    return urlsafe_b64encode(json.dumps([source, topic, subject, sequence]).encode()).decode().rstrip("=")


def parse_position(text: str) -> tuple[str, str, str, int]:
    """(source, topic, subject, sequence). Raises Invalid for anything that is no position."""
    try:
        source, topic, subject, sequence = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if not (isinstance(source, str) and isinstance(topic, str) and isinstance(subject, str)) or "\x00" in subject:
            raise ValueError("not a position")
        return source, topic, subject, int(sequence)
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid("this is no position of ours; hand back a Casewalk-Position as it was given") from error
