"""The rooms and the arrows between them, and what no file of the checkout may hold."""

import os
import re
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("commands", "schema", "resolvers", "db", "delivery")


def test_every_arrow_between_the_rooms_points_one_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    code = lint_imports(config_filename="pyproject.toml", no_cache=True, no_logo=True)
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_a_package(room: str) -> None:
    assert (ROOT / room / "__init__.py").is_file()


def test_the_folder_graphql_holds_documents_and_no_python() -> None:
    folder = ROOT / "graphql"
    kinds = {file.suffix for file in folder.rglob("*") if file.is_file()}
    assert kinds == {".graphql", ".json"}, "a Python file here would hide the installed package `graphql`"


def locks() -> list[Path]:
    """Every lock file that is part of the project, at the top and beside each package.json."""
    found = list(ROOT.glob("requirements*.lock"))
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "node_modules"]
        found += [Path(folder, name) for name in files if name == "package-lock.json"]
    return sorted(lock.relative_to(ROOT) for lock in found)


@pytest.mark.parametrize("lock", locks(), ids=str)
def test_no_lock_file_says_where_packages_are_downloaded(lock: Path) -> None:
    # An npm lock also names addresses for donations; those are nobody's registry.
    address = r'"resolved": "\w+://.*' if lock.name == "package-lock.json" else r".*://.*"
    assert re.findall(address, (ROOT / lock).read_text()) == []
