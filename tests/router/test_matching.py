"""Who is asked for what: the order of the queue, and the order of the agents."""

from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events.testing import START
from services.router.matching import Candidate, Match, Round, Waiting
from services.router.organigram import Agent
from tests.router.past import ANNA, BEN

CASE = Waiting("case-1", "general", "general", "de", "de", "delivery", 1)
ANYONE = replace(BEN, capacity=10)


def agent(name: str, **more: Any) -> Agent:
    return replace(ANYONE, agent_id=name, **more)


def chosen(case: Waiting, *candidates: Candidate) -> str | None:
    matches = Round(list(candidates)).match([case])
    return matches[0].agent_id if matches else None


def test_the_agent_with_the_lowest_share_of_capacity_in_use_is_asked() -> None:
    half, fifth = Candidate(agent("a", capacity=2), 1, None), Candidate(agent("b", capacity=10), 2, None)

    assert chosen(CASE, half, fifth) == "b"


def test_of_two_equally_busy_the_one_with_the_lower_skill_surplus_is_asked() -> None:
    assert chosen(CASE, Candidate(agent("a", level=3), 0, None), Candidate(agent("b", level=1), 0, None)) == "b"


def test_of_two_equally_skilled_the_one_asked_longest_ago_is_asked() -> None:
    just, long_ago = Candidate(agent("a"), 0, START), Candidate(agent("b"), 0, START - timedelta(hours=1))

    assert chosen(CASE, just, long_ago) == "b"
    assert chosen(CASE, just, long_ago, Candidate(agent("c"), 0, None)) == "c"


def test_of_two_alike_the_lower_id_is_asked() -> None:
    assert chosen(CASE, Candidate(agent("b"), 0, None), Candidate(agent("a"), 0, None)) == "a"


def test_who_let_an_offer_of_the_case_run_out_is_asked_last() -> None:
    case = replace(CASE, missed_by=("a",))

    assert chosen(case, Candidate(agent("a"), 0, None), Candidate(agent("b"), 9, None)) == "b"
    assert chosen(case, Candidate(agent("a"), 0, None)) == "a"


def test_who_declined_the_case_is_not_asked() -> None:
    assert chosen(replace(CASE, declined_by=("a",)), Candidate(agent("a"), 0, None)) is None


def test_only_members_of_the_unit_with_the_skills_are_asked() -> None:
    for unfit in (
        agent("a", unit_ids=("refunds",)),
        agent("a", languages=("fi",)),
        agent("a", markets=("fi",)),
        agent("a", journeys=("claims",)),
    ):
        assert chosen(CASE, Candidate(unfit, 0, None)) is None
    assert chosen(replace(CASE, level=2), Candidate(agent("a", level=1), 0, None)) is None
    assert chosen(replace(CASE, language=None), Candidate(agent("a", languages=("de",)), 0, None)) is None
    assert chosen(CASE, Candidate(ANNA, 0, None)) == "anna"


def test_a_round_takes_turns() -> None:
    line = [replace(CASE, case_id=f"case-{n}") for n in range(4)]
    matches = Round([Candidate(agent("a"), 0, None), Candidate(agent("b"), 0, None)]).match(line)

    assert matches == [
        Match("case-0", "general", "a"),
        Match("case-1", "general", "b"),
        Match("case-2", "general", "a"),
        Match("case-3", "general", "b"),
    ]


def test_a_case_nobody_can_take_does_not_hold_up_the_ones_behind_it() -> None:
    finnish = replace(CASE, case_id="case-0", language="fi")
    matches = Round([Candidate(agent("a", languages=("de",)), 0, None)]).match([finnish, CASE])

    assert [match.case_id for match in matches] == ["case-1"]


CANDIDATES = st.lists(
    st.builds(
        lambda name, load, capacity, languages, level: Candidate(
            agent(name, capacity=capacity, languages=languages, level=level), load, None
        ),
        st.text("abcdef", min_size=1, max_size=3),
        st.integers(0, 4),
        st.integers(1, 4),
        st.lists(st.sampled_from(["de", "en"]), max_size=1).map(tuple),
        st.integers(1, 3),
    ),
    max_size=6,
    unique_by=lambda candidate: candidate.agent.agent_id,
)
LINE = st.lists(st.tuples(st.sampled_from(["de", "en", "fi"]), st.integers(1, 3)), max_size=20)


@given(CANDIDATES, LINE, st.integers(1, 20))
def test_nobody_is_asked_beyond_capacity_and_no_one_free_is_left_beside_a_case_they_could_take(
    candidates: list[Candidate], line: list[tuple[str, int]], page: int
) -> None:
    cases = [
        replace(CASE, case_id=f"case-{n}", language=language, level=level) for n, (language, level) in enumerate(line)
    ]
    before = {c.agent.agent_id: c.load for c in candidates}
    round_ = Round([replace(c) for c in candidates])
    matches = [match for at in range(0, len(cases), page) for match in round_.match(cases[at : at + page])]

    agents = {c.agent.agent_id: c.agent for c in candidates}
    asked = {name: [m for m in matches if m.agent_id == name] for name in agents}
    assert all(before[name] + len(asked[name]) <= agents[name].capacity for name in agents if asked[name])
    free = [agents[name] for name in agents if before[name] + len(asked[name]) < agents[name].capacity]
    matched = {match.case_id for match in matches}
    assert len(matched) == len(matches)
    for case in cases:
        fits = [a for a in free if a.can_take(case.unit_id, case.market, case.language, case.journey, case.level)]
        assert case.case_id in matched or not fits


@given(CANDIDATES, LINE, st.randoms())
def test_the_same_input_gives_the_same_matches(
    candidates: list[Candidate], line: list[tuple[str, int]], chance: Random
) -> None:
    cases = [replace(CASE, case_id=f"case-{n}", language=language) for n, (language, _) in enumerate(line)]
    shuffled = [replace(c) for c in candidates]
    chance.shuffle(shuffled)

    assert Round(shuffled).match(cases) == Round([replace(c) for c in candidates]).match(cases)
