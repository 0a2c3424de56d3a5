"""Whether the peer of a socket is still there: anything that it sends says so. Knows no GraphQL and no transport.

A timer for each socket and no task: 10,000 idle sockets are some 400 timers a second.
"""

import asyncio
import random
from collections.abc import Callable

EARLIEST = 0.8  # of the silence: sockets that were opened together are not asked together
LATE_SECONDS = 1.0  # a process that is so late has not read what came meanwhile: its peers are asked again


class Heartbeat:
    """Calls `ask` after at most `silence` seconds in which nothing was heard, and `lost` when nothing is heard for
    `patience` seconds more.
    """

    __slots__ = ("_ask", "_asked", "_due", "_heard", "_loop", "_lost", "_patience", "_silence", "_timer")

    def __init__(self, silence: float, patience: float, ask: Callable[[], None], lost: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._silence = silence
        self._patience = patience
        self._ask = ask
        self._lost = lost
        self._heard = self._asked = self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._timer is None:
            self.heard()
            self._await_silence(0.0)

    def heard(self) -> None:
        self._heard = self._loop.time()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lost = _nothing  # whoever is told refers to this

    def _await_silence(self, quiet: float) -> None:
        self._look_after(self._silence * random.uniform(EARLIEST, 1) - quiet)  # noqa: S311  # jitter

    def _look_after(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if (quiet := now - self._heard) < self._silence * EARLIEST:
            self._await_silence(quiet)
        elif self._asked <= self._heard or now - self._due > LATE_SECONDS:
            self._asked = now
            self._look_after(min(self._silence, self._patience))
            self._ask()
        elif (left := self._asked + self._patience - now) > 0:
            self._look_after(left)
        else:
            self._timer = None
            self._lost()


def _nothing() -> None:
    """It is over already."""
