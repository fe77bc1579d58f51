"""Another system's history is judged by what its import names and by nothing else, and nothing of it fires."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from events.case import (
    CaseObserved,
    CaseTakenOver,
    Category,
    ClockBreached,
    ClockKind,
    ClockRestated,
    MessageReceived,
    Priority,
)
from events.event import CaseEvent, Recorded
from events.testing import START, recorded
from services.commands.profiles import Profile, Row, load_profile
from services.escalation.decide import clocks as decide
from services.escalation.decide import observed
from services.escalation.decide.case import FOLD
from services.escalation.views.clocks import fold_clocks
from services.metrics.service import SERVICE as METRICS
from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine
from tests.escalation.conftest import SERVICES
from tests.escalation.hearing import HOUR, STANDARD, Hearing
from tests.escalation.test_doors import clocks, opened
from tests.given import an
from tests.metrics.samples import VINST
from tests.metrics.samples import observed as as_event
from tests.metrics.stored import facts_of, stored
from tests.until import until

HANDLING, WAIT, RESOLUTION = ClockKind.HANDLING, ClockKind.REQUESTER_WAIT, ClockKind.RESOLUTION

TARGETS = {
    Priority.URGENT: timedelta(hours=4),
    Priority.HIGH: timedelta(hours=8),
    Priority.NORMAL: timedelta(hours=24),
    Priority.LOW: timedelta(hours=72),
}
"""Of the standard promise, for a resolution."""


def promised(directory: Path, *promises: str) -> Profile:
    """The profile of the Volvo log, under another name and with promises."""
    text = (files("services") / "intake" / "profiles" / "vinst.yaml").read_text("utf-8")
    path = directory / "vinst-promised.yaml"
    named = f"promises: [{', '.join(promises)}]\n" if promises else ""
    path.write_text(text.replace("name: vinst\n", f"name: vinst-promised\n{named}"))
    return load_profile(str(path))


# ------------------------------------------------------------------------------------------------------------ decisions


class Log(Hearing):
    """Rows heard one after another."""

    def row(self, hours: float, category: Category, promises: tuple[str, ...] = ("standard@1",), **more: object) -> Log:
        ordinal = len(self.facts) + 1
        row = an(
            CaseObserved,
            **{"profile": "crm", "priority": Priority.HIGH, "resolution": category is Category.RESOLVED} | more,
            ordinal=ordinal,
            category=category,
            promises=promises,
        )
        self.hear(row, START + hours * HOUR)
        return self

    def say_all(self) -> Log:
        news = [*observed.judge(self.case, self.facts, self.rules), *decide.judge(self.case, self.facts, self.rules)]
        self.say(news, max(fact.occurred_at for fact in self.facts))
        return self


def log(*rows: tuple[float, Category], **more: Any) -> Log:
    heard = Log()
    for hours, category in rows:
        heard.row(hours, category, **more)
    return heard.say_all()


def test_a_history_is_told_as_a_restatement_that_names_its_profile() -> None:
    case = log((0, Category.NEW), (7, Category.RESOLVED))
    assert {type(one.data) for one in case.said} == {ClockRestated}
    (told,) = [one for one in case.events(ClockRestated) if isinstance(one, ClockRestated) and one.clock is RESOLUTION]
    assert told.reason == "imported by profile crm, which names standard@1"
    assert (told.before, told.after.kept, told.after.fires) == (None, True, False)
    assert (told.after.due_at, told.after.elapsed_s) == (START + 8 * HOUR, 7 * 3600)
    assert case.say_all().last == [], "nothing is told twice"


def test_what_ended_late_is_not_kept_and_nothing_fires() -> None:
    case = log((0, Category.NEW), (9, Category.RESOLVED))
    assert case.clock(RESOLUTION).verdict is False
    assert case.fire(START + 1000 * HOUR).last == []
    assert case.events(ClockBreached) == []


def test_what_never_ended_is_no_verdict_however_long_ago_it_was() -> None:
    case = log((0, Category.NEW), (1, Category.IN_PROGRESS))
    assert (case.clock(RESOLUTION).verdict, case.clock(RESOLUTION).due_at) == (None, START + 8 * HOUR)
    assert case.fire(START + 1000 * HOUR).last == []
    row = None
    for one in case.said:
        row = fold_clocks(row, one)
    assert row is None, "the timers have nothing to look at"


def test_without_promises_there_is_no_clock() -> None:
    assert log((0, Category.NEW), (9, Category.RESOLVED), promises=()).said == []


def test_a_promise_nobody_published_leaves_the_times_and_says_so() -> None:
    case = log((0, Category.NEW), (9, Category.RESOLVED), promises=("gold@7",))
    assert (case.clock(RESOLUTION).verdict, case.clock(RESOLUTION).elapsed_s) == (None, 9 * 3600)
    assert {one.reason for one in case.events(ClockRestated) if isinstance(one, ClockRestated)} == {
        "imported by profile crm, which names gold@7; not published: gold@7"
    }


def test_waiting_is_taken_from_the_log_as_it_stands() -> None:
    waited = (0, Category.NEW), (1, Category.WAITING_CUSTOMER), (5, Category.IN_PROGRESS), (6, Category.RESOLVED)
    case = log(*waited)
    assert [case.clock(kind).elapsed_s for kind in (HANDLING, WAIT, RESOLUTION)] == [7200, 7200, 6 * 3600]


def test_a_reopened_case_is_judged_by_episode() -> None:
    case = log((0, Category.NEW), (7, Category.RESOLVED), (20, Category.IN_PROGRESS), (40, Category.RESOLVED))
    assert [case.clock(RESOLUTION, episode).verdict for episode in (1, 2)] == [True, False]


def test_an_end_that_is_no_resolution_acquits_nobody() -> None:
    case = log((0, Category.NEW), (1, Category.CLOSED))
    assert (case.clock(RESOLUTION).cancelled, case.clock(RESOLUTION).verdict) == (True, None)


def test_a_log_that_begins_with_the_end_has_no_clocks() -> None:
    assert log((0, Category.RESOLVED), (1, Category.CLOSED)).said == []


def test_a_row_that_comes_late_is_told_with_what_was_said_before() -> None:
    case = log((0, Category.NEW), (9, Category.RESOLVED))
    case.row(7, Category.RESOLVED).say_all()
    (told,) = [one for one in case.last if isinstance(one, ClockRestated) and one.clock is RESOLUTION]
    assert (told.before and told.before.kept, told.after.kept) == (False, True)


def test_a_case_that_is_taken_over_has_clocks_of_ours_from_then_on() -> None:
    """The history's own clock was no verdict; ours begins now, and fires."""
    case = log((0, Category.NEW), (1, Category.IN_PROGRESS))
    at = START + 1000 * HOUR
    case.hear(an(CaseTakenOver, episode=1, priority=Priority.HIGH), at)
    case.hear(an(MessageReceived), at)
    case.say_all()
    clock = case.clock(RESOLUTION)
    assert (clock.fires, clock.started_at, clock.due_at) == (True, at, at + 8 * HOUR)
    told = [one for one in case.events(ClockRestated) if isinstance(one, ClockRestated) and one.after.fires]
    assert {one.reason for one in told} == {"the case was taken over"}
    case.fire(at + 9 * HOUR)
    assert [
        one.due_at for one in case.events(ClockBreached) if isinstance(one, ClockBreached) and one.clock is RESOLUTION
    ] == [at + 8 * HOUR]


