"""What every service has for those who run it: parked cases, effects, views, rebuild, verify."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, Field

from events import effects, parking
from events.effects import EffectState
from events.errors import CasewalkError, Invalid, Unknown
from events.operations import Role
from services.runtime.host import Host
from services.web import Answer, Caller, Cursor, Door, Limit, next_link, parse_cursor
from services.web import cursor as cursor_of
from services.web.problems import PROBLEMS

PositionId = Annotated[int, Path(ge=1, le=2**63 - 1)]
ViewName = Annotated[str, Path(pattern=r"^[a-z_]{1,64}$")]
EffectId = Annotated[str, Path(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]


class ParkedRecord(Answer):
    """A record that waits, and why."""

    id: int
    consumer: str
    topic: str
    subject: str
    source: str | None
    sequence: int | None
    error: str
    attempts: int
    asked: bool
    parked_at: str


class Parked(Answer):
    items: list[ParkedRecord]


class Asked(Answer):
    waiting: int
    """Records of the case that will be tried again, in order."""


class ViewState(Answer):
    name: str
    version: int
    inline: bool
    table: str


class Views(Answer):
    items: list[ViewState]


class EffectAnswer(Answer):
    """Something done outside, such as a mail: what it is about, and how far it got."""

    id: str = Field(description="The Message-ID's first part, or the webhook-id.")
    target: str
    kind: str
    subject: str
    state: EffectState
    due_at: AwareDatetime
    attempts: int
    repeats: int = Field(description="How often it was sent although it may have arrived before.")
    error: str | None
    created_at: AwareDatetime
    sent_at: AwareDatetime | None


class Effects(Answer):
    items: list[EffectAnswer]


class Again(Answer):
    id: str


NDJSON: dict[int | str, dict[str, Any]] = {
    200: {
        "description": 'Lines of JSON while it works, `{"read": records}`, and a last one with `"done": true`.',
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    }
}


def _place(text: str | None) -> int:
    """The place in the queue that a cursor names. Raises Invalid."""
    values = parse_cursor(text, 1)
    if values is None:
        return 0
    if not (values[0].isascii() and values[0].isdigit() and len(values[0]) < 19):
        raise Invalid("this cursor is not one of ours")
    return int(values[0])


def doors(host: Host) -> APIRouter:
    """The doors under /v1/ops/{service}."""
    door, name = Door(host), host.service.name
    router = APIRouter(prefix=f"/v1/ops/{name}", tags=["operations"], responses=PROBLEMS)

    @router.get("/parked", summary=f"Cases that {name} could not take further", operation_id=f"{name}_parked")
    async def parked(
        request: Request,
        response: Response,
        caller: Caller = door.caller(Role.LEAD),
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Parked:
        """What is parked, with the reason, the oldest first. A parked case holds back its own later records only."""
        rows = await host.database.readers.fetch(
            "select * from parked where position > $1 order by position limit $2", _place(cursor), limit + 1
        )
        next_link(request, response, cursor_of(str(rows[limit - 1]["position"])) if len(rows) > limit else None)
        return Parked(items=[_parked(row) for row in rows[:limit]])

    @router.post("/parked/{position}:retry", summary="Try a parked case again", operation_id=f"{name}_retry")
    async def retry(position: PositionId, caller: Caller = door.caller(Role.LEAD)) -> Asked:
        """All that is parked of the same case is tried again, in order, by whoever works on its partition."""
        async with host.database.writers.acquire() as conn:
            waiting = await parking.ask(conn, position)
        if not waiting:
            raise Unknown(f"nothing that can be tried again is parked under {position}")
        return Asked(waiting=waiting)

    @router.delete("/parked/{position}", summary="Throw away bytes that are no event", operation_id=f"{name}_drop")
    async def drop(position: PositionId, caller: Caller = door.caller()) -> Asked:
        """Only records that cannot be read as events can be thrown away."""
        async with host.database.writers.acquire() as conn:
            if not await parking.drop(conn, position):
                raise Unknown(f"no unreadable record is parked under {position}")
        return Asked(waiting=0)

    _add_effects(router, door)

    @router.get("/views", summary=f"The views of {name}", operation_id=f"{name}_views")
    async def views(caller: Caller = door.caller(Role.LEAD)) -> Views:
        """Every view with its active version."""
        inline = {view.name for view in host.service.inline}
        rows = await host.database.readers.fetch("select name, version, table_name from view order by name")
        return Views(
            items=[
                ViewState(name=r["name"], version=r["version"], inline=r["name"] in inline, table=r["table_name"])
                for r in rows
            ]
        )

    @router.post(
        "/views/{view}:rebuild",
        summary="Build a view anew from the log",
        operation_id=f"{name}_rebuild",
        response_class=StreamingResponse,
        responses=NDJSON,
    )
    async def rebuild(view: ViewName, caller: Caller = door.caller(Role.LEAD)) -> StreamingResponse:
        """Beside the running one, then switched in one transaction; `all` rebuilds every view of the service."""

        async def work(tick: Callable[[int], None]) -> list[dict[str, Any]]:
            return [{"view": v.name, "rows": await host.replay.rebuild(v, tick)} for v in chosen]

        chosen = host.replay.named(view)
        return _stream(work)

    @router.get(
        "/verify",
        summary=f"Compare every view of {name} with a replay",
        operation_id=f"{name}_verify",
        response_class=StreamingResponse,
        responses=NDJSON,
    )
    async def verify(caller: Caller = door.caller(Role.LEAD)) -> StreamingResponse:
        """While cases keep coming: each view is compared at one moment. Parked cases are left out and listed."""

        async def work(tick: Callable[[int], None]) -> list[dict[str, Any]]:
            verdicts = [await host.replay.verify(view, tick) for view in host.replay.named("all")]
            return [{**asdict(verdict), "equal": verdict.equal} for verdict in verdicts]

        return _stream(work)

    return router


def _add_effects(router: APIRouter, door: Door) -> None:
    host, name = door.host, door.host.service.name

    @router.get("/effects", summary=f"Mails and webhooks of {name}", operation_id=f"{name}_effects")
    async def effects_(
        request: Request,
        response: Response,
        caller: Caller = door.caller(Role.LEAD),
        state: Annotated[EffectState | None, Query(description="Only these; `dead` are those given up.")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Effects:
        """What was or is to be sent, the oldest first, without addresses. What is done with is listed for 30 days."""
        after = _after(cursor)
        async with host.database.readers.acquire() as conn:
            rows = await effects.page(conn, state, limit + 1, after)
        if len(rows) > limit:
            last = rows[limit - 1]
            next_link(request, response, cursor_of(last["created_at"].isoformat(), str(last["id"])))
        return Effects(items=[_effect(row) for row in rows[:limit]])

    @router.post("/effects/{effect_id}:retry", summary="Try to send again", operation_id=f"{name}_effect_retry")
    async def retry_effect(effect_id: EffectId, caller: Caller = door.caller(Role.LEAD)) -> Again:
        """One that was given up is tried from the beginning, under the id it always had."""
        async with host.database.writers.acquire() as conn:
            if not await effects.retry(conn, effect_id):
                raise Unknown(f"nothing that was given up is kept under {effect_id}")
        return Again(id=effect_id)


def _after(text: str | None) -> tuple[datetime, str] | None:
    values = parse_cursor(text, 2)
    if values is None:
        return None
    try:
        return datetime.fromisoformat(values[0]).astimezone(UTC), str(UUID(values[1]))
    except (ValueError, OverflowError) as error:
        raise Invalid("this cursor is not one of ours") from error


def _effect(row: Any) -> EffectAnswer:
    fields = {field: row[field] for field in EffectAnswer.model_fields}
    return EffectAnswer(**{**fields, "id": str(row["id"])})


def _parked(row: Any) -> ParkedRecord:
    return ParkedRecord(
        id=row["position"],
        consumer=row["consumer"],
        topic=row["topic"],
        subject=row["subject"],
        source=row["source"],
        sequence=row["sequence"],
        error=row["error"],
        attempts=row["attempts"],
        asked=row["asked"],
        parked_at=row["parked_at"].isoformat().replace("+00:00", "Z"),
    )


def _stream(work: Callable[[Callable[[int], None]], Awaitable[list[dict[str, Any]]]]) -> StreamingResponse:
    """Progress line by line, then the results."""

    async def lines() -> AsyncIterator[str]:
        read = 0

        def tick(records: int) -> None:
            nonlocal read
            read += records

        task = asyncio.ensure_future(work(tick))
        try:
            while not task.done():
                await asyncio.wait([task], timeout=0.25)
                yield json.dumps({"read": read}) + "\n"
            try:
                yield json.dumps({"done": True, "results": task.result()}) + "\n"
            except CasewalkError as error:
                yield json.dumps({"done": False, "error": error.message}) + "\n"
        finally:
            task.cancel()

    return StreamingResponse(lines(), media_type="application/x-ndjson")
