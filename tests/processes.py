"""Child processes that end with the test run, and ports for them. Knows neither engines nor Parley."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

LEASH = Path(__file__).with_name("leash.py")
# Below the ports that systems hand out themselves (Linux from 32768, macOS from 49152): nothing else takes one of
# these while its server is down, and a client that retries cannot connect to itself.
PORTS = range(20_000, 32_000)
# Hypothesis seeds the shared generator, and then every process would try the same ports.
_random = random.SystemRandom()


class Identity(NamedTuple):
    """Who a child runs as."""

    uid: int
    gid: int


MYSELF = Identity(-1, -1)


def free_port() -> int:
    """A loopback port that nothing listens on. It is not held: bind it soon."""
    for port in _random.sample(PORTS, 200):
        if is_free(port):
            return port
    raise RuntimeError("no free port on 127.0.0.1")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    cwd: Path,
    env: Mapping[str, str],
    identity: Identity = MYSELF,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start `command` (an absolute path first) with its output appended to `log`.

    It gets `death_signal` when this process ends in whatever way (Linux). Only from the main thread: the kernel
    watches the thread that started the child, and a pool's thread may end long before the tests do.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a child process is started from the main thread, or it dies with the thread that did")
    words = [str(os.getpid()), str(int(death_signal)), str(identity.uid), str(identity.gid)]
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", LEASH, *words, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            start_new_session=True,  # Ctrl-C is for the tests, which then end their children in order
        )


def end(process: subprocess.Popen[bytes], number: signal.Signals, seconds: float) -> None:
    """Send the signal and wait; SIGKILL after `seconds`. Does nothing to a process that has ended."""
    process.send_signal(number)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
