"""Frames in and out: graphql-transport-ws read strictly, and text that a peer has to take in time. Knows no SQL."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import NonJsonMessageReceived, NonTextMessageReceived, WebSocketDisconnected

from .endpoint import is_object, read_json, write_json

SEND_SECONDS = 30.0  # no progress for so long: the peer does not read
CLOSE_SECONDS = 1.0  # for a close frame to leave; then the transport is closed without it
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

    max_bytes = 0  # of a frame from the client; the handler sets it

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

    async def send_json(self, message: Mapping[str, object]) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self.ws.send_text(write_json(message).decode())
        except TimeoutError:
            raise Stalled from None
        except (WebSocketDisconnect, RuntimeError) as error:
            raise WebSocketDisconnected from error

    async def close(self, code: int, reason: str) -> None:
        with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.ws.close(code, reason[:LONGEST_REASON])
