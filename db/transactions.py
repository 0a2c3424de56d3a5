"""What a transaction is to the queries: one moment, statements, and what its commit will announce.

Knows nothing of the other rooms.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from sqlalchemy import Connection, CursorResult, Executable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from frozen import frozen

from .records import GroupPage, User
from .statements import Row, Statement, Values, together

T = TypeVar("T")
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
Driver = asyncpg.Connection
Found = CursorResult[*tuple[Any, ...]]


class LogKind(StrEnum):
    """Whose log a row belongs to."""

    GROUP = "group"
    USER = "user"


@frozen
class Appended:
    """The new head of one log, as a transaction left it; with what it appended, and the people in it, where the
    transaction knows all of what these rows show.
    """

    log: LogKind
    id: UUID
    seq: int
    page: GroupPage | None = None
    people: Sequence[User] = ()


@dataclass
class Transaction(ABC):
    """One transaction: `now` is its moment, `appended` what its commit will announce."""

    clock: Callable[[], datetime]
    now: datetime = field(init=False)
    appended: list[Appended] = field(default_factory=list[Appended], init=False)

    def __post_init__(self) -> None:
        self.now = self.clock()

    def was_waited_for(self) -> None:
        """A lock was waited for: what happens now happens after what its holder did."""
        self.now = self.clock()

    @abstractmethod
    async def execute(self, statement: Executable, parameters: Parameters = None) -> Found:
        """Run a statement that is built for this call."""

    @abstractmethod
    async def run(self, statement: Statement, values: Values) -> list[Row]:
        """Run a statement that was built before: all its rows."""

    async def first(self, statement: Statement, values: Values) -> Row | None:
        """Run a statement that was built before: its first row."""
        found = await self.run(statement, values)
        return found[0] if found else None

    @abstractmethod
    async def write(self, statement: Statement, values: Values) -> None:
        """Run a statement that gives no rows and reads nothing but the row that it changes: now, or with others like it
        before whatever is run next, the commit among it.
        """

    @abstractmethod
    async def run_many(self, statement: Statement, values: Sequence[Values]) -> None:
        """As `write`, once for each of these, in one round trip."""


@dataclass
class LoopTransaction(Transaction):
    """A transaction whose statements the event loop waits for.

    A statement that was built before goes to asyncpg itself: 21 µs, where the way through SQLAlchemy takes 90. With
    that, and what a send writes in one round trip in place of three or four, a send takes half of the node's CPU and
    three quarters of PostgreSQL's.
    """

    connection: AsyncConnection
    _waiting: dict[Any, tuple[Statement, Values]] = field(default_factory=dict[Any, Any], init=False)

    @property
    def driver(self) -> Driver:
        return driver_of(self.connection)

    async def execute(self, statement: Executable, parameters: Parameters = None) -> Found:
        await self.flush()
        return await self.connection.execute(statement, parameters)

    async def run(self, statement: Statement, values: Values) -> list[Row]:
        await self.flush()
        prepared = statement.on(self.connection.dialect)
        found = await on_postgres(self.connection, Driver.fetch, prepared.text, *prepared.parameters(values))
        return list(map(prepared.row, found))

    async def run_many(self, statement: Statement, values: Sequence[Values]) -> None:
        if len(values) == 1:
            await self.write(statement, values[0])
            return
        await self.flush()
        prepared = statement.on(self.connection.dialect)
        rows = list(map(prepared.parameters, values))
        await on_postgres(self.connection, Driver.executemany, prepared.text, rows)

    async def write(self, statement: Statement, values: Values) -> None:
        if statement.table in self._waiting:  # the statements of one round trip do not see what the others did
            await self.flush()
        self._waiting[statement.table] = statement, values

    async def flush(self) -> None:
        """Send what waits."""
        if not self._waiting:
            return
        waiting = [(statement.on(self.connection.dialect), values) for statement, values in self._waiting.values()]
        self._waiting.clear()
        text = together(tuple(prepared for prepared, _ in waiting))
        parameters = chain.from_iterable(prepared.parameters(values) for prepared, values in waiting)
        await on_postgres(self.connection, Driver.fetch, text, *parameters)

    async def say(self, command: str) -> None:
        """Begin or end a transaction. A COMMIT of what has failed before rolls back, and says so in its answer only."""
        answer = await on_postgres(self.connection, Driver.execute, command)
        assert answer == command.partition(" ")[0], answer


@dataclass
class DirectTransaction(Transaction):
    """A transaction whose statements are done when they return: they never suspend."""

    connection: Connection

    def was_waited_for(self) -> None:
        """SQLite's only lock was there before this transaction began: its moment needs no correction."""

    async def execute(self, statement: Executable, parameters: Parameters = None) -> Found:
        return self.connection.execute(statement, parameters)

    async def run(self, statement: Statement, values: Values) -> list[Row]:
        prepared = statement.on(self.connection.dialect)
        found = on_sqlite(self.connection, prepared.text, prepared.parameters(values))
        return list(map(prepared.row, found))

    async def write(self, statement: Statement, values: Values) -> None:
        await self.run(statement, values)

    async def run_many(self, statement: Statement, values: Sequence[Values]) -> None:
        for each in values:
            await self.run(statement, each)


def on_sqlite(connection: Connection, text: str, parameters: Sequence[Any] = ()) -> list[Row]:
    """All rows, from SQLite's driver itself. Raises what SQLAlchemy would."""
    driver: Any = connection.connection.dbapi_connection
    try:
        return driver.execute(text, parameters).fetchall()
    except sqlite3.Error as error:
        raise DBAPIError.instance(text, None, error, sqlite3.Error, hide_parameters=True) from error


class _Fault(Exception):
    """What PostgreSQL or its driver said, without the details: they quote rows."""

    def __init__(self, error: Exception) -> None:
        super().__init__(*error.args[:1])
        self.sqlstate: str | None = getattr(error, "sqlstate", None)


def driver_of(connection: AsyncConnection) -> Driver:
    assert connection.sync_connection is not None
    driver: Any = connection.sync_connection.connection.driver_connection
    return driver


async def on_postgres(connection: AsyncConnection, call: Callable[..., Awaitable[T]], text: str, *parameters: Any) -> T:
    """What this call of PostgreSQL's driver answers. Raises what SQLAlchemy would."""
    try:
        return await call(driver_of(connection), text, *parameters)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise DBAPIError(text, None, _Fault(error), hide_parameters=True) from error
