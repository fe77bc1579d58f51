"""`python -m bench.load PORT PATH REQUESTS CONNECTIONS KEY`: opens cases as fast as the server takes them.

A client that costs as little as can be, because it shares the machine: requests are bytes made beforehand, answers are
looked at for their status and length only. Prints JSON: seconds in all, and how long requests took.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Iterator
from functools import partial
from time import perf_counter, time
from typing import cast

import uvloop

from bench.bodies import opening
from bench.measure import percentile


class Connection(asyncio.Protocol):
    """One connection: the next request leaves when the answer to the last one is whole."""

    def __init__(self, requests: Iterator[bytes], took_s: list[float], ended: asyncio.Future[None]) -> None:
        self._requests, self._took_s, self._ended = requests, took_s, ended
        self._answer = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own has no common ancestor
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        if not head.startswith(b"HTTP/1.1 201"):
            self._ended.set_exception(AssertionError(self._answer.decode()))
            self._transport.close()
            return
        self._answer = b""
        self._took_s.append(perf_counter() - self._sent_at)
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(error or AssertionError("the server hung up"))

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._ended.set_result(None)
            self._transport.close()
            return
        self._sent_at = perf_counter()
        self._transport.write(request)


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


def requests(path: str, count: int, key: str) -> list[bytes]:
    """Every case comes from a customer of its own."""
    run = secrets.token_hex(4)
    made = []
    for n in range(count):
        body = json.dumps(opening(n, f"{run}-{n}"), ensure_ascii=False).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json"
        made.append(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return made


async def main(port: int, path: str, count: int, connections: int, key: str) -> None:
    loop = asyncio.get_running_loop()
    left, took_s = iter(requests(path, count, key)), list[float]()
    began, began_at = perf_counter(), time()
    ends = [loop.create_future() for _ in range(connections)]
    for end in ends:
        await loop.create_connection(partial(Connection, left, took_s, end), "127.0.0.1", port)
    await asyncio.gather(*ends)
    seconds = perf_counter() - began
    spread = {f"p{share:.0%}".rstrip("%"): percentile(took_s, share) for share in (0.5, 0.99)}
    print(json.dumps({"seconds": seconds, "began_at": began_at, "requests": len(took_s), **spread}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
