"""A pytest plugin for `dev.py test --repeat N`: every selected test runs N times in one session.

Loaded by name (`-p tests.repeat`) and only then, so that an ordinary run has no such parameter.
"""

from typing import cast

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--repeat", type=int, default=1, metavar="N", help="run each selected test N times")


@pytest.fixture(autouse=True)
def repetition(request: pytest.FixtureRequest) -> str:
    """Which of the runs this is, such as "3 of 20"."""
    return request.param


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    count = cast("int", metafunc.config.getoption("repeat"))
    runs = [f"{run} of {count}" for run in range(1, count + 1)]
    metafunc.parametrize("repetition", runs, indirect=True, ids=runs)
