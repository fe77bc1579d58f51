"""An HTTP client that costs as little as can be, because it shares the machine with what it measures."""

from __future__ import annotations

import asyncio
import json
from time import monotonic
from typing import Any, cast

CONNECTIONS = 64
"""What one key may have served at the same time is more."""

IDLE_S = 2.0
"""A connection that was idle for longer is not used again: a server hangs up after five seconds, perhaps just then."""


class Connection(asyncio.Protocol):
    """One connection, which takes one request at a time. Of an answer it reads the status and the length."""

    def __init__(self) -> None:
        self._answer = b""
        self._asked: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def open(cls, port: int) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    @property
    def closed(self) -> bool:
        return self._transport.is_closing()

    @property
    def fresh(self) -> bool:
        """Whether the next request will certainly find it open."""
        return not self.closed and monotonic() - self._used_at < IDLE_S

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body. Raises ConnectionError."""
        self._answer = b""
        self._asked = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._asked

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own has no common ancestor

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if found and len(body) >= _length(head) and self._asked is not None and not self._asked.done():
            self._used_at = monotonic()
            self._asked.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(error or ConnectionResetError("the server hung up"))


class Doors:
    """A server's doors, through so many connections at most."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self._free: list[Connection] = []
        self._turns = asyncio.Semaphore(CONNECTIONS)

    async def post(self, path: str, body: Any) -> tuple[int, bytes]:
        async with self._turns:
            connection = self._free.pop() if self._free else None
            if connection is not None and not connection.fresh:
                connection.close()
                connection = None
            connection = connection or await Connection.open(self._port)
            answer = await connection.ask(request(path, body, self._key))
            self._free.append(connection)
            return answer

    def close(self) -> None:
        for connection in self._free:
            connection.close()


def request(path: str, body: Any, key: str) -> bytes:
    content = json.dumps(body, ensure_ascii=False).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json"
    return f"{head}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
