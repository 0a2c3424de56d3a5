"""A way to the server that can be closed, be cut and go silent. Knows nothing of what it carries."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from tests.harness import eventually

CHUNK = 65_536


@dataclass(eq=False)
class _Connection:
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    silent: bool = False


class ShakyWay:
    """A TCP proxy to a server: `url` leads over it, `connections` counts what came.

    While `open` is False each new connection breaks. `lose_answers` of the next answers end their connection instead.
    """

    def __init__(self, port: int) -> None:
        self.url = ""
        self.connections = 0
        self.open = True
        self.lose_answers = 0
        self._port = port
        self._carried: set[_Connection] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncGenerator[Self]:
        way = cls(urlsplit(url).port or 80)
        async with await asyncio.start_server(way._connected, "127.0.0.1", 0) as listener:
            way.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/graphql"
            try:
                yield way
            finally:
                way.open = False
                way.cut()
                await eventually(lambda: not way._carried)

    def cut(self) -> None:
        """Break every connection."""
        for connection in self._carried:
            connection.cut.set()

    def freeze(self) -> None:
        """Let every connection of now stay open and carry nothing, as after a laptop's sleep."""
        for connection in self._carried:
            connection.silent = True

    async def _connected(self, near: StreamReader, to_near: StreamWriter) -> None:
        self.connections += 1
        connection, writers = _Connection(), [to_near]
        self._carried.add(connection)
        try:
            if self.open:
                far, to_far = await asyncio.open_connection("127.0.0.1", self._port)
                writers.append(to_far)
                there, back = self._carry(connection, near, to_far), self._carry(connection, far, to_near, loses=True)
                await first_of(there, back, connection.cut.wait())
        except ConnectionError:
            pass
        finally:
            for writer in writers:
                writer.transport.abort()
            self._carried.discard(connection)

    async def _carry(
        self, connection: _Connection, reader: StreamReader, writer: StreamWriter, *, loses: bool = False
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                if loses and self.lose_answers:
                    self.lose_answers -= 1
                    return
                if not connection.silent:
                    writer.write(data)
        if connection.silent:
            await connection.cut.wait()


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them has ended, and end the others."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
