"""A case's clocks, read from its stream."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, Field

from events.case import ClockKind
from events.operations import Role
from services.escalation.clocks import Clock, ClockState
from services.escalation.decide.case import FOLD
from services.web import Answer, Caller, CaseId, Door


class ClockAnswer(Answer):
    clock: ClockKind
    episode: int
    state: ClockState
    promise: str = Field(description="The version that applies: id@version.")
    calendar: str = Field(description="id@version.")
    started_at: AwareDatetime
    warn_at: AwareDatetime
    due_at: AwareDatetime
    stopped_at: AwareDatetime | None
    target_s: int
    elapsed_s: int = Field(description="Up to the stop, or to now.")
    remaining_s: int = Field(description="Of the target; never below 0.")
    kept: bool | None = Field(description="Whether the promise was kept; null while that is open.")


class Clocks(Answer):
    items: list[ClockAnswer]


def _clock(clock: Clock, now: datetime) -> ClockAnswer:
    return ClockAnswer(
        clock=clock.kind,
        episode=clock.episode,
        state=clock.state,
        promise=clock.promise,
        calendar=clock.calendar,
        started_at=clock.started_at,
        warn_at=clock.warn_at,
        due_at=clock.due_at,
        stopped_at=clock.stopped_at,
        target_s=clock.target_s,
        elapsed_s=clock.elapsed_s(now),
        remaining_s=clock.remaining_s(now),
        kept=clock.kept,
    )


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/clocks`."""
    host, reads = door.host, door.caller(Role.READER, Role.AGENT, Role.LEAD)

    @router.get("/v1/clocks", summary="The clocks of a case")
    async def clocks(
        case: Annotated[CaseId, Query(description="The case id.")], response: Response, caller: Annotated[Caller, reads]
    ) -> Clocks:
        """Every clock the case ever had, by episode: what was promised, how much time is left, whether it was kept.

        A case without clocks, or without existence, has none: the list is empty.
        """
        state, version = await host.store.state(FOLD(case))
        now = await host.database.readers.fetchval("select clock_timestamp()")
        response.headers["ETag"] = f'"{version}"'
        ordered = sorted(state.clocks, key=lambda clock: (clock.episode, clock.kind))
        return Clocks(items=[_clock(clock, now) for clock in ordered])
