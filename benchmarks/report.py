"""What was measured as JSON, as tables in the document, and as plots. Measures nothing."""

import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.fanout import BUSY, DOCUMENTS_ASKED, FAN_OUT, GROUPS, IDLE
from benchmarks.history import LOG, MY_GROUPS
from benchmarks.machine import ROOT, facts
from benchmarks.news import NEWS
from benchmarks.nodes import ACROSS, SENDS
from benchmarks.parts import Part, Plot
from benchmarks.resuming import RESUME
from benchmarks.rig import Row
from benchmarks.sockets import CONNECTIONS

PARTS = {
    part.name: part
    for part in (
        FAN_OUT, DOCUMENTS_ASKED, BUSY, GROUPS, IDLE, SENDS, LOG, MY_GROUPS, RESUME, CONNECTIONS, NEWS, ACROSS,
    )
}  # fmt: skip
FOLDER = ROOT / "docs" / "benchmarks"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
RESULTS = "results.json"
SIGNIFICANT = 3
Report = dict[str, Any]


def median(passes: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows of several passes as one: of each figure the median."""
    return [{key: _middle([row[key] for row in rows]) for key in rows[0]} for rows in zip(*passes, strict=True)]


def _middle(values: Sequence[Any]) -> Any:
    return statistics.median(values) if all(isinstance(each, int | float) for each in values) else values[0]


def report(found: Mapping[str, Sequence[Row]], scale: str, passes: int, load: float) -> Report:
    """The whole of one run; `load` is the machine's before it."""
    now = datetime.now(UTC).isoformat(timespec="minutes")
    parts = {
        name: {"measured": now, "scale": scale, "passes": passes, "load": load, "rows": [rounded(row) for row in rows]}
        for name, rows in found.items()
    }
    return {"machine": facts(), "parts": parts}


def rounded(row: Row) -> Row:
    """With as many digits as mean something."""
    return {key: float(f"{value:.{SIGNIFICANT}g}") if isinstance(value, float) else value for key, value in row.items()}


def merged(earlier: Report, later: Report) -> Report:
    """Parts that were not measured again stay, if they come from the same machine and packages."""
    same = earlier.get("machine") == later["machine"]
    return {**later, "parts": {**earlier["parts"], **later["parts"]} if same else later["parts"]}


def write(found: Report, folder: Path = FOLDER, document: Path = DOCUMENT) -> None:
    """One JSON, the plots, and the tables of the document."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / RESULTS
    if file.exists():
        found = merged(json.loads(file.read_text()), found)
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, part in found["parts"].items():
        for plot in PARTS[name].plots:
            (folder / f"{plot.name}.svg").write_text(picture(plot, PARTS[name], part["rows"]), encoding="utf-8")
    document.write_text(filled(document.read_text(encoding="utf-8"), found), encoding="utf-8")


def filled(text: str, found: Report) -> str:
    """The document with each part between its marks as it was measured; what was not measured stays."""
    for name, block in blocks(found):
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m, block=block: m[1] + block + m[2], text, flags=re.DOTALL
        )
    return text


def blocks(found: Report) -> Iterable[tuple[str, str]]:
    yield "machine", table(["", ""], [[name, str(value)] for name, value in found["machine"].items()])
    for name, part in found["parts"].items():
        yield name, f"{rows_table(PARTS[name], part['rows'])}\n{said(part)}\n"


def said(part: Report) -> str:
    passes = f"medians of {part['passes']} passes" if part["passes"] > 1 else "one pass"
    when = part["measured"].replace("T", " ").replace("+00:00", " UTC")
    return f"Measured {when}, {passes}, sizes: {part['scale']}, load of the machine before: {part['load']:.1f}."


def rows_table(part: Part, rows: Sequence[Row]) -> str:
    lines = [[shown(row.get(key)) for key in part.columns] for row in rows]
    numbers = [not isinstance(rows[0].get(key), str) for key in part.columns]
    return table(list(part.columns.values()), lines, numbers)


def table(head: Sequence[str], lines: Iterable[Sequence[str]], numbers: Sequence[bool] = ()) -> str:
    rule = ["---:" if right else "---" for right in numbers or [False] * len(head)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *lines))


def shown(value: object) -> str:
    if isinstance(value, float):
        whole = abs(value) >= 10 ** (SIGNIFICANT - 1)
        return f"{value:,.0f}" if whole else f"{value:.{SIGNIFICANT}g}"
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)


def picture(plot: Plot, part: Part, rows: Sequence[Row]) -> str:
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for key in plot.lines:
            name = row[plot.by] if plot.by else part.columns[key]
            lines.setdefault(name, []).append((row[plot.x], row[key]))
    return plots.svg(plot.title, part.columns[plot.x], lines)
