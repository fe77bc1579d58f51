"""History of other systems comes in, a chunk of rows at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate, groupby
from operator import attrgetter
from time import monotonic
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import Field, StringConstraints, ValidationError

from events.case import CaseObserved, Category, Priority
from events.errors import CasewalkError, TooLarge, Unavailable
from events.event import Label, Moment, Ref, named
from events.operations import Role
from events.privacy import Keyring
from events.store import Changed
from services.intake.decide import cases as decide
from services.intake.decide.cases import Life, Row
from services.runtime import Host
from services.web import Answer, Caller, Door, Order

ROWS = 1000
"""Rows in one chunk."""

BESIDE_LIVE, LIVE_S = 100, 5.0
"""Rows recorded at once for so long after live work: it waits behind no more than these, wherever both go."""

NDJSON = "application/x-ndjson"

_EXAMPLE = (
    '{"case": "1-364285768", "ordinal": 1, "occurred_at": "2010-03-31T15:59:42+01:00", "category": "in_progress",'
    ' "code": "Accepted/In Progress", "unit": "V30", "line": "2", "agent": "Frederic"}\n'
    '{"case": "1-364285768", "ordinal": 2, "occurred_at": "2010-03-31T16:45:48+01:00", "category": "resolved",'
    ' "code": "Completed/Resolved", "resolution": true, "unit": "V30", "line": "2", "agent": "Frederic"}\n'
)


Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}@[1-9][0-9]{0,8}$")]
"""id@version of a promise."""


class ObservedRow(Order):
    """One row: what another system recorded about a case at one moment."""

    case: Label = Field(description="The case's id in the other system.")
    ordinal: int = Field(ge=1, le=2**53, description="The row's place within its case, as the other system counts.")
    occurred_at: Moment
    category: Category
    code: Label = Field(description="The other system's own status.")
    resolution: bool = Field(default=False, description="This step is a resolution in the other system's terms.")
    unit: Label | None = None
    line: Ref | None = Field(default=None, description="The unit's line of support: `1` is the first line.")
    agent: Label | None = Field(default=None, description="Who did it; only a keyed HMAC of it is kept.")
    channel: Ref | None = None
    market: Ref | None = None
    language: Ref | None = None
    journey: Ref | None = None
    priority: Priority | None = None


class RowAnswer(Answer):
    line: int = Field(description="The row's line in this chunk, from 1.")
    status: Literal["recorded", "known", "refused"]
    case_id: str | None = None
    detail: str | None = Field(default=None, description="Why the row was refused.")


class Imported(Answer):
    import_id: str
    recorded: int
    known: int = Field(description="Rows that were recorded before, by this import or another one.")
    refused: int
    rows: list[RowAnswer]


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    case_id: str
    row: Row


async def lines(request: Request) -> AsyncIterator[tuple[int, bytes]]:
    """The body's lines that are not blank, with their numbers from 1. Raises TooLarge at the first row too many."""
    number, rows, rest = 0, 0, b""
    async for part in request.stream():
        *whole, rest = (rest + part).split(b"\n")
        if not part:  # the stream's end: what is left is the last line
            whole, rest = [rest], b""
        for line in whole:
            number += 1
            if not line.strip():
                continue
            rows += 1
            if rows > ROWS:
                raise TooLarge(f"a chunk has at most {ROWS} rows; send the rest in the next one")
            yield number, line


class _Chunk:
    """Reads the lines of one chunk. What rows have in common, a case's id and who did it, is made once."""

    def __init__(self, profile: str, import_id: str, promises: tuple[str, ...], keyring: Keyring) -> None:
        self.profile, self.import_id, self.promises = profile, import_id, promises
        self._case_id = cache(lambda case: named(f"{profile}/{case}"))
        self._pseudonym = cache(keyring.pseudonym)

    def read(self, number: int, line: bytes) -> _Line | RowAnswer:
        """The row of one line, or why it is none."""
        try:
            asked = ObservedRow.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            return RowAnswer(
                line=number, status="refused", detail=f"{where}: {first['msg']}" if where else first["msg"]
            )
        facts = {
            **vars(asked),  # what an event does not know of a row, it ignores
            "import_id": self.import_id,
            "profile": self.profile,
            "agent": None if asked.agent is None else self._pseudonym(asked.agent),
            "external_id": asked.case,
            "promises": self.promises,
        }
        event_id = named(f"{self.profile}/{asked.case}/{asked.ordinal}")
        row = Row(CaseObserved.model_validate(facts), asked.occurred_at, event_id)
        return _Line(number, self._case_id(asked.case), row)


