"""One record of every shape ever written, as it stands in Kafka. What was written once must be readable for ever.

`python -m tests.wire` writes the sample of a new type from `tests/given.py`. A sample is never edited afterwards: if a
test about it fails, the class is wrong, not the sample. `person.json` holds the key its personal texts are sealed with.
"""

import json
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path

from events.event import Event
from events.wire import Broken, Record, from_kafka

FOLDER = Path(__file__).parent
PERSON = FOLDER / "person.json"


@dataclass(frozen=True)
class Sample:
    """A record as any Kafka client sees it."""

    topic: str
    key: bytes
    headers: tuple[tuple[str, bytes], ...]
    value: bytes

    @property
    def record(self) -> Record:
        """What our reader makes of it."""
        read = from_kafka(self.topic, 0, 0, self.key, self.headers, self.value)
        assert not isinstance(read, Broken), read.error
        return read


@dataclass(frozen=True)
class Person:
    """Whom the samples are about, and how their key is wrapped in the database."""

    master_key: bytes
    person: str
    wrapped_key: bytes


def samples() -> dict[str, Sample]:
    """wire type → sample."""
    return {path.stem: read(path) for path in sorted(FOLDER.glob("casewalk.*.json"))}


def sample(event: type[Event]) -> Sample:
    """The sample of one type."""
    return read(FOLDER / f"{event.TYPE}.json")


def read(path: Path) -> Sample:
    """The sample in a file."""
    text = json.loads(path.read_text(encoding="utf-8"))
    headers = tuple((name, value.encode()) for name, value in text["headers"].items())
    return Sample(text["topic"], text["key"].encode(), headers, json.dumps(text["value"]).encode())


def person() -> Person:
    """The person of every sample."""
    text = json.loads(PERSON.read_text(encoding="utf-8"))
    return Person(b64decode(text["master_key"]), text["person"], b64decode(text["wrapped_key"]))
