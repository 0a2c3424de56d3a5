"""Locks between the processes of one machine: files beside a SQLite database. Knows nothing of the other rooms."""

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

RETRY_SECONDS = 0.05

MORE_SERVERS = "set DATABASE_URL=postgresql://... and BROADCAST_URL=redis://... to run more"


class LockError(Exception):
    """A lock was not taken; the message is one sentence for a person."""


class Held(LockError):
    """Another process has had the lock for as long as we wait."""


class AlreadyServed(LockError):
    """Another server holds the database."""


def sqlite_file(database_url: str) -> Path | None:
    """The file of a SQLite database, without links, so that every name of it means one lock; None for other databases.

    Refuses, with a sentence, a SQLite database that has no file: each connection would see an empty one of its own.
    """
    if not database_url.startswith("sqlite"):
        return None
    try:
        name = make_url(database_url).database
    except (ArgumentError, ValueError):
        name = None
    if not name or name.startswith((":memory:", "file:")):
        raise LockError("DATABASE_URL must name a SQLite file, like sqlite:///parley.db.")
    return Path(name).resolve()


class FileLock:
    """One lock on one file, held until it is released or the process ends, however it ends.

    The file stays when the lock goes: removing it would let two processes hold the lock on two files of one name. It is
    never the database itself: closing that would drop the locks that SQLite holds on it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock without waiting; False if it is held, also by a FileLock of this process. Raises LockError."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise LockError(f"Cannot write beside the database: {self.path}: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise LockError(f"Cannot lock {self.path}: {error.strerror}.") from error
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        return True

    def holder(self) -> str:
        """The process that took the lock last, for a sentence; empty if nobody wrote it."""
        try:
            return self.path.read_text().strip()
        except OSError:
            return ""

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@asynccontextmanager
async def waiting(lock: FileLock, seconds: float) -> AsyncGenerator[None, None]:
    """Hold the lock inside the block, after waiting at most `seconds`. Raises Held, LockError."""
    try:
        async with asyncio.timeout(seconds):
            while not lock.acquire():  # noqa: ASYNC110  # the kernel tells nobody that another process let go
                await asyncio.sleep(RETRY_SECONDS)
    except TimeoutError:
        raise Held(f"Another process holds {lock.path}.") from None
    try:
        yield
    finally:
        lock.release()


class ServerLock:
    """What makes a SQLite file one server's, for the life of its process. On other databases it takes nothing."""

    def __init__(self, database_url: str) -> None:
        self._database = sqlite_file(database_url)
        self._lock = None if self._database is None else FileLock(Path(f"{self._database}.lock"))

    def acquire(self) -> None:
        """Raises AlreadyServed when another server has the file, LockError when the lock cannot be taken."""
        if self._lock is None or self._lock.acquire():
            return
        process = f" (process {self._lock.holder()})" if self._lock.holder() else ""
        raise AlreadyServed(
            f"Another server{process} has {self._database}, and a SQLite file has one server: {MORE_SERVERS}."
        )

    def release(self) -> None:
        if self._lock is not None:
            self._lock.release()
