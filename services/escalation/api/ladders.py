"""Ladders are published by version, and asked whom they leave without help."""

from collections.abc import Iterable
from functools import partial
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Response
from pydantic import AwareDatetime, ConfigDict, Field

from events.case import ClockKind, Priority
from events.database import Connection
from events.errors import Invalid, Unknown
from events.event import Ref
from events.operations import Applies, LadderPublished, OwnerRule, Role, Rung, TriggerKind
from services.escalation.api.configuration import ConfigId
from services.escalation.calendars import Span
from services.escalation.decide import coverage as decide
from services.escalation.decide.configuration import LADDER
from services.escalation.decide.coverage import Covered, Known
from services.escalation.views import coverage as places
from services.escalation.views import ladders as views
from services.escalation.views.rotas import rotas_in_force
from services.web import Answer, Caller, Door, Order, written


class TriggerOrder(Order):
    """One reason for a rung to fire; which fields it takes follows from its kind."""

    kind: TriggerKind
    clock: ClockKind | None = Field(default=None, description="For `clock_share` and `breach`.")
    percent: int | None = Field(default=None, ge=1, le=99, description="For `clock_share`.")
    times: int | None = Field(default=None, ge=1, le=1000, description="For `reopened` and `handed_over`.")
    flag: Ref | None = Field(default=None, description="For `flag`.")
    tier: Ref | None = Field(default=None, description="For `tier`.")
    at_most: int | None = Field(default=None, ge=1, le=5, description="For `low_survey`: a satisfaction of 1 to 5.")


class RungOrder(Order):
    rung: Ref = Field(description="Its name in the ladder.")
    triggers: tuple[TriggerOrder, ...] = Field(
        default=(), max_length=20, description="None: only a rung below that nobody acknowledged leads here."
    )
    unit_id: Ref = Field(description="The escalation unit that is asked.")
    acknowledge_within_s: int | None = Field(
        default=None, ge=1, le=30 * 86_400, description="After that the next rung fires; null: it never does."
    )
    owner_rule: OwnerRule = OwnerRule.FIRST_TO_ACKNOWLEDGE


class AppliesOrder(Order):
    """Every list that is not empty must contain the case's value."""

    markets: tuple[Ref, ...] = Field(default=(), max_length=300)
    journeys: tuple[Ref, ...] = Field(default=(), max_length=300)
    tiers: tuple[Ref, ...] = Field(default=(), max_length=50)
    priorities: tuple[Priority, ...] = Field(default=(), max_length=4)


