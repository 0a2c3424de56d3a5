"""uvicorn's protocols: for WebSockets the handshake, and what a connection is after it; for HTTP one that waits for
nobody for ever. Knows no GraphQL.

One frame through ASGI costs 14 µs of CPU, written like this 7: half of what is left is the system call. And for a quiet
connection uvicorn holds 25 KiB: a task that waits, a parser, queues, the request.
"""

import asyncio
import struct
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from functools import lru_cache
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Protocol, cast

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # without a compiler
    from websockets.utils import apply_mask

ANSWER_SECONDS = 10.0  # for the peer to answer a close frame
GOODBYE_SECONDS = 1.0  # for a close frame to leave when the process ends
HEAD_SECONDS = 15.0  # for the head of a request to be whole, from the connection or from its first byte
EXTENSION = "parley.frames"
SHORT, MEDIUM = 126, 65_536  # bytes from which a length takes two more, and eight
FINAL_TEXT, MASKED = 0x81, 0x80
FRAMES_PER_TURN = 32  # of one connection: 10,000 that come at once would hold up the others for 60 ms
LEAVING_BYTES = 16 * 1024  # of one connection that may wait for the end of a turn
OPCODES = frozenset(Opcode)
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER for no second: the connection is reset, and its buffers are dropped
MESSAGES = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


@lru_cache(1024)
def text_header(length: int) -> bytes:
    """What stands before a text of so many bytes (RFC 6455, section 5.2); a server masks nothing."""
    if length < SHORT:
        return bytes((FINAL_TEXT, length))
    if length < MEDIUM:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


def payload_span(data: bytes, start: int) -> tuple[int, int] | None:
    """Where the payload of a client's frame begins and ends; None while its head is not whole."""
    length = data[start + 1] & 0x7F
    begin = start + 6 + {126: 2, 127: 8}.get(length, 0)
    if len(data) < begin:
        return None
    return begin, begin + (length if length < SHORT else int.from_bytes(data[start + 2 : begin - 4], "big"))


def frame_end(data: bytes, start: int, most: int) -> int:
    """Where the frame ends that begins at `start`, 0 if it is not whole yet. What is no client's frame, or too large,
    goes to the end of the data: it is refused for its head, and nothing after it is read.
    """
    if len(data) < start + 2:
        return 0
    if data[start] & 0x0F not in OPCODES or not data[start + 1] & MASKED:
        return len(data)
    if (span := payload_span(data, start)) is None:
        return 0
    begin, end = span
    if end - begin > most:
        return len(data)
    return end if end <= len(data) else 0


def text_of(frame: bytes) -> str | None:
    """The text of a whole message in one plain frame; None for every other frame."""
    if frame[0] != FINAL_TEXT or not frame[1] & MASKED:
        return None
    span = payload_span(frame, 0)
    if span is None or span[1] != len(frame):
        return None
    begin, end = span
    try:
        return apply_mask(frame[begin:end], frame[begin - 4 : begin]).decode()
    except UnicodeDecodeError:
        return None


class Gone(Exception):
    """Nobody is there any more to send to."""


class Listener(Protocol):
    """Who follows a connection. No call may wait."""

    def hear(self, text: str | None) -> None:
        """A message; None for one that is not text."""
        ...

    def lost(self) -> None:
        """Nothing more comes, and nothing more can be sent. May be called again."""
        ...


class Departures:
    """Frames leave when the turn of the event loop ends that they were written in, those of one connection together.

    Messages that were committed together are then one write to each subscriber: with eight who send into a group of
    1,000 at once a delivery takes 4.3 µs of CPU, and took 9.6 when each frame was written on its own.
    """

    def __init__(self) -> None:
        self._wires: list[Wire] = []

    def add(self, wire: "Wire") -> None:
        if not self._wires:
            asyncio.get_running_loop().call_soon(self._leave)
        self._wires.append(wire)

    def _leave(self) -> None:
        wires, self._wires = iter(self._wires), []
        try:
            for wire in wires:
                wire.flush()
        finally:
            for wire in wires:  # those after one that failed
                self.add(wire)


