"""What a partner or an escalation unit brings to an end is the case's resolution."""

from datetime import timedelta

import pytest

from events.case import CaseClosed, CaseOpened, CaseReopened, CaseResolved, EscalationResolved, PartnerResolved
from events.event import Event
from events.store import New
from events.testing import START, reacting
from services.intake.react import REACTOR
from tests.given import an

OPENED, RESOLVED, REOPENED = an(CaseOpened), an(CaseResolved), an(CaseReopened)


def test_a_partners_resolution_resolves_the_case_when_the_partner_did() -> None:
    at = START + timedelta(hours=2)

    reacting(REACTOR, OPENED).to((an(PartnerResolved, code="delivered"), at)).then(
        New(CaseResolved(episode=1, by="partner", code="delivered"), at)
    )


def test_an_escalation_units_resolution_resolves_the_episode_that_is_open() -> None:
    reacting(REACTOR, OPENED, RESOLVED, REOPENED).to(an(EscalationResolved)).then(
        CaseResolved(episode=2, by="escalation", code="solved")
    )


@pytest.mark.parametrize("past", [(OPENED, RESOLVED), (OPENED, RESOLVED, an(CaseClosed)), ()])
def test_a_case_that_is_not_open_stays_as_it_is(past: tuple[Event, ...]) -> None:
    reacting(REACTOR, *past).to(an(PartnerResolved, code="otherwise")).nothing()


def test_a_resolution_of_an_earlier_episode_does_not_end_the_next_one() -> None:
    before_it_was_reopened = START + timedelta(seconds=90)

    reacting(REACTOR, OPENED, RESOLVED, REOPENED).to((an(PartnerResolved), before_it_was_reopened)).nothing()


def test_a_partners_slow_clock_does_not_keep_a_case_open() -> None:
    past = [(OPENED, START)]

    reacting(REACTOR, *past).to((an(PartnerResolved), START - timedelta(seconds=2))).then_types(CaseResolved)
