"""Subscribers of one log to whom every event looks the same: it is shown once, and the same bytes go to each of them.
Knows no table and no feature.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from .events import Event
from .feed import EndReason
from .stream import Seat

Wants = Callable[[Event], bool]


class Outlet(Protocol):
    """Where a subscriber's events go. Neither call may wait."""

    def send(self, payload: bytes) -> None:
        """An event that was shown."""
        ...

    def fail(self, errors: bytes) -> None:
        """An event that cannot be shown, for a reason that stays: the subscription has ended."""
        ...


class Member:
    """A subscriber in a cohort. It is not woken by events: `over` is set with why it is not live any more, the event
    that ended it or another reason.
    """

    __slots__ = ("cohort", "last", "outlet", "over", "seat")

    def __init__(self, cohort: "Cohort", seat: Seat, outlet: Outlet) -> None:
        self.cohort = cohort
        self.seat = seat
        self.outlet = outlet
        self.last: Event | None = None  # that was sent
        self.over: asyncio.Future[Event | EndReason] = asyncio.get_running_loop().create_future()

    def take(self, event: Event) -> None:
        self.cohort.take(self, event)

    def end(self, reason: EndReason) -> None:
        self.finish(reason)

    def finish(self, why: Event | EndReason) -> None:
        """Nothing more is sent to it."""
        if not self.over.done():
            self.over.set_result(why)
        self.cohort.leave(self)

    def may_see(self, seen: int) -> bool:
        """Whether something may be sent to it that was read when permissions were at `seen`."""
        ending = self.seat.ending
        return not self.over.done() and (ending is None or ending.seq > seen)


class Cohort:
    """The events that wait to be shown, each with the members it is for. At most `bound` of them: beyond it every
    member is LAGGING, and resumes from the last one it got.
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
        seat.listener = member
        return member

    def leave(self, member: Member) -> None:
        if member not in self._members:
            return
        del self._members[member]
        if not self._members:
            self._is_over = True
            self._arrived.set()
            self._empty()

    def take(self, member: Member, event: Event) -> None:
        """Never waits. The stream offers an event to all seats before the next one."""
        concerned = self._wants(event) if event.ends is None else event.ends_for(member.seat.user_id)
        if not concerned or member.over.done():
            return
        if self._waiting and self._waiting[-1][0] is event:
            self._waiting[-1][1].append(member)
        elif len(self._waiting) < self._bound:
            self._waiting.append((event, [member]))
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
