"""Turns for costly work: when one process begins it, and who shares it. Knows nothing of what is done."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from time import thread_time
from typing import Any, TypeVar

MOST = 0.005  # seconds of CPU: what those who have their turns together may hold up the rest for
LEAST = 1e-6
SHORT = 0.0005  # seconds of CPU: less work than this needs no turn

Question = TypeVar("Question")
Answer = TypeVar("Answer")


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
    """Turns in the order in which they are asked for, with turns of the event loop between them.

    Many who have much to do then delay the rest like one of them: with a turn of the loop for each of 1,000, everything
    else waited for all of them wherever it awaits something. A turn of an idle loop costs 10 µs.

    Where the rest takes long, as many have their turns together as fit into half of what it took since the last ones,
    MOST at once: one by one, dozens who came back needed up to 18 s while 16 people wrote without a pause.
    So the rest is held up by half of its own time, or by one turn, and by as much as the last of those woken takes
    beyond that. A turn is what is done up to the next await; what is done later counts as the rest's.
    """

    def __init__(self, between: int) -> None:
        self._between = between
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._late: deque[asyncio.Future[None]] = deque()  # woken when there was no more time: they go first
        self._is_going = False
        self._one = MOST  # seconds of CPU that a turn took
        self._fitting = 0.0  # and those that are woken together may take
        self._had = 0  # how many of them have had their turns,
        self._began = self._ended = 0.0  # since when, and when the last ones were done

    async def turn(self) -> None:
        """Return when it is one's turn; whoever is cancelled meanwhile loses it."""
        line = self._waiting
        while not await self._has_come(line):
            line = self._late

    async def turn_after(self, began: float) -> float:
        """A turn, unless little was done since the last one began; returns when that was, as `thread_time`."""
        if thread_time() - began < SHORT:
            return began
        await self.turn()
        return thread_time()

    async def _has_come(self, line: deque[asyncio.Future[None]]) -> bool:
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        line.append(mine)
        if not self._is_going:
            self._is_going, self._ended = True, thread_time()
            loop.call_soon(self._pass, loop, self._between)
        await mine
        now = thread_time()
        if not self._had:
            self._began = now
        elif now > self._began + self._fitting:
            return False
        self._had += 1
        return True

    def _pass(self, loop: asyncio.AbstractEventLoop, left: int) -> None:
        """Called in each turn of the loop, right after those whom the last call has woken: it keeps their order."""
        if self._had:
            self._count()
        woken = 0 if left else self._wake()
        self._is_going = bool(woken or self._waiting)
        if self._is_going:
            loop.call_soon(self._pass, loop, self._between if woken else left - 1)

    def _count(self) -> None:
        self._ended = thread_time()
        self._one = max(LEAST, (self._ended - self._began) / self._had)
        self._had = 0
        self._waiting.extendleft(reversed(self._late))
        self._late.clear()

    def _wake(self) -> int:
        """Wake as many as fit, one at least, and return how many there were."""
        self._fitting = min((thread_time() - self._ended) / 2, MOST)
        most, woken = max(1, int(self._fitting / self._one)), 0
        while self._waiting and woken < most:
            mine = self._waiting.popleft()
            if not mine.done():
                mine.set_result(None)
                woken += 1
        return woken


class RoundFailed(Exception):
    """The round that a question was in met a fault, which one of those who asked is told."""


class Rounds(Turns):
    """Turns, and questions that one turn answers for everybody who had asked before it came.

    The more there is to do, the later a turn comes, and the more share it. No answer is older than its question.
    """

    def __init__(self, between: int) -> None:
        super().__init__(between)
        self._asked: dict[Hashable, list[tuple[Any, asyncio.Future[Any]]]] = {}  # for the next round of each kind

    async def ask(
        self,
        kind: Hashable,
        question: Question,
        answer: Callable[[Sequence[Question]], Awaitable[Sequence[Answer | None]]],
    ) -> Answer:
        """Return the answer, when it is one's turn to go on with it.

        All who ask for the same kind give the same `answer`. It is given questions, the oldest first, and gives to
        each an answer, or None to one that has to wait for another turn; never to the first. What it raises the first
        who asked raises, the others RoundFailed.
        """
        mine: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        asked = self._asked.setdefault(kind, [])
        asked.append((question, mine))
        if len(asked) == 1:
            await self._answer_all(kind, asked, answer)
            return mine.result()
        found = await mine
        await self.turn()
        return found

    async def _answer_all(
        self,
        kind: Hashable,
        asked: list[tuple[Any, asyncio.Future[Any]]],
        answer: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]],
    ) -> None:
        """Done by the first who has asked: a round needs no task of its own."""
        try:
            try:
                await self.turn()
            finally:
                del self._asked[kind]  # whoever asks from here on is in the next round
            while waiting := [each for each in asked if not each[1].done()]:
                answers = await answer([question for question, _ in waiting])
                for (_, mine), found in zip(waiting, answers, strict=True):
                    if found is not None and not mine.done():
                        mine.set_result(found)
                await self.turn()
        finally:
            for _, mine in asked[1:]:
                if not mine.done():
                    mine.set_exception(RoundFailed())
