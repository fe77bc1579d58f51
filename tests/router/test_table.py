"""The routing table finds one queue for every case, and can say which rule did."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.case import CaseOpened, Priority
from events.errors import Invalid
from events.operations import RoutingRule, When
from services.router.table import Facts, Table, check, holds, read, written
from tests.given import an

CODES = ("a", "b", "c")
LISTS = st.lists(st.sampled_from(CODES), max_size=2).map(tuple)
WHENS = st.builds(
    When,
    channels=LISTS,
    markets=LISTS,
    languages=LISTS,
    journeys=LISTS,
    priorities=st.lists(st.sampled_from(Priority), max_size=2).map(tuple),
)
FACTS = st.builds(
    Facts,
    *(st.sampled_from((*CODES, None)) for _ in range(4)),
    st.sampled_from(Priority),
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    whens = (*draw(st.lists(WHENS, max_size=8)), When())
    return Table(7, tuple(RoutingRule(rule=f"r{i}", when=w, queue_id=f"q{i}") for i, w in enumerate(whens)))


@given(tables(), FACTS)
def test_every_case_finds_one_queue_by_the_first_rule_that_holds(table: Table, facts: Facts) -> None:
    routed = table.route(facts)

    place = [rule.rule for rule in table.rules].index(routed.rule)
    assert routed.queue_id == table.rules[place].queue_id
    assert holds(table.rules[place].when, facts)
    assert not any(holds(rule.when, facts) for rule in table.rules[:place])


@given(tables())
def test_a_table_is_read_as_it_was_written(table: Table) -> None:
    assert read(table.version, written(table.rules)) == table


@given(FACTS)
def test_a_condition_holds_when_every_list_contains_the_cases_value(facts: Facts) -> None:
    own = When(
        channels=(facts.channel,) if facts.channel else (),
        markets=(facts.market, "other") if facts.market else (),
        priorities=(facts.priority,),
    )
    assert holds(own, facts)
    assert not holds(own.model_copy(update={"languages": ("none-of-them",)}), facts)


def test_a_routed_case_says_which_rule_of_which_version_decided() -> None:
    rules = (
        RoutingRule(rule="de-claims", when=When(markets=("de",), journeys=("claims",)), queue_id="claims"),
        RoutingRule(rule="default", queue_id="general"),
    )
    routed = Table(3, rules).route(Facts.of(an(CaseOpened, market="de", journey="claims")))

    assert (routed.queue_id, routed.why) == ("claims", "rule de-claims of main@3")


QUEUES = frozenset({"general"})
DEFAULT = RoutingRule(rule="default", queue_id="general")


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ([RoutingRule(rule="only", when=When(markets=("de",)), queue_id="general")], "has a condition"),
        ([DEFAULT, DEFAULT], "two rules are called default"),
        ([RoutingRule(rule="first", queue_id="nowhere"), DEFAULT], "the queue nowhere, which does not exist"),
    ],
)
def test_a_table_by_which_a_case_could_get_lost_is_refused(rules: list[RoutingRule], why: str) -> None:
    with pytest.raises(Invalid, match=why):
        check(rules, QUEUES)


def test_a_table_whose_last_rule_takes_everything_is_fine() -> None:
    check([RoutingRule(rule="de", when=When(markets=("de",)), queue_id="general"), DEFAULT], QUEUES)
