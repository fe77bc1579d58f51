"""The router's tables, and what is published into them."""

import json
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from events.case import CaseQueued, CaseReranked, OfferDeclined, OfferExpired, Priority, UnitKind
from events.errors import Invalid, Unknown
from events.event import OperationsEvent
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
from events.personal import Clear
from events.store import Fold
from events.testing import START, STEP, folding, given
from services.router import organigram
from services.router.organigram import AGENT, QUEUE, TABLE, UNIT, Known, Wanted
from services.router.views import AGENTS, QUEUES, ROUTING_TABLES, UNITS, WORK, Queue, RoutingTable, Unit
from services.router.work import Status
from tests.given import an
from tests.router.past import ASSIGNED, OFFERED, QUEUED, left

# ---------------------------------------------------------------------------------------------------------------- work


def test_a_waiting_case_has_all_that_matching_looks_at() -> None:
    row = folding(WORK, QUEUED).row()

    assert row is not None
    assert (row.status, row.queue_id, row.unit_id, row.unit_kind) == (
        Status.WAITING,
        "general",
        "general",
        UnitKind.FRONT_END,
    )
    assert (row.channel, row.market, row.language, row.journey) == ("email", "de", "de", "delivery")
    assert (row.priority, row.rank, row.enqueued_at) == (Priority.HIGH, 1, START)


def test_an_open_offer_has_a_deadline_and_an_answered_one_has_none() -> None:
    asked, owned = folding(WORK, QUEUED, OFFERED).row(), folding(WORK, QUEUED, OFFERED, ASSIGNED).row()

    assert asked is not None
    assert owned is not None
    assert (asked.status, asked.agent_id, asked.offer_id) == (Status.OFFERED, "anna", "offer-1")
    assert (asked.due_at, asked.offered_to, asked.offered_at) == (OFFERED.expires_at, "anna", START + STEP)
    assert (owned.status, owned.agent_id, owned.due_at) == (Status.ASSIGNED, "anna", None)


def test_the_place_in_the_queue_survives_what_comes_to_nothing() -> None:
    second = OFFERED.model_copy(update={"offer_id": "offer-2"})
    row = folding(WORK, QUEUED, OFFERED, an(OfferDeclined), second, an(OfferExpired, offer_id="offer-2")).row()

    assert row is not None
    assert (row.status, row.enqueued_at, row.offers) == (Status.WAITING, START, 2)
    assert (row.declined_by, row.missed_by) == (("anna",), ("anna",))


def test_the_most_urgent_rank_first() -> None:
    ranks = []
    for priority in (Priority.URGENT, Priority.HIGH, Priority.NORMAL, Priority.LOW):
        row = folding(WORK, an(CaseQueued, priority=priority)).row()
        assert row is not None
        ranks.append(row.rank)

    assert ranks == [0, 1, 2, 3]


def test_a_case_that_is_ranked_anew_keeps_its_place() -> None:
    row = folding(WORK, QUEUED, an(CaseReranked, priority=Priority.LOW, journey="return")).row()

    assert row is not None
    assert (row.priority, row.rank, row.journey, row.enqueued_at) == (Priority.LOW, 3, "return", START)
    assert (row.status, row.queue_id) == (Status.WAITING, "general")


def test_what_left_the_queue_is_in_nobodys_hands() -> None:
    row = folding(WORK, QUEUED, left("escalated")).row()

    assert row is not None
    assert (row.status, row.queue_id, row.agent_id) == (Status.ESCALATED, "general", None)


# ---------------------------------------------------------------------------------------------------------- organigram


def test_the_organigrams_rows_are_its_last_versions() -> None:
    folding(UNITS, an(UnitPublished), an(UnitPublished, version=2, name="Care"), subject="unit:care").row_is(
        Unit("unit:care", "care", 2, "Care", UnitKind.FRONT_END, ("de", "at"))
    )
    folding(QUEUES, an(QueuePublished), subject="queue:care").row_is(
        Queue("queue:care", "care", 2, "General", "general", 1, 60)
    )
    rules = (RoutingRule(rule="default", queue_id="general"),)
    row = folding(ROUTING_TABLES, RoutingTablePublished(version=4, rules=rules), subject="table:main").row()
    assert isinstance(row, RoutingTable)
    assert (row.table_id, row.version) == ("main", 4)
    assert [rule["queue_id"] for rule in json.loads(row.rules)] == ["general"]


