"""Scenarios spread over processes, each with engines of its own: what is done to one lane's engines, no other feels.
Knows no fault.
"""

import asyncio
import multiprocessing
import signal
import tempfile
import traceback
from collections.abc import Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, cast

import uvloop

from tests.chaos.checker import Violation
from tests.chaos.history import History
from tests.chaos.playing import Outcome, played
from tests.chaos.report import Report
from tests.chaos.rig import Engines, Rig, rigged
from tests.chaos.scenarios import Cell, Scenario, all_scenarios

STOP_SECONDS = 20
_spawning = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Order:
    """What every lane is told."""

    seed: str
    without: str = ""
    history: Path | None = None


@dataclass
class Lane:
    """One process, what it plays now, and where its rig stands."""

    process: BaseProcess
    pipe: Connection
    playing: Scenario | None = None
    cell: Cell | None = None


@dataclass
class Waiting:
    """Scenarios that nobody has played yet. A lane stays with its rig as long as that has something to do."""

    scenarios: list[Scenario]
    lanes: list[Lane] = field(default_factory=list[Lane])

    def take(self, lane: Lane) -> Scenario | None:
        cells = [each.cell for each in self.scenarios]
        if not cells:
            return None
        if lane.cell not in cells:
            lane.cell = max(cells, key=lambda cell: cells.count(cell) / (1 + self._lanes_at(cell)))
        return self.scenarios.pop(cells.index(lane.cell))

    def _lanes_at(self, cell: Cell) -> int:
        return sum(each.cell == cell for each in self.lanes)


def table(scenarios: Sequence[Scenario], order: Order, lanes: int) -> Report:
    """Every scenario once, in so many lanes. Nothing is left behind, also when this is interrupted."""
    report, waiting = Report(len(scenarios)), Waiting(list(scenarios))
    previous = signal.signal(signal.SIGTERM, _interrupted)
    try:
        for _ in range(min(lanes, len(scenarios))):
            _open(waiting, order)
        while waiting.lanes:
            ready = wait([lane.pipe for lane in waiting.lanes])
            for lane in [each for each in waiting.lanes if each.pipe in ready]:
                _hear(lane, waiting, order, report)
    finally:
        _end(waiting.lanes)
        signal.signal(signal.SIGTERM, previous)
    report.sort([each.name for each in scenarios])
    return report


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _open(waiting: Waiting, order: Order) -> None:
    ours, theirs = cast("tuple[Connection, Connection]", _spawning.Pipe())
    process = _spawning.Process(target=_lane, args=(theirs, order))
    process.start()
    theirs.close()
    waiting.lanes.append(Lane(process, ours))


def _hear(lane: Lane, waiting: Waiting, order: Order, report: Report) -> None:
    """Take what the lane says (an outcome, or at first nothing), and give it the next; another lane for one that
    ended.
    """
    try:
        outcome: Outcome | None = lane.pipe.recv()
        if outcome is not None:
            lane.playing = None
            report.add(outcome)
        scenario = waiting.take(lane)
        lane.pipe.send(scenario and scenario.name)
    except (EOFError, OSError):
        waiting.lanes.remove(lane)
        _lost(lane, waiting, order, report)
        return
    lane.playing = scenario
    if scenario is None:
        waiting.lanes.remove(lane)
        lane.process.join()
    else:
        report.begin(scenario.name)


def _lost(lane: Lane, waiting: Waiting, order: Order, report: Report) -> None:
    lane.process.join()
    if lane.playing is not None:
        text = f"its lane ended with {lane.process.exitcode}"
        report.add(Outcome(lane.playing.name, violations=[Violation("harness", "harness", text)]))
    if waiting.scenarios:
        _open(waiting, order)


def _end(lanes: Sequence[Lane]) -> None:
    for lane in lanes:
        lane.process.terminate()
    for lane in lanes:
        lane.process.join(STOP_SECONDS)
        lane.process.kill()
        lane.process.join()


# In the lane's own process


def _lane(pipe: Connection, order: Order) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the table, which then ends its lanes in order
    with _quiet_when_told_to_end():
        uvloop.run(_play_on(pipe, order))


@contextmanager
def _quiet_when_told_to_end() -> Generator[None]:
    try:
        yield
    except (asyncio.CancelledError, EOFError, BrokenPipeError):
        return  # the table is gone, or said that this is to go


async def _play_on(pipe: Connection, order: Order) -> None:
    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    known = {each.name: each for each in all_scenarios()}
    with tempfile.TemporaryDirectory(prefix="parley-chaos-") as folder:
        async with Engines.made(Path(folder)) as engines, Stand(engines, order.without) as stand:
            said: Outcome | None = None
            while True:
                pipe.send(said)
                if (name := pipe.recv()) is None:
                    return
                said = await _outcome(stand, known[name], order)


async def _outcome(stand: "Stand", scenario: Scenario, order: Order) -> Outcome:
    """Never raises for what the servers do; a rig on which something was found is not used again."""
    try:
        rig = await stand.rig(scenario.cell)
        outcome = await played(scenario.name, rig, scenario.body, f"{order.seed} {scenario.name}")
    except Exception:  # noqa: BLE001  # the table goes on without the scenario that has no rig
        outcome = Outcome(scenario.name, violations=[Violation("harness", "harness", traceback.format_exc())])
    if outcome.violations:
        await stand.leave()
    _keep(order.history, outcome)
    outcome.history = History()
    return outcome


class Stand:
    """The rig that a lane has at the moment."""

    def __init__(self, engines: Engines, without: str) -> None:
        self._engines = engines
        self._without = without
        self._stack = AsyncExitStack()
        self._cell: Cell | None = None
        self._rig: Rig | None = None

    async def rig(self, cell: Cell) -> Rig:
        """Of this cell: the one that stands here, or a new one."""
        if self._rig is None or self._cell != cell:
            await self.leave()
            self._rig = await self._stack.enter_async_context(rigged(self._engines, *cell, self._without))
            self._cell = cell
        return self._rig

    async def leave(self) -> None:
        self._rig = None
        await self._stack.aclose()

    async def __aenter__(self) -> "Stand":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.leave()


def _keep(folder: Path | None, outcome: Outcome) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        name = "".join(each if each.isalnum() else "-" for each in outcome.name)
        (folder / f"{name}.jsonl").write_text("\n".join(outcome.history.lines()) + "\n")
