"""One web application over any number of hosts, and running it until somebody says stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from types import FrameType
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Path, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from events import effects, schemas
from events.errors import Unavailable, Unknown
from events.kafka_log import KafkaLog
from events.log import Log
from events.postgres_log import PostgresLog
from events.wire import VOCABULARY
from services.limits import BodyLimit, Turns
from services.runtime import ops, zones
from services.runtime.host import Host, Service, Settings
from services.web.problems import PROBLEMS, Problem, install_problems, problem

STOP_WITHIN_S = 6
"""For requests that have begun: with what follows, a stop takes less than 20 s though brokers are away."""

LEAVE_AFTER_S = 3.0
"""How long a process says that it is going while its doors are still open: a proxy that looks sends nothing more by
then. A request that comes in while doors close may get no answer."""


@asynccontextmanager
async def running(
    services: Sequence[Service], settings: Settings, opened: Callable[[Sequence[Host]], FastAPI] | None = None
) -> AsyncIterator[FastAPI]:
    """The services run, and the application that opens their doors (made by `opened`, if given); all of it stops at the
    end.

    `app.state.hosts` maps service names to hosts. Raises Invalid where a database or topic is not as it must be,
    Unavailable where one does not answer.
    """
    async with AsyncExitStack() as stack:
        log = _log(settings)
        hosts: list[Host] = []
        stack.push_async_callback(log.stop)
        await log.start()
        stack.push_async_callback(_stop, hosts)
        for service in services:
            host = await Host.open(service, settings, log)
            hosts.append(host)  # at once: it is stopped if the next one cannot be opened
        await _start(hosts)
        yield (opened or application)(hosts)


async def _start(hosts: Sequence[Host]) -> None:
    """Start all hosts beside each other; when one cannot, the others are called off and its error is raised."""
    try:
        async with asyncio.TaskGroup() as starting:
            for host in hosts:
                starting.create_task(host.start())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _stop(hosts: Iterable[Host]) -> None:
    """Stop all beside each other, so that together they take no longer than the slowest."""
    ends = await asyncio.gather(*(host.stop() for host in hosts), return_exceptions=True)
    for error in ends:
        if error is not None:
            raise error


def _log(settings: Settings) -> Log:
    """One for all services of the process."""
    if settings.kafka is None:
        return PostgresLog(settings.database_url)
    return KafkaLog(settings.kafka, settings.namespace, settings.kafka_security)


def application(hosts: Sequence[Host]) -> FastAPI:
    """The doors of these hosts, and what is everywhere: docs, schemas, health, metrics."""
    app = FastAPI(
        title="Casewalk",
        version=version("casewalk"),
        description=_description(hosts),
        responses=PROBLEMS,
        openapi_tags=[
            *({"name": host.service.name, "description": host.service.sentence} for host in hosts),
            {"name": "operations", "description": "what every service has: health, schemas, views, parked cases"},
        ],
    )
    app.state.hosts = {host.service.name: host for host in hosts}
    app.state.leaving = False
    install_problems(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(Turns)
    for host in hosts:
        for doors in (host.service.doors(host), ops.doors(host)):
            app.router.routes.extend(doors.routes)  # to include a router is to make all of its routes once more
    _common(app, hosts)
    made = app.openapi

    def with_problem() -> dict[str, Any]:
        document = made()
        document["components"].setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        return document

    app.openapi = with_problem  # type: ignore[method-assign]
    return app


def _description(hosts: Sequence[Host]) -> str:
    lines = [f"- **{host.service.name}** {host.service.sentence}" for host in hosts]
    return "Follows every customer case from first contact to an accepted resolution.\n\n" + "\n".join(lines)


def _common(app: FastAPI, hosts: Sequence[Host]) -> None:
    @app.get("/health/live", tags=["operations"], summary="The process runs")
    async def live() -> dict[str, str]:
        """Says nothing about whether it can work."""
        return {"status": "alive"}

    @app.get("/health/ready", tags=["operations"], summary="The doors are open")
    async def ready() -> Response:
        """503 with the reason per service until every service can work; silent mark sources and effects that were given
        up are named. `warnings` are sentences about what keeps nothing from working and is worth a look."""
        if app.state.leaving:
            return problem(503, "not-ready", "this process is about to stop", {"Retry-After": "1"})
        why = {host.service.name: await host.ready() for host in hosts}
        waiting = {name: text for name, text in why.items() if text is not None}
        silent = {
            h.service.name: h.reactor.firing.silent for h in hosts if h.reactor.firing and h.reactor.firing.silent
        }
        if waiting:
            detail = "; ".join(f"{name}: {text}" for name, text in waiting.items())
            return problem(503, "not-ready", detail, {"Retry-After": "1"})
        # Each once: services of one process warn of the same topics.
        warnings = dict.fromkeys([sentence for host in hosts for sentence in await host.warnings()])
        dead = {host.service.name: await host.given_up() for host in hosts if host.service.deliver is not None}
        return JSONResponse(
            {
                "status": "ready",
                "services": sorted(why),
                "timers_wait_for": silent,
                "effects_given_up": {name: n for name, n in dead.items() if n},
                "warnings": [*filter(None, (zones.difference(),)), *warnings],
            }
        )

    @app.get("/metrics", tags=["operations"], summary="Figures for Prometheus", response_class=Response)
    async def metrics() -> Response:
        """Outbox size and age, parked records, records behind, effects, per service."""
        return Response(await _metrics(hosts), media_type=CONTENT_TYPE_LATEST)

    @app.get("/asyncapi.json", tags=["operations"], summary="The topics and their events, as AsyncAPI 3")
    async def asyncapi() -> dict[str, Any]:
        """What a subscriber in another system reads first."""
        return schemas.asyncapi(version("casewalk"))

    @app.get("/schemas/{type}", tags=["operations"], summary="The JSON Schema of an event type")
    async def schema(type: Annotated[str, Path(pattern=r"^[a-z0-9_.]{1,100}$")]) -> dict[str, Any]:
        """`ce_dataschema` of every record points here."""
        if type in VOCABULARY.classes:
            return schemas.schema(VOCABULARY.classes[type])
        if type not in schemas.older():
            raise Unknown(f"{type} is no event type of ours")
        return schemas.older()[type]


async def _metrics(hosts: Sequence[Host]) -> bytes:
    registry = CollectorRegistry()
    unsent = Gauge("casewalk_outbox_rows", "Events not yet in the log", ["service"], registry=registry)
    age = Gauge("casewalk_outbox_age_seconds", "Age of the oldest of them", ["service"], registry=registry)
    parked = Gauge("casewalk_parked_records", "Records that wait for somebody", ["service"], registry=registry)
    behind = Gauge("casewalk_behind_records", "Records not handled yet", ["consumer"], registry=registry)
    for host in hosts:
        (row,) = await host.database.readers.fetch(
            "select count(*) as unsent, coalesce(extract(epoch from clock_timestamp() - min(recorded_at)), 0) as age,"
            " (select count(*) from parked) as parked from outbox"
        )
        unsent.labels(host.service.name).set(row["unsent"])
        age.labels(host.service.name).set(row["age"])
        parked.labels(host.service.name).set(row["parked"])
        for consumer in (host.views_consumer.name, host.reactor.name):
            left = [p.records for p in await host.log.progress(consumer)]
            behind.labels(consumer).set(sum(left))
    await _effects(registry, [host for host in hosts if host.service.deliver is not None])
    return generate_latest(registry)


async def _effects(registry: CollectorRegistry, hosts: Sequence[Host]) -> None:
    effect = Gauge("casewalk_effects", "Mails and webhooks, by state", ["service", "state"], registry=registry)
    repeats = Counter("casewalk_effect_repeats", "Sends that may have arrived twice", ["service"], registry=registry)
    skipped = Counter("casewalk_effect_skipped", "Events too old to tell of", ["service"], registry=registry)
    for host in hosts:
        name = host.service.name
        async with host.database.readers.acquire() as conn:
            for state, n in (await effects.states(conn)).items():
                effect.labels(name, state).set(n)
            counts = await effects.counts(conn)
        repeats.labels(name).inc(counts["repeats"])
        skipped.labels(name).inc(counts["skipped"])


class _Server(uvicorn.Server):
    """Told to stop by SIGTERM, it says so at /health/ready for a while and only then shuts its doors."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, leave_after_s: float) -> None:
        super().__init__(config)
        self.app, self.leave_after_s, self.loop = app, leave_after_s, asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        now = sig != signal.SIGTERM or self.app.state.leaving
        self.app.state.leaving = True
        exits = partial(super().handle_exit, sig, frame)
        if now or not self.leave_after_s:
            exits()
        else:
            self.loop.call_soon_threadsafe(self.loop.call_later, self.leave_after_s, exits)


async def serve(
    services: Sequence[Service], settings: Settings, host: str, port: int, leave_after_s: float = 0.0
) -> None:
    """Run the services behind one port until SIGINT, or until `leave_after_s` after SIGTERM. Raises Unavailable when a
    part of them ended, so that whoever watches the process starts it again."""
    async with running(services, settings) as app:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=STOP_WITHIN_S,
            server_header=False,
        )
        server = _Server(config, app, leave_after_s)
        watching = asyncio.create_task(_stop_with_a_dead_part(app, server), name="watch parts")
        await server.serve()
        watching.cancel()
        for dead in (host.died for host in app.state.hosts.values() if host.died is not None):
            raise Unavailable(dead)


async def _stop_with_a_dead_part(app: FastAPI, server: uvicorn.Server) -> None:
    ends = [asyncio.ensure_future(host.part_ended.wait()) for host in app.state.hosts.values()]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
    finally:
        for end in ends:
            end.cancel()
