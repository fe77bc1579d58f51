"""Logs of other systems with figures that are known: the real ones, or small ones counted by hand.

`CASEWALK_SAMPLE_LOGS` names the directory of the real logs. Unset, the small ones stand in for them; set but without
the logs is a failure.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid5

from events.case import CaseObserved
from events.event import NAMESPACE, Recorded
from events.testing import recorded
from services.commands.profiles import Row, load_profile

IMPORTED_AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Sample:
    """A log, the profile that reads it, and its figures as published: `figure.part` → as printed."""

    profile: str
    file: str
    published: Mapping[str, str]
    """Of the file in `CASEWALK_SAMPLE_LOGS`."""
    small: str
    """A log of the same columns, as text."""
    counted: Mapping[str, str]
    """Of the small log, counted by hand."""

    @property
    def is_real(self) -> bool:
        return bool(os.environ.get("CASEWALK_SAMPLE_LOGS"))

    @property
    def figures(self) -> Mapping[str, str]:
        """What the figures of `lines` must be, to the printed place."""
        return self.published if self.is_real else self.counted

    def lines(self) -> Iterator[str]:
        """The log's lines."""
        if not self.is_real:
            yield from self.small.splitlines()
            return
        path = Path(os.environ["CASEWALK_SAMPLE_LOGS"]) / self.file
        assert path.is_file(), f"CASEWALK_SAMPLE_LOGS is set, but there is no {self.file} in it"
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            yield from lines

    def events(self) -> Iterator[Recorded[CaseObserved]]:
        """What intake says about each row, in the order of the file."""
        for row in load_profile(self.profile).rows(self.lines()):
            yield observed(row, self.profile)


def observed(row: Row, profile: str) -> Recorded[CaseObserved]:
    """A row as the event it becomes, in an import named like its profile; its digest stands for the keyed one."""
    facts = {name: value for name, value in row.items() if name not in ("case", "occurred_at")}
    if "agent" in facts:
        facts["agent"] = hashlib.sha256(str(facts["agent"]).encode()).hexdigest()
    return recorded(
        CaseObserved.model_validate(facts | {"import_id": profile, "profile": profile, "external_id": row["case"]}),
        subject=str(uuid5(NAMESPACE, f"{profile}/{row['case']}")),
        sequence=int(row["ordinal"]),
        at=datetime.fromisoformat(str(row["occurred_at"])),
        recorded_at=IMPORTED_AT,
    )


# A: half a day with one team. B: one handover to the second line. C: reopened, handed over within the first line.
# D: solved on the phone at once, so neither Resolved nor Closed. E: still open, there and back. F: three handovers.
_VINST_SMALL = """\
case_id,event_seq,timestamp,status,sub_status,impact,product,support_team,support_line,org_country,owner_first_name
A,1,2026-01-05T08:00:00+01:00,Accepted,In Progress,Low,P1,V1,1,se,Ann
A,2,2026-01-05T20:00:00+01:00,Completed,Closed,Low,P1,V1,1,se,Ann
B,1,2026-01-05T00:00:00+00:00,Accepted,In Progress,Medium,P1,V1,1,SE,Ann
B,2,2026-01-06T00:00:00+00:00,Queued,Awaiting Assignment,Medium,P1,V2 2nd,2,SE,Siebel
B,3,2026-01-08T00:00:00+00:00,Accepted,In Progress,Medium,P1,V2 2nd,2,SE,Bob
B,4,2026-01-09T00:00:00+00:00,Completed,Resolved,Medium,P1,V2 2nd,2,SE,Bob
C,1,2026-02-01T00:00:00+00:00,Accepted,In Progress,Medium,P2,V1,1,fr,Ann
C,2,2026-02-02T00:00:00+00:00,Completed,Resolved,Medium,P2,V1,1,fr,Ann
C,3,2026-02-03T00:00:00+00:00,Accepted,In Progress,Medium,P2,V1,1,fr,Ann
C,4,2026-02-04T00:00:00+00:00,Queued,Awaiting Assignment,Medium,P2,V3,1,fr,Siebel
C,5,2026-02-09T00:00:00+00:00,Completed,Closed,Medium,P2,V3,1,fr,Cid
D,1,2026-03-01T10:00:00+00:00,Accepted,In Progress,High,P2,V1,1,fr,Ann
D,2,2026-03-01T10:00:00+00:00,Completed,In Call,High,P2,V1,1,fr,Ann
E,1,2026-04-01T00:00:00+00:00,Accepted,In Progress,Major,P2,V1,1,0,Ann
E,2,2026-04-03T00:00:00+00:00,Accepted,Wait - User,Major,P2,V2 2nd,2,0,Bob
E,3,2026-04-11T00:00:00+00:00,Accepted,In Progress,Major,P2,V1,1,0,Ann
F,1,2026-05-01T00:00:00+00:00,Accepted,In Progress,Low,P2,V1,1,pl,Ann
F,2,2026-05-02T00:00:00+00:00,Accepted,In Progress,Low,P2,V2 2nd,2,pl,Bob
F,3,2026-05-03T00:00:00+00:00,Accepted,In Progress,Low,P2,V1,1,pl,Ann
F,4,2026-05-04T00:00:00+00:00,Accepted,In Progress,Low,P2,V2 2nd,2,pl,Bob
F,5,2026-05-21T00:00:00+00:00,Completed,Closed,Low,P2,V2 2nd,2,pl,Bob
"""

