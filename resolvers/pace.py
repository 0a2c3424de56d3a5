"""Turns for costly work: when one process begins it, and what it leaves room for. Knows nothing of what is done."""

import asyncio
from collections import deque


class Pace:
    """Turns at equal distances, in the order in which they are asked for. Whoever waits costs nothing."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._free = 0.0

    def turn(self) -> float:
        """Take the next turn: in how many seconds it is."""
        now = asyncio.get_running_loop().time()
        mine = max(now, self._free)
        self._free = mine + self._gap
        return mine - now


class Turns:
    """One turn after the other, in the order in which they are asked for, with turns of the event loop between them.

    Many who have much to do then delay the rest like one of them: with a turn of the loop for each of 1,000, everything
    else waited for all of them wherever it awaits something. A turn of an idle loop costs 10 µs.
    """

    def __init__(self, between: int) -> None:
        self._between = between
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_going = False

    async def turn(self) -> None:
        """Return when it is one's turn; whoever is cancelled meanwhile loses it."""
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        self._waiting.append(mine)
        if not self._is_going:
            self._is_going = True
            loop.call_soon(self._pass, loop, self._between)
        await mine

    def _pass(self, loop: asyncio.AbstractEventLoop, left: int) -> None:
        while not left and self._waiting:
            mine = self._waiting.popleft()
            if not mine.done():
                mine.set_result(None)
                left = self._between + 1
        self._is_going = bool(self._waiting)
        if self._is_going:
            loop.call_soon(self._pass, loop, left - 1)
