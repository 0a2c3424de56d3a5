"""Proves that a test can fail: runs its scenario on Parley as built and on versions that break one rule. No fixture.

A `Bench` is a server in this event loop whose statements can be held, broken and recorded, and whose rows can be locked
from a connection of its own: races are made, never waited for.
"""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.util import await_only, greenlet_spawn

from app import Process
from db import tables, transactions
from db.engine import Database, Transaction, Unavailable
from db.statements import Row
from delivery.events import Batch, Hint
from delivery.stream import Stream
from schema import ids
from settings import Settings
from tests.harness import GraphQLFailure, Json, Server, Stack, World, eventually, serving

DEADLINE = 10
HELD_SECONDS = 30  # a writer's thread that nobody releases ends all the same
NEVER = 3_600.0
COMMIT = "COMMIT"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Work: TypeAlias = Callable[[Transaction], Coroutine[Any, Any, Any]]


@dataclass(frozen=True)
class Version:
    """Parley with some of its parts replaced: (where, by what). Without any it is Parley as built."""

    name: str
    parts: tuple[tuple[str, Any], ...] = ()

    @contextmanager
    def judged(self) -> Generator[list[str]]:
        """Run a scenario that notes what it finds wrong: nothing as built, something in every other version."""
        violations: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            for where, part in self.parts:
                patch.setattr(where, part)
            yield violations
        if self.parts:
            assert violations, f"the scenario does not notice this: {self.name}"
        else:
            assert not violations, "; ".join(violations)


def always(*, answer: bool) -> Callable[..., bool]:
    """A question that has one answer."""

    def answered(*_: object) -> bool:
        return answer

    return answered


AS_BUILT = Version("as built")


def against(*wrong: Version) -> pytest.MarkDecorator:
    """Run the test as built, where nothing must be found wrong, and on each wrong version, where something must be."""
    return pytest.mark.parametrize("version", [AS_BUILT, *wrong], ids=lambda version: version.name)


def only_on(stack: str) -> pytest.MarkDecorator:
    """Run the test on one stack: the rule is about what only this database does."""
    return pytest.mark.parametrize("stack", [stack], indirect=True)


class Hold:
    """Something that stands still until it is released."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._main = threading.current_thread()
        self._reached, self._released = asyncio.Event(), asyncio.Event()
        self._released_for_threads = threading.Event()

    async def reached(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self._reached.wait()

    @property
    def is_reached(self) -> bool:
        return self._reached.is_set()

    def release(self) -> None:
        self._released.set()
        self._released_for_threads.set()

    async def stand_still(self) -> None:
        self._reached.set()
        await self._released.wait()

    def stand_still_here(self) -> None:
        """Called where a statement runs: in a greenlet of the loop (PostgreSQL), or in SQLite's thread."""
        if threading.current_thread() is self._main:
            await_only(self.stand_still())
        else:
            self._loop.call_soon_threadsafe(self._reached.set)
            self._released_for_threads.wait(HELD_SECONDS)


