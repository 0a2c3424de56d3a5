"""What a run prints: a line while it goes on, and the table. Knows no server and no fault."""
# ruff: noqa: T201  (it prints)

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import quantiles

from tests.chaos.playing import Outcome

COUNTED = ("lost", "doubled", "reordered", "leaked")
COLUMNS = ("scenario", "s", "sent", "delivered", "checked", *COUNTED, "other", "p50 ms", "p99 ms")


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th, in milliseconds."""
    if len(values) < 2:
        return (values[0] * 1_000, values[0] * 1_000) if values else (0.0, 0.0)
    cut = quantiles(values, n=100, method="inclusive")
    return cut[49] * 1_000, cut[98] * 1_000


def _cells(outcome: Outcome) -> list[str]:
    counts = [outcome.count(counted) for counted in COUNTED]
    p50, p99 = percentiles(outcome.recovery)
    numbers = [outcome.sent, outcome.delivered, outcome.checked, *counts, len(outcome.violations) - sum(counts)]
    return [outcome.name, f"{outcome.seconds:.1f}", *map(str, numbers), f"{p50:.0f}", f"{p99:.0f}"]


@dataclass
class Report:
    """Grows by one outcome after the other."""

    total: int
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    def begin(self, name: str) -> None:
        done = len(self.outcomes)
        self._progress(f"{_bar(done, self.total)} {done}/{self.total} {name}")

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._progress("")
        for violation in outcome.violations[:5]:
            print(f"  {outcome.name}: {violation}", flush=True)

    def sort(self, names: Sequence[str]) -> None:
        """In this order, whatever came first."""
        self.outcomes.sort(key=lambda each: names.index(each.name))

    def _progress(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text[:118]}", end="", file=sys.stderr, flush=True)
        elif text:
            print(text, file=sys.stderr, flush=True)

    def whole(self) -> Outcome:
        """All of them as one line."""
        return Outcome(
            f"all {len(self.outcomes)}",
            sum(each.seconds for each in self.outcomes),
            sum(each.sent for each in self.outcomes),
            sum(each.delivered for each in self.outcomes),
            sum(each.checked for each in self.outcomes),
            [violation for each in self.outcomes for violation in each.violations],
            [seconds for each in self.outcomes for seconds in each.recovery],
        )

    def table(self) -> str:
        rows = [list(COLUMNS), *map(_cells, self.outcomes), _cells(self.whole())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )

    def notes(self) -> str:
        """What single scenarios measured, a line for each that did."""
        said = [
            (each.name, "; ".join(f"{what} {value}" for what, value in each.notes.items())) for each in self.outcomes
        ]
        return "\n".join(f"{name}: {text}" for name, text in said if text)

    @property
    def failed(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.violations]


def _bar(done: int, total: int, width: int = 20) -> str:
    full = done * width // max(total, 1)
    return "[" + "#" * full + "." * (width - full) + "]"
