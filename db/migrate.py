"""The state of the schema, and bringing it up to this code. Knows nothing of the other rooms.

Revisions are numbered 0001, 0002 … in one line; their files stand in `migrations/versions/`, and none goes back: that
is what a backup is for. Alembic is imported only where a schema changes: it costs 125 ms, and few starts need it.
"""

import os
import re
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from db.faults import LOCK_NOT_AVAILABLE, UNREACHABLE_POSTGRES, state_of
from db.lock import FileLock, Held, LockError, sqlite_file, waiting
from db.tables import metadata
from db.transactions import Transaction

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS = Path(__file__).with_name("migrations")
KNOWN = tuple(sorted(path.name[:4] for path in (SCRIPTS / "versions").glob("[0-9][0-9][0-9][0-9]_*.py")))
HEAD = KNOWN[-1]

CONNECT_SECONDS = 5
LOCK_SECONDS = 60.0  # for the lock of the migrations, and for each lock on a table that a migration needs
ADVISORY_LOCK = 0x7061726C6579  # "parley"
VERSION_TABLE = "alembic_version"
VERSION = text("SELECT version_num FROM alembic_version")
MINIMUM = {"sqlite": (3, 35), "postgresql": (15,)}  # RETURNING; the oldest that the tests' statements were written for


MIGRATING = "Another process is migrating the database, or holds its tables: try again later."


class SchemaError(Exception):
    """The database or its schema cannot be used as it is; the message is one sentence for a person."""


class NotYet(SchemaError):
    """Waiting may mend it: PostgreSQL is not there, starts or is full, or another process migrates."""


class State(Enum):
    """What a database holds, seen from this code."""

    EMPTY = "empty"
    OLDER = "older"
    CURRENT = "current"


async def migrate(database_url: str) -> None:
    """Bring the schema to this code's, whole or not at all; of many at once, one does it. Raises SchemaError."""
    async with _errors(database_url):
        await _upgrade(database_url, LOCK_SECONDS)


async def ensure(database_url: str, *, upgrade: bool, wait_seconds: float | None = None) -> None:
    """What a start does: an empty database gets the schema, an older schema is brought up if `upgrade`.

    Waits for a migration of another process for `wait_seconds` (by default LOCK_SECONDS). Raises SchemaError for an
    older schema otherwise, for a newer one always, and for a database that cannot be used; NotYet if it may be soon.
    """
    async with _errors(database_url):
        state = await _found(database_url)
        if state is State.OLDER and not upgrade:
            raise SchemaError("The schema of the database is older than this code: run `python3 dev.py migrate` first.")
        if state is not State.CURRENT:
            await _upgrade(database_url, LOCK_SECONDS if wait_seconds is None else wait_seconds)


async def is_current(transaction: Transaction) -> bool:
    """Whether the schema is this code's or a later one: old nodes go on serving while they are replaced one by one.

    One short read; an error of the connection itself is raised.
    """
    try:
        version = (await transaction.execute(VERSION)).scalar()
    except DBAPIError as error:
        if VERSION_TABLE in str(error.orig):
            return False
        raise
    return version is not None and version >= HEAD


async def _found(database_url: str) -> State:
    async with _connected(database_url) as connection:
        return await _state(connection)


async def _upgrade(database_url: str, wait_seconds: float) -> None:
    file = sqlite_file(database_url)
    alone = waiting(FileLock(Path(f"{file}-migrating")), wait_seconds) if file else nullcontext()
    async with alone, _connected(database_url) as connection:
        await _lock(connection, wait_seconds)
        if await _state(connection) is not State.CURRENT:
            await connection.run_sync(_run)
        await connection.commit()


async def _lock(connection: AsyncConnection, wait_seconds: float) -> None:
    """Begin the transaction that only one migration at a time gets past, and that keeps SQLite's other writers out."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    await connection.execute(text(f"SET LOCAL lock_timeout = '{max(1, int(wait_seconds * 1000))}ms'"))
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    await connection.execute(text(f"SET LOCAL lock_timeout = '{int(LOCK_SECONDS * 1000)}ms'"))


def _run(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415

    command.upgrade(configuration(connection), "head")


def configuration(connection: Connection) -> "Config":
    """Alembic's configuration, in code: there is no file to find, and none that could say something else."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return config


