"""`python -m tests.chaos`: runs scenarios and prints their table. Exit codes: 0 nothing found, 1 violations, 2 not
understood.
"""
# ruff: noqa: T201  (it prints)

import argparse
import asyncio
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

import uvloop

from settings import Settings
from tests.chaos.figures import FIGURES, measured
from tests.chaos.lanes import Order, table
from tests.chaos.long import long_run
from tests.chaos.repairs import REPAIRS, named
from tests.chaos.report import Report
from tests.chaos.rig import Engines
from tests.chaos.scenarios import chosen

MOST_FILES = 65_536
LANES = (os.cpu_count() or 1) + 1  # most of a scenario is waiting


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
    parser.add_argument("--lanes", metavar="N", type=int, default=LANES, help="how many scenarios run at once")
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
    _allow_many_sockets()
    if given.figure or given.deliveries:
        report = uvloop.run(_measured(given))
    else:
        report = table(scenarios, Order(given.seed, given.without, given.history), given.lanes)
    print(report.table())
    print(report.notes())
    for each in report.failed:
        again = "--figure" if given.figure else "--only"
        print(f"FAILED {each.name}: python -m tests.chaos {again} '{each.name}' --seed '{given.seed}'")
    return 1 if report.failed else 0


def _allow_many_sockets() -> None:
    """As many as this process may; its nodes inherit that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


async def _measured(given: argparse.Namespace) -> Report:
    running = asyncio.current_task()
    assert running is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with tempfile.TemporaryDirectory(prefix="parley-chaos-") as folder:
        async with Engines.made(Path(folder)) as engines:
            if given.deliveries:
                return await long_run(engines, given.deliveries, given.seed)
            sentence, outcome = await measured(engines, given.figure, given.number, given.seed)
            report = Report(1)
            report.add(outcome)
            print(sentence)
            return report


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
