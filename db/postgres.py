"""PostgreSQL: one pool of connections for its reader and its writer. Knows nothing of the other rooms."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from typing import Any, TypeVar

import orjson
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from .faults import LOCK_NOT_AVAILABLE, Unavailable, may_run_again, state_of, translated
from .statements import write_data
from .transactions import Appended, LoopTransaction, Transaction

T = TypeVar("T")
Work = Callable[[Transaction], Coroutine[Any, Any, T]]
AfterCommit = Callable[[Sequence[Appended]], None]

ATTEMPTS = 5
APPLICATION = "parley"

# A statement that is new to a connection goes in two requests. Between them PostgreSQL calls the session active,
# `idle_in_transaction_session_timeout` does not count, and `transaction_timeout` came only with version 17.
END_SILENT = text("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = :application
    AND state = 'active' AND wait_event_type = 'Client' AND state_change < now() - make_interval(secs => :seconds)""")


def engine(url: str, connections: int, wait_seconds: float) -> AsyncEngine:
    """READ COMMITTED: a statement after a lock sees everything that was committed while the lock was waited for."""
    settings = {
        "application_name": APPLICATION,
        "lock_timeout": f"{int(wait_seconds * 1000)}ms",
        # A node that vanished without a word holds the lock of a group no longer than this; see END_SILENT.
        "idle_in_transaction_session_timeout": f"{int(2 * wait_seconds * 1000)}ms",
    }
    return create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=wait_seconds,
        isolation_level="READ COMMITTED",
        hide_parameters=True,
        json_serializer=write_data,
        json_deserializer=orjson.loads,
        # Longer than a lock may take, so that a lock is told as one; a connection that went silent ends with it.
        connect_args={"timeout": wait_seconds, "command_timeout": 2 * wait_seconds, "server_settings": settings},
    )


class Reader:
    """Reads, each one snapshot; none can write."""

    def __init__(self, engine: AsyncEngine, clock: Callable[[], datetime]) -> None:
        self._engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._without_transactions = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._clock = clock

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """Raises Unavailable."""
        return self._connected(self._engine)

    def glance(self) -> AbstractAsyncContextManager[Transaction]:
        """Raises Unavailable."""
        return self._connected(self._without_transactions)

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncGenerator[Transaction]:
        try:
            async with engine.connect() as connection:
                yield LoopTransaction(self._clock, connection)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise translated(error, committed=False) from error

    async def stop(self) -> None:
        """The connections are the writer's."""


class Writer:
    """Writes to PostgreSQL, each in a transaction of its own."""

    def __init__(
        self,
        engine: AsyncEngine,
        wait_seconds: float,
        clock: Callable[[], datetime],
        after_commit: Callable[[], AfterCommit],
    ) -> None:
        self._engine = engine
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._after_commit = after_commit
        self._writes: set[asyncio.Task[Any]] = set()

    async def write(self, work: Work[T]) -> T:
        task = asyncio.create_task(self._write(work))
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    async def stop(self) -> None:
        if self._writes:
            await asyncio.wait(self._writes, timeout=self._wait_seconds)
        await self._engine.dispose()

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()

    async def _write(self, work: Work[T]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                result, appended = await self._attempt(work)
            except SQLAlchemyError as error:
                if not may_run_again(error):
                    raise
                await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311  # jitter
                continue
            if appended:
                self._after_commit()(appended)
            return result
        raise Unavailable(committed=False)

    async def _attempt(self, work: Work[T]) -> tuple[T, list[Appended]]:
        committing = False
        try:
            async with self._engine.connect() as connection:
                transaction = LoopTransaction(self._clock, connection)
                try:
                    result = await work(transaction)
                except SQLAlchemyError as error:
                    if state_of(error) == LOCK_NOT_AVAILABLE:
                        await self._end_silent(connection)
                    raise
                committing = True
                await connection.commit()
                return result, transaction.appended
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if may_run_again(error):
                raise
            raise translated(error, committed=None if committing else False) from error

    async def _end_silent(self, connection: AsyncConnection) -> None:
        """End the sessions of nodes that stand still in the middle of a request: one of them may hold the lock."""
        with suppress(SQLAlchemyError, OSError, TimeoutError):
            await connection.rollback()
            await connection.execute(END_SILENT, {"application": APPLICATION, "seconds": 2 * self._wait_seconds})
