"""What happens to clocks and escalations is told to whoever subscribed to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce

from events.case import Case, PromisesPinned, evolve
from events.database import Connection
from events.effects import Effect, Notifier, Outgoing, effect_id
from events.event import CASES, CaseEvent, Recorded
from events.operations import NoticeChannel
from events.views import project
from events.wire import VOCABULARY
from services.escalation.decide import notices as decide
from services.escalation.decide.notices import KINDS, Pin, Subscription
from services.escalation.views import calendars
from services.escalation.views import notices as views
from services.runtime import Host
from services.runtime.effects import Delivery, Later
from services.runtime.post import Mail, Webhook


@dataclass(frozen=True)
class Looked:
    subscriptions: Sequence[Subscription]
    cases: Mapping[str, Case]
    """By id, as far as clocks have heard of them."""
    pins: Mapping[str, Sequence[Pin]] = field(default_factory=dict)


async def look(conn: Connection, events: Sequence[Recorded[CaseEvent]]) -> Looked:
    """The subscriptions in force now, and the cases they may be about."""
    subscriptions = [one for one in await views.subscriptions(conn) if one.active]
    if not subscriptions:
        return Looked((), {})
    case_ids = sorted({event.subject for event in events})
    facts = await project.history(conn, CASES, case_ids, VOCABULARY, table="past")
    cases = {id_: reduce(evolve, heard, Case(id_)) for id_, heard in facts.items()}
    return Looked(subscriptions, cases, await _pins(conn, case_ids))


async def _pins(conn: Connection, case_ids: Sequence[str]) -> dict[str, list[Pin]]:
    rows = await conn.fetch(
        "select subject, sequence, occurred_at from events where topic = $1 and subject = any($2) and type = $3",
        CASES,
        case_ids,
        PromisesPinned.TYPE,
    )
    pins: dict[str, list[Pin]] = {}
    for row in rows:
        pins.setdefault(row["subject"], []).append((row["sequence"], row["occurred_at"]))
    return pins


def tell(event: Recorded[CaseEvent], looked: Looked, now: datetime) -> list[Effect]:
    """One effect per subscription that wants to be told, under an id made of the two."""
    case = looked.cases.get(event.subject) or Case(event.subject)
    return [
        Effect(
            effect_id(notice.notice_id, notice.obligation),
            notice.notice_id,
            notice.kind,
            event.subject,
            notice.facts,
            notice.urgent,
        )
        for notice in decide.notices(event, case, looked.subscriptions, looked.pins.get(event.subject, ()))
    ]


NOTIFIER = Notifier("escalation.notices", tuple(KINDS), tell, look)


async def deliver(host: Host, conn: Connection, outgoing: Outgoing, now: datetime) -> Delivery:
    """By the subscription as it is now: where it is reached, and whether these are its hours."""
    effect = outgoing.effect
    row = await views.subscription(conn, effect.target)
    if row is None or not row.active:
        return None
    if row.calendar is not None and not effect.urgent:
        opens = await _opens(conn, row.calendar, now)
        if opens > now:
            return Later(opens)
    ((address, secret),) = await views.opened(conn, host.keyring, [row])
    if address is None:
        return None
    facts = effect.payload
    match row.channel:
        case NoticeChannel.EMAIL:
            return Mail(address, decide.headline(facts), decide.text(facts))
        case NoticeChannel.WEBHOOK:
            body = {"type": f"casewalk.notice.{effect.kind}", "timestamp": facts["at"], "data": facts}
            return Webhook(address, body, secret)
        case NoticeChannel.CHAT:
            return Webhook(address, {"text": decide.text(facts)})


async def _opens(conn: Connection, calendar_id: str, now: datetime) -> datetime:
    """When the hours of the calendar's version in force last or begin. Where they never do, nobody is kept waiting."""
    ref = await calendars.calendar_in_force(conn, calendar_id)
    if ref is None:
        return now
    return decide.opens(await calendars.timetable_of(conn, ref), now) or now
