"""Many sockets that say nothing: a protocol each, no task and no library, so that thousands cost the harness little.
Knows no scenario.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from schema.wire import text_header
from tests.chaos.wire import HOST, Place

AT_ONCE = 100
SECONDS = 30.0
HANDSHAKE = (
    f"GET /graphql HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
).encode()


def masked(text: bytes) -> bytes:
    """A text frame of a client. The mask of zeros leaves the text as it is."""
    first, length, *more = text_header(len(text))
    return bytes((first, length | 0x80, *more, 0, 0, 0, 0)) + text


PONG = masked(b'{"type":"pong"}')


class Idler(asyncio.Protocol):
    """One acknowledged socket: it answers pings."""

    def __init__(self, token: str) -> None:
        self.acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_open = False
        init = {"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}
        self._init = masked(json.dumps(init).encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.is_open = True
        self._transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        if b"101 Switching" in data:
            self._transport.write(self._init)
        if b'"connection_ack"' in data and not self.acknowledged.done():
            self.acknowledged.set_result(None)
        if b'"ping"' in data:
            self._transport.write(PONG)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if not self.acknowledged.done():
            self.acknowledged.set_exception(exc or ConnectionError("closed"))

    def leave(self) -> None:
        self._transport.abort()


@asynccontextmanager
async def crowd(place: Place, token: str, number: int) -> AsyncGenerator[list[Idler]]:
    """So many, all acknowledged. Raises TimeoutError and OSError."""
    loop, idlers, turn = asyncio.get_running_loop(), list[Idler](), asyncio.Semaphore(AT_ONCE)

    async def come() -> None:
        async with turn:
            _, idler = await loop.create_connection(lambda: Idler(token), HOST, place.port)
            idlers.append(idler)
            await idler.acknowledged

    try:
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            for _ in range(number):
                group.create_task(come())
        yield idlers
    finally:
        for idler in idlers:
            idler.leave()
