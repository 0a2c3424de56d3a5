"""PostgreSQL: one pool of connections for its reader and its writer. Knows nothing of the other rooms."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from typing import Any, TypeVar

import orjson
from sqlalchemy import NullPool, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from .faults import LOCK_NOT_AVAILABLE, Unavailable, may_run_again, state_of, translated
from .statements import write_data
from .transactions import Appended, LoopTransaction, Transaction, driver_of

T = TypeVar("T")
Work = Callable[[Transaction], Coroutine[Any, Any, T]]
AfterCommit = Callable[[Sequence[Appended]], None]

ATTEMPTS = 5
APPLICATION = "parley"
# READ COMMITTED: a statement after a lock sees everything that was committed while the lock was waited for.
BEGIN_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED"
BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
NO_BEGIN = ""

# A statement that is new to a connection goes in two requests. Between them PostgreSQL calls the session active,
# `idle_in_transaction_session_timeout` does not count, and `transaction_timeout` came only with version 17.
END_SILENT = text("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = :application
    AND state = 'active' AND wait_event_type = 'Client' AND state_change < now() - make_interval(secs => :seconds)""")


def engine(url: str, wait_seconds: float) -> AsyncEngine:
    settings = {
        "application_name": APPLICATION,
        "lock_timeout": f"{int(wait_seconds * 1000)}ms",
        # A node that vanished without a word holds the lock of a group no longer than this; see END_SILENT.
        "idle_in_transaction_session_timeout": f"{int(2 * wait_seconds * 1000)}ms",
    }
    return create_async_engine(
        url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",  # neither driver nor engine begins or ends by itself: `Connections` does
        hide_parameters=True,
        json_serializer=write_data,
        json_deserializer=orjson.loads,
        # Longer than a lock may take, so that a lock is told as one; a connection that went silent ends with it.
        connect_args={"timeout": wait_seconds, "command_timeout": 2 * wait_seconds, "server_settings": settings},
    )


class Connections:
    """At most so many connections to PostgreSQL. A free one is taken at once, the one that was used last.

    SQLAlchemy's pool is entered through a greenlet, left by a task, and uses all of its connections in turn: with this
    a send takes 27 % less of the node's CPU and 9 % less of PostgreSQL's.
    """

    def __init__(self, url: str, most: int, wait_seconds: float, clock: Callable[[], datetime]) -> None:
        self.engine = engine(url, wait_seconds)
        self.wait_seconds = wait_seconds
        self._turns = asyncio.Semaphore(most)
        self._clock = clock
        self._idle: list[AsyncConnection] = []
        self._stopped = False

    @asynccontextmanager
    async def begun(self, begin: str) -> AsyncGenerator[LoopTransaction]:
        """A transaction, or without `begin` each statement by itself; what the block does not commit is rolled back.

        Raises SQLAlchemyError, OSError, TimeoutError.
        """
        async with asyncio.timeout(self.wait_seconds):
            await self._turns.acquire()
        try:
            transaction, in_doubt = LoopTransaction(self._clock, await self._free()), False
            try:
                if begin:
                    await transaction.say(begin)
                yield transaction
            except (asyncio.CancelledError, OSError, TimeoutError):  # nobody knows what the connection does now
                in_doubt = True
                raise
            finally:
                await self._leave(transaction, in_doubt=in_doubt)
        finally:
            self._turns.release()

    async def stop(self) -> None:
        self._stopped = True
        while self._idle:
            await self._idle.pop().close()
        await self.engine.dispose()

    async def _free(self) -> AsyncConnection:
        while self._idle:
            connection = self._idle.pop()
            if not driver_of(connection).is_closed():
                return connection
            await connection.close()  # a restart of PostgreSQL ends all of them
        return await self.engine.connect()

    async def _leave(self, transaction: LoopTransaction, *, in_doubt: bool) -> None:
        connection, free = transaction.connection, False
        try:
            if not (in_doubt or connection.invalidated or transaction.driver.is_closed()):
                await _roll_back(transaction)
                free = not self._stopped
        except (SQLAlchemyError, OSError, TimeoutError):
            pass  # what was done here was done, and the connection is closed
        finally:
            if free:
                self._idle.append(connection)
            else:
                await connection.invalidate()
                await connection.close()


async def _roll_back(transaction: LoopTransaction) -> None:
    """What was not committed, if anything was begun."""
    if transaction.driver.is_in_transaction():
        await transaction.say("ROLLBACK")
    if transaction.connection.in_transaction():  # what SQLAlchemy takes for one: something of its own was run
        await transaction.connection.rollback()


class Reader:
    """Reads, each one snapshot; none can write."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """Raises Unavailable."""
        return self._connected(BEGIN_READ)

    def glance(self) -> AbstractAsyncContextManager[Transaction]:
        """Raises Unavailable."""
        return self._connected(NO_BEGIN)

    @asynccontextmanager
    async def _connected(self, begin: str) -> AsyncGenerator[Transaction]:
        try:
            async with self._connections.begun(begin) as transaction:
                yield transaction
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise translated(error, committed=False) from error

    async def stop(self) -> None:
        """The connections are the writer's."""


class Writer:
    """Writes to PostgreSQL, each in a transaction of its own."""

    def __init__(self, connections: Connections, after_commit: Callable[[], AfterCommit]) -> None:
        self._connections = connections
        self._after_commit = after_commit
        self._writes: set[asyncio.Task[Any]] = set()

    async def write(self, work: Work[T]) -> T:
        task = asyncio.create_task(self._write(work))
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    async def stop(self) -> None:
        if self._writes:
            await asyncio.wait(self._writes, timeout=self._connections.wait_seconds)
        await self._connections.stop()

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
            async with self._connections.begun(BEGIN_WRITE) as transaction:
                try:
                    result = await work(transaction)
                    await transaction.flush()
                except SQLAlchemyError as error:
                    if state_of(error) == LOCK_NOT_AVAILABLE:
                        await self._end_silent(transaction)
                    raise
                committing = True
                await transaction.say("COMMIT")
                return result, transaction.appended
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if may_run_again(error):
                raise
            raise translated(error, committed=None if committing else False) from error

    async def _end_silent(self, transaction: LoopTransaction) -> None:
        """End the sessions of nodes that stand still in the middle of a request: one of them may hold the lock."""
        with suppress(SQLAlchemyError, OSError, TimeoutError):
            await transaction.say("ROLLBACK")
            await transaction.execute(
                END_SILENT, {"application": APPLICATION, "seconds": 2 * self._connections.wait_seconds}
            )
