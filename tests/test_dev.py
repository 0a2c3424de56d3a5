"""dev.py: the environments it makes, what it says when it cannot, and that the locks hold what pyproject.toml asks for.

The checkouts here are small: dev.py, a lock with one tiny wheel, and an app.py that says how it was started.
"""

import ast
import base64
import hashlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dev
from tests.conftest import MOST_WORKERS, pytest_xdist_auto_num_workers

ROOT = Path(__file__).resolve().parent.parent
# The Python below our environment: it has the pip, or the ensurepip, that made the environment.
HOST_PYTHON = os.path.realpath(sys.executable)
SECONDS = 60

APP = """
import os, sys, tiny
print(os.getpid(), tiny.VERSION, *sys.argv[1:])
sys.exit(7)
"""


class Checkout:
    """A folder that dev.py takes for its own, with blanks in its name."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a check out"
        self.root.mkdir()
        (self.root / "dev.py").write_bytes((ROOT / "dev.py").read_bytes())
        (self.root / "app.py").write_text(APP)
        self.environment = self.root / ".parley" / "serve"
        self.lock(1)

    def lock(self, version: int, *, digest: str | None = None) -> None:
        """Let requirements.lock ask for this version of the wheel `tiny`, by its own digest unless another is given."""
        wheel = tiny_wheel(self.root, version)
        digest = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
        (self.root / "requirements.lock").write_text(f"tiny @ {wheel.as_uri()} --hash=sha256:{digest}\n")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [HOST_PYTHON, str(self.root / "dev.py"), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, what was printed, and what was said on the error output."""
        with self.start(*arguments) as program:
            out, err = program.communicate(timeout=SECONDS)
        return program.returncode, out, err


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def tiny_wheel(folder: Path, version: int) -> Path:
    wheel = folder / f"tiny-{version}-py3-none-any.whl"
    about = f"tiny-{version}.dist-info"
    files = {
        "tiny.py": f"VERSION = {version}\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},{record_digest(text)},{len(text)}\n" for name, text in files.items())
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in (files | {f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}).items():
            archive.writestr(name, text)
    return wheel


