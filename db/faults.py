"""What can go wrong with a database, and what that means for a transaction. Knows nothing of the other rooms."""

import traceback

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

LOCK_NOT_AVAILABLE = "55P03"
RETRIED_STATES = frozenset({"40001", "40P01"})  # serialization failure, deadlock
TAKEN = frozenset({"23505", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID"})
# Connection, resources, object not in its prerequisite state (a lock), operator intervention, system error, internal
# error: that one is also what PostgreSQL says when a quota or a limit of the system forbids that a file grows.
UNREACHABLE_POSTGRES = ("08", "53", "55", "57", "58", "XX")
UNREACHABLE_SQLITE = (
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_READONLY",
    "SQLITE_CANTOPEN",
)


class Unavailable(Exception):
    """The database did not do what was asked.

    `committed` is False where that is certain, None where nobody can know.
    """

    def __init__(self, committed: bool | None) -> None:
        super().__init__("the database is not available")
        self.committed = committed


def state_of(error: BaseException) -> str:
    """The SQLSTATE of PostgreSQL or the error name of SQLite, or nothing where the connection itself is gone."""
    original = getattr(error, "orig", None)
    cause = getattr(original, "__cause__", None)
    names = (
        getattr(original, "sqlstate", None),
        getattr(original, "sqlite_errorname", None),
        getattr(cause, "sqlite_errorname", None),
    )
    return next((name for name in names if name), "")


def described(error: BaseException) -> dict[str, str]:
    """An error for the log: a database's own words can quote rows, so of those only the kind and the place are kept."""
    lines = traceback.format_exception(error)
    if isinstance(error, DBAPIError):
        lines = [*traceback.format_tb(error.__traceback__), f"{type(error).__name__} {state_of(error)}"]
    return {"error": type(error).__name__, "trace": "".join(lines)}


def may_run_again(error: BaseException) -> bool:
    """Deadlocks, serialization failures, and a unique key that was taken meanwhile: everything was rolled back."""
    return isinstance(error, DBAPIError) and state_of(error) in RETRIED_STATES | TAKEN


def translated(error: Exception, *, committed: bool | None) -> Exception:
    """Unavailable for what the engine or the way to it did; a statement that is wrong stays the defect that it is."""
    if isinstance(error, (OSError, TimeoutError, PoolTimeout)):
        return Unavailable(committed)
    if isinstance(error, DBAPIError):
        state = state_of(error)
        if error.connection_invalidated or not state or state.startswith(UNREACHABLE_POSTGRES + UNREACHABLE_SQLITE):
            return Unavailable(committed)
    return error
