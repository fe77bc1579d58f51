"""Personal texts: sealed before they are written, bound to their place, unreadable for good once the key is gone."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from events import wire
from events.case import CaseOpened, MessageReceived
from events.database import Database
from events.errors import CasewalkError, Invalid, Refused
from events.event import Event
from events.operations import AgentRegistered, PartnerRegistered
from events.personal import Clear, Redacted, Sealed, personal_fields
from events.privacy import TABLES, Keyring
from events.testing import recorded
from events.wire import VOCABULARY
from tests import wire as golden
from tests.given import an
from tests.until import until

MASTER_KEY = bytes(range(32))
KEYRING = Keyring(MASTER_KEY)
ID, OTHER_ID = "0195571e-8a00-7000-8000-0000000000a1", "0195571e-8a00-7000-8000-0000000000a2"
EVENT = MessageReceived(message_id="m-1", channel="email", body=Clear("customer:1", "Where is my parcel? 📦"))
PERSONAL = [event for event in VOCABULARY.classes.values() if personal_fields(event)]


@pytest.fixture
async def intake(database: str) -> AsyncIterator[Database]:
    opened = await Database.open(database, "intake", TABLES.format(privacy="intake_privacy"))
    yield opened
    await opened.close()


@pytest.fixture
async def conn(intake: Database) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
    async with intake.writers.acquire() as conn:
        yield conn


async def seal(conn: asyncpg.pool.PoolConnectionProxy, event: MessageReceived = EVENT, event_id: str = ID) -> Sealed:
    """The event's body as the store would write it."""
    done = (await KEYRING.seal(conn, {event_id: event}))[event_id]
    if isinstance(done, CasewalkError):
        raise done
    assert isinstance(done, MessageReceived)
    assert isinstance(done.body, Sealed)
    return done.body


async def open_(
    conn: asyncpg.pool.PoolConnectionProxy,
    sealed: Sealed,
    event: type[Event] = MessageReceived,
    event_id: str = ID,
    field: str = "body",
    keyring: Keyring = KEYRING,
) -> str | Redacted:
    (text,) = await keyring.open(conn, [(event.TYPE, event_id, field, sealed)])
    return text


# ------------------------------------------------------------------------------------------------------------- sealing


