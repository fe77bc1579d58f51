"""Metrics' doors: walks, figures, and what the figures mean."""

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from events.errors import Unknown
from events.operations import Role
from services.metrics import shares
from services.metrics.definitions import FIGURES
from services.metrics.facts import Verdict
from services.metrics.figures import Asked, Bucket, Dimension, answer, parse_where, statement
from services.metrics.kinds import Kind
from services.metrics.shares import SHARES, Share
from services.metrics.views import DEFINITIONS
from services.metrics.walks import Detail, Line, Walk, walk
from services.runtime import Host
from services.web import Answer, Caller, CaseId, Cursor, Door, Limit, Time, next_link, parse_cursor
from services.web import cursor as cursor_of
from services.web.problems import PROBLEMS

# ---------------------------------------------------------------------------------------------------- shapes of answers


class LineAnswer(Answer):
    """One thing that happened."""

    id: str = Field(description="The event's id.")
    kind: Kind = Field(description="Only steps count as the walk; clocks, offers, labels and surveys stand beside it.")
    at: AwareDatetime
    what: str = Field(description="In plain words, with ids instead of names.")
    type: str = Field(description="The event's type.")
    who: str = Field(description="`agent:<id>`, `partner:<id>`, `key:<id>` or `service:<name>`.")
    where: str | None = Field(description="`queue:<id>`, `unit:<id>` or `partner:<id>`, if it says where the case is.")
    why: str | None = Field(description="The reason given, or the rule, contract, promise or code that applied.")
    spent_s: float | None = Field(description="Seconds since the step before; null for the first and beside the walk.")
    details: dict[str, Detail] = Field(description="All else the event says, except personal texts.")


class VerdictAnswer(Answer):
    """The four answers a walk ends in. Silence is never yes."""

    in_time: Verdict = Field(description="Did the last episode's resolution keep the promise?")
    accepted: Verdict = Field(description="Was the last episode's answer acceptable to the customer?")
    solved_alone: Verdict = Field(description="Did one first-line agent solve it alone?")
    escalated: Verdict = Field(description="Was an escalation unit asked to take it?")


class EvidenceAnswer(Answer):
    """Per answer, the ids of the events that decided it."""

    in_time: list[str]
    accepted: list[str]
    solved_alone: list[str]
    escalated: list[str]


class OverlapAnswer(Answer):
    since: AwareDatetime
    until: AwareDatetime | None = Field(description="null while it lasts.")
    holders: list[str] = Field(description="`agent:<id>`, `partner:<id>`, `unit:<id>` of an escalation unit.")


class WalkAnswer(Answer):
    case_id: str
    category: str
    episode: int
    handovers: int
    steps: list[LineAnswer]
    verdict: VerdictAnswer
    evidence: EvidenceAnswer
    overlaps: list[OverlapAnswer] = Field(
        description="When several had the case at once: handing it over takes a while."
    )


