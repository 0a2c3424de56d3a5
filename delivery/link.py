"""A watched connection to a broker, replaced when it fails, and publishing that fails at once while the broker is away.

Must not know any broker, nor groups, handlers, or the package that spreads what is heard inside the process.
"""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, NoReturn, TypeVar

Connection = TypeVar("Connection")


@dataclass(frozen=True)
class Timing:
    """How long an engine waits, in seconds."""

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


class Unsendable(ValueError):
    """This text cannot be sent, however well the broker is."""


class Link(ABC, Generic[Connection]):
    """An engine of the bus, as `delivery.bus.Engine` promises it, but for the words of its broker.

    A broker adds how a connection that listens is opened, asked, heard and closed, and how a text is sent.
    """

    def __init__(
        self, on_fault: Callable[[Exception], None], on_recovery: Callable[[], None], timing: Timing = TIMING
    ) -> None:
        self._on_fault = on_fault
        self._on_recovery = on_recovery
        self._timing = timing
        self._wanted: set[str] = set()
        self._confirmations: dict[str, asyncio.Future[None]] = {}
        # Without a bound of its own: one turn of the event loop reads at most what a connection buffers (a few hundred
        # KiB, some thousand hints), and the bus takes all of it in the next turn.
        self._inbox: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._connection: Connection | None = None
        self._session = asyncio.Timeout(None)
        self._open = False
        self._publishing = True
        self._tasks: set[asyncio.Task[None]] = set()

    # What the broker adds. Whatever is awaited here is bounded, and cancelled, from outside.

    @abstractmethod
    async def _dial(self) -> Connection:
        """A connection that has answered and is subscribed to all of `_wanted`. Raise, and leave nothing open."""

    @abstractmethod
    async def _hear(self, connection: Connection) -> NoReturn:
        """Call `_keep` for each text and `_confirm` for each channel until the connection fails, then raise.

        In silence ask for a sign of life. Nothing waits between the end of `_dial` and the begin of this.
        """
        ...

    @abstractmethod
    async def _tell(self, connection: Connection, channel: str, /) -> None:
        """Have the broker told that `_wanted` has changed in this channel."""

    @abstractmethod
    async def _hang_up(self, connection: Connection) -> None:
        """Close the connection without a word from the broker. Never raise."""

    @abstractmethod
    async def _send(self, channel: str, text: str) -> None:
        """Return once the broker has taken the text. Raise Unsendable if it is the text that is at fault."""

    @abstractmethod
    async def _end_sending(self) -> None:
        """Close whatever `_send` has opened."""

    @abstractmethod
    def is_away(self, fault: Exception) -> bool:
        """Whether what `_dial` has raised may pass by itself."""

    # What the bus calls.

    @property
    def well(self) -> bool:
        """Every wanted channel is subscribed, and the last publish arrived."""
        return self._connection is not None and self._publishing

    async def connect(self) -> None:
        connection, listening = await self._dial_in_time(), asyncio.Event()
        self._open = True
        self._own(self._supervise(connection, listening.set))
        await listening.wait()

    async def disconnect(self) -> None:
        self._open = False
        self._fall_silent()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._end_sending()

    async def subscribe(self, channel: str) -> None:
        self._wanted.add(channel)
        if (connection := self._connection) is None:
            return  # whoever restores the connection subscribes to all that is wanted by then
        confirmed = self._confirmations[channel] = asyncio.get_running_loop().create_future()
        async with self._in_time_or_fall(connection):
            await self._tell(connection, channel)
            await confirmed
        del self._confirmations[channel]

    async def unsubscribe(self, channel: str) -> None:
        self._wanted.discard(channel)
        if (connection := self._connection) is not None:
            async with self._in_time_or_fall(connection):
                await self._tell(connection, channel)

    async def publish(self, channel: str, text: str) -> None:
        if not self._publishing:
            raise ConnectionError("Publishing waits for the broker to answer again.")
        try:
            await self._send_in_time(channel, text)
        except ValueError:
            raise
        except Exception as fault:
            self._stop_publishing(fault, channel, text)
            raise

    async def next_text(self) -> tuple[str, str]:
        return await self._inbox.get()

    # The connection that listens: opened, heard until it fails, opened again.

    async def _supervise(self, connection: Connection, on_listening: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        waits = self._timing.waits()
        while True:
            began = loop.time()
            await self._listen(connection, on_listening)
            if loop.time() - began > self._timing.longest_wait:
                waits = self._timing.waits()  # a connection that fails at once again goes on waiting longer
            connection, on_listening = await self._redial(waits), self._on_recovery

    async def _listen(self, connection: Connection, on_listening: Callable[[], None]) -> None:
        """Hear until the connection fails, falls silent or is condemned, then close it."""
        try:
            async with asyncio.timeout(None) as self._session:
                self._connection = connection
                on_listening()
                await self._hear(connection)
        except Exception as fault:  # noqa: BLE001 - whatever it is, a new connection is the answer
            self._fall(fault)
        finally:
            await self._hang_up(connection)

    async def _redial(self, waits: Iterator[float]) -> Connection:
        while True:
            await asyncio.sleep(next(waits))
            with suppress(Exception):  # the fault was told when it began; the next attempt comes
                return await self._dial_in_time()

    async def _dial_in_time(self) -> Connection:
        async with asyncio.timeout(self._timing.connect):
            return await self._dial()

    @asynccontextmanager
    async def _in_time_or_fall(self, connection: Connection) -> AsyncGenerator[None]:
        """If what is done here fails or takes too long, end the connection's session."""
        try:
            async with asyncio.timeout(self._timing.reply):
                yield
        except Exception as fault:  # noqa: BLE001 - the bus is never told by an exception
            if connection is self._connection:
                self._fall(fault)
                self._session.reschedule(asyncio.get_running_loop().time())

    def _keep(self, channel: str, text: str) -> None:
        self._inbox.put_nowait((channel, text))

    def _confirm(self, channels: Iterable[str]) -> None:
        for channel in channels:
            _settle(self._confirmations.get(channel))

    def _fall(self, fault: Exception) -> None:
        if self._fall_silent():
            self._on_fault(fault)

    def _fall_silent(self) -> bool:
        """From here on nothing is heard: let go whoever waits for a confirmation. False if it was so already."""
        was_listening = self._connection is not None
        self._connection = None
        self._confirm(self._confirmations)
        return was_listening

    # Publishing.

    async def _send_in_time(self, channel: str, text: str) -> None:
        if not self._open:
            raise ConnectionError("The bus is not open.")
        async with asyncio.timeout(self._timing.reply):
            await self._send(channel, text)

    def _stop_publishing(self, fault: Exception, channel: str, text: str) -> None:
        """Let every publish fail at once until this one has arrived: a dead broker costs one wait, not each."""
        if self._publishing and self._open:
            self._publishing = False
            self._on_fault(fault)
            self._own(self._publish_at_last(channel, text))

    async def _publish_at_last(self, channel: str, text: str) -> None:
        for wait in self._timing.waits():
            await asyncio.sleep(wait)
            # Not a ping: a broker may answer that and still take no text (no right to the channel, no memory).
            with suppress(Exception):
                with suppress(ValueError):  # it answers again, and this text is not for it
                    await self._send_in_time(channel, text)
                break
        self._publishing = True
        self._on_recovery()

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _settle(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
