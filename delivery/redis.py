"""Hints over Redis publish/subscribe: one watched connection that listens, a small pool that publishes.

Must not know groups, handlers, or the package that spreads what is heard inside the process.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn, Protocol

from redis.asyncio import BlockingConnectionPool, Connection
from redis.asyncio import Redis as Client
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer

from delivery.link import TIMING, Link, Timing

PUBLISHERS: Final = 8
"""Connections that publish at once: a publish holds one for a round trip, so 8 carry thousands a second."""

FAULTS: Final = (RedisError, OSError, RuntimeError)
"""What redis-py raises for a broken connection: under uvloop also RuntimeError, on a transport that closed just now."""


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


class RedisEngine(Link[_Connection]):
    """An engine of the bus, as `delivery.bus.Engine` promises it.

    redis-py's own PubSub is not used: it reconnects inside whichever task touches it first, so nobody learns that
    hints were lost, and a subscribe returns before the server has confirmed it.
    """

    def __init__(
        self, url: str, on_fault: Callable[[Exception], None], on_recovery: Callable[[], None], timing: Timing = TIMING
    ) -> None:
        """Raise ValueError for a URL that redis-py cannot read; the error quotes nothing of the URL."""
        super().__init__(on_fault, on_recovery, timing)
        self._connection_class, self._options = _options(url)
        self._publisher: _Client | None = None

    async def _dial(self) -> _Connection:
        connection = self._make_listener()
        try:
            await connection.connect()
            await connection.send_command("PING")
            await connection.read_response()
            await self._subscribe_to_all(connection)
        except BaseException:
            await self._hang_up(connection)
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

    async def _tell(self, connection: _Connection, channel: str, /) -> None:
        await connection.send_command("SUBSCRIBE" if channel in self._wanted else "UNSUBSCRIBE", channel)

    async def _hear(self, connection: _Connection) -> NoReturn:
        while True:
            self._take(await self._next_reply(connection))

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
                self._keep(channel.decode(errors="replace"), text.decode(errors="replace"))
            case [b"subscribe", bytes() as channel, int()]:
                name = channel.decode()
                self._confirm([name])
                return name
            case _:
                pass
        return ""

    async def _hang_up(self, connection: _Connection) -> None:
        with suppress(*FAULTS):
            await connection.disconnect(nowait=True)  # its goodbye may never be answered

    async def _send(self, channel: str, text: str) -> None:
        if self._publisher is None:
            self._publisher = self._make_publisher()
        await self._publisher.execute_command("PUBLISH", channel, text)

    async def _end_sending(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.aclose()

    def is_away(self, fault: Exception) -> bool:
        is_refused = isinstance(fault, (AuthenticationError, AuthorizationError))
        return isinstance(fault, (NoConnection, NoAnswer, OSError)) and not is_refused

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
