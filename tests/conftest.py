"""The engines every test may ask for: a fresh database, a broker, or both engines in turn."""

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import psutil
import pytest
import uvloop
from aiokafka.admin import AIOKafkaAdminClient

from services.process import collect_seldom, only_the_wheel
from services.runtime.broker import Broker, BrokerUnavailable
from services.runtime.postgres import EmbeddedPostgres

# What the run was told: `make test` sets the first, the others use servers that run already.
ENGINE = os.environ.get("CASEWALK_TEST_ENGINE", "all")
KAFKA = os.environ.get("CASEWALK_TEST_KAFKA")
POSTGRES = os.environ.get("CASEWALK_TEST_POSTGRES")

if ENGINE not in ("embedded", "all"):
    raise pytest.UsageError(f"CASEWALK_TEST_ENGINE is embedded or all, not {ENGINE}.")

TESTS = Path(__file__).parent
FAULTS = TESTS / "faults"

LONGEST = (
    "test_import.py",
    "test_distributed.py",
    "commands/test_demo.py",
    "test_doors.py",
    "events/test_crash.py",
    "events/test_recovery.py",
    "commands/test_running.py",
    "router/test_capacity.py",
    "escalation",
    "events",
    "runtime",
    "faults/test_crash.py",
    "faults/test_machine.py",
    "faults",
    "commands",
    "router",
    "vendor",
    "metrics",
)
"""Files and folders in the order in which they are begun: with two at a time, a long one begun last would end alone."""

SHARED = pytest.StashKey[dict[str, str]]()
ALONE_S = 300.0
"""The others wait no longer for a test that is to be alone; a worker that died in one is reported by then."""

MEMORY, ROOM_BYTES = Path("/dev/shm"), 8 << 30  # noqa: S108 — only directories with names of their own are made there

only_the_wheel()
collect_seldom()

if "TMPDIR" not in os.environ and MEMORY.is_dir() and psutil.disk_usage(str(MEMORY)).free > ROOM_BYTES:
    # Databases and brokers of a test come and go in memory: to make and unlink a thousand files takes a disk longer
    # than most tests. What is proved is that processes die, and memory outlives them.
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make faults` and `make clocks` ask for."""
    faults = parser.getgroup("casewalk")
    faults.addoption("--faults", action="store_true", help="run everything in tests/faults, and at full length")
    faults.addoption("--report", type=Path, metavar="FILE", help="keep the tables of tests/faults in this file too")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that servers run on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what the run was told to leave out; nothing is left out because an engine is missing."""
    everything = config.getoption("--faults")

    def left_out(item: pytest.Item) -> bool:
        if item.path.is_relative_to(FAULTS) and not everything and not item.get_closest_marker("sample"):
            return True
        if ENGINE == "embedded" and "kafka" in getattr(item, "fixturenames", ()):
            return True
        return bool(item.get_closest_marker("broker")) and (ENGINE == "embedded" or KAFKA is not None)

    @cache
    def rank(file: Path) -> int:
        return next((n for n, path in enumerate(LONGEST) if file.is_relative_to(TESTS / path)), len(LONGEST))

    items.sort(key=lambda item: (not _alone(item), rank(item.path)))
    out = [item for item in items if left_out(item)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]
    if everything:
        # Each worker is given one part of the list: dealt like cards, so that the long ones do not end up with one.
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        items[:] = [item for worker in range(workers) for item in items[worker::workers]]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """What workers share: one broker, and the place where the tests that are to be alone leave word that they have
    ended. A missing Kafka ends the run here, and says how to get it."""
    config = node.config
    if SHARED not in config.stash:
        shared = ExitStack()
        config.add_cleanup(shared.close)
        config.stash[SHARED] = {"ended": shared.enter_context(tempfile.TemporaryDirectory(prefix="casewalk-alone-"))}
        if ENGINE == "all":
            try:
                config.stash[SHARED]["kafka"] = KAFKA or shared.enter_context(_broker()).bootstrap
            except BrokerUnavailable as error:
                raise pytest.UsageError(str(error)) from error
    node.workerinput |= config.stash[SHARED]


@contextmanager
def _broker() -> Iterator[Broker]:
    with tempfile.TemporaryDirectory(prefix="casewalk-") as directory, Broker.start(Path(directory)) as broker:
        yield broker


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that promises a time has the machine to itself: every other one begins after it."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    if not _alone(item):
        _await_those_alone(item.session)
        return (yield)
    try:
        return (yield)
    finally:
        (Path(item.config.workerinput["ended"]) / str(item.session.items.index(item))).touch()


@cache
def _await_those_alone(session: Any) -> None:
    """Once, before the worker's first other test."""
    ended, alone = Path(session.config.workerinput["ended"]), sum(map(_alone, session.items))
    deadline = time.monotonic() + ALONE_S
    while len(list(ended.iterdir())) < alone and time.monotonic() < deadline:
        time.sleep(0.05)


def _alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@dataclass(frozen=True)
class Postgres:
    """The PostgreSQL server of this run."""

    url: str

    def dsn(self, database: str) -> str:
        """The address of one of its databases."""
        return urlsplit(self.url)._replace(path=f"/{quote(database, safe='')}").geturl()


@dataclass(frozen=True)
class Engine:
    """One of the two engines, with a database of its own and a name nobody else uses on the shared broker."""

    name: str
    dsn: str
    kafka: str | None
    """Bootstrap servers; none for the embedded engine."""
    namespace: str
    """What the test's topics begin with; they are deleted after the test."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the whole run."""
    if POSTGRES is not None:
        yield Postgres(POSTGRES)
        return
    # Not under pytest's own directory: the next run of pytest would close that to the server's user.
    with (
        tempfile.TemporaryDirectory(prefix="casewalk-") as directory,
        EmbeddedPostgres.start(Path(directory)) as server,
    ):
        yield Postgres(server.dsn("postgres"))


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[str]:
    """A fresh empty database's address."""
    name = f"test_{secrets.token_hex(6)}"
    # FILE_COPY takes 40 ms where the default takes 100: it flushes once instead of logging every page.
    await _execute(postgres, f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
    yield postgres.dsn(name)
    await _execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[str]:
    """Bootstrap servers of one broker for the whole run; the run fails and says how to get Kafka when it is missing."""
    given = getattr(pytestconfig, "workerinput", {}).get("kafka", KAFKA)
    if given is not None:
        yield given
        return
    with _broker() as broker:
        yield broker.bootstrap


@pytest.fixture(params=["embedded"] if ENGINE == "embedded" else ["embedded", "kafka"])
async def engine(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Engine]:
    """Each engine in turn: a test that asks for it proves its promise on both."""
    # A topic name begins with a letter more readably than with a digit.
    namespace = f"t{secrets.token_hex(5)}"
    if request.param == "embedded":
        yield Engine("embedded", database, None, namespace)
        return
    bootstrap: str = request.getfixturevalue("kafka")
    yield Engine("kafka", database, bootstrap, namespace)
    await delete_topics(bootstrap, namespace)


async def _execute(postgres: Postgres, statement: str) -> None:
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def delete_topics(bootstrap: str, namespace: str) -> None:
    """Keeps the shared broker small: every topic costs it twelve partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        topics = [topic for topic in await admin.list_topics() if topic.startswith(namespace)]
        if topics:
            await admin.delete_topics(topics)
    finally:
        await admin.close()
