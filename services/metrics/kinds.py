"""What each event is to a walk: something that was done about the case, or only said beside it."""

from __future__ import annotations

from enum import StrEnum

from events.case import (
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


def kind_of(category: Category, data: CaseEvent) -> Kind:
    """What the event is, for a case that stands so."""
    match data:
        case ClockEvent() | PromisesPinned() | EscalationUnanswered():
            return Kind.CLOCK
        case CaseOffered() | OfferDeclined() | OfferExpired() | OfferWithdrawn():
            return Kind.OFFER
        case CaseDequeued() | CaseReranked():
            return Kind.OFFER
        case CaseClassified() | CaseFlagged() | CaseLinked():
            return Kind.LABEL
        case CaseIssueLinked() | CaseIssueMessage() | CaseIssueResolved():
            return Kind.LABEL
        case CaseReleased():
            # Released because the case has ended: that must not make its walk longer.
            return Kind.OFFER if category in ENDED else Kind.STEP
        case FeedbackReceived():
            return Kind.SURVEY
        case _:
            return Kind.STEP
