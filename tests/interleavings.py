"""One log in memory, followed while it grows: every interleaving of a seed, and what is wrong with what came.

Nothing here waits for time: readers give the loop away a few times, as a database does, and fail now and then.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from delivery.bus import Bus
from delivery.events import Batch, Event, Head, Hint, Log
from delivery.feed import EndReason
from delivery.stream import Seat, Streams

Found = TypeVar("Found")

LOG = Log("group", UUID(int=7))
PEOPLE = [UUID(int=number) for number in range(1, 4)]
STEPS = (8, 12, 60)
BURSTS = (1, 1, 1, 10)
PAUSES = (0, 0, 0, 1, 2, 5)
TURNS = 400  # of the loop, until everything has come that will come
NEVER = 3_600.0


class MemoryLog:
    """A log whose rows carry the access_seq that they were read under.

    Reads answer late, and fail at the given rate.
    """

    def __init__(self, chance: random.Random, faults: float) -> None:
        self.rows: list[tuple[int, UUID | None]] = []
        self.access_seq = 0
        self.members: set[UUID] = set()
        self._chance = chance
        self._faults = faults

    @property
    def head(self) -> int:
        return len(self.rows)

    def append(self, *, ends: UUID | None = None, access: bool = False) -> int:
        self.rows.append((self.head + 1, ends))
        if access:
            self.access_seq = self.head
        return self.head

    def first_end(self, user_id: UUID, after: int) -> int | None:
        return next((seq for seq, ends in self.rows if ends == user_id and seq > after), None)

    async def heads(self, logs: Sequence[Log]) -> Mapping[Log, Head]:
        return await self._late(lambda: {log: Head(self.head, self.access_seq) for log in logs})

    async def after(self, log: Log, seq: int, limit: int) -> Batch:
        assert log == LOG
        return await self._late(lambda: self.batch_after(seq, limit))

    def batch_after(self, seq: int, limit: int = 1_000) -> Batch:
        return Batch(self._events(seq, seq + limit), self.access_seq)

    async def access_between(self, log: Log, after: int, up_to: int) -> Sequence[Event]:
        assert log == LOG
        return await self._late(lambda: [event for event in self._events(after, up_to) if event.ends])

    async def standing(self, user_id: UUID) -> tuple[bool, int]:
        """Whether somebody is a member, and the head, from one statement."""
        return await self._late(lambda: (user_id in self.members, self.head))

    def _events(self, after: int, up_to: int) -> list[Event]:
        return [Event(LOG, seq, ends, self.access_seq) for seq, ends in self.rows[after:up_to]]

    async def _late(self, read: Callable[[], Found]) -> Found:
        await turns(self._chance.randrange(4))
        found = read()
        await turns(self._chance.randrange(4))
        if self._chance.random() < self._faults:
            raise OSError("the database is away")
        return found


class StuckLog(MemoryLog):
    """A log whose first rows never come."""

    def __init__(self) -> None:
        super().__init__(random.Random(0), faults=0)
        self.reads = 0

    async def after(self, log: Log, seq: int, limit: int) -> Batch:
        self.reads += 1
        await asyncio.Event().wait()
        return await super().after(log, seq, limit)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@dataclass
class Listener:
    """Notes all that it is given."""

    user_id: UUID
    floor: int | None = None
    got: list[Event] = field(default_factory=list[Event])
    reason: EndReason | None = None
    seat: Seat | None = None
    went: bool = False

    def take(self, event: Event) -> None:
        self.got.append(event)

    def end(self, reason: EndReason) -> None:
        self.reason = reason

    def go(self) -> None:
        self.went = True
        if self.seat is not None:
            self.seat.leave()

    def faults(self, log: MemoryLog) -> list[str]:
        """What is wrong with what came, when everything has come."""
        if self.floor is None:
            return [] if not self.got else ["something came before the listener began"]
        end = log.first_end(self.user_id, self.floor)
        seqs = [event.seq for event in self.got]
        shown = seqs[:-1] if end is not None and seqs[-1:] == [end] else seqs
        found: list[str] = []
        if shown != list(range(self.floor + 1, self.floor + 1 + len(shown))):
            found.append(f"from {self.floor} came {seqs}")
        if end is not None and any(event.fact >= end for event in self.got if event.seq != end):
            found.append(f"something was shown as it was after the end at {end}")
        if self.went or self.reason is not None:
            return found
        if end is None and self.floor + len(shown) != log.head:
            found.append(f"the head is {log.head}, from {self.floor} came {seqs}")
        if end is not None and seqs[-1:] != [end]:
            found.append(f"the end at {end} did not come: {seqs}")
        return found


class Interleaving:
    """What happens to one log and its listeners, by the dice of one seed.

    Half of the seeds lose hints and look at the heads in the end; in the others every hint is given, which is enough.
    """

    def __init__(self, seed: int, faults: float = 0.1) -> None:
        self._chance = random.Random(seed)
        self._loses_hints = seed % 2 == 0
        self._log = MemoryLog(self._chance, faults)
        self._listeners: list[Listener] = []
        self._joining: list[asyncio.Task[None]] = []
        self._additions: list[tuple[UUID, int]] = []

    async def play(self) -> list[str]:
        """Everything that is wrong in the end."""
        async with Bus("memory://") as bus, Streams(bus, self._log, NEVER) as streams:
            for _ in range(self._chance.choice(STEPS)):
                self._step(streams)
                await turns(self._chance.choice(PAUSES))
            await asyncio.gather(*self._joining)
            await self._settle(streams)
            found = [fault for listener in self._listeners for fault in listener.faults(self._log)]
            for listener in self._listeners:
                listener.go()
            return found + (["streams are left behind"] if len(streams) else [])

    def _step(self, streams: Streams) -> None:
        dice, before = self._chance.random(), self._log.head
        user_id = self._chance.choice(PEOPLE)
        if dice < 0.5:
            for _ in range(self._chance.choice(BURSTS)):
                self._log.append()
        elif dice < 0.6:
            if user_id in self._log.members:
                self._log.members.remove(user_id)
                self._log.append(ends=user_id, access=True)
        elif dice < 0.75:
            if user_id not in self._log.members:
                self._log.members.add(user_id)
                self._additions.append((user_id, self._log.append(access=True)))
        elif dice < 0.95:
            self._join(streams, user_id)
        else:
            self._chance.choice(self._listeners or [Listener(user_id)]).go()
        if not self._loses_hints or self._chance.random() < 0.7:
            streams.announce([(Hint(LOG, self._log.head), self._committed_after(before))])

    def _committed_after(self, seq: int) -> Batch | None:
        """What a process that has committed it can hand over, or not."""
        return self._log.batch_after(seq) if self._log.head > seq and self._chance.random() < 0.5 else None

    def _join(self, streams: Streams, user_id: UUID) -> None:
        if self._additions and self._chance.random() < 0.5:
            user_id, added = self._chance.choice(self._additions[-5:])
            work = self._from(streams, listener := Listener(user_id), added)
        else:
            work = self._now(streams, listener := Listener(user_id))
        self._listeners.append(listener)
        self._joining.append(asyncio.create_task(work))

    async def _sit(self, streams: Streams, listener: Listener) -> Seat:
        while True:
            try:
                (listener.seat,) = await streams.seats([LOG], listener.user_id, listener)
            except OSError:
                continue
            return listener.seat

    async def _now(self, streams: Streams, listener: Listener) -> None:
        """As groupMessages begins: the seat, then the head with the membership."""
        seat = await self._sit(streams, listener)
        while True:
            try:
                is_member, head = await self._log.standing(listener.user_id)
            except OSError:
                continue
            break
        if listener.went or not is_member:
            listener.go()
            return
        listener.floor = head
        seat.begin(head)

    async def _from(self, streams: Streams, listener: Listener, floor: int) -> None:
        """As myGroupEvents goes on with a group: from the row that added its user."""
        seat = await self._sit(streams, listener)
        if listener.went:
            seat.leave()
            return
        listener.floor = floor
        while True:
            try:
                await seat.begin_from(floor)
            except OSError:
                continue
            return

    async def _settle(self, streams: Streams) -> None:
        while self._loses_hints:
            try:
                await streams.check_heads()
            except OSError:
                continue
            break
        await turns(TURNS)
