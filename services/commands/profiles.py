"""Import profiles: what the columns of another system's log say about a case.

To add one: a YAML file like the shipped ones in `services/intake/profiles/`; docs/import-profiles.md explains each key.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from events.case import Category
from events.event import Ref

Row = dict[str, str | int | bool]
"""One row as `POST /v1/imports` takes it."""

SHOWN_PROBLEMS = 5

LABELS = ("unit", "agent")
REFS = ("line", "channel", "market", "language", "journey", "priority")


class ProfileError(ValueError):
    """The profile, or a file under this profile, cannot be read; the message says where and why."""


def load_profile(name_or_path: str) -> Profile:
    """The shipped profile of this name, or the one in this YAML file. Raises ProfileError."""
    shipped = {Path(file.name).stem: file for file in (files("services") / "intake" / "profiles").iterdir()}
    try:
        text = (shipped.get(name_or_path) or Path(name_or_path)).read_text("utf-8")
        # Every scalar stays text: `no` is Norway, and 0123 keeps its zero.
        return Profile.model_validate(yaml.load(text, yaml.BaseLoader))  # noqa: S506 - makes text, lists and dicts only
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(sorted(shipped))
        raise ProfileError(f"there is no profile {name_or_path}; shipped are {names}, others are YAML files") from error
    except yaml.YAMLError as error:
        raise ProfileError(f"{name_or_path} is no YAML: {error}") from error
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc'])) or 'profile'}: {e['msg']}" for e in error.errors()[:SHOWN_PROBLEMS]]
        raise ProfileError(f"{name_or_path}: {'; '.join(found)}") from error


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Value(_Part):
    """How one fact is read from a row: from a column, or from a text with columns in braces."""

    column: str | None = None
    text: str | None = None
    unless: tuple[str, ...] = ()
    """Values that say nothing."""
    lower: bool = False
    map: dict[str, str] = Field(default_factory=dict)
    """What the file says → what we say; when given, it must know every value."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Value:
        if (self.column is None) == (self.text is None):
            raise ValueError("name either a column or a text")
        return self

    @cached_property
    def template(self) -> str:
        return self.text if self.text is not None else f"{{{self.column}}}"

    @cached_property
    def columns(self) -> frozenset[str]:
        """The columns it reads."""
        return frozenset(name for _, name, _, _ in Formatter().parse(self.template) if name is not None)

    def of(self, row: Mapping[str, str]) -> str | None:
        """The value in `row` on one line, or None where it says nothing. Raises ProfileError for one the map lacks."""
        value = " ".join(self.template.format_map(row).split())
        if not value or value in self.unless:
            return None
        if self.map and value not in self.map:
            raise ProfileError(f"the map of {self.template} does not know {value!r}")
        value = self.map.get(value, value)
        return value.lower() if self.lower else value


class Time(_Part):
    """How the moment is read: ISO 8601 unless a `format` (strptime) says otherwise."""

    column: str
    zone: Annotated[ZoneInfo | None, BeforeValidator(lambda name: _zone(name))] = None
    """Where the clock hung, for times that carry no offset."""
    format: str | None = None

    def of(self, row: Mapping[str, str]) -> str:
        """The moment as RFC 3339 in UTC. In the hour that autumn repeats, the first reading is taken."""
        text = row[self.column].strip()
        try:
            moment = datetime.strptime(text, self.format) if self.format else datetime.fromisoformat(text)  # noqa: DTZ007
            if moment.tzinfo is None:
                if self.zone is None:
                    raise ProfileError(f"{text} has no offset, and the profile names no zone")
                moment = moment.replace(tzinfo=self.zone)
            return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
        except (ValueError, OverflowError) as error:
            raise error if isinstance(error, ProfileError) else ProfileError(f"{text!r} is no time") from error


def _zone(name: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(name))
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name!r}") from error


def _spelled_out(given: Any) -> Any:
    """`unit: team` stands for `unit: {column: team}`, and a text with braces for `{text: …}`."""
    return {"text" if "{" in given else "column": given} if isinstance(given, str) else given


Source = Annotated[Value, BeforeValidator(_spelled_out)]
When = Annotated[Time, BeforeValidator(_spelled_out)]


Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}@[1-9][0-9]{0,8}$")]
"""id@version of a promise."""


