"""The database of one process: reads that see one snapshot, writes that are announced.

Knows nothing of the other rooms. A write locks first and judges afterwards, in later statements. What it appended to
logs is announced after its commit, from one place.
"""

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, TypeVar

from . import postgres, sqlite
from .faults import Unavailable
from .transactions import Appended, LogKind, Transaction

__all__ = ["Appended", "Database", "LogKind", "Transaction", "Unavailable"]

T = TypeVar("T")
Work = Callable[[Transaction], Coroutine[Any, Any, T]]
AfterCommit = Callable[[Sequence[Appended]], None]


def _announce_nothing(_: Sequence[Appended]) -> None:
    """A process without a bus (a command) announces nothing: the head check of the servers finds its rows."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class Database:
    """The connections of one process. `after_commit` is told, on the event loop, what each committed write appended."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        wait_seconds: float = 5.0,
        after_commit: AfterCommit = _announce_nothing,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.after_commit = after_commit
        self._reader: sqlite.Reader | postgres.Reader
        self._writer: sqlite.Writer | postgres.Writer
        if url.startswith("sqlite"):
            self._reader = sqlite.Reader(url, wait_seconds, clock)
            self._writer = sqlite.Writer(url, wait_seconds, clock, lambda: self.after_commit)
        else:
            connections = postgres.Connections(url, pool_size, wait_seconds, clock)
            self._reader = postgres.Reader(connections)
            self._writer = postgres.Writer(connections, lambda: self.after_commit)

    async def stop(self) -> None:
        """Let the writes under way end, then close every connection."""
        await self._writer.stop()
        await self._reader.stop()

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """One snapshot. Raises Unavailable."""
        return self._reader.read()

    def glance(self) -> AbstractAsyncContextManager[Transaction]:
        """A read of one statement, which is a snapshot by itself: no BEGIN and no ROLLBACK, two of three round trips.

        Raises Unavailable.
        """
        return self._reader.glance()

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction, commit, announce; repeat it from the start after a deadlock or a taken key.

        `work` awaits nothing but its transaction. It goes on to its end when the caller is cancelled: a commit is never
        torn from its announcement. Raises Unavailable, and whatever `work` raises (then nothing was written).
        """
        return await self._writer.write(work)
