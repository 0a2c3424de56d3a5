"""The newest event of each log, for what need not be told one by one. Knows no table and no feature."""

import heapq
import time
from collections.abc import Callable
from itertools import count

from .events import Event, Log, Wants

MOST_RESTING = 2_000


class Latest:
    """Holds one event for each log, whatever comes: the newest. Nothing is queued, and the last one always goes out.

    A log's event goes out at most once in `per_log` seconds, and any event at most once in `between` seconds, so that
    a subscriber of many busy logs costs no more than one of a few. What has waited longest goes first.
    """

    def __init__(
        self,
        wants: Wants,
        *,
        per_log: float,
        between: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wants = wants
        self._per_log = per_log
        self._between = between
        self._clock = clock
        self._newest: dict[Log, Event] = {}
        self._due: list[tuple[float, int, Log]] = []
        self._order = count()
        self._rests_until: dict[Log, float] = {}
        self._free = 0.0

    def take(self, event: Event) -> bool:
        """Whether something waits now that did not before."""
        if not self._wants(event):
            return False
        is_first = event.log not in self._newest
        if is_first:
            due = max(self._clock(), self._rests_until.get(event.log, 0.0))
            heapq.heappush(self._due, (due, next(self._order), event.log))
        self._newest[event.log] = event
        return is_first

    @property
    def delay(self) -> float | None:
        """Seconds until the next event may go out; None if nothing waits."""
        return max(0.0, max(self._due[0][0], self._free) - self._clock()) if self._due else None

    def pop(self) -> Event:
        """The event whose turn it is, when `delay` is 0."""
        log, now = heapq.heappop(self._due)[-1], self._clock()
        if len(self._rests_until) >= MOST_RESTING:
            self._rests_until = {each: until for each, until in self._rests_until.items() if until > now}
        self._rests_until[log] = now + self._per_log
        self._free = now + self._between
        return self._newest.pop(log)

    def drop(self, which: Callable[[Event], bool]) -> None:
        """Forget the events that match."""
        for log in [log for log, event in self._newest.items() if which(event)]:
            del self._newest[log]
        self._due = [entry for entry in self._due if entry[-1] in self._newest]
        heapq.heapify(self._due)
