"""The load: sockets that count events by the lengths of their frames, and connections that post. Parses no event."""

import asyncio
import json
import re
import time
from array import array
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any, Protocol

EVENT_BYTES = 80  # a shorter frame is an acknowledgement, a ping or a pong, and no event
KEPT_BYTES = 500  # of each listener's first event, which is looked at
SHORT = 126  # what stands for a length of two bytes; one more stands for eight
TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A
OPENING_AT_ONCE = 64
DEADLINE = 120  # seconds without what was awaited
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)
Json = dict[str, Any]


class Failed(Exception):
    """The server did something else than was measured."""


def compact(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def frame(payload: bytes, kind: int = TEXT) -> bytes:
    """A client's frame, masked with zeros, which is as good to a server and costs us nothing."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < SHORT else bytes([0x80 | SHORT]) + size.to_bytes(2, "big")
    return bytes([kind]) + length + bytes(4) + payload


def posting(body: Json, headers: str = "") -> bytes:
    """A whole HTTP request."""
    content = compact(body)
    head = f"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


class Room:
    """A group as the load sees it: when each message was sent there, how often all were heard, and how late."""

    def __init__(self, number: int, listeners: int = 0, behind: int = 1) -> None:
        self.number = number
        self.listeners = listeners
        self.behind = behind  # how many events each of them has missed
        self.sent: list[float] = []
        self.heard = 0
        self.late = array("d")
        self._awaited = 0
        self._waiter: asyncio.Future[None] | None = None

    def hear(self, first: int, events: int, now: float) -> None:
        """Events after the `first` of one listener; who did not say when they were sent is not late."""
        self.heard += events
        for number in range(first, min(first + events, len(self.sent))):
            self.late.append(now - self.sent[number])
        if self._waiter is not None and self.heard >= self._awaited and not self._waiter.done():
            self._waiter.set_result(None)

    def forget(self) -> None:
        """As if nothing had been sent here yet."""
        self.sent.clear()
        self.heard, self.late = 0, array("d")

    def fail(self, why: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Failed(why))

    async def until(self, heard: int) -> None:
        """Return when so many events were heard here. Raises Failed."""
        if self.heard >= heard:
            return
        self._awaited, self._waiter = heard, asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(DEADLINE):
                await self._waiter
        except TimeoutError:
            raise Failed(f"{self.heard:,} of {heard:,} events came within {DEADLINE} s") from None
        finally:
            self._waiter = None


class Listener(asyncio.Protocol):
    """One socket with one subscription."""

    def __init__(self, init: bytes, subscribe: bytes, room: Room) -> None:
        self._asks = [frame(subscribe), frame(init)]
        self._room = room
        self._rest = b""
        self._upgraded = self._closing = False
        self.asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard = 0
        self.first = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._rest:
            data = self._rest + data
        at, size, events = self._after_upgrade(data), len(data), 0
        while size - at >= 2:  # noqa: PLR2004  # the shortest header
            length, begin = data[at + 1], at + 2
            if length >= SHORT:
                begin += 2 if length == SHORT else 8
                length = int.from_bytes(data[at + 2 : begin], "big")
            if begin + length > size:
                break
            if length >= EVENT_BYTES:
                events += 1
                self.first = self.first or data[begin : begin + min(length, KEPT_BYTES)]
            else:
                self._short(data[at], data[begin : begin + length])
            at = begin + length
        self._rest = data[at:]
        if events:
            first, self.heard = self.heard, self.heard + events
            self._room.hear(first, events, now)

    def _after_upgrade(self, data: bytes) -> int:
        """Where the frames begin; the end while there are none yet."""
        if self._upgraded:
            return 0
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        if not data.startswith(b"HTTP/1.1 101"):
            self._fail(data[:200].decode(errors="replace"))
            return len(data)
        self._upgraded = True
        self.transport.write(self._asks.pop())
        return end + 4

    def _short(self, kind: int, payload: bytes) -> None:
        if kind == CLOSE:
            self._fail(f"a socket was closed with {int.from_bytes(payload[:2], 'big')}")
        elif kind == PING:
            self.transport.write(frame(payload, PONG))
        elif b'"connection_ack"' in payload:
            self.transport.write(self._asks.pop())
            self.asked.set_result(None)
        elif b'"ping"' in payload:
            self.transport.write(frame(b'{"type":"pong"}'))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._fail("a socket was lost")

    def _fail(self, why: str) -> None:
        if not self.asked.done():
            self.asked.set_exception(Failed(why))
        self._room.fail(why)

    def begin(self) -> None:
        """Count from here on."""
        if b'"next"' not in self.first:
            raise Failed(f"no event: {self.first.decode(errors='replace')}")
        self.heard = 0

    def close(self) -> None:
        self._closing = True
        self.transport.abort()


class Caller(asyncio.Protocol):
    """A connection that posts, one request after the other."""

    def __init__(self) -> None:
        self.transport: Any = None
        self._got = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        head = self._got.find(b"\r\n\r\n")
        length = LENGTH.search(self._got, 0, head + 2) if head >= 0 else None
        if length is None or len(self._got) < head + 4 + int(length[1]):
            return
        got, self._got = self._got, b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(got[head + 4 :])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Failed("the server closed a connection"))

    async def post(self, request: bytes) -> bytes:
        """The body of the answer. Raises Failed if it has errors."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        answer = await self._answer
        if b'"errors"' in answer:
            raise Failed(answer[:500].decode(errors="replace"))
        return answer


class Spoken(Protocol):
    """A server, and what is said to it."""

    port: int
    resumes: bool  # it sends what a listener has missed: nothing that was said after the position is lost

    def init(self, number: int) -> Json: ...
    def following(self, room: Room, number: int) -> Json: ...
    def saying(self, room: Room) -> bytes: ...


@asynccontextmanager
async def calling(port: int, callers: int) -> AsyncGenerator[Sequence[Caller]]:
    """So many connections."""
    loop = asyncio.get_running_loop()
    opened = [(await loop.create_connection(Caller, "127.0.0.1", port))[1] for _ in range(callers)]
    try:
        yield opened
    finally:
        for each in opened:
            each.transport.abort()


@asynccontextmanager
async def listening(server: Spoken, rooms: Iterable[Room]) -> AsyncGenerator[list[Listener]]:
    """Sockets for the listeners of each room, acknowledged and asked for its events."""
    loop, turns = asyncio.get_running_loop(), asyncio.Semaphore(OPENING_AT_ONCE)
    opened: list[Listener] = []

    async def open_one(number: int, room: Room) -> None:
        init = compact({"type": "connection_init", "payload": server.init(number)})
        asked = server.following(room, number)
        subscribe = compact({"type": "subscribe", "id": f"{number:08x}-0000-4000-8000-000000000000", "payload": asked})
        async with turns, asyncio.timeout(DEADLINE):
            make: Callable[[], Listener] = lambda: Listener(init, subscribe, room)  # noqa: E731
            _, listener = await loop.create_connection(make, "127.0.0.1", server.port)
            opened.append(listener)
            await listener.asked

    try:
        wanted = [room for room in rooms for _ in range(room.listeners)]
        async with asyncio.TaskGroup() as opening:
            for number, room in enumerate(wanted):
                opening.create_task(open_one(number, room))
        yield opened
    finally:
        for each in opened:
            each.close()


async def warmed(server: Spoken, caller: Caller, rooms: Sequence[Room], listeners: Sequence[Listener]) -> None:
    """Talk until everybody has heard all of it, then count from here on. The rooms are new."""
    for room in rooms:
        await caller.post(server.saying(room))
    if server.resumes:
        for room in rooms:
            await room.until(room.listeners * (room.behind + 1))
    else:
        await _heard_by_all(server, caller, rooms, listeners)
    for each in listeners:
        each.begin()
    for room in rooms:
        room.forget()


async def _heard_by_all(server: Spoken, caller: Caller, rooms: Sequence[Room], listeners: Sequence[Listener]) -> None:
    """Where nobody knows when a subscription begins: talk until everybody has heard something, and then nothing more
    for a moment.
    """
    async with asyncio.timeout(DEADLINE):
        while not all(each.heard for each in listeners):
            await asyncio.sleep(0.1)
            for room in rooms:
                await caller.post(server.saying(room))
        heard = -1
        while heard != (heard := sum(room.heard for room in rooms)):  # noqa: ASYNC110  # nothing tells when
            await asyncio.sleep(0.5)


Talk = tuple[Spoken, Caller, Sequence[Room]]


async def converse(talks: Sequence[Talk], seconds: float, *, patiently: bool = True) -> None:
    """Each caller sends into its rooms, in turn; the next message follows when the last was heard by everybody, or, not
    patiently, when it was answered. Return when all were heard.
    """
    end = time.perf_counter() + seconds

    async def talk(server: Spoken, caller: Caller, rooms: Sequence[Room]) -> None:
        for room in cycle(rooms):
            if time.perf_counter() > end:
                return
            request = server.saying(room)
            room.sent.append(time.perf_counter())
            await caller.post(request)
            if patiently:
                await room.until(len(room.sent) * room.listeners)

    async with asyncio.TaskGroup() as talking:
        for each in talks:
            talking.create_task(talk(*each))
    for room in {id(room): room for _, _, rooms in talks for room in rooms}.values():
        await room.until(len(room.sent) * room.listeners)


def shared(server: Spoken, callers: Sequence[Caller], rooms: Sequence[Room]) -> list[Talk]:
    """The rooms dealt out to the callers."""
    return [(server, caller, rooms[number :: len(callers)]) for number, caller in enumerate(callers)]


def for_seconds(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end


async def at_a_rate(server: Spoken, caller: Caller, room: Room, rate: float, going: Callable[[], bool]) -> None:
    """So many messages a second, whether they are heard or not; late is late against the schedule."""
    request, began = server.saying(room), time.perf_counter()
    while going():
        due = began + len(room.sent) / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        room.sent.append(due)
        await caller.post(request)
    await room.until(len(room.sent) * room.listeners)