class _Recorder:
    """Records rows, in few commits while it is alone, and in small portions beside live work."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._own = self._others = 0
        self._live_at = monotonic()
        """When live work was last seen; on starting nobody knows."""

    async def record(self, actor: str, read: Sequence[_Line]) -> list[RowAnswer]:
        """Every case's rows as one change. Raises Busy and Unavailable: what is recorded by then is known next time."""
        by_case = [list(rows) for _, rows in groupby(sorted(read, key=attrgetter("case_id")), attrgetter("case_id"))]
        answers: list[RowAnswer] = []
        while by_case:
            if answers:
                await self.host.import_gate()
            portion = by_case[: self._at_once(by_case)]
            by_case = by_case[len(portion) :]
            self._own += len(portion)
            answers += await _record(self.host, actor, portion)
        return answers

    def _at_once(self, by_case: Sequence[list[_Line]]) -> int:
        """How many of these cases: one at least."""
        now, others = monotonic(), self.host.store.asked - self._own
        if others != self._others:
            self._others, self._live_at = others, now
        if now - self._live_at > LIVE_S:
            return len(by_case)
        return sum(rows <= BESIDE_LIVE for rows in accumulate(map(len, by_case))) or 1


async def _record(host: Host, actor: str, by_case: Sequence[list[_Line]]) -> list[RowAnswer]:
    outcomes = await asyncio.gather(
        *(
            host.store.change(
                decide.FOLD(rows[0].case_id),
                decision=partial(decide.observe, [line.row for line in rows]),
                actor=actor,
            )
            for rows in by_case
        ),
        return_exceptions=True,
    )
    return [answer for rows, outcome in zip(by_case, outcomes, strict=True) for answer in _answers(rows, outcome)]


def _answers(rows: Sequence[_Line], outcome: Changed | BaseException) -> Iterator[RowAnswer]:
    match outcome:
        case Changed(events=events, states=(Life() as life,)):
            recorded = {(event.id, event.occurred_at) for event in events}
            for line in rows:
                yield _answer(line, life, recorded)
        case CasewalkError() if not isinstance(outcome, Unavailable):
            for line in rows:
                yield RowAnswer(line=line.number, status="refused", case_id=line.case_id, detail=outcome.message)
        case BaseException():
            raise outcome


def _answer(line: _Line, life: Life, recorded: set[tuple[str, Any]]) -> RowAnswer:
    """What came of one row. A recorded one is taken out of `recorded`: the same row again in one chunk is known."""
    if (line.row.id, line.row.at) in recorded:
        recorded.remove((line.row.id, line.row.at))
        return RowAnswer(line=line.number, status="recorded", case_id=line.case_id)
    if line.row.observed.ordinal in life.ordinals:
        return RowAnswer(line=line.number, status="known", case_id=line.case_id)
    detail = "occurred_at: before 1970, or more than 5 minutes ahead of our clock"
    return RowAnswer(line=line.number, status="refused", detail=detail)


_ROW = ObservedRow.model_json_schema(ref_template="#/components/schemas/{model}")
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"One JSON object per line, shaped like `x-row`; at most {ROWS} rows and 4 MiB.",
        "content": {
            NDJSON: {
                "schema": {"type": "string", "x-row": {k: v for k, v in _ROW.items() if k != "$defs"}},
                "example": _EXAMPLE,
            }
        },
    }
}


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/imports`."""
    host = door.host
    recorder = _Recorder(host)
    imports = door.caller(Role.CHANNEL, Role.LEAD)

    @router.post(
        "/v1/imports",
        summary="Import a chunk of another system's history",
        openapi_extra=_BODY,
        response_model_exclude_none=True,
    )
    async def take(
        request: Request,
        response: Response,
        caller: Annotated[Caller, imports],
        profile: Annotated[
            str, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Which log the rows are from.")
        ],
        import_id: Annotated[
            Ref | None, Query(description="What figures of these rows are asked by; made for you, if you give none.")
        ] = None,
        promises: Annotated[
            tuple[Version, ...],
            Query(
                max_length=20,
                description="id@version of promises that the history is judged by, any number of times."
                " It counts with the first row of a case that comes in.",
            ),
        ] = (),
    ) -> Imported:
        """Rows become one `casewalk.case.observed.v1` each, at their original times; nothing is routed. Without
        `promises` nothing is clocked either; with them it is restated what was kept, and nobody is warned of anything.

        A row's identity is (profile, case, ordinal): sent again it is `known`, so that a broken import is simply
        repeated. A row that cannot be taken is `refused` by itself. There is no `Casewalk-Position`: a chunk is written
        to as many streams as it has cases. While live work needs the machine the answer is
        429: send the same chunk again after `Retry-After`.
        """
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != NDJSON:
            raise HTTPException(415, f"send the rows as {NDJSON}, one JSON object per line")
        await host.import_gate()
        import_id = import_id or str(uuid4())
        chunk = _Chunk(profile, import_id, promises, host.keyring)
        read = [chunk.read(number, line) async for number, line in lines(request)]
        answers = [one for one in read if isinstance(one, RowAnswer)]
        answers += await recorder.record(caller.actor, [one for one in read if isinstance(one, _Line)])
        answers.sort(key=attrgetter("line"))
        counts = {status: sum(a.status == status for a in answers) for status in ("recorded", "known", "refused")}
        return Imported(import_id=import_id, rows=answers, **counts)
