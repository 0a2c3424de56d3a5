"""Counts the statements that a server in this process sends to its database."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event

from db import transactions
from db.statements import Row
from tests.harness import Endpoint, Server

HEAD_CHECKS = ("SELECT groups.id, groups.head_seq, groups.access_seq", "SELECT users.id, users.head_seq")


@contextmanager
def statements(server: Endpoint) -> Generator[list[str]]:
    """What is sent meanwhile, without the regular look at the heads."""
    assert isinstance(server, Server)
    database, seen = server.settings.database_url, list[str]()
    run = transactions.on_driver

    def note(connection: Connection, statement: str) -> None:
        name = str(connection.engine.url.database)
        if database.endswith(name) and not statement.startswith(HEAD_CHECKS):
            seen.append(statement)

    def by_core(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        note(connection, statement)

    def by_driver(connection: Connection, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        note(connection, statement)
        return run(connection, statement, parameters)

    event.listen(Engine, "before_cursor_execute", by_core)
    transactions.on_driver = by_driver
    try:
        yield seen
    finally:
        transactions.on_driver = run
        event.remove(Engine, "before_cursor_execute", by_core)
