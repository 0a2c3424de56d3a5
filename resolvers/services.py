"""What the use cases work with, put together once by the process. Knows nothing of SQL or GraphQL."""

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

import failpoints
from db.engine import Database, Transaction, Unavailable
from delivery.stream import Streams
from frozen import frozen
from settings import Settings

from .pace import Pace, Rounds
from .passwords import Hasher
from .refusals import unavailable

TURNS_BETWEEN_REPLAYS = 2  # of the event loop
RENEWALS_PER_SECOND = 50  # a snapshot of ten groups costs 10 ms of CPU: half a core while a burst lasts

T = TypeVar("T")


@frozen
class Services:
    settings: Settings
    database: Database
    streams: Streams
    hasher: Hasher
    renewals: Pace = field(default_factory=lambda: Pace(RENEWALS_PER_SECOND))
    replays: Rounds = field(default_factory=lambda: Rounds(TURNS_BETWEEN_REPLAYS))

    async def write(self, work: Callable[[Transaction], Coroutine[Any, Any, T]]) -> T:
        """One transaction that is announced after its commit. Raises SERVICE_UNAVAILABLE and what `work` raises."""
        try:
            result = await self.database.write(failpoints.before_commit(work))
        except Unavailable as error:
            raise unavailable(error.committed) from error
        await failpoints.reach_settled("after_publish_before_reply")
        return result

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """One snapshot. Raises SERVICE_UNAVAILABLE."""
        return _Read(self.database.read())

    def glance(self) -> AbstractAsyncContextManager[Transaction]:
        """A read of one statement. Raises SERVICE_UNAVAILABLE."""
        return _Read(self.database.glance())


@dataclass(slots=True)
class _Read(AbstractAsyncContextManager[Transaction]):
    snapshot: AbstractAsyncContextManager[Transaction]

    async def __aenter__(self) -> Transaction:
        try:
            return await self.snapshot.__aenter__()
        except Unavailable as error:
            raise unavailable() from error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self.snapshot.__aexit__(kind, error, trace)
        except Unavailable as translated:
            raise unavailable() from translated
