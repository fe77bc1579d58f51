"""`python -m tests.distributed`: the distributed installation as plain processes, each of them killed once.

A real broker, one PostgreSQL with a database per service, five `casewalk serve` processes and a second router. The
story is told on them; then a short day is played for every process, in the middle of which it is killed with -9 and
started again; then a service's database is lost and restored, and other systems' logs are imported. At the end every
event a service has recorded must be in the log, every view must equal a replay, and the figures must be the known ones.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.console import Console
from rich.table import Table

from events.event import CASES, OPERATIONS
from events.wire import PARTITIONS
from services.commands.client import Client, Doors
from services.commands.demo import play, staffed
from services.commands.demo.day import Day, Staff
from services.commands.demo.script import visits
from services.every import SERVICES
from services.runtime.broker import Broker
from services.runtime.postgres import EmbeddedPostgres
from tests.backups import by_the_page
from tests.commands.conftest import AUTHORITIES, command, environment, free_port
from tests.metrics.samples import SAMPLES, Sample, printed
from tests.test_story import Story
from tests.test_story import test_a_case_walks_through_all_five_services_to_an_accepted_resolution as tell
from tests.until import until

VISITS = 30
"""Of the day that is played for every kill."""

KILL_AFTER = VISITS // 3
"""Ended cases, after which the process is killed: others are at every stage then."""

START_LIMIT_S = 120.0
REACH_S = 90.0
IMPORT_LIMIT_S = 900.0

ERR = Console(stderr=True)


@dataclass
class Serving:
    """One `casewalk serve` process, of one service or of several with spaces between them."""

    service: str
    directory: Path
    variables: dict[str, str]
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None
    program: str = "services"
    """The module that is run."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, limit_s: float = START_LIMIT_S) -> None:
        """Start it, and wait until its doors are open. If they do not open it is ended."""
        with (self.directory / f"{self.service}-{self.port}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self.program, "serve", *self.service.split(), f"--port={self.port}"),
                env=environment(self.variables),
                stdout=log,
                stderr=log,
            )
        try:
            await until(self.ready, limit_s, poll_s=0.1)
        except BaseException:
            await self._end(signal.SIGKILL)
            raise

    async def ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, f"{self.service} ended with {self.process.returncode}"
        try:
            async with httpx.AsyncClient(verify=AUTHORITIES) as client:
                return (await client.get(f"{self.url}/health/ready")).is_success
        except httpx.TransportError:
            return False

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)
        await self.start()

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()


