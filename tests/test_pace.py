"""Turns of those who catch up, by themselves: who has them, when, and what is left to the others."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from time import thread_time

from resolvers.pace import MOST, SHORT, Turns

BETWEEN = 2
MILLISECOND = 0.001


def work(seconds: float) -> None:
    end = thread_time() + seconds
    while thread_time() < end:
        pass


class Loop:
    """An event loop on which others work so long in each of its turns. `had` says in which turn who had theirs."""

    def __init__(self, others: float) -> None:
        self.turns = Turns(BETWEEN)
        self.had: list[tuple[int, int]] = []
        self._others = others
        self.number = 0

    async def replay(self, name: int, seconds: float = 0) -> None:
        await self.turns.turn()
        self.had.append((self.number, name))
        work(seconds)

    async def until(self, is_over: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not is_over():
                self.number += 1
                work(self._others)
                await asyncio.sleep(0)

    @property
    def together(self) -> list[list[int]]:
        """Who had their turns in the same turn of the loop."""
        return [[name for at, name in self.had if at == number] for number in sorted({at for at, _ in self.had})]


async def test_turns_come_in_the_order_of_asking_with_turns_of_the_loop_between_them() -> None:
    loop = Loop(others=0)

    async def replay(name: int) -> None:
        for _ in range(3):
            await loop.replay(name, MOST)

    async with asyncio.TaskGroup() as tasks:
        for name in range(2):
            tasks.create_task(replay(name))
        await loop.until(lambda: len(loop.had) == 6)
    assert loop.together == [[0], [1]] * 3
    at = [number for number, _ in loop.had]
    assert min(later - earlier for earlier, later in pairwise(at)) == BETWEEN + 1


async def test_as_many_have_their_turns_together_as_fit_into_half_of_what_the_others_took() -> None:
    loop = Loop(others=4 * MILLISECOND)
    async with asyncio.TaskGroup() as tasks:
        for name in range(300):
            tasks.create_task(loop.replay(name))
        await loop.until(lambda: len(loop.had) == 300)
    assert [name for _, name in loop.had] == list(range(300))
    assert len(loop.together) <= 10


async def test_few_have_their_turns_together_where_the_others_took_little() -> None:
    loop = Loop(others=MILLISECOND)
    async with asyncio.TaskGroup() as tasks:
        for name in range(40):
            tasks.create_task(loop.replay(name, MILLISECOND / 2))
        await loop.until(lambda: len(loop.had) == 40)
    assert max(map(len, loop.together)) <= 4  # three turns of others go by: half of them is 1.5 ms


async def test_whoever_takes_longer_than_those_before_holds_up_the_others_no_longer() -> None:
    loop = Loop(others=10 * MILLISECOND)
    async with asyncio.TaskGroup() as tasks:
        for name in range(40):
            tasks.create_task(loop.replay(name, MILLISECOND if name >= 10 else 0))
        await loop.until(lambda: len(loop.had) == 40)
    assert [name for _, name in loop.had] == list(range(40))
    long = [[name for name in each if name >= 10] for each in loop.together]
    assert max(map(len, long)) <= MOST / MILLISECOND + 1


async def test_whoever_gives_up_waiting_holds_up_nobody() -> None:
    loop = Loop(others=10 * MILLISECOND)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(loop.replay(name, MILLISECOND if name >= 10 else 0)) for name in range(40)]
        await loop.until(lambda: len(loop.had) > 10)  # some were woken, and have to wait again
        for name in range(15, 40, 2):
            asked[name].cancel()
        left = {name for name in range(40) if not asked[name].cancelling()}
        await loop.until(lambda: left <= {name for _, name in loop.had})
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*asked)
    names = [name for _, name in loop.had]
    assert names == sorted(left)
    async with asyncio.timeout(30):
        await loop.turns.turn()


async def test_little_work_needs_no_turn_of_its_own() -> None:
    loop = Loop(others=0)

    async def replay() -> None:
        began = await loop.turns.turn_after(thread_time() - SHORT)
        loop.had.append((loop.number, 0))
        little = thread_time() + MILLISECOND  # whatever the interpreter does now
        assert await loop.turns.turn_after(little) == little
        loop.had.append((loop.number, 1))
        work(SHORT)
        assert await loop.turns.turn_after(began) >= began + SHORT
        loop.had.append((loop.number, 2))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(replay())
        await loop.until(lambda: len(loop.had) == 3)
    assert loop.together == [[0, 1], [2]]