def record_digest(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return f"sha256={digest.decode().rstrip('=')}"


# --- environments ----------------------------------------------------------------------------------------------------


def test_the_first_command_makes_the_environment_and_the_second_finds_it(checkout: Checkout) -> None:
    code, out, err = checkout.run("serve", "--port", "1")
    assert (code, out.split()[1:]) == (7, ["1", "serve", "--port", "1"])
    assert err.splitlines() == ["dev.py: making the environment .parley/serve (once, about a minute) …"]
    code, out, err = checkout.run("migrate", "--help")
    assert (code, out.split()[1:], err) == (7, ["1", "migrate", "--help"], "")


def test_the_server_takes_the_place_of_dev_py(checkout: Checkout) -> None:
    with checkout.start("serve") as program:
        out, _ = program.communicate(timeout=SECONDS)
    assert int(out.split()[0]) == program.pid


def test_another_lock_makes_another_environment(checkout: Checkout) -> None:
    checkout.run("serve")
    checkout.lock(2)
    _, out, err = checkout.run("serve")
    assert "making" in err
    assert out.split()[1] == "2"


def spoil_nothing_but_the_stamp(home: Path) -> None:
    (home / "stamp").unlink()
    next(home.glob("lib/python*/site-packages/tiny.py")).unlink()


def spoil_the_python(home: Path) -> None:
    """As when the host's Python is upgraded away."""
    (home / "bin" / "python").unlink()
    (home / "bin" / "python").symlink_to("/nowhere/python")


@pytest.mark.parametrize("spoil", [spoil_nothing_but_the_stamp, spoil_the_python])
def test_a_half_made_or_broken_environment_is_made_again(checkout: Checkout, spoil: Callable[[Path], None]) -> None:
    checkout.run("serve")
    spoil(checkout.environment)
    code, _, err = checkout.run("serve")
    assert (code, "making" in err) == (7, True)


def test_two_at_once_make_the_environment_once(checkout: Checkout) -> None:
    with checkout.start("serve") as one, checkout.start("serve") as other:
        said = [program.communicate(timeout=SECONDS)[1] for program in (one, other)]
    assert (one.returncode, other.returncode) == (7, 7)
    assert "".join(said).count("making the environment") == 1


def test_a_package_with_another_digest_than_the_locks_is_refused(checkout: Checkout) -> None:
    checkout.lock(1, digest="0" * 64)
    code, out, err = checkout.run("serve")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("dev.py: pip could not fill .parley/serve")
    assert not (checkout.environment / "stamp").exists()


def test_packages_of_the_callers_shell_stay_outside(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `tiny` on PYTHONPATH would pass for the installed one, in pip's eyes and in the server's."""
    outside = checkout.root / "outside"
    outside.mkdir()
    (outside / "tiny.py").write_text("VERSION = 'of the shell'\n")
    monkeypatch.setenv("PYTHONPATH", str(outside))
    _, out, _ = checkout.run("serve")
    assert out.split()[1] == "1"


# --- what it says ----------------------------------------------------------------------------------------------------


def test_without_a_usable_pip_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho pip 20.0.2 from elsewhere\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(importlib.util, "find_spec", dict[str, None]().get)
    with pytest.raises(SystemExit, match=r"^dev\.py: .* has no pip .*`apt-get install python3-pip` brings it$"):
        dev.pip_is_here()


def test_an_old_python_can_read_dev_py_and_gets_one_line() -> None:
    ast.parse((ROOT / "dev.py").read_text(), feature_version=(3, 6))
    pretend = "import runpy, sys; sys.version_info = (3, 10, 9); runpy.run_path('dev.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"dev\.py: Parley needs Python 3\.11 or later, and .*\n", done.stderr)


def test_a_missing_lock_is_one_line(checkout: Checkout) -> None:
    code, _, err = checkout.run("test")
    assert code == 1
    assert re.fullmatch(r"dev\.py: .*requirements-dev\.lock is missing; .*\n", err)


@pytest.mark.parametrize(("arguments", "code"), [((), 2), (("dance",), 2), (("--help",), 0)])
def test_an_unknown_command_shows_them_all(checkout: Checkout, arguments: tuple[str, ...], code: int) -> None:
    got, out, err = checkout.run(*arguments)
    assert got == code
    assert all(f"  {name} " in out + err for name in ("serve", "export-log", "test", "lint", "format", "lock"))


# --- running ---------------------------------------------------------------------------------------------------------


def test_a_program_ended_by_a_signal_gives_a_shells_exit_code() -> None:
    suicide = f"import os; os.kill(os.getpid(), {signal.SIGKILL:d})"
    assert dev.run(Path(sys.executable), "-c", suicide) == 128 + signal.SIGKILL


def test_the_first_failure_is_the_exit_code() -> None:
    assert dev.first_failure(0, 3, 1) == 3
    assert dev.first_failure(0, 0) == 0


class Became(Exception):
    """What dev.py would have replaced itself by."""


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """dev.py finds an environment and raises Became instead of replacing this process."""

    def environment(*_: object) -> Path:
        return Path("python")

    def become(*command: Path | str) -> NoReturn:
        raise Became(*command)

    monkeypatch.setattr(dev, "environment", environment)
    monkeypatch.setattr(dev, "become", become)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "as it was")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["-k", "NAME"], ["-n", "auto", "--dist", "worksteal", "-k", "NAME"]),
        (["-n", "0", "-x"], ["-n", "auto", "--dist", "worksteal", "-n", "0", "-x"]),
        (["--repeat", "3"], ["-p", "tests.repeat", "--repeat=3", "-n", "auto", "--dist", "worksteal"]),
    ],
)
def test_the_tests_are_spread_over_workers_unless_the_caller_says_otherwise(
    replaced: None, asked: list[str], told: list[str]
) -> None:
    with pytest.raises(Became) as became:
        dev.test(asked)
    assert became.value.args == (Path("python"), "-m", "pytest", *told)


def test_the_tests_compile_once_where_python_may_not_write_beside_the_sources(replaced: None) -> None:
    with pytest.raises(Became):
        dev.test([])
    assert dev.own_environ()["PYTHONPYCACHEPREFIX"] == str(dev.STATE / "cache" / "python")
    assert "PYTHONDONTWRITEBYTECODE" not in dev.own_environ()


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 2), (64, MOST_WORKERS)])
def test_the_whole_suite_has_a_worker_for_each_core_and_a_selection_has_none(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, cores: int, workers: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(pytestconfig, "args_source", pytest.Config.ArgsSource.TESTPATHS)
    options = pytestconfig.option
    for name in ("keyword", "markexpr", "lf"):
        monkeypatch.setattr(options, name, "")
    assert pytest_xdist_auto_num_workers(pytestconfig) == workers
    for name in ("keyword", "markexpr", "lf"):
        with monkeypatch.context() as selecting:
            selecting.setattr(options, name, "asked for")
            assert pytest_xdist_auto_num_workers(pytestconfig) == 0
    monkeypatch.setattr(pytestconfig, "args_source", pytest.Config.ArgsSource.ARGS)
    assert pytest_xdist_auto_num_workers(pytestconfig) == 0


def test_repeat_runs_each_selected_test_so_often(tmp_path: Path) -> None:
    file = tmp_path / "test_sample.py"
    file.write_text("import pytest\n\n@pytest.mark.parametrize('n', [1, 2])\ndef test_it(n): assert n\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.repeat", "--repeat=3", "-k", "it", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert re.search(r"=+ 6 passed in ", done.stdout), done.stdout + done.stderr


# --- locks -----------------------------------------------------------------------------------------------------------


def locked(lock: str) -> dict[str, str]:
    """The version of every package in a lock."""
    rows = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), flags=re.MULTILINE)
    return {canonicalize_name(name): version for name, version in rows}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_holds_what_pyproject_asks_for(lock: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted: list[str] = project["project"]["dependencies"]
    if lock == "requirements-dev.lock":
        wanted = wanted + project["dependency-groups"]["dev"]
    versions = locked(lock)
    for need in map(Requirement, wanted):
        assert versions.get(canonicalize_name(need.name), "") in need.specifier, f"`python3 dev.py lock` for {need}"


def test_both_locks_hold_the_same_versions() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()
