"""Mass issues are proposed, accepted or not, gather cases, and are told and resolved once for all of them."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Annotated
from uuid import uuid4, uuid5

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from events.errors import Invalid, Unknown
from events.event import NAMESPACE, Label, Ref, Text
from events.operations import Role
from events.store import Changed, Decision
from services.escalation.api.configuration import ConfigId
from services.escalation.decide import issues as decide
from services.escalation.decide.case import FOLD
from services.escalation.decide.issues import ISSUE, Grown, Issue, Stage
from services.escalation.views import issues as views
from services.web import Answer, Caller, CaseId, Cursor, Door, Limit, Order, next_link, parse_cursor, written
from services.web import cursor as cursor_of

TRIES = 5
"""How often a change for all cases of an issue is decided again because others were linked meanwhile."""


class ProposeOrder(Order):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "Hub closed by snow", "reason": "40 cases since this morning"}]}
    )

    issue_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = Field(
        default=None, description="What it is to be called by; left out: Casewalk makes an id."
    )
    title: Label
    reason: Label


class AcceptIssueOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"owner": "olga"}]})

    owner: Ref = Field(description="The agent who leads it.")


class EndOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "two causes, not one"}]})

    reason: Label


class LinkOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"case_ids": ["0195571e-8a00-7000-8000-000000000001"]}]})

    case_ids: tuple[CaseId, ...] = Field(min_length=1, max_length=200)


class TellOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"body": "Your parcel is late: snow closed a hub."}]})

    body: Text = Field(description="The same for everybody and about nobody: no names, no addresses.")


class SolveOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "delivered"}, {}]})

    code: Ref = "solved"


class IssueLine(Answer):
    issue_id: str
    title: str
    reason: str
    stage: Stage
    owner: str | None
    ended_because: str | None = Field(description="Why it was rejected or cancelled, or the code it was resolved with.")
    proposed_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    cases: int = Field(description="How many belong to it.")


class IssueAnswer(IssueLine):
    case_ids: tuple[str, ...]
    messages: tuple[str, ...] = Field(description="The ids of the messages that were sent.")


class Issues(Answer):
    items: list[IssueLine]


def _line(issue: Issue) -> IssueLine:
    names = IssueLine.model_fields.keys() - {"cases"}
    return IssueLine(cases=len(issue.case_ids), **{name: getattr(issue, name) for name in names})


def _issue(issue: Issue) -> IssueAnswer:
    return IssueAnswer(**_line(issue).model_dump(), case_ids=issue.case_ids, messages=issue.messages)


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/issues`."""
    _add_issues(router, door)
    _add_stages(router, door)
    _add_cases(router, door)


