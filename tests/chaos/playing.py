"""From a scenario to a line of the table: it is run to its end, and what it left behind is judged. Knows no fault."""

import asyncio
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

import psutil

from tests.chaos.checker import Violation, violations
from tests.chaos.evidence import Run, Sample, answers
from tests.chaos.history import History
from tests.chaos.rig import Rig
from tests.chaos.scene import Body, Scene, Void
from tests.harness import eventually

SETTLE_SECONDS = 5.0
SAMPLE_SECONDS = 0.5
UNJUDGED = frozenset({"void", "harness"})  # what is under way when these happen says nothing of the servers


@dataclass
class Outcome:
    """One line of the table."""

    name: str
    seconds: float = 0.0
    sent: int = 0
    delivered: int = 0
    checked: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])
    recovery: list[float] = field(default_factory=list[float])
    evidence: list[str] = field(default_factory=list[str])
    notes: dict[str, str] = field(default_factory=dict[str, str])
    history: History = field(default_factory=History)

    def count(self, counted: str) -> int:
        return sum(each.counted == counted for each in self.violations)


async def played(name: str, rig: Rig, body: Body, seed: str) -> Outcome:
    """Run one scenario to its end and judge it. Never raises for what the servers do."""
    loop = asyncio.get_running_loop()
    began, outcome = loop.time(), Outcome(name)
    scene = Scene(rig, seed)
    rig.server_logs()
    try:
        await _play(scene, body)
    except Void as void:
        outcome.violations.append(Violation("void", "void", str(void)))
    except (AssertionError, TimeoutError) as error:
        outcome.violations.append(Violation("I10 answered", "hung", repr(error)))
    except Exception:  # noqa: BLE001  # a defect of the harness must not end the table
        outcome.violations.append(Violation("harness", "harness", traceback.format_exc()))
    if not any(each.counted in UNJUDGED for each in outcome.violations):
        _judge(outcome, await _run_of(scene))
    outcome.evidence, outcome.notes, outcome.history = scene.evidence, scene.notes, scene.history
    outcome.seconds = loop.time() - began
    return outcome


async def _play(scene: Scene, body: Body) -> None:
    await scene.rig.ready()
    scene.samples += await scene.rig.sample("before")
    watching = asyncio.create_task(_watch(scene))
    try:
        await body(scene)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    await scene.rig.ready()
    scene.samples += await _settled(scene.rig, scene)


async def _watch(scene: Scene) -> None:
    """What is held meanwhile; a node that is being stopped says nothing."""
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        with suppress(AssertionError, psutil.Error):
            scene.samples += await scene.rig.sample("during")


def _judge(outcome: Outcome, run: Run) -> None:
    outcome.violations += violations(run)
    outcome.sent = len({each.outcome.id for each in run.of_kind("send") if each.outcome and each.outcome.what == "ok"})
    outcome.delivered = sum(len(sub.received) for sub in run.subs)
    outcome.checked = outcome.delivered + len(run.operations)
    outcome.recovery = recovery(run)


async def _settled(rig: Rig, scene: Scene) -> list[Sample]:
    """What is held once everybody has left, as soon as it is as little as before."""
    before = {each.node: each.counts for each in scene.samples if each.phase == "before"}
    found = list[Sample]()

    async def is_little() -> bool:
        found[:] = await rig.sample("after")
        return all(
            each.counts[name] <= before[each.node][name] + room
            for each in found
            if each.node in before
            for name, room in scene.bounds.growth.items()
        )

    try:
        await eventually(is_little, SETTLE_SECONDS)
    except AssertionError:
        return found  # the checker says what is left
    return found


async def _run_of(scene: Scene) -> Run:
    logs = {talk.group: await scene.rig.export(talk.group) for talk in scene.talks}
    return Run(scene.history.happenings, logs, scene.samples, scene.rig.server_logs(), scene.bounds)


def recovery(run: Run) -> list[float]:
    """For each stream and each fault: seconds from its end to the moment that the stream gave the first message that
    was acknowledged after it.
    """
    found = list[float]()
    sent = sorted((each.t, each.seq) for attempts in run.sends.values() for each in answers(attempts))
    for healed in (each for each in run.history if each.what == "healed"):
        first = next((seq for t, seq in sent if t > healed.t), inf)
        for subs in run.chains.values():
            due = [each.t for sub in subs for each in sub.received if each.seq >= first]
            if due and subs[0].opened.t < healed.t:
                found.append(max(0.0, min(due) - healed.t))
    return found