class Wire(asyncio.Protocol):
    """A WebSocket after its handshake. Frames other than a whole text are left to the parser of websockets, which lives
    only as long as it is in the middle of a message, or of a close.
    """

    __slots__ = (
        "_close_timer", "_connections", "_departures", "_is_behind", "_is_closing", "_is_full", "_is_held", "_is_text",
        "_leaving", "_listener", "_most", "_parser", "_parts", "_relief", "_rest", "_tasks", "_transport",
        "is_writable",
    )  # fmt: skip

    def __init__(
        self, handshake: "FrameProtocol", departures: Departures, listen: Callable[["Wire"], Listener]
    ) -> None:
        self._transport = handshake.transport
        self._connections: set[Any] = handshake.connections  # of uvicorn, which shuts them down
        self._tasks = handshake.tasks  # and waits for these
        self._most: int = handshake.config.ws_max_size
        self._departures = departures
        self._leaving = b""  # frames of this turn
        self._rest = b""  # that was not read yet
        self._is_behind = False  # it is read in the next turn of the loop
        self._is_held = False  # by the listener
        self._parser: ServerProtocol | None = None
        self._parts: list[bytes] | None = None  # the beginning of a message that comes in several frames
        self._is_text = False
        self._relief: asyncio.Future[None] | None = None  # somebody waits until it is not full
        self._close_timer: TimerHandle | None = None
        self._is_closing = False
        self._is_full = not handshake.writable.is_set()
        self.is_writable = not self._is_full  # a frame goes out at once
        self._listener = listen(self)
        self._connections.add(self)

    # In

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if not self._is_behind:
            self._read_on()

    def _read_on(self) -> None:
        data, start, was_behind = self._rest, 0, self._is_behind
        for _ in range(FRAMES_PER_TURN):
            if self._transport.is_closing() or not (end := frame_end(data, start, self._most)):
                self._is_behind = False
                break
            self._read(data[start:end])
            start = end
        else:
            self._is_behind = True
            asyncio.get_running_loop().call_soon(self._read_on)
        self._rest = data[start:]
        if was_behind != self._is_behind:
            self._flow()

    def _read(self, frame: bytes) -> None:
        if self._parser is None and (text := text_of(frame)) is not None:
            self._listener.hear(text)
            return
        parser = self._parsing()
        parser.receive_data(frame)
        for event in parser.events_received():
            self._take(parser, cast("Frame", event))
        if parser.parser_exc is not None:
            self._part(parser)
        elif self.is_writable:  # a pong that cannot leave is left out
            self._transport.write(b"".join(parser.data_to_send()))
        if self._parts is None and not self._is_closing:
            self._parser = released(parser)

    def _parsing(self) -> ServerProtocol:
        if self._parser is None:
            self._parser = ServerProtocol(state=State.OPEN, max_size=self._most)
        return self._parser

    def _take(self, parser: ServerProtocol, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._part(parser)
        elif frame.opcode in MESSAGES and not self._is_closing:
            if frame.opcode is not Opcode.CONT:
                self._parts, self._is_text = [], frame.opcode is Opcode.TEXT
            assert self._parts is not None
            self._parts.append(bytes(frame.data))
            if frame.fin:
                message, self._parts = b"".join(self._parts), None
                self._hear(parser, message)

    def _hear(self, parser: ServerProtocol, message: bytes) -> None:
        try:
            text = message.decode() if self._is_text else None
        except UnicodeDecodeError:
            parser.fail(CloseCode.INVALID_DATA)
            self._part(parser)
        else:
            self._listener.hear(text)

    def hold(self) -> None:
        """Read nothing more, until `go_on`."""
        self._is_held = True
        self._flow()

    def go_on(self) -> None:
        self._is_held = False
        self._flow()

    def _flow(self) -> None:
        if self._transport.is_closing():
            return
        if self._is_held or self._is_behind:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # Out

    def pause_writing(self) -> None:
        self._is_full, self.is_writable = True, False

    def resume_writing(self) -> None:
        self._is_full, self.is_writable = False, not self._is_closing
        self._relieve()

    def _relieve(self) -> None:
        if self._relief is not None:
            self._relief.set_result(None)
            self._relief = None

    async def _relieved(self) -> None:
        """It is not full, or over."""
        while self._is_full and not self._transport.is_closing():
            if self._relief is None:
                self._relief = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._relief])

    def write_text(self, text: bytes) -> None:
        """One text frame, in this turn of the loop. What comes after the end of the connection is dropped."""
        if self._is_closing:
            return
        if not self._leaving:
            self._departures.add(self)
        self._leaving += text_header(len(text)) + text
        if len(self._leaving) > LEAVING_BYTES:
            self.flush()

    def flush(self) -> None:
        """What was written leaves now."""
        leaving, self._leaving = self._leaving, b""
        if leaving and not self._transport.is_closing():
            self._transport.write(leaving)

    async def send_text(self, text: bytes) -> None:
        """One text frame, as soon as the peer has read enough of what was written before. Raises Gone."""
        await self._relieved()
        if self._is_closing or self._transport.is_closing():
            raise Gone
        self.write_text(text)

    # The end

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye, as soon as the peer has read enough. It has some seconds to answer."""
        await self._relieved()
        self.write_close(code, reason)

    def write_close(self, code: int, reason: str = "") -> None:
        """Say goodbye, now. Only the first call counts."""
        if self._is_closing or self._transport.is_closing():
            return
        self.flush()
        self._is_closing, self.is_writable = True, False
        parser = self._parsing()
        parser.send_close(code, reason)
        self._transport.write(b"".join(parser.data_to_send()))
        self._expect_end()
        self.go_on()

    def _part(self, parser: ServerProtocol) -> None:
        """The peer has said goodbye, or broken the protocol."""
        self.flush()
        self._is_closing, self.is_writable = True, False
        self._transport.write(b"".join(parser.data_to_send()))
        self._expect_end()
        self._transport.close()
        self._listener.lost()

    def _expect_end(self) -> None:
        if self._close_timer is None:
            self._close_timer = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self.abort)

    def shutdown(self) -> None:
        """The process ends. A peer that does not read cannot hold it up."""
        self.write_close(CloseCode.SERVICE_RESTART)
        self._transport.close()
        asyncio.get_running_loop().call_later(GOODBYE_SECONDS, self._transport.abort)
        self._listener.lost()

    def abort(self) -> None:
        """Let go of a peer that takes nothing any more, and of what waits for it: the kernel would keep megabytes."""
        if self in self._connections:
            self._transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, AT_ONCE)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # whatever ended it
        self._connections.discard(self)
        self._is_closing, self._is_full, self.is_writable = True, False, False
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._relieve()
        self._listener.lost()
        del self._listener  # they refer to each other

    def keep(self, task: asyncio.Task[None]) -> None:
        """Work that the end of the process waits for."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def released(parser: ServerProtocol) -> None:
    """It refers to itself through its generator, and would wait for the garbage collector."""
    parser.parser.close()


class FrameProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol until an app takes the connection over: it is offered in the extensions of the ASGI scope."""

    scope: Any  # uvicorn's type, once the handshake was read

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and not self.close_sent and not self.conn.extensions:
            self.scope["extensions"][EXTENSION] = self
            self.read_paused = True  # until the app hears of the connection: what the peer says is not for this one
            self.transport.pause_reading()

    def take_over(self, departures: Departures, listen: Callable[[Wire], Listener]) -> None:
        """From here on whatever comes goes to the listener that `listen` makes, and the app may return. To be called
        without waiting for anything after `websocket.accept`.
        """
        wire, transport = Wire(self, departures, listen), self.transport
        self.transport = cast("Transport", _Nothing())
        self.connections.discard(self)
        del self.scope["extensions"][EXTENSION]
        released(self.conn)
        transport.set_protocol(wire)
        if self.disconnected:
            wire.connection_lost(None)

    def shutdown(self) -> None:
        """A peer that does not read cannot hold up the end of the process."""
        super().shutdown()
        self.loop.call_later(GOODBYE_SECONDS, self.transport.abort)


class _Nothing:
    """The transport of a protocol that has none any more: uvicorn closes it when the app returns."""

    def close(self) -> None:
        pass


def protocol_of(scope: Scope) -> FrameProtocol | None:
    """None under another server, or another protocol: frames then go through ASGI."""
    return scope.get("extensions", {}).get(EXTENSION)


def whole_body(receive: Receive) -> bytes | None:
    """The body of a request that had come whole when it was looked at; None where it has to be waited for, and under
    another server. To ask for it through ASGI, with a bound on the wait, takes 4 % of a send.
    """
    cycle: Any = getattr(receive, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle) or cycle.more_body or cycle.disconnected:
        return None
    return bytes(cycle.body)


class _Answer:
    """The transport of one answer, of which the head leaves with the beginning of the body.

    uvicorn writes them one after the other: two system calls, two packets, and a client that is woken twice.
    """

    __slots__ = ("_cycle", "_head", "_transport")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if not self._cycle.response_started:  # `100 Continue`
            self._transport.write(data)
        elif not self._head:
            self._head = data
        else:
            self._transport.writelines((self._head, data))
            self._give_back()

    def close(self) -> None:
        self._transport.write(self._head)
        self._transport.close()
        self._give_back()

    def _give_back(self) -> None:
        """The rest goes as usual. They would refer to each other, and each request wait for the garbage collector with
        all that it holds: that, and memory that no cache has any more, took 5 % of a send.
        """
        self._cycle.transport = self._transport

    def is_closing(self) -> bool:
        return self._transport.is_closing()


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
        before: Any = self.cycle
        super().on_headers_complete()
        if self.cycle is not before and self.scope["method"] != "HEAD":  # whose answer has no body
            self.cycle.transport = cast("Transport", _Answer(self.cycle))

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        del self.parser  # they refer to each other, and would wait for the garbage collector

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