def _add_issues(router: APIRouter, door: Door) -> None:
    host, reads = door.host, door.caller(Role.READER, Role.AGENT, Role.LEAD)

    @router.get("/v1/issues", summary="Mass issues, the oldest first")
    async def issues(
        request: Request,
        response: Response,
        caller: Annotated[Caller, reads],
        stage: Annotated[Stage | None, Query(description="Only these.")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Issues:
        """One cause behind many cases each, as it stands."""
        rows = await host.database.rows(views.page_of_issues(stage, limit, _position(cursor)))
        items = [views.ISSUES.decode(row) for row in rows[:limit]]
        next_link(request, response, _after(items[-1]) if len(rows) > limit else None)
        return Issues(items=[_line(item) for item in items])

    @router.get("/v1/issues/{issue_id}", summary="One mass issue")
    async def issue(issue_id: ConfigId, response: Response, caller: Annotated[Caller, reads]) -> IssueAnswer:
        """With the cases that belong to it."""
        state, version = await host.store.state(ISSUE(f"issue:{issue_id}"))
        if not state.exists:
            raise Unknown("there is no issue under this id")
        response.headers["ETag"] = f'"{version}"'
        return _issue(state)

    @router.post("/v1/issues", summary="Propose a mass issue", status_code=201)
    async def propose(
        order: ProposeOrder, response: Response, caller: Annotated[Caller, door.caller(Role.AGENT, Role.LEAD)]
    ) -> IssueAnswer:
        """Many cases, one cause. It gathers none before somebody who runs the operation accepts it.

        The same proposal under the same id again changes nothing.
        """
        issue_id = order.issue_id or _made(caller)
        changed = await host.store.change(
            ISSUE(f"issue:{issue_id}"),
            decision=partial(decide.propose, order.title, order.reason),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 201, issue_id=issue_id),
        )
        written(response, changed)
        return _issue(changed.states[0])


def _add_stages(router: APIRouter, door: Door) -> None:
    leads = door.caller(Role.LEAD)

    async def change(
        issue_id: str, order: Order, caller: Caller, response: Response, decision: Decision
    ) -> IssueAnswer:
        changed = await _change(door, issue_id, (), order, caller, decision)
        written(response, changed)
        return _issue(changed.states[0])

    @router.post("/v1/issues/{issue_id}:accept", summary="Accept a mass issue")
    async def accept(
        issue_id: ConfigId, order: AcceptIssueOrder, response: Response, caller: Annotated[Caller, leads]
    ) -> IssueAnswer:
        """It is one: from here on it gathers cases."""
        return await change(issue_id, order, caller, response, partial(decide.accept, order.owner))

    @router.post("/v1/issues/{issue_id}:reject", summary="Reject a mass issue")
    async def reject(
        issue_id: ConfigId, order: EndOrder, response: Response, caller: Annotated[Caller, leads]
    ) -> IssueAnswer:
        """It is none."""
        return await change(issue_id, order, caller, response, partial(decide.reject, order.reason))

    @router.post("/v1/issues/{issue_id}:cancel", summary="Cancel a mass issue")
    async def cancel(
        issue_id: ConfigId, order: EndOrder, response: Response, caller: Annotated[Caller, leads]
    ) -> IssueAnswer:
        """It does not matter any more, proposed or accepted. Its cases go on by themselves."""
        return await change(issue_id, order, caller, response, partial(decide.cancel, order.reason))


def _add_cases(router: APIRouter, door: Door) -> None:
    host, leads = door.host, door.caller(Role.LEAD)

    async def change_all(
        issue_id: str, order: Order, caller: Caller, response: Response, decision: Decision
    ) -> IssueAnswer:
        """Over the cases that belong to it now: those linked meanwhile make us read them again."""

        async def over_all() -> IssueAnswer:
            state, _ = await host.store.state(ISSUE(f"issue:{issue_id}"))
            changed = await _change(door, issue_id, state.case_ids, order, caller, decision)
            written(response, changed)
            return _issue(changed.states[0])

        for _ in range(TRIES - 1):
            with suppress(Grown):
                return await over_all()
        return await over_all()

    @router.post("/v1/issues/{issue_id}:link", summary="Gather cases in a mass issue")
    async def link(
        issue_id: ConfigId,
        order: LinkOrder,
        response: Response,
        caller: Annotated[Caller, door.caller(Role.AGENT, Role.LEAD)],
    ) -> IssueAnswer:
        """What is told and resolved for the issue from here on goes for these cases, too."""
        changed = await _change(door, issue_id, tuple(dict.fromkeys(order.case_ids)), order, caller, decide.link)
        written(response, changed)
        return _issue(changed.states[0])

    @router.post("/v1/issues/{issue_id}:message", summary="Tell all customers of a mass issue")
    async def tell(
        issue_id: ConfigId, order: TellOrder, response: Response, caller: Annotated[Caller, leads]
    ) -> IssueAnswer:
        """One message; a moment later intake has it on every case that is not closed."""
        return await change_all(issue_id, order, caller, response, partial(decide.tell, order.body))

    @router.post("/v1/issues/{issue_id}:resolve", summary="Resolve a mass issue")
    async def resolve(
        issue_id: ConfigId, order: SolveOrder, response: Response, caller: Annotated[Caller, leads]
    ) -> IssueAnswer:
        """One resolution; a moment later intake has resolved every case of it that is open."""
        return await change_all(issue_id, order, caller, response, partial(decide.resolve, order.code))


async def _change(
    door: Door,
    issue_id: str,
    case_ids: Sequence[str],
    order: Order,
    caller: Caller,
    decision: Decision,
) -> Changed:
    """Over the issue and these cases."""
    return await door.host.store.change(
        ISSUE(f"issue:{issue_id}"),
        *(FOLD(case_id) for case_id in case_ids),
        decision=decision,
        actor=caller.actor,
        expected=caller.expected,
        once=caller.once(order, 200, issue_id=issue_id),
    )


def _made(caller: Caller) -> str:
    """The same for every repeat of a request that brought an idempotency key."""
    return str(uuid5(NAMESPACE, f"{caller.scope}/{caller.idempotency_key}") if caller.idempotency_key else uuid4())


def _position(text: str | None) -> tuple[datetime, str] | None:
    values = parse_cursor(text, 2)
    if values is None:
        return None
    try:
        return datetime.fromisoformat(values[0]).astimezone(UTC), values[1]
    except (ValueError, OverflowError) as error:
        raise Invalid("this cursor is not one of ours") from error


def _after(issue: Issue) -> str:
    assert issue.proposed_at is not None
    return cursor_of(issue.proposed_at.isoformat(), issue.subject)
