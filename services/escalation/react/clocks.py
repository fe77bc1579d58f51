"""Clocks follow what happens to the case: everything that was ever heard of it is judged anew with each new fact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from events.case import (
    CaseAssigned,
    CaseClassified,
    CaseClosed,
    CaseEscalated,
    CaseHandedOver,
    CaseObserved,
    CaseOpened,
    CaseQueued,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    EscalationReturned,
    MessageReceived,
    MessageSent,
    PartnerReturned,
)
from events.consume import Reactor
from events.database import Connection
from events.event import CASES, CaseEvent, Recorded
from events.store import New, Retry
from events.timers import Timers
from events.views import project
from events.wire import VOCABULARY
from services.escalation.clocks import Promise, Times
from services.escalation.decide import clocks as decide
from services.escalation.decide import observed
from services.escalation.decide.case import FOLD, Case
from services.escalation.decide.clocks import Rules
from services.escalation.decide.promises import in_order
from services.escalation.holidays import tzdata_version
from services.escalation.views import calendars, clocks, promises

FACTS = (
    CaseOpened,
    CaseObserved,
    CaseTakenOver,
    CaseClassified,
    MessageReceived,
    MessageSent,
    CaseResolved,
    CaseReopened,
    CaseClosed,
    CaseQueued,
    CaseAssigned,
    CaseHandedOver,
    PartnerReturned,
    CaseEscalated,
    EscalationReturned,
)
"""What clocks go by."""


NO_FACTS: Mapping[str, Sequence[Recorded[CaseEvent]]] = MappingProxyType({})


@dataclass(frozen=True)
class Looked:
    facts: Mapping[str, Sequence[Recorded[CaseEvent]]]
    """Case id → all that was ever heard of it, in the order in which it happened."""
    rules: Rules
    last: Mapping[str, str]
    """Case id → the id of the last row of its imported history in this batch, which stands for all of them."""


async def look(conn: Connection, events: Sequence[Recorded[CaseEvent]]) -> Looked:
    """The cases' facts, and the versions that are in force now or pinned to one of them."""
    case_ids = sorted({event.subject for event in events})
    facts = await project.history(conn, CASES, case_ids, VOCABULARY, table="past")
    last = {event.subject: event.id for event in events if isinstance(event.data, CaseObserved)}
    return Looked(facts, await rules_for(conn, case_ids, facts), last)


async def rules_for(
    conn: Connection, case_ids: Sequence[str], facts: Mapping[str, Sequence[Recorded[CaseEvent]]] = NO_FACTS
) -> Rules:
    """What these cases are judged by, their imported history among them as far as it is in `facts`."""
    in_force = in_order(await promises.promises_in_force(conn))
    pinned = {ref for row in await clocks.rows_of(conn, case_ids) for ref in (*row.promises, *row.earlier)}
    pinned |= {ref for heard in facts.values() for ref in observed.named_by(heard)}
    known = {promise.ref: promise for promise in in_force}
    known |= await promises.promises_of(conn, pinned - set(known))
    return Rules(in_force, known, await times_of(conn, known.values()))


async def times_of(conn: Connection, of: Iterable[Promise]) -> Times:
    """The calendars of these promises."""
    refs = {promise.content.calendar for promise in of}
    return Times({ref: await calendars.timetable_of(conn, ref) for ref in sorted(refs)}, tzdata_version())


def react(event: Recorded[CaseEvent], looked: Looked, now: datetime, case: Case) -> Sequence[New]:
    """What is to be said once this is known. Raises Retry where other promises were pinned since it was looked."""
    if not case.pinned <= looked.rules.promises.keys():
        raise Retry(f"{case.case_id} is judged by other promises by now")
    if isinstance(event.data, CaseObserved) and event.id != looked.last[event.subject]:
        return []
    facts = looked.facts[event.subject]
    return [*observed.judge(case, facts, looked.rules), *decide.judge(case, facts, looked.rules)]


def is_judged(event: Recorded[CaseEvent]) -> bool:
    """Another system's history is, where its import names promises."""
    return not isinstance(event.data, CaseObserved) or bool(event.data.promises)


REACTOR = Reactor("escalation.clocks", reads=FACTS, fold=FOLD, decide=react, look=look, keeps=True, wants=is_judged)


def fire(mark: datetime, now: datetime, case: Case) -> list[New]:
    """Every warning and breach due at or before `mark`. The ladder follows when the breach comes back from the log."""
    return decide.fire(mark, case)


TIMERS = Timers(clocks.CLOCKS, FOLD, fire, waits_for=("intake", "router", "vendor"))
"""Whose word can stop, pause or retarget a clock; escalation's own is in the case's stream before it is in the log."""
