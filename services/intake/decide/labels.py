"""What is said about a case and moves it nowhere: how it is seen, and what somebody or something noticed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from events.case import CaseClassified, CaseFlagged, Priority
from events.errors import Invalid, Refused
from events.store import New
from services.intake.decide.cases import Life, happened, must_exist, utc


@dataclass(frozen=True, slots=True)
class Classification:
    """How somebody wants the case seen; what is None stays as it is."""

    priority: Priority | None = None
    tier: str | None = None
    journey: str | None = None


def classify(wanted: Classification, reason: str, at: datetime | None, now: datetime, life: Life) -> list[New]:
    """See the case otherwise: only what differs is said. Raises Unknown, Refused for a closed case, and Invalid for a
    time before the case was last classified."""
    _must_be_open_to_more(life)
    case = life.case
    priority = wanted.priority if wanted.priority != case.priority else None
    tier = wanted.tier if wanted.tier != case.tier else None
    journey = wanted.journey if wanted.journey != case.journey else None
    if priority is None and tier is None and journey is None:
        return []
    classified = CaseClassified(priority=priority, tier=tier, journey=journey, reason=reason)
    return [New(classified, _not_before(life.classified_at, "it was last said how the case is seen", at, now))]


def flag(raised: CaseFlagged, at: datetime | None, now: datetime, life: Life) -> list[New]:
    """Say what was noticed, once per episode. Raises Unknown, Refused for a closed case, and Invalid for a time before
    the episode began."""
    _must_be_open_to_more(life)
    if raised.flag in life.flags:
        return []
    return [New(raised, _not_before(life.began_at, f"episode {life.case.episode} began", at, now))]


def _must_be_open_to_more(life: Life) -> None:
    must_exist(life)
    if life.closed:
        raise Refused(f"case {life.case.case_id} is closed; open a new case for what is new", case_id=life.case.case_id)


def _not_before(first: datetime | None, what: str, at: datetime | None, now: datetime) -> datetime:
    """When it happened; folds in order of time would end elsewhere if it were before `first`."""
    when = happened(at, now)
    if first is None or when >= first:
        return when
    if at is None:
        return first
    raise Invalid(f"{what} at {utc(first)}; this cannot have happened before")