async def test_a_sealed_text_opens_where_it_was_sealed(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    sealed = await seal(conn)

    assert "parcel" not in sealed.model_dump_json()
    assert await open_(conn, sealed) == "Where is my parcel? 📦"


async def test_a_ciphertext_moved_to_another_place_does_not_open(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    sealed = await seal(conn)

    assert await open_(conn, sealed, event_id=OTHER_ID) is Redacted.NO_KEY
    assert await open_(conn, sealed, field="title") is Redacted.NO_KEY
    assert await open_(conn, sealed, event=CaseOpened) is Redacted.NO_KEY
    assert await open_(conn, sealed.model_copy(update={"version": 2})) is Redacted.NO_KEY


async def test_a_ciphertext_of_one_person_does_not_open_as_anothers(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    sealed = await seal(conn)
    await seal(conn, EVENT.model_copy(update={"body": Clear("customer:2", "Hello")}), OTHER_ID)

    assert await open_(conn, sealed.model_copy(update={"person": "customer:2"})) is Redacted.NO_KEY


@pytest.mark.parametrize(
    "update", [{"text": ""}, {"text": "not base64"}, {"nonce": ""}, {"nonce": "AAAA"}, {"text": "A"}]
)
async def test_a_damaged_ciphertext_is_unreadable_and_harms_nobody(
    conn: asyncpg.pool.PoolConnectionProxy, update: dict[str, str]
) -> None:
    sealed = await seal(conn)
    place = (MessageReceived.TYPE, ID, "body")

    texts = await KEYRING.open(conn, [(*place, sealed.model_copy(update=update)), (*place, sealed)])

    assert texts == [Redacted.NO_KEY, "Where is my parcel? 📦"]


async def test_the_same_text_never_looks_the_same_twice(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    one, other = await seal(conn), await seal(conn)

    assert one.nonce != other.nonce
    assert one.text != other.text


async def test_texts_of_several_persons_are_sealed_and_opened_together(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    events: dict[str, Event] = {
        f"{n}": an(CaseOpened, title=Clear(f"customer:{n % 3}", f"title {n}"), body=Clear("customer:x", f"body {n}"))
        for n in range(10)
    }

    done = await KEYRING.seal(conn, events)
    texts = await KEYRING.open(
        conn,
        [
            (CaseOpened.TYPE, n, field, getattr(event, field))
            for n, event in done.items()
            for field in ("title", "body")
        ],
    )

    assert texts == [text for n in range(10) for text in (f"title {n}", f"body {n}")]


async def test_only_what_is_clear_is_sealed_again(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    sealed = await seal(conn)
    event = EVENT.model_copy(update={"body": sealed})

    assert await KEYRING.seal(conn, {ID: event}) == {ID: event}


async def test_half_a_character_is_refused_and_harms_no_other_event(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    bad = EVENT.model_copy(update={"body": Clear("customer:1", "half \ud800")})

    done = await KEYRING.seal(conn, {ID: bad, OTHER_ID: EVENT})

    assert isinstance(done[ID], Invalid)
    assert isinstance(done[OTHER_ID], MessageReceived)


async def test_a_sealed_text_may_hold_any_character(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    """Ciphertext goes where a NUL could not; the doors refuse it before."""
    sealed = await seal(conn, EVENT.model_copy(update={"body": Clear("customer:1", "nul \x00 \uffff")}))

    assert await open_(conn, sealed) == "nul \x00 \uffff"


async def test_what_was_sealed_once_opens_for_ever(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    """The samples' ciphertexts were made once and are never made again."""
    known = golden.person()
    await conn.execute("insert into person (person, wrapped_key) values ($1, $2)", known.person, known.wrapped_key)
    record = golden.sample(CaseOpened).record
    opened = VOCABULARY.recorded(record)

    text = await open_(conn, opened.data.title, CaseOpened, record.id, "title", Keyring(known.master_key))

    assert text == "Where is my parcel?"


# --------------------------------------------------------------------------------------------------- nothing goes clear


@pytest.mark.parametrize("event", PERSONAL, ids=lambda event: event.TYPE)
def test_a_clear_text_has_no_json_form(event: type[Event]) -> None:
    """Not even with a warning: what is not sealed must never reach a log, a table or an answer."""
    clear = an(event)

    for write in (clear.model_dump_json, lambda: clear.model_dump(mode="json"), clear.model_dump):
        with pytest.raises(ValueError, match="sealed"):
            write()
    with pytest.raises(Invalid):
        wire.record(recorded(clear)._replace(data=clear))


def test_every_personal_field_is_known_as_one_also_where_it_may_be_missing() -> None:
    assert personal_fields(CaseOpened) == ("customer_name", "customer_email", "title", "body")
    assert personal_fields(AgentRegistered) == ("name",)
    assert personal_fields(PartnerRegistered) == ("contact",)


@pytest.mark.parametrize("event", PERSONAL, ids=lambda event: event.TYPE)
async def test_a_sealed_event_holds_no_clear_text(conn: asyncpg.pool.PoolConnectionProxy, event: type[Event]) -> None:
    clear = an(event)
    texts = [getattr(clear, name).text for name in personal_fields(event)]

    done = (await KEYRING.seal(conn, {ID: clear}))[ID]

    assert isinstance(done, event)
    assert texts
    assert not any(text in done.model_dump_json(by_alias=True) for text in texts)


def test_a_clear_text_does_not_show_in_logs() -> None:
    assert "parcel" not in repr(EVENT)


# -------------------------------------------------------------------------------------------------------------- erasure


async def test_erased_and_no_key_here_are_two_states(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    erased = await seal(conn)
    never_here = erased.model_copy(update={"person": "customer:of-another-service"})

    await KEYRING.erase(conn, ["customer:1"])

    assert await open_(conn, erased) is Redacted.ERASED
    assert await open_(conn, never_here) is Redacted.NO_KEY


async def test_under_another_master_key_there_is_no_key(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    sealed = await seal(conn)

    assert await open_(conn, sealed, keyring=Keyring(bytes(32))) is Redacted.NO_KEY


async def test_an_erasure_leaves_neither_key_nor_look_up(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    person = await KEYRING.person(conn, KEYRING.lookup("email", "4711"), "customer:1")

    await KEYRING.erase(conn, [person])

    row = await conn.fetchrow("select wrapped_key, lookup, erased_at from person where person = $1", person)
    assert row is not None
    assert (row["wrapped_key"], row["lookup"]) == (None, None)
    assert row["erased_at"] is not None


async def test_nothing_more_is_written_about_somebody_erased(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    await seal(conn)
    await KEYRING.erase(conn, ["customer:1"])
    bystander = EVENT.model_copy(update={"body": Clear("customer:2", "Hello")})

    done = await KEYRING.seal(conn, {ID: EVENT, OTHER_ID: bystander})

    assert isinstance(done[ID], Refused)
    assert isinstance(done[OTHER_ID], MessageReceived)


async def test_erasing_twice_is_erasing_once(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    sealed = await seal(conn)
    await KEYRING.erase(conn, ["customer:1", "customer:1"])
    first = await conn.fetchval("select erased_at from person")

    await KEYRING.erase(conn, ["customer:1"])

    assert await conn.fetchval("select erased_at from person") == first
    assert await open_(conn, sealed) is Redacted.ERASED


async def test_somebody_can_be_erased_before_anything_is_known_about_them(
    conn: asyncpg.pool.PoolConnectionProxy,
) -> None:
    """A restored service applies the erasures again before it hears of the persons."""
    await KEYRING.erase(conn, ["customer:1"])

    with pytest.raises(Refused, match="erased"):
        await seal(conn)


async def test_who_comes_back_after_an_erasure_is_somebody_new(conn: asyncpg.pool.PoolConnectionProxy) -> None:
    lookup = KEYRING.lookup("email", "4711")
    before = await KEYRING.person(conn, lookup, "customer:before")
    await KEYRING.erase(conn, [before])

    assert await KEYRING.person(conn, lookup, "customer:after") == "customer:after"


# ---------------------------------------------------------------------------------------------------------- concurrency


async def test_one_person_is_one_person_under_any_number_of_callers(intake: Database) -> None:
    lookup = KEYRING.lookup("email", "4711")

    async def ask(candidate: str) -> str:
        async with intake.writers.acquire() as conn:
            return await KEYRING.person(conn, lookup, candidate)

    persons = await asyncio.gather(*(ask(f"customer:{n}") for n in range(20)))

    assert len(set(persons)) == 1
    assert await intake.readers.fetchval("select count(*) from person") == 1


async def test_finding_a_person_hurries_no_transaction_but_its_own(intake: Database) -> None:
    """It is not waited for until it is on the disk; what is committed after it on the same connection is."""
    async with intake.writers.acquire() as conn:
        await KEYRING.person(conn, KEYRING.lookup("email", "4711"), "customer:1")

        assert await conn.fetchval("show synchronous_commit") == "on"


async def test_a_person_is_not_found_inside_a_transaction_that_must_be_on_the_disk(intake: Database) -> None:
    async with intake.writers.acquire() as conn, conn.transaction():
        with pytest.raises(AssertionError):
            await KEYRING.person(conn, KEYRING.lookup("email", "4711"), "customer:1")


async def test_a_person_has_one_key_under_any_number_of_writers(intake: Database) -> None:
    async def write(event_id: str) -> Sealed:
        async with intake.writers.acquire() as conn, conn.transaction():
            return await seal(conn, event_id=event_id)

    ids = [f"{n}" for n in range(20)]
    sealed = await asyncio.gather(*map(write, ids))

    async with intake.readers.acquire() as conn:
        opened = [await open_(conn, text, event_id=name) for name, text in zip(ids, sealed, strict=True)]
    assert opened == ["Where is my parcel? 📦"] * 20


async def test_an_erasure_waits_for_an_append_that_has_sealed(intake: Database) -> None:
    """Else the append could commit a text after everybody was told that there is none."""
    async with intake.writers.acquire() as writer, intake.writers.acquire() as eraser:
        append = writer.transaction()
        await append.start()
        sealed = await seal(writer)
        await append.commit()

        append = writer.transaction()
        await append.start()
        await seal(writer, event_id=OTHER_ID)
        erasure = asyncio.create_task(KEYRING.erase(eraser, ["customer:1"]))
        await until(lambda: _waits(intake, eraser))
        assert not erasure.done()

        await append.commit()
        await erasure
        assert await open_(writer, sealed) is Redacted.ERASED


async def test_an_append_waits_for_an_erasure_and_is_refused(intake: Database) -> None:
    async with intake.writers.acquire() as writer, intake.writers.acquire() as eraser:
        await seal(writer)
        erasure = eraser.transaction()
        await erasure.start()
        await KEYRING.erase(eraser, ["customer:1"])
        append = asyncio.create_task(seal(writer, event_id=OTHER_ID))
        await until(lambda: _waits(intake, writer))
        assert not append.done()

        await erasure.commit()
        with pytest.raises(Refused, match="erased"):
            await append


async def test_two_appends_about_one_person_do_not_wait_for_each_other(intake: Database) -> None:
    async with intake.writers.acquire() as one, intake.writers.acquire() as other:
        await seal(one)
        async with one.transaction(), other.transaction():
            await seal(one)
            await asyncio.wait_for(seal(other), timeout=5)


async def _waits(database: Database, conn: asyncpg.pool.PoolConnectionProxy) -> bool:
    blocking: list[int] = await database.readers.fetchval("select pg_blocking_pids($1)", conn.get_server_pid())
    return bool(blocking)


# ------------------------------------------------------------------------------------------------------------ stand-ins


def test_stand_ins_are_stable_keyed_and_different_per_purpose() -> None:
    other = Keyring(bytes(32))

    assert KEYRING.pseudonym("Anna") == KEYRING.pseudonym("Anna") != other.pseudonym("Anna")
    assert KEYRING.lookup("email", "4711") == KEYRING.lookup("email", "4711") != other.lookup("email", "4711")
    assert KEYRING.lookup("email", "4711") != KEYRING.lookup("chat", "4711")
    assert len(KEYRING.pseudonym("Anna")) == 32
    assert KEYRING.lookup("Anna").hex()[:32] != KEYRING.pseudonym("Anna")
    assert KEYRING.fingerprint(b"Anna") == KEYRING.fingerprint(b"Anna") != KEYRING.fingerprint(b"Berta")


@pytest.mark.parametrize("key", [b"", b"short", bytes(31), bytes(33)])
def test_a_master_key_of_another_length_is_refused(key: bytes) -> None:
    """An empty one would derive keys that anybody can derive."""
    with pytest.raises(Invalid, match="32 bytes"):
        Keyring(key)
