"""A sender in a process of its own; tests kill it between sending and saying so."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime

from events.database import Connection, Database
from events.effects import TABLES, Outgoing
from services.runtime.effects import Delivery, Patience, Sender
from services.runtime.post import Post, Webhook


async def deliver(url: str, conn: Connection, outgoing: Outgoing, now: datetime) -> Delivery:
    return Webhook(url, outgoing.effect.payload)


async def main(dsn: str, url: str) -> None:
    database = await Database.open(dsn, "toys", TABLES.format(schema="toys"))

    async def to_url(conn: Connection, outgoing: Outgoing, now: datetime) -> Delivery:
        return await deliver(url, conn, outgoing, now)

    await Sender(database, to_url, Post(None, None, private=True), Patience(poll_s=0.01)).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
