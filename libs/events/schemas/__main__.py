"""`python -m events.schemas --write` makes the generated files again (`make schemas`); `--check` fails where they are
not what the classes say, or where a shape changed in a way that a reader of old or new records would notice."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed
from pathlib import Path

from events.event import Event
from events.schemas import Schema, asyncapi, every_event, incompatible, older, schema
from events.schemas.document import READING, TOPICS
from events.wire import VOCABULARY

ROOT = Path(__file__).parents[3]
FOLDER = Path("libs", "events", "schemas")


def page() -> str:
    """docs/events.md: a table per topic."""
    lines = ["# Events", "", "Made by `make schemas` from the classes in `libs/events`; edit those.", "", READING, ""]
    for topic, about in TOPICS.items():
        lines += [f"## {topic}", "", about, "", "| type | writer | what happened | fields |", "|---|---|---|---|"]
        lines += [_row(event) for event in every_event() if topic == event.TOPIC]
        gone = [wire_type for wire_type, made in older().items() if topic == made["x-topic"]]
        lines += (
            ["", "No longer written, and read for ever: " + ", ".join(f"`{one}`" for one in gone) + "."] if gone else []
        )
        lines.append("")
    lines += [
        "A field in *italics* may be missing, one in **bold** is a personal text. What each field means and takes is",
        "in `libs/events/schemas/`, one JSON Schema per type; `docs/asyncapi.json` is the same for tools.",
        "",
    ]
    return "\n".join(lines)


def _row(event: type[Event]) -> str:
    made = schema(event)
    fields = ", ".join(_marked(name, made) for name in made["properties"])
    return f"| `{event.TYPE}` | {event.WRITER} | {made['description']} | {fields} |"


def _marked(field: str, made: Schema) -> str:
    stars = "*" * ((field not in made.get("required", ())) + 2 * (field in made["x-personal"]))
    return f"{stars}{field}{stars}"


def files(root: Path) -> dict[Path, str]:
    """path → text of everything generated, in the repository at `root`."""
    made = {root / FOLDER / f"{event.TYPE}.json": _text(schema(event)) for event in every_event()}
    made[root / "docs" / "asyncapi.json"] = _text(asyncapi(installed("casewalk")))
    made[root / "docs" / "events.md"] = page()
    return made


def stale(root: Path) -> list[str]:
    """Where the files are not what the classes say, as sentences."""
    made = files(root)
    said = [
        f"{path.relative_to(root)} is not what the classes say; run `make schemas`"
        for path, text in made.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    kept = {*made, *(root / FOLDER / f"{name}.json" for name in VOCABULARY.upcasts)}
    left = sorted(set((root / FOLDER).glob("*.json")) - kept)
    return said + [f"{path.name} belongs to no event" for path in left]


def broken(root: Path, against: Mapping[str, str]) -> list[str]:
    """What differs from the schemas committed before (file → revision) in a way a reader would notice, as sentences."""
    said: list[str] = []
    for name, revision in against.items():
        now = root / name
        if not now.exists():
            said.append(f"{Path(name).stem}: types are never removed; records of it stay in the log for ever")
            continue
        old = json.loads(at(root, revision, name))
        said += [f"{now.stem}: {why}" for why in incompatible(old, json.loads(now.read_text(encoding="utf-8")))]
    return said


def committed(root: Path, revision: str) -> dict[str, str]:
    """Every schema of that revision."""
    names = _git(root, "ls-tree", "--name-only", revision, f"{FOLDER}/").split()
    return {name: revision for name in names if name.endswith(".json")}


def baseline(root: Path) -> dict[str, str] | None:
    """Which revision of each schema a change is measured against: the last release's; before the first release, the
    one that brought the file. None where the history is not at hand."""
    first = brought(root, f"{FOLDER}/*.json")
    if first is None:
        return None
    tag = _git(root, "tag", "--list", "v*", "--sort=-v:refname", "--merged", "HEAD").split()
    return committed(root, tag[0]) if tag else first


def brought(root: Path, files: str) -> dict[str, str] | None:
    """Which revision first brought each of the `files` (a pattern); None where the history is not at hand."""
    try:
        if _git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
            return None
        added = _git(root, "log", "--diff-filter=A", "--name-only", "--format=commit %H", "--", files)
    except (subprocess.CalledProcessError, FileNotFoundError):
        return None
    found, revision = dict[str, str](), ""
    for line in filter(None, added.splitlines()):  # the newest first: what brought a file first is said last
        if line.startswith("commit "):
            revision = line.removeprefix("commit ")
        else:
            found[line] = revision
    return found


def at(root: Path, revision: str, name: str) -> str:
    """What a file said in that revision."""
    return _git(root, "show", f"{revision}:{name}")


def _git(root: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *args], check=True, capture_output=True, text=True)
    return done.stdout


def _text(document: Schema) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command; 0 where all is well, 1 where something differs."""
    parser = argparse.ArgumentParser(prog="python -m events.schemas", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="make the files again")
    what.add_argument("--check", action="store_true", help="say what differs; exit 1 if anything does")
    parser.add_argument("--against", metavar="REVISION", help="compare shapes with this one, not the last release")
    chosen = parser.parse_args(argv)
    if chosen.write:
        for path, text in files(root).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return 0
    against = committed(root, chosen.against) if chosen.against else baseline(root)
    if against is None:
        sys.stderr.write("shapes are compared with nothing: the history of this repository is not at hand\n")
    said = stale(root) + broken(root, against or {})
    sys.stderr.writelines(f"{sentence}\n" for sentence in said)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
