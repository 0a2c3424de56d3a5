"""What a transaction is to the queries: one moment, statements, and what its commit will announce.

Knows nothing of the other rooms.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, CursorResult, Executable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from frozen import frozen

from .records import GroupPage, User
from .statements import Row, Statement, Values

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
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
    async def run_many(self, statement: Statement, values: Sequence[Values]) -> None:
        """Run a statement that gives no rows once for each of these, in one round trip."""


@dataclass
class LoopTransaction(Transaction):
    """A transaction whose statements the event loop waits for."""

    connection: AsyncConnection

    async def execute(self, statement: Executable, parameters: Parameters = None) -> Found:
        return await self.connection.execute(statement, parameters)

    async def run(self, statement: Statement, values: Values) -> list[Row]:
        prepared = statement.on(self.connection.dialect)
        found = await self.connection.exec_driver_sql(prepared.text, prepared.parameters(values))
        return [prepared.row(row) for row in found] if found.returns_rows else []

    async def run_many(self, statement: Statement, values: Sequence[Values]) -> None:
        prepared = statement.on(self.connection.dialect)
        await self.connection.exec_driver_sql(prepared.text, [prepared.parameters(each) for each in values])


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
        found = on_driver(self.connection, prepared.text, prepared.parameters(values))
        return list(map(prepared.row, found))

    async def run_many(self, statement: Statement, values: Sequence[Values]) -> None:
        for each in values:
            await self.run(statement, each)


def on_driver(connection: Connection, text: str, parameters: Sequence[Any] = ()) -> list[Row]:
    """All rows, from SQLite's driver itself. Raises what SQLAlchemy would."""
    driver: Any = connection.connection.dbapi_connection
    try:
        return driver.execute(text, parameters).fetchall()
    except sqlite3.Error as error:
        raise DBAPIError.instance(text, None, error, sqlite3.Error, hide_parameters=True) from error
