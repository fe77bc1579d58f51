"""Every case has an address of its own, `case-<case id>`: what a customer sends there belongs to the case."""

from __future__ import annotations

import re

from events.case import address
from events.errors import Invalid

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PREFIX = address("")


def case_named(to: str) -> str | None:
    """The id of the case whose own address this is, with or without a host; None for any other address, as a mailbox.

    Whether there is such a case is another question. Raises Invalid for what looks like a case's own and names none.
    """
    local, host, _ = to.lower().partition("@")
    if not local.startswith(_PREFIX):
        return None
    case_id = local.removeprefix(_PREFIX)
    if _UUID.fullmatch(case_id):
        return case_id
    if host:
        return None
    raise Invalid(f"{to} looks like a case's own address, and no case has it")


def leads_to(to: str, case_id: str) -> bool:
    """Whether this is the case's own address."""
    return to.lower().partition("@")[0] == address(case_id)
