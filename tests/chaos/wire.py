"""HTTP and graphql-transport-ws with as little between as possible: a run asks a hundred thousand times. Knows no
scenario.
"""
# ruff: noqa: ASYNC109  (a deadline in seconds is what a client has)

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from tests.harness import Json

HOST = "127.0.0.1"
ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node, or a proxy before it, is asked."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """`unknown` is whatever leaves open whether it was done."""

    kind: Literal["ok", "fail", "unknown"]
    data: Json
    code: str = ""
    text: str = ""

    @property
    def value(self) -> Any:
        """The one root field."""
        (value,) = self.data.values()
        return value


class NoAnswer(Exception):
    """The connection broke, or nothing came in time."""


class Caller:
    """One connection for one request at a time, opened when it is needed. `close` it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(
        self,
        document: str,
        variables: Mapping[str, Any],
        token: str | None = None,
        timeout: float = ANSWER_SECONDS,
    ) -> Answer:
        """Never raises for what a server or a network does."""
        body = json.dumps({"query": document, "variables": variables}).encode()
        try:
            async with asyncio.timeout(timeout):
                status, answer = await self._post(body, token)
        except (OSError, EOFError, TimeoutError, RuntimeError) as error:  # uvloop: RuntimeError on a closed transport
            self.close()
            return Answer("unknown", {}, "NO_ANSWER", type(error).__name__)
        except BaseException:
            self.close()
            raise
        return judged(status, answer, is_mutation=document.startswith("mutation"))

    async def _post(self, body: bytes, token: str | None) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self._place.port)
        reader, writer = self._streams
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        head = f"POST /graphql HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n{authorization}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        answer = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(status.split()[1]), answer

    def close(self) -> None:
        if self._streams is not None:
            with suppress(RuntimeError):
                self._streams[1].close()
            self._streams = None


def judged(status: int, body: bytes, *, is_mutation: bool) -> Answer:
    """An error below the root field of a mutation is about what could not be shown: it may have been done."""
    try:
        result: Json = json.loads(body)
    except ValueError:
        return Answer("unknown", {}, f"HTTP {status}", body[:300].decode(errors="replace"))
    errors = result.get("errors")
    if not errors:
        return Answer("ok", result["data"])
    extensions: Json = errors[0].get("extensions") or {}
    code, text = extensions.get("code", ""), json.dumps(errors)
    is_below = is_mutation and len(errors[0].get("path", ())) > 1
    is_open = is_below or (code == "SERVICE_UNAVAILABLE" and extensions.get("committed") is not False)
    return Answer("unknown" if is_open else "fail", result.get("data") or {}, code, text)


class Refused(Exception):
    """There is no acknowledged socket. `code` is the close code, 1006 where no server answered."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


@asynccontextmanager
async def opened(place: Place) -> AsyncGenerator[ClientConnection]:
    """A socket on which nothing was said yet. Raises Refused."""
    connection = await _opened(place, ANSWER_SECONDS, 0)
    try:
        yield connection
    finally:
        await hang_up(connection)


@asynccontextmanager
async def acknowledged(
    place: Place, token: str, timeout: float = ANSWER_SECONDS, buffer: int = 0
) -> AsyncGenerator[ClientConnection]:
    """A socket on which connection_init was answered. `buffer` is how many bytes the kernel may keep for its client.
    Raises Refused.
    """
    connection = await _opened(place, timeout, buffer)
    try:
        init = {"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}
        try:
            async with asyncio.timeout(timeout):
                await connection.send(json.dumps(init))
                ack = await connection.recv()
        except Exception:  # noqa: BLE001  # whatever it is, there is no acknowledgement
            raise Refused(connection.close_code or 1006) from None
        if json.loads(ack).get("type") != "connection_ack":
            raise Refused(1002)
        yield connection
    finally:
        await hang_up(connection)


async def _opened(place: Place, timeout: float, buffer: int) -> ClientConnection:
    raw = socket.socket()
    if buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    raw.setblocking(False)
    try:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(raw, (HOST, place.port))
        return await connect(
            f"ws://{HOST}:{place.port}/graphql",
            subprotocols=[Subprotocol("graphql-transport-ws")],
            compression=None,
            proxy=None,
            ping_interval=None,
            close_timeout=1,
            open_timeout=timeout,
            max_size=None,
            sock=raw,
        )
    except (OSError, EOFError, TimeoutError, RuntimeError, WebSocketException):  # uvloop: RuntimeError when just closed
        raw.close()
        raise Refused(1006) from None


async def hang_up(connection: ClientConnection) -> None:
    """Close in order where the other side answers; within a second where it does not."""
    try:
        await connection.close()
    finally:
        connection.transport.abort()
