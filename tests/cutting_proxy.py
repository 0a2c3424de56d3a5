"""A TCP proxy that cuts a connection at a word of the client: before the server gets it, or before its answer comes."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from enum import Enum
from typing import Any, Self

CHUNK = 65_536


class Cut(Enum):
    """Where the connection breaks."""

    REQUEST = "before the server gets it"
    ANSWER = "before the client gets the answer"
    SILENCE = "without a word to anybody"


class CuttingProxy:
    """Stands between a client and one server; `cut_at` breaks the next connection on which the client says the word."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.cuts = 0
        self._server_port = server_port
        self._word: bytes | None = None
        self._where = Cut.REQUEST
        self._over = asyncio.Event()
        self._handlers: set[asyncio.Task[Any]] = set()

    @classmethod
    @asynccontextmanager
    async def before(cls, server_port: int) -> AsyncGenerator[Self]:
        """Listens on `port` of 127.0.0.1; every connection through it ends with it."""
        proxy = cls(server_port)
        async with await asyncio.start_server(proxy._connected, "127.0.0.1", 0) as listener:
            proxy.port = listener.sockets[0].getsockname()[1]
            try:
                yield proxy
            finally:
                proxy._over.set()
                await asyncio.gather(*proxy._handlers)

    def cut_at(self, word: bytes, where: Cut) -> None:
        self._word, self._where = word, where

    async def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        swallowing = silent = False

        async def asks() -> None:
            nonlocal swallowing, silent
            while data := await client.read(CHUNK):
                if self._word is not None and self._word in data:
                    self._word = None
                    self.cuts += 1
                    if self._where is Cut.SILENCE:
                        silent = True
                        await self._over.wait()
                    if self._where is not Cut.ANSWER:
                        return
                    swallowing = True
                to_server.write(data)

        async def answers() -> None:
            while (data := await server.read(CHUNK)) and not swallowing:
                to_client.write(data)
            if silent:
                await self._over.wait()

        await self._until_one_ends(asks(), answers(), self._until_over())
        for writer in (to_client, to_server):
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _until_one_ends(self, *ways: Coroutine[Any, Any, None]) -> None:
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await task

    async def _until_over(self) -> None:
        await self._over.wait()
