#!/usr/bin/env python3
"""The commands of a checkout: makes the environments under .parley/ and runs everything in them.

Standard library only, and readable for any Python 3.6, so that an old one gets a sentence instead of a traceback.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the one file that an older Python is expected to meet
    sys.exit(f"dev.py: Parley needs Python 3.11 or later, and {sys.executable} is {sys.version.split()[0]}")

import argparse
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sysconfig
import venv
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
STATE = ROOT / ".parley"
SERVE_LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"
UV = "uv>=0.13,<0.14"
PIP_OPTIONS = ["-qq", "--no-input", "--no-user", "--disable-pip-version-check", "--no-warn-script-location"]

# Of the caller's shell, what would let packages from outside into an environment or keep our own modules out of it.
FOREIGN = {
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSAFEPATH",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_TARGET",
    "__PYVENV_LAUNCHER__",
}

SERVED = {
    "serve": "start the server: SQLite and no broker, or what DATABASE_URL and BROADCAST_URL say",
    "migrate": "bring the database to this version's schema",
    "create-user": "register a user",
    "issue-token": "make a token for a user",
    "disable-user": "end a user's tokens and keep the user out",
    "export-schema": "print the SDL",
    "export-log": "print a group's whole log as JSON lines",
}


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code; a command that replaces this process does not return."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    os.chdir(ROOT)
    if command in SERVED:
        return serve(command, rest)
    if command in TOOLS:
        return TOOLS[command](rest)
    wanted = command in {"-h", "--help", "help"}
    print(usage(), file=sys.stdout if wanted else sys.stderr)
    return 0 if wanted else 2


def usage() -> str:
    """Every command with one line of what it does."""
    tools = {name: (tool.__doc__ or "").splitlines()[0] for name, tool in TOOLS.items()}
    rows = [f"  {name:<14} {text}" for name, text in (SERVED | tools).items()]
    return "\n".join(["usage: python3 dev.py COMMAND [ARGUMENTS]   (COMMAND --help says more)", "", *rows])


# --- commands --------------------------------------------------------------------------------------------------------


def serve(command: str, arguments: list[str]) -> int:
    """Become `python app.py COMMAND`, so that signals and exit codes are the server's own."""
    become(environment("serve", SERVE_LOCK), str(ROOT / "app.py"), command, *arguments)


def test(arguments: list[str]) -> int:
    """run the tests, all of them on every core; what is not listed in `test --help` goes to pytest"""
    parser = argparse.ArgumentParser(prog="dev.py test", epilog="Everything else goes to pytest.", allow_abbrev=False)
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run each selected test N times")
    parser.add_argument("--coverage", action="store_true", help="measure branches, and fail below the bound")
    options, rest = parser.parse_known_args(arguments)
    python = environment("dev", DEV_LOCK)
    # Where Python may not keep what it has compiled, each process that a test starts would compile Parley anew (0.4 s).
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(STATE / "cache" / "python")
    # How many workers that is, tests/conftest.py says. Each begins with a run of neighbours, which share their servers.
    rest = ["-n", "auto", "--dist", "worksteal", *rest]
    if options.repeat > 1:
        rest = ["-p", "tests.repeat", f"--repeat={options.repeat}", *rest]
    if not options.coverage:
        become(python, "-m", "pytest", *rest)
    return covered(python, rest)


def covered(python: Path, arguments: list[str]) -> int:
    """Run pytest under coverage, put the processes' files together and report; the first failure is the answer."""
    shutil.rmtree(STATE / "coverage", ignore_errors=True)
    (STATE / "coverage").mkdir()
    tests = run(python, "-m", "coverage", "run", "-m", "pytest", *arguments)
    if tests not in {0, 1}:
        return tests
    return first_failure(
        tests,
        run(python, "-m", "coverage", "combine", "--quiet"),
        run(python, "-m", "coverage", "report"),
    )


def test_clients(arguments: list[str]) -> NoReturn:
    """run the client projects of tests/clients, or those named, against a live server"""
    become(environment("dev", DEV_LOCK), "-m", "tests.clients", *arguments)


def chaos(arguments: list[str]) -> NoReturn:
    """break things under load, and check that nothing is lost, doubled or leaked"""
    become(environment("dev", DEV_LOCK), "-m", "tests.chaos", *arguments)


def bench(arguments: list[str]) -> NoReturn:
    """measure how cost grows as work grows, on this machine"""
    become(environment("dev", DEV_LOCK), "-m", "benchmarks", *arguments)


def bench_world(arguments: list[str]) -> NoReturn:
    """make groups of the same members on a running server, for load generators"""
    become(environment("dev", DEV_LOCK), "-m", "benchmarks.world", *arguments)


def lint(arguments: list[str]) -> int:
    """check style, format, types and the arrows between the rooms"""
    no_arguments("lint", arguments)
    python = environment("dev", DEV_LOCK)
    return first_failure(
        said(python, "-m", "ruff", "check"),
        said(python, "-m", "ruff", "format", "--check"),
        said(python, "-m", "basedpyright"),
        said(python, str(python.with_name("lint-imports")), "--no-logo", "--no-cache"),
    )


def tidy(arguments: list[str]) -> int:
    """format the code, and mend what ruff can mend by itself"""
    python = environment("dev", DEV_LOCK)
    return first_failure(
        said(python, "-m", "ruff", "check", "--fix", *arguments),
        said(python, "-m", "ruff", "format", *arguments),
    )


