"""`python -m tests.chaos`: runs scenarios and prints their table. Exit codes: 0 nothing found, 1 violations, 2 not
understood.
"""
# ruff: noqa: T201  (it prints)

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import uvloop

from settings import Settings
from tests.chaos.checker import Violation
from tests.chaos.figures import FIGURES, measured
from tests.chaos.long import long_run
from tests.chaos.playing import Outcome, played
from tests.chaos.repairs import REPAIRS, named
from tests.chaos.report import Report
from tests.chaos.rig import Engines, rigged
from tests.chaos.scenarios import Scenario, chosen


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("chaos", description="Parley under faults, checked against twelve invariants.")
    parser.add_argument("--core", action="store_true", help="the short run, about sixty scenarios")
    parser.add_argument("--all", action="store_true", help="every scenario (the default)")
    parser.add_argument("--only", metavar="TEXT", default="", help="with this in the name, or of this fault (F15)")
    parser.add_argument("--seed", metavar="TEXT", default="parley", help="what is random follows from it")
    parser.add_argument("--deliveries", metavar="N", type=int, help="one long run until so many deliveries")
    parser.add_argument("--figure", choices=sorted(FIGURES), help="measure one figure of docs/guarantees.md")
    parser.add_argument("--number", metavar="N", type=int, help="how often, for --figure")
    parser.add_argument("--without", metavar="REPAIR", default="", help="turn a repair off: its scenario must go red")
    parser.add_argument("--repairs", action="store_true", help="name the repairs and their scenarios, and end")
    parser.add_argument("--list", action="store_true", help="name the scenarios, and end")
    parser.add_argument("--history", metavar="FOLDER", type=Path, help="write each scenario's history there")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    if given.repairs:
        for repair in REPAIRS:
            print(f"{repair.name}: {repair.scenario}")
        return 0
    if given.without and given.without not in {repair.name for repair in REPAIRS}:
        print(f"chaos: there is no repair {given.without!r}; --repairs names them.", file=sys.stderr)
        return 2
    scenarios = chosen(core=given.core, only=given.only or (named(given.without).scenario if given.without else ""))
    if given.list:
        for each in scenarios:
            print(f"{each.name} ({each.faults}){' core' if each.core else ''}")
        print(f"{len(scenarios)} scenarios, {sum(each.core for each in scenarios)} of them in the short run")
        return 0
    for name in Settings.model_fields:
        os.environ.pop(name.upper(), None)  # a developer's own settings must not reach the nodes
    return uvloop.run(_run(given, scenarios))


async def _run(given: argparse.Namespace, scenarios: Sequence[Scenario]) -> int:
    running = asyncio.current_task()
    assert running is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with tempfile.TemporaryDirectory(prefix="parley-chaos-") as folder:
        async with Engines.made(Path(folder)) as engines:
            if given.figure:
                sentence, outcome = await measured(engines, given.figure, given.number, given.seed)
                report = Report(1)
                report.add(outcome)
                print(sentence)
            elif given.deliveries:
                report = await long_run(engines, given.deliveries, given.seed)
            else:
                report = await _table(engines, scenarios, given)
    print(report.table())
    for each in report.failed:
        print(f"FAILED {each.name}: python -m tests.chaos --only '{each.name}' --seed '{given.seed}'")
    return 1 if report.failed else 0


async def _table(engines: Engines, scenarios: Sequence[Scenario], given: argparse.Namespace) -> Report:
    """Each rig is built once; one that a scenario left broken is built anew."""
    report = Report(len(scenarios))
    for _, cell in groupby(scenarios, key=lambda each: (each.backend, each.nodes)):
        waiting = list(cell)
        while waiting:
            before = len(report.outcomes)
            try:
                await _play_on_one_rig(engines, waiting, given, report)
            except Exception:  # noqa: BLE001  # the table goes on without the scenario that has no rig
                if len(report.outcomes) == before:
                    name = waiting.pop(0).name
                    report.add(Outcome(name, violations=[Violation("harness", "harness", traceback.format_exc())]))
    return report


async def _play_on_one_rig(
    engines: Engines, waiting: list[Scenario], given: argparse.Namespace, report: Report
) -> None:
    """Take from `waiting` until it is empty, or until something was found."""
    async with rigged(engines, waiting[0].backend, waiting[0].nodes, given.without) as rig:
        while waiting:
            scenario = waiting.pop(0)
            report.begin(scenario.name)
            outcome = await played(scenario.name, rig, scenario.body, f"{given.seed} {scenario.name}")
            report.add(outcome)
            _keep(given.history, outcome)
            if outcome.violations:
                return


def _keep(folder: Path | None, outcome: Outcome) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        name = "".join(each if each.isalnum() else "-" for each in outcome.name)
        (folder / f"{name}.jsonl").write_text("\n".join(outcome.history.lines()) + "\n")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
