"""One log in one process: its events in order, each read once, and handed to every seat. Knows no table and no feature.

The database is asked after a hint, after a head check, and when somebody has read the log's owner in a newer state than
this stream has applied. Rows that change who may do what are applied before anything that was read together with them
is handed out.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle
from typing import Any, Protocol
from uuid import UUID

import structlog

import failpoints

from .bus import Bus
from .events import Batch, Event, Head, Hint, Log, Reader
from .feed import EndReason

BATCH = 200
HEADS_PER_STATEMENT = 500  # 5 ms of the event loop on SQLite; 5,000 at once were 36
HINTS_PER_TEXT = 100  # of 60 bytes at most; the bus carries 7,000
READ_ATTEMPTS = 8  # with the pauses below about ten seconds
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 3.0
CHANNELS = tuple(f"parley.{number}" for number in range(8))  # every process listens to all of them
MAX_JOINING = 10_000
PUBLISH_PAUSE = 0.01  # seconds between two publishings: what is committed meanwhile is told together
LAST_WORDS_SECONDS = 2.0

log = structlog.get_logger("parley.delivery")


class Listener(Protocol):
    """Who sits on a stream. Neither call may wait."""

    def take(self, event: Event) -> None: ...

    def end(self, reason: EndReason) -> None: ...


class _Nobody:
    """Listens no more."""

    def take(self, event: Event) -> None:
        pass

    def end(self, reason: EndReason) -> None:
        pass


NOBODY = _Nobody()


class Crowd(Protocol):
    """Many listeners of a stream, to whom an event that ends nobody's right to follow is offered once."""

    def take(self, event: Event) -> None:
        """May not wait."""
        ...


class Seat:
    """One listener's place on one stream.

    It begins in the state of joining and keeps what arrives. `begin(floor)` makes it live: nothing at or below `floor`
    ever reaches the listener, everything above does, once and in order, until the event that ends it.
    """

    __slots__ = ("_joining", "crowd", "ending", "floor", "left", "listener", "stream", "user_id")

    def __init__(self, stream: "Stream", user_id: UUID, listener: Listener) -> None:
        self.stream = stream
        self.user_id = user_id
        self.floor = 0
        self.left = False
        self.ending: Event | None = None
        self.listener = listener
        self.crowd: Crowd | None = None
        self._joining: list[Event] | None = []

    def begin(self, floor: int) -> None:
        """Go live above `floor`, which was read from the database after this seat was taken."""
        waiting, self._joining, self.floor = self._joining or [], None, floor
        for event in waiting:
            self.offer(event)

    def follow_in(self, crowd: Crowd, listener: Listener) -> None:
        """From here on a live seat's events come through the crowd, or through this one in place of another; `listener`
        hears of its end. What is at or below `floor` may come through the crowd too, and is not for this seat.
        """
        self.listener = listener
        if not self.left:
            self.stream.gather(self, crowd)
            self.crowd = crowd

    async def begin_from(self, floor: int) -> None:
        """Go live above a `floor` that the stream may have passed: what lies between is read for this seat alone.

        Raises what the reader raises; call it again and it goes on where it was.
        """
        stream, self.floor = self.stream, max(self.floor, floor)
        target = max(self.floor, stream.applied)
        await self._apply_access(stream.access_seq)
        while self.floor < target and not self.left:
            batch = await stream.reader.after(stream.log, self.floor, BATCH)
            await self._apply_access(batch.access_seq)
            due = [event for event in batch.events if event.seq <= target]
            self._hand(due)
            self.floor = due[-1].seq if due else target
        self.begin(self.floor)

    async def _apply_access(self, access_seq: int) -> None:
        """Whoever has lost the right to follow by `access_seq` gets the end, and nothing before it."""
        if access_seq > self.floor:
            access = await self.stream.reader.access_between(self.stream.log, self.floor, access_seq)
            self._hand([event for event in access if event.ends_for(self.user_id)][:1])

    def _hand(self, events: Iterable[Event]) -> None:
        for event in events:
            if not self.left:
                self._give(event)

    def offer(self, event: Event) -> None:
        if self._joining is not None:
            self._keep(event)
        elif event.seq > self.floor and not self.left:
            self._give(event)

    def _keep(self, event: Event) -> None:
        assert self._joining is not None
        if len(self._joining) < MAX_JOINING:
            self._joining.append(event)
        else:
            self.end(EndReason.LAGGING)

    def _give(self, event: Event) -> None:
        if event.ends_for(self.user_id):
            self.ending = event
            self.leave()
        self.listener.take(event)

    def end(self, reason: EndReason) -> None:
        self.leave()
        self.listener.end(reason)

    def leave(self) -> None:
        self.left = True
        self.stream.leave(self)


