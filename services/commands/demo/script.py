"""What happens to each case of the demo: who comes in, and what everybody then does. Made of a seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from services.commands.demo.town import BILLING, CHANNELS, FIELD, GOLD, JOURNEYS, LANGUAGES, MARKETS, TECHNICAL

CASES = 240


class Act(StrEnum):
    """What the next one to have the case does."""

    RESOLVE = "resolve"
    """Answers and resolves: an agent, a partner or the escalation's owner."""
    ASK = "ask"
    """The agent asks the customer, who answers."""
    ASK_IN_VAIN = "ask in vain"
    """The customer does not answer any more: the case stays open."""
    NOTE = "note"
    DECLINE = "decline"
    HOLD = "hold"
    """The agent takes the case and leaves it until its promise is broken."""
    WARNED = "warned"
    """The agent takes the case and leaves it until its promise is at risk."""
    ESCALATE = "escalate"
    REGULATOR = "regulator"
    """The agent hears that a regulator asks: the unit for edge cases owns the case from there on."""
    TO_ITS_ADDRESS = "to its address"
    """The customer writes to the case's own address."""
    GIVE_BACK = "give back"
    """The partner cannot do it."""
    REOPEN = "reopen"
    """The customer is back: the resolution was none."""
    TO_BILLING = f"to {BILLING}"
    TO_TECHNICAL = f"to {TECHNICAL}"
    TO_PARTNER = f"to {FIELD}"


QUEUES = {Act.TO_BILLING: BILLING, Act.TO_TECHNICAL: TECHNICAL, Act.TO_PARTNER: FIELD}

_STORIES: dict[tuple[Act, ...], int] = {
    (Act.RESOLVE,): 50,
    (Act.ASK, Act.RESOLVE): 12,
    (Act.DECLINE, Act.RESOLVE): 6,
    (Act.TO_BILLING, Act.RESOLVE): 8,
    (Act.NOTE, Act.TO_TECHNICAL, Act.ASK, Act.RESOLVE): 5,
    (Act.TO_PARTNER, Act.RESOLVE): 6,
    (Act.TO_PARTNER, Act.GIVE_BACK, Act.RESOLVE): 2,
    (Act.ESCALATE, Act.RESOLVE): 2,
    (Act.HOLD, Act.RESOLVE): 3,
    (Act.RESOLVE, Act.REOPEN, Act.RESOLVE): 3,
    (Act.ASK_IN_VAIN,): 3,
}
"""Story → how often, in hundred."""

ODYSSEY = (Act.ASK, Act.TO_TECHNICAL, Act.NOTE, Act.TO_PARTNER, Act.GIVE_BACK, Act.ESCALATE, Act.RESOLVE)
"""The walk that sees everybody."""

EDGE = (Act.REGULATOR, Act.TO_ITS_ADDRESS, Act.RESOLVE)
SAVED = (Act.WARNED, Act.RESOLVE)
BROKEN = (Act.HOLD, Act.RESOLVE)
PAUSED = (Act.ASK_IN_VAIN,)

SHOWN = (ODYSSEY, EDGE, SAVED, BROKEN, PAUSED)
"""What is printed afterwards: each happens on every day."""

_SUBJECTS = {
    "order": ("Two of my order came", "Can I still change my order?"),
    "delivery": ("The parcel is late", "It was left with a neighbour I do not have"),
    "return": ("How do I send it back?", "The return was not registered"),
    "billing": ("I was charged twice", "The invoice shows the wrong address"),
    "technical": ("It does not switch on", "The app loses the connection"),
    "account": ("I cannot sign in", "Please change my e-mail address"),
}


@dataclass(frozen=True)
class Visit:
    """One customer's matter."""

    number: int
    order: dict[str, Any]
    """The body of `POST /v1/cases`."""
    acts: tuple[Act, ...]
    survey: dict[str, Any] | None
    """The body of `POST /v1/cases/{id}/feedback`; None when the customer does not answer it."""

    @property
    def stays_open(self) -> bool:
        return self.acts[-1] is Act.ASK_IN_VAIN


def visits(seed: int, count: int = CASES) -> list[Visit]:
    """The day's visits in the order they come: long stories early, so that the day ends soon after the last visit."""
    random = Random(seed)
    stories = [*SHOWN, *random.choices(list(_STORIES), list(_STORIES.values()), k=count - len(SHOWN))]
    stories.sort(key=lambda acts: random.random() * (1.0 if acts == (Act.RESOLVE,) else 0.6))
    return [_visit(random, number, acts) for number, acts in enumerate(stories, 1)]


def _visit(random: Random, number: int, acts: tuple[Act, ...]) -> Visit:
    market, journey = random.choice(MARKETS), random.choice(JOURNEYS)
    language = market if random.random() < 0.85 else LANGUAGES[-1]
    order = {
        "channel": random.choice(CHANNELS),
        "market": market,
        "language": language,
        "journey": journey,
        "priority": "urgent" if Act.HOLD in acts else random.choice(("low", "normal", "normal", "high")),
        "subject": random.choice(_SUBJECTS[journey]),
        "body": "Hello, can you help me with this? Thank you.",
        "customer": {"external_id": f"customer-{number}", "name": "Sam Example", "email": f"sam{number}@example.org"},
    }
    if acts == SAVED:
        order |= {"priority": "normal", "tier": GOLD}
    return Visit(number, order, acts, _survey(random, acts))


def _survey(random: Random, acts: tuple[Act, ...]) -> dict[str, Any] | None:
    if acts != ODYSSEY and (acts[-1] is Act.ASK_IN_VAIN or random.random() < 0.4):
        return None
    content = acts == ODYSSEY or random.random() < 0.85
    return {
        "accepted": content,
        "csat": random.choice((4, 5) if content else (1, 2)),
        "nps": random.choice((8, 9, 10) if content else (1, 3, 5)),
    }
