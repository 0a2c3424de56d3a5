"""Hints over Redis publish/subscribe: one watched connection that listens, a small pool that publishes.

Must not know groups, handlers, or the package that spreads what is heard inside the process.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from redis.asyncio import BlockingConnectionPool, Connection
from redis.asyncio import Redis as Client
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

PUBLISHERS: Final = 8
"""Connections that publish at once: a publish holds one for a round trip, so 8 carry thousands a second."""

FAULTS: Final = (RedisError, OSError, RuntimeError)
"""What redis-py raises for a broken connection: under uvloop also RuntimeError, on a transport that closed just now."""


@dataclass(frozen=True)
class Timing:
    """How long the engine waits, in seconds."""

    connect: float = 5.0
    """For a connection, its handshake and the confirmation of every channel."""
    reply: float = 2.0
    """For a publish, and for the confirmation of one channel."""
    idle: float = 5.0
    """In silence, before the listening connection is asked for a sign of life."""
    sign: float = 5.0
    """For that sign of life."""
    first_wait: float = 0.05
    longest_wait: float = 2.0
    """Between two attempts to reconnect: the first wait doubles up to the longest."""

    def waits(self) -> Iterator[float]:
        """Endless waits between attempts, each with jitter so that processes do not come back in step."""
        longest = self.first_wait
        while True:
            yield random.uniform(longest / 2, longest)  # noqa: S311 - nothing secret
            longest = min(longest * 2, self.longest_wait)


TIMING: Final = Timing()


class _Connection(Protocol):
    """What is used of redis-py's connection: typed, which redis-py leaves half undone."""

    async def connect(self) -> object: ...

    async def disconnect(self, *, nowait: bool) -> object: ...

    async def send_command(self, *words: str) -> object: ...

    async def read_response(self, *, timeout: float | None = None, disconnect_on_error: bool = True) -> object: ...  # noqa: ASYNC109


class _Client(Protocol):
    """What is used of redis-py's client."""

    async def execute_command(self, *words: str) -> object: ...

    async def aclose(self) -> object: ...


