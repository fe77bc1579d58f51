"""Doors to units, queues and agents."""

from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request, Response
from pydantic import ConfigDict, Field, StringConstraints

from events.case import UnitKind
from events.database import Connection, fetch
from events.event import Label, Ref
from events.operations import AgentRegistered, Presence, QueuePublished, Role, Skills, UnitPublished
from events.personal import Redacted, Sealed
from services.router import organigram, views
from services.router.organigram import AGENT, QUEUE, UNIT, Agent, Known, Wanted
from services.runtime import Host
from services.web import Answer, Caller, Cursor, Door, Limit, Order, cursor, next_link, parse_cursor, written

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
UnitId = Annotated[Ref, Path(description="The unit's id, for ever.", examples=["care-de"])]
QueueId = Annotated[Ref, Path(description="The queue's id, for ever.", examples=["care-de"])]
AgentId = Annotated[Ref, Path(description="The agent's id, for ever; not their name.", examples=["anna"])]


class UnitOrder(Order):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Customer care Germany", "kind": "front_end", "markets": ["de"]}]}
    )

    name: Label
    kind: UnitKind
    markets: tuple[Ref, ...] = Field(default=(), max_length=500, description="Empty: every market.")


class UnitPublishedAnswer(Answer):
    unit_id: str
    version: int


class UnitAnswer(UnitPublishedAnswer):
    name: str
    kind: UnitKind
    markets: list[str]


class UnitsAnswer(Answer):
    items: list[UnitAnswer]


class QueueOrder(Order):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "First line", "unit_id": "general", "level": 1, "offer_s": 60}]}
    )

    name: Label
    unit_id: Ref
    level: int = Field(default=1, ge=1, le=9, description="The skill level an agent needs.")
    offer_s: int = Field(default=60, ge=1, le=86_400, description="Seconds an agent has to answer an offer.")


class QueuePublishedAnswer(Answer):
    queue_id: str
    version: int


class QueueAnswer(QueuePublishedAnswer):
    name: str
    unit_id: str
    level: int
    offer_s: int
    waiting: int = Field(description="Cases that wait here for an agent now.")
    waiting_since: datetime | None = Field(description="Since when the oldest of them does.")


class QueuesAnswer(Answer):
    items: list[QueueAnswer]


class SkillsOrder(Order):
    markets: tuple[Ref, ...] = Field(default=(), max_length=500)
    languages: tuple[Ref, ...] = Field(default=(), max_length=500)
    journeys: tuple[Ref, ...] = Field(default=(), max_length=500)
    level: int = Field(default=1, ge=1, le=9)


class AgentOrder(Order):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Anna Berg",
                    "unit_ids": ["general"],
                    "skills": {"languages": ["de", "en"], "level": 2},
                    "capacity": 5,
                }
            ]
        }
    )

    name: Name = Field(description="Kept sealed under a key of this person.")
    unit_ids: tuple[Ref, ...] = Field(min_length=1, max_length=100)
    skills: SkillsOrder = Field(default=SkillsOrder(), description="An empty list: every value.")
    capacity: int = Field(ge=1, le=1000, description="Cases and offers the agent may hold at once.")


class AgentRegisteredAnswer(Answer):
    agent_id: str
    version: int


class AgentAnswer(AgentRegisteredAnswer):
    name: str | None = Field(description="None when it cannot be read any more.")
    unit_ids: list[str]
    skills: Skills
    capacity: int
    load: int = Field(description="Cases and offers the agent holds now.")
    presence: Presence


class AgentsAnswer(Answer):
    items: list[AgentAnswer]


class PresenceOrder(Order):
    model_config = ConfigDict(json_schema_extra={"examples": [{"presence": "available"}]})

    presence: Presence


class PresenceAnswer(Answer):
    agent_id: str
    presence: Presence


def add(router: APIRouter, door: Door) -> None:
    """Units, queues and agents."""
    for room in (_units, _queues, _agents):
        room(router, door.host, door)


def _units(router: APIRouter, host: Host, door: Door) -> None:
    @router.put("/v1/units/{unit_id}", summary="Publish a unit")
    async def put_unit(
        unit_id: UnitId, order: UnitOrder, response: Response, caller: Caller = door.caller(Role.LEAD)
    ) -> UnitPublishedAnswer:
        """The unit is so from now on. The same content again makes no new version."""
        wanted = UnitPublished(version=1, name=order.name, kind=order.kind, markets=order.markets)
        changed = await host.store.change(
            UNIT(unit_id),
            decision=partial(organigram.publish_unit, wanted),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, unit_id=unit_id),
        )
        written(response, changed)
        return UnitPublishedAnswer(unit_id=unit_id, version=changed.states[0].version)

    @router.get("/v1/units", summary="List the units")
    async def get_units(
        request: Request,
        response: Response,
        limit: Limit = 100,
        cursor: Cursor = None,
        caller: Caller = door.caller(Role.LEAD, Role.AGENT, Role.READER),
    ) -> UnitsAnswer:
        """By id."""
        (after,) = parse_cursor(cursor, 1) or [""]
        rows = await host.database.rows(views.units(after, limit + 1))
        _link(request, response, [row["unit_id"] for row in rows], limit)
        return UnitsAnswer(items=[UnitAnswer.model_validate(dict(row)) for row in rows[:limit]])


