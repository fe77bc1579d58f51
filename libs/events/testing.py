"""Given, when, then: specifications of decisions, reactors, timers and views, without a database or a clock.

    given(FOLD, opened, resolved).when(partial(resolve, order)).nothing()
    given(FOLD, opened).when(partial(resolve, order), now=NOON).then(CaseResolved(episode=1, by="agent"))
    given(FOLD).when(partial(resolve, order)).rejects(Unknown, "no case")
    reacting(REACTOR, queued).to(CaseResolved(episode=1, by="agent")).then_types(CaseReleased)
    firing(TIMERS, started).at(DUE).then(New(breached, occurred_at=DUE, id=...))
    folding(VIEW, opened, (queued, NOON)).row_is(Row(...))

What has happened is given as plain events, `(event, at)`, `New(event, occurred_at=...)` or `Recorded`; times and
sequences that are not given count up by themselves. Personal texts come back sealed, as they do from the store.
Everything is done twice, because decisions are pure and folds do not depend on how their events arrived.
"""

from __future__ import annotations

import dataclasses
import random
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, Self, TypeVar

from events.consume import Reactor
from events.errors import CasewalkError
from events.event import Event, Recorded, named
from events.personal import Clear, Sealed, personal_fields
from events.store import Decision, Fold, New
from events.timers import Timers
from events.views import View

S = TypeVar("S")
R = TypeVar("R")

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""When the first given event happens, unless it says so itself: a Monday morning."""

STEP = timedelta(minutes=1)
"""How much later each next event happens."""

CASE_ID = "0195571e-8a00-7000-8000-000000000001"
"""The subject, unless another one is given."""

Happened = Event | New | Recorded[Any] | tuple[Event, datetime]
"""How a test says that something happened."""


def recorded(
    event: Event,
    *,
    subject: str = CASE_ID,
    sequence: int = 1,
    at: datetime = START,
    recorded_at: datetime | None = None,
    source: str | None = None,
    id: str | None = None,
    actor: str = "service:test",
    cause: Recorded[Any] | None = None,
) -> Recorded[Any]:
    """The event as a fold sees it. The id is made of source, topic, subject and sequence; `recorded_at` is `at`."""
    source = source or event.WRITER
    name = id or named(f"{source}/{event.TOPIC}/{subject}/{sequence}")
    return Recorded(
        id=name,
        source=source,
        topic=event.TOPIC,
        subject=subject,
        sequence=sequence,
        occurred_at=at,
        recorded_at=recorded_at or at,
        actor=actor,
        correlation_id=cause.correlation_id if cause else name,
        causation_id=cause.id if cause else None,
        data=sealed(event),
    )


def sealed(event: Event) -> Event:
    """The event as the store writes it: no personal text is clear. What stands for the ciphertext opens nowhere."""
    clear = {name: value for name in personal_fields(type(event)) if isinstance(value := getattr(event, name), Clear)}
    return event.model_copy(update={name: _sealed(value) for name, value in clear.items()})


def _sealed(clear: Clear) -> Sealed:
    text = b64encode(clear.text.encode()).decode()
    return Sealed(enc=1, person=clear.person, version=1, nonce="", text=text)


def history(*happened: Happened, subject: str = CASE_ID, after: Sequence[Recorded[Any]] = ()) -> list[Recorded[Any]]:
    """What happened to one subject, as recorded: each source's sequence counts 1, 2, 3 …, each event is a minute later
    than the one before unless it says when. `after` is what had happened already; it is not repeated."""
    done = list(after)
    for item in happened:
        event, at, id_, given = _parts(item)
        if given is not None:
            done.append(given)
            continue
        stream = [e for e in done if (e.source, e.topic) == (event.WRITER, event.TOPIC)]
        at = at or (done[-1].occurred_at + STEP if done else START)
        last = done[-1].recorded_at + timedelta(microseconds=1) if done else at
        done.append(
            recorded(
                event,
                subject=subject,
                sequence=max((e.sequence for e in stream), default=0) + 1,
                at=at,
                recorded_at=max(at, last),
                id=id_,
            )
        )
    return done[len(after) :]


def _parts(item: Happened) -> tuple[Event, datetime | None, str | None, Recorded[Any] | None]:
    match item:
        case Recorded():
            return item.data, None, None, item
        case New():
            return item.event, item.occurred_at, item.id, None
        case (event, at):
            return event, at, None, None
        case _:
            return item, None, None, None


# ----------------------------------------------------------------------------------------------------------- decisions


@dataclass(frozen=True)
class Given(Generic[S]):
    """A stream with its past."""

    fold: Fold[S]
    subject: str
    events: tuple[Recorded[Any], ...]

    @property
    def state(self) -> S:
        """What the past adds up to."""
        return self.fold.over(self.subject, self.events)

    def when(
        self, decision: Decision, *more: Any, now: datetime | None = None, looked: Any = dataclasses.MISSING
    ) -> Decided[S]:
        """Decide `decision(now, state, *more[, looked])`; what was asked is bound before, with functools.partial.

        `more` are the other streams' states, or other `given(...)`. `now` is a minute after the past's last event.
        """
        now = now or _later(self.events)
        looks = () if looked is dataclasses.MISSING else (looked,)

        def decide() -> Sequence[Event | New]:
            states = (other.state if isinstance(other, Given) else other for other in more)
            return decision(now, self.state, *states, *looks)

        return _decided(self, now, decide)


def given(fold: Fold[S], *happened: Happened, subject: str = CASE_ID) -> Given[S]:
    """The past of one of the service's own streams."""
    past = tuple(history(*happened, subject=subject))
    for event in past:
        assert event.topic == fold.topic, f"{event.data.TYPE} is not on {fold.topic}"
    assert len({event.source for event in past}) <= 1, f"a stream has one writer, not {_names(past)}"
    return Given(fold, subject, past)


