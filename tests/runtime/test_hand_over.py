"""A process that makes room for another one keeps its doors open until the other's are."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import httpx

from services.intake.service import SERVICE as INTAKE
from services.metrics.service import SERVICE as METRICS
from tests.casewalk import ADMIN_KEY, Casewalk, casewalk
from tests.conftest import Engine
from tests.distributed import Serving
from tests.until import until

NEWER = replace(METRICS, views=tuple(replace(view, version=view.version + 1) for view in METRICS.views))
CASE = {"channel": "web", "market": "de", "language": "de", "journey": "delivery", "subject": "Where?", "body": "Lost."}


async def test_an_old_process_keeps_its_doors_open_when_a_newer_version_has_taken_its_views(
    engine: Engine, tmp_path: Path
) -> None:
    async with (
        casewalk(engine, tmp_path, (INTAKE, METRICS)) as old,
        casewalk(engine, tmp_path, (INTAKE, NEWER)) as new,
    ):
        answer = await old.admin.post(
            "/v1/cases", json={**CASE, "customer": {"external_id": "c1"}}, headers={"Idempotency-Key": "one"}
        )
        assert answer.status_code == 201, answer.text
        await until(lambda: only_worker(new), limit_s=30)
        await new.settled()

        walks = [(await each.admin.get(f"/v1/walks/{answer.json()['case_id']}")).json() for each in (old, new)]
        assert walks[0]["steps"]
        assert walks[0] == walks[1]
        assert (await old.admin.get("/health/ready")).is_success


async def only_worker(world: Casewalk) -> bool:
    """Whether it has every lane of the views of metrics."""
    host = world.hosts["metrics"]
    owners = await host.database.readers.fetch(
        "select distinct owner from lane where consumer = $1", host.views_consumer.name
    )
    return [row["owner"] for row in owners] == [host.views_consumer.worker]


async def test_a_process_told_to_stop_says_so_while_its_doors_are_still_open(database: str, tmp_path: Path) -> None:
    variables = {
        "CASEWALK_DATABASE_URL": database,
        "CASEWALK_DATA_DIR": str(tmp_path),
        "CASEWALK_ADMIN_KEY": ADMIN_KEY,
    }
    serving = Serving("intake", tmp_path, variables)
    await serving.start()
    assert serving.process is not None
    try:
        serving.process.send_signal(signal.SIGTERM)
        async with httpx.AsyncClient(base_url=serving.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as client:

            async def leaving() -> bool:
                return (await client.get("/health/ready")).status_code == 503

            await until(leaving)
            answer = await client.get("/v1/keys")
        assert answer.is_success
    finally:
        await serving.stop()
    assert serving.process.returncode == 0
