"""Subscribers of one log to whom every event looks the same: it is shown once, and the same bytes go to each of them.
Knows no table and no feature.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from .events import Event, Wants
from .feed import EndReason
from .stream import NOBODY, Seat

NEVER, OVER = 2**63, -1  # beyond every seq, and before


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
    """The events that wait to be shown, each with the members it is for. At most `bound` of them: beyond it every
    member is LAGGING, and resumes from the last one it got.

    A stream offers it each event once, however many are in it (measured with 1,000: to ask each of them on the way in
    and again on the way out took a third of the time of a delivery).
    """

    def __init__(self, bound: int, wants: Wants, empty: Callable[[], None]) -> None:
        self._bound = bound
        self._wants = wants
        self._empty = empty
        self._members: dict[Member, None] = {}
        self._waiting: deque[tuple[Event, list[Member]]] = deque()
        self._arrived = asyncio.Event()
        self._is_over = False

    def __len__(self) -> int:
        return len(self._members)

    def join(self, seat: Seat, outlet: Outlet) -> Member:
        """From here on the seat's events come through this cohort."""
        member = Member(self, seat, outlet)
        self._members[member] = None
        seat.follow_in(self, member)
        return member

    def leave(self, member: Member) -> None:
        if member not in self._members:
            return
        del self._members[member]
        if not self._members:
            self._is_over = True
            self._arrived.set()
            self._empty()

    def take(self, event: Event) -> None:
        """An event that ends nobody's right to follow. Never waits."""
        if self._wants(event):
            self._wait(event, list(self._members))

    def take_end(self, member: Member, event: Event) -> None:
        """The event that ends one member. Never waits. The stream offers an event to all before the next one."""
        if member.ending == OVER:
            return
        if self._waiting and self._waiting[-1][0] is event:
            self._waiting[-1][1].append(member)
        else:
            self._wait(event, [member])

    def _wait(self, event: Event, members: list[Member]) -> None:
        if len(self._waiting) < self._bound:
            self._waiting.append((event, members))
            self._arrived.set()
        else:
            self.end(EndReason.LAGGING)

    def end(self, reason: EndReason) -> None:
        """End every member that is live."""
        self._waiting.clear()
        for member in tuple(self._members):
            member.finish(reason)

    async def next(self) -> tuple[Event, list[Member]] | None:
        """The next event and whom it is for, in order; None when the last member has left."""
        while not self._waiting:
            if self._is_over:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()
