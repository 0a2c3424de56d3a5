"""docs/clients.md shows what the projects in tests/clients run, and their locks name no registry."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.clients.__main__ import in_node, projects
from tests.harness.client import ROOT
from tests.transcripts import Block, blocks

DOCUMENT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
CLIENTS = ROOT / "tests" / "clients"
REGION = re.compile(r"^(?://|#) region (?P<name>[\w-]+)\n(?P<code>.*?)^(?://|#) endregion$", re.MULTILINE | re.DOTALL)


def regions(file: Path) -> dict[str, str]:
    """The parts of a source file between `// region NAME` and `// endregion`, in Python after `#`.

    Without the empty lines at either end, which Python's formatter wants.
    """
    return {each["name"]: each["code"].strip("\n") + "\n" for each in REGION.finditer(file.read_text(encoding="utf-8"))}


def sources() -> list[Path]:
    """Every file of the projects that is theirs."""
    return [file for name in projects() for file in (CLIENTS / name).rglob("*.*") if "node_modules" not in file.parts]


def recipes() -> list[str]:
    """Every region of every project, as the document names it."""
    code = [file for file in sources() if file.suffix in {".mjs", ".js", ".jsx", ".ts", ".tsx", ".py"}]
    return sorted(f"{file.relative_to(ROOT)}#{name}" for file in code for name in regions(file))


@pytest.mark.parametrize("block", blocks(DOCUMENT), ids=lambda block: f"line {block.line}")
def test_a_block_is_a_part_of_a_project(block: Block) -> None:
    assert len(block.rest) == 1, f"docs/clients.md:{block.line}: ```{block.language} FILE#REGION"
    path, _, name = block.rest[0].partition("#")
    assert block.text == regions(ROOT / path)[name]


def test_every_part_that_is_marked_is_shown_once() -> None:
    assert sorted(word for block in blocks(DOCUMENT) for word in block.rest) == recipes()


def test_every_project_has_its_recipe() -> None:
    shown = {Path(block.rest[0]).parts[2] for block in blocks(DOCUMENT)}
    assert shown == set(projects()) - {"graphiql"}  # which is a page of ours, and no library to build with


@pytest.mark.parametrize("name", list(filter(in_node, projects())))
def test_a_lock_of_npm_names_no_host(name: str) -> None:
    assert "omit-lockfile-registry-resolved=true" in (CLIENTS / name / ".npmrc").read_text()
    packages: dict[str, Any] = json.loads((CLIENTS / name / "package-lock.json").read_text())["packages"]
    assert [path for path, package in packages.items() if "resolved" in package] == []
    # Who may be given money for a package is said with an address of theirs.
    rest = json.dumps([package | {"funding": None} for package in packages.values()])
    assert re.findall(r"https?:[^\"]*|[\w.-]*registry[\w.-]*", rest) == []


def test_no_package_is_in_the_repository() -> None:
    assert "node_modules/" in (ROOT / ".gitignore").read_text().splitlines()
