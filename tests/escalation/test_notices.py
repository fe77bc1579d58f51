"""Notices: who is told of what, once, in the owner's hours unless it is a breach, and without a customer's words."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from events.case import (
    Case,
    CaseEscalated,
    ClockBreached,
    ClockWarned,
    EscalationAcknowledged,
    EscalationReturned,
    EscalationUnanswered,
)
from events.effects import effect_id
from events.errors import Invalid
from events.event import CASES, OPERATIONS
from events.operations import NoticeChannel, NoticeEvent, NoticePublished
from events.personal import Clear, Sealed
from events.testing import CASE_ID, START, folding, given, recorded
from services.escalation.calendars import Calendar, Timetable, Window
from services.escalation.decide.notices import (
    KINDS,
    NOTICE,
    Looked,
    Subscription,
    Wanted,
    headline,
    notices,
    opens,
    publish,
    text,
)
from services.escalation.react.notices import Looked as Known
from services.escalation.react.notices import tell
from services.escalation.views.notices import NOTICES
from services.runtime.effects import Patience
from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine
from tests.escalation.conftest import SERVICES
from tests.escalation.test_doors import escalation, is_problem, opened
from tests.events.receivers import receiving, taking_mail
from tests.given import an
from tests.until import until

BREACHED = an(ClockBreached)
WARNED = an(ClockWarned)
ESCALATED = an(CaseEscalated)

HERE = Case(CASE_ID, market="de", unit_id="care-de")


def subscription(**changes: Any) -> Subscription:
    fields: dict[str, Any] = {
        "subject": "notice:duty",
        "notice_id": "duty",
        "version": 1,
        "events": tuple(NoticeEvent),
        "unit_ids": (),
        "markets": (),
        "channel": NoticeChannel.WEBHOOK,
        "address": "",
        "secret": None,
        "event_id": CASE_ID,
        "calendar": None,
        "active": True,
    }
    return Subscription(**(fields | changes))


# ------------------------------------------------------------------------------------------------------ who is told


def test_a_subscription_is_told_of_its_events_only() -> None:
    warned_only = subscription(events=(NoticeEvent.CLOCK_WARNED,))
    assert [n.kind for n in notices(recorded(WARNED), HERE, [warned_only])] == [NoticeEvent.CLOCK_WARNED]
    assert notices(recorded(BREACHED), HERE, [warned_only]) == []


@pytest.mark.parametrize(
    "event",
    [WARNED, BREACHED, ESCALATED, an(EscalationUnanswered), an(EscalationAcknowledged), an(EscalationReturned)],
)
def test_everything_one_can_subscribe_to_is_told(event: Any) -> None:
    (notice,) = notices(recorded(event), HERE, [subscription(events=(KINDS[type(event)],))])
    assert notice.facts["event"] == KINDS[type(event)]
    assert set(KINDS.values()) == set(NoticeEvent)


def test_units_and_markets_limit_who_is_told_and_none_means_all() -> None:
    care, other = subscription(unit_ids=("care-de",)), subscription(unit_ids=("other",))
    german, french = subscription(markets=("de",)), subscription(markets=("fr",))
    assert len(notices(recorded(BREACHED), HERE, [care, german, subscription()])) == 3
    assert notices(recorded(BREACHED), HERE, [other, french]) == []
    assert notices(recorded(BREACHED), Case(CASE_ID), [care, german]) == [], "nobody knows where it lies"


def test_an_escalation_concerns_the_unit_that_is_asked() -> None:
    asked = subscription(unit_ids=(ESCALATED.unit_id,))
    assert len(notices(recorded(ESCALATED), HERE, [asked])) == 1


def test_only_a_breach_waits_for_nobodys_hours() -> None:
    urgent = {
        n.kind: n.urgent for e in (WARNED, BREACHED, ESCALATED) for n in notices(recorded(e), HERE, [subscription()])
    }
    assert urgent == {
        NoticeEvent.CLOCK_WARNED: False,
        NoticeEvent.CLOCK_BREACHED: True,
        NoticeEvent.ESCALATED: False,
    }


def test_who_unsubscribed_is_not_told() -> None:
    assert notices(recorded(BREACHED), HERE, [subscription(active=False)]) == []


def test_an_obligation_is_told_once_per_subscription_whoever_finds_it_out() -> None:
    """A breach's id is made of its clock alone; the same breach read again leads to the same effect."""
    known = Known([subscription(), subscription(notice_id="lead")], {CASE_ID: HERE})
    first = tell(recorded(BREACHED, id=CASE_ID), known, START)
    again = tell(recorded(BREACHED, id=CASE_ID, sequence=7), known, START + timedelta(hours=1))
    assert [effect.id for effect in first] == [effect.id for effect in again]
    assert [effect.id for effect in first] == [effect_id("duty", CASE_ID), effect_id("lead", CASE_ID)]


