"""What a node under test is told beside its settings: one file, which its launcher reads. Knows neither."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "PARLEY_CHAOS"
ROWS: Final = 10
"""How many rows a node reads at once, a tenth of production or less: small scenarios cross many seams of batches."""


@dataclass(frozen=True)
class Control:
    """`drop`, `double` and `shuffle` are shares of hints; `pages` is the most of a SQLite file, `rows` that are read at
    once (0: as in production).
    """

    asked: int = 0
    seed: int = 0
    without: str = ""
    clock_seconds: float = 0
    drop: float = 0
    double: float = 0
    shuffle: float = 0
    pages: int = 0
    rows: int = ROWS

    @classmethod
    def read(cls, file: Path) -> "Control":
        return cls(**json.loads(file.read_text()))

    def write(self, file: Path) -> None:
        """All at once: somebody may read it in this moment."""
        half = file.with_suffix(".half")
        half.write_text(json.dumps(asdict(self)))
        half.replace(file)


def answer_file(file: Path) -> Path:
    """Where the node answers."""
    return file.with_suffix(".answer")