def test_what_was_judged_in_the_history_stays_when_the_case_comes_back_to_us() -> None:
    case = log((0, Category.NEW), (9, Category.RESOLVED))
    case.hear(an(CaseTakenOver, episode=2, priority=Priority.HIGH), START + 1000 * HOUR)
    case.say_all()
    assert (case.clock(RESOLUTION, 1).verdict, case.clock(RESOLUTION, 1).fires) == (False, False)
    assert (case.clock(RESOLUTION, 2).verdict, case.clock(RESOLUTION, 2).fires) == (None, True)
    case.row(7, Category.RESOLVED).say_all()
    assert case.clock(RESOLUTION, 1).verdict is True, "history that comes later is history"
    assert case.clock(RESOLUTION, 2).started_at == START + 1000 * HOUR


# --------------------------------------------------------------------------------------------------------- a real log


def rows_of(profile: Profile) -> list[Row]:
    """The small log, or every tenth case of the real one."""
    rows = profile.rows(VINST.lines())
    return [row for row in rows if not VINST.is_real or crc32(str(row["case"]).encode()) % 10 == 0]


def judged(profile: Profile, log: list[Row]) -> Iterator[Recorded[CaseEvent]]:
    """All that is said about the log: its rows, and what escalation says about them."""
    rows = [as_event(row, profile.name) for row in log]
    for case_id, facts in groupby(sorted(rows, key=lambda row: (row.subject, row.key)), key=lambda row: row.subject):
        heard = [fact._replace(data=fact.data.model_copy(update={"promises": profile.promises})) for fact in facts]
        yield from heard
        case = FOLD.initial(case_id)
        for n, new in enumerate(observed.judge(case, heard, Hearing([STANDARD]).rules)):
            yield recorded(new.event, subject=case_id, sequence=n + 1, at=heard[-1].recorded_at)