def lock(arguments: list[str]) -> int:
    """compile both locks from pyproject.toml; `--upgrade` takes the newest of everything"""
    python = environment("lock", UV)
    compiler = ["-m", "uv", "pip", "compile", "pyproject.toml", "--quiet", "--universal", "--generate-hashes"]
    plain = ["--no-header", "--no-annotate", "--python-version", "3.11", *arguments]
    code = run(python, *compiler, *plain, "--output-file", SERVE_LOCK.name)
    if code:
        return code
    together = ["--group", "dev", "--constraint", SERVE_LOCK.name]
    return run(python, *compiler, *plain, *together, "--output-file", DEV_LOCK.name)


TOOLS: dict[str, Callable[[list[str]], int]] = {
    "test": test,
    "test-clients": test_clients,
    "chaos": chaos,
    "bench": bench,
    "bench-world": bench_world,
    "lint": lint,
    "format": tidy,
    "lock": lock,
}


def no_arguments(command: str, arguments: list[str]) -> None:
    if arguments:
        sys.exit(f"dev.py: {command} takes no arguments")


# --- processes -------------------------------------------------------------------------------------------------------


def become(python: Path, *arguments: str) -> NoReturn:
    """Replace this process: no one stands between the caller's signals and the program."""
    os.execve(python, [str(python), *arguments], own_environ())


def said(python: Path, *arguments: str) -> int:
    """Like `run`, with a line before it that names the tool."""
    words = [Path(word).name for word in arguments if not word.startswith("-")]
    print(f"== {' '.join(words[:2])}", flush=True)
    return run(python, *arguments)


def run(python: Path, *arguments: str, hold: int | None = None) -> int:
    """Run one program to its end and return its exit code, as a shell would number it.

    An interrupt from the keyboard reaches the program by itself; it gets the time to take down what it started.
    `hold` is a file that stays open in it.
    """
    held = () if hold is None else (hold,)
    with subprocess.Popen([python, *arguments], env=own_environ(), pass_fds=held) as program:

        def pass_on(number: int, _frame: FrameType | None) -> None:
            if number == signal.SIGTERM:
                program.terminate()

        kept = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        code = program.wait()
    for number, handler in kept.items():
        signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def first_failure(*codes: int) -> int:
    return next((code for code in codes if code), 0)


def own_environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in FOREIGN}


# --- environments ----------------------------------------------------------------------------------------------------


def environment(name: str, wanted: Path | str) -> Path:
    """The Python of `.parley/NAME`, holding exactly what the lock `wanted` names (or the one requirement, if a text).

    It is made when it is missing, half made, or was made for another lock, Python or place. Two at once make it once.
    """
    home = STATE / name
    mark = fingerprint(wanted)
    if not whole(home, mark):
        with alone(name) as held:
            if not whole(home, mark):
                make(home, ["--require-hashes", "-r", str(wanted)] if isinstance(wanted, Path) else [wanted], held)
                stamp(home).write_text(mark)
    return python_of(home)


def fingerprint(wanted: Path | str) -> str:
    """What an environment depends on: its packages, the Python that it is for, and the folder, which scripts name."""
    try:
        packages = wanted.read_bytes() if isinstance(wanted, Path) else wanted.encode()
    except FileNotFoundError:
        sys.exit(f"dev.py: {wanted} is missing; `python3 dev.py lock` makes it")
    return f"{hashlib.sha256(packages).hexdigest()} {sysconfig.get_config_var('SOABI')} {platform.machine()} {ROOT}\n"


def whole(home: Path, mark: str) -> bool:
    """Whether this is the finished environment for `mark`; the stamp is written last, and the Python may have gone."""
    try:
        return stamp(home).read_text() == mark and python_of(home).exists()
    except FileNotFoundError:
        return False


def make(home: Path, packages: list[str], held: int) -> None:
    """Make an environment from nothing. The stamp of an older one goes first, so that an interruption shows.

    pip keeps the lock `held` open: should this process be killed, nobody else begins before pip has ended as well.
    """
    stamp(home).unlink(missing_ok=True)
    if home.exists():
        shutil.rmtree(home)
    ours = not pip_is_here()
    print(f"dev.py: making the environment .parley/{home.name} (once, about a minute) …", file=sys.stderr)
    venv.create(home, symlinks=True, with_pip=ours)
    python = python_of(home)
    runner, into = (python, []) if ours else (Path(sys.executable), ["--python", str(python)])
    code = run(runner, "-m", "pip", *into, "install", *PIP_OPTIONS, *packages, hold=held)
    if code:
        sys.exit(f"dev.py: pip could not fill .parley/{home.name} (exit code {code}); its own words are above")


def pip_is_here() -> bool:
    """Whether this Python's pip can install elsewhere (22.3 or later); if not, ensurepip can bring one."""
    asked = [sys.executable, "-m", "pip", "--version"]
    answer = subprocess.run(asked, capture_output=True, text=True, env=own_environ(), check=False).stdout
    found = re.match(r"pip (\d+)\.(\d+)", answer)
    if found and (int(found[1]), int(found[2])) >= (22, 3):
        return True
    if importlib.util.find_spec("ensurepip"):
        return False
    sys.exit(
        f"dev.py: {sys.executable} has no pip (22.3 or later); "
        "on Debian and Ubuntu `apt-get install python3-pip` brings it"
    )


def python_of(home: Path) -> Path:
    return home / "bin" / "python"


def stamp(home: Path) -> Path:
    return home / "stamp"


@contextmanager
def alone(name: str) -> Generator[int]:
    """Hold the right to change one environment, as the file it is. The kernel gives it back, however we end."""
    STATE.mkdir(exist_ok=True)
    with (STATE / f"{name}.making").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"dev.py: waiting for another dev.py that is making .parley/{name} …", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"dev.py: {error}")