def test_what_restating_breaks_is_history_and_told_to_nobody() -> None:
    """The promise was pinned after its clock was due; a breach that falls due afterwards is told."""
    breach = recorded(BREACHED, at=START, sequence=5)
    before, after = (1, START - timedelta(hours=1)), (4, START + timedelta(minutes=1))
    assert notices(breach, HERE, [subscription()], [before, after]) == []
    assert len(notices(breach, HERE, [subscription()], [before])) == 1
    assert len(notices(breach, HERE, [subscription()], [(6, START + timedelta(hours=1))])) == 1, "it was said before"
    assert len(notices(recorded(ESCALATED, at=START, sequence=5), HERE, [subscription()], [after])) == 1


def test_a_notice_says_ids_times_and_units_and_no_words_of_people() -> None:
    (notice,) = notices(recorded(ESCALATED.model_copy(update={"reason": "Kim cries"})), HERE, [subscription()])
    assert "Kim" not in str(notice.facts)
    (notice,) = notices(recorded(BREACHED), HERE, [subscription()])
    assert set(notice.facts) == {"event", "case_id", "at", "link", "episode", "clock", "due_at", "unit_id", "market"}
    assert headline(notice.facts) == f"Promise broken ({BREACHED.clock}): case {CASE_ID}"
    assert f"link: /v1/walks/{CASE_ID}" in text(notice.facts).splitlines()


OFFICE = Timetable.of([(None, Calendar("UTC", ((Window.parse("09:00", "17:00"),),) * 5 + ((), ())))])


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("2026-03-02T09:00:00Z", "2026-03-02T09:00:00Z"),
        ("2026-03-02T16:59:59Z", "2026-03-02T16:59:59Z"),
        ("2026-03-02T17:00:00Z", "2026-03-03T09:00:00Z"),
        ("2026-03-06T23:00:00Z", "2026-03-09T09:00:00Z"),
    ],
)
def test_hours_last_or_begin_at_their_next_opening(now: str, then: str) -> None:
    assert opens(OFFICE, datetime.fromisoformat(now)) == datetime.fromisoformat(then)


def test_hours_that_never_come_are_none() -> None:
    assert opens(Timetable.of([(None, Calendar("UTC", ((),) * 7))]), START) is None


# -------------------------------------------------------------------------------------------------------- subscribing


def wanted(**changes: Any) -> Wanted:
    fields: dict[str, Any] = {
        "notice_id": "duty",
        "events": (NoticeEvent.CLOCK_BREACHED,),
        "unit_ids": (),
        "markets": (),
        "channel": NoticeChannel.WEBHOOK,
        "address": "https://desk.test/hook",
        "address_key": "aa",
        "calendar": None,
        "active": True,
        "fresh_secret": "whsec_fresh",
    }
    return Wanted(**(fields | changes))


NOTHING = Looked(None, None)
SIGNED = Looked("whsec_old", None)


def secret_of(event: Any) -> str | None:
    assert isinstance(event, NoticePublished)
    assert not isinstance(event.secret, Sealed)
    return None if event.secret is None else event.secret.text


def test_a_webhook_gets_a_secret_and_keeps_it_over_versions() -> None:
    past = given(NOTICE, subject="notice:duty").when(partial(publish, wanted()), looked=NOTHING)
    assert secret_of(past.events[0]) == "whsec_fresh"
    past.after.when(partial(publish, wanted()), looked=SIGNED).nothing()
    (changed,) = past.after.when(partial(publish, wanted(markets=("de",))), looked=SIGNED).events
    assert secret_of(changed) == "whsec_old"


def test_a_new_secret_comes_when_it_is_asked_for_and_with_another_url() -> None:
    past = given(NOTICE, subject="notice:duty").when(partial(publish, wanted()), looked=NOTHING).after
    for order in (wanted(new_secret=True), wanted(address="https://other.test/", address_key="bb")):
        (changed,) = past.when(partial(publish, order), looked=SIGNED).events
        assert secret_of(changed) == "whsec_fresh"


def test_mail_and_chat_are_not_signed() -> None:
    for channel in (NoticeChannel.EMAIL, NoticeChannel.CHAT):
        (version,) = given(NOTICE).when(partial(publish, wanted(channel=channel)), looked=NOTHING).events
        assert secret_of(version) is None


