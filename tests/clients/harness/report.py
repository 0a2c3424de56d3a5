"""A pytest plugin that says what harness/report.mjs says: a line for each test, which the runner counts."""

import os
import textwrap

import pytest

PROJECT = os.environ["PARLEY_PROJECT"]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = sentence(report.nodeid)
    if report.failed:
        _tell(f"FAILED  {PROJECT}: {name}" + (f" ({report.when})" if report.when != "call" else ""))
        _tell(textwrap.indent(f"{report.longreprtext}\n{report.capstdout}{report.capstderr}{report.caplog}", " " * 8))
    elif report.skipped:  # A test that was not run has shown nothing.
        _tell(f"FAILED  {PROJECT}: {name} (was not run)")
    elif report.when == "call":
        _tell(f"ok      {PROJECT}: {name} ({report.duration * 1_000:.0f} ms)")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _tell(f"FAILED  {PROJECT}: {report.nodeid}\n" + textwrap.indent(report.longreprtext, " " * 8))


def sentence(node: str) -> str:
    """`checks.py::test_a_token_is_refused[1]` as people say it."""
    return node.rpartition("::")[2].removeprefix("test_").replace("_", " ").replace("[", " [")


def _tell(text: str) -> None:
    print(text.rstrip(), flush=True)  # noqa: T201  (its reader is the runner)
