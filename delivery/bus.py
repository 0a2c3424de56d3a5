"""Hints between processes. The only file that names broadcaster; must not know what a hint says or who waits for it.

A hint tells that something may be read from the database. One that is lost costs a delay and nothing else, so no fault
of the broker ever reaches a caller: the bus says that it is unwell, and calls its recovery listeners when it is over.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import structlog
from broadcaster import Broadcast, BroadcastBackend, Event

from delivery.link import TIMING, Timing
from delivery.postgres import PostgresEngine
from delivery.redis import RedisEngine

Handler = Callable[[str], None]

MAX_CHANNEL_BYTES: Final = 63
MAX_TEXT_BYTES: Final = 7_000
"""What fits every broker: PostgreSQL has 63 bytes for a name and 7,999 for a text, some of them for what it escapes."""

log = structlog.get_logger("parley.delivery")


class BusUnavailable(Exception):
    """The broker cannot be used at start. The text is one sentence for an operator, without password."""


class BrokerAway(BusUnavailable):
    """Waiting may mend it: nothing answers there yet."""


class UnreadableUrl(BusUnavailable, ValueError):
    """The URL names no broker; the text quotes nothing of it."""


class Engine(Protocol):
    """What a broker has to do for the bus. It is made with the URL, `on_fault(error)` and `on_recovery()`.

    It calls `on_fault` once when it stops being well, and `on_recovery` after whatever was lost by it is over and every
    channel is subscribed again. Calls about one channel never overlap. The bus lets no channel and no text through that
    is longer than MAX_CHANNEL_BYTES and MAX_TEXT_BYTES.
    """

    @property
    def well(self) -> bool: ...

    async def connect(self) -> None:
        """Raise whatever is wrong, and leave nothing open then."""
        ...

    def is_away(self, fault: Exception) -> bool:
        """Whether what `connect` has raised may pass by itself: nothing answers there, or not yet."""
        ...

    async def disconnect(self) -> None:
        """Leave no task and no connection."""
        ...

    async def subscribe(self, channel: str) -> None:
        """Return once the broker has confirmed it, or, after a bounded time, unwell: `on_recovery` then follows.

        Never raise: broadcaster would answer with a KeyError of its own.
        """
        ...

    async def unsubscribe(self, channel: str) -> None:
        """Return after a bounded time. Never raise."""
        ...

    async def publish(self, channel: str, text: str) -> None:
        """Return once the broker has taken the text, or raise within a bounded time."""
        ...

    async def next_text(self) -> tuple[str, str]:
        """A channel and a text, in the broker's order. Never raise: broadcaster's listener would end without a word."""
        ...


@dataclass
class Counts:
    """What happened since the bus was made: texts the broker took, texts it did not, faults and their ends."""

    published: int = 0
    lost: int = 0
    faults: int = 0
    recoveries: int = 0


class Bus:
    """Texts on named channels, to every process that uses the same URL: `async with Bus(url) as bus`."""

    def __init__(self, url: str, timing: Timing = TIMING) -> None:
        """Raise UnreadableUrl unless it is memory://, or a URL of Redis or PostgreSQL."""
        self.counts = Counts()
        self._address = _address(url)
        try:
            self._engine = _engine(url, self._fell, self._recovered, timing)
        except ValueError as error:
            raise UnreadableUrl(str(error)) from None
        self._broadcast = Broadcast(backend=_Backend(self._engine)) if self._engine else Broadcast("memory://")
        self._open = False
        self._channels: dict[str, _Channel] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovery_listeners: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        """Connect. Raise BusUnavailable if the broker cannot be used, BrokerAway if it may be soon: try again then."""
        try:
            await self._broadcast.connect()
        except Exception as fault:
            is_away = self._engine is not None and self._engine.is_away(fault)
            refusal = BrokerAway if is_away else BusUnavailable
            raise refusal(f"The broker at {self._address} cannot be used: {_reason(fault)}.") from fault
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drop every handler, then leave no task and no connection. Takes at most a few seconds."""
        self._open = False
        for channel in tuple(self._channels.values()):
            channel.handlers.clear()
            self._close_if_deserted(channel)
        try:
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            await self._broadcast.disconnect()
            await asyncio.sleep(0)  # broadcaster cancels its listener without waiting: one turn of the loop ends it

    @property
    def well(self) -> bool:
        """Whether hints are known to travel: false from a detected fault until everything is subscribed again."""
        return self._open and (self._engine is None or self._engine.well)

    def add_recovery_listener(self, listener: Callable[[], None]) -> None:
        """Call `listener` each time after hints may have been lost, once they travel again."""
        self._recovery_listeners.append(listener)

    async def publish(self, channel: str, text: str) -> None:
        """Hand `text` to the broker, for 2 s at most. A fault is counted and said by `well`, never raised.

        A text of more than MAX_TEXT_BYTES is lost.
        """
        was_well = self.well
        try:
            _check(channel, text)
            await self._broadcast.publish(channel, text)
        except Exception as fault:  # noqa: BLE001 - what was committed before this call must not fail by it
            self.counts.lost += 1
            if was_well:  # the rest of an outage is counted, not told one by one
                log.warning("hint_lost", channel=channel, error=type(fault).__name__)
        else:
            self.counts.published += 1
        await asyncio.sleep(0)  # in memory nothing above waits: a burst must not outrun the readers of its queue

    async def join(self, channel: str, handler: Handler) -> None:
        """Call `handler` with every text that any process publishes on `channel` after this returns, in order.

        While the broker is away this returns as well (2 s at most): the texts then begin with the recovery, and the
        recovery listeners are called. The handler must not wait; one that raises is logged. Raise RuntimeError unless
        the bus is open, ValueError for a name that is empty, has a NUL or more than MAX_CHANNEL_BYTES.
        """
        if not self._open:
            raise RuntimeError("The bus is not open.")
        _check(channel)
        joined = self._channels.get(channel) or self._follow(channel)
        joined.handlers.append(handler)
        try:
            await joined.ready.wait()
        except asyncio.CancelledError:
            self._remove(joined, handler)
            raise

    async def leave(self, channel: str, handler: Handler) -> None:
        """Never call `handler` for this join again. Nothing happens if it has not joined."""
        if (joined := self._channels.get(channel)) is not None:
            self._remove(joined, handler)

    def _follow(self, name: str) -> "_Channel":
        channel = self._channels[name] = _Channel(name)
        channel.task = self._own(self._read(channel))
        return channel

    async def _read(self, channel: "_Channel") -> None:
        """One broadcaster subscription, from the first join to the last leave.

        Only one at a time for each name: broadcaster loses a subscriber that comes while another one subscribes.
        broadcaster's queue has no bound, but is empty after each turn of this task, because handlers do not wait.
        """
        lock = self._locks.setdefault(channel.name, asyncio.Lock())
        try:
            async with lock, self._broadcast.subscribe(channel.name) as subscriber:
                channel.ready.set()
                while channel.handlers:
                    channel.deliver((await subscriber.get()).message)
        except Exception:
            log.exception("channel_failed", channel=channel.name)
        finally:
            channel.ready.set()
            self._forget(channel)

    def _remove(self, channel: "_Channel", handler: Handler) -> None:
        if handler in channel.handlers:
            channel.handlers.remove(handler)
            self._close_if_deserted(channel)

    def _close_if_deserted(self, channel: "_Channel") -> None:
        if channel.handlers:
            return
        self._forget(channel)
        # Cancelled while it subscribes, broadcaster raises a KeyError instead: such a task ends by itself, afterwards.
        if channel.ready.is_set() and channel.task is not None:
            channel.task.cancel()

    def _forget(self, channel: "_Channel") -> None:
        if self._channels.get(channel.name) is channel:
            del self._channels[channel.name]

    def _own(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _fell(self, fault: Exception) -> None:
        self.counts.faults += 1
        log.warning("broker_lost", broker=self._address, reason=_reason(fault))

    def _recovered(self) -> None:
        self.counts.recoveries += 1
        log.info("broker_recovered", broker=self._address, hints_lost=self.counts.lost)
        for listener in tuple(self._recovery_listeners):
            try:
                listener()
            except Exception:
                log.exception("recovery_listener_failed")


class _Channel:
    """The handlers of one channel and the task that reads it. It is in the bus's books as long as it has handlers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.handlers: list[Handler] = []
        self.ready = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def deliver(self, text: str) -> None:
        for handler in tuple(self.handlers):
            try:
                handler(text)
            except Exception:
                log.exception("handler_failed", channel=self.name)


