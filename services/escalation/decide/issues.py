"""Mass issues: one cause behind many cases. Proposed, then accepted or rejected; an accepted one gathers cases.

What is told or resolved is said once for the issue and once on every case of it, in one change, so that no case of a
thousand is left out whatever crashes. Intake turns it into the case's own message and resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from events.case import CaseIssueLinked, CaseIssueMessage, CaseIssueResolved, ClockKind
from events.errors import Refused, Unknown
from events.event import OPERATIONS, Event, OperationsEvent, Recorded, named
from events.operations import (
    IssueAccepted,
    IssueCancelled,
    IssueGathered,
    IssueMessageSent,
    IssueProposed,
    IssueRejected,
    IssueResolved,
)
from events.store import Fold, New
from services.escalation.decide.case import Case

MOST = 1000
"""Cases of one issue: all of them are told in one transaction."""


class Stage(StrEnum):
    """Where an issue stands."""

    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue as its own events tell it; its state and its row are one."""

    subject: str
    issue_id: str
    title: str = ""
    reason: str = ""
    stage: Stage = Stage.PROPOSED
    owner: str | None = None
    ended_because: str | None = None
    """Why it was rejected or cancelled, or the code it was resolved with."""
    proposed_at: datetime | None = None
    ended_at: datetime | None = None
    case_ids: tuple[str, ...] = ()
    """In the order in which they were linked."""
    messages: tuple[str, ...] = ()
    """The ids of those that were sent."""

    @property
    def exists(self) -> bool:
        return self.proposed_at is not None


def initial(subject: str) -> Issue:
    return Issue(subject, subject.partition(":")[2])


def evolve(issue: Issue | None, event: Recorded[OperationsEvent]) -> Issue:
    """The issue after one more of its events."""
    issue, at = issue or initial(event.subject), event.occurred_at
    match event.data:
        case IssueProposed(title=title, reason=reason):
            return replace(issue, title=title, reason=reason, proposed_at=at)
        case IssueAccepted(owner=owner):
            return replace(issue, stage=Stage.ACCEPTED, owner=owner)
        case IssueRejected(reason=reason):
            return replace(issue, stage=Stage.REJECTED, ended_because=reason, ended_at=at)
        case IssueCancelled(reason=reason):
            return replace(issue, stage=Stage.CANCELLED, ended_because=reason, ended_at=at)
        case IssueGathered(case_ids=case_ids):
            return replace(issue, case_ids=(*issue.case_ids, *case_ids))
        case IssueMessageSent(message_id=message_id):
            return replace(issue, messages=(*issue.messages, message_id))
        case IssueResolved(code=code):
            return replace(issue, stage=Stage.RESOLVED, ended_because=code, ended_at=at)
        case _:
            return issue


ISSUE: Fold[Issue] = Fold(OPERATIONS, initial, evolve)
"""An issue's stream: `ISSUE("issue:" + issue_id)`."""


class Grown(Refused):
    """Other cases belong to the issue than those the change was made for: read them and decide again."""


# ----------------------------------------------------------------------------------------------- whether it is an issue


def propose(title: str, reason: str, now: datetime, issue: Issue) -> list[Event]:
    """A new issue; the same again is no event. Raises Refused where there is another one under this id."""
    if issue.exists and (issue.title, issue.reason) == (title, reason):
        return []
    if issue.exists:
        raise Refused(f"there is an issue {issue.issue_id} already, with another title or reason")
    return [IssueProposed(title=title, reason=reason)]


def accept(owner: str, now: datetime, issue: Issue) -> list[Event]:
    """It is one, led by `owner`; again is no event. Raises Unknown, Refused."""
    _must_exist(issue)
    if issue.stage is Stage.ACCEPTED and issue.owner == owner:
        return []
    _must_be(issue, Stage.PROPOSED)
    return [IssueAccepted(owner=owner)]


def reject(reason: str, now: datetime, issue: Issue) -> list[Event]:
    """It is none; again is no event. Raises Unknown, Refused."""
    _must_exist(issue)
    if issue.stage is Stage.REJECTED:
        return []
    _must_be(issue, Stage.PROPOSED)
    return [IssueRejected(reason=reason)]


def cancel(reason: str, now: datetime, issue: Issue) -> list[Event]:
    """It does not matter any more, proposed or accepted; again is no event. Raises Unknown, Refused."""
    _must_exist(issue)
    if issue.stage is Stage.CANCELLED:
        return []
    _must_be(issue, Stage.PROPOSED, Stage.ACCEPTED)
    return [IssueCancelled(reason=reason)]


# ---------------------------------------------------------------------------------------------- what goes for its cases


def link(now: datetime, issue: Issue, *cases: Case) -> list[New]:
    """The cases belong to the issue; those that do already are left as they are. Raises Unknown, Refused."""
    _must_exist(issue)
    _must_be(issue, Stage.ACCEPTED)
    unknown = [case.case_id for case in cases if case.latest(ClockKind.RESOLUTION) is None]
    if unknown:
        raise Unknown(f"there is no case with clocks under {', '.join(unknown[:5])}")
    new = {case.case_id: place for place, case in enumerate(cases, 1) if case.case_id not in issue.case_ids}
    if len(issue.case_ids) + len(new) > MOST:
        raise Refused(f"an issue gathers at most {MOST} cases; propose another one for more")
    if not new:
        return []
    linked = [
        New(CaseIssueLinked(issue_id=issue.issue_id), id=_id(issue, "linked", case_id), stream=place)
        for case_id, place in new.items()
    ]
    return [New(IssueGathered(case_ids=tuple(new))), *linked]


def tell(body: str, now: datetime, issue: Issue, *cases: Case) -> list[New]:
    """One message for all its cases, which are given in its own order. Raises Unknown, Refused, Grown."""
    _gathers(issue, cases)
    message_id = f"{issue.issue_id}.{len(issue.messages) + 1}"
    said = CaseIssueMessage(issue_id=issue.issue_id, message_id=message_id, body=body)
    return [
        New(IssueMessageSent(message_id=message_id, body=body)),
        *_on_each(issue, said, f"told {message_id}", cases),
    ]


def resolve(code: str, now: datetime, issue: Issue, *cases: Case) -> list[New]:
    """One resolution for all its cases; the same again is no event. Raises Unknown, Refused, Grown."""
    if issue.stage is Stage.RESOLVED and issue.ended_because == code:
        return []
    _gathers(issue, cases)
    said = CaseIssueResolved(issue_id=issue.issue_id, code=code)
    return [New(IssueResolved(code=code)), *_on_each(issue, said, "resolved", cases)]


def _on_each(issue: Issue, said: CaseIssueMessage | CaseIssueResolved, what: str, cases: tuple[Case, ...]) -> list[New]:
    return [New(said, id=_id(issue, what, case.case_id), stream=place) for place, case in enumerate(cases, 1)]


def _id(issue: Issue, what: str, case_id: str) -> str:
    """Once per issue, thing and case."""
    return named(f"{issue.subject}/{what}/{case_id}")


def _gathers(issue: Issue, cases: tuple[Case, ...]) -> None:
    _must_exist(issue)
    _must_be(issue, Stage.ACCEPTED)
    if tuple(case.case_id for case in cases) != issue.case_ids:
        raise Grown("cases were linked at the same moment; try again")


def _must_exist(issue: Issue) -> None:
    if not issue.exists:
        raise Unknown("there is no issue under this id")


def _must_be(issue: Issue, *stages: Stage) -> None:
    if issue.stage not in stages:
        raise Refused(f"this issue is {issue.stage}, not {' or '.join(stages)}")