class LadderOrder(Order):
    """Which units are asked to own a case, one after another: `rungs`; or one unit when a clock of these kinds is
    breached, and none of them: only people escalate."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"unit_id": "escalation", "on_breach": ["resolution"]},
                {
                    "applies": {"markets": ["de"], "tiers": ["vip"]},
                    "rungs": [
                        {
                            "rung": "second-line",
                            "unit_id": "escalation",
                            "triggers": [
                                {"kind": "clock_share", "clock": "resolution", "percent": 75},
                                {"kind": "asked"},
                            ],
                            "acknowledge_within_s": 900,
                        },
                        {
                            "rung": "swat",
                            "unit_id": "swat",
                            "triggers": [{"kind": "breach", "clock": "resolution"}, {"kind": "regulator"}],
                            "owner_rule": "on_duty",
                        },
                    ],
                },
            ]
        }
    )

    unit_id: Ref | None = Field(default=None, description="Instead of `rungs`.")
    on_breach: tuple[ClockKind, ...] = Field(default=(), max_length=10, description="Beside `unit_id`.")
    applies: AppliesOrder = AppliesOrder()
    rungs: tuple[RungOrder, ...] = Field(default=(), max_length=20, description="From the bottom to the top.")

    def content(self) -> LadderPublished:
        """As a version. Raises Invalid for two ways at once, or none."""
        if bool(self.rungs) is (self.unit_id is not None) or (self.rungs and self.on_breach):
            raise Invalid("say either rungs, or unit_id with on_breach")
        rungs = tuple(Rung(**rung.model_dump()) for rung in self.rungs)
        return LadderPublished(
            version=1,
            unit_id=self.unit_id or rungs[0].unit_id,
            on_breach=tuple(sorted(set(self.on_breach))),
            applies=Applies(**self.applies.model_dump()),
            rungs=rungs,
        )


class LadderAnswer(Answer):
    ladder_id: str
    version: int
    unit_id: str
    on_breach: tuple[ClockKind, ...]
    applies: Applies
    rungs: tuple[Rung, ...]


class Ladders(Answer):
    items: list[LadderAnswer]


class SpanAnswer(Answer):
    since: AwareDatetime
    until: AwareDatetime


class DutyAnswer(Answer):
    unit_id: str
    night: SpanAnswer | None = Field(description="22:00 to 06:00 where the rota is; null without a rota.")
    on_duty: tuple[str, ...] = Field(description="Everybody who is on duty at some time of that night.")
    uncovered: tuple[SpanAnswer, ...] = Field(description="When nobody is.")


class CoverageLine(Answer):
    market: str
    journey: str
    ladder: str | None = Field(description="id@version of the ladder an ordinary case climbs.")
    units: tuple[DutyAnswer, ...] = Field(description="Its escalation units that serve the market, from the bottom.")
    missing: tuple[str, ...] = Field(
        description="`ladder`; `unit`: no escalation unit serves the market; `rota`: no unit is on duty all night."
    )


class Coverage(Answer):
    at: AwareDatetime
    items: list[CoverageLine]
    uncovered: int = Field(description="How many of them miss something.")


def _ladder(ladder_id: str, content: LadderPublished) -> LadderAnswer:
    return LadderAnswer(
        ladder_id=ladder_id,
        **{name: getattr(content, name) for name in LadderAnswer.model_fields if name != "ladder_id"},
    )


def _spans(spans: Iterable[Span]) -> tuple[SpanAnswer, ...]:
    return tuple(SpanAnswer(since=since, until=until) for since, until in spans)


def _line(covered: Covered) -> CoverageLine:
    duties = tuple(
        DutyAnswer(
            unit_id=duty.unit_id,
            night=None if duty.night is None else _spans([duty.night])[0],
            on_duty=duty.on_duty,
            uncovered=_spans(duty.uncovered),
        )
        for duty in covered.duties
    )
    market, journey = covered.place
    return CoverageLine(market=market, journey=journey, ladder=covered.ladder, units=duties, missing=covered.missing)


async def _known(ladder_id: str, conn: Connection) -> Known:
    return Known(
        await places.units_known(conn),
        await rotas_in_force(conn),
        frozenset(await places.places_seen(conn)),
        await views.ladders_in_force(conn),
        ladder_id,
    )


def add(router: APIRouter, door: Door) -> None:
    """The routes of `/v1/ladders`."""
    host, reads, publishes = door.host, door.caller(Role.READER, Role.AGENT, Role.LEAD), door.caller(Role.LEAD)

    @router.get("/v1/ladders", summary="The ladders")
    async def ladders(caller: Annotated[Caller, reads]) -> Ladders:
        """The version in force of every ladder. A case climbs the first by id whose condition holds; `standard` comes
        last."""
        rows = [views.LADDERS.decode(row) for row in await host.database.rows(sa.select(views.LADDERS.table))]
        ordered = sorted(rows, key=lambda row: row.ladder_id)
        return Ladders(items=[_ladder(row.ladder_id, row.content) for row in ordered])

    @router.get("/v1/ladders:coverage", summary="Whom the ladders leave without help")
    async def coverage(caller: Annotated[Caller, door.caller(Role.READER, Role.LEAD)]) -> Coverage:
        """For every market and journey that cases came from, or that a unit or ladder names: the ladder, its escalation
        units, and who of them is on duty in the next night."""
        async with host.database.readers.acquire() as conn:
            now = await conn.fetchval("select clock_timestamp()")
            known = await _known("", conn)
            found = decide.coverage(known.seen, known.units, known.ladders, known.rotas, now)
        items = [_line(covered) for covered in found]
        return Coverage(at=now, items=items, uncovered=sum(bool(line.missing) for line in items))

    @router.get("/v1/ladders/{ladder_id}", summary="One ladder")
    async def ladder(ladder_id: ConfigId, response: Response, caller: Annotated[Caller, reads]) -> LadderAnswer:
        """The version in force; its number is the `ETag`."""
        content, version = await host.store.state(LADDER(f"ladder:{ladder_id}"))
        if content is None:
            raise Unknown(f"there is no ladder called {ladder_id}")
        response.headers["ETag"] = f'"{version}"'
        return _ladder(ladder_id, content)

    @router.put("/v1/ladders/{ladder_id}", summary="Publish a ladder")
    async def publish_ladder(
        ladder_id: ConfigId, order: LadderOrder, response: Response, caller: Annotated[Caller, publishes]
    ) -> LadderAnswer:
        """The next version, in force for everything that happens from now on. The same content again changes nothing.

        Refused with the list of what is missing: a unit that does not exist or is none for escalations, and where the
        owner is whoever is on duty, a unit without rota or with a window nobody covers; a market it applies to that
        none of its units serves; a market and journey that has a unit or a rota by the ladders in force and would lose
        it.
        """
        changed = await host.store.change(
            LADDER(f"ladder:{ladder_id}"),
            decision=partial(decide.publish_ladder, order.content()),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, ladder_id=ladder_id),
            look=partial(_known, ladder_id),
        )
        written(response, changed)
        return _ladder(ladder_id, changed.states[0])