@dataclass(frozen=True)
class Decided(Generic[S]):
    """What a decision said, or how it refused."""

    given: Given[S]
    now: datetime
    items: tuple[New, ...]
    error: CasewalkError | None

    def then(self, *expected: Event | New) -> Self:
        """Exactly these events, in order. A plain event matches whenever it happened; a `New` also says when, under
        which id (if it gives one) and on which stream."""
        items = self._accepted()
        same = len(items) == len(expected) and all(map(_matches, expected, items))
        assert same, f"expected\n{_listed(expected)}\nbut it said\n{_listed(items)}"
        return self

    def then_types(self, *expected: type[Event]) -> Self:
        """Events of exactly these types, in order."""
        said = tuple(type(item.event) for item in self._accepted())
        assert said == expected, f"expected {[e.__name__ for e in expected]}, but it said\n{_listed(self.items)}"
        return self

    def nothing(self) -> Self:
        """No event: it is done already, or it is none of this service's business."""
        return self.then()

    def rejects(self, kind: type[CasewalkError], sentence: str = "") -> CasewalkError:
        """Refused by an error of `kind` whose message holds `sentence`; the error is returned."""
        assert self.error is not None, f"expected {kind.__name__}, but it said\n{_listed(self.items)}"
        assert isinstance(self.error, kind), f"expected {kind.__name__}, not {self.error!r}"
        assert sentence in self.error.message, f"{sentence!r} is not in {self.error.message!r}"
        return self.error

    @property
    def events(self) -> tuple[Event, ...]:
        """What it said, for a closer look."""
        return tuple(item.event for item in self._accepted())

    @property
    def after(self) -> Given[S]:
        """The stream with what was said; its `state` is the state now, its `when` decides the next thing."""
        own = [replace(i, occurred_at=i.occurred_at or self.now) for i in self._accepted() if i.stream == 0]
        past = self.given.events
        return replace(self.given, events=(*past, *history(*own, subject=self.given.subject, after=past)))

    def _accepted(self) -> tuple[New, ...]:
        if self.error is not None:
            raise self.error
        return self.items


def _decided(past: Given[S], now: datetime, decide: Callable[[], Sequence[Event | New]]) -> Decided[S]:
    first, second = _outcome(decide), _outcome(decide)
    assert repr(first) == repr(second), f"a decision is pure, yet the same again said\n{second}\ninstead of\n{first}"
    items, error = first
    for item in items:
        if item.stream == 0:
            assert past.fold.topic == item.event.TOPIC, f"{item.event.TYPE} is not on {past.fold.topic}"
            writers = {item.event.WRITER, *(event.source for event in past.events)}
            assert len(writers) == 1, f"{item.event.TYPE} is not this service's to say"
    return Decided(past, now, items, error)


def _outcome(decide: Callable[[], Sequence[Event | New]]) -> tuple[tuple[New, ...], CasewalkError | None]:
    try:
        return tuple(item if isinstance(item, New) else New(item) for item in decide()), None
    except CasewalkError as error:
        return (), error


def _matches(expected: Event | New, said: New) -> bool:
    if isinstance(expected, Event):
        return expected == said.event
    return replace(said, id=expected.id and said.id) == expected


# -------------------------------------------------------------------------------------------------- reactors and timers


@dataclass(frozen=True)
class Reacting:
    """A reactor and the service's own past of the subject."""

    reactor: Reactor
    past: Given[Any]

    def to(self, event: Happened, *, looked: Any = None, now: datetime | None = None) -> Decided[Any]:
        """The event reaches the reactor; `looked` is what its `look` read. One of the service's own events is found in
        the past; any other is the next thing that happens. `now` is the moment it does."""
        cause = self._find(event)
        assert type(cause.data) in self.reactor.reads, f"{self.reactor.name} does not read {cause.data.TYPE}"
        now = now or max(cause.recorded_at, _later(self.past.events) - STEP) + timedelta(microseconds=1)
        return _decided(self.past, now, lambda: self.reactor.decide(cause, looked, now, self.past.state))

    def _find(self, happened: Happened) -> Recorded[Any]:
        data, at, *_ = _parts(happened)
        for event in self.past.events:
            if event.data == sealed(data) and at in (None, event.occurred_at):
                return event
        return history(happened, subject=self.past.subject, after=self.past.events)[0]