def runner() -> str:
    """The coroutine of the task, or the thread, that runs this."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return threading.current_thread().name
    return name_of(task) if task else ""


def name_of(task: "asyncio.Task[Any]") -> str:
    return getattr(task.get_coro(), "__qualname__", "")


class Statements:
    """Every statement of one process and every COMMIT, seen just before it runs."""

    def __init__(self, process: Process) -> None:
        self._hooks: list[Callable[[str, int], None]] = []
        self._engines = _engines(process)

    def listen(self) -> None:
        for engine in self._engines:
            event.listen(engine, "before_cursor_execute", self._before)
            event.listen(engine, "commit", self._commit)
        self._runs = transactions.on_sqlite, transactions.on_postgres
        transactions.on_sqlite, transactions.on_postgres = self._on_sqlite, self._on_postgres

    def stop(self) -> None:
        for engine in self._engines:
            event.remove(engine, "before_cursor_execute", self._before)
            event.remove(engine, "commit", self._commit)
        transactions.on_sqlite, transactions.on_postgres = self._runs

    @contextmanager
    def held(self, *words: str) -> Generator[Hold]:
        """Hold the first statement with all these words. On SQLite only COMMIT: the others run on the event loop."""
        hold = Hold()

        def hook(statement: str, _: int) -> None:
            if not hold.is_reached and _matches(statement, words):
                hold.stand_still_here()

        with self._hooked(hook):
            try:
                yield hold
            finally:
                hold.release()

    @contextmanager
    def broken(self, *words: str) -> Generator[None]:
        """Break the way to the database instead of running such statements."""

        def hook(statement: str, _: int) -> None:
            if _matches(statement, words):
                raise self._fault(statement)

        with self._hooked(hook):
            yield

    @contextmanager
    def refused_commit(self) -> Generator[None]:
        """SQLite itself refuses to commit, and leaves the transaction open: a row of nobody's is found at the end."""
        stray = (
            "INSERT INTO sent_ids (sender_id, client_message_id, group_id, message_id, digest) VALUES (1, 1, 1, 1, 1)"
        )

        def refused(connection: Any) -> None:
            connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
            connection.exec_driver_sql(stray)

        for engine in self._engines:
            event.listen(engine, "commit", refused)
        try:
            yield
        finally:
            for engine in self._engines:
                event.remove(engine, "commit", refused)

    @contextmanager
    def recorded(self) -> Generator[list[tuple[int, str]]]:
        """Every statement with its connection."""
        seen: list[tuple[int, str]] = []
        with self._hooked(lambda statement, connection: seen.append((connection, statement))):
            yield seen

    @contextmanager
    def _hooked(self, hook: Callable[[str, int], None]) -> Generator[None]:
        self._hooks.append(hook)
        try:
            yield
        finally:
            self._hooks.remove(hook)

    def _fault(self, statement: str) -> Exception:
        if self._engines[0].dialect.name == "postgresql":
            return ConnectionResetError("broken by a test")
        fault = sqlite3.OperationalError("disk I/O error")
        fault.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        return OperationalError(statement, None, fault) if statement == COMMIT else fault

    def _before(self, connection: Any, _: Any, text: str, parameters: Any, *__: Any) -> None:
        self._tell(connection, f"{text} {parameters}")

    def _on_sqlite(self, connection: Any, text: str, parameters: Sequence[Any] = ()) -> list[Row]:
        if connection.engine in self._engines:
            try:
                self._tell(connection, f"{text} {parameters}")
            except sqlite3.Error as fault:
                raise OperationalError(text, None, fault) from fault
        return self._runs[0](connection, text, parameters)

    async def _on_postgres(self, connection: Any, call: Any, text: str, *parameters: Any) -> Any:
        if connection.sync_engine in self._engines and not text.startswith(("BEGIN", "ROLLBACK")):
            said = f"{text} {parameters}" if parameters else text
            await greenlet_spawn(self._tell, connection.sync_connection, said)
        return await self._runs[1](connection, call, text, *parameters)

    def _commit(self, connection: Any) -> None:
        self._tell(connection, COMMIT)

    def _tell(self, connection: Any, statement: str) -> None:
        for hook in tuple(self._hooks):
            hook(statement, id(connection.connection.dbapi_connection))


def _matches(statement: str, words: tuple[str, ...]) -> bool:
    return statement == COMMIT if words == (COMMIT,) else all(word in statement for word in words)


def _engines(process: Process) -> list[Engine]:
    """Both engines of SQLite, the one of PostgreSQL."""
    database: Any = process.database
    if process.settings.is_sqlite:
        return [database._reader._engine, database._writer._engine]
    return [database._writer._connections.engine.sync_engine]