class Profile(_Part):
    """Which columns say what; the fields of `events.case.CaseObserved` say what each fact means."""

    name: Ref
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    case: Source
    ordinal: Source | None = None
    """None: the rows of a case are counted as they come."""
    occurred_at: When
    code: Source
    categories: dict[str, Category] = Field(min_length=1)
    """Pattern of a code (`*` stands for anything) → category; the first that fits."""
    resolutions: tuple[str, ...] = ()
    """Patterns of the codes that are resolutions."""
    unit: Source | None = None
    line: Source | None = None
    agent: Source | None = None
    channel: Source | None = None
    market: Source | None = None
    language: Source | None = None
    journey: Source | None = None
    priority: Source | None = None
    promises: tuple[Version, ...] = Field(default=(), max_length=20)
    """id@version of what the history is judged by. None: it is judged by nothing."""

    def rows(self, lines: Iterable[str]) -> Iterator[Row]:
        """The file's rows as `POST /v1/imports` takes them, one at a time. Raises ProfileError at the first bad one."""
        for line, row in self._read(lines):
            if isinstance(row, ProfileError):
                raise ProfileError(f"line {line}: {row}") from row
            yield row

    def check(self, lines: Iterable[str]) -> tuple[int, list[str]]:
        """How many rows the file has, and the first few different problems in them."""
        count, problems = 0, dict[str, int]()
        for line, row in self._read(lines):
            count += 1
            if isinstance(row, ProfileError) and len(problems) < SHOWN_PROBLEMS:
                problems.setdefault(str(row), line)
        return count, [f"line {line}: {problem}" for problem, line in problems.items()]

    def _read(self, lines: Iterable[str]) -> Iterator[tuple[int, Row | ProfileError]]:
        reader = csv.DictReader(lines, delimiter=self.delimiter, strict=True)
        rows_of: Counter[str] = Counter()
        try:
            self._refuse_missing(frozenset(reader.fieldnames or ()))
            for raw in reader:
                yield reader.line_num, self._row_or_error(raw, rows_of)
        except csv.Error as error:
            raise ProfileError(f"line {reader.line_num}: {error}") from error

    def _refuse_missing(self, header: frozenset[str]) -> None:
        read = {self.occurred_at.column}.union(*(value.columns for value in self._values.values()))
        if missing := sorted(read - header):
            raise ProfileError(f"the file has no column {', '.join(missing)}; it has {', '.join(sorted(header))}")

    def _row_or_error(self, raw: dict[str, str], rows_of: Counter[str]) -> Row | ProfileError:
        # DictReader's way to say that a row is longer, or shorter, than the header.
        if None in raw or None in raw.values():
            return ProfileError("the row has not as many columns as the header")
        try:
            return self._row(raw, rows_of)
        except ProfileError as error:
            return error

    def _row(self, raw: dict[str, str], rows_of: Counter[str]) -> Row:
        case, code = self._needed("case", raw), self._needed("code", raw)
        rows_of[case] += 1
        row: Row = {
            "case": case,
            "ordinal": rows_of[case] if self.ordinal is None else _ordinal(self._needed("ordinal", raw)),
            "occurred_at": self.occurred_at.of(raw),
            "category": self._category(code),
            "code": code,
            "resolution": any(pattern.fullmatch(code) for pattern in self._resolving),
        }
        facts = {name: self._value(name, raw) for name in LABELS} | {
            name: _ref(self._value(name, raw)) for name in REFS
        }
        return row | {name: value for name, value in facts.items() if value is not None}

    @cached_property
    def _values(self) -> dict[str, Value]:
        return {name: value for name in type(self).model_fields if isinstance(value := getattr(self, name), Value)}

    @cached_property
    def _categories(self) -> list[tuple[re.Pattern[str], Category]]:
        return [(_pattern(text), category) for text, category in self.categories.items()]

    @cached_property
    def _resolving(self) -> list[re.Pattern[str]]:
        return [_pattern(text) for text in self.resolutions]

    def _value(self, name: str, raw: Mapping[str, str]) -> str | None:
        value = self._values.get(name)
        return None if value is None else value.of(raw)

    def _needed(self, name: str, raw: Mapping[str, str]) -> str:
        value = self._value(name, raw)
        if value is None:
            raise ProfileError(f"the row names no {name}")
        return value

    def _category(self, code: str) -> str:
        for pattern, category in self._categories:
            if pattern.fullmatch(code):
                return category.value
        raise ProfileError(f"no category covers the code {code!r}")


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))))


def _ordinal(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ProfileError(f"the ordinal {text!r} is no whole number from 1 on")
    return int(text)


def _ref(text: str | None) -> str | None:
    """`text` in the alphabet of an id: accents go, anything else becomes a hyphen; nothing readable is None."""
    if text is None:
        return None
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._:@/+-]+", "-", plain).strip("-._:@/+") or None
