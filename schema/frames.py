"""Frames in and out: graphql-transport-ws read strictly, and text that a peer has to take in time. Knows no SQL."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from .endpoint import is_object, read_json
from .wire import Gone

SEND_SECONDS = 30.0  # no progress for so long: the peer does not read
CLOSE_SECONDS = 1.0  # for a close frame to leave; then the transport is closed without it
MAX_OUTBOX_BYTES = 1024 * 1024  # that wait for one peer
LONGEST_REASON = 120  # bytes; a close frame carries 123
LONGEST_ID = 128
FIELDS: Mapping[str, frozenset[str]] = {
    "connection_init": frozenset({"type", "payload"}),
    "ping": frozenset({"type", "payload"}),
    "pong": frozenset({"type", "payload"}),
    "subscribe": frozenset({"type", "id", "payload"}),
    "complete": frozenset({"type", "id"}),
}


class BadMessage(Exception):
    """A message that the protocol does not know; the text is the reason to close with."""


def read_message(text: str | None) -> dict[str, Any]:
    """The message, if graphql-transport-ws knows it. Raises BadMessage."""
    if text is None:
        raise BadMessage("A message must be text")
    try:
        return _checked(read_json(text))
    except ValueError:
        raise BadMessage("A message must be JSON") from None


def _checked(message: object) -> dict[str, Any]:
    if not is_object(message):
        raise BadMessage("A message must be a JSON object")
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in FIELDS:
        raise BadMessage("Unknown message type")
    if "payload" in message and kind != "subscribe" and not isinstance(message["payload"], dict | None):
        raise BadMessage(f"The payload of {kind} must be an object")
    if "id" in FIELDS[kind] and not (isinstance(message.get("id"), str) and 1 <= len(message["id"]) <= LONGEST_ID):
        raise BadMessage(f"{kind} needs an id of 1 to {LONGEST_ID} characters")
    if kind == "subscribe" and not _is_request(message.get("payload")):
        raise BadMessage("subscribe needs a payload with query, and may have variables, operationName and extensions")
    if message.get("payload", ...) is None:
        del message["payload"]
    return message


def _is_request(payload: object) -> bool:
    if not is_object(payload) or not isinstance(payload.get("query"), str):
        return False
    name, variables, extensions = payload.get("operationName"), payload.get("variables"), payload.get("extensions")
    return isinstance(name, str | None) and isinstance(variables, dict | None) and isinstance(extensions, dict | None)


class Pipe(Protocol):
    """Where the frames of one socket go."""

    @property
    def is_writable(self) -> bool:
        """Whether `write_text` may be called."""
        ...

    def write_text(self, text: bytes) -> None: ...

    def write_close(self, code: int, reason: str) -> None:
        """Say goodbye. May be called where `write_text` may be."""
        ...

    async def send_text(self, text: bytes) -> None:
        """Return once the peer has taken enough of what was sent. Raises Gone."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Return once the close frame is under way. Never raises."""
        ...

    def abort(self) -> None:
        """Let go of the peer, where that can be done."""
        ...

    def hold(self) -> None:
        """Read nothing more, until `go_on`."""
        ...

    def go_on(self) -> None: ...

    def keep(self, task: asyncio.Task[None]) -> None:
        """Work that the end of the process waits for."""
        ...


class AsgiPipe:
    """A socket under any server: every frame is an ASGI event."""

    is_writable = False

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self.over = asyncio.Event()  # nothing of the socket is left

    def write_text(self, text: bytes) -> None:
        raise NotImplementedError

    def write_close(self, code: int, reason: str) -> None:
        raise NotImplementedError

    async def send_text(self, text: bytes) -> None:
        try:
            await self._websocket.send_text(text.decode())
        except (WebSocketDisconnect, RuntimeError) as error:
            raise Gone from error

    async def close(self, code: int, reason: str) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._websocket.close(code, reason)

    def abort(self) -> None:
        pass

    def hold(self) -> None:
        pass  # whoever reads waits by itself

    def go_on(self) -> None:
        pass

    def keep(self, task: asyncio.Task[None]) -> None:
        task.add_done_callback(lambda _: self.over.set())


class Stalled(Gone):
    """The peer has read nothing for too long."""


class Outbox:
    """Text for one peer, in order. What it does not take at once waits, within bounds; beyond them `give_up` is called.

    At most `most` texts wait, of MAX_OUTBOX_BYTES together.
    """

    __slots__ = ("_bytes", "_emptying", "_give_up", "_most", "_pipe", "_waiting")

    def __init__(self, pipe: Pipe, most: int, give_up: Callable[[], None]) -> None:
        self._pipe = pipe
        self._most = most
        self._give_up = give_up
        self._waiting: deque[bytes] | None = None  # one that is empty takes 0.7 KiB
        self._bytes = 0
        self._emptying: asyncio.Task[None] | None = None

    def push(self, text: bytes) -> None:
        """Send a text without waiting: now if the peer takes it, else when it does. Beyond the bound it is given up."""
        if self._emptying is None and self._pipe.is_writable:
            self._pipe.write_text(text)
        else:
            self._keep(text)

    def _keep(self, text: bytes) -> None:
        waiting = self._waiting = deque() if self._waiting is None else self._waiting
        if waiting and (self._bytes + len(text) > MAX_OUTBOX_BYTES or len(waiting) >= self._most):
            self._clear()
            self._give_up()
            return
        waiting.append(text)
        self._bytes += len(text)
        if self._emptying is None:
            self._emptying = asyncio.create_task(self._empty(waiting))

    async def _empty(self, waiting: deque[bytes]) -> None:
        """Pass on what waits, as fast as the peer takes it."""
        try:
            while waiting:
                text = waiting[0]
                await self._send(text)
                if waiting:
                    waiting.popleft()
                    self._bytes -= len(text)
        except Stalled:
            self._give_up()
        except Gone:
            self._clear()
        finally:
            self._waiting = self._emptying = None

    def _clear(self) -> None:
        if self._waiting is not None:
            self._waiting.clear()
        self._bytes = 0

    async def send(self, text: bytes) -> None:
        """Return once the peer has taken enough. Raises Stalled, Gone."""
        await self.emptied()  # what was pushed before goes first
        await self._send(text)

    async def emptied(self) -> None:
        """Return once nothing waits."""
        while self._emptying is not None:
            await asyncio.wait([self._emptying])

    async def _send(self, text: bytes) -> None:
        if self._pipe.is_writable:
            self._pipe.write_text(text)
            return
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._pipe.send_text(text)
        except TimeoutError:
            raise Stalled from None

    def push_close(self, code: int, reason: str) -> None:
        """Close without waiting, if the peer takes it now: before anything more of it can be read. See `close`."""
        if self._emptying is None and self._pipe.is_writable:
            self._pipe.write_close(code, _short(reason))

    async def close(self, code: int, reason: str) -> None:
        """Close as soon as the peer takes it, unless that was done; let go of a peer that does not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pipe.close(code, _short(reason))
                return
        self._pipe.abort()

    async def cut(self, code: int, reason: str) -> None:
        """Close, and let go soon after: the kernel would keep what waits for a peer that is gone."""
        await self.close(code, reason)
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._pipe.abort)

    async def end(self) -> None:
        """What still waits has nobody to go to."""
        self._clear()
        if self._emptying is not None:
            self._emptying.cancel()
            await asyncio.wait([self._emptying])
        self._give_up = _nothing  # whoever is told refers to this


def _short(reason: str) -> str:
    return reason.encode(errors="replace")[:LONGEST_REASON].decode(errors="ignore")


def _nothing() -> None:
    """It is over already."""