def test_hours_are_those_of_a_calendar_there_is() -> None:
    order = wanted(calendar="office")
    given(NOTICE).when(partial(publish, order), looked=NOTHING).rejects(Invalid, "office")
    given(NOTICE).when(partial(publish, order), looked=Looked(None, "office@3")).then_types(NoticePublished)


def test_the_row_holds_the_latest_version_and_nothing_to_read() -> None:
    first = an(NoticePublished)
    second = first.model_copy(update={"version": 2, "address": Clear("notice:duty", "https://other.test/")})
    row = folding(NOTICES, first, second, subject="notice:duty").row()
    assert row is not None
    assert (row.notice_id, row.version, row.channel) == ("duty", 2, NoticeChannel.WEBHOOK)
    assert "other.test" not in str(row)


# --------------------------------------------------------------------------------------------------- through the doors


@asynccontextmanager
async def town(engine: Engine, directory: Path, **more: Any) -> AsyncIterator[Casewalk]:
    patience = Patience(first_s=0.05, longest_s=0.1, poll_s=0.05)
    async with casewalk(engine, directory, SERVICES, webhooks_private=True, patience=patience, **more) as running:
        yield running


async def subscribed(here: Casewalk, notice_id: str, **order: Any) -> dict[str, Any]:
    answer = await here.admin.put(f"/v1/notices/{notice_id}", json=order)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def sent(here: Casewalk) -> Counter[tuple[str, str, str]]:
    """(who, what, state) of every notice."""
    items = (await here.admin.get("/v1/ops/escalation/effects")).json()["items"]
    return Counter((item["target"], item["kind"], item["state"]) for item in items)


