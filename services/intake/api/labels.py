"""What is said about a case and moves it nowhere: classify, flag."""

from functools import partial
from typing import Annotated, Self

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field, model_validator

from events.case import CaseFlagged, Priority
from events.event import Label, Ref
from events.operations import Role
from services.intake.api.contacts import When, change
from services.intake.decide import labels
from services.intake.decide.cases import Life
from services.web import Answer, Caller, CaseId, Door, written


class ClassifyOrder(When):
    """How the case is seen from now on: at least one of priority, tier and journey. What is left out stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"priority": "urgent", "tier": "gold", "reason": "the customer called again"}]}
    )

    priority: Priority | None = Field(default=None, description="Who waits is served by it, the most urgent first.")
    tier: Ref | None = Field(default=None, description="What the customer is to you: `gold`, `business` …")
    journey: Ref | None = Field(default=None, description="The case stays in its queue; transfer it to move it.")
    reason: Label

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.priority is None and self.tier is None and self.journey is None:
            raise ValueError("say priority, tier or journey, or several of them")
        return self


class FlagOrder(When):
    """Something was noticed that may need more than a queue."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"flag": "regulator", "reason": "the customer names the ombudsman"}]}
    )

    flag: Ref = Field(description="`sentiment`, `keyword`, `regulator`, `legal` … as your ladders name it.")
    reason: Label


class Classified(Answer):
    """How the case is seen now."""

    case_id: str
    priority: Priority | None
    tier: str | None
    journey: str | None


class Flagged(Answer):
    case_id: str
    episode: int
    flag: str


def add(router: APIRouter, door: Door) -> None:
    """The routes `/v1/cases/{case_id}:classify` and `:flag`."""
    host, says = door.host, door.caller(Role.CHANNEL, Role.AGENT, Role.LEAD)

    @router.post("/v1/cases/{case_id}:classify", summary="See a case otherwise")
    async def classify(
        case_id: CaseId, order: ClassifyOrder, response: Response, caller: Annotated[Caller, says]
    ) -> Classified:
        """Give the case another priority, tier or journey, which its promises follow.

        The same values again change nothing. A closed case takes none.
        """
        wanted = labels.Classification(order.priority, order.tier, order.journey)
        decision = partial(labels.classify, wanted, order.reason, order.occurred_at)
        changed = await change(host, case_id, decision, caller, order)
        written(response, changed)
        life: Life = changed.states[0]
        return Classified(case_id=case_id, priority=life.case.priority, tier=life.case.tier, journey=life.case.journey)

    @router.post("/v1/cases/{case_id}:flag", summary="Say what was noticed about a case")
    async def flag(case_id: CaseId, order: FlagOrder, response: Response, caller: Annotated[Caller, says]) -> Flagged:
        """Raise a flag, which a ladder may escalate the case for.

        The same flag again changes nothing until the next episode. A closed case takes none.
        """
        raised = CaseFlagged(flag=order.flag, reason=order.reason)
        changed = await change(host, case_id, partial(labels.flag, raised, order.occurred_at), caller, order)
        written(response, changed)
        life: Life = changed.states[0]
        return Flagged(case_id=case_id, episode=life.case.episode, flag=order.flag)
