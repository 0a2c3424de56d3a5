"""uvicorn's protocols: the one for WebSockets, which besides takes finished frames, and the one for HTTP, which waits
for nobody for ever. Knows no GraphQL.

One frame through ASGI costs 14 µs of CPU, written like this 7: half of what is left is the system call.
"""

from asyncio import TimerHandle, Transport
from functools import lru_cache
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

GOODBYE_SECONDS = 1.0  # for a close frame to leave when the process ends
HEAD_SECONDS = 15.0  # for the head of a request to be whole, from the connection or from its first byte
EXTENSION = "parley.frames"
SHORT, MEDIUM = 126, 65_536  # bytes from which a length takes two more, and eight


@lru_cache(1024)
def text_header(length: int) -> bytes:
    """What stands before a text of so many bytes (RFC 6455, section 5.2); a server masks nothing."""
    if length < SHORT:
        return bytes((0x81, length))
    if length < MEDIUM:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


class FrameProtocol(WebSocketsSansIOProtocol):
    """Offers itself to the app in the extensions of the ASGI scope."""

    scope: Any  # uvicorn's type, once the handshake was read
    is_writable = False  # a frame goes out at once: the peer reads, and nothing was negotiated that changes frames

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and not self.close_sent:
            self.scope["extensions"][EXTENSION] = self
            self.is_writable = self.writable.is_set() and not self.conn.extensions

    def pause_writing(self) -> None:
        super().pause_writing()
        self.is_writable = False

    def resume_writing(self) -> None:
        super().resume_writing()
        self.is_writable = not self.conn.extensions

    def write_text(self, text: bytes) -> None:
        """One text frame, now. What comes after the end of the connection is dropped."""
        if not (self.close_sent or self.disconnected or self.transport.is_closing()):
            self.transport.write(text_header(len(text)) + text)

    def shutdown(self) -> None:
        """A peer that does not read cannot hold up the end of the process."""
        super().shutdown()
        self.loop.call_later(GOODBYE_SECONDS, self.transport.abort)

    def abort(self) -> None:
        """Let go of a peer that takes nothing any more."""
        self.transport.abort()


def protocol_of(scope: Scope) -> FrameProtocol | None:
    """None under another server, or another protocol: frames then go through ASGI."""
    return scope.get("extensions", {}).get(EXTENSION)


class HeadProtocol(HttpToolsProtocol):
    """uvicorn waits without a bound for the first request of a connection, and for the rest of any head."""

    _head: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is None and self.timeout_keep_alive_task is None and self._is_within_head():
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_within_head(self) -> bool:
        """Neither a request is under way, nor is this a WebSocket now."""
        under_way: Any = self.cycle  # None before the first request
        is_free = under_way is None or under_way.response_complete
        return is_free and self.transport.get_protocol() is self

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self._close)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _close(self) -> None:
        self.transport.close()
