"""The benchmarks run, and what they write is whole: the smallest sizes, whose figures say nothing."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from benchmarks import plots, report
from benchmarks.machine import Cpus
from benchmarks.report import DOCUMENT, FOLDER, PARTS, RESULTS
from benchmarks.rig import Rig, Scale
from tests.engines import Postgres, Redis

SECONDS = 0.05
SVG = "{http://www.w3.org/2000/svg}"


def shown(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def pictures(folder: Path) -> dict[str, ET.Element]:
    return {file.name: parsed(shown(file)) for file in folder.glob("*.svg")}


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314  # our own


@pytest.fixture
def restored() -> Iterator[None]:
    """A server of a benchmark logs less than those of the other tests."""
    told = structlog.get_config()
    yield
    structlog.configure(**told)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("name", PARTS)
async def test_a_benchmark_runs_and_what_is_written_of_it_agrees(
    name: str, tmp_path: Path, postgres: Postgres, redis_server: Redis
) -> None:
    part, rig = PARTS[name], Rig(tmp_path, Scale.SMOKE, SECONDS, Cpus(pin=False), (postgres, redis_server))
    rows = [row async for row in part.measure(rig)]
    assert rows
    for row in rows:
        assert set(row) == set(part.columns)
        assert all(value >= 0 for value in row.values() if isinstance(value, int | float))
    document = tmp_path / "benchmarks.md"
    document.write_text(shown(DOCUMENT))
    report.write(report.report({name: rows}, "smoke", 1, 0.5), tmp_path, document)
    written: Any = json.loads(shown(tmp_path / RESULTS))
    assert list(written) == ["machine", "parts"]
    assert list(written["parts"]) == [name]
    assert report.rows_table(part, written["parts"][name]["rows"]) in shown(document)
    assert set(pictures(tmp_path)) == {f"{plot.name}.svg" for plot in part.plots}


def test_what_was_measured_before_stays_if_it_is_of_the_same_machine() -> None:
    old, new = ({"machine": "this", "parts": {name: name}} for name in ("log", "news"))
    assert report.merged(old, new) == {"machine": "this", "parts": {"log": "log", "news": "news"}}
    assert report.merged(old | {"machine": "another"}, new) == new


def test_the_median_of_passes_is_taken_of_each_figure() -> None:
    passes = [[{"server": "Parley", "us": us, "syncs": None}] for us in (3.0, 1.0, 2.0)]
    assert report.median(passes) == [{"server": "Parley", "us": 2.0, "syncs": None}]


def test_a_plot_leaves_out_what_has_no_logarithm() -> None:
    drawn = parsed(plots.svg("A & B", "x", {"one": [(1, 5), (10, 0), (100, 50)], "two": []}))
    assert [each.get("points") for each in drawn.iter(f"{SVG}polyline")] == ["64.0,207.9 616.0,81.9", ""]


def test_the_document_shows_what_the_results_say() -> None:
    results = json.loads(shown(FOLDER / RESULTS))
    assert set(results["parts"]) == set(PARTS)
    assert report.filled(shown(DOCUMENT), results) == shown(DOCUMENT), "run `python3 dev.py bench`"
    assert set(pictures(FOLDER)) == {f"{plot.name}.svg" for part in PARTS.values() for plot in part.plots}
