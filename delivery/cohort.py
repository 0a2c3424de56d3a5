"""Subscribers of one log to whom every event looks the same: it is shown once, and the same bytes go to each of them.
Knows no table and no feature.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from .events import Event, Wants
from .feed import EndReason
from .stream import BATCH, NOBODY, Seat, Stream

NEVER, OVER = 2**63, -1  # beyond every seq, and before
END_SECONDS = 0.5  # that an end may wait for its turn: it is to be heard within one, whatever is in front of it


class Outlet(Protocol):
    """Where a subscriber's events go. No call may wait."""

    def send(self, payload: bytes) -> None:
        """An event that was shown."""
        ...

    def fail(self, errors: bytes) -> None:
        """An event that cannot be shown, for a reason that stays: the subscription has ended."""
        ...

    def end(self, why: Event | EndReason, last: Event | None) -> None:
        """Nothing more comes, because of an event or for another reason. `last` was the last event that was sent."""
        ...


class Member:
    """A subscriber in a cohort. No task waits for its events or for its end: both are handed to its outlet.

    It may see what lies above `floor`, read when permissions were below `ending`.
    """

    __slots__ = ("cohort", "ending", "floor", "last", "outlet", "seat")

    def __init__(self, cohort: "Cohort", seat: Seat, outlet: Outlet) -> None:
        self.cohort = cohort
        self.seat = seat
        self.outlet = outlet
        self.floor = seat.floor
        self.ending = NEVER
        self.last: Event | None = None  # that was sent

    def take(self, event: Event) -> None:
        """The event that ends its right to follow; what ends nobody's comes to the whole cohort."""
        if event.ends_for(self.seat.user_id):
            self.ending = min(self.ending, event.seq)
            self.cohort.take_end(self, event)

    def end(self, reason: EndReason) -> None:
        self.finish(reason)

    def stop(self) -> None:
        """The subscriber wants no more of it."""
        self.finish(EndReason.STOPPED)

    def finish(self, why: Event | EndReason) -> None:
        """Nothing more is sent to it, and its seat is free."""
        if self.ending != OVER:
            self.ending = OVER
            self.seat.leave()
            self.seat.listener = NOBODY  # they refer to each other, and to all that the subscriber is
            self.cohort.leave(self)
            self.outlet.end(why, self.last)


class Cohort:
    """The events that wait to be shown to its members: BATCH of them, and ends, at most.

    Nobody waits for it. When its log grows faster than it shows, it lets go of what comes, and reads that from the
    database once everything before it was shown. The stream, and whoever else follows it, go on meanwhile.

    A stream offers it each event once, however many are in it (measured with 1,000: to ask each of them on the way in
    and again on the way out took a third of the time of a delivery).

    It begins `after` some seq, behind its stream or not. `shown` is up to where its log was handed out to be shown:
    whoever has got that much may join. Whenever nothing waits it asks `meet` whether there is another cohort for its
    members to go on in, which has not come further.
    """

    def __init__(
        self,
        stream: Stream,
        after: int,
        wants: Wants,
        meet: Callable[["Cohort"], "Cohort | None"],
        empty: Callable[["Cohort"], None],
    ) -> None:
        self._stream = stream
        self._wants = wants
        self._meet = meet
        self._empty = empty
        self._members: dict[Member, None] = {}
        self._waiting: deque[tuple[Event, list[Member]]] = deque()  # with those whom an end is for
        self._arrived = asyncio.Event()
        self._taken = after  # the log up to here was shown, waits, or is not wanted
        self._overdue: asyncio.TimerHandle | None = None
        self.is_behind = after < stream.applied
        self.shown = after

    def __len__(self) -> int:
        return len(self._members)

    def join(self, seat: Seat, outlet: Outlet) -> Member:
        """From here on the seat's events come through this cohort. Its floor is not below what was shown."""
        member = Member(self, seat, outlet)
        self.admit(member)
        return member

    def admit(self, member: Member) -> None:
        """Here, or from another cohort: nothing of this one at or below the member's floor is for it."""
        member.cohort = self
        self._members[member] = None
        member.seat.follow_in(self, member)

    def leave(self, member: Member) -> None:
        if member not in self._members:
            return
        del self._members[member]
        if not self._members:
            self._arrived.set()
            self._empty(self)

    def take(self, event: Event) -> None:
        """An event that ends nobody's right to follow. Never waits."""
        self.is_behind = self.is_behind or len(self._waiting) >= BATCH
        if not self.is_behind:
            self._take(event)

    def _take(self, event: Event) -> None:
        if event.seq > self._taken:
            self._taken = event.seq
            if event.ends is None and self._wants(event):
                self._wait(event, [])

    def _wait(self, event: Event, ended: list[Member]) -> None:
        self._waiting.append((event, ended))
        self._arrived.set()

    def take_end(self, member: Member, event: Event) -> None:
        """The event that ends one member. Never waits. The stream offers an event to all before the next one.

        The member hears of it after what waits now, or soon, without what it was not shown by then.
        """
        if member.ending == OVER:
            return
        if self._waiting and self._waiting[-1][0] is event:
            self._waiting[-1][1].append(member)
        else:
            self._wait(event, [member])
        if self._overdue is None:
            self._overdue = asyncio.get_running_loop().call_later(END_SECONDS, self._end_overdue)

    def _end_overdue(self) -> None:
        self._overdue = None
        for event, ended in tuple(self._waiting):
            for member in ended:
                member.finish(event)

    def end(self, reason: EndReason) -> None:
        """End every member that is live."""
        self._waiting.clear()
        for member in tuple(self._members):
            member.finish(reason)

    async def next(self) -> tuple[Event, list[Member]] | None:
        """The next event and whom it may be for, in order; None when the last member has left."""
        while self._members:
            if self._waiting:
                event, ended = self._waiting.popleft()
                if ended:
                    return event, ended
                self.shown = event.seq
                return event, list(self._members)
            self.shown = max(self.shown, self._taken)
            if (other := self._meet(self)) is not None:
                self._go_on_in(other)
            elif self.is_behind:
                await self._catch_up()
            else:
                self._arrived.clear()
                await self._arrived.wait()
        return None

    def _go_on_in(self, other: "Cohort") -> None:
        members, self._members = self._members, {}
        for member in members:
            member.floor = max(member.floor, self.shown)
            other.admit(member)
        self._empty(self)

    async def _catch_up(self) -> None:
        """Read on where the cohort is, or has let go, until it is where the stream is."""
        if batch := await self._stream.read(self._taken):
            for event in batch.events:
                self._take(event)
            self.is_behind = bool(batch.events) and self._taken < self._stream.applied