def _queues(router: APIRouter, host: Host, door: Door) -> None:
    @router.put("/v1/queues/{queue_id}", summary="Publish a queue")
    async def put_queue(
        queue_id: QueueId, order: QueueOrder, response: Response, caller: Caller = door.caller(Role.LEAD)
    ) -> QueuePublishedAnswer:
        """The queue is so from now on; what waits in it already stays with the unit it was queued for.

        Its unit must exist and handle cases. The same content again makes no new version.
        """
        wanted = QueuePublished(
            version=1, name=order.name, unit_id=order.unit_id, level=order.level, offer_s=order.offer_s
        )
        changed = await host.store.change(
            QUEUE(queue_id),
            decision=partial(organigram.publish_queue, wanted),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, queue_id=queue_id),
            look=views.unit_kinds,
        )
        written(response, changed)
        return QueuePublishedAnswer(queue_id=queue_id, version=changed.states[0].version)

    @router.get("/v1/queues", summary="List the queues and what waits in them")
    async def get_queues(
        request: Request,
        response: Response,
        limit: Limit = 100,
        cursor: Cursor = None,
        caller: Caller = door.caller(Role.LEAD, Role.AGENT, Role.READER),
    ) -> QueuesAnswer:
        """By id, each with how many cases wait for an agent and since when the oldest does."""
        (after,) = parse_cursor(cursor, 1) or [""]
        rows = await host.database.rows(views.queues_with_waiting(after, limit + 1))
        _link(request, response, [row["queue_id"] for row in rows], limit)
        return QueuesAnswer(items=[QueueAnswer.model_validate(dict(row)) for row in rows[:limit]])


def _agents(router: APIRouter, host: Host, door: Door) -> None:
    async def known(agent_id: str, conn: Connection) -> Known:
        rows = await fetch(conn, views.agents_with_load(views.A.agent_id == agent_id))
        names = await _names(host, conn, [views.as_agent(row) for row in rows])
        return Known(frozenset(await views.unit_kinds(conn)), names[0] if names else None)

    @router.put("/v1/agents/{agent_id}", summary="Register an agent")
    async def put_agent(
        agent_id: AgentId, order: AgentOrder, response: Response, caller: Caller = door.caller(Role.LEAD)
    ) -> AgentRegisteredAnswer:
        """The agent is so from now on. A new agent is offline until their presence changes."""
        changed = await host.store.change(
            AGENT(agent_id),
            decision=partial(
                organigram.register_agent,
                Wanted(agent_id, order.name, order.unit_ids, Skills(**order.skills.model_dump()), order.capacity),
            ),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, agent_id=agent_id),
            look=partial(known, agent_id),
        )
        written(response, changed)
        return AgentRegisteredAnswer(agent_id=agent_id, version=changed.states[0].version)

    @router.get("/v1/agents", summary="List the agents")
    async def get_agents(
        request: Request,
        response: Response,
        limit: Limit = 100,
        cursor: Cursor = None,
        caller: Caller = door.caller(Role.LEAD),
    ) -> AgentsAnswer:
        """By id, each with what they hold now."""
        (after,) = parse_cursor(cursor, 1) or [""]
        rows = await host.database.rows(views.agents_with_load(views.A.agent_id > after).limit(limit + 1))
        _link(request, response, [row["agent_id"] for row in rows], limit)
        agents = [views.as_agent(row) for row in rows[:limit]]
        async with host.database.readers.acquire() as conn:
            names = await _names(host, conn, agents)
        return AgentsAnswer(
            items=[_agent(agent, name, row["load"]) for agent, name, row in zip(agents, names, rows, strict=False)]
        )

    @router.post("/v1/agents/{agent_id}:presence", summary="Say whether an agent is here")
    async def change_presence(
        agent_id: AgentId,
        order: PresenceOrder,
        response: Response,
        caller: Caller = door.caller(Role.AGENT, Role.LEAD),
    ) -> PresenceAnswer:
        """Only agents who are `available` are offered cases. An agent's key speaks for its holder only."""
        if caller.principal.role is Role.AGENT and caller.principal.holder != agent_id:
            raise HTTPException(403, "an agent's key speaks for its holder only")
        changed = await host.store.change(
            AGENT(agent_id),
            decision=partial(organigram.change_presence, order.presence),
            actor=caller.actor,
            expected=caller.expected,
            once=caller.once(order, 200, agent_id=agent_id),
        )
        written(response, changed)
        return PresenceAnswer(agent_id=agent_id, presence=changed.states[0].presence)


async def _names(host: Host, conn: Connection, agents: list[Agent]) -> list[str | None]:
    """The agents' names as far as they can be read."""
    named = [agent for agent in agents if agent.name]
    sealed = [(AgentRegistered.TYPE, a.name_event_id, "name", Sealed.model_validate_json(a.name)) for a in named]
    opened = await host.keyring.open(conn, sealed) if sealed else []
    names = {a.agent_id: None if isinstance(n, Redacted) else n for a, n in zip(named, opened, strict=True)}
    return [names.get(agent.agent_id) for agent in agents]


def _agent(agent: Agent, name: str | None, load: int) -> AgentAnswer:
    return AgentAnswer(
        agent_id=agent.agent_id,
        version=agent.version,
        name=name,
        unit_ids=list(agent.unit_ids),
        skills=agent.skills,
        capacity=agent.capacity,
        load=load,
        presence=agent.presence,
    )


def _link(request: Request, response: Response, ids: list[str], limit: int) -> None:
    next_link(request, response, cursor(ids[limit - 1]) if len(ids) > limit else None)
