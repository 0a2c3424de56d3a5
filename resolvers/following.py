"""What every subscription does with its events: show, settle, try again, end. Knows nothing of SQL or GraphQL.

An event is shown in two steps. The stream of events hands out a fact and opens a door for what is nested in it; the
transport executes the operation's selection and then asks `settle` whether the result may be sent. Between the two,
permissions may have changed: the door noted how far, and `settle` applies them first.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

from db.engine import Unavailable
from db.records import GroupEventKind
from delivery.stream import Seat

from .access import Door, group_deleted
from .pace import RoundFailed
from .reader import Shown
from .refusals import ErrorCode, Refusal

T = TypeVar("T")
Fact = TypeVar("Fact")

SHOW_ATTEMPTS = 5
READ_ATTEMPTS = 5
PAUSE_SECONDS = 0.1
RETRIED = frozenset({ErrorCode.SERVICE_UNAVAILABLE, ErrorCode.RATE_LIMITED})


def end_of(refusal: Refusal, cursor: str | None = None) -> Refusal:
    """The refusal that ends a stream: why, whether to try again, and the last cursor that was sent."""
    refusal.extensions.setdefault("retry", refusal.code in RETRIED)
    if cursor:
        refusal.extensions["cursor"] = cursor
    return refusal


def membership_ended() -> Refusal:
    return Refusal(ErrorCode.MEMBERSHIP_ENDED, "Your membership of this group has ended.")


def fault() -> Refusal:
    return Refusal(
        ErrorCode.SERVICE_UNAVAILABLE,
        "The events cannot be read right now. Subscribe again, after the last cursor if there is one.",
    )


def end_shown(fact: Shown, cursor: str | None) -> Refusal:
    """The end that an event of the group's log means for the one it ends."""
    deleted = fact.event.kind is GroupEventKind.GROUP_DELETED
    return end_of(group_deleted() if deleted else membership_ended(), cursor)


async def steadily(read: Callable[[], Awaitable[T]]) -> T:
    """The result of a read that is tried again, with growing pauses (1.5 seconds in all), before its fault is told."""
    for attempt in range(READ_ATTEMPTS):
        try:
            return await read()
        except (Unavailable, RoundFailed):
            pass
        except Refusal as refusal:
            if refusal.code is not ErrorCode.SERVICE_UNAVAILABLE:
                raise
        await asyncio.sleep(PAUSE_SECONDS * 2**attempt)
    raise fault()


class Following(ABC, Generic[Fact]):
    """One subscription under way. `door` is the one of the event that is being shown."""

    door: Door

    def __init__(self) -> None:
        self.cursor: str | None = None
        self._fact: Fact | None = None
        self._again = False
        self._faults = 0
        self.is_shown = False  # a fact was handed out and is being executed: it waits to be settled
        self.stopped = False
        self.refusal: Refusal | None = None

    def stop(self) -> None:
        """Let the events end by themselves: a cancellation could hit an execution or a statement in its middle."""
        self.stopped = True

    async def events(self) -> AsyncGenerator[Fact, None]:
        """Raises the refusal that the subscription is refused or ended with, and keeps it in `refusal`."""
        try:
            async for fact in self._facts():
                async for shown in self._show(fact):
                    yield shown
        except Refusal as refusal:
            self.refusal = refusal
            raise
        finally:
            self._leave()

    async def _show(self, fact: Fact) -> AsyncGenerator[Fact, None]:
        """Hand out the fact, and again until it was settled: an event is never skipped. Raises SERVICE_UNAVAILABLE
        after some faults.
        """
        self._fact, self._faults = fact, 0
        while not self.stopped:
            self._again = False
            self.door = self._open(self._fact)
            self.is_shown = True
            yield self._fact
            self.is_shown = False
            if not self._again:
                return
            if self._is_hopeless():
                raise end_of(fault(), self.cursor)
            await asyncio.sleep(PAUSE_SECONDS * self._faults)

    def _is_hopeless(self) -> bool:
        return self._faults == SHOW_ATTEMPTS

    async def settle(self, *, faulty: bool) -> bool:
        """Whether the result for the fact handed out last may be sent; if not, the same fact comes again. Raises the
        end.
        """
        assert self._fact is not None
        self._faults += faulty
        self._again = faulty or not await self._settle(self._fact)
        if not self._again:
            self._let_go(self._fact)
        return not self._again

    @abstractmethod
    def _facts(self) -> AsyncGenerator[Fact, None]:
        """Everything there is to show, in order, until the subscriber has stopped."""

    @abstractmethod
    def _leave(self) -> None:
        """Give up every seat."""

    @abstractmethod
    def _open(self, fact: Fact) -> Door:
        """The door for what is nested in this fact."""

    @abstractmethod
    async def _settle(self, fact: Fact) -> bool:
        """False: show `self._fact` again, which now shows less. Raises the end."""

    def _let_go(self, fact: Fact) -> None:
        """The fact will not be shown again, and is held until the next one comes: empty it, if nobody shares it."""


def end_of_seat(seat: Seat, cursor: str | None) -> Refusal:
    """Why a seat was left."""
    return end_shown(seat.ending.fact, cursor) if seat.ending else end_of(fault(), cursor)
