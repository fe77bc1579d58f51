"""A line to a server that can go bad: slow, reset, half open, cut in the middle of an answer."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]

RESET = struct.pack("ii", 1, 0)
"""Linger for no time: a close tells the other end that the connection is broken, not that it has ended."""


class Line:
    """Listens on loopback and passes on to the server that `reach` connects to."""

    def __init__(self, reach: Callable[[], Awaitable[Ends]]) -> None:
        self.reach = reach
        self.port = 0
        self.delay_s = 0.0
        """How long every piece is held back, in both directions."""
        self.cut_after: int | None = None
        """Bytes of answers that still pass before the connection they are on is reset."""
        self.cuts = 0
        self._pairs: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._silent: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, reach: Callable[[], Awaitable[Ends]]) -> AsyncIterator[Line]:
        """An open line; every connection is reset at the end."""
        line = cls(reach)
        server = await asyncio.start_server(line._accept, "127.0.0.1", 0)
        line.port = server.sockets[0].getsockname()[1]
        try:
            yield line
        finally:
            server.close()
            line.reset()
            await asyncio.gather(*line._carrying, return_exceptions=True)

    def reset(self) -> int:
        """Break every connection; answers how many."""
        pairs = list(self._pairs.items())
        for near, far in pairs:
            _reset(near)
            _reset(far)
        return len(pairs)

    def half_open(self) -> int:
        """From now on nothing comes through the connections that are open, and nobody is told; new ones are good."""
        self._silent |= set(self._pairs)
        return len(self._pairs)

    def _accept(self, client: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(client, near))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, client: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            server, far = await self.reach()
        except OSError:
            _reset(near)
            return
        self._pairs[near] = far
        try:
            await asyncio.gather(self._pass(client, far, near), self._pass(server, near, near))
        finally:
            self._pairs.pop(near, None)
            self._silent.discard(near)
            for end in (near, far):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, near: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if near in self._silent:
                    continue
                if to is near and self.cut_after is not None:
                    data, self.cut_after = data[: self.cut_after], self.cut_after - len(data)
                    if self.cut_after <= 0:
                        to.write(data)
                        self._cut(near)
                        return
                to.write(data)
                await to.drain()
        if near not in self._silent:
            to.close()

    def _cut(self, near: asyncio.StreamWriter) -> None:
        self.cuts, self.cut_after = self.cuts + 1, None
        near.close()  # what was written goes out first
        if (far := self._pairs.get(near)) is not None:
            _reset(far)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_INET and not writer.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
