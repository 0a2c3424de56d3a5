"""Waiting for conditions, never for an amount of time."""
# ruff: noqa: ASYNC109  (a deadline in seconds is what a test says)

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

Value = TypeVar("Value")

FIRST_WAIT, LONGEST_WAIT = 0.001, 0.05


@overload
async def eventually(condition: Callable[[], Awaitable[Value]], timeout: float = 10) -> Value: ...
@overload
async def eventually(condition: Callable[[], Value], timeout: float = 10) -> Value: ...
async def eventually(condition: Callable[[], object], timeout: float = 10) -> object:
    """The first true value of `condition`. Fails with its last value after `timeout` seconds."""
    deadline, pause = time.monotonic() + timeout, FIRST_WAIT
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {timeout} s")
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_WAIT)


def running_tasks() -> set[asyncio.Task[Any]]:
    """The tasks of this event loop, without those in which anyio runs each test and fixture."""
    return {task for task in asyncio.all_tasks() if not _name(task).startswith("TestRunner.")}


async def no_task_but(before: set[asyncio.Task[Any]], timeout: float = 10) -> None:
    """Wait until every running task is one of `before`. Fails with the names of the others."""

    def left() -> list[str]:
        return [f"{_name(task)}: {task!r}" for task in running_tasks() - before]

    try:
        await eventually(lambda: not left(), timeout)
    except AssertionError:
        raise AssertionError("tasks left behind:\n" + "\n".join(left())) from None


def _name(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", task.get_name())