class FigureAnswer(Answer):
    """A figure: `value`, or named parts such as `median` and `percent`; null where facts are missing, never 0."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, int | float | None] = Field(init=False)

    n: int = Field(description="How many cases, clocks or answers it was computed from.")
    definition: str = Field(description="id@version: what it means.")
    missing: str | None = Field(default=None, description="Which facts are missing, where it is null.")


class CountedAnswer(Answer):
    """One case of a figure that is a share of cases."""

    case_id: str
    counted: bool = Field(description="Whether it is one of the figure's `n`.")
    verdict: Verdict = Field(description="`yes`: it is one of the figure's share.")
    why: str
    promise: str | None = Field(description="Of the last episode's resolution clock: id@version.")
    due_at: AwareDatetime | None = Field(description="Of that clock; null while it is paused, or without a promise.")
    ended_at: AwareDatetime | None = Field(description="When that clock stopped; null while it runs.")


class CountedCases(Answer):
    definition: str = Field(description="id@version: what the figure means.")
    items: list[CountedAnswer]


class GroupedFigures(Answer):
    by: str
    groups: dict[str, dict[str, FigureAnswer]] = Field(
        description="Value of the dimension → figures; `(none)` for cases that have no value there."
    )


class DefinitionAnswer(Answer):
    id: str
    version: int
    definition: str = Field(description="id@version, as figures name it.")
    name: str
    unit: str
    formula: str
    description: str
    source: str


class Definitions(Answer):
    items: list[DefinitionAnswer]


# -------------------------------------------------------------------------------------------------- shapes of questions

Condition = Annotated[str, StringConstraints(max_length=250, pattern=r"^[a-z]+=[^\x00-\x1f\x7f]+$")]

Where = Annotated[
    tuple[Condition, ...],
    Query(
        max_length=50,
        description=f"`<dimension>=<value>`, any number of times; the dimension is one of {', '.join(Dimension)}."
        " Several values of one dimension: any of them. Several dimensions: all of them.",
        openapi_examples={"one": {"value": ["market=de"]}, "two": {"value": ["market=de", "priority=high"]}},
    ),
]

_FIGURES_EXAMPLE = {
    "cases": {"value": 7554, "n": 7554, "definition": "cases@1"},
    "reopened": {"cases": 390, "percent": 6.886809, "n": 5663, "definition": "reopened@1"},
    "promise_kept": {
        "cases": None,
        "percent": None,
        "n": 0,
        "definition": "promise_kept@1",
        "missing": "no resolution clock here was stopped or breached",
    },
}

_WALK_EXAMPLE = {
    "case_id": "0195571e-8a00-7000-8000-000000000001",
    "category": "resolved",
    "episode": 1,
    "handovers": 0,
    "steps": [
        {
            "id": "6f5b1b0e-6c1e-5d0b-9d83-6f2f8a1f5c11",
            "kind": "step",
            "at": "2026-03-02T09:00:00Z",
            "what": "a customer came in by email",
            "type": "casewalk.case.opened.v1",
            "who": "key:mail",
            "where": None,
            "why": None,
            "spent_s": None,
            "details": {"channel": "email", "market": "de", "priority": "normal"},
        }
    ],
    "verdict": {"in_time": "yes", "accepted": "unknown", "solved_alone": "yes", "escalated": "no"},
    "evidence": {"in_time": [], "accepted": [], "solved_alone": [], "escalated": []},
    "overlaps": [],
}


def _example(value: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": value}}}}


# --------------------------------------------------------------------------------------------------------------- doors


def doors(host: Host) -> APIRouter:
    """The routes of `/v1/walks`, `/v1/figures` and `/v1/definitions`."""
    router = APIRouter(prefix="/v1", tags=["metrics"], responses=PROBLEMS)
    door = Door(host)
    _add_walks(router, host, door)
    _add_figures(router, host, door)
    return router


def _add_walks(router: APIRouter, host: Host, door: Door) -> None:
    reads = door.caller(Role.READER, Role.LEAD, Role.AGENT)

    @router.get("/walks/{case_id}", summary="A case from first contact to its end", responses=_example(_WALK_EXAMPLE))
    async def get_walk(
        case_id: Annotated[CaseId, Path(description="The case id.")], caller: Annotated[Caller, reads]
    ) -> WalkAnswer:
        """Everything that happened to the case, whichever service said it: when, who, where, why, how long it took,
        and the four answers it ends in. What nobody said is unknown."""
        done = walk(await host.history(case_id))
        if done is None:
            raise Unknown(f"no case {case_id} is known here")
        return _walk(done)

    @router.get("/definitions", summary="What the figures mean")
    async def get_definitions(caller: Annotated[Caller, reads]) -> Definitions:
        """Name, unit, formula and source of every figure, in the version in force."""
        table = DEFINITIONS.table
        rows = await host.database.rows(sa.select(table).order_by(table.c.definition))
        return Definitions(items=[_definition(dict(row)) for row in rows])


def _add_figures(router: APIRouter, host: Host, door: Door) -> None:
    reads = door.caller(Role.READER, Role.LEAD)

    @router.get(
        "/figures",
        summary="Figures over any cases",
        response_model_exclude_unset=True,
        responses=_example(_FIGURES_EXAMPLE),
    )
    async def get_figures(
        caller: Annotated[Caller, reads],
        where: Where = (),
        by: Annotated[
            Dimension | Bucket | None, Query(description="Split by a dimension, or by when cases were opened (UTC).")
        ] = None,
        from_: Annotated[Time | None, Query(alias="from", description="Cases opened then or later.")] = None,
        until: Annotated[Time | None, Query(description="Cases opened before then.")] = None,
    ) -> dict[str, FigureAnswer] | GroupedFigures:
        """An object by definition id; with `by` one such object per group. A case counts in the market, queue, unit …
        where it stands now. `/v1/definitions` says what each figure means."""
        asked = Asked(parse_where(where), by, from_, until)
        return answer(asked, [dict(row) for row in await host.database.rows(statement(asked.form), **asked.values)])

    @router.get("/figures/{figure}/cases", summary="A figure, case by case")
    async def get_cases(
        figure: Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,100}$", description=f"One of {', '.join(SHARES)}.")],
        caller: Annotated[Caller, reads],
        request: Request,
        response: Response,
        where: Where = (),
        from_: Annotated[Time | None, Query(alias="from", description="Cases opened then or later.")] = None,
        until: Annotated[Time | None, Query(description="Cases opened before then.")] = None,
        counted: Annotated[bool | None, Query(description="Only those that count, or only those that do not.")] = None,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> CountedCases:
        """Which cases the figure counted, for what, and why the others were left out: those with `counted` are the
        figure's `n`, and those of them with `verdict` yes its share. In the order of case ids."""
        share = SHARES.get(figure)
        if share is None:
            raise Unknown(f"{figure} is no figure that is a share of cases; those are {', '.join(SHARES)}")
        (after,) = parse_cursor(cursor, 1) or (None,)
        asked = Asked(parse_where(where), None, from_, until)
        found = shares.statement(share, asked.form, counted, after, limit + 1)
        rows = await host.database.rows(found, **asked.values)
        next_link(request, response, cursor_of(rows[limit - 1]["case_id"]) if len(rows) > limit else None)
        definition = next(one.definition for one in FIGURES if one.id == figure)
        return CountedCases(definition=definition, items=[_counted(share, dict(row)) for row in rows[:limit]])


def _counted(share: Share, row: dict[str, Any]) -> CountedAnswer:
    return CountedAnswer(
        case_id=row["case_id"],
        counted=row["counted"],
        verdict=row["verdict"],
        why=share.why(row),
        promise=row["clock_promise"],
        due_at=row["clock_due_at"],
        ended_at=row["clock_ended_at"],
    )


def _walk(done: Walk) -> WalkAnswer:
    return WalkAnswer(
        case_id=done.facts.case_id,
        category=done.facts.category,
        episode=done.facts.episode,
        handovers=done.facts.handovers,
        steps=[_line(line) for line in done.lines],
        verdict=VerdictAnswer(**done.verdict),
        evidence=EvidenceAnswer(**{name: list(ids) for name, ids in done.evidence.items()}),
        overlaps=[
            OverlapAnswer(since=overlap.since, until=overlap.until, holders=list(overlap.holders))
            for overlap in done.overlaps
        ],
    )


def _line(line: Line) -> LineAnswer:
    return LineAnswer(**vars(line))


def _definition(row: dict[str, Any]) -> DefinitionAnswer:
    id_ = row.pop("definition").removeprefix("definition:")
    return DefinitionAnswer(id=id_, definition=f"{id_}@{row['version']}", **row)
