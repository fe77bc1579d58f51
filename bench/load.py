"""`python -m bench.load PORT PATH REQUESTS CONNECTIONS KEY`: opens cases as fast as the server takes them.

Requests are made beforehand. Prints JSON: seconds in all, and how long requests took.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Iterator
from http import HTTPStatus
from time import perf_counter, time

import uvloop

from bench.bodies import opening
from bench.measure import percentile
from bench.wire import Connection, request


def requests(path: str, count: int, key: str) -> list[bytes]:
    """Every case comes from a customer of its own."""
    run = secrets.token_hex(4)
    return [request(path, opening(n, f"{run}-{n}"), key) for n in range(count)]


async def main(port: int, path: str, count: int, connections: int, key: str) -> None:
    left, took_s = iter(requests(path, count, key)), list[float]()
    began, began_at = perf_counter(), time()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_ask(await Connection.open(port), left, took_s))
    seconds = perf_counter() - began
    spread = {f"p{share:.0%}".rstrip("%"): percentile(took_s, share) for share in (0.5, 0.99)}
    print(json.dumps({"seconds": seconds, "began_at": began_at, "requests": len(took_s), **spread}))


async def _ask(connection: Connection, requests: Iterator[bytes], took_s: list[float]) -> None:
    """The next request leaves when the answer to the last one is whole."""
    for asked in requests:
        sent_at = perf_counter()
        status, body = await connection.ask(asked)
        assert status == HTTPStatus.CREATED, body.decode()
        took_s.append(perf_counter() - sent_at)
    connection.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