def counted(log: list[Row]) -> Counter[bool | None]:
    """Verdict on the last episode → cases; row by row, and by nothing that the product does."""
    by_case: dict[str, list[Row]] = {}
    for row in log:
        by_case.setdefault(str(row["case"]), []).append(row)
    return Counter(_verdict(rows) for rows in by_case.values())


def _verdict(rows: list[Row]) -> bool | None:
    """Of the last time the case was opened: all time counts, by the priority at the end."""
    began, running, kept, priority = None, False, None, "normal"
    ended_before = True
    for at, row in sorted(((_at(row), row) for row in rows), key=lambda one: (one[0], one[1]["ordinal"])):
        priority = str(row.get("priority", priority))
        ended = row["category"] in ("resolved", "closed")
        if ended_before and not ended:
            began, running, kept = at, True, None
        if running and ended:
            assert began is not None
            in_time, running = at - began <= TARGETS[Priority(priority)], False
            kept = in_time if row["resolution"] or not in_time else None
        ended_before = ended
    return kept


def _at(row: Row) -> datetime:
    return datetime.fromisoformat(str(row["occurred_at"]))


async def test_a_real_log_keeps_as_many_promises_as_a_count_by_hand_says(database: str, tmp_path: Path) -> None:
    profile = promised(tmp_path, "standard@1")
    log = rows_of(profile)
    by_hand = counted(log)
    async with stored(database, facts_of(judged(profile, log))) as table:
        figure = (await table.figures())["promise_kept"]
    assert (figure["cases"], figure["n"]) == (by_hand[True], by_hand[True] + by_hand[False])
    if not VINST.is_real:
        assert by_hand == {True: 1, False: 3, None: 2}  # A in time; B, C, F late; D and E without an end that counts


# ------------------------------------------------------------------------------------------------------------ the doors


@pytest.fixture
async def all_five(engine: Engine, tmp_path: Path) -> AsyncIterator[Casewalk]:
    async with casewalk(engine, tmp_path, (*SERVICES, METRICS)) as running:
        yield running


async def imported(here: Casewalk, profile: Profile, import_id: str) -> list[str]:
    """The small log comes in; its case ids."""
    rows = "\n".join(json.dumps(row) for row in profile.rows(VINST.small.splitlines()))
    query = {"profile": profile.name, "import_id": import_id, "promises": profile.promises}
    answer = await here.admin.post(
        "/v1/imports", params=query, content=rows, headers={"Content-Type": "application/x-ndjson"}
    )
    assert (answer.status_code, answer.json()["refused"]) == (200, 0), answer.text
    await here.settled()
    return list(dict.fromkeys(row["case_id"] for row in answer.json()["rows"]))


