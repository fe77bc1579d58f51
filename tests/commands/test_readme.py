"""The README's examples do what it says they do, as they stand there."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands.conftest import ROOT, Up, environment, running
from tests.until import until

README = (ROOT / "README.md").read_text()

LIMIT_S = 60.0


@dataclass(frozen=True)
class Example:
    """A fenced block that is marked `run`."""

    language: str
    needs: str
    """`kafka`; `deliver`, a channel's key; or nothing."""
    text: str

    def at(self, up: Up, **instead: str) -> str:
        """The block, for a Casewalk on another port."""
        text = self.text.replace("http://127.0.0.1:8080", up.url)
        for there, here in instead.items():
            text = text.replace(there, here)
        return text


EXAMPLES = [
    Example(*found) for found in re.findall(r"^```(\w+) run ?(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
]
CURL, WALK, FEED = (example for example in EXAMPLES if not example.needs)
(DELIVER,) = (example for example in EXAMPLES if example.needs == "deliver")
(SUBSCRIBER,) = (example for example in EXAMPLES if example.needs == "kafka")


async def started(language: str, text: str, up: Up, **variables: str) -> asyncio.subprocess.Process:
    """The block runs where its reader would run it: beside `casewalk-data`."""
    program = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-u", "-c"]
    return await asyncio.create_subprocess_exec(
        *program, text, cwd=up.directory.parent, env=environment(variables), stdout=asyncio.subprocess.PIPE
    )


async def printed(example: Example, up: Up, **variables: str) -> str:
    process = await started(example.language, example.at(up), up, **variables)
    async with asyncio.timeout(LIMIT_S):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


@pytest.fixture(scope="module")
async def up() -> AsyncIterator[Up]:
    """As in the README: on `casewalk-data` in the folder one is in."""
    with tempfile.TemporaryDirectory(prefix="casewalk-") as folder:
        async with running(Path(folder) / "casewalk-data") as up:
            yield up


async def test_the_curl_example_opens_one_case_however_often_it_is_run(up: Up) -> None:
    first, second = [json.loads(await printed(CURL, up)) for _ in range(2)]
    assert set(first) == {"case_id", "customer_ref"}
    assert first == second


async def test_the_python_example_prints_a_walk_that_ends_in_a_verdict(up: Up) -> None:
    *steps, verdict = (await printed(WALK, up)).splitlines()
    assert any("a customer came in by email" in step for step in steps)
    assert "'accepted': 'yes'" in verdict


async def test_the_feed_example_prints_every_event_so_far(up: Up) -> None:
    case_id = json.loads(await printed(CURL, up))["case_id"]
    events = (await printed(FEED, up)).splitlines()
    assert f"casewalk.case.opened.v1 {case_id}" in "\n".join(events)


async def test_the_delivering_example_sends_what_is_for_the_customer_once(up: Up) -> None:
    case_id = json.loads(await printed(CURL, up))["case_id"]
    async with up.client() as client:
        made = (await client.post("/v1/keys", json={"role": "channel", "label": "mail"})).json()

        async def answered(body: str, visibility: str = "public") -> str:
            order = {"direction": "out", "visibility": visibility, "body": body}
            sent = await client.post(f"/v1/cases/{case_id}/messages", json=order)
            message_id = str(sent.json()["message_id"])

            async def in_the_feed() -> bool:
                events = (await client.get("/v1/events", params={"limit": 500})).json()["items"]
                return any(event["data"].get("message_id") == message_id for event in events)

            await until(in_the_feed)
            return message_id

        async def delivered() -> list[str]:
            lines = (await printed(DELIVER, up, CASEWALK_KEY=made["secret"])).splitlines()
            return [line for line in lines if line.startswith(case_id)]

        first = await answered("It is on its way.")
        await answered("Careful with this one.", "internal")
        assert await delivered() == [f"{case_id} {first} It is on its way."]
        assert await delivered() == []
        second = await answered("It has arrived.")
        assert await delivered() == [f"{case_id} {second} It has arrived."]


async def test_the_subscriber_example_prints_what_happens(kafka: str, database: str) -> None:
    name = database.rsplit("/", 1)[1].partition("?")[0]
    variables = {"CASEWALK_KAFKA": kafka, "CASEWALK_NAMESPACE": f"{name}.", "CASEWALK_DATABASE_URL": database}
    with tempfile.TemporaryDirectory(prefix="casewalk-") as folder:
        async with running(Path(folder) / "casewalk-data", **variables) as up:
            case_id = json.loads(await printed(CURL, up))["case_id"]
            text = SUBSCRIBER.at(up, **{"localhost:9092": kafka, '"casewalk.cases"': f'"{name}.casewalk.cases"'})
            subscriber = await started(SUBSCRIBER.language, text, up)
            assert subscriber.stdout is not None
            try:
                async with asyncio.timeout(LIMIT_S):
                    while (
                        f"casewalk.case.opened.v1 {case_id}"
                        not in (line := await subscriber.stdout.readline()).decode()
                    ):
                        assert line, "the subscriber ended"
            finally:
                subscriber.kill()
                await subscriber.wait()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_what_the_readme_points_to_is_there(target: str) -> None:
    assert (ROOT / target).exists()


def test_the_readme_names_every_make_target_it_uses() -> None:
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^    make ([a-z]+)", README, re.MULTILINE)) <= made