async def _state(connection: AsyncConnection) -> State:
    """Raises SchemaError for what this code did not make, or cannot know."""
    _check_version(connection)
    tables = await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))
    version = None
    if VERSION_TABLE in tables:
        version = await connection.scalar(VERSION)
    if version is None:
        if foreign := sorted(tables & set(metadata.tables)):
            raise SchemaError(
                f"The database has a table {foreign[0]!r} that Parley did not make: give Parley one of its own."
            )
        return State.EMPTY
    if version not in KNOWN:
        raise SchemaError(
            f"The schema of the database ({version}) is newer than this code ({HEAD}): start the newer Parley."
        )
    return State.CURRENT if version == HEAD else State.OLDER


def _check_version(connection: AsyncConnection) -> None:
    name, version = connection.dialect.name, connection.dialect.server_version_info
    if version is not None and version < MINIMUM[name]:
        found, needed = (".".join(map(str, numbers)) for numbers in (version, MINIMUM[name]))
        raise SchemaError(f"The database is {name} {found}, and Parley needs {needed} or later.")


@asynccontextmanager
async def _connected(database_url: str) -> AsyncGenerator[AsyncConnection, None]:
    """A connection of its own. SQLite's leaves BEGIN to `_lock`, and checks no foreign key: tables are rebuilt."""
    options: dict[str, Any] = {"timeout": CONNECT_SECONDS}
    if file := sqlite_file(database_url):
        # When a file does not open, aiosqlite leaves a thread that prints a traceback if the loop ends before it.
        sqlite3.connect(file).close()
        options["isolation_level"] = None
    engine = create_async_engine(database_url, poolclass=NullPool, connect_args=options)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


@asynccontextmanager
async def _errors(database_url: str) -> AsyncGenerator[None, None]:
    """One sentence for everything that keeps a database from being used."""
    try:
        yield
    except Held as error:
        raise NotYet(MIGRATING) from error
    except LockError as error:
        raise SchemaError(str(error)) from error
    except TimeoutError as error:
        raise NotYet(f"Cannot use {place(database_url)}: no answer in time.") from error
    except (OSError, sqlite3.Error, SQLAlchemyError, ValueError, TypeError) as error:
        if getattr(getattr(error, "orig", None), "sqlstate", None) == LOCK_NOT_AVAILABLE:
            raise NotYet(MIGRATING) from error
        refusal = NotYet if _may_pass(error) else SchemaError
        raise refusal(f"Cannot use {place(database_url)}: {_reason(error, database_url)}.") from error


def _may_pass(error: Exception) -> bool:
    """Nobody listens, no such name yet, a server that starts or has no connection left; not a certificate that is
    refused, which is an OSError as well.
    """
    is_network = isinstance(error, OSError) and not isinstance(error, ValueError)
    return is_network or state_of(error).startswith(UNREACHABLE_POSTGRES)


def _parsed(database_url: str) -> URL | None:
    try:
        return make_url(database_url)
    except (ArgumentError, ValueError):
        return None


def place(database_url: str) -> str:
    """Where the database is, made from the parts that hold no secret."""
    url = _parsed(database_url)
    if url is None:
        return "the database (DATABASE_URL is no URL of one)"
    if url.get_backend_name() == "sqlite":
        return f"the SQLite file {Path(url.database or '').resolve()}"
    host, port = url.host or url.query.get("host") or "localhost", url.port or 5432
    return f"PostgreSQL at {host}:{port}, database {url.database or url.username}"


def _reason(error: Exception, database_url: str) -> str:
    """The driver's own words on one line, without the password should they repeat it."""
    words = str(getattr(error, "orig", None) or error)
    if isinstance(error, OSError) and error.errno and error.errno > 0:  # a name look-up has numbers of its own, below 0
        words = os.strerror(error.errno)
    words = re.sub(r"\s+", " ", words).strip().rstrip(".")
    words = re.sub(r"^<class '[^']*'>: ", "", words) or type(error).__name__
    url = _parsed(database_url)
    if url is None:
        return "it cannot be read"
    for secret in (url.password, url.query.get("password")):
        words = words.replace(str(secret), "***") if secret else words
    return words
