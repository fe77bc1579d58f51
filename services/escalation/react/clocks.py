"""Clocks follow what happens to the case: everything that was ever heard of it is judged anew with each new fact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from events.case import (
    CaseAssigned,
    CaseClassified,
    CaseClosed,
    CaseEscalated,
    CaseHandedOver,
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
from services.escalation.decide.case import FOLD, Case
from services.escalation.decide.clocks import Rules
from services.escalation.decide.promises import in_order
from services.escalation.holidays import tzdata_version
from services.escalation.views import calendars, clocks, promises

FACTS = (
    CaseOpened,
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


@dataclass(frozen=True)
class Looked:
    facts: Mapping[str, Sequence[Recorded[CaseEvent]]]
    """Case id → all that was ever heard of it, in the order in which it happened."""
    rules: Rules


async def look(conn: Connection, events: Sequence[Recorded[CaseEvent]]) -> Looked:
    """The cases' facts, and the versions that are in force now or pinned to one of them."""
    case_ids = sorted({event.subject for event in events})
    facts = await project.history(conn, CASES, case_ids, VOCABULARY, table="past")
    return Looked(facts, await rules_for(conn, case_ids))


async def rules_for(conn: Connection, case_ids: Sequence[str]) -> Rules:
    """What these cases are judged by."""
    in_force = in_order(await promises.promises_in_force(conn))
    pinned = {ref for row in await clocks.rows_of(conn, case_ids) for ref in (*row.promises, *row.earlier)}
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
    return decide.judge(case, looked.facts[event.subject], looked.rules)


REACTOR = Reactor("escalation.clocks", reads=FACTS, fold=FOLD, decide=react, look=look, keeps=True)


def fire(mark: datetime, now: datetime, case: Case) -> list[New]:
    """Every warning and breach due at or before `mark`. The ladder follows when the breach comes back from the log."""
    return decide.fire(mark, case)


TIMERS = Timers(clocks.CLOCKS, FOLD, fire, waits_for=("intake", "router", "vendor"))
"""Whose word can stop, pause or retarget a clock; escalation's own is in the case's stream before it is in the log."""
