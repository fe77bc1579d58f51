"""`casewalk up` and `casewalk serve`: start on an empty directory, say where, refuse what cannot be, stop in order."""

from __future__ import annotations

import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.commands.conftest import Up, command, free_port, running
from tests.until import until


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="casewalk-") as directory:
        yield Path(directory)


async def test_up_says_where_everything_is_and_keeps_its_keys_to_itself(up: Up) -> None:
    log = up.directory / "up.log"

    async def announced() -> bool:
        return f"Casewalk runs at {up.url}" in log.read_text()

    await until(announced)
    assert str(up.directory / "admin.key") in log.read_text()
    for name in ("admin.key", "master.key"):
        assert stat.S_IMODE((up.directory / name).stat().st_mode) == 0o600


async def test_an_empty_casewalk_already_routes_and_clocks(up: Up) -> None:
    order = {
        "channel": "email",
        "market": "de",
        "language": "de",
        "journey": "delivery",
        "subject": "Late",
        "body": "It is late.",
        "customer": {"external_id": "c-1"},
    }
    async with up.client() as client:
        case_id = (await client.post("/v1/cases", json=order)).json()["case_id"]

        async def routed() -> bool:
            return (await client.get(f"/v1/work/{case_id}")).is_success

        async def clocked() -> bool:
            clocks = (await client.get("/v1/clocks", params={"case": case_id})).json()["items"]
            return {clock["clock"] for clock in clocks if clock["promise"]} == {"first_response", "resolution"}

        await until(routed)
        await until(clocked)


async def test_a_second_up_on_one_directory_is_refused(up: Up) -> None:
    ended = await command("up", f"--port={free_port()}", f"--data={up.directory}")
    assert ended.code == 4
    assert "already runs" in ended.err


async def test_a_taken_port_is_a_usage_error(directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = await command("up", f"--port={taken.getsockname()[1]}", f"--data={directory}")
    assert ended.code == 2
    assert "cannot be used" in ended.err


async def test_a_signal_ends_it_in_order_and_what_was_written_is_there_after_the_next_start(directory: Path) -> None:
    async with running(directory) as up, up.client() as client:
        await client.put("/v1/units/care", json={"name": "Care", "kind": "front_end"})
        key = up.key
        await _ends_in_order(up, signal.SIGTERM)
    async with running(directory) as up, up.client(key) as client:
        units = (await client.get("/v1/units")).json()["items"]
        await _ends_in_order(up, signal.SIGINT)
    assert "care" in {unit["unit_id"] for unit in units}


async def _ends_in_order(up: Up, number: signal.Signals) -> None:
    """Leaving nothing running."""
    started = psutil.Process(up.process.pid).children(recursive=True)
    assert started, "PostgreSQL was started"
    up.process.send_signal(number)
    assert await up.process.wait() == 0
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in started)


async def test_open_asks_for_no_key(directory: Path) -> None:
    async with running(directory, "--open") as up:
        ended = await up.command("figures", "--json")
    assert ended.code == 0
    assert ended.json["cases"]["value"] == 0


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (("serve", "billing"), {}, "there is no service billing; there are intake, router"),
        (("serve", "intake"), {}, "set CASEWALK_DATABASE_URL"),
        (
            ("serve", "intake"),
            {"CASEWALK_DATABASE_URL": "postgresql://x/y", "CASEWALK_OIDC_ISSUER": "https://login.shop.example"},
            "set CASEWALK_OIDC_ISSUER, CASEWALK_OIDC_AUDIENCE and CASEWALK_OIDC_JWKS_URL, or none of them",
        ),
        (("up",), {"CASEWALK_MASTER_KEY": "short"}, "CASEWALK_MASTER_KEY must hold 64 hexadecimal digits"),
        (("up", "--port", "0"), {}, "Invalid value for '--port'"),
    ],
)
async def test_what_cannot_be_meant_is_a_usage_error(
    directory: Path, arguments: tuple[str, ...], variables: dict[str, str], said: str
) -> None:
    ended = await command(*arguments, cwd=directory, CASEWALK_DATA_DIR=str(directory), **variables)
    assert ended.code == 2
    assert said in ended.err


async def test_a_database_that_is_not_there_is_unreachable(directory: Path) -> None:
    ended = await command(
        "serve",
        "intake",
        f"--port={free_port()}",
        CASEWALK_DATA_DIR=str(directory),
        CASEWALK_DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/nothing",
    )
    assert ended.code == 3
    assert "the database does not answer" in ended.err