@dataclass
class Installation:
    """All processes, and how to reach and to kill them."""

    directory: Path
    broker: Broker
    postgres: EmbeddedPostgres
    serving: dict[str, Serving]
    admin_key: str

    @property
    def url(self) -> str:
        """As `CASEWALK_URL` names the doors; the second router has none of its own here."""
        return ",".join(f"{name}={self.serving[name].url}" for name in (service.name for service in SERVICES))

    @property
    def kills(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Process → kill it with -9 and start it again."""
        services = {name: serving.kill for name, serving in self.serving.items()}
        return {**services, "broker": self._kill_broker, "postgres": self._kill_postgres}

    async def _kill_broker(self) -> None:
        self.broker.kill()
        await asyncio.to_thread(self.broker.restart)

    async def _kill_postgres(self) -> None:
        os.kill(self.postgres.pid, signal.SIGKILL)
        self.postgres.stop()
        self.postgres = await asyncio.to_thread(EmbeddedPostgres.start, self.directory / "postgres")

    def opened(self, key: str | None = None) -> Client:
        """A client as patient as a neighbour that wants its answer."""
        return Client(Doors.at(self.url), key, patience_s=REACH_S, reach_s=REACH_S)

    async def command(self, *arguments: str, limit_s: float) -> tuple[int, str]:
        """A command of the command line, run to its end: exit code and output."""
        ended = await command(*arguments, limit_s=limit_s, CASEWALK_URL=self.url, CASEWALK_KEY=self.admin_key)
        return ended.code, ended.out or ended.err


@asynccontextmanager
async def installed(directory: Path) -> AsyncIterator[Installation]:
    """Everything runs, as deploy/compose.yaml has it and with a second router."""
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(Broker.start(directory / "kafka"))
        postgres = EmbeddedPostgres.start(directory / "postgres")
        all_of_it = Installation(directory, broker, postgres, {}, f"cw_{secrets.token_urlsafe(32)}")
        stack.callback(lambda: all_of_it.postgres.stop())
        shared = {
            "CASEWALK_KAFKA": broker.bootstrap,
            "CASEWALK_MASTER_KEY": secrets.token_hex(32),
            "CASEWALK_ADMIN_KEY": all_of_it.admin_key,
            "CASEWALK_DATA_DIR": str(directory / "data"),
        }
        for name in (*(service.name for service in SERVICES), "router 2"):
            service = name.partition(" ")[0]
            postgres.create_database(service)
            serving = Serving(service, directory, {**shared, "CASEWALK_DATABASE_URL": postgres.dsn(service)})
            all_of_it.serving[name] = serving
            stack.push_async_callback(serving.stop)
        await asyncio.gather(*(serving.start() for serving in all_of_it.serving.values()))
        yield all_of_it


# ------------------------------------------------------------------------------------------------------------ the story


class ByPath(httpx.AsyncHTTPTransport):
    """Sends each request to the service its path belongs to, as the proxy does; again, under the same key, while that
    one is away."""

    def __init__(self, doors: Doors) -> None:
        super().__init__()
        self.doors = doors

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = httpx.URL(self.doors.url(request.url.raw_path.decode()))
        request.headers["Host"] = request.url.netloc.decode()
        if request.method == "POST":
            request.headers.setdefault("Idempotency-Key", secrets.token_hex(16))

        async def answered() -> httpx.Response | None:
            try:
                answer = await super(ByPath, self).handle_async_request(request)
            except httpx.TransportError:
                return None
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer
            await answer.aclose()
            return None

        answer = await until(answered, limit_s=REACH_S)
        assert answer is not None
        return answer


@dataclass
class World:
    """What a story needs: the admin's client, and one for each new key."""

    installation: Installation
    admin: httpx.AsyncClient
    stack: AsyncExitStack

    @classmethod
    async def open(cls, installation: Installation, stack: AsyncExitStack) -> World:
        return cls(installation, await _httpx(installation, installation.admin_key, stack), stack)

    async def key(self, role: str, holder: str | None = None) -> httpx.AsyncClient:
        made = await self.admin.post("/v1/keys", json={"role": role, "label": role, "holder": holder})
        async with self.installation.opened(self.installation.admin_key) as client:
            for service in SERVICES:
                await client.get(f"/v1/ops/{service.name}/views", after=made.headers["Casewalk-Position"])
        return await _httpx(self.installation, made.json()["secret"], self.stack)


async def _httpx(installation: Installation, key: str, stack: AsyncExitStack) -> httpx.AsyncClient:
    client = httpx.AsyncClient(
        transport=ByPath(Doors.at(installation.url)),
        base_url="http://casewalk",
        headers={"Authorization": f"Bearer {key}"},
        timeout=30,
    )
    return await stack.enter_async_context(client)


async def the_story(installation: Installation, killed: Sequence[str] = ()) -> str:
    """A case through all five services, again and again until each of these processes was killed in the middle of it;
    its people go home afterwards, so that the days find their own."""
    async with AsyncExitStack() as stack:
        story = Story(await World.open(installation, stack))  # type: ignore[arg-type]
        story.patience_s = REACH_S
        await story.begin()
        killing = asyncio.create_task(_one_after_another([installation.kills[name] for name in killed]))
        told = 0
        try:
            while told == 0 or not killing.done():
                await tell(story)
                told += 1
        finally:  # nobody may be started any more when the others are stopped
            await killing
        for agent_id in ("ana", "tom"):
            await story.admin.post(f"/v1/agents/{agent_id}:presence", json={"presence": "offline"})
    return f"told {told} times, while {len(killed)} processes were killed"


async def _one_after_another(kills: Sequence[Callable[[], Awaitable[None]]]) -> None:
    for kill in kills:
        await kill()


# ------------------------------------------------------------------------------------------------------------ the kills


async def killed_in_between(kill: Callable[[], Awaitable[None]], admin: Client, staff: Staff, seed: int) -> str:
    """Play a day, kill the process when some cases have ended, and see every other case end too."""
    ended, enough = 0, asyncio.Event()

    def count() -> None:
        nonlocal ended
        ended += 1
        if ended == KILL_AFTER:
            enough.set()

    async def strike() -> float:
        await enough.wait()
        began = time.monotonic()
        await kill()
        return time.monotonic() - began

    striking = asyncio.create_task(strike())
    await play(admin, Day(staff, seed, ended=count), visits(seed, VISITS))
    down_s = await striking
    assert ended == VISITS
    return f"back after {down_s:.1f} s, {ended} of {VISITS} cases ended"


# ---------------------------------------------------------------------------------------------------------- the restore


async def restored(installation: Installation, service: str) -> str:
    """A service's database is backed up, units are published, the database is lost: by the commands that
    docs/operating.md gives it comes back with the answers under `Idempotency-Key`, which only the back-up has, and with
    what came after it."""
    url = installation.postgres.dsn(service)
    answered = await _answered(url, service)
    await by_the_page("pg_dump", installation.directory, url)
    async with installation.opened(installation.admin_key) as admin:
        for unit_id in ("night", "weekend"):
            await admin.put(f"/v1/units/{unit_id}", {"name": unit_id, "kind": "front_end"})
    processes = [serving for serving in installation.serving.values() if serving.service == service]
    for serving in processes:
        await serving.stop()
    connection = await asyncpg.connect(installation.postgres.dsn("postgres"))
    await connection.execute(f"drop database {service}")
    await connection.close()
    installation.postgres.create_database(service)
    await by_the_page("pg_restore", installation.directory, url)
    await asyncio.gather(*(serving.start() for serving in processes))
    async with installation.opened(installation.admin_key) as admin:
        units = {unit["unit_id"] async for unit in admin.all("/v1/units")}
    assert {"night", "weekend"} <= units
    assert answered
    assert answered <= await _answered(url, service)
    return f"{service} went on from its back-up and the log; {len(answered)} answers are known again"


async def _answered(url: str, service: str) -> set[str]:
    """The requests whose repeats get the same answer."""
    connection = await asyncpg.connect(url)
    try:
        return {str(row) for row in await connection.fetch(f"select once::text from {service}.once")}
    finally:
        await connection.close()


# ----------------------------------------------------------------------------------------------------------- the import


async def imported(installation: Installation, sample: Sample) -> str:
    """Another system's log comes in, and the figures are the known ones."""
    path = installation.directory / f"{sample.profile}.csv"
    path.write_text("".join(f"{line.rstrip()}\n" for line in sample.lines()), "utf-8")
    code, out = await installation.command("import", str(path), "--profile", sample.profile, limit_s=IMPORT_LIMIT_S)
    assert code == 0, out
    import_id = out.splitlines()[-1].removeprefix("import ")
    async with installation.opened(installation.admin_key) as client:
        figures = (await client.get("/v1/figures", where=[f"import={import_id}"])).body
    assert printed(figures, sample.figures) == sample.figures
    return f"{figures['events']['value']:,} rows; {len(sample.figures)} figures equal the known ones"


# ----------------------------------------------------------------------------------------------------------- the checks

Event = tuple[str, str, str, int, str]
"""Source, topic, subject, sequence, id."""


async def nothing_is_lost(installation: Installation) -> str:
    """What the services' stores hold is what the log holds: nothing lost, nothing else."""
    recorded: set[Event] = set()
    for service in SERVICES:
        connection = await asyncpg.connect(installation.postgres.dsn(service.name))
        try:
            await until(partial(_all_sent, connection, service.name), limit_s=START_LIMIT_S)
            rows = await connection.fetch(f"select topic, subject, sequence, id from {service.name}.events")
            recorded |= {(service.name, r["topic"], r["subject"], r["sequence"], str(r["id"])) for r in rows}
            parked = await connection.fetchval(f"select count(*) from {service.name}.parked")
            assert parked == 0, f"{service.name} has parked {parked} records"
        finally:
            await connection.close()
    logged = await log_of(installation.broker.bootstrap)
    assert recorded == set(logged), (
        f"{len(recorded - set(logged))} events are lost, {len(set(logged) - recorded)} foreign"
    )
    return f"{len(recorded):,} events recorded, all in the log; {len(logged) - len(recorded):,} came twice"


async def _all_sent(connection: asyncpg.Connection, service: str) -> bool:
    return bool(await connection.fetchval(f"select count(*) = 0 from {service}.outbox"))


async def log_of(bootstrap: str) -> list[Event]:
    """Every record of both topics."""
    events: list[Event] = []
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with consumer:
        partitions = [TopicPartition(topic, n) for topic in (CASES, OPERATIONS) for n in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    headers = {name: value.decode() for name, value in record.headers}
                    source = headers["ce_source"].removeprefix("urn:casewalk:")
                    sequence = int(headers["ce_sequence"])
                    events.append((source, record.topic, headers["ce_subject"], sequence, headers["ce_id"]))
    return events


async def views_are_equal(installation: Installation) -> str:
    """Every view of every service equals a replay of the log."""
    code, out = await installation.command("verify", limit_s=IMPORT_LIMIT_S)
    assert code == 0, out
    return f"{len(out.splitlines())} views equal a replay"


# ----------------------------------------------------------------------------------------------------------- the report


class Report:
    """What was done, what came of it, and how long it took."""

    def __init__(self) -> None:
        self.table = Table("step", "came of it", "s", title="Distributed", title_justify="left")
        self.failed = False

    async def step(self, name: str, work: Awaitable[str]) -> None:
        """Do it, and write down what came of it; a failure ends the run after the report."""
        ERR.print(f"… {name}")
        began = time.monotonic()
        try:
            said = await work
        except BaseException as error:
            self.failed = True
            self.table.add_row(name, f"FAILED: {error}", f"{time.monotonic() - began:.1f}")
            raise
        self.table.add_row(name, said, f"{time.monotonic() - began:.1f}")


async def run(installation: Installation, report: Report) -> None:
    """The story, the kills, the imports, the checks."""
    await report.step("the story", the_story(installation, list(installation.kills)))
    async with (
        installation.opened(installation.admin_key) as admin,
        staffed(admin, installation.opened) as staff,
    ):
        for seed, (name, kill) in enumerate(installation.kills.items(), 1):
            await report.step(f"kill -9 {name}", killed_in_between(kill, admin, staff, seed))
    await report.step("restore router", restored(installation, "router"))
    for sample in SAMPLES:
        await report.step(f"import {sample.profile}", imported(installation, sample))
    await report.step("stores and log", nothing_is_lost(installation))
    await report.step("views", views_are_equal(installation))


async def main() -> int:
    """0 when everything held."""
    report = Report()
    # Not kept: the keys in it open everything that was made.
    with tempfile.TemporaryDirectory(prefix="casewalk-") as directory:
        try:
            async with installed(Path(directory)) as installation:
                await run(installation, report)
        finally:
            Console(width=140).print(report.table)
            if report.failed:
                for log in sorted(Path(directory).glob("*.log")):
                    tail = log.read_text(errors="replace").splitlines()[-15:]
                    ERR.print(f"--- {log.name}", *tail, sep="\n", markup=False)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