class RedisEngine:
    """An engine of the bus, as `delivery.bus.Engine` promises it.

    redis-py's own PubSub is not used: it reconnects inside whichever task touches it first, so nobody learns that
    hints were lost, and a subscribe returns before the server has confirmed it.
    """

    def __init__(
        self, url: str, on_fault: Callable[[Exception], None], on_recovery: Callable[[], None], timing: Timing = TIMING
    ) -> None:
        """Raise ValueError for a URL that redis-py cannot read; the error quotes nothing of the URL."""
        self._connection_class, self._options = _options(url)
        self._on_fault = on_fault
        self._on_recovery = on_recovery
        self._timing = timing
        self._wanted: set[str] = set()
        self._confirmations: dict[str, asyncio.Future[None]] = {}
        # Without a bound of its own: one turn of the event loop reads at most what a stream reader buffers (128 KiB
        # and one 256 KiB receive, a few thousand hints), and the bus takes all of it in the next turn.
        self._inbox: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._connection: _Connection | None = None
        self._session = asyncio.Timeout(None)
        self._publisher: _Client | None = None
        self._publishing = True
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def well(self) -> bool:
        """Every wanted channel is subscribed, and the last publish arrived."""
        return self._connection is not None and self._publishing

    async def connect(self) -> None:
        connection, listening = await self._open(), asyncio.Event()
        self._publisher = self._make_publisher()
        self._own(self._supervise(connection, listening.set))
        await listening.wait()

    async def disconnect(self) -> None:
        publisher, self._publisher = self._publisher, None
        self._fall_silent()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if publisher is not None:
            await publisher.aclose()

    async def subscribe(self, channel: str) -> None:
        self._wanted.add(channel)
        if (connection := self._connection) is None:
            return  # whoever restores the connection subscribes to all that is wanted by then
        confirmed = self._confirmations[channel] = asyncio.get_running_loop().create_future()
        await self._ask(connection, "SUBSCRIBE", channel, confirmed)
        del self._confirmations[channel]

    async def unsubscribe(self, channel: str) -> None:
        self._wanted.discard(channel)
        if (connection := self._connection) is not None:
            await self._ask(connection, "UNSUBSCRIBE", channel)

    async def publish(self, channel: str, text: str) -> None:
        if not self._publishing:
            raise ConnectionError("Publishing waits for the broker to answer again.")
        try:
            await self._send(channel, text)
        except FAULTS as fault:
            self._stop_publishing(fault, channel, text)
            raise

    async def next_text(self) -> tuple[str, str]:
        return await self._inbox.get()

    # The connection that listens: opened, read until it fails, opened again.

    async def _supervise(self, connection: _Connection, on_listening: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        waits = self._timing.waits()
        while True:
            began = loop.time()
            await self._listen(connection, on_listening)
            if loop.time() - began > self._timing.longest_wait:
                waits = self._timing.waits()  # a connection that fails at once again goes on waiting longer
            connection, on_listening = await self._reopen(waits), self._on_recovery

    async def _listen(self, connection: _Connection, on_listening: Callable[[], None]) -> None:
        """Read until the connection fails, falls silent or is condemned, then close it.

        Nothing waits between the last subscription in `_open` and the first line here, so no channel falls in between.
        """
        try:
            async with asyncio.timeout(None) as self._session:
                self._connection = connection
                on_listening()
                while True:
                    self._take(await self._next_reply(connection))
        except Exception as fault:  # noqa: BLE001 - whatever it is, a new connection is the answer
            self._fall(fault)
        finally:
            await _close(connection)

    async def _reopen(self, waits: Iterator[float]) -> _Connection:
        while True:
            await asyncio.sleep(next(waits))
            with suppress(Exception):  # the fault was told when it began; the next attempt comes
                return await self._open()

    async def _open(self) -> _Connection:
        """A connection that has answered and is subscribed to all that is wanted."""
        connection = self._make_listener()
        try:
            async with asyncio.timeout(self._timing.connect):
                await connection.connect()
                await connection.send_command("PING")
                await connection.read_response()
                await self._subscribe_to_all(connection)
        except BaseException:
            await _close(connection)
            raise
        return connection

    async def _subscribe_to_all(self, connection: _Connection) -> None:
        """One command for all channels; what is asked for or left meanwhile is made good before it returns."""
        subscribed: set[str] = set()
        while subscribed != self._wanted:
            if surplus := subscribed - self._wanted:
                await connection.send_command("UNSUBSCRIBE", *surplus)
            if missing := self._wanted - subscribed:
                await connection.send_command("SUBSCRIBE", *missing)
            subscribed = (subscribed | missing) - surplus
            while missing:
                missing.discard(self._take(await connection.read_response()))

    async def _next_reply(self, connection: _Connection) -> object:
        reply = await connection.read_response(timeout=self._timing.idle, disconnect_on_error=False)
        if reply is not None:
            return reply
        await connection.send_command("PING")
        reply = await connection.read_response(timeout=self._timing.sign, disconnect_on_error=False)
        if reply is None:
            raise TimeoutError("The broker gave no sign of life.")
        return reply

    def _take(self, reply: object) -> str:
        """Keep a text for the bus, confirm a subscription; return the confirmed channel, or nothing."""
        match reply:
            case [b"message", bytes() as channel, bytes() as text]:
                self._inbox.put_nowait((channel.decode(errors="replace"), text.decode(errors="replace")))
            case [b"subscribe", bytes() as channel, int()]:
                name = channel.decode()
                _settle(self._confirmations.get(name))
                return name
            case _:
                pass
        return ""

    async def _ask(
        self, connection: _Connection, command: str, channel: str, answer: asyncio.Future[None] | None = None
    ) -> None:
        """Send a command and wait for the answer if there is one. If this fails, end the connection's session."""
        try:
            async with asyncio.timeout(self._timing.reply):
                await connection.send_command(command, channel)
                if answer is not None:
                    await answer
        except FAULTS as fault:
            if connection is self._connection:
                self._fall(fault)
                self._session.reschedule(asyncio.get_running_loop().time())

    def _fall(self, fault: Exception) -> None:
        if self._fall_silent():
            self._on_fault(fault)

    def _fall_silent(self) -> bool:
        """From here on nothing is heard: let go whoever waits for a confirmation. False if it was so already."""
        was_listening = self._connection is not None
        self._connection = None
        for confirmed in self._confirmations.values():
            _settle(confirmed)
        return was_listening

    # The pool that publishes.

    async def _send(self, channel: str, text: str) -> None:
        if self._publisher is None:
            raise ConnectionError("The bus is not open.")
        async with asyncio.timeout(self._timing.reply):
            await self._publisher.execute_command("PUBLISH", channel, text)

    def _stop_publishing(self, fault: Exception, channel: str, text: str) -> None:
        """Let every publish fail at once until this one has arrived: a dead broker costs one wait, not each."""
        if self._publishing and self._publisher is not None:
            self._publishing = False
            self._on_fault(fault)
            self._own(self._publish_at_last(channel, text))

    async def _publish_at_last(self, channel: str, text: str) -> None:
        for wait in self._timing.waits():
            await asyncio.sleep(wait)
            # Not a ping: a broker may answer that and still take no text (no right to the channel, no memory).
            with suppress(Exception):
                await self._send(channel, text)
                break
        self._publishing = True
        self._on_recovery()

    # What is made.

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Neither kind of connection has a socket_timeout (redis-py's default is 5 s); `asyncio.timeout` bounds both.
    # It would end each silent read. It would also send through asyncio.wait_for, which on Python 3.11 makes each send a
    # task, so that two commands can change places, and swallows a cancellation that comes as the send ends.

    def _make_listener(self) -> _Connection:
        return self._connection_class(**self._options, socket_connect_timeout=self._timing.connect)

    def _make_publisher(self) -> _Client:
        # One retry and no more (redis-py's default is 10): a pooled connection may have died while idle.
        pool = BlockingConnectionPool(
            max_connections=PUBLISHERS,
            timeout=self._timing.reply,
            connection_class=self._connection_class,
            retry=Retry(NoBackoff(), 1),
            retry_on_error=list(FAULTS),
            socket_connect_timeout=self._timing.reply,
            **self._options,
        )
        return Client.from_pool(pool)


def _options(url: str) -> tuple[type[AbstractConnection], dict[str, Any]]:
    """What redis-py reads in the URL, with everything fixed that the engine decides itself."""
    try:
        options: dict[str, Any] = {**parse_url(url)}
        connection_class = options.pop("connection_class", Connection)
        for name in ("max_connections", "timeout", "socket_connect_timeout", "retry_on_timeout"):
            options.pop(name, None)  # how long the engine waits is its own affair
        # RESP2 delivers hints as plain replies on every version of the server.
        options |= {"protocol": 2, "decode_responses": False, "driver_info": None}
        options |= {"socket_timeout": None, "health_check_interval": 0}
        connection_class(**options)
    except (ValueError, TypeError, RedisError):
        raise ValueError("BROADCAST_URL is not a Redis URL that can be read.") from None
    return connection_class, options


async def _close(connection: _Connection) -> None:
    with suppress(*FAULTS):
        await connection.disconnect(nowait=True)  # its goodbye may never be answered


def _settle(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
