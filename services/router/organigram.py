"""Units, queues and agents: what each is as of its last version, and what may be published about them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from events.case import UnitKind
from events.errors import Invalid, Unknown
from events.event import OPERATIONS, OperationsEvent, Recorded
from events.operations import (
    AgentRegistered,
    Presence,
    PresenceChanged,
    QueuePublished,
    RoutingRule,
    RoutingTablePublished,
    Skills,
    UnitPublished,
)
from events.personal import Clear, Sealed
from events.store import Fold, Stream
from services.router import table

P = TypeVar("P", UnitPublished, QueuePublished, RoutingTablePublished)

KEPT_BY_OTHERS = (UnitKind.PARTNER, UnitKind.ESCALATION)
"""Units whose cases other services hand out: no agent of ours is offered one."""


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as registered last, with their presence. Version 0: nobody registered them."""

    subject: str
    agent_id: str = ""
    version: int = 0
    name: str = ""
    """The sealed name as JSON; only the router's doors open it."""
    name_event_id: str = ""
    """The event the name was sealed for."""
    unit_ids: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    journeys: tuple[str, ...] = ()
    level: int = 1
    capacity: int = 0
    presence: Presence = Presence.OFFLINE

    @property
    def skills(self) -> Skills:
        return Skills(markets=self.markets, languages=self.languages, journeys=self.journeys, level=self.level)

    def can_take(self, unit_id: str, market: str | None, language: str | None, journey: str | None, level: int) -> bool:
        """Member of the unit, skilled for all of the case, and at least of the queue's level. No list: every value."""
        return (
            unit_id in self.unit_ids
            and self.level >= level
            and (not self.markets or market in self.markets)
            and (not self.languages or language in self.languages)
            and (not self.journeys or journey in self.journeys)
        )


def evolve_agent(agent: Agent | None, event: Recorded[Any]) -> Agent:
    """The agent after one more event."""
    agent = agent or Agent(event.subject)
    match event.data:
        case AgentRegistered() as data:
            return replace(
                agent,
                agent_id=event.subject.removeprefix("agent:"),
                version=data.version,
                name=data.name.model_dump_json(by_alias=True) if isinstance(data.name, Sealed) else "",
                name_event_id=event.id,
                unit_ids=data.unit_ids,
                markets=data.skills.markets,
                languages=data.skills.languages,
                journeys=data.skills.journeys,
                level=data.skills.level,
                capacity=data.capacity,
            )
        case PresenceChanged() as data:
            return replace(agent, presence=data.presence)
        case _:
            return agent


def _nothing(subject: str) -> Any:
    return None


def _latest(_: Any, event: Recorded[Any]) -> Any:
    return event.data


_AGENTS: Fold[Agent] = Fold(OPERATIONS, Agent, evolve_agent)
_UNITS: Fold[UnitPublished | None] = Fold(OPERATIONS, _nothing, _latest)
_QUEUES: Fold[QueuePublished | None] = Fold(OPERATIONS, _nothing, _latest)
_TABLES: Fold[RoutingTablePublished | None] = Fold(OPERATIONS, _nothing, _latest)


def AGENT(agent_id: str) -> Stream[Agent]:  # noqa: N802 - it stands where folds stand
    """The stream of an agent."""
    return _AGENTS(f"agent:{agent_id}")


def UNIT(unit_id: str) -> Stream[UnitPublished | None]:  # noqa: N802
    """The stream of a unit."""
    return _UNITS(f"unit:{unit_id}")


def QUEUE(queue_id: str) -> Stream[QueuePublished | None]:  # noqa: N802
    """The stream of a queue."""
    return _QUEUES(f"queue:{queue_id}")


def TABLE() -> Stream[RoutingTablePublished | None]:  # noqa: N802
    """The stream of the one routing table."""
    return _TABLES(f"table:{table.TABLE_ID}")


# ----------------------------------------------------------------------------------------------------------- decisions


def publish_unit(wanted: UnitPublished, now: Any, unit: UnitPublished | None) -> list[OperationsEvent]:
    """The unit's next version, unless it is so already. `wanted.version` is of no account."""
    return _next(wanted, unit)


def publish_queue(
    wanted: QueuePublished, now: Any, queue: QueuePublished | None, units: Mapping[str, UnitKind]
) -> list[OperationsEvent]:
    """The queue's next version. Raises Invalid if its unit does not exist or handles no cases."""
    kind = units.get(wanted.unit_id)
    if kind is None:
        raise Invalid(f"there is no unit {wanted.unit_id}; publish it first")
    if kind is UnitKind.ENABLER:
        raise Invalid(f"the unit {wanted.unit_id} is an enabler, which handles no cases and has no queue")
    return _next(wanted, queue)


def publish_table(
    rules: tuple[RoutingRule, ...], now: Any, last: RoutingTablePublished | None, queue_ids: frozenset[str]
) -> list[OperationsEvent]:
    """The table's next version. Raises Invalid if a case could find no queue by it."""
    table.check(rules, queue_ids)
    return _next(RoutingTablePublished(version=1, rules=rules), last)


@dataclass(frozen=True, slots=True)
class Known:
    """What the decision about an agent needs beside the agent."""

    unit_ids: frozenset[str]
    """Every unit there is."""
    name: str | None
    """The agent's name as registered, if it can be read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An agent as somebody wants them registered."""

    agent_id: str
    name: str
    unit_ids: tuple[str, ...]
    skills: Skills
    capacity: int


def register_agent(wanted: Wanted, now: Any, agent: Agent, known: Known) -> list[OperationsEvent]:
    """The agent's next version, unless they are so already. Raises Invalid for a unit that does not exist."""
    if missing := sorted(set(wanted.unit_ids) - known.unit_ids):
        raise Invalid(f"there is no unit {missing[0]}; publish it first")
    before = (known.name, agent.unit_ids, agent.skills, agent.capacity)
    if agent.version and before == (wanted.name, wanted.unit_ids, wanted.skills, wanted.capacity):
        return []
    return [
        AgentRegistered(
            version=agent.version + 1,
            name=Clear(f"agent:{wanted.agent_id}", wanted.name),
            unit_ids=wanted.unit_ids,
            skills=wanted.skills,
            capacity=wanted.capacity,
        )
    ]


def change_presence(presence: Presence, now: Any, agent: Agent) -> list[OperationsEvent]:
    """The agent is here, busy or gone from now on. Raises Unknown for an agent nobody registered."""
    if not agent.version:
        raise Unknown(f"there is no agent {agent.subject.removeprefix('agent:')}")
    return [] if agent.presence is presence else [PresenceChanged(presence=presence)]


def _next(wanted: P, last: P | None) -> list[OperationsEvent]:
    if last is None:
        return [wanted.model_copy(update={"version": 1})]
    if wanted.model_copy(update={"version": last.version}) == last:
        return []
    return [wanted.model_copy(update={"version": last.version + 1})]
