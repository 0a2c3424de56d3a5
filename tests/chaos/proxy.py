"""A TCP proxy before one port: passes, delays, throttles, stalls, swallows, cuts and resets. Knows no protocol."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from typing import Any, Self

CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: the close is an RST


class Flow(Enum):
    """What happens to bytes that arrive."""

    PASS = "pass"
    STALL = "stall"  # held back, and passed on later
    SWALLOW = "swallow"  # gone: a black hole; the connections that saw it are of no more use


class Proxy:
    """`flow`, `delay` (seconds a chunk) and `rate` (bytes a second) may change at any time. Counts what it did."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay = 0.0
        self.rate = 0.0
        self.chunks = 0
        self.swallowed = 0
        self.answers_to_lose = 0
        self.answers_lost = 0
        self._target = target
        self._flow = Flow.PASS
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._over = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    @asynccontextmanager
    async def before(cls, target: int) -> AsyncGenerator[Self]:
        """Listens on `port` of 127.0.0.1; every connection through it ends with it."""
        proxy = cls(target)
        server = await asyncio.start_server(proxy._carry, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy._over.set()
            if proxy._tasks:
                await asyncio.wait(proxy._tasks)

    @property
    def connections(self) -> int:
        return len(self._writers) // 2

    @property
    def flow(self) -> Flow:
        return self._flow

    @flow.setter
    def flow(self, flow: Flow) -> None:
        self._flow = flow
        if flow is Flow.STALL:
            self._flowing.clear()
        else:
            self._flowing.set()

    def refuse(self, *, refusing: bool) -> None:
        """Whether new connections are closed at once."""
        self._refusing = refusing

    def cut(self) -> int:
        """End every connection in order; how many there were."""
        count = self.connections
        for writer in tuple(self._writers):
            writer.close()
        return count

    def reset(self) -> int:
        """End every connection with an RST; how many there were."""
        count = self.connections
        for writer in tuple(self._writers):
            raw = writer.get_extra_info("socket")
            with suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        return count

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._refusing:
            writer.close()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        ways = [
            asyncio.create_task(self._pump(reader, far_writer, is_answer=False)),
            asyncio.create_task(self._pump(far_reader, writer, is_answer=True)),
            asyncio.create_task(self._until_over()),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        self._writers -= pair
        for each in pair:
            each.close()

    async def _until_over(self) -> None:
        await self._over.wait()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        with suppress(OSError, RuntimeError):
            while data := await reader.read(CHUNK):
                if is_answer and self.answers_to_lose:
                    self.answers_to_lose -= 1
                    self.answers_lost += 1
                    return
                await self._pass_on(data, writer)

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        self.chunks += 1
        if wait := self.delay + (len(data) / self.rate if self.rate else 0):
            await asyncio.sleep(wait)
        await self._flowing.wait()
        if self._flow is Flow.SWALLOW:
            self.swallowed += 1
        else:
            writer.write(data)
            await writer.drain()
