"""Two cases that are one: the duplicate ends as such, the other goes on, and both say so."""

from __future__ import annotations

from datetime import datetime

from events.case import CaseLinked
from events.errors import Refused
from events.store import New
from services.intake.decide.cases import Life, must_exist, resolve

DUPLICATE = "duplicate"
"""The code of its resolution."""


def link(reason: str, now: datetime, duplicate: Life, survivor: Life) -> list[New]:
    """Say that the first case is a duplicate of the second, and end its episode if it is open.

    Each keeps its own contacts, clocks and verdicts. Reopening the duplicate undoes the link. Raises Unknown, and
    Refused where either is closed, or linked to another already.
    """
    for life in (duplicate, survivor):
        must_exist(life)
    here, there = duplicate.case.case_id, survivor.case.case_id
    if duplicate.duplicate_of == there:
        return []
    if duplicate.duplicate_of is not None:
        raise Refused(f"case {here} is a duplicate of {duplicate.duplicate_of}; reopen it to link it to another")
    if survivor.duplicate_of is not None:
        raise Refused(f"case {there} is itself a duplicate of {survivor.duplicate_of}; link it to that one")
    for life in (duplicate, survivor):
        if life.closed:
            raise Refused(f"case {life.case.case_id} is closed; nothing more happens to it", case_id=life.case.case_id)
    return [
        New(CaseLinked(relation="duplicate_of", case_id=there, reason=reason)),
        *([] if duplicate.ended else resolve("system", DUPLICATE, None, now, duplicate)),
        New(CaseLinked(relation="has_duplicate", case_id=here, reason=reason), stream=1),
    ]
