"""The fixtures that every test may ask for; what they are made of lies in `tests.engines` and `tests.harness`."""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from settings import Settings
from tests.engines import Postgres, Redis
from tests.harness import Json, Node, Server, Stack, World, as_environment, no_task_but, running_tasks, serving
from tests.sabotage import quiet_server

OwnServer: TypeAlias = Callable[..., Awaitable[Server]]
OwnNodes: TypeAlias = Callable[..., Awaitable[list[Node]]]

# Each has engines of its own. With more of them the longest tests, and no core, would set the time of the suite.
MOST_WORKERS = 4

# A developer's own settings must not reach the tests.
for name in Settings.model_fields:
    os.environ.pop(name.upper(), None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """With `-n auto` the whole suite runs in a worker for each core, and what was selected in this process alone.

    A worker takes 5 s to begin, and what it writes, prints or asks is not at hand while a test is being made.
    """
    options = config.option
    selected = (
        config.args_source is not config.ArgsSource.TESTPATHS or options.keyword or options.markexpr or options.lf
    )
    cores = os.cpu_count() or 1
    return 0 if selected or cores == 1 else min(cores, MOST_WORKERS)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Json | None, Json | None]:
    """What a worker reports goes through a pipe that ends the run at half a surrogate pair, which some tests print."""
    report = yield
    return report and json.loads(json.dumps(report, ensure_ascii=False).encode(errors="replace"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for the whole session, so that session-scoped servers share it with the tests."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of the session. A test that stops it makes its own."""
    with closing(Postgres()) as engine:
        engine.start()
        yield engine


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis of the session. A test that stops it makes its own."""
    with closing(Redis()) as engine:
        engine.start()
        yield engine


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Each of the two stacks in turn: a test that asks for it, or for anything made of it, runs twice."""
    folder = tmp_path_factory.mktemp("stack")
    if request.param == "sqlite":
        return Stack(folder)
    return Stack(folder, request.getfixturevalue("postgres"), request.getfixturevalue("redis_server"))


@pytest.fixture(scope="session")
async def server(stack: Stack) -> AsyncIterator[Server]:
    """The app in this event loop, shared by all tests of the stack: make your own users and groups."""
    with stack.fresh() as settings:
        async with serving(Settings(**settings)) as server:
            yield server


@pytest.fixture(scope="module")
async def quiet(stack: Stack) -> AsyncIterator[Server]:
    """A server for a bench: what a rule forgets is not mended by a check of the heads."""
    async with quiet_server(stack) as server:
        yield server


@pytest.fixture
async def world(server: Server) -> AsyncIterator[World]:
    """Makes people and groups at the shared server."""
    async with World(server) as world:
        yield world


@pytest.fixture
async def own_server(stack: Stack) -> AsyncIterator[OwnServer]:
    """`await own_server(token_days=1)`: a server of this test with a fresh database and changed settings."""
    async with AsyncExitStack() as servers:

        async def start(**changes: Any) -> Server:
            settings = servers.enter_context(stack.fresh())
            return await servers.enter_async_context(serving(Settings(**{**settings, **changes})))

        yield start


@pytest.fixture
def own_engines(tmp_path: Path) -> Iterator[Stack]:
    """A PostgreSQL and a Redis of this test, which it may stop, restart and kill."""
    with closing(Postgres()) as postgres, closing(Redis()) as redis:
        postgres.start()
        redis.start()
        yield Stack(tmp_path, postgres, redis)


@pytest.fixture
async def own_nodes(stack: Stack, tmp_path: Path) -> AsyncIterator[OwnNodes]:
    """`await own_nodes(2, token_days=1)`: processes of this test on one fresh database, which it may kill."""
    async with AsyncExitStack() as nodes:

        async def start(count: int = 1, **changes: Any) -> list[Node]:
            settings = nodes.enter_context(stack.fresh())
            environment = as_environment({**settings, **changes})
            made = [Node(environment, tmp_path / f"node-{number}.log") for number in range(count)]
            return [await nodes.enter_async_context(node) for node in made]

        yield start


@pytest.fixture(scope="session", params=["postgres", "postgres-only"])
def node_stack(request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Each of the stacks that many processes can share: with Redis for their hints, and with PostgreSQL alone."""
    redis = request.getfixturevalue("redis_server") if request.param == "postgres" else None
    return Stack(tmp_path_factory.mktemp("nodes"), postgres, redis)


@pytest.fixture(scope="session")
async def two_nodes(node_stack: Stack) -> AsyncIterator[tuple[Node, Node]]:
    """Two processes on one such stack, shared by all tests: do not kill them."""
    folder = node_stack.folder
    with node_stack.fresh() as settings:
        environment = as_environment(settings)
        async with Node(environment, folder / "one.log") as one, Node(environment, folder / "two.log") as two:
            assert one.pid != two.pid
            yield one, two


@pytest.fixture
async def leaves_nothing_behind() -> AsyncIterator[None]:
    """Fail the test when a task that it started in this event loop, in a server or a client, does not end with it."""
    before = running_tasks()
    yield
    await no_task_but(before)