class Reads:
    """Every read of one process: each is one snapshot, so whatever races with it comes before or after it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._hooks: list[Callable[[str, bool], Awaitable[None] | None]] = []

    def listen(self) -> None:
        database = self._process.database
        database.read = lambda: self._seen(Database.read(database))
        database.glance = lambda: self._seen(Database.glance(database))

    def stop(self) -> None:
        del self._process.database.read, self._process.database.glance

    @asynccontextmanager
    async def _seen(self, read: AbstractAsyncContextManager[Transaction]) -> AsyncGenerator[Transaction]:
        who = runner()
        await self._tell(who, done=False)
        async with read as transaction:
            yield transaction
        await self._tell(who, done=True)

    async def _tell(self, who: str, *, done: bool) -> None:
        for hook in tuple(self._hooks):
            if (waiting := hook(who, done)) is not None:
                await waiting

    @contextmanager
    def held(self, by: str, *, skip: int = 0, done: bool = False) -> Generator[Hold]:
        """Hold a read of that coroutine, the first after `skip` others: before it, or when it is done."""
        hold, seen = Hold(), [0]

        def hook(who: str, is_done: bool) -> Awaitable[None] | None:
            if by not in who or is_done is not done:
                return None
            seen[0] += 1
            return hold.stand_still() if seen[0] == skip + 1 else None

        with self._hooked(hook):
            try:
                yield hold
            finally:
                hold.release()

    @contextmanager
    def broken(self, by: str = "", *, times: int | None = None) -> Generator[list[str]]:
        """No database for the reads of that coroutine, for good or for so many; yields who has met it."""
        met: list[str] = []

        def hook(who: str, is_done: bool) -> None:
            if not is_done and by in who and (times is None or len(met) < times):
                met.append(who)
                raise Unavailable(committed=False)

        with self._hooked(hook):
            yield met

    @contextmanager
    def counted(self, by: str) -> Generator[list[str]]:
        """Who has read, for each read of that coroutine."""
        seen: list[str] = []

        def hook(who: str, is_done: bool) -> None:
            if not is_done and by in who:
                seen.append(who)

        with self._hooked(hook):
            yield seen

    @contextmanager
    def _hooked(self, hook: Callable[[str, bool], Awaitable[None] | None]) -> Generator[None]:
        self._hooks.append(hook)
        try:
            yield
        finally:
            self._hooks.remove(hook)


class Bench:
    """A server in this event loop, on which rules are put to the test."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.process: Process = server.app.state.process
        self.world = World(server)
        self.statements = Statements(self.process)
        self.reads = Reads(self.process)
        self._writes = 0

    @classmethod
    @asynccontextmanager
    async def on(cls, server: Server) -> AsyncGenerator["Bench"]:
        bench = cls(server)
        bench.statements.listen()
        bench.reads.listen()
        bench.process.database.write = bench._counted_write
        try:
            async with bench.world:
                yield bench
        finally:
            del bench.process.database.write
            bench.reads.stop()
            bench.statements.stop()

    async def _counted_write(self, work: Work) -> Any:
        self._writes += 1
        try:
            return await Database.write(self.process.database, work)
        finally:
            self._writes -= 1

    @property
    def is_sqlite(self) -> bool:
        return self.server.settings.is_sqlite

    async def writes_wait(self, count: int, *, held: int = 0) -> None:
        """Return once so many writes wait, beside those that are held: for SQLite's writer, or PostgreSQL's locks."""
        await eventually(lambda: self._writes >= count + held)
        if not self.is_sqlite:
            async with self.connection() as connection:
                await eventually(lambda: _locks_wait(connection, count))

    @asynccontextmanager
    async def connection(self, **settings: str) -> AsyncGenerator["Connection"]:
        """A connection of the test's own to PostgreSQL."""
        url = self.server.settings.database_url.replace("+asyncpg", "")
        connection = await asyncpg.connect(url, server_settings=settings)
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def row_locked(self, table: str, id: UUID) -> AsyncGenerator[None]:
        """Hold this row's lock (SQLite: the only one, for writing) from another connection, and then give it back."""
        if self.is_sqlite:
            with _sqlite(self.server.settings) as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield
                connection.execute("ROLLBACK")
            return
        async with self.connection() as connection, connection.transaction():
            await connection.execute(f"SELECT 1 FROM {table} WHERE id = $1 FOR UPDATE", id)  # noqa: S608
            yield

    async def log(self, group_id: str) -> list[tuple[int, str]]:
        """The seq and the kind of each row of a group's log; HOLE for what the head says beyond the last row."""
        group, events = tables.groups.c, tables.group_events.c
        async with self.process.database.read() as transaction:
            head = await transaction.execute(select(group.head_seq).where(group.id == ids.group(group_id)))
            rows = await transaction.execute(
                select(events.seq, events.kind).where(events.group_id == ids.group(group_id)).order_by(events.seq)
            )
            found, last = [(seq, kind) for seq, kind in rows], head.scalar_one()
        return [*found, *((seq, "HOLE") for seq in range(found[-1][0] + 1, last + 1))]

    @contextmanager
    def announcements(self) -> Generator[list[Hint]]:
        """The hints that are given to the streams from here on."""
        given: list[Hint] = []
        streams, announce = self.process.streams, self.process.streams.announce

        def noted(committed: Iterable[tuple[Hint, Batch | None]]) -> None:
            told = list(committed)
            given.extend(hint for hint, _ in told)
            announce(told)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(streams, "announce", noted)
            yield given

    @contextmanager
    def as_if_by_another_node(self) -> Generator[None]:
        """What is committed from here on is not handed to the streams of this process: they read it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Stream, "take", _take_nothing)
            yield

    async def holes(self, group_id: str) -> list[int]:
        """The numbers of a group's log up to its head that no row has."""
        log = await self.log(group_id)
        taken = {seq for seq, kind in log if kind != "HOLE"}
        return [seq for seq in range(1, log[-1][0] + 1) if seq not in taken]


def _take_nothing(*_: object) -> None:
    pass


async def _locks_wait(connection: "Connection", count: int) -> bool:
    activity = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return await connection.fetchval(activity) >= count


@contextmanager
def _sqlite(settings: Settings) -> Generator[sqlite3.Connection]:
    connection = sqlite3.connect(settings.database_url.split("///", 1)[1], isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


@asynccontextmanager
async def quiet_server(stack: Stack, **changes: Any) -> AsyncGenerator[Server]:
    """A server that checks no heads by itself, so that what a rule forgets is not mended a moment later."""
    with stack.fresh() as settings:
        if stack.postgres:
            name = settings["database_url"].rsplit("/", 1)[1]
            stack.postgres.run_sql(f"ALTER DATABASE {name} SET deadlock_timeout = '20ms'")
        quiet: dict[str, Any] = {**settings, "head_check_seconds": NEVER, **changes}
        async with serving(Settings(**quiet)) as server:
            yield server


async def code_of(answer: Awaitable[object]) -> str:
    """The code that a request is refused with, "OK" for one that is not."""
    return (await extensions_of(answer)).get("code", "OK")


async def extensions_of(answer: Awaitable[object]) -> Json:
    try:
        await answer
    except GraphQLFailure as failure:
        return failure.extensions
    return {}


@asynccontextmanager
async def running(work: Awaitable[Any]) -> AsyncGenerator["asyncio.Future[Any]"]:
    """Work under way, which has ended when the block is left, however it is left."""
    task = asyncio.ensure_future(work)
    try:
        yield task
        await asyncio.wait([task], timeout=DEADLINE)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
