"""What each event is to a walk: something that was done about the case, or only said beside it."""

from __future__ import annotations

from enum import StrEnum

from events.case import (
    CASE_EVENTS,
    ENDED,
    CaseClassified,
    CaseDequeued,
    CaseFlagged,
    CaseIssueLinked,
    CaseIssueMessage,
    CaseIssueResolved,
    CaseLinked,
    CaseOffered,
    CaseReleased,
    CaseReranked,
    Category,
    ClockEvent,
    EscalationUnanswered,
    FeedbackReceived,
    OfferDeclined,
    OfferExpired,
    OfferWithdrawn,
    PromisesPinned,
)
from events.event import CaseEvent


class Kind(StrEnum):
    """What a line of a walk is. Only steps count in `events`, throughput and the time between events."""

    STEP = "step"
    CLOCK = "clock"
    OFFER = "offer"
    """Whom the router asked, and what it tidied up once the case had ended."""
    LABEL = "label"
    """How the case is seen, and what was noticed: said about it, not done about it."""
    SURVEY = "survey"


_BESIDE: dict[Kind, tuple[type[CaseEvent], ...]] = {
    Kind.CLOCK: (ClockEvent, PromisesPinned, EscalationUnanswered),
    Kind.OFFER: (CaseOffered, OfferDeclined, OfferExpired, OfferWithdrawn, CaseDequeued, CaseReranked),
    Kind.LABEL: (CaseClassified, CaseFlagged, CaseLinked, CaseIssueLinked, CaseIssueMessage, CaseIssueResolved),
    Kind.SURVEY: (FeedbackReceived,),
}
_KINDS = {event: kind for event in CASE_EVENTS for kind, said in _BESIDE.items() if issubclass(event, said)}
"""By class, because this is asked of every event and most are steps, which are none of these."""


def kind_of(category: Category, data: CaseEvent) -> Kind:
    """What the event is, for a case that stands so."""
    if type(data) is CaseReleased and category in ENDED:
        return Kind.OFFER  # released because the case has ended: that must not make its walk longer
    return _KINDS.get(type(data), Kind.STEP)
