"""The split of a queue between its partners: within one case of every share, at every moment, and replayable."""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

from hypothesis import given as for_all
from hypothesis import strategies as st

from services.vendor.shares import Choice, Split, assign, choose


@st.composite
def plans(draw: st.DrawFn) -> dict[str, int]:
    """Percentages that sum to 100, between up to 40 partners; small shares beside large ones are the hard part."""
    cuts = draw(st.lists(st.one_of(st.integers(1, 99), st.integers(1, 12)), max_size=39, unique=True))
    edges = [0, *sorted(cuts), 100]
    shares = draw(st.permutations([upper - lower for lower, upper in pairwise(edges)]))
    return {f"p{n:02}": share for n, share in enumerate(shares)}


def is_kept(weights: Mapping[str, int], cases: int) -> bool:
    """Whether after each of the first `cases` cases every partner is less than one case off its share."""
    total, got = sum(weights.values()), Counter[str]()
    for n in range(1, cases + 1):
        got[choose(weights, got)] += 1
        if any(abs(weights[partner] * n - got[partner] * total) >= total for partner in weights):
            return False
    return True


@for_all(plan=plans())
def test_nobody_is_ever_a_whole_case_off_its_share(plan: dict[str, int]) -> None:
    assert is_kept(plan, 200)


def test_small_shares_beside_large_ones_are_kept_where_giving_to_the_neediest_fails() -> None:
    plan = dict(zip("abcdefghijk", (35, 32, 11, 9, 3, 3, 3, 1, 1, 1, 1), strict=True))
    assert is_kept(plan, 300)


@for_all(weights=st.dictionaries(st.text("abcdef", min_size=1), st.integers(1, 1000), min_size=1, max_size=12))
def test_any_weights_are_kept_not_only_percentages(weights: dict[str, int]) -> None:
    assert is_kept(weights, 300)


@for_all(plan=plans())
def test_after_a_hundred_cases_every_partner_has_exactly_its_percentage(plan: dict[str, int]) -> None:
    choices = assign([(str(n), "q") for n in range(100)], {"q": split(plan)}, {})
    assert Counter(choice.partner_id for choice in choices.values()) == plan


@for_all(plan=plans(), cuts=st.lists(st.integers(1, 59), max_size=4))
def test_the_split_does_not_depend_on_how_cases_come_in_batches(plan: dict[str, int], cuts: list[int]) -> None:
    keys = [(str(n), "q") for n in range(60)]
    at_once = assign(keys, {"q": split(plan)}, {})
    got: Counter[str] = Counter()
    in_batches: dict[str, Choice] = {}
    edges = sorted({0, *cuts, 60})
    for lower, upper in pairwise(edges):
        batch = assign(keys[lower:upper], {"q": split(plan)}, {"q": got})
        got.update(choice.partner_id for choice in batch.values())
        in_batches |= batch
    assert in_batches == at_once


def split(plan: Mapping[str, int]) -> Split:
    return Split({partner: f"contract-{partner}@1" for partner in plan}, "q@1", plan)


def test_a_choice_pins_the_contract_and_the_plan_and_says_how_far_behind_the_partner_was() -> None:
    plan = {"steady": 40, "swift": 60}
    first, second = assign([("1", "q"), ("2", "q")], {"q": split(plan)}, {}).values()
    assert first == Choice("swift", "contract-swift@1", "q@1", "0.6")
    assert second == Choice("steady", "contract-steady@1", "q@1", "0.8")


def test_ties_go_by_partner_id() -> None:
    assert choose({"b": 50, "a": 50}, {}) == "a"


def test_a_partner_whose_contract_is_gone_gets_nothing_and_the_others_share() -> None:
    split_ = Split({"swift": "c@1"}, "q@1", {"swift": 60, "steady": 40})
    choices = assign([(str(n), "q") for n in range(5)], {"q": split_}, {"q": {"steady": 70, "swift": 30}})
    assert {choice.partner_id for choice in choices.values()} == {"swift"}


def test_a_partner_with_a_share_of_nothing_gets_nothing() -> None:
    choices = assign([(str(n), "q") for n in range(50)], {"q": split({"swift": 100, "steady": 0})}, {})
    assert {choice.partner_id for choice in choices.values()} == {"swift"}


def test_without_a_plan_the_partners_with_a_contract_share_evenly() -> None:
    even = Split({"swift": "a@1", "steady": "b@1", "slow": "c@1"})
    choices = assign([(str(n), "q") for n in range(30)], {"q": even}, {})
    assert Counter(choice.partner_id for choice in choices.values()) == {"swift": 10, "steady": 10, "slow": 10}
    assert {choice.share_plan for choice in choices.values()} == {None}


def test_a_queue_nobody_may_handle_gets_no_choice() -> None:
    assert assign([("1", "q"), ("2", "other")], {"q": Split({})}, {}) == {}
    assert assign([("1", "q")], {"q": Split({"slow": "c@1"}, "q@1", {"swift": 100})}, {}) == {}