VINST = Sample(
    profile="vinst",
    file="bpic2013_incidents.csv.gz",
    # BPI Challenge 2013 (DOI 10.4121/uuid:500573e6-accc-4b0c-9576-aa5468b10cee); arXiv 2009.13251, Table 4.
    published={
        "events.value": "65533",
        "cases.value": "7554",
        "activities.value": "13",
        "teams.value": "649",
        "backlog.value": "8",
        "events_per_case.mean": "8.68",
        "events_per_case.max": "123",
        "throughput_days.mean": "12.08",
        "throughput_days.max": "771.35",
        "throughput_days.median": "7.5",
        "throughput_days.p95": "35.7",
        "throughput_days.p99": "116.6",
        "days_between_events.mean": "1.57",
        "days_between_events.max": "722.25",
        "within_24h.percent": "29.2",
        "handovers.mean": "1.25",
        "handovers.median": "1",
        "handovers.max": "31",
        "handovers.none": "3734",
        "throughput_by_handovers.0": "0.3",
        "throughput_by_handovers.1": "8.4",
        "throughput_by_handovers.2": "10.0",
        "throughput_by_handovers.3+": "13.9",
        "resolved_cases.value": "5663",
        "reopened.percent": "6.9",
        "first_line_alone.cases": "4546",
        "first_line_alone.percent": "60.2",
    },
    small=_VINST_SMALL,
    counted={
        "events.value": "21",
        "cases.value": "6",
        "activities.value": "6",
        "teams.value": "3",
        "backlog.value": "1",  # E
        "events_per_case.mean": "3.50",  # 21 / 6
        "events_per_case.max": "5",
        "throughput_days.mean": "7.08",  # (0.5 + 4 + 8 + 0 + 10 + 20) / 6
        "throughput_days.max": "20.00",
        "throughput_days.median": "6.0",  # between 4 and 8
        "throughput_days.p95": "17.5",  # at 4.75 of 0, 0.5, 4, 8, 10, 20
        "throughput_days.p99": "19.5",  # at 4.95
        "days_between_events.mean": "2.83",  # 42.5 / (21 - 6)
        "days_between_events.max": "17.00",  # F
        "within_24h.percent": "33.3",  # A, D
        "handovers.mean": "1.17",  # (0 + 1 + 1 + 0 + 2 + 3) / 6
        "handovers.median": "1",
        "handovers.max": "3",
        "handovers.none": "2",
        "throughput_by_handovers.0": "0.25",  # A, D
        "throughput_by_handovers.1": "6.0",  # B, C
        "throughput_by_handovers.2": "10.0",
        "throughput_by_handovers.3+": "20.0",
        "resolved_cases.value": "4",  # A, B, C, F
        "reopened.percent": "25.0",  # C
        "first_line_alone.cases": "3",  # A, C, D
        "first_line_alone.percent": "50.0",
    },
)

# Nothing says which line a workgroup belongs to. Closed is no resolution: it comes by itself.
_HELPDESK_SMALL = """\
case_id,event_seq,timestamp,activity,resource,product,workgroup
Case 1,1,2026-03-28T12:00:00,Assign seriousness,Value 1,Value 3,Value 1
Case 1,2,2026-03-29T12:00:00,Take in charge ticket,Value 2,Value 3,Value 1
Case 1,3,2026-03-30T12:00:00,Resolve ticket,Value 2,Value 3,Value 1
Case 1,4,2026-04-29T12:00:00,Closed,Value 2,Value 3,Value 1
Case 2,1,2026-03-01T00:00:00,Assign seriousness,Value 1,Value 3,Value 1
Case 2,2,2026-03-02T00:00:00,Closed,Value 1,Value 3,Value 1
"""

HELPDESK = Sample(
    profile="helpdesk-it",
    file="helpdesk_italy.csv.gz",
    # DOI 10.4121/uuid:0c60edf1-6f83-4e75-9367-4c63b3e9d5bb
    published={"events.value": "21348", "cases.value": "4580", "activities.value": "14"},
    small=_HELPDESK_SMALL,
    counted={"events.value": "6", "cases.value": "2", "activities.value": "4", "resolved_cases.value": "1"},
)

SAMPLES = (VINST, HELPDESK)

ADD_UP = (
    "events.value",
    "cases.value",
    "backlog.value",
    "handovers.none",
    "resolved_cases.value",
    "first_line_alone.cases",
)
"""Figures that grow with the log; a log that is repeated has the other ones it had, but for the upper percentiles."""


def repeated(sample: Sample, times: int) -> Sample:
    """The small log many times, each with cases of its own, for what a few rows are too few for."""
    head, *rows = sample.small.splitlines()
    text = "\n".join([head, *(f"{n}-{row}" for n in range(times) for row in rows)]) + "\n"
    grown = {name: str(times * int(value)) for name, value in sample.counted.items() if name in ADD_UP}
    highest = {name: "20.0" for name in ("throughput_days.p95", "throughput_days.p99") if name in sample.counted}  # F
    return replace(sample, small=text, counted={**sample.counted, **grown, **highest})


def printed(figures: Mapping[str, Mapping[str, float | None]], as_in: Mapping[str, str]) -> dict[str, str]:
    """The figures named in `as_in`, each printed to as many places as there."""
    shown = {}
    for name, text in as_in.items():
        figure, _, part = name.partition(".")
        value = figures[figure][part]
        places = len(text.partition(".")[2])
        shown[name] = "missing" if value is None else f"{value:.{places}f}"
    return shown
