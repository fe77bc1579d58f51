"""The demo's company: what is published before the first customer comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MARKETS = ("de", "fr", "es", "it", "pl")
LANGUAGES = (*MARKETS, "en")
JOURNEYS = ("order", "delivery", "return", "billing", "technical", "account")
CHANNELS = ("email", "chat", "phone", "web-form", "app")
PARTNERS = {"nordfix": 60, "casa-service": 40}
"""Partner → percent of the field service's cases."""

BILLING, TECHNICAL, FIELD = "billing-experts", "technical-experts", "field-service"
ESCALATION, EDGE_CASES = "escalation", "edge-cases"
GOLD = "gold"

URGENT_TARGET_S = 6
"""So short that a breach can be watched."""
GOLD_TARGET_S = 40
"""So short that the first warning can be watched, and long enough to answer after it."""
WARNINGS = [30, 75, 90]

HOUR_S = 3_600


@dataclass(frozen=True)
class Agent:
    """One person of the staff; the id is the name in lower case."""

    name: str
    unit: str
    skills: dict[str, Any] = field(default_factory=dict)
    capacity: int = 6

    @property
    def id(self) -> str:
        return self.name.lower()


_FRONT = {
    "de": ("Anna", "Jonas", "Meike"),
    "fr": ("Claire", "Hugo", "Manon"),
    "es": ("Carmen", "Diego", "Lucia"),
    "it": ("Giulia", "Marco", "Paolo"),
    "pl": ("Ewa", "Piotr", "Zofia"),
}

OWNERS = {unit: Agent(name, unit, {"level": 3}) for unit, name in ((ESCALATION, "Olga"), (EDGE_CASES, "Selma"))}
"""Escalation unit → who takes over what is escalated to it."""

AGENTS = (
    *(
        Agent(name, f"care-{market}", {"markets": [market], "languages": [market, "en"]})
        for market, names in _FRONT.items()
        for name in names
    ),
    *(Agent(name, BILLING, {"level": 2}, capacity=10) for name in ("Berta", "Boris")),
    *(Agent(name, TECHNICAL, {"level": 2}, capacity=10) for name in ("Tomas", "Tilda")),
    *OWNERS.values(),
)


RUNGS = (
    {
        "rung": "second-line",
        "unit_id": ESCALATION,
        "triggers": [{"kind": "breach", "clock": "resolution"}, {"kind": "asked"}],
    },
    {"rung": EDGE_CASES, "unit_id": EDGE_CASES, "triggers": [{"kind": "regulator"}]},
)
"""From the bottom to the top: whom a case is escalated to, and why."""


def published() -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and body of every configuration, in an order in which each finds what it names."""
    yield from _units()
    for agent in AGENTS:
        about = {"unit_ids": [agent.unit], "skills": agent.skills, "capacity": agent.capacity}
        yield f"/v1/agents/{agent.id}", {"name": f"{agent.name} Example", **about}
    rules = [{"rule": market, "when": {"markets": [market]}, "queue_id": f"care-{market}"} for market in MARKETS]
    yield "/v1/routing-tables/main", {"rules": [*rules, {"rule": "default", "queue_id": "general"}]}
    yield "/v1/ladders/standard", {"rungs": RUNGS}
    for partner in PARTNERS:
        yield f"/v1/partners/{partner}", {"name": partner.replace("-", " ").title()}
        yield f"/v1/contracts/{partner}", {"partner_id": partner, "queue_ids": [FIELD]}
    shares = [{"partner_id": partner, "percent": percent} for partner, percent in PARTNERS.items()]
    yield f"/v1/share-plans/{FIELD}", {"shares": shares}


def _units() -> Iterator[tuple[str, dict[str, Any]]]:
    units = {f"care-{market}": (f"Customer care {market}", "front_end", 1, [market]) for market in MARKETS}
    units |= {unit: (unit.replace("-", " ").capitalize(), "back_end", 2, []) for unit in (BILLING, TECHNICAL)}
    units |= {FIELD: ("Field service", "partner", 1, [])}
    yield f"/v1/units/{EDGE_CASES}", {"name": "Edge cases", "kind": "escalation"}
    for unit, (name, kind, level, markets) in units.items():
        yield f"/v1/units/{unit}", {"name": name, "kind": kind, "markets": markets}
        yield f"/v1/queues/{unit}", {"name": name, "unit_id": unit, "level": level}


def short_promise(promise: dict[str, Any]) -> dict[str, Any]:
    """The promise as it is, but so short for urgent and for gold cases that a break and a warning can be watched; and
    a promise about the time in which the customer waits for us."""
    targets = [
        {**target, "target_s": URGENT_TARGET_S}
        if (target["clock"], target["priority"]) == ("resolution", "urgent")
        else target
        for target in promise["targets"]
    ]
    targets.append({"clock": "resolution", "priority": "normal", "tier": GOLD, "target_s": GOLD_TARGET_S})
    targets += [
        {**target, "clock": "requester_wait"} for target in promise["targets"] if target["clock"] == "resolution"
    ]
    return promise_order(promise) | {"targets": targets, "warnings": WARNINGS}


def promise_order(promise: dict[str, Any]) -> dict[str, Any]:
    """What to PUT to have this promise again."""
    calendar = promise["calendar"].partition("@")[0]
    return {name: promise[name] for name in ("name", "targets", "warnings")} | {"calendar": calendar}
