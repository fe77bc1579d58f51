"""Coverage: who would take over a case of a market and journey, and what is missing before anybody needs it.

The same questions refuse a ladder at publish time: a unit that is none for escalations, a duty that nobody does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from events.case import Priority, UnitKind
from events.errors import Invalid
from events.event import Event
from events.operations import LadderPublished, OwnerRule, RotaPublished, Rung
from services.escalation.calendars import Span
from services.escalation.decide import rotas
from services.escalation.decide.configuration import publish
from services.escalation.decide.ladders import Facts, Ladder, Seen, rungs_of, wrong_in

Place = tuple[str, str]
"""(market, journey)."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of the organigram, as far as escalation asks."""

    unit_id: str
    kind: UnitKind
    markets: tuple[str, ...] = ()
    """None: every market."""


@dataclass(frozen=True, slots=True)
class Duty:
    """One unit of a ladder and its next night."""

    unit_id: str
    night: Span | None
    """By the zone of the unit's rota; none without a rota."""
    on_duty: tuple[str, ...]
    """Everybody who is on duty at some time of that night."""
    uncovered: tuple[Span, ...]
    """When nobody is."""

    @property
    def covered(self) -> bool:
        return self.night is not None and not self.uncovered


@dataclass(frozen=True, slots=True)
class Covered:
    """What an ordinary case of the place meets: normal priority, no tier."""

    place: Place
    ladder: str | None
    """id@version."""
    duties: tuple[Duty, ...]
    """The escalation units of its ladder that serve the market, from the bottom."""
    missing: tuple[str, ...]
    """`ladder`, `unit`, `rota`."""


def coverage(
    seen: Iterable[Place],
    units: Mapping[str, Unit],
    ladders: tuple[Ladder, ...],
    found: Mapping[str, RotaPublished],
    now: datetime,
) -> list[Covered]:
    """One line for every place that cases were seen in or that a unit or ladder names, by market and journey."""
    duties = {unit_id: _duty(unit_id, found.get(unit_id), now) for unit_id in units}
    return [_covered(place, units, ladders, duties) for place in sorted(places(seen, units, ladders))]


def places(seen: Iterable[Place], units: Mapping[str, Unit], ladders: Iterable[Ladder]) -> set[Place]:
    """Who names a market but no journey means every journey there is, and the other way round."""
    known = set(seen)
    named = [(ladder.content.applies.markets, ladder.content.applies.journeys) for ladder in ladders]
    named += [(unit.markets, ()) for unit in units.values()]
    markets = {market for market, _ in known} | {market for some, _ in named for market in some}
    journeys = {journey for _, journey in known} | {journey for _, some in named for journey in some}
    for some_markets, some_journeys in named:
        if some_markets or some_journeys:
            known |= {(market, journey) for market in some_markets or markets for journey in some_journeys or journeys}
    return known


def _covered(
    place: Place, units: Mapping[str, Unit], ladders: tuple[Ladder, ...], duties: Mapping[str, Duty]
) -> Covered:
    market, journey = place
    ladder = Seen(ladders).ladder(Facts(market, journey, None, Priority.NORMAL))
    if ladder is None:
        return Covered(place, None, (), ("ladder",))
    asked = dict.fromkeys(rung.unit_id for rung in ladder.rungs)
    serving = [duties[unit_id] for unit_id in asked if _serves(units.get(unit_id), market)]
    missing = [] if serving else ["unit"]
    if not any(duty.covered for duty in serving):
        missing.append("rota")
    return Covered(place, ladder.ref, tuple(serving), tuple(missing))


def _serves(unit: Unit | None, market: str) -> bool:
    return unit is not None and unit.kind is UnitKind.ESCALATION and (not unit.markets or market in unit.markets)


def _duty(unit_id: str, rota: RotaPublished | None, now: datetime) -> Duty:
    if rota is None:
        return Duty(unit_id, None, (), ())
    night = since, until = rotas.tonight(rota, now)
    days = [rotas.local_date(rota, since) + timedelta(days=n) for n in (-1, 0, 1)]
    overlapping = [agents for opens, closes, agents in rotas.shifts(rota, days) if opens < until and closes > since]
    on_duty = dict.fromkeys(agent for agents in overlapping for agent in agents)
    return Duty(unit_id, night, tuple(on_duty), tuple(rotas.uncovered(rota, since, until)))


# ----------------------------------------------------------------------------------------------------------- publishing


@dataclass(frozen=True)
class Known:
    """What a ladder must fit."""

    units: Mapping[str, Unit]
    rotas: Mapping[str, RotaPublished]
    seen: frozenset[Place] = frozenset()
    ladders: tuple[Ladder, ...] = ()
    """Those in force."""
    ladder_id: str = ""
    """Which of them is published anew."""


def publish_ladder(
    wanted: LadderPublished, now: datetime, current: LadderPublished | None, known: Known
) -> list[Event]:
    """The next version of a ladder; no event if nothing would change. Raises Invalid with all that is wrong with it."""
    said = publish(wanted, now, current)
    if not said:
        return []
    wrong = [*wrong_in(wanted), *(gap for rung in rungs_of(wanted) for gap in _gaps(rung, known))]
    wrong += [*_unserved(wanted, known), *_left_without(wanted, now, known)]
    if wrong:
        raise Invalid("; ".join(wrong), wrong=wrong)
    return said


def _unserved(wanted: LadderPublished, known: Known) -> Iterator[str]:
    """Markets that the ladder is for and that no unit of it serves."""
    units = [known.units.get(rung.unit_id) for rung in rungs_of(wanted)]
    for market in wanted.applies.markets:
        if not any(_serves(unit, market) for unit in units):
            yield f"it applies to {market}, which no escalation unit of it serves"


def _left_without(wanted: LadderPublished, now: datetime, known: Known) -> Iterator[str]:
    """Places that would miss what they do not miss by the ladders in force."""
    others = tuple(ladder for ladder in known.ladders if ladder.ladder_id != known.ladder_id)
    after = (*others, Ladder(known.ladder_id, wanted))
    have = {line.place: line.missing for line in coverage(known.seen, known.units, known.ladders, known.rotas, now)}
    for line in coverage(known.seen, known.units, after, known.rotas, now):
        missed = have.get(line.place, ("ladder",))
        lost = [] if "ladder" in missed else [what for what in line.missing if what not in missed]
        if lost:
            yield f"{'/'.join(line.place)} would be left without {' and '.join(lost)}"


def _gaps(rung: Rung, known: Known) -> Iterator[str]:
    unit = known.units.get(rung.unit_id)
    if unit is None:
        yield f"rung {rung.rung}: there is no unit called {rung.unit_id}"
    elif unit.kind is not UnitKind.ESCALATION:
        yield f"rung {rung.rung}: {rung.unit_id} is no escalation unit but of kind {unit.kind}"
    if rung.owner_rule is not OwnerRule.ON_DUTY:
        return
    rota = known.rotas.get(rung.unit_id)
    if rota is None:
        yield f"rung {rung.rung}: {rung.unit_id} has no rota that says who is on duty"
        return
    for window in rotas.empty_windows(rota):
        yield f"rung {rung.rung}: nobody of {rung.unit_id} is on duty {window}"
