"""Two cases that are one: what is said of both, and what is refused."""

from functools import partial

import pytest

from events.case import (
    CaseClosed,
    CaseLinked,
    CaseObserved,
    CaseOpened,
    CaseReopened,
    CaseResolved,
    CaseTakenOver,
    Category,
)
from events.errors import Refused, Unknown
from events.event import CaseEvent
from events.store import New
from events.testing import START, recorded
from services.intake.decide import links
from services.intake.decide.cases import FOLD, Life
from tests.given import an

HERE, THERE, ELSEWHERE = "twin", "first", "other"
OPENED = an(CaseOpened)
LINKED = an(CaseLinked, relation="duplicate_of", case_id=THERE)
link = partial(links.link, "the customer wrote twice", START)


def life(case_id: str, *events: CaseEvent) -> Life:
    return FOLD.over(
        case_id, [recorded(event, at=START, sequence=n, subject=case_id) for n, event in enumerate(events, 1)]
    )


def test_an_open_duplicate_is_resolved_as_one_and_the_other_case_says_so_too() -> None:
    said = link(life(HERE, OPENED), life(THERE, OPENED))
    assert [(new.stream, new.event) for new in said] == [
        (0, CaseLinked(relation="duplicate_of", case_id=THERE, reason="the customer wrote twice")),
        (0, CaseResolved(episode=1, by="system", code="duplicate")),
        (1, CaseLinked(relation="has_duplicate", case_id=HERE, reason="the customer wrote twice")),
    ]


def test_what_came_to_an_end_already_is_only_linked() -> None:
    said = link(life(HERE, OPENED, an(CaseResolved)), life(THERE, OPENED, an(CaseResolved)))
    assert [(new.stream, type(new.event)) for new in said] == [(0, CaseLinked), (1, CaseLinked)]


def test_a_case_of_another_system_is_taken_over_by_it() -> None:
    said = link(life(HERE, an(CaseObserved, category=Category.IN_PROGRESS, resolution=False)), life(THERE, OPENED))
    assert [type(new.event) for new in said] == [CaseLinked, CaseTakenOver, CaseResolved, CaseLinked]


def test_linking_twice_is_linking_once() -> None:
    assert link(life(HERE, OPENED, LINKED), life(THERE, OPENED)) == list[New]()


@pytest.mark.parametrize(
    ("duplicate", "survivor", "why"),
    [
        ((OPENED, an(CaseLinked, case_id=ELSEWHERE)), (OPENED,), "twin is a duplicate of other"),
        ((OPENED,), (OPENED, an(CaseLinked, case_id=ELSEWHERE)), "first is itself a duplicate of other"),
        ((OPENED,), (OPENED, an(CaseLinked, case_id=HERE)), "first is itself a duplicate of twin"),
        ((OPENED, an(CaseResolved), an(CaseClosed)), (OPENED,), "twin is closed"),
        ((OPENED,), (OPENED, an(CaseResolved), an(CaseClosed)), "first is closed"),
    ],
)
def test_what_cannot_be_one_is_refused(
    duplicate: tuple[CaseEvent, ...], survivor: tuple[CaseEvent, ...], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        link(life(HERE, *duplicate), life(THERE, *survivor))


def test_what_does_not_exist_is_no_duplicate_and_has_none() -> None:
    for pair in ((life(HERE), life(THERE, OPENED)), (life(HERE, OPENED), life(THERE))):
        with pytest.raises(Unknown):
            link(*pair)


def test_reopening_the_duplicate_undoes_it() -> None:
    again = life(HERE, OPENED, LINKED, an(CaseResolved, by="system", code="duplicate"), an(CaseReopened, episode=2))
    assert again.duplicate_of is None
    assert [type(new.event) for new in link(again, life(THERE, OPENED))] == [CaseLinked, CaseResolved, CaseLinked]


def test_a_case_that_has_a_duplicate_may_have_more() -> None:
    survivor = life(THERE, OPENED, an(CaseLinked, relation="has_duplicate", case_id=ELSEWHERE))
    assert len(link(life(HERE, OPENED), survivor)) == 3
