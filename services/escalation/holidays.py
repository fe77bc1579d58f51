"""Public holidays of countries and their regions, as the `holidays` library knows them, and which zone data we have."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from importlib.metadata import version

from events.errors import Invalid
from services.runtime.zones import tzdata_version

__all__ = ["library", "public_holidays", "tzdata_version"]


def public_holidays(country: str, subdivision: str | None, years: Iterable[int]) -> frozenset[date]:
    """The dates on which public life rests there; `DE` alone means what all of Germany has.

    `country` is ISO 3166-1 alpha-2, `subdivision` the part of ISO 3166-2 after the hyphen. Raises Invalid.
    """
    import holidays  # 0.3 s, which only those pay who publish calendars

    if not (len(country) == 2 and country.isascii() and country.isupper()):
        raise Invalid(f"holidays: {country!r} is no country; write two capital letters, such as DE")
    try:
        found = holidays.country_holidays(country, subdiv=subdivision, years=years)
    except NotImplementedError:
        where = country if subdivision is None else f"{country}-{subdivision}"
        raise Invalid(f"holidays: nothing is known about {where}; name its days yourself") from None
    return frozenset(found)


def library() -> str:
    """What the days come from, such as `holidays-0.109`."""
    return f"holidays-{version('holidays')}"
