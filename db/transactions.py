"""What a transaction is to the queries: one moment, statements, and what its commit will announce.

Knows nothing of the other rooms.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, CursorResult, Executable
from sqlalchemy.ext.asyncio import AsyncConnection

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
Found = CursorResult[*tuple[Any, ...]]


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
    async def execute(self, statement: Executable, parameters: Parameters = None) -> Found: ...


@dataclass
class LoopTransaction(Transaction):
    """A transaction whose statements the event loop waits for."""

    connection: AsyncConnection

    async def execute(self, statement: Executable, parameters: Parameters = None) -> Found:
        return await self.connection.execute(statement, parameters)


@dataclass
class DirectTransaction(Transaction):
    """A transaction whose statements are done when they return: they never suspend."""

    connection: Connection

    async def execute(self, statement: Executable, parameters: Parameters = None) -> Found:
        return self.connection.execute(statement, parameters)
