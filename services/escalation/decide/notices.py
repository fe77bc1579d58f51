"""Who is told of what: subscriptions, and what a notice says: ids, times and units, never a customer's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from events.case import (
    Case,
    CaseEscalated,
    ClockBreached,
    ClockWarned,
    EscalationAcknowledged,
    EscalationReturned,
    EscalationUnanswered,
)
from events.errors import Invalid
from events.event import OPERATIONS, CaseEvent, Event, Recorded
from events.operations import NoticeChannel, NoticeEvent, NoticePublished
from events.personal import Clear
from events.store import Fold
from services.escalation.calendars import HORIZON, Timetable

KINDS: Mapping[type[CaseEvent], NoticeEvent] = {
    ClockWarned: NoticeEvent.CLOCK_WARNED,
    ClockBreached: NoticeEvent.CLOCK_BREACHED,
    CaseEscalated: NoticeEvent.ESCALATED,
    EscalationUnanswered: NoticeEvent.ESCALATION_UNANSWERED,
    EscalationAcknowledged: NoticeEvent.ESCALATION_ACKNOWLEDGED,
    EscalationReturned: NoticeEvent.RETURNED,
}

HEADLINES = {
    NoticeEvent.CLOCK_WARNED: "Promise at risk",
    NoticeEvent.CLOCK_BREACHED: "Promise broken",
    NoticeEvent.ESCALATED: "Case escalated",
    NoticeEvent.ESCALATION_UNANSWERED: "Escalation unanswered",
    NoticeEvent.ESCALATION_ACKNOWLEDGED: "Escalation acknowledged",
    NoticeEvent.RETURNED: "Escalation handed back",
}

DETAILS = ("clock", "percent", "due_at", "unit_id", "market", "escalation_id", "rung", "acknowledge_by", "owner")
"""Facts of a notice beside its case, in the order in which a person reads them."""

Facts = Mapping[str, str | int]


# -------------------------------------------------------------------------------------------------------- subscriptions


@dataclass(frozen=True, slots=True)
class Subscription:
    """The version in force. `address` and `secret` are sealed, as JSON, under the event `event_id`."""

    subject: str
    notice_id: str
    version: int
    events: tuple[str, ...]
    unit_ids: tuple[str, ...]
    markets: tuple[str, ...]
    channel: NoticeChannel
    address: str
    secret: str | None
    event_id: str
    calendar: str | None
    active: bool

    def wants(self, kind: NoticeEvent, unit_id: str | None, market: str | None) -> bool:
        return (
            self.active
            and kind in self.events
            and (not self.unit_ids or unit_id in self.unit_ids)
            and (not self.markets or market in self.markets)
        )


@dataclass(frozen=True)
class Wanted:
    """A subscription as somebody asks for it."""

    notice_id: str
    events: tuple[NoticeEvent, ...]
    unit_ids: tuple[str, ...]
    markets: tuple[str, ...]
    channel: NoticeChannel
    address: str
    address_key: str
    calendar: str | None
    active: bool
    fresh_secret: str
    """Signs a webhook that has no secret yet."""
    new_secret: bool = False
    """The one it has is not to be used any more."""


@dataclass(frozen=True)
class Looked:
    secret: str | None
    """What signs it now."""
    calendar: str | None
    """id@version of the calendar asked for, if there is one."""


def _latest(version: NoticePublished | None, event: Recorded[NoticePublished]) -> NoticePublished | None:
    return event.data


def _none(subject: str) -> None:
    return None


NOTICE: Fold[NoticePublished | None] = Fold(OPERATIONS, _none, _latest)


def publish(wanted: Wanted, now: datetime, current: NoticePublished | None, looked: Looked) -> list[Event]:
    """The next version; none if nothing would change. A secret belongs to its URL: another URL gets another one."""
    if wanted.calendar is not None and looked.calendar is None:
        raise Invalid(f"calendar: there is no calendar called {wanted.calendar}")
    signed = wanted.channel is NoticeChannel.WEBHOOK
    keeps = current is not None and current.address_key == wanted.address_key and not wanted.new_secret
    secret = (looked.secret if keeps else None) or wanted.fresh_secret
    person = f"notice:{wanted.notice_id}"
    version = NoticePublished(
        version=1 if current is None else current.version + 1,
        events=wanted.events,
        unit_ids=wanted.unit_ids,
        markets=wanted.markets,
        channel=wanted.channel,
        address=Clear(person, wanted.address),
        address_key=wanted.address_key,
        secret=Clear(person, secret) if signed else None,
        calendar=wanted.calendar,
        active=wanted.active,
    )
    same = current is not None and _open_parts(current) == _open_parts(version)
    return [] if same and (not signed or secret == looked.secret) else [version]


def _open_parts(version: NoticePublished) -> NoticePublished:
    """The version as far as two of them can be compared: sealing the same twice gives two texts."""
    same = Clear("", "")
    return version.model_copy(update={"version": 1, "address": same, "secret": None})


# -------------------------------------------------------------------------------------------------------------- notices


@dataclass(frozen=True, slots=True)
class Notice:
    """One subscription is to be told of one obligation."""

    notice_id: str
    obligation: str
    """The event's id: a warning's and a breach's are made of the clock alone."""
    kind: NoticeEvent
    facts: Facts

    @property
    def urgent(self) -> bool:
        """A breach is told at any hour."""
        return self.kind is NoticeEvent.CLOCK_BREACHED


