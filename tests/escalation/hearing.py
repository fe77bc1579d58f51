"""A case's facts heard one after another, in any order, and what escalation says with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

from events.case import CaseOpened, ClockAccount, Priority
from events.event import CaseEvent, Event, Recorded
from events.operations import PromisePublished
from events.store import New
from events.testing import CASE_ID, START, recorded
from services.escalation import calendars
from services.escalation.calendars import Calendar, Timetable, Windows
from services.escalation.clocks import ALWAYS, Clock, ClockKind, Promise, Times, account
from services.escalation.decide import clocks as decide
from services.escalation.decide.case import FOLD, Case, evolve
from services.escalation.decide.clocks import Rules
from services.escalation.decide.promises import in_order
from services.escalation.service import STANDARD_PROMISE
from tests.given import an

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)

NINE_TO_FIVE: Windows = (calendars.Window(9 * 60, 17 * 60),)

BERLIN = Calendar(
    "Europe/Berlin", (NINE_TO_FIVE,) * 5 + ((), ()), holidays=frozenset({date(2026, 4, 3), date(2026, 4, 6)})
)  # type: ignore[arg-type]

TIMETABLES: Mapping[str, Timetable] = {
    "always@1": ALWAYS,
    "berlin@1": Timetable.of(((None, BERLIN),)),
    "rare@1": Timetable.of(
        ((None, Calendar("UTC", ((),) * 7, exceptions=((date(2031, 1, 1), (calendars.Window(0, 180),)),))),)  # type: ignore[arg-type]
    ),
    "kolkata@1": Timetable.of(
        ((None, Calendar("Asia/Kolkata", ((calendars.Window(22 * 60, 30 * 60),),) * 7)),)  # type: ignore[arg-type]
    ),
}

STANDARD = Promise("standard@1", STANDARD_PROMISE)


def promise(ref: str, **changes: object) -> Promise:
    """The standard promise with something changed."""
    return Promise(ref, PromisePublished.model_validate(STANDARD_PROMISE.model_dump() | changes))


def targets(hours: Mapping[ClockKind, Mapping[Priority, float]]) -> tuple[dict[str, object], ...]:
    return tuple(
        {"clock": clock, "priority": priority, "target_s": int(h * 3600)}
        for clock, of in hours.items()
        for priority, h in of.items()
    )


def every(clock: ClockKind, hours: float) -> tuple[dict[str, object], ...]:
    """The same target for every priority."""
    return targets({clock: dict.fromkeys(Priority, hours)})


def local(text: str, zone: str = "Europe/Berlin") -> datetime:
    """`2026-03-27 16:30` on the wall clock there."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(START.tzinfo)


@dataclass
class Hearing:
    """`facts` is what was heard; `said` is escalation's stream of the case."""

    promises: Sequence[Promise] = (STANDARD,)
    facts: list[Recorded[CaseEvent]] = field(default_factory=list)
    said: list[Recorded[CaseEvent]] = field(default_factory=list)
    case: Case = field(default_factory=lambda: FOLD.initial(CASE_ID))
    last: list[Event] = field(default_factory=list)
    """What was said with the last thing that was heard."""
    timetables: Mapping[str, Timetable] = field(default_factory=lambda: TIMETABLES)
    tzdata: str = "2026.6"
    _numbers: count[int] = field(default_factory=lambda: count(1))

    @property
    def rules(self) -> Rules:
        return Rules(in_order(self.promises), {p.ref: p for p in self.promises}, Times(self.timetables, self.tzdata))

    def hear(self, event: CaseEvent, at: datetime, sequence: int | None = None) -> Hearing:
        """One more fact; `sequence` where it is not the next one of its stream."""
        number = next(self._numbers)
        fact: Recorded[CaseEvent] = recorded(event, at=at, sequence=sequence or number, id=f"fact-{sequence or number}")
        self.facts = sorted([*self.facts, fact], key=lambda one: one.key)
        return self.say(decide.judge(self.case, self.facts, self.rules), max(one.occurred_at for one in self.facts))

    def fire(self, mark: datetime) -> Hearing:
        return self.say(decide.fire(mark, self.case), mark)

    def pin(self, *promises: Promise, now: datetime, episode: int = 1) -> Hearing:
        """Judge the case by these, from that episode on."""
        self.promises = (*self.promises, *promises)
        pin = decide.Pin(in_order(promises), "asked for", episode)
        return self.say(decide.judge(self.case, self.facts, self.rules, pin), now)

    def say(self, news: Sequence[New], now: datetime) -> Hearing:
        self.last = [new.event for new in news]
        for new in news:
            one: Recorded[CaseEvent] = recorded(
                new.event, at=new.occurred_at or now, sequence=len(self.said) + 1, id=new.id
            )
            assert one.id not in {before.id for before in self.said}, f"{one.data.TYPE} was said before"
            self.said.append(one)
            self.case = evolve(self.case, one)
        return self

    def clock(self, kind: ClockKind, episode: int = 1, turn: int = 0) -> Clock:
        return self.case.clocks[kind, episode, turn]

    def events(self, *kinds: type[Event]) -> list[Event]:
        return [one.data for one in self.said if isinstance(one.data, kinds)]

    def accounts(self) -> dict[object, ClockAccount]:
        """Every clock as it stands, without warnings, of which none is said again, nor the due time of a cancelled one,
        which is no matter any more."""
        told = {key: account(clock).model_copy(update={"warnings": ()}) for key, clock in self.case.clocks.items()}
        void = {"due_at": None, "tzdata": None}
        return {key: one.model_copy(update=void) if one.cancelled else one for key, one in told.items()}


def opened(at: datetime = START, promises: Sequence[Promise] = (STANDARD,), **fields: object) -> Hearing:
    """A case that came in."""
    return Hearing(promises).hear(an(CaseOpened, **{"priority": Priority.HIGH, "tier": None} | fields), at)
