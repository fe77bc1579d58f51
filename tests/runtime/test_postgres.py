"""What the embedded PostgreSQL promises to the program that starts it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from services.runtime.postgres import AlreadyRunning, EmbeddedPostgres, PostgresFailed

OWNER = """
import sys
from pathlib import Path
from services.runtime.postgres import EmbeddedPostgres
server = EmbeddedPostgres.start(Path(sys.argv[1]))
print(server.pid, server.dsn("postgres"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory with a short name that no other run of pytest touches."""
    with tempfile.TemporaryDirectory(prefix="casewalk-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A running server for the tests that only look."""
    with tempfile.TemporaryDirectory(prefix="casewalk-") as name, EmbeddedPostgres.start(Path(name)) as running:
        yield running


@contextmanager
def owned_by_another_process(directory: Path) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """Another process that owns `directory`, its server's process id and its address."""
    command = [sys.executable, "-c", OWNER, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, dsn = owner.stdout.readline().split()
        try:
            yield owner, int(pid), dsn
        finally:
            owner.kill()


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def value(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_what_was_committed_is_there_after_a_stop_and_a_start(directory: Path) -> None:
    with EmbeddedPostgres.start(directory) as server:
        await execute(server.dsn("postgres"), "CREATE TABLE fact (n int)", "INSERT INTO fact VALUES (7)")

    with EmbeddedPostgres.start(directory) as server:
        assert await value(server.dsn("postgres"), "SELECT n FROM fact") == 7


def test_a_second_start_in_the_same_process_is_refused_by_name(directory: Path) -> None:
    with (
        EmbeddedPostgres.start(directory),
        pytest.raises(AlreadyRunning, match=f"Process {os.getpid()} already runs on {directory}"),
    ):
        EmbeddedPostgres.start(directory)


def test_a_second_start_in_another_process_is_refused_and_harms_nothing(directory: Path) -> None:
    with owned_by_another_process(directory) as (owner, server, _):
        with pytest.raises(AlreadyRunning, match=f"Process {owner.pid} already runs"):
            EmbeddedPostgres.start(directory)

        assert psutil.pid_exists(server)
        owner.communicate()
    with EmbeddedPostgres.start(directory):
        pass


async def test_a_server_left_by_a_killed_owner_is_taken_over_with_what_it_committed(directory: Path) -> None:
    with owned_by_another_process(directory) as (owner, left, dsn):
        await execute(dsn, "CREATE TABLE fact (n int)", "INSERT INTO fact VALUES (7)")
        owner.kill()
        owner.wait()
        assert psutil.pid_exists(left)

        with EmbeddedPostgres.start(directory) as server:
            assert server.pid != left
            assert not psutil.pid_exists(left)
            assert await value(server.dsn("postgres"), "SELECT n FROM fact") == 7


async def test_a_killed_server_starts_again_with_what_it_committed(directory: Path) -> None:
    server = EmbeddedPostgres.start(directory)
    await execute(server.dsn("postgres"), "CREATE TABLE fact (n int)", "INSERT INTO fact VALUES (7)")
    psutil.Process(server.pid).kill()
    server.stop()

    with EmbeddedPostgres.start(directory) as server:
        assert await value(server.dsn("postgres"), "SELECT n FROM fact") == 7


def test_a_stranger_that_got_the_number_of_a_dead_server_is_left_alone(directory: Path) -> None:
    EmbeddedPostgres.start(directory).stop()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (directory / "cluster" / "postmaster.pid").write_text(f"{stranger.pid}\n{directory / 'cluster'}\n")

        with EmbeddedPostgres.start(directory):
            assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_what_a_killed_initialisation_left_is_made_anew(directory: Path) -> None:
    unfinished = directory / "cluster.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")

    with EmbeddedPostgres.start(directory):
        assert not unfinished.exists()


def test_data_of_another_version_is_refused_and_left_alone(directory: Path) -> None:
    EmbeddedPostgres.start(directory).stop()
    version = directory / "cluster" / "PG_VERSION"
    version.write_text("16\n")

    with pytest.raises(PostgresFailed, match="is of PostgreSQL 16, this program brings 18"):
        EmbeddedPostgres.start(directory)


def test_a_failed_start_says_what_the_server_said_and_frees_the_directory(directory: Path) -> None:
    EmbeddedPostgres.start(directory).stop()
    control = directory / "cluster" / "global" / "pg_control"
    kept = control.read_bytes()
    control.write_bytes(b"")

    with pytest.raises(PostgresFailed, match="pg_control"):
        EmbeddedPostgres.start(directory)

    control.write_bytes(kept)
    EmbeddedPostgres.start(directory).stop()


async def test_settings_of_an_older_program_do_not_live_on(directory: Path) -> None:
    EmbeddedPostgres.start(directory).stop()
    with (directory / "cluster" / "postgresql.conf").open("a") as settings:
        settings.write("fsync = off\n")

    with EmbeddedPostgres.start(directory) as server:
        assert await value(server.dsn("postgres"), "SHOW fsync") == "on"


async def test_a_long_directory_gets_a_short_socket_that_goes_with_the_server(directory: Path) -> None:
    deep = directory.joinpath(*["a-rather-long-name"] * 8)

    with EmbeddedPostgres.start(deep) as server:
        socket = Path(str(await value(server.dsn("postgres"), "SHOW unix_socket_directories")).strip('"'))
        assert socket.is_dir()
        assert deep not in socket.parents

    assert not socket.exists()


def test_stopping_twice_is_no_error(directory: Path) -> None:
    server = EmbeddedPostgres.start(directory)
    pid = server.pid
    server.stop()
    server.stop()

    assert not psutil.pid_exists(pid)


async def test_nobody_enters_without_the_password(server: EmbeddedPostgres) -> None:
    password = urlsplit(server.dsn("postgres")).password
    assert password

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.dsn("postgres").replace(password, "guessed"))


def test_password_and_socket_are_private(server: EmbeddedPostgres) -> None:
    directory = Path(server.dsn().partition("?host=")[2]).parent

    assert (directory / "password").stat().st_mode & 0o777 == 0o600
    assert (directory / "socket").stat().st_mode & 0o777 == 0o700
    assert (directory / "cluster").stat().st_mode & 0o777 == 0o700


def test_it_listens_on_no_network(server: EmbeddedPostgres) -> None:
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]

    assert [connection for process in processes for connection in process.net_connections("inet")] == []


def test_ctrl_c_in_our_terminal_does_not_reach_it(server: EmbeddedPostgres) -> None:
    assert os.getsid(server.pid) != os.getsid(0)


def test_it_never_runs_as_root(server: EmbeddedPostgres) -> None:
    process = psutil.Process(server.pid)

    assert 0 not in process.uids()
    assert 0 not in process.gids()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("max_connections", "150"),
        ("TimeZone", "UTC"),
    ],
)
async def test_it_is_durable_and_speaks_utf8_and_utc(server: EmbeddedPostgres, setting: str, expected: str) -> None:
    assert await value(server.dsn("postgres"), f"SHOW {setting}") == expected


async def test_text_sorts_by_its_bytes(server: EmbeddedPostgres) -> None:
    assert await value(
        server.dsn("postgres"), "SELECT array_agg(t ORDER BY t) FROM unnest(ARRAY['b', 'a', 'B']) t"
    ) == [
        "B",
        "a",
        "b",
    ]


@pytest.mark.parametrize("name", ["casewalk", 'a "case" walks', "fälle/2"])
async def test_a_database_is_made_once(server: EmbeddedPostgres, name: str) -> None:
    server.create_database(name)
    await execute(server.dsn(name), "CREATE TABLE kept ()")

    server.create_database(name)

    assert await value(server.dsn(name), "SELECT current_database()") == name
    assert await value(server.dsn(name), "SELECT count(*) FROM kept") == 0
