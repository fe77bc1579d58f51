"""Schemathesis over the whole OpenAPI document, as a program of its own that talks to a socket."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from tests.until import until

ROOT = Path(__file__).resolve().parents[2]

OFTEN = 0.8

CHAINS = 20
"""Chains of requests in a round of `stateful`: an admin's followed 30 links in 25 s, with one at a time 12."""

SENT, FOLLOWED = r"[1-9][0-9]* generated", r"API Links: +[1-9]"
"""What a report says where something was sent, and where a request followed from an answer."""

LONGEST_S = 80
"""What it goes on for at most until something is."""

LIMIT_S = 600.0
"""What a run may take at most, on a slow and busy machine."""

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "ignored_auth",
)
"""Left out: that whatever fits the schema is accepted, because a schema does not say which ids and positions there are;
and that other methods get 405, because `/cases/{id}` also takes what should have been `/cases/{id}:verb`. Imports get
no wrong bodies: whatever is sent is text, and each of its lines is refused by itself, with 200."""

CONFIG = """
workers = 1
warnings = false
hooks = "tests.doors.ndjson"
[cache]
enabled = false
[generation]
deterministic = true
database = "none"
max-examples = {examples}
[dictionaries]
{dictionaries}
[parameters]
{parameters}
[phases.coverage]
unexpected-methods = []
[[operations]]
include-path-regex = "^/v1/ops/(router|escalation|vendor|metrics)/|verify$"
phases.coverage.enabled = false
[[operations]]
include-path = "/v1/imports"
generation.mode = "positive"
"""


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The application's address while it is served on a socket."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_level="error", access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await until(started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


async def schemathesis(
    url: str,
    key: str,
    known: Mapping[str, Iterable[str]],
    directory: Path,
    *,
    phases: str = "coverage,fuzzing",
    spend_s: int | None = None,
    enough: str = SENT,
) -> tuple[int, str]:
    """Exit code and report of a run with this key. `known` are values that parameters such as `path.case_id` often
    get: most that could be made up lead nowhere. The phase `stateful` follows what one door says to others; documented
    examples are sent by tests/test_doors.py.
    It goes through all doors once, each with what covers its schema and one request made by chance; with `spend_s` it
    goes on for so long, and for twice as long where the report does not say `enough` then: SENT or FOLLOWED."""
    config = directory / "schemathesis.toml"
    config.write_text(
        CONFIG.format(
            dictionaries="\n".join(
                f"{name.replace('.', '-')} = {{ values = {json.dumps(list(values))} }}"
                for name, values in known.items()
            ),
            parameters="\n".join(
                f'"{name}" = {{ dictionary = "{name.replace(".", "-")}", probability = {OFTEN} }}' for name in known
            ),
            examples=CHAINS if phases == "stateful" else 1,
        )
    )
    arguments = ["--config-file", str(config), "run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}"]
    arguments += ["--phases", phases, "--checks", ",".join(CHECKS), "--continue-on-failure", "--no-color"]
    while True:
        # Without a seed each round would send what the one before it sent.
        limited = [] if spend_s is None else ["--max-time", str(spend_s), "--seed", "1"]
        code, report = await _run([*arguments, *limited], directory, LIMIT_S + (spend_s or 0))
        if code != 0 or re.search(enough, report):
            return code, report
        assert spend_s is not None, f"nothing was sent:\n{report}"
        assert spend_s < LONGEST_S, f"nothing was sent or followed:\n{report}"
        spend_s *= 2


async def _run(arguments: list[str], directory: Path, limit_s: float) -> tuple[int, str]:
    report = directory / "report.txt"
    with report.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", *arguments),
            cwd=directory,
            # Without the last it looks through the environment for a proxy twice a request.
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'libs'}", "NO_PROXY": "127.0.0.1"},
            stdout=out,
            stderr=out,
        )
        try:
            async with asyncio.timeout(limit_s):
                code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
    return code, report.read_text()
