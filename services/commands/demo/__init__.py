"""`casewalk demo`: a busy day on all five services, played through the REST API.

`town` is what is published first, `script` what happens to each case, `day` plays it, `server` runs Casewalk for it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from events.case import ClockKind, address
from services.commands.client import Client
from services.commands.clock import explanation
from services.commands.demo import server, town
from services.commands.demo.day import Day, Staff
from services.commands.demo.script import BROKEN, CASES, EDGE, ODYSSEY, PAUSED, SAVED, Act, Visit, visits
from services.commands.figures import table
from services.commands.settings import DATA_DIR, KeyText, connect
from services.commands.terminal import OUT, CommandFailed, ExitCode, progress, stopping
from services.commands.walk import timeline
from services.names import NAMES

SEED = 7

METRICS = "metrics"

PATIENCE_S = 60.0

Opener = Callable[..., Client]
"""`key` → a client that shows it."""


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the day, instead of staying up.")] = False,
    kafka: Annotated[bool, typer.Option("--kafka", help="Run on a real Kafka broker, started for it.")] = False,
    port: Annotated[int, typer.Option(envvar="CASEWALK_PORT", min=1, max=65_535, help="The port to run on.")] = 8080,
    data: Annotated[
        Path | None, typer.Option(help="Where to keep what happens; left out, it is thrown away at the end.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(envvar="CASEWALK_URL", help="Play on this Casewalk instead of starting one.")
    ] = None,
    key: KeyText = None,
    count: Annotated[int, typer.Option("--visits", min=10, hidden=True, help="How many cases the day has.")] = CASES,
) -> None:
    """Play a busy day through the REST API and show what comes of it.

    Customers of five markets come in by five channels in six languages; agents take their cases and answer; some go to
    specialists and to partners, some escalate; customers answer the survey. Then two cases' walks, three clocks and the
    day's figures are printed, and everything stays up until Ctrl-C.
    """
    if url is not None and kafka:
        raise CommandFailed("--kafka starts a Casewalk of its own: leave out --url and CASEWALK_URL", ExitCode.USAGE)
    with ExitStack() as stack:
        if url is None:
            directory = data or Path(stack.enter_context(TemporaryDirectory(prefix="casewalk-demo-")))
            bootstrap = stack.enter_context(server.broker(directory / "kafka")) if kafka else None
            started = stack.enter_context(server.Server.running(directory, port, bootstrap))
            url, key = started.url, started.admin_key
        opened = partial(connect, url, data=data or DATA_DIR, patience_s=PATIENCE_S)
        asyncio.run(_play_and_show(opened, key, count))
        OUT.print(f"API {url}/docs · schemas {url}/asyncapi.json · health {url}/health/ready", soft_wrap=True)
        if not once:
            OUT.print("Ctrl-C stops it.")
            with stopping():
                signal.pause()


async def _play_and_show(opened: Opener, key: str | None, count: int) -> None:
    async with opened(key=key) as admin, staffed(admin, opened) as staff:
        today = visits(SEED, count)
        with progress() as bar:
            task = bar.add_task("a busy day", total=len(today))
            day = Day(staff, SEED, ended=partial(bar.advance, task))
            await play(admin, day, today)
        await _show(admin, day)


SHOWN_CLOCKS: tuple[tuple[str, tuple[Act, ...], ClockKind], ...] = (
    ("A promise that was warned of", SAVED, ClockKind.RESOLUTION),
    ("A promise that nobody hurried for", BROKEN, ClockKind.RESOLUTION),
    ("A clock that waits for the customer", PAUSED, ClockKind.REQUESTER_WAIT),
)
BECAME = {True: ": saved", False: ": broken", None: ""}


async def _show(admin: Client, day: Day) -> None:
    """Two walks, three clocks and the figures."""
    OUT.print(timeline((await admin.get(f"/v1/walks/{day.case_of(ODYSSEY)}")).body))
    edge = day.case_of(EDGE)
    OUT.print(f"\n[bold]An edge case: one owner until the end, reached at {address(edge)}")
    OUT.print(timeline((await admin.get(f"/v1/walks/{edge}")).body))
    for title, acts, kind in SHOWN_CLOCKS:
        case_id = day.case_of(acts)
        clocks = (await admin.get("/v1/clocks", case=case_id)).body
        about = [one for one in clocks["items"] if one["clock"] == kind]
        OUT.print(f"\n[bold]{title}{BECAME[about[0]['kept']]}")
        OUT.print(explanation(case_id, clocks | {"items": about}))
    OUT.print()
    OUT.print(table((await admin.get("/v1/figures")).body))


async def play(admin: Client, day: Day, today: Sequence[Visit]) -> None:
    """Until the day is over and metrics has seen all of it. Raises CommandFailed."""
    try:
        async with _short_promise(admin):
            await day.play(today)
    except TimeoutError as error:
        raise CommandFailed(f"the day did not end in time: {day.left()}", ExitCode.NO) from error
    except ExceptionGroup as group:
        failures = group.subgroup(CommandFailed)
        if failures is None:
            raise
        raise failures.exceptions[0] from group
    await _seen(admin, METRICS, day.last_positions)


@asynccontextmanager
async def staffed(admin: Client, opened: Opener) -> AsyncIterator[Staff]:
    """Publish the town, make everybody's key, open a client for each, and let the agents come in."""
    for path, body in town.published():
        await admin.put(path, body)
    made: list[str] = []
    async with AsyncExitStack() as stack:

        async def client(role: str, name: str, **holder: str) -> Client:
            answer = await admin.post("/v1/keys", {"role": role, "label": f"demo {name}", **holder})
            made.append(answer.position or "")
            return await stack.enter_async_context(opened(key=answer.body["secret"]))

        staff = Staff(
            admin,
            {channel: await client("channel", channel) for channel in town.CHANNELS},
            {agent.id: await client("agent", agent.id, holder=agent.id) for agent in town.AGENTS},
            {partner: await client("partner", partner, holder=partner) for partner in town.PARTNERS},
        )
        for service in NAMES:
            await _seen(admin, service, made)
        for agent_id, agent in staff.agents.items():
            await agent.post(f"/v1/agents/{agent_id}:presence", {"presence": "available"})
        yield staff


@asynccontextmanager
async def _short_promise(admin: Client) -> AsyncIterator[None]:
    """Urgent cases are promised so soon that some are late, until the day is over."""
    path = "/v1/promises/standard"
    before = (await admin.get(path)).body
    await admin.put(path, town.short_promise(before))
    try:
        yield
    finally:
        await admin.put(path, town.promise_order(before))


async def _seen(admin: Client, service: str, positions: Iterable[str]) -> None:
    """Until the service has read all these writes."""
    for position in positions:
        await admin.get(f"/v1/ops/{service}/views", after=position)
