"""`casewalk rebuild` and `casewalk verify`: what every view shows is what the log says."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID

from services.commands.client import Client, ServerRefused
from services.commands.settings import DATA_DIR, LOCAL_URL, DataDir, Json, KeyText, Url, connect
from services.commands.terminal import OUT, CommandFailed, ExitCode, print_json, records_read
from services.names import NAMES

Results = list[dict[str, Any]]


def rebuild(
    view: Annotated[
        str, typer.Argument(metavar="VIEW|all", help="A view's name, in whichever service has it, or `all`.")
    ],
    url: Url = LOCAL_URL,
    key: KeyText = None,
    data: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Build views anew from the log, beside the running ones.

    Readers see the old rows until one transaction switches to the new ones; cases may keep coming.
    """
    results = asyncio.run(_rebuild(connect(url, key, data), view))
    if as_json:
        print_json(results)
    else:
        for result in results:
            OUT.print(f"{result['service']}/{result['view']}: {result['rows']:,} rows")


def verify(
    url: Url = LOCAL_URL,
    key: KeyText = None,
    data: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Compare every view of every service with a replay of the log.

    Works on the running system: each view is compared at one moment. Exits 0 when all are equal, 1 when one differs.
    Parked cases are left out and listed.
    """
    results = asyncio.run(_verify(connect(url, key, data)))
    equal = all(result["equal"] for result in results)
    if as_json:
        print_json({"equal": equal, "views": results})
    else:
        for result in results:
            OUT.print(_compared(result))
    if not equal:
        raise typer.Exit(ExitCode.NO)


async def _rebuild(client: Client, view: str) -> Results:
    results: Results = []
    with records_read() as bar:
        async with client:
            for service in NAMES:
                names = [item["name"] for item in (await client.get(f"/v1/ops/{service}/views")).body["items"]]
                if view == "all" or view in names:
                    task = bar.add_task(f"rebuilding {service}", total=None)
                    path = f"/v1/ops/{service}/views/{view}:rebuild"
                    results += await _worked(client, "POST", path, service, bar, task)
    if not results:
        raise CommandFailed(f"no service has a view named {view}", ExitCode.USAGE)
    return results


async def _verify(client: Client) -> Results:
    results: Results = []
    with records_read() as bar:
        async with client:
            for service in NAMES:
                task = bar.add_task(f"verifying {service}", total=None)
                results += await _worked(client, "GET", f"/v1/ops/{service}/verify", service, bar, task)
    return results


async def _worked(client: Client, method: str, path: str, service: str, bar: Progress, task: TaskID) -> Results:
    """The results of a work that says how far it is; each gets the name of its service."""
    last: dict[str, Any] = {}
    async for last in client.lines(method, path):
        if "read" in last:
            bar.update(task, completed=last["read"])
    if not last.get("done"):
        raise ServerRefused(409, "failed", f"{service}: {last.get('error', 'the answer broke off; try again')}")
    return [{"service": service, **result} for result in last["results"]]


def _compared(result: dict[str, Any]) -> str:
    name = f"{result['service']}/{result['view']}@{result['version']}"
    said = f"equal, {result['rows']:,} rows" if result["equal"] else f"DIFFERENT: {', '.join(result['different'])}"
    left_out = f"; left out, because parked: {', '.join(result['parked'])}" if result["parked"] else ""
    return f"{name}: {said}{left_out}"
