"""SQLite: snapshots for readers, and one writer that commits everything that waits. Knows nothing of the other rooms.

Statements run on the event loop: SQLite answers from memory in microseconds, and a hop to a thread costs more than
that, up to 5 ms when the thread has to ask for the interpreter back (half the sends a second, measured under load).
What waits does so on a thread: for the write lock while another process holds it, and for the disk at the commit.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from .faults import Unavailable, may_run_again, state_of, translated
from .statements import write_data
from .transactions import Appended, DirectTransaction, Transaction, on_sqlite

T = TypeVar("T")
Work = Callable[[Transaction], Coroutine[Any, Any, Any]]
AfterCommit = Callable[[Sequence[Appended]], None]

OVERWRITE = "PRAGMA secure_delete=ON"  # what is deleted leaves the file; sends delete nothing: no cost in 6,000 of them
# The write-ahead log grows to 16 MB before it is moved into the file, not to 4: pages that are written again and again
# are moved a quarter as often, which is 4 % of what SQLite does for a send. To read it after a crash takes 14 ms.
MOVE_LATER = "PRAGMA wal_autocheckpoint=4000"
LARGEST_BATCH = 128
MOST_WAITING = 4_096
MOST_IDLE_READERS = 4
ATTEMPTS_ALONE = 3
BEGIN = "BEGIN IMMEDIATE"  # a read that turns into a write fails at once when anybody wrote in between
CERTAINLY_NOT_COMMITTED = ("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_CONSTRAINT")


def _engine(url: str, wait_seconds: float, *more: str) -> Engine:
    """Neither driver nor engine begins by itself; WAL, and FULL: only that survives a power cut."""
    pragmas = (
        _waiting_for_locks(wait_seconds),
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "PRAGMA foreign_keys=ON",
        *more,
    )
    engine = create_engine(
        url.replace("+aiosqlite", ""),
        poolclass=NullPool,
        hide_parameters=True,
        json_serializer=write_data,
        json_deserializer=orjson.loads,
        connect_args={"check_same_thread": False},
    )

    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    event.listen(engine, "connect", connected)
    return engine


def _waiting_for_locks(seconds: float) -> str:
    return f"PRAGMA busy_timeout={int(seconds * 1000)}"


class Reader:
    """Reads of a SQLite file, each one snapshot; none can write."""

    def __init__(self, url: str, wait_seconds: float, clock: Callable[[], datetime]) -> None:
        self._engine = _engine(url, wait_seconds, "PRAGMA query_only=ON")
        self._clock = clock
        self._idle: list[Connection] = []
        self._shared: Connection | None = None

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """Raises Unavailable."""
        return _Read(self.enter, self.leave)

    def glance(self) -> AbstractAsyncContextManager[Transaction]:
        """Raises Unavailable."""
        return _Read(self.look, _nothing_to_leave)

    def enter(self) -> DirectTransaction:
        connection = self._idle.pop() if self._idle else self._engine.connect()
        on_sqlite(connection, "BEGIN")
        return DirectTransaction(self._clock, connection)

    def look(self) -> DirectTransaction:
        """A snapshot of this turn of the event loop, for one statement. Whoever asks because of something that comes
        later does so in a later turn.

        SQLite forgets all pages that it has read when anybody has committed, and takes a lock for each snapshot: with
        16 who send at once, 3 to 5 reads of the file and two locks for each log-in.
        """
        if self._shared is None:
            self._shared = self.enter().connection
            asyncio.get_running_loop().call_soon(self._look_away)
        return DirectTransaction(self._clock, self._shared)

    def _look_away(self) -> None:
        if self._shared is not None:
            shared, self._shared = self._shared, None
            self.leave(shared)

    def leave(self, connection: Connection) -> None:
        if connection.in_transaction():  # what SQLAlchemy takes for one: something of its own was run
            connection.rollback()
        driver: Any = connection.connection.dbapi_connection
        if driver.in_transaction:
            driver.rollback()
        if len(self._idle) < MOST_IDLE_READERS:
            self._idle.append(connection)
        else:
            connection.close()

    async def stop(self) -> None:
        self._look_away()
        while self._idle:
            self._idle.pop().close()
        self._engine.dispose()


@dataclass(slots=True)
class _Read(AbstractAsyncContextManager[Transaction]):
    """One read. A class, because a request enters several and a generator costs 4 µs more."""

    enter: Callable[[], DirectTransaction]
    leave: Callable[[Connection], None]
    transaction: DirectTransaction | None = None

    async def __aenter__(self) -> Transaction:
        try:
            self.transaction = self.enter()
        except SQLAlchemyError as error:
            raise translated(error, committed=False) from error
        return self.transaction

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.transaction is not None
        self.leave(self.transaction.connection)
        if isinstance(error, SQLAlchemyError):
            raise translated(error, committed=False) from error


def _nothing_to_leave(_: Connection) -> None:
    """The snapshot of a turn is left by the reader, when the turn ends."""


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
        _tell(self.done, self.result, self.error)


class _Disk:
    """A thread for what waits, one call after the other.

    An executor's way there and back takes 40 µs more of a send that is alone in its commit.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread: Thread | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """What the call returns or raises. It is made also when nobody waits for it any more."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._thread is None:
            self._thread = Thread(target=self._work, args=(done.get_loop(),), name="sqlite", daemon=True)
            self._thread.start()
        self._calls.put((call, done))
        return await done

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (asked := self._calls.get()) is not None:
            call, done = asked
            try:
                result, error = call(), None
            except BaseException as raised:  # noqa: BLE001  # it is raised where the call is waited for
                result, error = None, raised
            with suppress(RuntimeError):  # the loop was closed, and nobody waits
                loop.call_soon_threadsafe(_tell, done, result, error)

    def stop(self) -> None:
        """After the last call."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join()


def _tell(done: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


class _HalfDone(Exception):
    """A write refused after it had written something."""


class Writer:
    """The one writer of a SQLite file: more only sleep in its busy handler (145-470 sends a second with five, 500-730).

    Whatever waits goes into one transaction: one that refuses before it has written anything takes nothing along. A
    refusal later than that, or a fault of the database, rolls the whole batch back, and each write runs again alone. (A
    savepoint around each would spare that, which hardly ever happens, and cost every send 25 µs.)
    """

    def __init__(
        self, url: str, wait_seconds: float, clock: Callable[[], datetime], after_commit: Callable[[], AfterCommit]
    ) -> None:
        self._engine = _engine(url, wait_seconds, _waiting_for_locks(0), OVERWRITE, MOVE_LATER)
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._after_commit = after_commit
        self._waiting: deque[_Job] = deque()
        self._task: asyncio.Task[None] | None = None
        self._disk = _Disk()
        self._connection: Connection | None = None

    async def write(self, work: Work) -> Any:
        """The result of `work`, committed. Cancelling the caller cancels nothing: the commit is shared with others.

        Raises Unavailable, and whatever `work` raises; it may await nothing but its transaction.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Unavailable(committed=False)
        job = _Job(work, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        if self._task is None:
            self._task = asyncio.create_task(self._write_all())
        return await job.done

    async def stop(self) -> None:
        """Let everything that waits be written, then end."""
        if self._task is not None:
            await self._task
        if self._connection is not None:
            self._connection.close()
        self._disk.stop()
        self._engine.dispose()

    async def _write_all(self) -> None:
        while self._waiting:
            await self._gather()
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

    async def _gather(self) -> None:
        """Wait as long as each turn of the event loop brings more writes, which is not at all on an idle server.

        A commit costs 0.2 ms of CPU: 16 senders that wait for their answers share 3 times fewer of them so.
        """
        waiting = 0
        while waiting < len(self._waiting) < LARGEST_BATCH:
            waiting = len(self._waiting)
            await asyncio.sleep(0)

    async def _write(self, batch: Sequence[_Job]) -> None:
        late = time.monotonic() - self._wait_seconds
        for job in batch:
            if job.waiting_since <= late:
                job.error = Unavailable(committed=False)
        jobs = [job for job in batch if job.error is None]
        connection = self._connection = self._connection or await self._disk.run(self._engine.connect)
        if len(jobs) > 1 and await self._together(connection, jobs):
            return
        for job in jobs:
            await self._alone(connection, job)

    async def _together(self, connection: Connection, jobs: Sequence[_Job]) -> bool:
        """All of them in one commit. False: nothing was written, none has an answer."""
        try:
            await self._begin(connection)
            for job in jobs:
                self._in_batch(connection, job)
            await self._disk.run(connection.commit)
            for job in jobs:
                job.committed = True
        except (SQLAlchemyError, _HalfDone):
            _roll_back(connection)
            for job in jobs:
                job.forget()
            return False
        return True

    def _in_batch(self, connection: Connection, job: _Job) -> None:
        """Raises _HalfDone."""
        driver: Any = connection.connection.dbapi_connection
        before = driver.total_changes
        try:
            self._perform(connection, job)
        except SQLAlchemyError:
            raise
        except Exception as refused:
            if driver.total_changes != before:
                raise _HalfDone from refused
            job.fail(refused)  # it is the write's own answer

    async def _begin(self, connection: Connection) -> None:
        """With the write lock: at once where it is free, which spares each batch a hop to the thread."""
        connection.begin()
        try:
            on_sqlite(connection, BEGIN)
        except SQLAlchemyError as error:
            if not state_of(error).startswith("SQLITE_BUSY"):
                raise
            await self._disk.run(partial(_begin_waiting, connection, self._wait_seconds))

    async def _alone(self, connection: Connection, job: _Job) -> None:
        for _ in range(ATTEMPTS_ALONE):
            committing = False
            try:
                await self._begin(connection)
                self._perform(connection, job)
                committing = True
                await self._disk.run(connection.commit)
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

    def _settle(self, batch: Sequence[_Job]) -> None:
        if appended := [each for job in batch if job.error is None for each in job.appended]:
            self._after_commit()(appended)
        for job in batch:
            job.settle()


def _begin_waiting(connection: Connection, seconds: float) -> None:
    on_sqlite(connection, _waiting_for_locks(seconds))
    try:
        on_sqlite(connection, BEGIN)
    finally:
        on_sqlite(connection, _waiting_for_locks(0))


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
