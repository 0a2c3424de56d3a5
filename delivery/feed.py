"""One subscriber's outbox: events in, one consumer out, bounded. Knows no table and no feature."""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import StrEnum

from .events import Event


class EndReason(StrEnum):
    """Why a feed ended although no event says so."""

    FAULT = "FAULT"
    LAGGING = "LAGGING"
    STOPPED = "STOPPED"  # by the subscriber


class FeedEnded(Exception):
    """Nothing more will come from this feed."""

    def __init__(self, reason: EndReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Feed:
    """Events that wait for one subscriber.

    `take` never waits: when `bound` events are waiting the feed ends as LAGGING and lets go of them, so a reader that
    stalls costs the others nothing. Its client resumes from the cursor it holds. What the subscriber does not want
    never waits.
    """

    def __init__(self, bound: int, wants: Callable[[Event], bool]) -> None:
        self._bound = bound
        self._wants = wants
        self._waiting: deque[Event] = deque()
        self._reason: EndReason | None = None
        self._arrived = asyncio.Event()

    def take(self, event: Event) -> None:
        if self._reason is not None or not self._wants(event):
            return
        if len(self._waiting) >= self._bound:
            self._waiting.clear()
            self.end(EndReason.LAGGING)
            return
        self._waiting.append(event)
        self._arrived.set()

    def end(self, reason: EndReason) -> None:
        if self._reason is None:
            self._reason = reason
            self._arrived.set()

    @property
    def is_idle(self) -> bool:
        """Nothing waits, neither an event nor the end."""
        return not self._waiting and self._reason is None

    async def next(self) -> Event:
        """The next event, in order. Raises FeedEnded once everything before the end was handed out."""
        while not self._waiting:
            if self._reason is not None:
                raise FeedEnded(self._reason)
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()

    def take_out(self, which: Callable[[Event], bool]) -> list[Event]:
        """Remove the waiting events that match and return them, in order."""
        matching = [event for event in self._waiting if which(event)]
        if matching:
            self._waiting = deque(event for event in self._waiting if not which(event))
        return matching
