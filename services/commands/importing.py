"""`casewalk import`: streams another system's log through `POST /v1/imports`."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from services.commands.client import Client, ServerRefused
from services.commands.profiles import Profile, ProfileError, Row, load_profile
from services.commands.settings import DATA_DIR, LOCAL_URL, DataDir, Json, KeyText, Url, connect
from services.commands.terminal import ERR, OUT, CommandFailed, ExitCode, print_json, progress

ROWS_PER_CHUNK = 500

PATIENCE_S = 900.0
"""Live work goes first, so an import waits long."""

REACH_S = 180.0
"""A server that is started again in between comes back within this time."""

LOOK_EVERY_S = 0.25

LOOKS = 20
"""How often the figures may stand still before they are taken to have seen everything."""

SHOWN_REFUSALS = 10

GZIP = b"\x1f\x8b"


@dataclass
class Imported:
    """What became of the rows. A known row was imported before, by this run or an earlier one."""

    import_id: str
    rows: int
    recorded: int = 0
    known: int = 0
    refused: int = 0
    refusals: list[str] = field(default_factory=list)
    """The first few, each with its row's number in the file, the header not counted."""

    def add(self, sent: int, said: dict[str, Any]) -> None:
        """Count one chunk's answer; `sent` rows went before it."""
        self.recorded += said["recorded"]
        self.known += said["known"]
        self.refused += said["refused"]
        refused = [row for row in said["rows"] if row["status"] == "refused"]
        self.refusals += [f"row {sent + row['line']}: {row['detail']}" for row in refused][:SHOWN_REFUSALS]
        del self.refusals[SHOWN_REFUSALS:]


def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A CSV file, plain or gzipped, in UTF-8.")],
    profile: Annotated[str, typer.Option(help="A shipped profile (vinst, helpdesk-it) or your own YAML file.")],
    url: Url = LOCAL_URL,
    key: KeyText = None,
    data: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Import the history another system logged.

    Every row becomes one observed step of its case's walk, at its original time; nothing is routed by it, and nothing
    is clocked unless the profile names promises. The whole file is checked before its first row is sent. The import's
    id is made of the file's content and the profile, and rows the server knows are skipped: after a break, run the
    same command again. Exits 4 when the server refused rows.
    """
    try:
        plan = load_profile(profile)
        import_id, rows = check(file, plan)
    except ProfileError as error:
        raise CommandFailed(str(error), ExitCode.USAGE) from error
    client = connect(url, key, data, patience_s=PATIENCE_S, reach_s=REACH_S)
    imported = asyncio.run(send_and_see(client, plan, import_id, file, rows))
    if as_json:
        print_json(vars(imported))
    else:
        OUT.print(
            f"{rows:,} rows: {imported.recorded:,} recorded, {imported.known:,} known, {imported.refused:,} refused"
        )
        OUT.print(f"import {import_id}")
    for refusal in imported.refusals:
        ERR.print(refusal, markup=False)
    if imported.refused:
        raise CommandFailed(f"{imported.refused:,} rows were refused; the others are in", ExitCode.REFUSED)


def check(file: Path, profile: Profile) -> tuple[str, int]:
    """The import's id and the number of rows, once every row was seen to be readable. Raises ProfileError."""
    digest = hashlib.sha256()

    def hashed(lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            digest.update(line.encode())
            yield line

    with progress() as bar:
        bar.add_task(f"checking {file.name}", total=None)
        count, problems = profile.check(hashed(lines_of(file)))
    if problems:
        raise ProfileError(
            "\n".join([f"nothing was sent, because {file.name} cannot be read as {profile.name}:", *problems])
        )
    return f"{profile.name}-{digest.hexdigest()[:16]}", count


async def send_and_see(client: Client, profile: Profile, import_id: str, file: Path, rows: int) -> Imported:
    """Send the file, and wait until the figures show it. Raises NotReachable, ServerRefused."""
    async with client:
        await check_promises(client, profile)
        imported = await send(client, profile, import_id, file, rows)
        try:
            await see(client, imported)
        except ServerRefused as refused:
            if refused.status != HTTPStatus.FORBIDDEN:
                raise  # a channel's key brings history in and reads no figures
    return imported


async def check_promises(client: Client, profile: Profile) -> None:
    """Whether the versions that the profile names are published, before its first row is sent. Raises CommandFailed."""
    if not profile.promises:
        return
    try:
        items = (await client.get("/v1/promises")).body["items"]
    except ServerRefused as refused:
        if refused.status != HTTPStatus.FORBIDDEN:
            raise  # a channel's key brings history in and reads no promises: the clocks will say what they lack
        return
    latest = {item["promise_id"]: item["version"] for item in items}
    named = [(ref, *ref.rpartition("@")[::2]) for ref in profile.promises]
    missing = [ref for ref, name, version in named if int(version) > latest.get(name, 0)]
    if missing:
        raise CommandFailed(f"nothing was sent, because there is no promise {', '.join(missing)}", ExitCode.USAGE)


async def see(client: Client, imported: Imported, *, pause_s: float = LOOK_EVERY_S) -> None:
    """Until every row is a step the figures count, or nothing moves any more: known rows may be another import's."""
    rows, steps, still = imported.recorded + imported.known, 0, 0
    with progress() as bar:
        task = bar.add_task("reaching the figures", total=rows)
        while steps < rows and still < LOOKS:
            answer = await client.get("/v1/figures", where=[f"import={imported.import_id}"])
            still = still + 1 if answer.body["events"]["value"] == steps else 0
            steps = answer.body["events"]["value"]
            bar.update(task, completed=steps)
            if steps < rows:
                await asyncio.sleep(pause_s)


async def send(client: Client, profile: Profile, import_id: str, file: Path, rows: int) -> Imported:
    """Send the file's rows chunk by chunk, in order; the next one is made while one is on its way. Raises NotReachable,
    ServerRefused."""
    imported, sent = Imported(import_id, rows), 0
    making = partial(_next_chunk, profile.rows(lines_of(file)))
    with progress() as bar:
        task = bar.add_task(f"importing {file.name}", total=rows)
        count, chunk = await asyncio.to_thread(making)
        while count:
            posted = client.post_lines(
                "/v1/imports", chunk, profile=profile.name, import_id=import_id, promises=profile.promises
            )
            answer, following = await asyncio.gather(posted, asyncio.to_thread(making))
            imported.add(sent, answer.body)
            sent += count
            bar.update(task, completed=sent)
            count, chunk = following
    return imported


def _next_chunk(left: Iterator[Row]) -> tuple[int, str]:
    chunk = list(islice(left, ROWS_PER_CHUNK))
    return len(chunk), ndjson(chunk)


def ndjson(rows: Iterable[Row]) -> str:
    """One JSON object per line."""
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def lines_of(file: Path) -> Iterator[str]:
    """The file's lines as they are, unzipped when it is gzipped. Raises ProfileError when they are no UTF-8."""
    try:
        with file.open("rb") as raw:
            zipped = raw.peek(len(GZIP)).startswith(GZIP)
            with io.TextIOWrapper(gzip.open(raw) if zipped else raw, "utf-8-sig", newline="") as text:
                yield from text
    except UnicodeDecodeError as error:
        raise ProfileError(f"{file.name} is not in UTF-8: {error.reason} at byte {error.start}") from error
    except (gzip.BadGzipFile, EOFError) as error:
        raise ProfileError(f"{file.name} is a broken gzip file: {error}") from error
