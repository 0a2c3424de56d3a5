"""One server process of a run: started with its launcher, stopped, paused, killed, told things and asked what it holds.
Knows no engine.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from failpoints import VARIABLE as FAILPOINTS
from tests.chaos.control import VARIABLE, Control, answer_file
from tests.chaos.evidence import Sample
from tests.chaos.wire import Place
from tests.harness import Node, eventually
from tests.harness.client import ROOT
from tests.processes import spawn


class ChaosNode(Node):
    """A node that is known by a name, and keeps its port."""

    def __init__(self, name: str, environment: Mapping[str, str], folder: Path, control: Control) -> None:
        super().__init__(environment, folder / f"{name}.log")
        self.name = name
        self.failpoints = ""
        self.listens = False
        self._file = folder / f"{name}.control"
        self._control = control
        self._told = 0

    @property
    def place(self) -> Place:
        return Place(self.name, self.port)

    @property
    def control(self) -> Control:
        return self._control

    def news(self) -> str:
        """What its processes have written since this was asked last."""
        whole = self.logs()
        told, self._told = self._told, len(whole)
        return whole[told:]

    async def is_ready(self) -> bool:
        """Whether /readyz says 200. From then on it can be told things."""
        ready = await super().is_ready()
        self.listens = self.listens or ready
        return ready

    def launch(self, *arguments: str) -> None:
        self.listens = False
        self._control.write(self._file)
        command = [sys.executable, "-m", "tests.chaos.launcher", "serve", "--port", str(self.port), *arguments]
        own = {VARIABLE: str(self._file), FAILPOINTS: self.failpoints}
        self._process = spawn(command, log=self._log, cwd=ROOT, env=os.environ | self.environment | own)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> str:
        """As psutil says it: `stopped`, `sleeping`, `running`; `ended`."""
        return psutil.Process(self.pid).status() if self.runs else "ended"

    def send(self, number: signal.Signals) -> None:
        if self.runs:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.listens = False
        super().kill()

    def terminate(self) -> None:
        self.listens = False
        super().terminate()

    @property
    def can_be_told(self) -> bool:
        """Whether it hears: before it is ready, and once it was told to stop, SIGUSR1 would end it."""
        return self.listens and self.runs and self.status != psutil.STATUS_STOPPED

    async def tell(self, **said: Any) -> dict[str, Any]:
        """Change what it is told; what it holds then."""
        assert self.listens, f"{self.name} is not there to be told anything"
        asked = self._control.asked + 1
        self._control = replace(self._control, asked=asked, **said)
        self._control.write(self._file)
        self.send(signal.SIGUSR1)
        return await eventually(lambda: self._answer(asked) or {})

    def _answer(self, asked: int) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = json.loads(answer_file(self._file).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return answer if answer["asked"] >= asked else None

    async def sample(self, phase: str) -> Sample:
        """What it holds now, under the name of this process: another process begins anew."""
        counts = await self.tell()
        process = psutil.Process(self.pid)
        tasks_are = counts.pop("tasks_are")
        counts |= {"fds": process.num_fds(), "rss_mib": process.memory_info().rss // 2**20}
        return Sample(f"{self.name} {self.pid}", phase, counts, tasks_are)
