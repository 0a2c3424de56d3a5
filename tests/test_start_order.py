"""Whatever starts first: engines, migrations and nodes come in any order, and service begins by itself."""

import asyncio
import json
import re
import signal
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import asyncpg
import httpx2
import pytest
from structlog.testing import capture_logs
from uvicorn.config import STARTUP_FAILURE
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

import app
from app import END_SECONDS, Process
from db import migrate
from db.lock import FileLock
from settings import Settings
from tests.engines import EngineFailure, Postgres
from tests.harness import Node, Stack, World, as_environment, eventually
from tests.processes import free_port
from tests.revisions import execute
from tests.test_start import Uvicorn, running

SLACK = 8  # for a machine that is busy with other things
READY = {"database": True, "schema": True, "broker": True}
NOTHING = dict.fromkeys(READY, False)


@pytest.fixture(params=[Node, Uvicorn], ids=["serve", "uvicorn"])
def kind(request: pytest.FixtureRequest) -> type[Node]:
    """In which way a server is started."""
    return request.param


@contextmanager
def without_engines(stack: Stack) -> Generator[tuple[dict[str, Any], Postgres]]:
    """Settings with a database of engines that do not run yet."""
    assert stack.postgres is not None
    assert stack.redis is not None
    with stack.fresh() as settings:
        stack.postgres.stop()
        stack.redis.stop()
        try:
            yield settings, stack.postgres
        finally:
            started(stack.postgres)  # its database is dropped next


def started(postgres: Postgres) -> None:
    try:
        postgres.start()
    except EngineFailure:
        return  # it runs already


async def says(node: Node, **states: bool) -> None:
    """Wait until /readyz says this; all the while the server lives, and is not ready."""
    wanted = NOTHING | states

    async def says_so() -> bool:
        try:
            live, ready = await node.http.get("/healthz"), await node.http.get("/readyz")
        except httpx2.TransportError:
            return False
        assert (live.status_code, ready.status_code) == (200, 503)
        return ready.json() == wanted

    await eventually(says_so, 60)


async def turns_everybody_away(node: Node) -> None:
    answer = await node.http.post("/graphql", json={"query": "{ viewer { id } }"})
    assert answer.status_code == 503
    (error,) = answer.json()["errors"]
    assert error["extensions"] == {"code": "SERVICE_UNAVAILABLE", "retry": True, "committed": False}
    async with connect(node.socket_url, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None) as socket:
        await socket.wait_closed()
        assert socket.close_code == 1013


async def serves(node: Node) -> None:
    await eventually(node.is_ready, 60)
    async with World(node) as world:
        ada = await world.user()
        group_id = await world.group(ada)
        stream = await ada.messages(group_id)
        await world.send(ada, group_id, "at last")
        assert (await stream.event())["message"]["content"] == "at last"


def waits_for(node: Node) -> list[str]:
    """What it said it waits for, one reason a line."""
    lines = [line for line in node.logs().splitlines() if '"event":"waiting"' in line]
    assert all(json.loads(line)["level"] == "warning" for line in lines)
    return [json.loads(line)["reason"] for line in lines]


async def ends_at_once(node: Node) -> None:
    told = time.monotonic()
    node.terminate()
    assert await node.ended(END_SECONDS + SLACK) == -signal.SIGTERM
    assert time.monotonic() - told < END_SECONDS + SLACK
    assert "Traceback" not in node.logs()


async def test_a_server_begins_its_service_as_soon_as_its_engines_are_there(
    own_engines: Stack, kind: type[Node], tmp_path: Path
) -> None:
    with without_engines(own_engines) as (settings, postgres):
        async with running(kind(as_environment(settings), tmp_path / "log")) as node:
            await says(node)
            await turns_everybody_away(node)
            postgres.start()
            await says(node, database=True, schema=True)
            await turns_everybody_away(node)
            assert own_engines.redis is not None
            own_engines.redis.start()
            await serves(node)
            database, broker = waits_for(node)
            assert database.startswith("Cannot use PostgreSQL at 127.0.0.1:")
            assert broker.startswith("The broker at redis://127.0.0.1:")
            assert "Traceback" not in node.logs()
            secrets = [re.findall(r":(\w+)@", settings[name])[0] for name in ("database_url", "broadcast_url")]
            assert not any(secret in node.logs() for secret in secrets)


