"""Requests made up from the documentation, under a key of every role, and one after the other as answers lead on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.operations import Role
from services.every import SERVICES
from tests.conftest import Postgres
from tests.doors import fuzz
from tests.doors.town import Town, played

HOLDERS = {Role.AGENT: "ana", Role.PARTNER: "nordfix"}

SPEND_S, FULL_SPEND_S = {"fuzzing": 5, "stateful": 10}, 15
"""Per role and phase; three to five seconds go by before a request is sent."""

SAMPLE = {("stateful", Role.ADMIN), *(("fuzzing", role) for role in Role if role is not Role.ADMIN)}
"""An admin's requests one by one are in tests/test_doors.py."""


@pytest.fixture(scope="module")
async def town(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A configuration on which most doors lead somewhere, and cases in every state."""
    async with played(postgres, tmp_path_factory.mktemp("fuzz"), SERVICES) as town:
        yield town


@pytest.mark.timeout(fuzz.LIMIT_S + FULL_SPEND_S + 60)
@pytest.mark.parametrize(
    ("phase", "role"),
    [
        pytest.param(phase, role, marks=[pytest.mark.sample] if (phase, role) in SAMPLE else [])
        for phase in ("fuzzing", "stateful")
        for role in Role
    ],
)
async def test_no_request_of_any_role_breaks_a_door(
    town: Town, tmp_path: Path, phase: str, role: Role, full: bool
) -> None:
    """No 5xx, no status or shape that is not documented; and nothing is parked by what was let in.

    Where requests follow from answers some must, except a partner's, of which 3,301 followed from none."""
    key = (await town.world.key(role, HOLDERS.get(role))).headers["Authorization"].removeprefix("Bearer ")
    spend_s = FULL_SPEND_S if full else SPEND_S[phase]
    enough = fuzz.FOLLOWED if phase == "stateful" and role is not Role.PARTNER else fuzz.SENT
    async with fuzz.served(town.world.app) as url:
        code, report = await fuzz.schemathesis(
            url, key, town.known(), tmp_path, phases=phase, spend_s=spend_s, enough=enough
        )
    assert code == 0, report
    for host in town.world.hosts.values():
        assert await host.ready() is None
        assert not await host.database.readers.fetch("select * from parked")
