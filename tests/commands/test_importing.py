"""`casewalk import` brings another system's history in once, and says what it could not bring in.

`tests/test_import.py` imports the real logs on both engines.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid5

import pytest

from events.event import NAMESPACE
from services.commands.importing import ROWS_PER_CHUNK
from tests.commands.conftest import Up, called, environment, started
from tests.metrics.samples import VINST
from tests.until import until

COPIES = 100
"""Of the small log: enough rows that an import can be interrupted."""


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="casewalk-") as directory:
        yield Path(directory)


def copies(directory: Path, prefix: str) -> tuple[Path, int]:
    """A plain file with every case of the small log many times, and its number of rows."""
    header, *rows = VINST.small.splitlines()
    path = directory / "many.csv"
    path.write_text("\n".join([header, *(f"{prefix}{n}-{row}" for n in range(COPIES) for row in rows)]) + "\n")
    return path, COPIES * len(rows)


@asynccontextmanager
async def stalling(up: Up, chunks: int) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A way to the doors that lets this many chunks through; then it stalls, and the event is set."""
    seen, stalled = 0, asyncio.Event()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        there, to_there = await asyncio.open_connection("127.0.0.1", urlsplit(up.url).port)

        async def back() -> None:
            while answer := await there.read(65_536):
                writer.write(answer)

        async with asyncio.TaskGroup() as group:
            answering = group.create_task(back())
            while data := await reader.read(65_536):
                seen += data.count(b"POST /v1/imports")
                if seen > chunks:
                    stalled.set()
                else:
                    to_there.write(data)
            answering.cancel()
        to_there.close()
        writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", stalled
    finally:
        server.close()


async def test_the_same_file_again_changes_nothing(up: Up, directory: Path) -> None:
    path, rows = copies(directory, "again-")
    first = await up.command("import", str(path), "--profile", "vinst", "--json")
    second = await up.command("import", str(path), "--profile", "vinst", "--json")
    assert (first.json["recorded"], first.json["known"]) == (rows, 0)
    assert (second.json["recorded"], second.json["known"]) == (0, rows)
    assert first.json["import_id"] == second.json["import_id"]


async def test_an_import_killed_in_between_is_completed_by_the_same_command_without_a_double(
    up: Up, directory: Path
) -> None:
    path, rows = copies(directory, "killed-")
    arguments = ("import", str(path), "--profile", "vinst", "--json")
    async with stalling(up, chunks=2) as (url, stalled):
        variables = {"CASEWALK_URL": url, "CASEWALK_DATA_DIR": str(up.directory)}
        killed = await asyncio.create_subprocess_exec(*started(arguments), env=environment(variables))
        async with asyncio.timeout(60):
            await stalled.wait()
        killed.kill()
        assert await killed.wait() == -signal.SIGKILL

    completed = await up.command(*arguments)
    assert completed.json["known"] == 2 * ROWS_PER_CHUNK
    assert completed.json["recorded"] == rows - 2 * ROWS_PER_CHUNK
    figures = await up.command("figures", "--json", "--where", f"import={completed.json['import_id']}")
    assert (figures.json["events"]["value"], figures.json["cases"]["value"]) == (rows, 6 * COPIES)


async def test_a_channels_key_brings_history_in_though_it_reads_no_figures(up: Up, directory: Path) -> None:
    path, rows = copies(directory, "channel-")
    async with up.client() as client:
        made = (await client.post("/v1/keys", json={"role": "channel", "label": "history"})).json()

        async def known() -> bool:
            return (await client.get("/v1/cases", headers={"Authorization": f"Bearer {made['secret']}"})).is_success

        await until(known)
    ended = await up.command("import", str(path), "--profile", "vinst", "--json", CASEWALK_KEY=made["secret"])
    assert ended.code == 0, ended.err
    assert ended.json["recorded"] == rows


async def test_rows_the_server_refuses_are_named_and_the_others_are_in(up: Up, directory: Path) -> None:
    header, *rows = VINST.small.splitlines()
    path = directory / "future.csv"
    path.write_text("\n".join([header, *rows, rows[0].replace("2026", "9998").replace("A,1", "Z,1")]) + "\n")
    ended = await up.command("import", str(path), "--profile", "vinst", "--json")
    assert ended.code == 4
    assert (ended.json["recorded"], ended.json["refused"]) == (len(rows), 1)
    assert f"row {len(rows) + 1}: " in ended.err


async def test_a_profile_may_name_promises_that_are_published_and_no_others(up: Up, directory: Path) -> None:
    path = directory / "promised.csv"
    path.write_text(VINST.small)
    shipped = (files("services") / "intake" / "profiles" / "vinst.yaml").read_text("utf-8")
    profile = directory / "promised.yaml"

    def promised(ref: str) -> tuple[str, ...]:
        profile.write_text(f"{shipped}\npromises: [{ref}]\n".replace("name: vinst", "name: vinst-promised"))
        return ("import", str(path), "--profile", str(profile), "--json")

    refused = await up.command(*promised("standard@9"))
    assert (refused.code, "there is no promise standard@9" in refused.err) == (2, True)
    taken = await up.command(*promised("standard@1"))
    assert taken.code == 0, taken.err
    assert taken.json["known"] == 0, "nothing was sent before"

    async def judged() -> bool:
        figures = await up.command("figures", "--json", "--where", f"import={taken.json['import_id']}")
        return bool(figures.json["promise_kept"]["n"] == 4)

    await until(judged, limit_s=60)
    case_id = str(uuid5(NAMESPACE, "vinst-promised/B"))
    shown = await up.command("clock", case_id)
    assert "judged by standard@1" in shown.out
    assert "resolution (in imported history): stopped, not kept" in shown.out


async def test_a_file_the_profile_does_not_cover_is_not_sent_at_all(up: Up, directory: Path) -> None:
    header, *rows = VINST.small.splitlines()
    path = directory / "odd.csv"
    path.write_text("\n".join([header, rows[0].replace("A,1", "odd,1"), rows[1].replace("Closed", "Shut")]) + "\n")
    ended = await up.command("import", str(path), "--profile", "vinst")
    assert ended.code == 2
    assert "line 3: no category covers the code 'Completed/Shut'" in ended.err
    async with up.client() as client:
        assert "odd" not in (await client.get("/v1/cases", params={"limit": 500})).text


@pytest.mark.parametrize("content", [b"case\n\xff\xfe", b"\x1f\x8b broken"])
async def test_a_file_that_is_no_text_is_a_usage_error(directory: Path, content: bytes) -> None:
    path = directory / "bad.csv"
    path.write_bytes(content)
    ended = await called("import", str(path), "--profile", "vinst")
    assert ended.code == 2
    assert "bad.csv is" in ended.err


async def test_a_profile_nobody_knows_is_a_usage_error(directory: Path) -> None:
    path, _ = copies(directory, "")
    ended = await called("import", str(path), "--profile", "visnt")
    assert ended.code == 2
    assert "shipped are helpdesk-it, vinst" in ended.err
