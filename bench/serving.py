"""`python -m bench.serving MODE PORT SERVICE…`: Casewalk's own doors, and beside each measured one a door that
validates the same body and writes nothing.

Modes: `whole` is what `casewalk serve` runs; `relay` ends the consumers once the first key has come through them, so
that what is left is the doors, the store and the relay.
"""

from __future__ import annotations

import asyncio
import sys
from uuid import uuid4

import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response

from bench.ground import READY_WITHIN_S, until
from events.event import CASES
from events.operations import Role
from events.store import position
from services.commands.server import ServerEnvironment, master_key
from services.every import SERVICES
from services.intake.api.cases import Opened, OpenOrder, case_id_of
from services.intake.api.imports import Imported, ObservedRow, RowAnswer, lines
from services.process import collect_seldom, only_the_wheel
from services.runtime import Host, Settings, running
from services.web import Caller, Door

WHOLE, RELAY = "whole", "relay"


def add_validating_doors(app: FastAPI, host: Host) -> None:
    """`/v1/cases/validated` and `/v1/imports/validated`: the same keys, bodies and answers, and nothing happens."""
    door = Door(host)
    opens, imports = door.caller(Role.CHANNEL, Role.AGENT, Role.LEAD), door.caller(Role.CHANNEL, Role.LEAD)

    @app.post("/v1/cases/validated", status_code=201)
    async def opened(order: OpenOrder, response: Response, caller: Caller = opens) -> Opened:
        case_id = case_id_of(order, caller)
        response.headers["ETag"] = '"1"'
        response.headers["Casewalk-Position"] = position("intake", CASES, case_id, 1)
        return Opened(case_id=case_id, customer_ref=str(uuid4()))

    @app.post("/v1/imports/validated", response_model_exclude_none=True)
    async def imported(request: Request, profile: str, import_id: str, caller: Caller = imports) -> Imported:
        read = [(number, ObservedRow.model_validate_json(line)) async for number, line in lines(request)]
        rows = [RowAnswer(line=number, status="recorded", case_id=row.case) for number, row in read]
        return Imported(import_id=import_id, recorded=len(rows), known=0, refused=0, rows=rows)


async def main(mode: str, port: int, names: list[str]) -> None:
    environment = ServerEnvironment()
    assert environment.database_url is not None
    settings = Settings(
        database_url=environment.database_url,
        kafka=environment.kafka,
        data_dir=environment.data_dir,
        master_key=master_key(environment),
        admin_key=environment.admin_key.get_secret_value() if environment.admin_key else None,
        namespace=environment.namespace,
    )
    async with running([service for service in SERVICES if service.name in names], settings) as app:
        hosts: dict[str, Host] = app.state.hosts
        if "intake" in hosts:
            add_validating_doors(app, hosts["intake"])
        if mode == RELAY:
            await until(lambda: _ready(hosts["intake"]), READY_WITHIN_S)
            _end_consumers(app, hosts["intake"])
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
        await uvicorn.Server(config).serve()


async def _ready(host: Host) -> bool:
    return await host.ready() is None


def _end_consumers(app: FastAPI, host: Host) -> None:
    """The host would rightly say that it is not ready any more; here it is."""
    for task in asyncio.all_tasks():
        if task.get_name() in (f"{host.service.name} views", f"{host.service.name} reactor"):
            task.cancel()

    async def ready(_: Request) -> Response:
        return Response()

    app.router.routes = [route for route in app.router.routes if getattr(route, "path", "") != "/health/ready"]
    app.add_route("/health/ready", ready)


if __name__ == "__main__":
    only_the_wheel()
    collect_seldom()
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
