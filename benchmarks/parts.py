"""What a benchmark is to whoever runs and shows it: a name, rows, and how they are read. Knows no server."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.rig import Rig, Row


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over the rows, both axes in powers of ten: one for each value of `by`, or for each column of `lines`."""

    name: str
    title: str
    x: str
    lines: Sequence[str]
    by: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark. `columns` are the keys of its rows with the heads that a reader sees."""

    name: str
    columns: Mapping[str, str]
    measure: Callable[[Rig], AsyncGenerator[Row]]
    plots: Sequence[Plot] = ()
