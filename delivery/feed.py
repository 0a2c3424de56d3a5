"""One subscriber's outbox: events in, one consumer out, bounded. Knows no table and no feature."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

from .events import Event, Wants
from .latest import Latest


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
    never waits, or only the newest of each log, in `latest` if that is given: it comes when no other event waits.
    """

    def __init__(self, bound: int, wants: Wants, latest: Latest | None = None) -> None:
        self._bound = bound
        self._wants = wants
        self._latest = latest
        self._waiting: deque[Event] = deque()
        self._reason: EndReason | None = None
        self._arrived = asyncio.Event()

    def take(self, event: Event) -> None:
        if self._reason is not None:
            return
        if not self._wants(event):
            if self._latest is not None and self._latest.take(event):
                self._arrived.set()
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

    async def next(self) -> Event:
        """The next event, in order. Raises FeedEnded once everything before the end was handed out."""
        while not self._waiting:
            if self._reason is not None:
                raise FeedEnded(self._reason)
            if self._latest is not None and self._latest.delay == 0:
                return self._latest.pop()
            self._arrived.clear()
            await self._arrival(self._latest.delay if self._latest is not None else None)
        return self._waiting.popleft()

    async def _arrival(self, delay: float | None) -> None:
        """Something has arrived, or so many seconds have passed."""
        if delay is None:
            await self._arrived.wait()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._arrived.wait()

    def take_out(self, which: Callable[[Event], bool]) -> list[Event]:
        """Remove the waiting events that match and return them, in order; of `latest` they are forgotten."""
        self.forget_latest(which)
        matching = [event for event in self._waiting if which(event)]
        if matching:
            self._waiting = deque(event for event in self._waiting if not which(event))
        return matching

    def forget_latest(self, which: Callable[[Event], bool]) -> None:
        if self._latest is not None:
            self._latest.drop(which)
