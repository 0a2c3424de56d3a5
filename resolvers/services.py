"""What the use cases work with, put together once by the process. Knows nothing of SQL or GraphQL."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from db.engine import Database, Transaction, Unavailable
from delivery.stream import Streams
from settings import Settings

from .pace import Pace
from .passwords import Hasher
from .refusals import unavailable

RENEWALS_PER_SECOND = 50  # a snapshot of ten groups costs 10 ms of CPU: half a core while a burst lasts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    database: Database
    streams: Streams
    hasher: Hasher
    renewals: Pace = field(default_factory=lambda: Pace(RENEWALS_PER_SECOND))

    async def write(self, work: Callable[[Transaction], Coroutine[Any, Any, T]]) -> T:
        """One transaction that is announced after its commit. Raises SERVICE_UNAVAILABLE and what `work` raises."""
        try:
            return await self.database.write(work)
        except Unavailable as error:
            raise unavailable(error.committed) from error

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Transaction]:
        """One snapshot. Raises SERVICE_UNAVAILABLE."""
        try:
            async with self.database.read() as transaction:
                yield transaction
        except Unavailable as error:
            raise unavailable() from error
