"""`python -m tests.wire` writes what is missing beside this file, and touches nothing that is there."""

import asyncio
import json
import os
import tempfile
from base64 import b64encode
from pathlib import Path
from typing import Any

import asyncpg

from events import wire
from events.event import CASES, Event
from events.personal import Clear, personal_fields
from events.privacy import TABLES, Keyring
from events.testing import CASE_ID, history
from services.runtime.postgres import EmbeddedPostgres
from tests.given import EXAMPLES
from tests.wire import FOLDER, PERSON, person

ABOUT = "customer:0195571e-8a00-7000-8000-00000000000c"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def main() -> None:
    """Writes the missing samples, sealed by the real thing."""
    missing = [event for event in EXAMPLES if not (FOLDER / f"{event.TYPE}.json").exists()]
    if not missing:
        return
    with tempfile.TemporaryDirectory(prefix="casewalk-") as folder, EmbeddedPostgres.start(Path(folder)) as server:
        conn = await asyncpg.connect(server.dsn("postgres"))
        await conn.execute(TABLES.format(privacy="pg_temp"))
        await _person(conn)
        for event in missing:
            await _write(conn, Keyring(person().master_key), event)
        await conn.close()


async def _person(conn: asyncpg.Connection) -> None:
    if not PERSON.exists():
        await _make_person(conn)
    await conn.execute("delete from person")
    await conn.execute(
        "insert into person (person, wrapped_key) values ($1, $2)", person().person, person().wrapped_key
    )


async def _make_person(conn: asyncpg.Connection) -> None:
    master_key = os.urandom(32)
    await Keyring(master_key).person(conn, b"look-up", ABOUT)
    wrapped = await conn.fetchval("select wrapped_key from person")
    text = {name: b64encode(key).decode() for name, key in (("master_key", master_key), ("wrapped_key", wrapped))}
    PERSON.write_text(json.dumps({"person": ABOUT} | text, indent=2) + "\n", encoding="utf-8")


async def _write(conn: asyncpg.Connection, keyring: Keyring, event: type[Event]) -> None:
    subject = CASE_ID if event.TOPIC == CASES else "subject:1"
    (recorded,) = history(EXAMPLES[event], subject=subject)
    clear = {name: getattr(EXAMPLES[event], name) for name in personal_fields(event)}
    about = {name: Clear(ABOUT, text.text) for name, text in clear.items()}
    sealed = await keyring.seal(conn, {recorded.id: EXAMPLES[event].model_copy(update=about)})
    data: Any = sealed[recorded.id]
    record = wire.record(
        recorded._replace(data=data, actor="agent:anna", causation_id=recorded.correlation_id, traceparent=TRACE)
    )
    text = {
        "topic": record.topic,
        "key": record.subject,
        "headers": {name: value.decode() for name, value in wire.headers(record)},
        "value": json.loads(record.data),
    }
    path = FOLDER / f"{event.TYPE}.json"
    path.write_text(json.dumps(text, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
