"""Transactions on SQLite or PostgreSQL, and what became of them. Knows nothing of the other rooms.

A write locks first and judges afterwards, in later statements (READ COMMITTED on PostgreSQL, BEGIN IMMEDIATE on
SQLite). A read sees one snapshot from its first statement to its last. What a write appended to logs is announced after
its commit, from one place.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import CursorResult, Executable, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

T = TypeVar("T")

WRITE_ATTEMPTS = 5
RETRIED_STATES = frozenset({"40001", "40P01"})  # serialization failure, deadlock
UNREACHABLE_CLASSES = (
    "08",
    "53",
    "55",
    "57",
    "58",
)  # connection, resources, lock not available, operator intervention, system error
UNREACHABLE_SQLITE = (
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_READONLY",
    "SQLITE_CANTOPEN",
)
TAKEN = frozenset({"23505", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID"})


class LogKind(StrEnum):
    """Whose log a row belongs to."""

    GROUP = "group"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Appended:
    """The new head of one log, as a transaction left it."""

    log: LogKind
    id: UUID
    seq: int


class Unavailable(Exception):
    """The database did not do what was asked.

    `committed` is False where that is certain, None where nobody can know.
    """

    def __init__(self, committed: bool | None) -> None:
        super().__init__("the database is not available")
        self.committed = committed


class Collision(Exception):
    """A unique key was taken by a transaction beside this one; everything of this one was rolled back."""


@dataclass(slots=True)
class Transaction:
    """One transaction: `now` is its single moment, `appended` what its commit will announce."""

    connection: AsyncConnection
    now: datetime
    appended: list[Appended] = field(default_factory=list[Appended])

    async def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[*tuple[Any, ...]]:
        return await self.connection.execute(statement, parameters)

    @property
    def is_sqlite(self) -> bool:
        return self.connection.dialect.name == "sqlite"


AfterCommit = Callable[[Sequence[Appended]], None]


def _announce_nothing(_: Sequence[Appended]) -> None:
    """A process without a bus (a command) announces nothing: the head check of the servers finds its rows."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class Database:
    """The engines of one process. `after_commit` is told what each committed write appended."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        wait_seconds: float = 5.0,
        after_commit: AfterCommit = _announce_nothing,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._writes: set[asyncio.Task[Any]] = set()
        self.after_commit = after_commit
        if url.startswith("sqlite"):
            self._reader, self._writer = _sqlite_engines(url, pool_size, wait_seconds)
        else:
            self._reader, self._writer = _postgres_engines(url, pool_size, wait_seconds)

    async def stop(self) -> None:
        """Let the writes under way end, then close every connection."""
        if self._writes:
            await asyncio.wait(self._writes, timeout=self._wait_seconds)
        await self._writer.dispose()
        await self._reader.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Transaction]:
        """One snapshot. Raises Unavailable."""
        try:
            async with self._reader.connect() as connection:
                yield Transaction(connection, self._clock())
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise _translated(error, committed=False) from error

    async def write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in one transaction, commit, announce; repeat it from the start after a deadlock or a collision.

        The work goes on to its end when the caller is cancelled: a commit is never torn from its announcement.
        Raises Unavailable, and whatever `work` raises (then nothing was written).
        """
        task = asyncio.create_task(self._write(work))
        self._writes.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()

    async def _write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        for attempt in range(1, WRITE_ATTEMPTS + 1):
            try:
                result, appended = await self._attempt(work)
            except _Retry as again:
                if attempt == WRITE_ATTEMPTS:
                    raise Unavailable(committed=False) from again
                await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311  # jitter
                continue
            if appended:
                self.after_commit(appended)
            return result
        raise AssertionError("unreachable")

    async def _attempt(self, work: Callable[[Transaction], Awaitable[T]]) -> tuple[T, list[Appended]]:
        committing = False
        try:
            async with self._writer.connect() as connection:
                transaction = Transaction(connection, self._clock())
                result = await work(transaction)
                committing = True
                await connection.commit()
                return result, transaction.appended
        except Collision as error:
            raise _Retry from error
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if _is_retried(error):
                raise _Retry from error
            raise _translated(error, committed=None if committing else False) from error

    async def ping(self) -> None:
        """Raises Unavailable unless the database answers."""
        async with self.read() as transaction:
            await transaction.execute(text("SELECT 1"))


class _Retry(Exception):
    """The transaction was rolled back whole and may run again."""


def _state(error: BaseException) -> str:
    """The SQLSTATE of PostgreSQL or the error name of SQLite, or nothing where the connection itself is gone."""
    original = getattr(error, "orig", None)
    cause = getattr(original, "__cause__", None)
    names = (
        getattr(original, "sqlstate", None),
        getattr(original, "sqlite_errorname", None),
        getattr(cause, "sqlite_errorname", None),
    )
    return next((name for name in names if name), "")


def _is_retried(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and _state(error) in RETRIED_STATES | TAKEN


def _translated(error: Exception, *, committed: bool | None) -> Exception:
    """Unavailable for what the engine or the way to it did; a statement that is wrong stays the defect that it is."""
    if isinstance(error, (OSError, TimeoutError, PoolTimeout)):
        return Unavailable(committed)
    if isinstance(error, DBAPIError):
        state = _state(error)
        if error.connection_invalidated or not state or state.startswith(UNREACHABLE_CLASSES + UNREACHABLE_SQLITE):
            return Unavailable(committed)
    return error


def _sqlite_engines(url: str, readers: int, wait_seconds: float) -> tuple[AsyncEngine, AsyncEngine]:
    """Readers with snapshots, and one writer: more only sleep in SQLite's busy handler (145-470 sends a second with
    five, 500-730 with one).
    """
    reader = create_async_engine(url, pool_size=readers, max_overflow=0, pool_timeout=wait_seconds)
    writer = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=wait_seconds)
    _on_sqlite(reader, "BEGIN", wait_seconds, ("PRAGMA query_only=ON",))
    _on_sqlite(writer, "BEGIN IMMEDIATE", wait_seconds, ())
    return reader, writer


def _on_sqlite(engine: AsyncEngine, begin: str, wait_seconds: float, more: Sequence[str]) -> None:
    """Our own BEGIN (a read that turns into a write fails at once), WAL, and FULL: only that survives a power cut."""
    pragmas = (
        f"PRAGMA busy_timeout={int(wait_seconds * 1000)}",
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "PRAGMA foreign_keys=ON",
        *more,
    )

    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    def begun(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begun)


def _postgres_engines(url: str, pool_size: int, wait_seconds: float) -> tuple[AsyncEngine, AsyncEngine]:
    """One pool seen in two ways: snapshots that cannot write, and READ COMMITTED, where a statement after a lock sees
    what came before it.
    """
    writer = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=wait_seconds,
        isolation_level="READ COMMITTED",
        connect_args={
            "timeout": wait_seconds,
            "server_settings": {"application_name": "parley", "lock_timeout": f"{int(wait_seconds * 1000)}ms"},
        },
    )
    reader = writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return reader, writer
