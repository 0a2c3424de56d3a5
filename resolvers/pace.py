"""Turns for costly work: how much of it one process begins in a second. Knows nothing of what is done."""

import asyncio


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
