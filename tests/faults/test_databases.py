"""PostgreSQL that dies, has no connection or no disk left, and lines to it and to Kafka that go bad, under load."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from services.runtime.broker import Broker
from services.runtime.postgres import EmbeddedPostgres
from tests.commands.conftest import free_port
from tests.conftest import Engine
from tests.faults.line import Ends, Line
from tests.faults.processes import Processes
from tests.faults.report import Report
from tests.until import until

CASES = 10
"""That are opened while something is bad."""

CUTS = 8
"""Answers that are cut, each at another byte."""


class Server:
    """A PostgreSQL of the test's own, which it may kill."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.start()
        self.postgres.create_database("casewalk")

    def start(self) -> None:
        self.postgres = EmbeddedPostgres.start(self.directory)

    def kill(self) -> None:
        os.kill(self.postgres.pid, signal.SIGKILL)
        self.postgres.stop()

    @property
    def dsn(self) -> str:
        return self.postgres.dsn("casewalk")

    async def reach(self) -> Ends:
        """Its private socket, for a line."""
        folder = parse_qs(urlsplit(self.dsn).query)["host"][0]
        return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")

    def through(self, line: Line) -> str:
        """The database's address at the other end of the line."""
        password = urlsplit(self.dsn).password
        return f"postgresql://postgres:{password}@127.0.0.1:{line.port}/casewalk?sslmode=disable"


@contextmanager
def served(directory: Path) -> Iterator[Server]:
    server = Server(directory)
    try:
        yield server
    finally:
        server.postgres.stop()


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="casewalk-") as directory, served(Path(directory)) as server:
        yield server


async def answering(server: Server) -> bool:
    try:
        await (await asyncpg.connect(server.dsn)).close()
    except (OSError, asyncpg.PostgresError):
        return False
    return True


# ------------------------------------------------------------------------------------------------------ the server


@pytest.mark.timeout(900)
async def test_a_killed_database_loses_nothing_that_was_answered(
    engine: Engine, server: Server, tmp_path: Path, report: Report
) -> None:
    async with Processes.running(replace(engine, dsn=server.dsn), tmp_path) as world:
        async with world.load():
            for _ in range(3):
                async with world.broken("PostgreSQL killed"):
                    await world.opened(CASES)
                    server.kill()
                    await asyncio.to_thread(server.start)

        await world.loses_and_doubles_nothing(report, "PostgreSQL killed under load")
        assert world.refused, "nobody met the database that was away"


@pytest.mark.timeout(900)
async def test_without_a_connection_left_requests_are_told_to_come_again(
    engine: Engine, server: Server, tmp_path: Path, report: Report
) -> None:
    async with Processes.running(replace(engine, dsn=server.dsn), tmp_path) as world:
        async with world.load(), world.broken("no connection left"):
            await world.opened(CASES)
            async with every_connection_taken(server):
                refused = world.refused
                await until(lambda: more_refused(world, refused + CASES), limit_s=120)

        await world.loses_and_doubles_nothing(report, "PostgreSQL without connections")


async def more_refused(world: Processes, wanted: int) -> bool:
    return world.refused >= wanted


@asynccontextmanager
async def every_connection_taken(server: Server) -> AsyncIterator[None]:
    """The service's own are ended, and whatever becomes free is taken, until nobody else has one."""
    first = await asyncpg.connect(server.dsn)
    taken = [first]
    try:
        others = "from pg_stat_activity where backend_type = 'client backend' and application_name <> ''"

        async def all_taken() -> bool:
            try:
                taken.append(await asyncpg.connect(server.dsn))
                return False
            except asyncpg.TooManyConnectionsError:
                ended: int = await first.fetchval(f"select count(pg_terminate_backend(pid)) {others}")
                return ended == 0

        await until(all_taken, limit_s=120)
        yield
    finally:
        await asyncio.gather(*(connection.close() for connection in taken))


