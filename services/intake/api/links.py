"""Two cases that are one: link."""

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field

from events.case import Category
from events.errors import Invalid
from events.event import Label
from events.operations import Role
from services.intake.decide import links
from services.intake.decide.cases import FOLD, Life
from services.web import Answer, Caller, CaseId, Door, Order, written


class LinkOrder(Order):
    """What the case is to another one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "relation": "duplicate_of",
                    "case_id": "00000000-0000-4000-8000-000000000000",
                    "reason": "the customer wrote twice",
                }
            ]
        }
    )

    relation: Literal["duplicate_of"]
    case_id: CaseId = Field(description="The case that goes on.")
    reason: Label


class Linked(Answer):
    case_id: str
    duplicate_of: str
    episode: int
    category: Category


def add(router: APIRouter, door: Door) -> None:
    """The route `/v1/cases/{case_id}:link`."""
    host, links_them = door.host, door.caller(Role.AGENT, Role.LEAD)

    @router.post("/v1/cases/{case_id}:link", summary="Say that a case is another's duplicate")
    async def link(
        case_id: CaseId, order: LinkOrder, response: Response, caller: Annotated[Caller, links_them]
    ) -> Linked:
        """The case is resolved as `duplicate` if it is open, and the other one goes on; the walks of both say it.

        Nothing moves from one to the other: each keeps its contacts and its clocks, and what was breached stays
        breached. Linking twice is linking once. Reopen the case to undo it.
        """
        if order.case_id == case_id:
            raise Invalid("case_id: a case is no duplicate of itself")
        changed = await host.store.change(
            FOLD(case_id),
            FOLD(order.case_id),
            decision=partial(links.link, order.reason),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, case_id=case_id),
        )
        written(response, changed)
        life: Life = changed.states[0]
        return Linked(
            case_id=case_id, duplicate_of=order.case_id, episode=life.case.episode, category=life.case.category
        )
