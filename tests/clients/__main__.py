"""`python -m tests.clients [NAME...]`: runs the client projects against a live server. Knows no client library.

The server is `python app.py serve` on a fresh SQLite file. Whatever ends it, it is started again on the same port, as
a service manager would: a project restarts it by killing the process whose id is in PARLEY_PID_FILE.
"""

# ruff: noqa: T201  (a command prints)

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
from argparse import ArgumentParser
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from settings import Settings
from tests.clients.packages import NODE, install
from tests.harness import Node, Stack, as_environment, eventually
from tests.harness.client import ROOT

HERE = Path(__file__).resolve().parent
# What report.mjs and report.py of tests/clients/harness write for each test.
RESULT = re.compile(r"(ok|FAILED) +\S+: ")
PROJECT_SECONDS, TEST_SECONDS = 360, 60
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
LONGEST_LINE = 1 << 20


@dataclass
class Tally:
    """How many tests passed, and how many did not; what ended without a result counts as one that failed."""

    passed: int = 0
    failed: int = 0

    def count(self, line: str) -> None:
        if result := RESULT.match(line):
            self.passed += result[1] == "ok"
            self.failed += result[1] == "FAILED"

    def fail(self, sentence: str) -> None:
        print(f"FAILED  {sentence}", flush=True)
        self.failed += 1


def projects() -> list[str]:
    """Every project, in the order of their names: one for Node has a package.json, one in Python has checks.py."""
    return sorted(file.parent.name for file in [*HERE.glob("*/package.json"), *HERE.glob("*/checks.py")])


def in_node(project: str) -> bool:
    return (HERE / project / "package.json").exists()


def asked_for(arguments: Sequence[str]) -> list[str]:
    """The projects to run. Exits with 2 for a name that there is not."""
    parser = ArgumentParser(prog="dev.py test-clients", description="Run client projects against a live server.")
    parser.add_argument("name", nargs="*", help=f"a project, else all: {', '.join(projects())}")
    names: list[str] = parser.parse_args(arguments).name
    for name in names:
        if name not in projects():
            parser.error(f"there is no project {name!r}, only {', '.join(projects())}")
    return names or projects()


@asynccontextmanager
async def kept_running(folder: Path) -> AsyncGenerator[Mapping[str, str]]:
    """A server that is started again whenever it ends; what a project's environment must say of it."""
    pid_file = folder / "server.pid"
    with Stack(folder).fresh() as settings:
        async with Node(as_environment(settings), folder / "server.log") as node:

            def write_pid() -> None:
                """Whole or not at all: a project may be reading it."""
                pid_file.with_suffix(".new").write_text(str(node.pid))
                pid_file.with_suffix(".new").rename(pid_file)

            async def start_again() -> None:
                while True:
                    await eventually(lambda: node.process.poll() is not None, timeout=float("inf"))
                    await node.start()
                    write_pid()

            write_pid()
            manager = asyncio.create_task(start_again())
            try:
                # A proxy that the environment names is not asked for this server.
                yield {"PARLEY_URL": node.graphql_url, "PARLEY_PID_FILE": str(pid_file), "no_proxy": "127.0.0.1"}
            finally:
                manager.cancel()
                await asyncio.gather(manager, return_exceptions=True)


def browser() -> dict[str, str]:
    """Where a Chromium is, for the projects that need one; they say what to install."""
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    return {"PARLEY_CHROMIUM": found} if found else {}


def with_node(project: str) -> list[str | Path]:
    """The command that runs the tests of a project for Node."""
    tests = sorted((HERE / project).glob("*.test.mjs"))
    report = ["--test-reporter", (HERE / "harness" / "report.mjs").as_uri(), "--test-reporter-destination", "stdout"]
    # One file after the other: a project may restart the server.
    options = ["--test-concurrency=1", f"--test-timeout={TEST_SECONDS * 1_000}", *report]
    # Under this condition libraries say on the console what they think of how they are used.
    hooks = ["--conditions=development", "--import", (HERE / "harness" / "documents.mjs").as_uri()]
    return [NODE, *hooks, "--test", *options, *tests]


def with_pytest(project: str) -> list[str | Path]:
    """The command that runs the tests of a project in Python; its library is in the dev lock."""
    report = ["-p", "tests.clients.harness.report", "-p", "no:terminal", "-o", "addopts="]
    bound = ["-o", f"faulthandler_timeout={TEST_SECONDS}", "-o", "faulthandler_exit_on_timeout=true"]
    return [sys.executable, "-m", "pytest", *report, *bound, HERE / project / "checks.py"]


async def run(project: str, environment: Mapping[str, str], tally: Tally) -> None:
    """Run the tests of one project and print a line for each."""
    before = tally.passed + tally.failed
    node = in_node(project)
    command, folder = (with_node(project), HERE / project) if node else (with_pytest(project), ROOT)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=PIPE, stderr=STDOUT, limit=LONGEST_LINE, start_new_session=True,
        env=os.environ | environment | {"PARLEY_PROJECT": project, "PARLEY_PYTHON": sys.executable},
    )  # fmt: skip
    try:
        async with asyncio.timeout(PROJECT_SECONDS):
            await pass_on(process, tally)
            code = await process.wait()
    except TimeoutError:
        tally.fail(f"{project}: not at its end after {PROJECT_SECONDS} s")
    else:
        if tally.passed + tally.failed == before:
            tally.fail(f"{project}: ran no test, exit code {code}")
        elif code and not tally.failed:
            tally.fail(f"{project}: exit code {code}")
    finally:
        await end_with_children(process)


async def pass_on(process: Process, tally: Tally) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        text = line.decode(errors="replace").rstrip()
        tally.count(text)
        print(text, flush=True)


async def end_with_children(process: Process) -> None:
    """A test that was stopped in its middle may have left a browser."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    await process.wait()


async def run_all(names: Sequence[str]) -> Tally:
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="parley-clients-") as folder:
        async with kept_running(Path(folder)) as server:
            for name in names:
                await run(name, {**server, **browser()}, tally)
        if tally.failed:
            print(f"--- the server's last lines\n{(Path(folder) / 'server.log').read_text()[-4_000:]}", flush=True)
    return tally


def main(arguments: Sequence[str]) -> int:
    names = asked_for(arguments)
    for setting in Settings.model_fields:  # a developer's own must not reach the server
        os.environ.pop(setting.upper(), None)
    for name in filter(in_node, names):
        install(HERE / name)
    tally = asyncio.run(run_all(names))
    print(f"{tally.passed} passed, {tally.failed} failed", flush=True)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
