"""The second opinion on working time: walk through the minutes and look at the clock on the wall.

It shares nothing with the arithmetic but `zoneinfo`. An edge that does not exist on the wall is later by what the
clocks skipped; one that comes twice is the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Minutes:
    """Which minutes of `days` days around `start` count."""

    def __init__(self, calendar: Mapping[str, Any], start: datetime, days: int) -> None:
        zone = ZoneInfo(calendar["tz"])
        self.first = start - timedelta(days=3)
        count = (days + 6) * 1440
        wall = [(self.first + n * MINUTE).astimezone(zone).replace(tzinfo=None) for n in range(count)]
        self.at: dict[datetime, int] = {}
        self.skipped: dict[datetime, datetime] = {}
        for n, shown in enumerate(wall):
            self.at.setdefault(shown.replace(fold=0), n)
            if n and shown > wall[n - 1] + MINUTE:
                gap, missing = shown - wall[n - 1] - MINUTE, wall[n - 1] + MINUTE
                while missing < shown:
                    self.skipped[missing] = missing + gap
                    missing += MINUTE
        self.works = [False] * count
        for day in sorted({shown.date() for shown in wall}):
            for opens, closes in self._windows(calendar, day):
                first, last = self._minute(opens), self._minute(closes)
                if first is not None:
                    for n in range(first, count if last is None else last):
                        self.works[n] = True

    def _windows(self, calendar: Mapping[str, Any], day: date) -> list[tuple[datetime, datetime]]:
        if str(day) in calendar["exceptions"]:
            windows = calendar["exceptions"][str(day)]
        elif str(day) in calendar["holidays"]:
            windows = []
        else:
            windows = calendar["weekly"][DAYS[day.weekday()]]
        return [
            (_on(day, opens), _on(day if closes > opens else day + timedelta(days=1), closes))
            for opens, closes in windows
        ]

    def _minute(self, shown: datetime) -> int | None:
        return self.at.get(self.skipped.get(shown, shown))

    def counts(self, n: int, pauses: Sequence[tuple[datetime, datetime | None]]) -> bool:
        if not self.works[n]:
            return False
        moment = self.first + n * MINUTE
        return not any(since <= moment and (until is None or moment < until) for since, until in pauses)

    def elapsed(self, start: datetime, end: datetime, pauses: Sequence[tuple[datetime, datetime | None]]) -> int:
        """Minutes."""
        first, last = (start - self.first) // MINUTE, (end - self.first) // MINUTE
        return sum(self.counts(n, pauses) for n in range(first, last))

    def due(self, start: datetime, target: int, pauses: Sequence[tuple[datetime, datetime | None]]) -> datetime | None:
        """None: not within what is walked through."""
        n = (start - self.first) // MINUTE
        while target and n < len(self.works) - 3 * 1440:
            target -= self.counts(n, pauses)
            n += 1
        return None if target else (self.first + n * MINUTE).astimezone(UTC)


def _on(day: date, time: str) -> datetime:
    hours, minutes = map(int, time.split(":"))
    return datetime(day.year, day.month, day.day) + timedelta(hours=hours, minutes=minutes)  # noqa: DTZ001 - a wall clock
