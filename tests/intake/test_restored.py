"""An intake restored from a backup: who was forgotten stays forgotten, and lost keys are no erasure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.intake.service import SERVICE
from tests.backups import dump, lose, restore
from tests.casewalk import Casewalk, casewalk
from tests.conftest import Engine
from tests.intake.conftest import opening


async def opened(world: Casewalk, who: str) -> str:
    answer = await world.admin.post("/v1/cases", json=opening(customer={"external_id": who, "name": who}))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["case_id"])


async def case(world: Casewalk, case_id: str) -> dict[str, Any]:
    answer = await world.admin.get(f"/v1/cases/{case_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("backup", [True, False], ids=["with a backup", "without a backup"])
async def test_erasures_survive_a_restore_and_lost_keys_are_told_apart(
    engine: Engine, tmp_path: Path, backup: bool
) -> None:
    async with casewalk(engine, tmp_path, [SERVICE]) as world:
        kim, lee = await opened(world, "kim"), await opened(world, "lee")
        await world.settled()
        dump(engine, "intake", tmp_path / "backup")
        sam = await opened(world, "sam")
        ref = (await case(world, kim))["customer_ref"]
        assert (await world.admin.delete(f"/v1/customers/{ref}")).status_code == 200
        await world.settled()
    await lose(engine, "intake")
    if backup:
        restore(engine, tmp_path / "backup")
    async with casewalk(engine, tmp_path, [SERVICE]) as world:
        assert (await case(world, kim))["title"] == {"redacted": "erased"}
        readable = "Where is my parcel?" if backup else {"redacted": "no_key"}
        assert (await case(world, lee))["title"] == readable
        assert (await case(world, sam))["title"] == {"redacted": "no_key"}
        refused = await world.admin.post(f"/v1/cases/{kim}/messages", json={"direction": "out", "body": "Hi"})
        assert refused.status_code == 409
