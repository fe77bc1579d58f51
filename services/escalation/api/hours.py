"""How orders and answers write a calendar's hours, holidays and times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints

from events.errors import Invalid
from events.event import Ref
from events.operations import CalendarPublished, HolidaySource, Hours, OwnHours, Weekly
from services.escalation import holidays
from services.escalation.calendars import DAYS
from services.escalation.holidays import tzdata_version
from services.web import FIRST_YEAR, LAST_YEAR, Answer, Order

HOLIDAYS_SINCE = 2000
"""The first year whose holidays are frozen where a version does not say from when on it counts."""

YEARS_AHEAD = 10


def _date(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        raise ValueError("write a date, such as 2026-12-24")
    return value


def _in_range(value: date) -> date:
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise ValueError(f"the years from {FIRST_YEAR} to {LAST_YEAR} can be reckoned with")
    return value


Day = Annotated[date, BeforeValidator(_date), AfterValidator(_in_range)]

TimeOfDay = Annotated[str, StringConstraints(pattern=r"^(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", max_length=5)]

Window = Annotated[list[TimeOfDay], Field(min_length=2, max_length=2)]
"""`["09:00", "18:00"]`; what closes at or before it opens runs past midnight."""

Windows = Annotated[tuple[Window, ...], Field(max_length=12)]

Place = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Za-z0-9_-]*$", max_length=20)]


class WeekOrder(Order):
    """What each weekday opens; what is left out is closed."""

    mon: Windows = ()
    tue: Windows = ()
    wed: Windows = ()
    thu: Windows = ()
    fri: Windows = ()
    sat: Windows = ()
    sun: Windows = ()


class HolidaysOrder(Order):
    """Public holidays of a country or region, and own days."""

    country: Place | None = Field(default=None, description="ISO 3166-1, two letters.")
    subdivision: Place | None = Field(default=None, description="ISO 3166-2 after the hyphen, such as `BE` or `ENG`.")
    plus: list[Day] = Field(default=[], max_length=2000, description="Own days on which it is closed as well.")
    minus: list[Day] = Field(default=[], max_length=2000, description="Days that are none here.")


class HoursOrder(Order):
    """When time counts."""

    tz: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$", max_length=64)] = Field(
        description="IANA name."
    )
    weekly: WeekOrder
    holidays: HolidaysOrder | Annotated[list[Day], Field(max_length=5000)] = Field(
        default=HolidaysOrder(), description="A country's and own days, or nothing but the dates."
    )
    exceptions: dict[Day, Windows] = Field(
        default={}, max_length=2000, description="What single dates open, whatever weekday or holiday they are."
    )

    def content(self, name: str, years: range) -> CalendarPublished:
        """The version that says so, with the holidays of those years frozen. Raises Invalid."""
        dates, source = self._holidays(years)
        return CalendarPublished(
            version=1,
            name=name,
            always=False,
            tz=self.tz,
            weekly=Weekly(**{day: _hours(getattr(self.weekly, day)) for day in DAYS}),
            holidays=tuple(sorted(dates)),
            holidays_from=source,
            exceptions=tuple(OwnHours(on=on, hours=_hours(own)) for on, own in sorted(self.exceptions.items())),
            tzdata=tzdata_version(),
        )

    def _holidays(self, years: range) -> tuple[frozenset[date], HolidaySource]:
        if not isinstance(self.holidays, HolidaysOrder):
            return frozenset(self.holidays), HolidaySource(plus=tuple(sorted(set(self.holidays))))
        country, subdivision = self.holidays.country, self.holidays.subdivision
        if subdivision is not None and country is None:
            raise Invalid("holidays: a subdivision is one of a country; name it")
        public = holidays.public_holidays(country, subdivision, years) if country else frozenset()
        plus, minus = set(self.holidays.plus), set(self.holidays.minus)
        library = holidays.library() if country else None
        return (public | plus) - minus, HolidaySource(
            country=country,
            subdivision=subdivision,
            plus=tuple(sorted(plus)),
            minus=tuple(sorted(minus)),
            library=library,
        )


def years(since: datetime | None, now: datetime) -> range:
    """Whose holidays are frozen: from the year a version counts from to 10 years ahead."""
    first = HOLIDAYS_SINCE if since is None else since.year
    return range(first, min(max(first, now.year) + YEARS_AHEAD, LAST_YEAR) + 1)


def _hours(windows: Sequence[list[str]]) -> tuple[Hours, ...]:
    return tuple(Hours(opens=opens, closes=closes) for opens, closes in windows)


# ------------------------------------------------------------------------------------------------------------- answers


class HolidaysAnswer(Answer):
    country: str | None
    subdivision: str | None
    plus: list[date]
    minus: list[date]
    library: str | None = Field(description="What knew the country's days when they were frozen.")


class CalendarAnswer(Answer):
    calendar_id: str
    version: int
    name: str
    always: bool = Field(description="24×7: all time counts.")
    tz: str | None = Field(description="IANA name.")
    weekly: dict[str, list[list[str]]]
    holidays: list[date] = Field(description="As they were frozen.")
    holidays_from: HolidaysAnswer
    exceptions: dict[date, list[list[str]]]
    valid_from: AwareDatetime | None = Field(description="From when on it counts; a first version counts since ever.")
    tzdata: Ref | None = Field(description="The version of the time zone data when it was published.")


def shown(calendar_id: str, content: CalendarPublished) -> CalendarAnswer:
    """The version as it was published."""
    parts: dict[str, Any] = content.model_dump(include={"version", "name", "always", "tz", "valid_from", "tzdata"})
    return CalendarAnswer(
        calendar_id=calendar_id,
        weekly={day: _pairs(getattr(content.weekly, day)) for day in DAYS},
        holidays=list(content.holidays),
        holidays_from=HolidaysAnswer(**content.holidays_from.model_dump()),
        exceptions={own.on: _pairs(own.hours) for own in content.exceptions},
        **parts,
    )


def _pairs(hours: tuple[Hours, ...]) -> list[list[str]]:
    return [[one.opens, one.closes] for one in hours]
