"""A script: `app.py` with a probe, a clock that can be moved, hints that go astray, a disk that fills up, and repairs
turned off. What it is to do stands in a file, which it reads at its start and again at SIGUSR1; each time it answers in
a second file what it holds.

usage: python -m tests.chaos.launcher serve …, with PARLEY_CHAOS naming the file
"""
# pyright: reportPrivateUsage=false

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from starlette.types import Scope

from commands import main
from db import sqlite
from db.engine import Database
from delivery import cohort, stream
from delivery.bus import Bus
from delivery.feed import Feed
from delivery.link import Timing
from delivery.stream import Streams
from resolvers import resuming
from resolvers.services import Services
from schema import endpoint
from schema.socket import SocketEndpoint
from tests.chaos.control import VARIABLE, Control, answer_file

# A tenth of what production waits for: a silent death is noticed in one second instead of ten.
TIMING = Timing(connect=1.0, reply=0.5, idle=0.5, sign=0.5, longest_wait=0.25)
BODY_SECONDS = 2.0  # of 15, for a request to be whole
HINT_SECONDS = 0.05  # how late a shuffled hint is at most


class Life:
    """What this process is told and what it holds."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.control = Control.read(file)
        self.random = random.Random(self.control.seed)
        self.streams: Streams | None = None
        self.sockets: SocketEndpoint | None = None
        self.hints_lost = 0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.control.clock_seconds)

    def obey(self) -> None:
        with suppress(OSError):  # a node without a descriptor left hears nothing and says nothing
            self._obey()

    def _obey(self) -> None:
        self.control = Control.read(self._file)
        answer = answer_file(self._file)
        half = answer.with_suffix(".half-answer")  # the other side has a half of its own
        half.write_text(json.dumps({"asked": self.control.asked, "tasks_are": _tasks(), **self._counts()}))
        half.replace(answer)

    def _counts(self) -> dict[str, int]:
        streams, sockets = self.streams, self.sockets
        assert streams is not None
        assert sockets is not None
        feeds = [seat.listener for stream in streams._streams.values() for seat in stream._seats]
        return {
            "tasks": len(asyncio.all_tasks()),
            "streams": len(streams),
            "sockets": sockets._open,
            "unpublished": len(streams._unpublished),
            "waiting": max((len(feed._waiting) for feed in feeds if isinstance(feed, Feed)), default=0),
            "hints_lost": self.hints_lost,
        }


def _tasks() -> str:
    """What runs, by name: whoever finds one too many wants to know which."""
    names = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
    return ", ".join(f"{number} {name}" for name, number in sorted(names.items()))


def patch(life: Life) -> None:
    _watch(life)
    _move_the_clock(life)
    _mislead(life)
    _fill_the_disk(life)
    if name := life.control.without:
        from tests.chaos import repairs  # noqa: PLC0415  # mostly nobody asks for it

        for where, part in repairs.named(name).parts:
            path, _, attribute = where.rpartition(".")
            setattr(_found(path), attribute, part)


def _found(path: str) -> Any:
    """The module, or the class in a module, of that name."""
    try:
        return import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(import_module(module), name)


def _watch(life: Life) -> None:
    entered, made = Streams.__aenter__, SocketEndpoint.__init__

    async def enter(self: Streams) -> Streams:
        life.streams = self
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, life.obey)
        return await entered(self)

    def make(self: SocketEndpoint, services: Services, is_origin_allowed: Callable[[str, Scope], bool]) -> None:
        life.sockets = self
        made(self, services, is_origin_allowed)

    Streams.__aenter__, SocketEndpoint.__init__ = enter, make
    Bus.__init__.__defaults__ = (TIMING,)
    endpoint.BODY_SECONDS = BODY_SECONDS
    if rows := life.control.rows:
        stream.BATCH = cohort.BATCH = resuming.REPLAY_BATCH = rows


def _move_the_clock(life: Life) -> None:
    defaults = Database.__init__.__kwdefaults__
    assert defaults is not None
    defaults["clock"] = life.now


def _mislead(life: Life) -> None:
    """Hints are lost, doubled and late as often as the file says."""
    hinted = Streams._hinted

    def astray(self: Streams, text: str) -> None:
        control, loop = life.control, asyncio.get_running_loop()
        if life.random.random() < control.drop:
            life.hints_lost += 1
            return
        for _ in range(1 + (life.random.random() < control.double)):
            if life.random.random() < control.shuffle:
                loop.call_later(life.random.uniform(0, HINT_SECONDS), hinted, self, text)
            else:
                hinted(self, text)

    Streams._hinted = astray


def _fill_the_disk(life: Life) -> None:
    """SQLite takes no further page than the file says."""
    write = sqlite.Writer._write

    async def limited(self: sqlite.Writer, batch: Any) -> None:
        if life.control.pages and self._connection is not None:
            driver: Any = self._connection.connection.dbapi_connection
            driver.execute(f"PRAGMA max_page_count={life.control.pages}")
        await write(self, batch)

    sqlite.Writer._write = limited


if __name__ == "__main__":
    patch(Life(Path(os.environ[VARIABLE])))
    main()