def reacting(reactor: Reactor, *own: Happened, subject: str = CASE_ID) -> Reacting:
    """A reactor, after the service itself said `own` about the subject."""
    return Reacting(reactor, given(reactor.fold, *own, subject=subject))


@dataclass(frozen=True)
class Firing:
    """A service's timers and its own past of the subject."""

    timers: Timers
    past: Given[Any]

    def at(self, mark: datetime, *, now: datetime | None = None) -> Decided[Any]:
        """Everything up to `mark` is known. What fires is recorded and must not fire again."""
        now = now or max(mark, _later(self.past.events))
        decided = _decided(self.past, now, lambda: self.timers.fire(mark, now, self.past.state))
        if decided.error is None:
            again = self.timers.fire(mark, now, decided.after.state)
            assert not again, f"a timer fires once, yet after it had fired it said\n{_listed(again)}"
        return decided


def firing(timers: Timers, *own: Happened, subject: str = CASE_ID) -> Firing:
    """Timers, after the service itself said `own` about the subject."""
    return Firing(timers, given(timers.fold, *own, subject=subject))


# --------------------------------------------------------------------------------------------------------------- views


@dataclass(frozen=True)
class Folding(Generic[R]):
    """A view and what happened to one subject."""

    view: View[R]
    events: tuple[Recorded[Any], ...]

    def row(self) -> R | None:
        """The subject's row: folded in order, and again from deliveries in disorder with repeats; both must agree."""
        inline = self.view.inline
        ordered = sorted(self.events, key=lambda event: event.sequence if inline else event.key)
        row = self._fold(None, ordered)
        chance = random.Random(len(ordered))
        for _ in range(5):
            assert (other := self._delivered(ordered, chance)) == row, f"it depends on the arrival:\n{other}\n{row}"
        if row is not None:
            self._storable(row)
        return row

    def row_is(self, expected: R | None) -> Self:
        """The row is exactly this; None: there is none."""
        row = self.row()
        assert row == expected, f"expected\n  {expected}\nbut it is\n  {row}"
        return self

    def _fold(self, row: R | None, events: Iterable[Recorded[Any]]) -> R | None:
        for event in events:
            row = self.view.fold(row, event)
        return row

    def _delivered(self, ordered: list[Recorded[Any]], chance: random.Random) -> R | None:
        """As the machinery does it: drop repeats, fold on from the saved row, refold what came out of order."""
        arriving = ordered + chance.choices(ordered, k=len(ordered)) if ordered else []
        if self.view.inline:
            arriving.sort(key=lambda event: event.sequence)
        else:
            chance.shuffle(arriving)
        seen: dict[tuple[str, int], Recorded[Any]] = {}
        row, last = None, None
        for event in arriving:
            if (event.source, event.sequence) in seen:
                continue
            seen[event.source, event.sequence] = event
            if self.view.inline or last is None or event.key > last:
                row = self._fold(row, [event])
            else:
                row = self._fold(None, sorted(seen.values(), key=lambda event: event.key))
            last = max(other.key for other in seen.values())
        return row

    def _storable(self, row: R) -> None:
        assert isinstance(row, self.view.row), f"{row!r} is no {self.view.row.__name__}"
        values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}  # type: ignore[arg-type]
        assert list(values) == list(self.view.columns)
        subject = next(iter(values.values()))
        assert subject == self.events[0].subject, f"a row's first field is its subject, not {subject!r}"
        for name, value in values.items():
            assert _storable(value), f"{name} holds {value!r}, which no column can hold and compare bit by bit"


def folding(view: View[R], *happened: Happened, subject: str = CASE_ID) -> Folding[R]:
    """A view, after this happened to the subject, whoever said it. Events of types it does not read pass by."""
    events = history(*happened, subject=subject)
    for event in events:
        assert event.topic == view.topic, f"{view.name} reads {view.topic}; {event.data.TYPE} is not on it"
    return Folding(view, tuple(event for event in events if event.data.TYPE in view.types))


def _storable(value: Any) -> bool:
    match value:
        case None | bool() | Decimal():
            return True
        case int():
            return -(2**63) <= value < 2**63
        case str():
            return "\x00" not in value
        case datetime():
            return value.tzinfo is not None
        case date():
            return True
        case tuple():
            return all(isinstance(item, str | int) and _storable(item) for item in value)
        case _:
            return False


def _later(events: Sequence[Recorded[Any]]) -> datetime:
    return max((max(e.occurred_at, e.recorded_at) for e in events), default=START - STEP) + STEP


def _names(events: Sequence[Recorded[Any]]) -> str:
    return ", ".join(sorted({f"{event.source} ({event.data.TYPE})" for event in events}))


def _listed(items: Iterable[Event | New]) -> str:
    return "\n".join(f"  {item!r}" for item in items) or "  nothing"