class Stream:
    """The live part of one log.

    `applied` is the last seq that was handed out, `access_seq` how far permissions have been applied.
    """

    __slots__ = (
        "_alone", "_crowds", "_drain", "_known", "_owner", "_seats", "access_seq", "applied", "log", "reader"
    )  # fmt: skip

    def __init__(self, owner: "Streams", log: Log, head: Head) -> None:
        self._owner = owner
        self._seats: dict[Seat, None] = {}
        self._alone: dict[Seat, None] = {}  # those in no crowd
        self._crowds: dict[Crowd, int] = {}  # with how many of them
        self._drain: asyncio.Task[None] | None = None
        self._known = head.seq
        self.log = log
        self.reader = owner.reader
        self.applied = head.seq
        self.access_seq = head.access_seq

    def sit(self, user_id: UUID, listener: Listener) -> Seat:
        seat = Seat(self, user_id, listener)
        self._seats[seat] = self._alone[seat] = None
        return seat

    def gather(self, seat: Seat, crowd: Crowd) -> None:
        self._scatter(seat)
        self._crowds[crowd] = self._crowds.get(crowd, 0) + 1

    def _scatter(self, seat: Seat) -> None:
        self._alone.pop(seat, None)
        if seat.crowd is not None:
            self._crowds[seat.crowd] -= 1
            if not self._crowds[seat.crowd]:
                del self._crowds[seat.crowd]

    def leave(self, seat: Seat) -> None:
        if seat not in self._seats:
            return
        del self._seats[seat]
        self._scatter(seat)
        if not self._seats:
            self._owner.forget(self)

    def hint(self, seq: int) -> None:
        """The log has come to `seq`, somebody says. Never waits."""
        self._known = max(self._known, seq)
        if self._known > self.applied and self._drain is None and self._seats:
            self._drain = self._owner.own(self._read_on())
            self._drain.add_done_callback(self._drained)

    def take(self, batch: Batch) -> None:
        """What this process has committed just now. It is handed out as it is where it comes next: everything below it
        was applied, permissions included. Otherwise it is read like any other. Never waits.

        Reading it again took 0.3 ms of CPU, a quarter of what a message to ten subscribers cost.
        """
        if batch.events[0].seq == self.applied + 1 and batch.access_seq <= self.access_seq and self._drain is None:
            self._hand_out(batch)

    def _drained(self, task: asyncio.Task[None]) -> None:
        self._drain = None
        if not task.cancelled():
            self.hint(0)

    async def settle(self, access_seq: int) -> None:
        """Return when permissions up to `access_seq` are applied to every seat: read it, and then `seat.left`, before
        showing what was read there.
        """
        await self._until(access_seq, lambda: self.access_seq)

    async def reach(self, seq: int) -> None:
        """Return when everything up to `seq` was handed out, or nobody follows any more."""
        await self._until(seq, lambda: self.applied)

    async def _until(self, seq: int, position: Callable[[], int]) -> None:
        while position() < seq and self._seats:
            self.hint(seq)
            if self._drain is None:
                return
            await asyncio.wait([self._drain])

    async def _read_on(self) -> None:
        while self._known > self.applied and self._seats:
            if (batch := await self.read(self.applied)) is None:
                return
            self._hand_out(batch)

    async def read(self, after: int) -> Batch | None:
        """The next rows after that seq, once permissions are applied as they were when these were read.

        A fault is tried again, for about ten seconds. None: nobody follows any more, or all were told that it stays.
        """
        failures = 0
        while self._seats:
            try:
                batch = await self.reader.after(self.log, after, BATCH)
                await self._apply_access(batch)
                return batch
            except Exception as error:  # noqa: BLE001  # whatever it is, the event is not skipped
                failures += 1
                if failures == READ_ATTEMPTS:
                    self._give_up(error)
                    break
                await asyncio.sleep(_pause(failures))
        return None

    async def _apply_access(self, batch: Batch) -> None:
        """Whoever has lost the right to follow by the time the batch was read gets the end and nothing else of it."""
        if batch.access_seq <= self.access_seq:
            return
        for event in await self.reader.access_between(self.log, self.access_seq, batch.access_seq):
            if event.ends is not None:
                for seat in tuple(self._seats):
                    if event.ends_for(seat.user_id):
                        seat.offer(event)
        self.access_seq = max(self.access_seq, batch.access_seq)

    def _hand_out(self, batch: Batch) -> None:
        for event in batch.events:
            if event.seq > self.applied:
                self._apply(event)
        if not batch.events:
            self._known = self.applied  # a hint of something that is not there: the head check says more

    def _apply(self, event: Event) -> None:
        self.applied = event.seq
        if event.ends is None:
            for crowd in tuple(self._crowds):
                crowd.take(event)
        for seat in tuple(self._alone if event.ends is None else self._seats):
            seat.offer(event)

    def start_over(self) -> None:
        """The log has become shorter, or is gone: a backup was restored under this process. Clients resume, and are
        told.
        """
        log.error("log_went_back", kind=self.log.kind, id=str(self.log.id), applied=self.applied)
        for seat in tuple(self._seats):
            seat.end(EndReason.FAULT)

    def _give_up(self, error: Exception) -> None:
        log.error(
            "log_unreadable", kind=self.log.kind, id=str(self.log.id), after=self.applied, error=type(error).__name__
        )
        self._known = self.applied
        for seat in tuple(self._seats):
            seat.end(EndReason.FAULT)


