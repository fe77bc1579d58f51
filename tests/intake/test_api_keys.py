"""Keys: who may come in, and the first of them."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from pathlib import Path

import pytest

from events.postgres_log import PostgresLog
from services.intake.keys import first_start
from services.intake.service import SERVICE
from services.runtime import Host, Settings, running
from tests.intake.conftest import Doors, opened, settings, unique
from tests.until import until


async def test_a_key_opens_doors_until_it_is_revoked(doors: Doors) -> None:
    made = await doors("POST", "/v1/keys", {"role": "reader", "label": "a dashboard"})
    key_id, secret = made.json()["key_id"], made.json()["secret"]

    async def status() -> int:
        return (await doors.client.get("/v1/cases", headers={"Authorization": f"Bearer {secret}"})).status_code

    async def is_status(wanted: int) -> bool:
        return await status() == wanted

    await until(partial(is_status, 200))
    revoked = await doors("DELETE", f"/v1/keys/{key_id}")
    await until(partial(is_status, 401))

    assert revoked.json() == {"key_id": key_id, "revoked": True}
    assert (await doors("DELETE", f"/v1/keys/{key_id}")).status_code == 200


async def test_a_secret_is_said_once_and_kept_nowhere(doors: Doors) -> None:
    order, once = {"role": "reader", "label": "a dashboard"}, unique("once")
    first, again = [await doors("POST", "/v1/keys", order, Idempotency_Key=once) for _ in range(2)]
    secret = first.json()["secret"]
    await doors.host.wait_for(first.headers["Casewalk-Position"])
    tables = await doors.host.database.readers.fetch(
        "select table_schema, table_name from information_schema.tables"
        " where table_schema not in ('pg_catalog', 'information_schema') and table_type = 'BASE TABLE'"
    )

    assert secret.startswith("cw_")
    assert len(secret) >= 3 + 43
    assert again.json() == {"key_id": first.json()["key_id"], "secret": None}
    for schema, table in tables:
        rows = await doors.host.database.readers.fetch(f'select t::text as row from "{schema}"."{table}" t')
        assert not any(secret in row["row"] for row in rows), f"{schema}.{table}"


async def test_keys_are_listed_without_secrets(doors: Doors) -> None:
    label = unique("label")
    made = await doors("POST", "/v1/keys", {"role": "agent", "label": label, "holder": "anna"})
    await doors.host.wait_for(made.headers["Casewalk-Position"])

    items, path = [], "/v1/keys?limit=2"
    while path:
        answer = await doors("GET", path)
        items += answer.json()["items"]
        path = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")

    (mine,) = [item for item in items if item["label"] == label]
    assert mine["key_id"] == made.json()["key_id"]
    assert (mine["role"], mine["holder"], mine["revoked_at"]) == ("agent", "anna", None)
    assert len({item["key_id"] for item in items}) == len(items)
    assert "admin" in {item["key_id"] for item in items}
    assert not any("secret" in item or "sha256" in item for item in items)


@pytest.mark.parametrize(
    "bad",
    [
        {"role": "agent", "label": "no holder"},
        {"role": "partner", "label": "no holder"},
        {"role": "king", "label": "x"},
        {"role": "reader"},
        {"role": "reader", "label": "two\nlines"},
        {"role": "agent", "label": "x", "holder": "Anna Åkesson"},
    ],
)
async def test_a_key_that_belongs_to_nobody_or_nothing_is_refused(doors: Doors, bad: dict[str, str]) -> None:
    assert (await doors("POST", "/v1/keys", bad)).status_code == 422


async def test_an_event_names_the_key_by_which_it_was_asked_for(doors: Doors) -> None:
    made = await doors("POST", "/v1/keys", {"role": "channel", "label": "the shop"})
    doors.keys["the shop"] = made.json()["secret"]
    await doors.host.wait_for(made.headers["Casewalk-Position"])

    (opened,) = await doors.said(await doors.open(role="the shop"))
    (issued,) = await doors.host.store.events("casewalk.operations", f"key:{made.json()['key_id']}")

    assert (opened.actor, issued.actor) == (f"key:{made.json()['key_id']}", "key:admin")


async def test_nobody_revokes_the_key_they_call_with(doors: Doors) -> None:
    assert (await doors("DELETE", "/v1/keys/admin")).status_code == 409
    assert (await doors("GET", "/v1/keys")).status_code == 200


async def test_an_unknown_key_is_not_found(doors: Doors) -> None:
    assert (await doors("DELETE", "/v1/keys/nothing")).status_code == 404
    assert (await doors("GET", "/v1/keys?cursor=x")).status_code == 422


# ----------------------------------------------------------------------------------------------------- the first key


async def started(wanted: Settings) -> str:
    """Start intake and stop it; the SHA-256 of its first key."""
    async with running([SERVICE], wanted) as app:
        host = app.state.hosts["intake"]
        (event,) = await host.store.events("casewalk.operations", "key:admin")
        sha256: str = event.data.sha256
        return sha256


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


async def test_a_first_start_makes_an_admin_key_and_shows_it_once(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = settings(database, tmp_path / "data", admin_key=None)
    first = await started(wanted)
    shown = capsys.readouterr().out
    again = await started(wanted)
    file = tmp_path / "data" / "admin.key"

    assert first == again == sha256(file.read_text().strip())
    assert file.read_text().strip() in shown
    assert file.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr().out == ""
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["admin.key"]


async def test_the_first_key_opens_the_doors(database: str, tmp_path: Path) -> None:
    async with opened(settings(database, tmp_path, admin_key=None)) as doors:
        doors.keys["admin"] = (tmp_path / "admin.key").read_text().strip()

        assert (await doors("GET", "/v1/keys")).status_code == 200


async def test_a_given_admin_key_is_the_first_key_and_is_written_nowhere(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = await started(settings(database, tmp_path / "data", admin_key="a-key-of-the-operator"))

    assert made == sha256("a-key-of-the-operator")
    assert not (tmp_path / "data" / "admin.key").exists()
    assert "a-key-of-the-operator" not in capsys.readouterr().out


async def test_a_start_that_died_after_it_wrote_the_file_is_taken_up(database: str, tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("cw_left-behind\n")

    assert await started(settings(database, tmp_path, admin_key=None)) == sha256("cw_left-behind")


async def test_of_two_processes_that_start_at_once_one_makes_the_key(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apart = [settings(database, tmp_path / name, admin_key=None) for name in ("one", "two")]
    hosts = [await Host.open(SERVICE, wanted, PostgresLog(database)) for wanted in apart]
    stores = [asyncio.create_task(host.store.run()) for host in hosts]

    await asyncio.gather(*map(first_start, hosts))

    (event,) = await hosts[0].store.events("casewalk.operations", "key:admin")
    (file,) = tmp_path.glob("*/admin.key")
    assert event.data.sha256 == sha256(file.read_text().strip())
    assert capsys.readouterr().out.count("cw_") == 1
    for store, host in zip(stores, hosts, strict=True):
        store.cancel()
        await asyncio.wait([store])
        await host.database.close()