async def said_of(here: Casewalk, case_ids: list[str]) -> Counter[str]:
    """What escalation ever said about these cases, and the effects it owes."""
    readers = here.hosts["escalation"].database.readers
    types = await readers.fetch("select type from events where subject = any($1)", case_ids)
    effects = await readers.fetchval("select count(*) from effect where subject = any($1)", case_ids)
    return Counter(row["type"].split(".")[2] for row in types) + Counter(effects=effects)


async def test_an_import_is_judged_by_the_versions_its_profile_names_and_nothing_of_it_fires(
    all_five: Casewalk, tmp_path: Path
) -> None:
    here = all_five
    told = {"events": ["clock_warned", "clock_breached"], "channel": "email", "address": "duty@example.org"}
    assert (await here.admin.put("/v1/notices/leads", json=told)).is_success
    plain = await imported(here, load_profile("vinst"), "plain")
    case_ids = await imported(here, promised(tmp_path, "standard@1"), "promised")
    live = await opened(here, ago=timedelta(hours=100))
    await until(lambda: _breached(here, live))
    await here.settled()  # its breach is told of when it comes back from the log

    assert await said_of(here, plain) == {}
    assert await said_of(here, case_ids) == {"clock_restated": 3 * 7}  # A to F have seven episodes
    assert (await said_of(here, [live]))["effects"] > 0
    figures = [(await _figures(here, name))["promise_kept"] for name in ("plain", "promised")]
    assert [(figure["cases"], figure["n"]) for figure in figures] == [(None, 0), (1, 4)]
    for name in ("plain", "promised"):
        await _adds_up(here, name)
    by_case = {
        name: (await clocks(here, case_id))["resolution"] for name, case_id in zip("ABCDEF", case_ids, strict=True)
    }
    assert {name: clock["kept"] for name, clock in by_case.items()} == {
        "A": True, "B": False, "C": False, "D": None, "E": None, "F": False,
    }  # fmt: skip
    assert {clock["fires"] for clock in by_case.values()} == {False}


async def test_a_live_contact_makes_the_imported_case_ours_with_clocks_that_fire(
    all_five: Casewalk, tmp_path: Path
) -> None:
    here = all_five
    case_ids = await imported(here, promised(tmp_path, "standard@1"), "promised")
    case_id = case_ids[4]  # E, still open
    order = {"direction": "in", "body": "Any news?"}
    assert (await here.admin.post(f"/v1/cases/{case_id}/messages", json=order)).status_code == 201

    async def ours() -> bool:
        await here.settled()
        clock = (await clocks(here, case_id))["resolution"]
        return (clock["fires"], clock["state"], clock["remaining_s"] > 0) == (True, "running", True)

    await until(ours)
    assert (await said_of(here, [case_id]))["clock_breached"] == 0


async def _breached(here: Casewalk, case_id: str) -> bool:
    return bool((await clocks(here, case_id))["resolution"]["state"] == "breached")


async def _adds_up(here: Casewalk, import_id: str) -> None:
    """The figure is explained case by case."""
    query = {"where": f"import={import_id}"}
    items = (await here.admin.get("/v1/figures/promise_kept/cases", params=query)).json()["items"]
    counted = Counter(item["verdict"] for item in items if item["counted"])
    figure = (await _figures(here, import_id))["promise_kept"]
    assert (len(items), counted["yes"], counted.total()) == (6, figure["cases"] or 0, figure["n"])
    left_out = Counter(item["why"] for item in items if not item["counted"])
    if import_id == "plain":
        assert left_out == {"imported without promises": 6}
    else:
        assert left_out == {
            "the case ended without a resolution": 1,
            "the imported history ends before the case does": 1,
        }
        assert {item["promise"] for item in items} == {"standard@1"}


async def _figures(here: Casewalk, import_id: str) -> dict[str, Any]:
    answer = await here.admin.get("/v1/figures", params={"where": f"import={import_id}"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