class Streams:
    """The streams of one process: one for each log that somebody here follows, gone when the last seat is left."""

    def __init__(self, bus: Bus, reader: Reader, head_check_seconds: float) -> None:
        self.reader = reader
        self._bus = bus
        self._head_check_seconds = head_check_seconds
        self._streams: dict[Log, Stream] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unpublished: dict[Log, int] = {}
        self._channels = cycle(CHANNELS)
        self._ears: list[dict[Log, int]] = []
        self._publisher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Streams":
        self._bus.add_recovery_listener(self._recovered)
        for channel in CHANNELS:
            await self._bus.join(channel, self._hinted)
        self.own(self._check_heads_for_ever())
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in CHANNELS:
            await self._bus.leave(channel, self._hinted)
        if self._publisher is not None:
            await asyncio.wait([self._publisher], timeout=LAST_WORDS_SECONDS)
        for task in tuple(self._tasks):
            task.cancel()
        for task in tuple(self._tasks):
            with suppress(asyncio.CancelledError, Exception):
                await task

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, log: Log) -> bool:
        """Whether anybody here follows it."""
        return log in self._streams

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that ends with these streams at the latest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def announce(self, committed: Iterable[tuple[Hint, Batch | None]]) -> None:
        """Tell every process how far these logs have come: this one at once, the others through the bus. A batch is
        what was appended, where it is known and the log is followed here.

        Never waits and never raises: what is committed stays committed. Only the newest seq of a log waits to be
        published, so what waits is bounded by the number of logs.
        """
        failpoints.reach("after_commit_before_publish")
        for hint, batch in committed:
            self._unpublished[hint.log] = max(hint.seq, self._unpublished.get(hint.log, 0))
            self._hear(hint, batch)
        self._publish_what_waits()

    def _publish_what_waits(self) -> None:
        if self._publisher is None and self._unpublished:
            self._publisher = self.own(self._publish())
            self._publisher.add_done_callback(self._published)

    def _published(self, task: asyncio.Task[None]) -> None:
        self._publisher = None
        if not task.cancelled():
            self._publish_what_waits()  # what was committed after it had ended and before this call

    async def _publish(self) -> None:
        """The first hint after a pause at once; while many commit, a hundred times a second.

        To tell each commit by itself took 13 % of the node's CPU for a send and 15 % of the engines', with PostgreSQL
        and Redis and 16 who send; in memory 2 %.
        """
        while self._unpublished:
            unpublished, self._unpublished = self._unpublished, {}
            hints = [Hint(each, seq).encode() for each, seq in unpublished.items()]
            for start in range(0, len(hints), HINTS_PER_TEXT):
                await self._bus.publish(next(self._channels), "\n".join(hints[start : start + HINTS_PER_TEXT]))
            await asyncio.sleep(PUBLISH_PAUSE)

    def _hinted(self, text: str) -> None:
        for line in text.split("\n"):
            if hint := Hint.decode(line):
                self._hear(hint)

    def _hear(self, hint: Hint, batch: Batch | None = None) -> None:
        if stream := self._streams.get(hint.log):
            if batch is not None:
                stream.take(batch)
            stream.hint(hint.seq)
        for heard in self._ears:
            if hint.log in heard:
                heard[hint.log] = max(heard[hint.log], hint.seq)

    async def seats(self, logs: Sequence[Log], user_id: UUID, listener: Listener) -> list[Seat]:
        """A seat, still joining, on the stream of each log that exists. Raises what the reader raises.

        Read the floor for `begin` after this returns: whatever is committed later than that read is above the floor,
        and these streams, which began no later, hand it out.
        """
        heads: dict[Log, Head] = {}
        with self._listening(logs) as heard:
            asked: set[Log] = set()
            while missing := [each for each in logs if each not in self._streams and each not in asked]:
                asked.update(missing)
                heads.update(await self._heads(missing))
            for each in logs:
                if each in heads and each not in self._streams:
                    self._streams[each] = Stream(self, each, heads[each])
            seats = [stream.sit(user_id, listener) for each in logs if (stream := self._streams.get(each))]
            for seat in seats:
                seat.stream.hint(heard.get(seat.stream.log, 0))
        return seats

    @contextmanager
    def _listening(self, logs: Sequence[Log]) -> Generator[dict[Log, int]]:
        """The newest hint of each of these logs from here on: their streams are not there yet to take it."""
        heard: dict[Log, int] = dict.fromkeys(logs, 0)
        self._ears.append(heard)
        try:
            yield heard
        finally:
            self._ears = [each for each in self._ears if each is not heard]

    def forget(self, stream: Stream) -> None:
        if self._streams.get(stream.log) is stream:
            del self._streams[stream.log]

    async def _heads(self, logs: Sequence[Log]) -> dict[Log, Head]:
        found: dict[Log, Head] = {}
        for start in range(0, len(logs), HEADS_PER_STATEMENT):
            found.update(await self.reader.heads(logs[start : start + HEADS_PER_STATEMENT]))
        return found

    async def check_heads(self) -> None:
        """Ask how far every followed log has come: what bounds a hint that was lost. Raises what the reader raises."""
        followed = tuple(self._streams.values())
        for start in range(0, len(followed), HEADS_PER_STATEMENT):
            await self._check(followed[start : start + HEADS_PER_STATEMENT])
            await asyncio.sleep(0)  # a reader may take no turn by itself: others have one

    async def _check(self, streams: Sequence[Stream]) -> None:
        applied = [stream.applied for stream in streams]
        heads = await self.reader.heads([stream.log for stream in streams])
        for stream, seq in zip(streams, applied, strict=True):
            head = heads.get(stream.log)
            if head is None or head.seq < seq:
                stream.start_over()
            else:
                stream.hint(head.seq)

    def _recovered(self) -> None:
        self.own(self._check_heads_once())

    async def _check_heads_once(self) -> None:
        try:
            await self.check_heads()
        except Exception as error:  # noqa: BLE001  # the next check comes soon
            log.warning("head_check_failed", error=type(error).__name__)

    async def _check_heads_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._head_check_seconds if self._bus.well else min(1.0, self._head_check_seconds))
            await self._check_heads_once()


def _pause(failures: int) -> float:
    return random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures)  # noqa: S311  # jitter
