"""The machine and the processes on it: who runs where, what they cost, and what is known of it. Knows no server."""

import os
import platform
import resource
import signal
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import psutil

from tests.processes import end, free_port, spawn

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("strawberry-graphql", "graphql-core", "starlette", "uvicorn", "uvloop", "httptools", "sqlalchemy", "orjson")
STOP_SECONDS = 20
GIB = 2**30


class Cpus:
    """One CPU for the servers and another for the load, where there are two and the system lets us choose."""

    def __init__(self, *, pin: bool = True) -> None:
        self._own = sorted(os.sched_getaffinity(0)) if pin and hasattr(os, "sched_getaffinity") else []

    @property
    def pinned(self) -> bool:
        return len(self._own) > 1

    def take_for_load(self) -> None:
        """From here on this process runs on the last CPU."""
        if self.pinned:
            os.sched_setaffinity(0, {self._own[-1]})

    def give_back(self) -> None:
        if self.pinned:
            os.sched_setaffinity(0, set(self._own))

    def take_for_server(self, pid: int) -> None:
        """A process that was just started, and whatever it starts, runs on the first CPU."""
        if self.pinned:
            for process in (each := psutil.Process(pid), *each.children(recursive=True)):
                os.sched_setaffinity(process.pid, {self._own[0]})


def raise_open_files(wanted: int) -> int:
    """How many files a process may open from here on: `wanted`, if the hard limit allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Process:
    """A server of ours, with its port."""

    def __init__(self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str], port: int = 0) -> None:
        self.port = port or free_port()
        self._log = log
        words = [str(self.port) if word == "{port}" else word for word in command]
        self._process = spawn(words, log=log, cwd=ROOT, env=environment)
        self.family = Family(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises RuntimeError with the last of its log when it has ended."""
        if self._process.poll() is not None:
            said = self._log.read_text(errors="replace")[-2_000:]
            raise RuntimeError(f"a server ended with {self._process.returncode}:\n{said}")

    def stop(self) -> None:
        end(self._process, signal.SIGTERM, STOP_SECONDS)


class Family:
    """A process with its children: what they have cost, and what they hold."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def cpu(self) -> float:
        """Seconds of user and system time."""
        seconds = 0.0
        for process in (self._process, *self._process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                seconds += times.user + times.system
        return seconds

    def memory(self) -> int:
        """Bytes that are resident."""
        return self._process.memory_info().rss


def facts() -> dict[str, str | int | float]:
    """What a reader has to know of the machine; neither its name nor any path."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "memory GiB": round(psutil.virtual_memory().total / GIB),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