@contextmanager
def small_disk(mib: int) -> Iterator[Path]:
    """A file system of its own that is full after so much."""
    with tempfile.TemporaryDirectory(prefix="casewalk-") as directory:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=755", "tmpfs", directory], capture_output=True, text=True
        )
        if mounted.returncode != 0:
            pytest.fail(f"A full disk cannot be tested here, because no tmpfs can be mounted: {mounted.stderr.strip()}")
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)


def fill(ballast: Path) -> None:
    """Take all room that is left on its disk."""
    with ballast.open("ab", buffering=0) as file:
        for piece in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"\0" * piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


@pytest.mark.timeout(900)
async def test_a_full_disk_stops_writes_and_loses_nothing(engine: Engine, tmp_path: Path, report: Report) -> None:
    with small_disk(400) as disk, served(disk / "postgres") as server:
        async with Processes.running(replace(engine, dsn=server.dsn), tmp_path) as world:
            async with world.load(), world.broken("disk full"):
                await world.opened(CASES)
                ballast = disk / "ballast"
                refused = world.refused
                fill(ballast)
                # What is written over gives no error: fill up again until something had to grow.
                await until(lambda: full(world, refused + CASES, ballast), limit_s=240)
                ballast.unlink()
                if not await answering(server):  # a log that cannot grow ends the server; whoever watches it starts it
                    server.postgres.stop()
                    await asyncio.to_thread(server.start)

            await world.loses_and_doubles_nothing(report, "PostgreSQL without disk")


async def full(world: Processes, wanted: int, ballast: Path) -> bool:
    await asyncio.to_thread(fill, ballast)
    return world.refused >= wanted


# ------------------------------------------------------------------------------------------------------- the lines


async def bad_in_every_way(world: Processes, line: Line) -> None:
    """Slow, reset, half open, cut at many places of an answer; each time something gets stuck, and comes free."""
    async with world.broken("slow: 100 ms each way"):
        line.delay_s = 0.1
        await world.opened(CASES)
        line.delay_s = 0.0
    for _ in range(3):
        async with world.broken("reset"):
            await world.opened(CASES)
            assert line.reset()
    for n in range(CUTS):
        async with world.broken("cut in the middle of an answer"):
            cuts, line.cut_after = line.cuts, world.random.randint(1, 50 * 4**n % 5000)

            async def cut(before: int = cuts) -> bool:
                return line.cuts > before

            await until(cut, limit_s=60)
    async with world.broken("half open"):
        await world.opened(CASES)
        assert line.half_open()


@pytest.mark.timeout(900)
async def test_a_bad_line_to_the_database_loses_and_doubles_nothing(
    engine: Engine, server: Server, tmp_path: Path, report: Report
) -> None:
    async with Line.to(server.reach) as line:
        direct = replace(engine, dsn=server.dsn)
        async with Processes.running(direct, tmp_path, database_url=server.through(line)) as world:
            async with world.load():
                await bad_in_every_way(world, line)

            await world.loses_and_doubles_nothing(report, "A bad line to PostgreSQL")


@pytest.mark.broker
@pytest.mark.timeout(900)
async def test_a_bad_line_to_kafka_loses_and_doubles_nothing(database: str, tmp_path: Path, report: Report) -> None:
    port = free_port()
    async with Line.to(partial(asyncio.open_connection, "127.0.0.1", port)) as line:
        # Kafka tells its clients where it is: at the other end of the line.
        told = f"\nadvertised.listeners=BROKER://127.0.0.1:{line.port}\n"
        with (
            tempfile.TemporaryDirectory(prefix="casewalk-") as directory,
            Broker.start(Path(directory), port=port, properties=told) as broker,
        ):
            engine = Engine("kafka", database, broker.bootstrap, f"t{secrets.token_hex(5)}")
            async with Processes.running(engine, tmp_path) as world:
                async with world.load():
                    await bad_in_every_way(world, line)

                await world.loses_and_doubles_nothing(report, "A bad line to Kafka")
