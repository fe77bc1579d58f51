"""A case's clocks, and where every minute of them went."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, Field

from events.case import ClockKind
from events.operations import Role
from services.escalation import calendars
from services.escalation.clocks import Clock, ClockState, Times
from services.escalation.decide.case import FOLD
from services.escalation.holidays import tzdata_version
from services.escalation.views import calendars as views
from services.web import Answer, Caller, CaseId, Door

SEGMENTS = 400
"""As many are told one by one; those before are summed up, one entry for each reason and version."""


class WarningAnswer(Answer):
    percent: int
    at: AwareDatetime


class SegmentAnswer(Answer):
    since: AwareDatetime
    until: AwareDatetime
    counted: bool
    why: str = Field(description="`working time`, `outside working hours`, `holiday`, `exception`, `paused: …`.")
    seconds: float = Field(description="Of a sum, those of its pieces alone.")
    pieces: int = Field(
        description="1; more where the first minutes of a long clock are summed up, one entry a reason."
    )
    promise: str | None = Field(description="The version that held then: id@version.")
    calendar: str | None = Field(description="The version that held then; null: all time counts.")


class ClockAnswer(Answer):
    clock: ClockKind
    episode: int
    turn: int = Field(description="1, 2, 3 … within the episode where a kind repeats in it, else 0.")
    owner: str | None = Field(description="Whose time it is, for an ownership clock.")
    state: ClockState
    promise: str | None = Field(description="The version that applies: id@version; null where nothing is promised.")
    calendar: str | None = Field(description="id@version.")
    started_at: AwareDatetime
    due_at: AwareDatetime | None = Field(description="Null while it is paused, or where nothing is promised.")
    tzdata: str | None = Field(description="The version of the time zone data that `due_at` was computed with.")
    warnings: list[WarningAnswer] = Field(description="Those to come.")
    warned: list[int] = Field(description="The percentages that were warned of.")
    stopped_at: AwareDatetime | None
    target_s: int | None
    elapsed_s: int = Field(description="Up to the stop, or to now.")
    remaining_s: int | None = Field(description="Of the target; never below 0.")
    kept: bool | None = Field(description="Whether the promise was kept; null while that is open, or without one.")
    ignored_s: int = Field(description="Of the pauses that have ended, after the customer had come in again.")
    fires: bool = Field(description="False in another system's history: it is measured, and nobody is warned of it.")
    segments: list[SegmentAnswer] = Field(description="Every moment from the start to the stop, or to now, once.")


class Clocks(Answer):
    items: list[ClockAnswer]
    promises: list[str] = Field(
        description="What the case is judged by, in the order of asking: id@version. Imported history is not judged by"
        " these: its clocks say what they go by."
    )
    tzdata: str | None = Field(description="The version of the time zone data that was reckoned with.")


def _clock(clock: Clock, times: Times, now: datetime) -> ClockAnswer:
    span = clock.span
    return ClockAnswer(
        clock=clock.kind,
        episode=clock.episode,
        turn=clock.turn,
        owner=clock.owner,
        state=clock.state,
        promise=span.promise,
        calendar=span.calendar,
        started_at=clock.started_at,
        due_at=clock.due_at,
        tzdata=clock.tzdata,
        warnings=[WarningAnswer(percent=warning.percent, at=warning.at) for warning in clock.warnings],
        warned=sorted(clock.warned),
        stopped_at=clock.ended_at,
        target_s=span.target_s,
        elapsed_s=times.elapsed_s(clock, now) if clock.elapsed_s is None else clock.elapsed_s,
        remaining_s=times.remaining_s(clock, now),
        kept=clock.verdict,
        fires=clock.fires,
        ignored_s=sum(pause.ignored_s for pause in clock.pauses),
        segments=summed_up(list(_segments(clock, times, now))),
    )


def _segments(clock: Clock, times: Times, now: datetime) -> Iterator[SegmentAnswer]:
    """Why each moment counted or did not, by what held then."""
    end = clock.ended_at or now
    pauses = [(pause.since, pause.until) for pause in clock.pauses]
    edges = sorted({edge for pause in clock.pauses for edge in (pause.since, pause.ignored_since) if edge is not None})
    for span, after in pairwise((*clock.spans, None)):
        assert span is not None
        until = end if after is None else min(end, after.since)
        since = max(span.since, clock.started_at)
        cuts = [since, *(edge for edge in edges if since < edge < until), until]
        for first, last in pairwise(cuts):
            for piece in calendars.segments(times.timetable(span), first, last, pauses):
                yield SegmentAnswer(
                    since=piece.since,
                    until=piece.until,
                    counted=piece.counted,
                    why=_why(clock, piece),
                    seconds=piece.seconds,
                    pieces=1,
                    promise=span.promise,
                    calendar=span.calendar,
                )


def _why(clock: Clock, piece: calendars.Segment) -> str:
    if piece.why is not calendars.Why.PAUSED:
        return piece.why
    pause = max((one for one in clock.pauses if one.since <= piece.since), key=lambda one: one.since)
    ignored = pause.ignored_since is not None and pause.ignored_since <= piece.since
    return f"paused: {pause.reason.replace('_', ' ')}" + (" (the customer had come in again)" if ignored else "")


def summed_up(told: Sequence[SegmentAnswer]) -> list[SegmentAnswer]:
    """The last ones as they are, and before them one sum for each reason and version: no minute is left out."""
    early = told[: max(0, len(told) - SEGMENTS)]
    sums: dict[tuple[str, str | None, str | None], list[SegmentAnswer]] = {}
    for one in early:
        sums.setdefault((one.why, one.promise, one.calendar), []).append(one)
    summed = [
        of[0].model_copy(update={"until": of[-1].until, "seconds": sum(s.seconds for s in of), "pieces": len(of)})
        for of in sums.values()
    ]
    return [*summed, *told[len(early) :]]


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/clocks`."""
    host, reads = door.host, door.caller(Role.READER, Role.AGENT, Role.LEAD)

    @router.get("/v1/clocks", summary="The clocks of a case")
    async def clocks(
        case: Annotated[CaseId, Query(description="The case id.")], response: Response, caller: Annotated[Caller, reads]
    ) -> Clocks:
        """Every clock the case ever had, by episode: what was promised, how much time is left, whether it was kept,
        and where every minute of it went.

        A case without clocks, or without existence, has none: the list is empty.
        """
        state, version = await host.store.state(FOLD(case))
        response.headers["ETag"] = f'"{version}"'
        async with host.database.readers.acquire() as conn:
            now = await conn.fetchval("select clock_timestamp()")
            tzdata = tzdata_version()
            refs = {span.calendar for clock in state.clocks.values() for span in clock.spans if span.calendar}
            times = Times({ref: await views.timetable_of(conn, ref) for ref in sorted(refs)}, tzdata)
        ordered = sorted(state.clocks.values(), key=lambda clock: (clock.episode, clock.kind, clock.turn))
        items = [_clock(clock, times, now) for clock in ordered]
        return Clocks(items=items, promises=list(state.promises), tzdata=tzdata)
