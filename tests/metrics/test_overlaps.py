"""A walk shows when several had the case at once."""

from datetime import timedelta

import pytest

from events.case import (
    CaseAssigned,
    CaseEscalated,
    CaseHandedOver,
    CaseReleased,
    CaseResolved,
    EscalationAcknowledged,
    EscalationReturned,
    PartnerReturned,
)
from events.event import Event
from events.testing import START, STEP, history
from services.metrics.overlaps import Overlap, overlaps
from services.metrics.walks import walk
from tests.given import an

ASSIGNED, ESCALATED, RELEASED = an(CaseAssigned), an(CaseEscalated), an(CaseReleased)
ANNA, UNIT, SWIFT = "agent:anna", "unit:escalation", "partner:swift"


def found(*happened: Event) -> tuple[Overlap, ...]:
    return overlaps(history(*happened))


def test_an_agent_who_still_has_an_escalated_case_overlaps_with_the_unit_until_it_is_released() -> None:
    overlap = Overlap(START + STEP, START + 2 * STEP, (ANNA, UNIT))
    assert found(ASSIGNED, ESCALATED, RELEASED, an(EscalationAcknowledged)) == (overlap,)


def test_an_overlap_lasts_while_nobody_lets_go() -> None:
    assert found(ASSIGNED, ESCALATED) == (Overlap(START + STEP, None, (ANNA, UNIT)),)


def test_a_partner_who_still_has_it_overlaps_too() -> None:
    (overlap,) = found(an(CaseHandedOver), ESCALATED, an(PartnerReturned))
    assert overlap.holders == (SWIFT, UNIT)


def test_a_third_who_comes_in_makes_another_overlap() -> None:
    two, three = found(an(CaseHandedOver), ASSIGNED, ESCALATED, an(CaseResolved))
    assert (two.holders, three.holders) == ((SWIFT, ANNA), (SWIFT, ANNA, UNIT))
    assert two.until == three.since


@pytest.mark.parametrize(
    "clean",
    [
        (ASSIGNED, RELEASED, ESCALATED, an(EscalationReturned), ASSIGNED),
        (ASSIGNED, an(CaseResolved), ESCALATED),
        (ESCALATED, an(CaseEscalated, unit_id="swat")),
    ],
    ids=["one after another", "resolved before", "up the ladder"],
)
def test_who_has_it_one_after_another_does_not_overlap(clean: tuple[Event, ...]) -> None:
    assert found(*clean) == ()


def test_a_walk_shows_its_overlaps_however_the_events_came() -> None:
    events = history(
        (ASSIGNED, START), (ESCALATED, START + STEP), (RELEASED, START + STEP + timedelta(milliseconds=20))
    )
    done = walk(reversed(events))
    assert done is not None
    assert [overlap.holders for overlap in done.overlaps] == [(ANNA, UNIT)]
