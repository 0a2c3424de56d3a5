"""Frames in and out: graphql-transport-ws read strictly, and text that a peer has to take in time. Knows no SQL."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import NonJsonMessageReceived, NonTextMessageReceived, WebSocketDisconnected

from .endpoint import is_object, read_json, write_json
from .wire import protocol_of

SEND_SECONDS = 30.0  # no progress for so long: the peer does not read
CLOSE_SECONDS = 1.0  # for a close frame to leave; then the transport is closed without it
MAX_OUTBOX_BYTES = 1024 * 1024  # that wait for one peer
LONGEST_REASON = 120  # a close frame carries 123 bytes
LONGEST_ID = 128
FIELDS: Mapping[str, frozenset[str]] = {
    "connection_init": frozenset({"type", "payload"}),
    "ping": frozenset({"type", "payload"}),
    "pong": frozenset({"type", "payload"}),
    "subscribe": frozenset({"type", "id", "payload"}),
    "complete": frozenset({"type", "id"}),
}


class TooBig(Exception):
    """A message beyond the bound."""


class BadMessage(Exception):
    """A message that the protocol does not know; the text is the reason to close with."""


def checked(message: object) -> dict[str, Any]:
    """The message, if graphql-transport-ws knows it. Raises BadMessage."""
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


class Stalled(WebSocketDisconnected):
    """The peer has read nothing for too long."""


class SocketAdapter(ASGIWebSocketAdapter):
    """Text frames in and out, bounded."""

    max_bytes = 0  # of a frame from the client; the handler sets these three
    max_outbox = 0
    give_up: Callable[[], None]

    def __init__(self, view: Any, request: WebSocket, response: WebSocket) -> None:
        super().__init__(view, request, response)  # pyright: ignore[reportUnknownMemberType]  # it names no types
        self._protocol = protocol_of(request.scope)
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._emptying: asyncio.Task[None] | None = None

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object]:  # noqa: ARG002
        """Raises NonTextMessageReceived, NonJsonMessageReceived, TooBig."""
        with suppress(WebSocketDisconnect):
            while self.ws.application_state is not WebSocketState.DISCONNECTED:
                frame = await self.ws.receive()
                if frame["type"] == "websocket.disconnect":
                    return
                text = frame.get("text")
                if text is None:
                    raise NonTextMessageReceived
                if len(text.encode(errors="replace")) > self.max_bytes:
                    raise TooBig
                try:
                    yield read_json(text)
                except ValueError as error:
                    raise NonJsonMessageReceived from error

    def push(self, text: bytes) -> None:
        """Send a text without waiting: now if the peer takes it, else when it does. Beyond the bound it is given up."""
        if self._emptying is None and self._protocol is not None and self._protocol.is_writable:
            self._protocol.write_text(text)
        else:
            self._keep(text)

    def _keep(self, text: bytes) -> None:
        size = len(text)
        if self._outbox and (self._outbox_bytes + size > MAX_OUTBOX_BYTES or len(self._outbox) >= self.max_outbox):
            self._outbox.clear()
            self.give_up()
            return
        self._outbox.append(text)
        self._outbox_bytes += size
        if self._emptying is None:
            self._emptying = asyncio.create_task(self._empty())

    async def _empty(self) -> None:
        """Pass the outbox on, as fast as the peer takes it."""
        try:
            while self._outbox:
                text = self._outbox[0]
                await self._send_text(text.decode())
                if self._outbox:
                    self._outbox.popleft()
                    self._outbox_bytes -= len(text)
        except Stalled:
            self.give_up()
        except WebSocketDisconnected:
            self._outbox.clear()
        finally:
            self._emptying = None

    async def send_json(self, message: Mapping[str, object]) -> None:
        """Raises Stalled, WebSocketDisconnected."""
        while self._emptying is not None:  # what was pushed before goes first
            await asyncio.wait([self._emptying])
        await self._send_text(write_json(message).decode())

    async def _send_text(self, text: str) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self.ws.send_text(text)
        except TimeoutError:
            raise Stalled from None
        except (WebSocketDisconnect, RuntimeError) as error:
            raise WebSocketDisconnected from error

    async def close(self, code: int, reason: str) -> None:
        with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.ws.close(code, reason[:LONGEST_REASON])
                return
        if self._protocol is not None:
            self._protocol.abort()

    async def cut(self, code: int, reason: str) -> None:
        """Close, and let go soon after: the kernel would keep what waits for a peer that is gone."""
        await self.close(code, reason)
        if self._protocol is not None:
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._protocol.abort)

    async def end(self) -> None:
        """What still waits has nobody to go to."""
        self._outbox.clear()
        if self._emptying is not None:
            self._emptying.cancel()
            await asyncio.wait([self._emptying])