async def test_a_breach_is_told_by_mail_webhook_and_chat_once_and_at_any_hour(engine: Engine, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        hook, chat = [await stack.enter_async_context(receiving()) for _ in range(2)]
        mails = await stack.enter_async_context(taking_mail())
        here = await stack.enter_async_context(
            town(engine, tmp_path, smtp_url=mails.url, mail_from="casewalk@shop.test")
        )
        await _closed_for_days(here)
        both = ["clock_breached", "escalated"]
        first = await subscribed(here, "hook", events=both, channel="webhook", address=hook.url, calendar="closed")
        await subscribed(here, "chat", events=both, channel="chat", address=chat.url, calendar="closed")
        await subscribed(
            here, "mail", events=["clock_breached"], channel="email", address="duty@desk.test", markets=["de"]
        )
        await subscribed(
            here, "fr", events=["clock_breached"], channel="email", address="duty@desk.test", markets=["fr"]
        )
        case_id = await opened(here, ago=timedelta(hours=100))
        await escalation(here, case_id)
        rows = await _breaches(here, case_id)
        await until(partial(_told, here, "mail", len(rows)))
        await until(partial(_told, here, "hook", len(rows)))
        await until(partial(_told, here, "chat", len(rows)))

        assert Counter(hook.ids) == Counter(effect_id("hook", row) for row in rows)
        for body in hook.verified(first["secret"]):
            assert body["type"] == "casewalk.notice.clock_breached"
            assert (body["data"]["case_id"], body["data"]["market"]) == (case_id, "de")
        assert all(set(body) == {"text"} and case_id in body["text"] for body in chat.bodies)
        assert {m["Message-ID"] for m in mails.got} == {f"<{effect_id('mail', row)}@shop.test>" for row in rows}
        told = " ".join([*(str(b) for _, b in hook.got), *(str(b) for _, b in chat.got), *map(str, mails.got)])
        assert "Paket" not in told
        assert "crm-1" not in told
        counted = await sent(here)
        assert counted["hook", "escalated", "waiting"] == 1, "the unit is told when its hours begin"
        assert not any(who == "fr" for who, _, _ in counted)

        host = here.hosts["escalation"]
        for view in host.replay.named("all"):
            await host.replay.rebuild(view, lambda records: None)
            assert (await host.replay.verify(view)).equal
        assert await sent(here) == counted, "a rebuild tells nobody"


async def test_nobody_is_told_after_unsubscribing_of_what_still_waits_neither(database: str, tmp_path: Path) -> None:
    async with receiving() as hook, town(Engine("embedded", database, None, ""), tmp_path) as here:
        await _closed_for_days(here)
        order = {"events": ["escalated"], "channel": "webhook", "address": hook.url}
        await subscribed(here, "hook", **order, calendar="closed")
        case_id = await opened(here, ago=timedelta(hours=100))
        await escalation(here, case_id)
        await until(partial(_stands, here, ("hook", "escalated", "waiting")))
        await subscribed(here, "hook", **order, active=False)
        await here.hosts["escalation"].database.writers.execute("update effect set due_at = clock_timestamp()")
        await until(partial(_stands, here, ("hook", "escalated", "dropped")))
        assert hook.got == []


async def test_a_restated_promise_breaks_clocks_and_tells_nobody(here: Casewalk) -> None:
    every = [kind.value for kind in (NoticeEvent.CLOCK_WARNED, NoticeEvent.CLOCK_BREACHED)]
    await subscribed(here, "mail", events=every, channel="email", address="duty@desk.test")
    case_id = await opened(here, priority="low", ago=timedelta(hours=1))
    assert await _breaches(here, case_id) == []
    promise = (await here.admin.get("/v1/promises/standard")).json()
    order = {name: promise[name] for name in ("name", "warnings")} | {"calendar": "always", "restate": "restate_open"}
    order["targets"] = [{**target, "target_s": 60} for target in promise["targets"]]
    answer = await here.admin.put("/v1/promises/standard", json=order)
    assert answer.status_code == 200, answer.text
    await until(partial(_breaches, here, case_id))
    await here.settled()
    assert await sent(here) == {}
    live = await opened(here, priority="low", ago=timedelta(minutes=5))
    await until(partial(_any_about, here, live))


async def test_addresses_and_secrets_are_said_to_nobody_and_stored_sealed(doors: Casewalk) -> None:
    url = "https://chat.example.org/T0K3N"
    order = {"events": ["clock_breached"], "channel": "webhook", "address": url}
    published = await doors.admin.put("/v1/notices/hook", json=order)
    secret = published.json()["secret"]
    assert secret.startswith("whsec_")
    assert published.json()["address"] == "https://chat.example.org/…"
    again = await doors.admin.put("/v1/notices/hook", json=order)
    assert (again.json()["version"], again.json()["secret"]) == (1, None), "a secret is said once"
    rotated = await doors.admin.put("/v1/notices/hook", json={**order, "new_secret": True})
    assert rotated.json()["version"] == 2
    assert rotated.json()["secret"] not in (None, secret)
    one = await doors.admin.get("/v1/notices/hook")
    assert one.headers["ETag"] == '"2"'
    assert "secret" not in one.json()
    listed = (await doors.admin.get("/v1/notices")).json()["items"]
    assert listed == [one.json()]
    host = doors.hosts["escalation"]
    stored = await host.database.readers.fetch(
        "select data from events where topic = $1 and subject = $2", OPERATIONS, "notice:hook"
    )
    kept = str([dict(row) for row in stored]) + str(await host.database.readers.fetch("select * from notices"))
    assert "T0K3N" not in kept
    assert secret not in kept


async def test_what_cannot_be_told_is_refused_when_it_is_asked_for(doors: Casewalk) -> None:
    order = {"events": ["clock_breached"], "channel": "email", "address": "duty@desk.test"}
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"address": "not-an-address"}, "mail address"),
        ({"channel": "webhook", "address": "https://10.0.0.1/hook"}, "public internet"),
        ({"channel": "chat", "address": "http://example.org/hook"}, "https://"),
        ({"calendar": "lunar"}, "lunar"),
        ({"events": []}, "events"),
    )
    for change, why in wrong:
        is_problem(await doors.admin.put("/v1/notices/wrong", json={**order, **change}), 422, why)
    is_problem(await doors.admin.get("/v1/notices/wrong"), 404, "no subscription")


async def _closed_for_days(here: Casewalk) -> None:
    """The calendar `closed` opens in three days for the first time."""
    day = (datetime.now(UTC) + timedelta(days=3)).strftime("%a").lower()
    weekly = {day: [["09:00", "17:00"]]}
    answer = await here.admin.put("/v1/calendars/closed", json={"tz": "UTC", "weekly": weekly})
    assert answer.status_code == 200, answer.text


async def _breaches(here: Casewalk, case_id: str) -> list[str]:
    """The ids of the case's breaches, once all clocks that are due have said so."""
    await here.settled()
    rows = await here.hosts["escalation"].database.readers.fetch(
        "select id from events where topic = $1 and subject = $2 and type = $3", CASES, case_id, ClockBreached.TYPE
    )
    return [str(row["id"]) for row in rows]


async def _any_about(here: Casewalk, case_id: str) -> bool:
    items = (await here.admin.get("/v1/ops/escalation/effects")).json()["items"]
    return any(item["subject"] == case_id for item in items)


async def _told(here: Casewalk, who: str, n: int) -> bool:
    return n > 0 and (await sent(here))[who, "clock_breached", "sent"] == n


async def _stands(here: Casewalk, what: tuple[str, str, str]) -> bool:
    return (await sent(here))[what] == 1
