"""A small graphql-transport-ws client that hides nothing. Knows no Python of Parley.

It has no task of its own: whoever waits for a frame reads the socket and hands out what is for others. A client
that does not wait does not read, which is what a slow reader is.
"""
# ruff: noqa: ASYNC109  (a deadline in seconds is what a test says)

import asyncio
import itertools
import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from tests.harness.client import GraphQLFailure, Json, JsonValue, only, operation, whole

PROTOCOL = "graphql-transport-ws"
# Generous: a passing test never waits for it.
DEADLINE = 10
CLOSE_SECONDS = 2


class SocketClosed(Exception):
    """The server closed the socket, or the connection broke (1006)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Completed(Exception):
    """The server completed an operation that was expected to go on."""


class Subscription:
    """One operation on a socket, and what has come for it."""

    def __init__(self, socket: "Socket", id: str) -> None:
        self.id = id
        self.waiting: deque[Json] = deque()
        self.errors: list[Json] | None = None
        self._given_up = False
        self._socket = socket

    async def next(self, timeout: float = DEADLINE) -> Json:
        """The payload of the next `next`: `data`, `errors`.

        Raises GraphQLFailure or Completed when the operation ends instead, SocketClosed when the socket does.
        """
        await self._socket.read_until(lambda: bool(self.waiting) or self.errors is not None, timeout)
        if self.waiting:
            return self.waiting.popleft()
        raise GraphQLFailure(self.errors) if self.errors else Completed

    async def event(self, timeout: float = DEADLINE) -> JsonValue:
        """The root field of the next `next`. Raises GraphQLFailure when that has errors, and like `next`."""
        return only(whole(await self.next(timeout)))

    async def end(self, timeout: float = DEADLINE) -> list[Json]:
        """Wait for the end: the errors of the `error` message, or [] for `complete`. Fails on an unread `next`."""
        await self._socket.read_until(lambda: self.errors is not None, timeout)
        assert not self.waiting, f"unread before the end: {list(self.waiting)}"
        assert self.errors is not None
        return self.errors

    async def nothing(self, until: Awaitable[object] | None = None) -> None:
        """Fail if anything comes before `until` (say, another subscription's event) and then a pong.

        The pong alone shows what the server had sent when it read the ping, not what it was about to send.
        """
        if until is not None:
            await until
        await self._socket.ping()
        assert not self.waiting, f"came: {list(self.waiting)}"
        assert self.errors is None, f"ended: {self.errors}"

    async def complete(self) -> None:
        """End it from the client's side; what is still on its way is dropped."""
        await self._socket.send({"type": "complete", "id": self.id})
        self._given_up = True

    def take(self, kind: str, payload: JsonValue) -> None:
        """What the socket read for this operation. Fails on anything after the server's own end of it."""
        if self._given_up:
            return
        assert self.errors is None, f"{kind} after the end of {self.id}: {payload}"
        if kind == "next":
            self.waiting.append(payload)
        else:
            self.errors = payload if kind == "error" else []


class Socket:
    """An open socket. Made by `connect`, or by `opened` for a socket without connection_init."""

    def __init__(self, connection: ClientConnection) -> None:
        self.ack: Json | None = None
        self._connection = connection
        self._reading = asyncio.Lock()
        self._ids = itertools.count(1)
        self._subscriptions: dict[str, Subscription] = {}
        self._pongs = 0

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, *, token: str | None = None, init_payload: Json | None = None, origin: str | None = None
    ) -> AsyncGenerator["Socket"]:
        """An acknowledged socket; the payload of connection_init carries the token unless it is given whole.

        Raises SocketClosed when the server does not acknowledge.
        """
        payload = {"authorization": f"Bearer {token}"} if init_payload is None and token else init_payload
        async with cls.opened(url, origin=origin) as socket:
            await socket.send({"type": "connection_init"} | ({} if payload is None else {"payload": payload}))
            await socket.read_until(lambda: socket.ack is not None)
            yield socket

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        url: str,
        *,
        origin: str | None = None,
        protocols: Sequence[str] = (PROTOCOL,),
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator["Socket"]:
        """A socket on which nothing was said. Raises websockets' InvalidStatus when the handshake is refused."""
        async with connect(
            url,
            origin=Origin(origin) if origin else None,
            subprotocols=[Subprotocol(name) for name in protocols],
            additional_headers=dict(headers or {}),
            compression=None,
            proxy=None,
            ping_interval=None,
            close_timeout=CLOSE_SECONDS,
            max_size=None,
        ) as connection:
            yield cls(connection)

    @property
    def protocol(self) -> str | None:
        """The subprotocol that the server chose."""
        return self._connection.subprotocol

    async def subscribe(
        self,
        document: str,
        variables: Mapping[str, Any] | None = None,
        operation: str | None = None,
        id: str | None = None,
    ) -> Subscription:
        """Start any operation. It is live some time later: see `Person.messages` for a start without a gap."""
        subscription = Subscription(self, id or str(next(self._ids)))
        self._subscriptions[subscription.id] = subscription
        payload: Json = {"query": document, "variables": variables, "operationName": operation}
        sent = {key: value for key, value in payload.items() if value is not None}
        await self.send({"type": "subscribe", "id": subscription.id, "payload": sent})
        return subscription

    async def follow(self, name: str, **variables: Any) -> Subscription:
        """Start the operation of that name from `graphql/operations/`."""
        return await self.subscribe(operation(name), variables)

    async def send(self, frame: Json) -> None:
        """Send one message of the protocol."""
        await self.send_raw(json.dumps(frame))

    async def send_raw(self, frame: str | bytes) -> None:
        """Send a text or a binary frame as it is."""
        try:
            await self._connection.send(frame)
        except ConnectionClosed:
            raise self._closed() from None

    async def ping(self, timeout: float = DEADLINE) -> None:
        """Wait for the pong to a ping of the protocol: the server has read all that was sent before."""
        wanted = self._pongs + 1
        await self.send({"type": "ping"})
        await self.read_until(lambda: self._pongs >= wanted, timeout)

    async def closed(self, timeout: float = DEADLINE) -> int:
        """Wait until the server closes; its close code."""
        try:
            await self.read_until(lambda: False, timeout)
        except SocketClosed as closed:
            return closed.code
        raise AssertionError("unreachable")

    def lose(self) -> None:
        """Lose the connection, as networks do: nobody says goodbye."""
        self._connection.transport.abort()

    async def leave(self) -> None:
        """Close, as a client does that has heard enough."""
        await self._connection.close()

    async def read_until(self, done: Callable[[], bool], timeout: float = DEADLINE) -> None:
        """Read and hand out frames until `done`. Raises SocketClosed, or TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while not done():
                async with self._reading:
                    if not done():
                        await self._read()

    async def _read(self) -> None:
        try:
            text = await self._connection.recv()
        except ConnectionClosed:
            raise self._closed() from None
        assert isinstance(text, str), f"a binary frame, which clients do not read: {text}"
        match frame := json.loads(text):
            case {"type": "connection_ack"}:
                self.ack = frame
            case {"type": "ping"}:
                await self.send({"type": "pong"})
            case {"type": "pong"}:
                self._pongs += 1
            case {"type": "next" | "error" | "complete" as kind, "id": str(id)}:
                self._subscriptions[id].take(kind, frame.get("payload"))
            case _:
                raise AssertionError(f"not a message of {PROTOCOL}: {frame}")

    def _closed(self) -> SocketClosed:
        return SocketClosed(self._connection.close_code or 1006, self._connection.close_reason or "")