class _Backend(BroadcastBackend):
    """An engine in the shape that broadcaster asks for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def connect(self) -> None:
        await self._engine.connect()

    async def disconnect(self) -> None:
        await self._engine.disconnect()

    async def subscribe(self, group: str) -> None:
        await self._engine.subscribe(group)

    async def unsubscribe(self, group: str) -> None:
        await self._engine.unsubscribe(group)

    async def publish(self, channel: str, message: str) -> None:
        await self._engine.publish(channel, message)

    async def next_published(self) -> Event:
        return Event(*await self._engine.next_text())


_MakeEngine = Callable[[str, Callable[[Exception], None], Callable[[], None], Timing], Engine]

_ENGINES: Final[dict[str, _MakeEngine]] = {
    "redis": RedisEngine,
    "rediss": RedisEngine,
    "postgres": PostgresEngine,
    "postgresql": PostgresEngine,
}


def _engine(
    url: str, on_fault: Callable[[Exception], None], on_recovery: Callable[[], None], timing: Timing
) -> Engine | None:
    """The engine for the URL; None for memory, which broadcaster's own backend serves well."""
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return None
    if scheme not in _ENGINES:
        raise ValueError("BROADCAST_URL begins with memory://, redis://, rediss://, postgres:// or postgresql://.")
    return _ENGINES[scheme](url, on_fault, on_recovery, timing)


def _check(channel: str, text: str = "") -> None:
    """Refuse on every broker what would not fit one of them."""
    if not 0 < len(channel.encode()) <= MAX_CHANNEL_BYTES or "\x00" in channel:
        raise ValueError(f"A channel's name has 1 to {MAX_CHANNEL_BYTES} bytes and no NUL.")
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise ValueError(f"A text has at most {MAX_TEXT_BYTES} bytes.")


def _address(url: str) -> str:
    """Where the broker is, for logs and errors: no user, no password, no options."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:  # several hosts, or none that can be read; its text can quote a password
        return "BROADCAST_URL"
    return f"{parts.scheme}://{parts.hostname or ''}{port}"


def _reason(fault: Exception) -> str:
    """What went wrong, as the end of a sentence."""
    return " ".join(str(fault).split()).rstrip(".") or "no answer in time"