@asynccontextmanager
async def migrating(url: str) -> AsyncGenerator[None]:
    """Another process has the lock of the migrations."""
    if file := migrate.sqlite_file(url):
        lock = FileLock(Path(f"{file}-migrating"))
        assert lock.acquire()
        yield
        lock.release()
        return
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", migrate.ADVISORY_LOCK)
        yield
    await other.close()


async def test_a_server_that_meets_a_migration_begins_its_service_after_it(
    stack: Stack, kind: type[Node], tmp_path: Path
) -> None:
    with stack.fresh() as settings:
        async with running(kind(as_environment(settings), tmp_path / "log")) as node:
            async with migrating(settings["database_url"]):
                await says(node, database=True)
                await turns_everybody_away(node)
                assert waits_for(node) == [migrate.MIGRATING]
            await serves(node)
            assert waits_for(node) == [migrate.MIGRATING]


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "no-such-name.invalid"])
@pytest.mark.parametrize("missing", ["database_url", "broadcast_url"])
async def test_a_server_that_waits_says_so_once_and_ends_at_once_when_it_is_told_to(
    kind: type[Node], tmp_path: Path, missing: str, address: str
) -> None:
    scheme = "postgresql" if missing == "database_url" else "redis"
    url = f"{scheme}://ada:hunter2@{address.format(port=free_port())}/0"
    settings = {"database_url": f"sqlite:///{tmp_path}/parley.db", "broadcast_url": "memory://", missing: url}
    async with running(kind(as_environment(settings), tmp_path / "log")) as node:
        await says(node, **({} if missing == "database_url" else {"database": True, "schema": True}))
        (reason,) = waits_for(node)
        assert address.partition(":")[0] in reason
        await ends_at_once(node)
        assert len(waits_for(node)) == 1
        assert "hunter2" not in node.logs()


async def test_a_server_ends_at_once_while_a_database_that_says_nothing_is_asked(
    kind: type[Node], tmp_path: Path
) -> None:
    asked = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        address = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        settings = {"database_url": f"postgresql://ada:hunter2@{address}/chat", "database_wait_seconds": 0.1}
        async with running(kind(as_environment(settings), tmp_path / "log")) as node:
            await says(node)
            assert waits_for(node) == [f"Cannot use PostgreSQL at {address}, database chat: no answer in time."]
            asked.clear()
            await asyncio.wait_for(asked.wait(), 30)
            await ends_at_once(node)


@pytest.mark.parametrize("fault", ["password", "name", "older", "newer"])
async def test_what_waiting_does_not_mend_ends_a_server_that_waited(
    own_engines: Stack, kind: type[Node], tmp_path: Path, fault: str
) -> None:
    with own_engines.fresh() as settings:
        assert own_engines.postgres is not None
        url, sentence = await spoilt(settings["database_url"], fault)
        own_engines.postgres.stop()
        async with running(kind(as_environment({**settings, "database_url": url}), tmp_path / "log")) as node:
            await says(node)
            own_engines.postgres.start()
            assert await node.ended(60) == (1 if kind is Node else STARTUP_FAILURE)
            last = json.loads(node.logs().splitlines()[-1])
            assert (last["event"], last["level"]) == ("start_refused", "error")
            assert sentence in last["reason"]
            assert "Traceback" not in node.logs()
            assert "hunter2" not in node.logs()


async def spoilt(url: str, fault: str) -> tuple[str, str]:
    """The URL of a database that cannot be served from, and what is said of it."""
    if fault == "password":
        return re.sub(r":\w+@", ":hunter2@", url), "password authentication failed"
    if fault == "name":
        return f"{url}_elsewhere", "does not exist"
    database_url = Settings(database_url=url).database_url
    await migrate.migrate(database_url)
    version = "9000" if fault == "newer" else migrate.KNOWN[0]
    await execute(database_url, f"UPDATE alembic_version SET version_num = '{version}'")  # noqa: S608
    return url, f"{fault} than this code"


async def test_a_defect_that_is_met_while_waiting_is_told_whole_and_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(app, "ensure", Mock(side_effect=ValueError))
    process = Process(Settings(database_url=f"sqlite:///{tmp_path}/parley.db"))
    with capture_logs() as lines, pytest.raises(SystemExit) as ended:
        await process._begin_at_last(migrate.NotYet("It is not there."))  # pyright: ignore[reportPrivateUsage]
    assert ended.value.code == STARTUP_FAILURE
    assert [(line["event"], line.get("reason"), line.get("exc_info")) for line in lines] == [
        ("waiting", "It is not there.", None),
        ("start_failed", None, True),
    ]
    process.hasher.stop()
