"""`dev.py bench`: how cost grows as work grows. Writes docs/benchmarks/ and the tables of docs/benchmarks.md."""

import argparse
import asyncio
import contextlib
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import uvloop

from benchmarks.load import Failed
from benchmarks.machine import ROOT, Cpus, raise_open_files
from benchmarks.report import DOCUMENT, FOLDER, PARTS, median, report, rows_table, write
from benchmarks.rig import Rig, Row, Scale

OPEN_FILES = {Scale.SMOKE: 1_024, Scale.DEFAULT: 8_192, Scale.FULL: 32_768}
LEAST_OPEN_FILES = {Scale.SMOKE: 256, Scale.DEFAULT: 4_096, Scale.FULL: 12_288}
BAR = 30


class Progress:
    """A bar of the parts on a terminal, a line for each of them elsewhere."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._began = time.monotonic()
        self._live = sys.stderr.isatty()

    def say(self, what: str) -> None:
        done = BAR * self._done // self._steps
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        line = f"[{'#' * done}{'.' * (BAR - done)}] {minutes}:{seconds:02} {what}"
        if self._live:
            line = f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}"
        print(line, end="" if self._live else "\n", file=sys.stderr, flush=True)

    def step(self) -> None:
        self._done += 1

    def end(self) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


async def measured(names: Sequence[str], rig: Rig, progress: Progress) -> dict[str, list[Row]]:
    """Every row of these parts, once."""
    found: dict[str, list[Row]] = {}
    for name in names:
        progress.say(name)
        rows = found.setdefault(name, [])
        async for row in PARTS[name].measure(rig):
            rows.append(row)
            progress.say(f"{name}, {len(rows)} rows")
        progress.step()
    return found


@contextlib.asynccontextmanager
async def rig_of(scale: Scale, seconds: float) -> AsyncGenerator[Rig]:
    """In a folder on the disk that holds the checkout, where a newcomer's database lies as well."""
    cpus, state = Cpus(), ROOT / ".parley"
    state.mkdir(exist_ok=True)
    cpus.take_for_load()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=state) as folder:
        yield Rig(Path(folder), scale, seconds, cpus)


async def run(names: Sequence[str], scale: Scale, seconds: float, passes: int) -> dict[str, list[Row]]:
    progress = Progress(len(names) * passes)
    async with rig_of(scale, seconds) as rig:
        found = [await measured(names, rig, progress) for _ in range(passes)]
    progress.end()
    return {name: median([each[name] for each in found]) for name in names}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(PARTS), metavar="NAME", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--full", action="store_true", help="with the largest sizes: half an hour, 10 GB of disk")
    parser.add_argument("--smoke", action="store_true", help="with the smallest sizes, to see that it runs")
    parser.add_argument("--passes", type=int, default=1, metavar="N", help="measure all N times, and take medians")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    parser.add_argument("--print", action="store_true", help="write nothing")
    given = parser.parse_args(arguments)
    scale = Scale.FULL if given.full else Scale.SMOKE if given.smoke else Scale.DEFAULT
    if raise_open_files(OPEN_FILES[scale]) < LEAST_OPEN_FILES[scale]:
        sys.exit(f"bench: {LEAST_OPEN_FILES[scale]:,} open files are needed; raise the hard limit (ulimit -Hn)")
    names, load = given.only or list(PARTS), os.getloadavg()[0]
    # The load makes no cycles, and a collection would be counted as lateness of the server.
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(run(names, scale, given.seconds, given.passes))
    for name, rows in found.items():
        print(f"\n## {name}\n\n{rows_table(PARTS[name], rows)}")
    if not given.print:
        write(report(found, scale.value, given.passes, load), FOLDER, DOCUMENT)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, KeyboardInterrupt) as stopped:
        sys.exit(f"bench: {stopped or 'interrupted'}")
