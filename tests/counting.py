"""Counts the statements that a server in this process sends to its database."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.ext.asyncio import AsyncConnection

from db import transactions
from db.statements import Row
from tests.harness import Endpoint, Server

ENDS_OF_TRANSACTIONS = ("BEGIN", "COMMIT", "ROLLBACK")
HEAD_CHECKS = ("SELECT groups.id, groups.head_seq, groups.access_seq", "SELECT users.id, users.head_seq")


@contextmanager
def statements(server: Endpoint) -> Generator[list[str]]:
    """What is sent meanwhile, without the regular look at the heads."""
    assert isinstance(server, Server)
    database, seen = server.settings.database_url, list[str]()
    runs = transactions.on_sqlite, transactions.on_postgres

    def note(connection: Connection | AsyncConnection, statement: str) -> None:
        name = str(connection.engine.url.database)
        if database.endswith(name) and not statement.startswith(HEAD_CHECKS):
            seen.append(statement)

    def by_core(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        note(connection, statement)

    def on_sqlite(connection: Connection, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        note(connection, statement)
        return runs[0](connection, statement, parameters)

    async def on_postgres(connection: AsyncConnection, call: Any, statement: str, *parameters: Any) -> Any:
        if not statement.startswith(ENDS_OF_TRANSACTIONS):
            note(connection, statement)
        return await runs[1](connection, call, statement, *parameters)

    event.listen(Engine, "before_cursor_execute", by_core)
    transactions.on_sqlite, transactions.on_postgres = on_sqlite, on_postgres
    try:
        yield seen
    finally:
        transactions.on_sqlite, transactions.on_postgres = runs
        event.remove(Engine, "before_cursor_execute", by_core)