Pin = tuple[int, datetime]
"""A `case.promises_pinned` of the case: its sequence, and from when on the case was to be judged so."""


def notices(
    event: Recorded[CaseEvent], case: Case, subscriptions: Sequence[Subscription], pins: Sequence[Pin] = ()
) -> list[Notice]:
    """Who is to be told of the event. `case` says which market and unit it lies with.

    What a clock owed before the promises it breaks were pinned is restated history: nobody could have kept it.
    """
    kind = KINDS[type(event.data)]
    restated = any(sequence < event.sequence and event.occurred_at < since for sequence, since in pins)
    if restated and isinstance(event.data, ClockWarned | ClockBreached):
        return []
    unit_id = getattr(event.data, "unit_id", None) or case.unit_id
    wanting = [one for one in subscriptions if one.wants(kind, unit_id, case.market)]
    if not wanting:
        return []
    facts = _facts(event, kind, unit_id, case.market)
    return [Notice(one.notice_id, event.id, kind, facts) for one in wanting]


def _facts(event: Recorded[CaseEvent], kind: NoticeEvent, unit_id: str | None, market: str | None) -> Facts:
    data = event.data
    found: dict[str, object] = {
        "event": kind,
        "case_id": event.subject,
        "at": event.occurred_at,
        "link": f"/v1/walks/{event.subject}",
        "episode": getattr(data, "episode", None),
        "turn": getattr(data, "turn", None) or None,
        **{name: getattr(data, name, None) for name in DETAILS},
        "unit_id": unit_id,
        "market": market,
    }
    return {name: _plain(value) for name, value in found.items() if value is not None}


def _plain(value: object) -> str | int:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case int():
            return value
        case _:
            return str(value)


def headline(facts: Facts) -> str:
    """One line."""
    clock = f" ({facts['clock']})" if "clock" in facts else ""
    return f"{HEADLINES[NoticeEvent(str(facts['event']))]}{clock}: case {facts['case_id']}"


def text(facts: Facts) -> str:
    """What a person reads: a line per fact."""
    details = (f"{name.replace('_', ' ')}: {facts[name]}" for name in ("at", *DETAILS, "link") if name in facts)
    return "\n".join((headline(facts), "", *details, ""))


def opens(hours: Timetable, now: datetime) -> datetime | None:
    """`now` where the hours last, else when they next begin; None: never within ten years."""
    if next(hours.spans(now, now + timedelta(microseconds=1)), None) is not None:
        return now
    span = next(hours.spans(now, now + HORIZON), None)
    return None if span is None else span[0]
