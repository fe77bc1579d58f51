"""Effects: only of live events, at least once under one id, never twice at a time, and given up aloud."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from events import effects
from events.case import CaseQueued
from events.database import Connection, Database
from events.effects import LIVE_FOR, TABLES, Effect, EffectState, Noticing, Notifier, Outgoing, effect_id
from events.errors import Invalid
from events.event import CASES, Recorded
from events.testing import recorded
from services.runtime import Host, running
from services.runtime.effects import Delivery, Later, Patience, Sender
from services.runtime.post import Mail, MailServer, NotSent, Post, Webhook, checked, is_public
from tests.events.conftest import World
from tests.events.receivers import Certificate, Receiver, receiving, taking_mail
from tests.events.toy import CASE, INTAKE, ROUTER, open_case, queued
from tests.until import until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HURRIED = Patience(tries=3, first_s=0.01, longest_s=0.02, lease_s=30, poll_s=0.01)

To = Callable[[Outgoing, datetime], Delivery]


def notices(event: Recorded[CaseQueued], looked: None, now: datetime) -> list[Effect]:
    return [Effect(effect_id("desk", event.id), "desk", "queued", event.subject, {"case_id": event.subject})]


NOTIFIER = Notifier("router.notices", (CaseQueued,), notices)


# ----------------------------------------------------------------------------------------------------- through the log


def telling(url: str) -> Any:
    """The toy router, which tells `url` of every case it queues."""

    async def deliver(host: Host, conn: Connection, outgoing: Outgoing, now: datetime) -> Delivery:
        return Webhook(url, outgoing.effect.payload, SECRET)

    return replace(ROUTER, notifiers=(NOTIFIER,), deliver=deliver)


async def opened(hosts: dict[str, Host]) -> str:
    case_id = str(uuid4())
    await hosts["intake"].store.change(CASE(case_id), decision=open_case, actor="key:t")
    return case_id


async def states(host: Host) -> Counter[str]:
    rows = await host.database.readers.fetch("select state from effect")
    return Counter(row["state"] for row in rows)


async def counted(host: Host, what: str) -> int:
    async with host.database.readers.acquire() as conn:
        return (await effects.counts(conn))[what]


async def read_up_to_the_end(host: Host) -> bool:
    ends = await host.log.ends()
    rows = await host.database.readers.fetch(
        "select topic, partition, next_offset from lane where consumer = $1", host.reactor.name
    )
    return all(row["next_offset"] >= ends.get((row["topic"], row["partition"]), 0) for row in rows)


@pytest.fixture
def private(world: World) -> World:
    world.settings = replace(world.settings, webhooks_private=True, patience=HURRIED)
    return world


async def test_a_live_event_is_told_once_with_a_signature_the_receiver_can_check(private: World) -> None:
    async with receiving() as receiver, private.running(INTAKE, telling(receiver.url)) as hosts:
        case_id = await opened(hosts)
        await until(partial(_has, hosts["router"], EffectState.SENT, 1))

        assert receiver.verified(SECRET) == [{"case_id": case_id}]
        (event,) = await hosts["router"].store.events(CASES, case_id)
        assert receiver.ids == [effect_id("desk", event.id)]


async def test_rebuild_verify_and_reading_the_log_again_tell_nobody(private: World) -> None:
    async with receiving() as receiver, private.running(INTAKE, telling(receiver.url)) as hosts:
        router = hosts["router"]
        await opened(hosts)
        await until(partial(_has, router, EffectState.SENT, 1))
        for view in router.replay.named("all"):
            await router.replay.rebuild(view, lambda records: None)
            assert (await router.replay.verify(view)).equal
        assert await states(router) == {EffectState.SENT: 1}

        # A restored service whose effects are gone too reads the whole log again, an hour and more later.
        async with router.database.writers.acquire() as conn:
            await conn.execute("delete from effect")
        again = Noticing(_Nothing(), (NOTIFIER,))
        stored = await router.database.readers.fetch("select * from events where type = $1", CaseQueued.TYPE)
        old = [router.store.recorded(row)._replace(recorded_at=_ago(LIVE_FOR)) for row in stored]
        async with router.database.writers.acquire() as conn, conn.transaction():
            await again.handle(conn, old)
        assert await states(router) == {}
        assert await counted(router, "skipped") == len(old) == 1
        assert len(receiver.got) == 1


async def test_an_effect_is_written_with_the_offset_or_not_at_all(private: World) -> None:
    """What raises after the effect undoes it; once the case is released it is told, once."""
    broken = [True]

    def fragile(event: Recorded[CaseQueued], looked: None, now: datetime) -> list[Effect]:
        if broken[0]:
            raise ValueError("this case is odd")
        return []

    async with receiving() as receiver:
        service = telling(receiver.url)
        service = replace(service, notifiers=(NOTIFIER, Notifier("router.odd", (CaseQueued,), fragile)))
        async with private.running(INTAKE, service) as hosts:
            router = hosts["router"]
            await opened(hosts)
            parked = await until(partial(router.database.readers.fetchval, "select min(position) from parked"))
            assert await states(router) == {}
            assert receiver.got == []
            broken[0] = False
            await router.database.writers.execute("update parked set asked = true where position = $1", parked)
            await until(partial(_has, router, EffectState.SENT, 1))
            assert len(receiver.got) == 1


async def test_what_was_given_up_is_named_by_health_listed_and_tried_again_when_asked(private: World) -> None:
    async with receiving() as receiver:
        receiver.answers = [500] * HURRIED.tries
        async with running((INTAKE, telling(receiver.url)), private.settings) as app:
            hosts = app.state.hosts
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                await opened(hosts)
                await until(partial(_has, hosts["router"], EffectState.DEAD, 1))
                assert (await client.get("/health/ready")).json()["effects_given_up"] == {"router": 1}
                listed = (await client.get("/v1/ops/router/effects", params={"state": "dead"})).json()["items"]
                assert [(e["attempts"], e["error"]) for e in listed] == [(3, "the receiver answered 500")]
                assert receiver.url not in str(listed)

                again = await client.post(f"/v1/ops/router/effects/{listed[0]['id']}:retry")
                assert again.status_code == 200, again.text
                await until(partial(_has, hosts["router"], EffectState.SENT, 1))
                assert set(receiver.ids) == {listed[0]["id"]}
                assert (await client.get("/health/ready")).json()["effects_given_up"] == {}
                assert (await client.post(f"/v1/ops/router/effects/{listed[0]['id']}:retry")).status_code == 404
                metrics = (await client.get("/metrics")).text
                assert 'casewalk_effects{service="router",state="sent"} 1.0' in metrics
                assert 'casewalk_effect_repeats_total{service="router"} 0.0' in metrics


class _Nothing:
    reads = frozenset[str]()

    async def handle(self, conn: Connection, events: Any) -> list[Any]:
        return []


def _ago(age: timedelta) -> datetime:
    return datetime.now(UTC) - age - timedelta(seconds=1)


async def _has(host: Host, state: EffectState, n: int) -> bool:
    return (await states(host)).get(state, 0) == n


# ---------------------------------------------------------------------------------------------------------- the sender


@pytest.fixture
async def toys(database: str) -> AsyncIterator[Database]:
    """A database with nothing but the outbox of effects."""
    opened = await Database.open(database, "toys", TABLES.format(schema="toys"))
    yield opened
    await opened.close()


@asynccontextmanager
async def sending(
    database: Database, to: To, *, patience: Patience = HURRIED, post: Post | None = None
) -> AsyncIterator[Sender]:
    async def deliver(conn: Connection, outgoing: Outgoing, now: datetime) -> Delivery:
        return to(outgoing, now)

    sender = Sender(database, deliver, post or Post(None, None, private=True), patience)
    task = asyncio.create_task(sender.run())
    try:
        yield sender
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def owed(database: Database, n: int = 1) -> list[str]:
    """So many effects wait; their ids."""
    made = [Effect(effect_id("desk", str(i)), "desk", "toy", f"case-{i}", {"n": i}) for i in range(n)]
    async with database.writers.acquire() as conn:
        await effects.write(conn, made)
    return [effect.id for effect in made]


async def row(database: Database, id: str) -> Any:
    return await database.readers.fetchrow("select * from effect where id = $1", id)


def state_is(database: Database, id: str, state: EffectState) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return bool((await row(database, id))["state"] == state)

    return check


def hook(receiver: Receiver) -> To:
    return lambda outgoing, now: Webhook(receiver.url, outgoing.effect.payload)


async def test_a_receiver_that_answers_500_gets_it_again_under_the_same_id(toys: Database) -> None:
    (one,) = await owed(toys)
    async with receiving() as receiver:
        receiver.answers = [500, 503]
        async with sending(toys, hook(receiver)):
            await until(state_is(toys, one, EffectState.SENT))
    assert receiver.ids == [one] * 3
    sent = await row(toys, one)
    assert (sent["attempts"], sent["repeats"]) == (3, 0), "who says no has not taken it"


async def test_a_sender_killed_between_sending_and_saying_so_repeats_under_the_same_id_and_counts_it(
    toys: Database,
) -> None:
    (one,) = await owed(toys)
    async with receiving() as receiver:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.events.sending",
            toys.dsn,
            receiver.url,
            env={**os.environ, "CASEWALK_FAILPOINT": "effects.before_sent"},
        )
        assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL
        assert receiver.ids == [one]
        assert (await row(toys, one))["state"] == EffectState.SENDING
        async with sending(toys, hook(receiver)):
            extra = await _another_sent(toys)
            assert receiver.ids == [one, extra], "while the lease lasts nobody else sends the first"
            await toys.writers.execute("update effect set due_at = clock_timestamp()")  # the lease runs out
            await until(state_is(toys, one, EffectState.SENT))
    assert receiver.ids == [one, extra, one]
    assert (await row(toys, one))["repeats"] == 1
    async with toys.readers.acquire() as conn:
        assert (await effects.counts(conn))["repeats"] == 1


async def test_two_senders_never_send_one_effect_at_the_same_time(toys: Database) -> None:
    ids = await owed(toys, 60)
    async with receiving() as receiver, sending(toys, hook(receiver)), sending(toys, hook(receiver)):
        await until(partial(_all_sent, toys))
    assert Counter(receiver.ids) == Counter(ids)


async def test_an_answer_that_never_came_is_a_repeat(toys: Database) -> None:
    (one,) = await owed(toys)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.close()

    deaf = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{deaf.sockets[0].getsockname()[1]}"
    async with deaf, sending(toys, lambda outgoing, now: Webhook(url, {})):
        await until(state_is(toys, one, EffectState.DEAD))
    assert (await row(toys, one))["repeats"] == HURRIED.tries - 1


async def test_what_is_not_to_be_sent_yet_waits_and_what_nobody_wants_is_dropped(toys: Database) -> None:
    later, never, now_ = await owed(toys, 3)
    opens = datetime.now(UTC) + timedelta(hours=9)

    def to(outgoing: Outgoing, now: datetime) -> Delivery:
        if outgoing.effect.id == later and now < opens:
            return Later(opens)
        return None if outgoing.effect.id == never else Webhook(receiver.url, {})

    async with receiving() as receiver, sending(toys, to):
        await until(state_is(toys, now_, EffectState.SENT))
        await until(state_is(toys, never, EffectState.DROPPED))
    waiting = await row(toys, later)
    assert (waiting["state"], waiting["due_at"], waiting["attempts"]) == (EffectState.WAITING, opens, 0)
    assert receiver.ids == [now_]


async def test_a_sender_that_is_stopped_lets_what_is_on_its_way_arrive(toys: Database) -> None:
    (one,) = await owed(toys)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def hold(id: str) -> None:
        asked.set()
        await answer.wait()

    async with receiving() as receiver:
        receiver.hold = hold
        async with sending(toys, hook(receiver)):
            await asyncio.wait_for(asked.wait(), 10)
            asyncio.get_running_loop().call_soon(answer.set)
        assert (await row(toys, one))["state"] == EffectState.SENT


def test_pauses_double_up_to_the_longest_and_end() -> None:
    patience = Patience(tries=12, first_s=5, longest_s=3600)
    for tries in range(1, 12):
        pause, whole_s = patience.pause(tries), min(3600, 5 * 2 ** (tries - 1))
        assert pause is not None
        assert whole_s / 2 <= pause.total_seconds() <= whole_s
    assert patience.pause(12) is None


async def _all_sent(database: Database) -> bool:
    return not await database.readers.fetchval("select count(*) from effect where state <> 'sent'")


async def _another_sent(database: Database) -> str:
    """One that became due after the others is sent: whoever took it passed the others by. Its id."""
    extra = Effect(effect_id("desk", "extra"), "desk", "toy", "x", {})
    async with database.writers.acquire() as conn:
        await effects.write(conn, [extra])
    await until(state_is(database, extra.id, EffectState.SENT))
    return extra.id


# -------------------------------------------------------------------------------------------------------------- mails


def mail(outgoing: Outgoing, now: datetime) -> Delivery:
    return Mail("duty@desk.test", "Promise broken", "A case waits.\n")


async def test_a_mail_has_one_message_id_however_often_it_is_sent(toys: Database) -> None:
    (one,) = await owed(toys)
    async with taking_mail() as mails:
        mails.answers = ["451 try later"]
        post = Post(MailServer.at(mails.url), "casewalk@shop.test")
        async with sending(toys, mail, post=post):
            await until(state_is(toys, one, EffectState.SENT))
    assert [message["Message-ID"] for message in mails.got] == [f"<{one}@shop.test>"] * 2
    message = mails.got[-1]
    assert (message["To"], message["From"], message["Subject"], message["Auto-Submitted"]) == (
        "duty@desk.test",
        "casewalk@shop.test",
        "Promise broken",
        "auto-generated",
    )
    assert message["Date"] == mails.got[0]["Date"]


async def test_a_recipient_nobody_knows_is_given_up_at_once_and_not_named(toys: Database) -> None:
    (one,) = await owed(toys)
    async with taking_mail() as mails:
        mails.refuses = {"duty@desk.test"}
        async with sending(toys, mail, post=Post(MailServer.at(mails.url), "casewalk@shop.test")):
            await until(state_is(toys, one, EffectState.DEAD))
    dead = await row(toys, one)
    assert (dead["attempts"], dead["error"]) == (1, "the mail server refuses the recipient: 550")


async def test_a_password_is_never_sent_in_the_clear(toys: Database) -> None:
    (one,) = await owed(toys)
    async with taking_mail() as mails:
        url = mails.url.replace("//", "//casewalk:geheim@")
        async with sending(toys, mail, post=Post(MailServer.at(url), "casewalk@shop.test")):
            await until(state_is(toys, one, EffectState.DEAD))
    assert mails.got == []
    assert "geheim" not in (await row(toys, one))["error"]


async def test_a_password_is_sent_after_starttls(toys: Database, tmp_path: Path) -> None:
    (one,) = await owed(toys)
    certificate = Certificate.made(tmp_path)
    async with taking_mail(certificate) as mails:
        url = mails.url.replace("//127.0.0.1", "//casewalk:geheim@localhost")
        post = Post(MailServer.at(url), "casewalk@shop.test", trusts=certificate.trusted())
        async with sending(toys, mail, post=post):
            await until(state_is(toys, one, EffectState.SENT))
    assert mails.logins == ["geheim"]
    assert len(mails.got) == 1


async def test_without_a_mail_server_mails_wait_and_are_given_up_with_the_reason(toys: Database) -> None:
    (one,) = await owed(toys)
    async with sending(toys, mail, post=Post(None, None)):
        await until(state_is(toys, one, EffectState.DEAD))
    assert "CASEWALK_SMTP_URL" in (await row(toys, one))["error"]


def test_a_mail_servers_address_is_read_and_its_password_not_repeated() -> None:
    assert MailServer.at("smtps://me:s%40y@mail.test") == MailServer("mail.test", 465, "me", "s@y", True)
    assert MailServer.at("smtp://mail.test:25") == MailServer("mail.test", 25, None, None, False)
    with pytest.raises(Invalid) as refused:
        MailServer.at("http://me:geheim@mail.test")
    assert "geheim" not in refused.value.message


# -------------------------------------------------------------------------------------------------- where webhooks go


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),  # noqa: S104 — refused
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_only_addresses_of_the_public_internet_are_anybodys(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://localhost/",
        "https://me:word@example.org/",
        "https:///nowhere",
        "https://example.org:port/",
        "ftp://example.org/",
    ],
)
def test_a_webhook_leads_to_the_public_internet_by_https(url: str) -> None:
    with pytest.raises(Invalid):
        checked(url, private=False)


async def test_a_name_that_leads_to_this_machine_is_found_out_before_anything_is_sent() -> None:
    post = Post(None, None)
    with pytest.raises(NotSent, match="not on the public internet"):
        await post.send(str(uuid4()), datetime.now(UTC), Webhook("https://127.1/", {}))
    await post.close()


async def test_the_certificate_is_checked_against_the_name_though_the_address_is_connected_to(tmp_path: Path) -> None:
    certificate = Certificate.made(tmp_path)
    tls = {"ssl_certfile": str(certificate.cert), "ssl_keyfile": str(certificate.key)}
    post = Post(None, None, private=True, trusts=certificate.trusted())
    async with receiving(**tls) as receiver:
        by_name = receiver.url.replace("127.0.0.1", "localhost")
        await post.send(str(uuid4()), datetime.now(UTC), Webhook(by_name, {}))
        ((headers, _),) = receiver.got
        assert headers["host"] == urlsplit(by_name).netloc
        with pytest.raises(NotSent, match="cannot be reached"):
            await post.send(str(uuid4()), datetime.now(UTC), Webhook(receiver.url, {}))
        assert len(receiver.got) == 1
    await post.close()


async def test_a_redirect_is_not_followed(toys: Database) -> None:
    (one,) = await owed(toys)
    async with receiving() as receiver:
        receiver.answers = [302]
        async with sending(toys, hook(receiver)):
            await until(state_is(toys, one, EffectState.DEAD))
    assert len(receiver.got) == 1
    assert (await row(toys, one))["error"] == "the receiver answered 302"


def test_an_effect_has_one_id_per_target_and_obligation() -> None:
    event = recorded(queued())
    (first,), (again,) = notices(event, None, event.recorded_at), notices(event, None, event.recorded_at)
    assert first.id == again.id
    assert effect_id("desk", event.id) != effect_id("lead", event.id)
