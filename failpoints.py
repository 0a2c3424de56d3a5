"""Named places where a test stops this process, armed by PARLEY_FAILPOINTS. Knows nothing of the rooms.

For tests only. Unless the variable is set, each place costs one comparison (30 ns with the call).
"""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

Name = Literal["before_commit", "after_commit_before_publish", "after_publish_before_reply", "mid_replay"]

VARIABLE: Final = "PARLEY_FAILPOINTS"
NAMES: Final[tuple[Name, ...]] = (
    "before_commit", "after_commit_before_publish", "after_publish_before_reply", "mid_replay",
)  # fmt: skip
ACTIONS: Final = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP}
SETTLED_SECONDS = 0.1  # by then a hint that was waiting to be published has left


@dataclass
class _Armed:
    number: signal.Signals
    hits_left: int

    def hit(self) -> None:
        self.hits_left -= 1
        if self.hits_left == 0:
            os.kill(os.getpid(), self.number)


def parsed(text: str) -> dict[str, _Armed]:
    """`NAME=ACTION@N`, separated by commas: at the Nth time (the first by default). Raises ValueError for another."""
    armed: dict[str, _Armed] = {}
    for part in filter(None, text.split(",")):
        name, _, rest = part.partition("=")
        action, _, hits = rest.partition("@")
        if name not in NAMES or action not in ACTIONS or not (hits or "1").isdecimal():
            raise ValueError(f"{VARIABLE} is NAME=ACTION@N; names: {', '.join(NAMES)}; actions: {', '.join(ACTIONS)}.")
        armed[name] = _Armed(ACTIONS[action], int(hits or 1))
    return armed


_armed = parsed(os.environ.get(VARIABLE, ""))


def reach(name: Name) -> None:
    """Do what the environment says about this place: mostly nothing."""
    if _armed and (point := _armed.get(name)):
        point.hit()


async def reach_settled(name: Name) -> None:
    """As `reach`, once what other tasks were about to do is done."""
    if _armed and (point := _armed.get(name)):
        await asyncio.sleep(SETTLED_SECONDS)
        point.hit()


def before_commit(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The work of a transaction, with a place at its end."""
    if not _armed:
        return work

    async def watched(*arguments: P.args, **options: P.kwargs) -> T:
        result = await work(*arguments, **options)
        reach("before_commit")
        return result

    return watched