def test_an_agents_row_holds_the_name_sealed_and_the_presence_beside_it() -> None:
    here = an(PresenceChanged, presence=Presence.AVAILABLE)
    row = folding(AGENTS, an(AgentRegistered), here, an(AgentRegistered, version=2), subject="agent:anna").row()

    assert row is not None
    assert (row.agent_id, row.version, row.capacity) == ("anna", 2, 5)
    assert row.presence is Presence.AVAILABLE
    assert json.loads(row.name)["s"] == "agent:anna"
    assert "Åkesson" not in row.name


def test_an_agent_nobody_registered_is_offline() -> None:
    row = folding(AGENTS, an(AgentRegistered), subject="agent:anna").row()

    assert row is not None
    assert row.presence is Presence.OFFLINE


@pytest.mark.parametrize(
    ("fold", "subject", "decision", "looked", "published"),
    [
        (
            UNIT("care").fold,
            "unit:care",
            partial(organigram.publish_unit, an(UnitPublished)),
            None,
            an(UnitPublished),
        ),
        (
            QUEUE("care").fold,
            "queue:care",
            partial(organigram.publish_queue, an(QueuePublished)),
            {"general": UnitKind.FRONT_END},
            an(QueuePublished),
        ),
        (
            TABLE().fold,
            "table:main",
            partial(organigram.publish_table, an(RoutingTablePublished).rules),
            frozenset({"general", "parcels"}),
            an(RoutingTablePublished),
        ),
    ],
)
def test_each_publication_is_the_next_version_and_the_same_content_is_none(
    fold: Fold[object], subject: str, decision: partial[list[OperationsEvent]], looked: object, published: object
) -> None:
    assert isinstance(published, UnitPublished | QueuePublished | RoutingTablePublished)
    looks: dict[str, Any] = {} if looked is None else {"looked": looked}
    first = given(fold, subject=subject).when(decision, **looks)

    first.then(published.model_copy(update={"version": 1}))
    first.after.when(decision, **looks).nothing()
    other = published.model_copy(update={"version": 6, "name": "Another"})
    if not isinstance(published, RoutingTablePublished):
        given(fold, other, subject=subject).when(decision, **looks).then(published.model_copy(update={"version": 7}))


def test_a_queue_needs_a_unit_that_handles_cases() -> None:
    publish = partial(organigram.publish_queue, an(QueuePublished, unit_id="training"))

    new = given(QUEUE("q").fold, subject="queue:q")
    new.when(publish, looked={}).rejects(Invalid, "there is no unit training")
    new.when(publish, looked={"training": UnitKind.ENABLER}).rejects(Invalid, "handles no cases")
    new.when(publish, looked={"training": UnitKind.PARTNER}).then_types(QueuePublished)


WANTED = Wanted("anna", "Anna Åkesson", ("general",), Skills(languages=("de",), level=2), 5)
GENERAL = Known(frozenset({"general"}), None)


def test_an_agent_is_registered_with_the_name_as_personal_text() -> None:
    decided = given(AGENT("anna").fold, subject="agent:anna").when(
        partial(organigram.register_agent, WANTED), looked=GENERAL
    )

    decided.then(
        AgentRegistered(
            version=1,
            name=Clear("agent:anna", "Anna Åkesson"),
            unit_ids=("general",),
            skills=Skills(languages=("de",), level=2),
            capacity=5,
        )
    )
    again = partial(organigram.register_agent, WANTED)
    decided.after.when(again, looked=Known(GENERAL.unit_ids, "Anna Åkesson")).nothing()
    (renamed,) = decided.after.when(again, looked=Known(GENERAL.unit_ids, "Anna Berg")).events
    assert isinstance(renamed, AgentRegistered)
    assert renamed.version == 2


def test_an_agent_of_no_unit_is_refused() -> None:
    new = given(AGENT("anna").fold, subject="agent:anna")

    new.when(partial(organigram.register_agent, WANTED), looked=Known(frozenset(), None)).rejects(Invalid, "general")


def test_presence_changes_once_and_only_of_an_agent_there_is() -> None:
    come = partial(organigram.change_presence, Presence.AVAILABLE)
    known = given(AGENT("anna").fold, (an(AgentRegistered), START - timedelta(days=1)), subject="agent:anna")

    known.when(come).then(PresenceChanged(presence=Presence.AVAILABLE)).after.when(come).nothing()
    given(AGENT("bo").fold, subject="agent:bo").when(come).rejects(Unknown, "there is no agent bo")
