"""The subscriptions to notices, with what is sealed in them."""

from __future__ import annotations

from collections.abc import Sequence

from events.database import Connection, fetch
from events.event import Recorded
from events.operations import NoticePublished
from events.personal import Redacted, Sealed
from events.privacy import Keyring
from events.views import View
from services.escalation.decide.notices import Subscription
from services.escalation.views.configuration import row_of


def fold_notice(row: Subscription | None, event: Recorded[NoticePublished]) -> Subscription:
    data = event.data
    return Subscription(
        event.subject,
        event.subject.partition(":")[2],
        data.version,
        tuple(str(kind) for kind in data.events),
        data.unit_ids,
        data.markets,
        data.channel,
        data.address.model_dump_json(by_alias=True) if isinstance(data.address, Sealed) else "",
        data.secret.model_dump_json(by_alias=True) if isinstance(data.secret, Sealed) else None,
        event.id,
        data.calendar,
        data.active,
    )


NOTICES = View("notices", 1, Subscription, (NoticePublished,), fold_notice, inline=True)


async def subscriptions(conn: Connection) -> list[Subscription]:
    """All of them, by id."""
    rows = await fetch(conn, NOTICES.all_rows)
    return sorted((NOTICES.decode(row) for row in rows), key=lambda row: row.notice_id)


async def subscription(conn: Connection, notice_id: str) -> Subscription | None:
    return await row_of(conn, NOTICES, f"notice:{notice_id}")


async def opened(
    conn: Connection, keyring: Keyring, rows: Sequence[Subscription]
) -> list[tuple[str | None, str | None]]:
    """Address and secret of each; None for what is not there or cannot be read."""
    sealed = [
        (NoticePublished.TYPE, row.event_id, field, Sealed.model_validate_json(text))
        for row in rows
        for field, text in (("address", row.address), ("secret", row.secret))
        if text
    ]
    clear = iter(await keyring.open(conn, sealed))
    texts = [[next(clear) if text else None for text in (row.address, row.secret)] for row in rows]
    return [(_read(address), _read(secret)) for address, secret in texts]


def _read(text: str | Redacted | None) -> str | None:
    return None if isinstance(text, Redacted) else text
