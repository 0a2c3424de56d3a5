"""Locks beside a SQLite file."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from db.lock import AlreadyServed, FileLock, Held, LockError, ServerLock, waiting


def url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"


def test_a_sqlite_file_has_one_server_until_it_lets_go(tmp_path: Path) -> None:
    first, second = (ServerLock(url(tmp_path / "parley.db")) for _ in range(2))
    first.acquire()
    with pytest.raises(
        AlreadyServed, match=rf"^Another server \(process {os.getpid()}\) has .*DATABASE_URL=postgresql"
    ):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    second.release()


def test_every_name_of_a_file_is_the_same_lock(tmp_path: Path) -> None:
    (tmp_path / "parley.db").touch()
    (tmp_path / "linked.db").symlink_to("parley.db")
    first, second = ServerLock(url(tmp_path / "parley.db")), ServerLock(url(tmp_path / "linked.db"))
    first.acquire()
    with pytest.raises(AlreadyServed):
        second.acquire()
    first.release()


def test_a_database_that_is_no_sqlite_file_has_as_many_servers_as_one_likes() -> None:
    locks = [ServerLock("postgresql+asyncpg://nowhere:port/chat") for _ in range(2)]
    for lock in locks:
        lock.acquire()
    for lock in locks:
        lock.release()


@pytest.mark.parametrize("name", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory", "sqlite://a:b/c"])
def test_a_sqlite_database_without_a_file_is_refused(name: str) -> None:
    with pytest.raises(LockError, match="must name a SQLite file"):
        ServerLock(name)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"^Cannot write beside the database: .*: No such file or directory\.$"):
        ServerLock(url(tmp_path / "nowhere" / "parley.db")).acquire()


def test_a_file_system_without_locks_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LockError, match=r"^Cannot lock .*: No locks available\.$"):
        FileLock(tmp_path / "lock").acquire()


def test_whoever_holds_a_lock_may_be_unknown(tmp_path: Path) -> None:
    assert FileLock(tmp_path / "lock").holder() == ""


async def test_waiting_for_a_lock_ends(tmp_path: Path) -> None:
    held = FileLock(tmp_path / "lock")
    assert held.acquire()
    with pytest.raises(Held):
        async with waiting(FileLock(tmp_path / "lock"), 0.01):
            raise AssertionError("two hold the lock")
    held.release()
    async with waiting(FileLock(tmp_path / "lock"), 0.01):
        assert not held.acquire()
    assert held.acquire()
    held.release()
