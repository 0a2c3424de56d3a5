"""SQLite: snapshots for readers, and one writer that commits everything that waits. Knows nothing of the other rooms.

Statements run on the event loop: SQLite answers from memory in microseconds, and a hop to a thread costs more than
that, up to 5 ms when the thread has to ask for the interpreter back (half the sends a second, measured under load).
What may wait runs on a thread: the write lock, which another process may hold, and the commit, which is the disk's.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from .faults import Unavailable, may_run_again, state_of, translated
from .transactions import Appended, DirectTransaction, Transaction

T = TypeVar("T")
Work = Callable[[Transaction], Coroutine[Any, Any, Any]]
AfterCommit = Callable[[Sequence[Appended]], None]

LARGEST_BATCH = 128
MOST_WAITING = 4_096
MOST_IDLE_READERS = 4
ATTEMPTS_ALONE = 3
CERTAINLY_NOT_COMMITTED = ("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_CONSTRAINT")


def _engine(url: str, begin: str, wait_seconds: float, *more: str) -> Engine:
    """Our own BEGIN (a read that turns into a write fails at once), WAL, and FULL: only that survives a power cut."""
    pragmas = (
        f"PRAGMA busy_timeout={int(wait_seconds * 1000)}",
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "PRAGMA foreign_keys=ON",
        *more,
    )
    engine = create_engine(
        url.replace("+aiosqlite", ""),
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"check_same_thread": False},
    )

    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


class Reader:
    """Reads of a SQLite file, each one snapshot; none can write."""

    def __init__(self, url: str, wait_seconds: float, clock: Callable[[], datetime]) -> None:
        self._engine = _engine(url, "BEGIN", wait_seconds, "PRAGMA query_only=ON")
        self._clock = clock
        self._idle: list[Connection] = []

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Transaction]:
        """Raises Unavailable."""
        try:
            connection = self._idle.pop() if self._idle else self._engine.connect()
            try:
                connection.begin()
                yield DirectTransaction(self._clock, connection)
            finally:
                self._leave(connection)
        except SQLAlchemyError as error:
            raise translated(error, committed=False) from error

    def _leave(self, connection: Connection) -> None:
        connection.rollback()
        if len(self._idle) < MOST_IDLE_READERS:
            self._idle.append(connection)
        else:
            connection.close()

    async def stop(self) -> None:
        while self._idle:
            self._idle.pop().close()
        self._engine.dispose()


@dataclass(slots=True, eq=False)
class _Job:
    """One write that waits for its commit."""

    work: Work
    done: "asyncio.Future[Any]"
    waiting_since: float = field(default_factory=time.monotonic)
    result: Any = None
    error: BaseException | None = None
    committed: bool = False
    appended: list[Appended] = field(default_factory=list[Appended])

    def forget(self) -> None:
        """What was done for it was rolled back."""
        self.result, self.error, self.appended = None, None, []

    def fail(self, error: BaseException) -> None:
        self.forget()
        self.error = error

    def settle(self) -> None:
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)


class Writer:
    """The one writer of a SQLite file: more only sleep in its busy handler (145-470 sends a second with five, 500-730).

    Whatever waits goes into one transaction, each write behind a savepoint of its own: one that refuses takes nothing
    along. A fault of the database rolls the whole batch back, and each write runs again alone.
    """

    def __init__(
        self, url: str, wait_seconds: float, clock: Callable[[], datetime], after_commit: Callable[[], AfterCommit]
    ) -> None:
        self._engine = _engine(url, "BEGIN IMMEDIATE", wait_seconds)
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._after_commit = after_commit
        self._waiting: deque[_Job] = deque()
        self._task: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(1, "sqlite")
        self._connection: Connection | None = None

    async def write(self, work: Work) -> Any:
        """The result of `work`, committed. Cancelling the caller cancels nothing: the commit is shared with others.

        Raises Unavailable, and whatever `work` raises; it may await nothing but its transaction.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Unavailable(committed=False)
        job = _Job(work, asyncio.get_running_loop().create_future())
        job.done.add_done_callback(_retrieve)
        self._waiting.append(job)
        if self._task is None:
            self._task = asyncio.create_task(self._write_all())
        return await asyncio.shield(job.done)

    async def stop(self) -> None:
        """Let everything that waits be written, then end."""
        if self._task is not None:
            await self._task
        if self._connection is not None:
            self._connection.close()
        self._disk.shutdown()
        self._engine.dispose()

    async def _write_all(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(LARGEST_BATCH, len(self._waiting)))]
            try:
                await self._write(batch)
            except Exception as error:  # noqa: BLE001  # it is told to every write of the batch that has no answer
                for job in batch:
                    if not job.committed and job.error is None:
                        job.fail(translated(error, committed=False))
                self._connection = None
            self._settle(batch)
        self._task = None

    async def _write(self, batch: Sequence[_Job]) -> None:
        late = time.monotonic() - self._wait_seconds
        for job in batch:
            if job.waiting_since <= late:
                job.error = Unavailable(committed=False)
        jobs = [job for job in batch if job.error is None]
        connection = self._connection = self._connection or await self._on_disk(self._engine.connect)
        if len(jobs) > 1 and await self._together(connection, jobs):
            return
        for job in jobs:
            await self._alone(connection, job)

    async def _together(self, connection: Connection, jobs: Sequence[_Job]) -> bool:
        """All of them in one commit. False: the database refused, nothing was written, none has an answer."""
        try:
            await self._on_disk(connection.begin)
            for job in jobs:
                self._behind_savepoint(connection, job)
            await self._on_disk(connection.commit)
            for job in jobs:
                job.committed = True
        except SQLAlchemyError:
            _roll_back(connection)
            for job in jobs:
                job.forget()
            return False
        return True

    def _behind_savepoint(self, connection: Connection, job: _Job) -> None:
        connection.exec_driver_sql("SAVEPOINT job")
        try:
            self._perform(connection, job)
        except SQLAlchemyError:
            raise
        except Exception as refused:  # noqa: BLE001  # it is the write's own answer
            job.fail(refused)
            connection.exec_driver_sql("ROLLBACK TO job")
        connection.exec_driver_sql("RELEASE job")

    async def _alone(self, connection: Connection, job: _Job) -> None:
        for _ in range(ATTEMPTS_ALONE):
            committing = False
            try:
                await self._on_disk(connection.begin)
                self._perform(connection, job)
                committing = True
                await self._on_disk(connection.commit)
            except Exception as error:  # noqa: BLE001  # it is the write's own answer
                _roll_back(connection)
                if not may_run_again(error):
                    uncertain = committing and not state_of(error).startswith(CERTAINLY_NOT_COMMITTED)
                    job.fail(translated(error, committed=None if uncertain else False))
                    return
                job.fail(Unavailable(committed=False))
            else:
                job.committed = True
                return

    def _perform(self, connection: Connection, job: _Job) -> None:
        transaction = DirectTransaction(self._clock, connection)
        job.forget()
        job.result = _driven(job.work(transaction))
        job.appended = transaction.appended

    async def _on_disk(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, call)

    def _settle(self, batch: Sequence[_Job]) -> None:
        if appended := [each for job in batch if job.error is None for each in job.appended]:
            self._after_commit()(appended)
        for job in batch:
            job.settle()


def _roll_back(connection: Connection) -> None:
    """SQLAlchemy sends no ROLLBACK after a COMMIT that failed, and SQLite may or may not have rolled back by itself."""
    connection.rollback()
    driver: Any = connection.connection.dbapi_connection
    if driver.in_transaction:
        driver.rollback()


def _driven(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never suspends, because the statements it awaits are done when they return."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise RuntimeError("a write may await nothing but its transaction")


def _retrieve(done: "asyncio.Future[Any]") -> None:
    """A caller that was cancelled does not ask for its answer."""
    if not done.cancelled():
        done.exception()
