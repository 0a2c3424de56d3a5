"""How a server starts and ends, and what it says when it cannot: one clear line, a non-zero exit, no traceback."""

import os
import re
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import anyio
import psutil
import pytest
import typer
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from commands.server import check_neighbours, check_workers, listen, options, run_here
from db import migrate
from settings import Settings
from tests.engines import Postgres, Redis
from tests.harness import Node, Stack, eventually
from tests.harness.client import ROOT
from tests.harness.servers import as_environment
from tests.processes import free_port, spawn
from tests.revisions import execute, one_revision_later


@pytest.fixture
def settings(stack: Stack) -> Iterator[dict[str, Any]]:
    """Settings with an empty database, of one stack after the other."""
    with stack.fresh() as fresh:
        yield fresh


@pytest.fixture
def on_sqlite(tmp_path: Path) -> dict[str, Any]:
    return {"database_url": f"sqlite:///{tmp_path}/parley.db", "broadcast_url": "memory://"}


@asynccontextmanager
async def running(node: Node, *arguments: str) -> AsyncGenerator[Node]:
    """Launch it, whether it then starts or not, and end it."""
    node.launch(*arguments)
    try:
        yield node
    finally:
        await node.__aexit__()


async def serve(settings: dict[str, Any], *arguments: str) -> tuple[int, str]:
    """Run `serve` to its end; its exit code and all it wrote. Only for a start that is refused."""
    command = [sys.executable, "-W", "error", str(ROOT / "app.py"), "serve", "--port", str(free_port()), *arguments]
    environment = os.environ | as_environment(settings)
    with anyio.fail_after(30):
        done = await anyio.run_process(command, check=False, cwd=ROOT, env=environment)
    return done.returncode, (done.stdout + done.stderr).decode()


async def refused(settings: dict[str, Any], *arguments: str) -> str:
    """The one line with which `serve` refuses."""
    code, output = await serve(settings, *arguments)
    assert code == 1, output
    assert re.fullmatch(r"parley: [^\n]+\n", output), output
    return output


async def test_serve_says_what_to_open_where_the_database_is_and_how_to_stop(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    async with Node(as_environment(settings), tmp_path / "log") as node:
        assert f"GraphiQL and the API at http://127.0.0.1:{node.port}/graphql\n" in node.logs()
        file = settings["database_url"].removeprefix("sqlite:///")
        where = file if file.startswith("/") else f"database {file.rsplit('/', 1)[1]}\n"
        assert where in node.logs()
        assert "stop: Ctrl+C" in node.logs()


async def test_serve_takes_a_free_port_when_the_port_is_0(on_sqlite: dict[str, Any], tmp_path: Path) -> None:
    async with running(Node(as_environment(on_sqlite), tmp_path / "log"), "--port", "0") as node:
        (url,) = await eventually(lambda: re.findall(r"http://127\.0\.0\.1:[1-9]\d*", node.logs()))
        assert (await node.http.get(f"{url}/healthz")).is_success


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_is_told_to_stop_ends_without_a_traceback(
    on_sqlite: dict[str, Any], tmp_path: Path, number: signal.Signals
) -> None:
    async with Node(as_environment(on_sqlite), tmp_path / "log") as node:
        node.process.send_signal(number)
        # uvicorn ends itself with the signal it was told to stop by, once everything has ended; Ctrl+C is our affair.
        assert await node.ended() == (0 if number is signal.SIGINT else -number)
        assert "Traceback" not in node.logs()


async def test_a_taken_port_is_one_clear_line(on_sqlite: dict[str, Any]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        line = await refused(on_sqlite, "--port", str(port))
    assert (
        line == f"parley: Port {port} of 127.0.0.1 is taken: stop what listens there, or choose another with --port.\n"
    )


def test_an_address_that_is_not_ours_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("192.0.2.1", "no..name"):
        with pytest.raises(typer.Exit):
            listen(host, 0)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "parley: Cannot listen on port 0 of 192.0.2.1: Cannot assign requested address.",
        "parley: There is no address 'no..name' to listen on: choose another with --host.",
    ]


async def test_a_database_that_no_url_names_is_one_clear_line_without_its_password(on_sqlite: dict[str, Any]) -> None:
    line = await refused({**on_sqlite, "database_url": "postgres://ada:hunter2@127.0.0.1:port/chat"})
    assert "DATABASE_URL is no URL of one" in line
    assert "hunter2" not in line


@pytest.mark.parametrize("setting", ["database_url", "broadcast_url"])
async def test_a_password_that_is_refused_is_one_clear_line_without_it(
    postgres: Postgres, redis_server: Redis, tmp_path: Path, setting: str
) -> None:
    with Stack(tmp_path, postgres, redis_server).fresh() as settings:
        line = await refused({**settings, setting: re.sub(r":\w+@", ":hunter2@", settings[setting])})
        assert "password" in line
        assert "hunter2" not in line


async def test_a_setting_that_cannot_be_is_named_without_its_value(on_sqlite: dict[str, Any]) -> None:
    wrong = {"database_url": "mysql://ada:hunter2@db/chat", "broadcast_url": "kafka://:hunter2@b", "token_days": "0"}
    assert await refused({**on_sqlite, **wrong}) == (
        "parley: DATABASE_URL must begin with sqlite:// or postgresql://; "
        "BROADCAST_URL must begin with memory://, redis:// or postgresql://; TOKEN_DAYS should be greater than 0.\n"
    )


async def test_arguments_that_make_no_sense_are_a_matter_of_usage(on_sqlite: dict[str, Any]) -> None:
    code, output = await serve(on_sqlite, "--port", "70000")
    assert code == 2
    assert "Invalid value for '--port'" in output


A_BROKER = "BROADCAST_URL=redis://... (or postgresql://...)"


@pytest.mark.parametrize(
    ("database", "broker", "missing"),
    [
        ("sqlite:///parley.db", "memory://", f"set DATABASE_URL=postgresql://... and {A_BROKER}"),
        ("sqlite:///parley.db", "redis://nowhere", "set DATABASE_URL=postgresql://..."),
        ("sqlite:///parley.db", "postgres://nowhere/chat", "set DATABASE_URL=postgresql://..."),
        ("postgresql://nowhere/chat", "memory://", f"set {A_BROKER}"),
    ],
)
def test_more_workers_than_the_stack_can_serve_are_refused_with_what_to_set(
    database: str, broker: str, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = Settings(database_url=database, broadcast_url=broker)
    check_workers(given, 1)
    with pytest.raises(typer.Exit) as refusal:
        check_workers(given, 2)
    assert refusal.value.exit_code == 1
    said = capsys.readouterr().err
    assert said == f"parley: SQLite and memory:// are for one process: to run 2 workers, {missing}.\n"


@pytest.mark.parametrize("broker", ["redis://nowhere", "postgres://nowhere/chat", "postgresql+asyncpg://nowhere/chat"])
def test_postgresql_serves_many_workers_with_redis_or_alone(broker: str) -> None:
    given = Settings(database_url="postgres://nowhere/chat", broadcast_url=broker)
    check_workers(given, 256)
    assert given.broadcast_url in ("redis://nowhere", "postgresql://nowhere/chat")


async def test_more_workers_on_sqlite_do_not_start(on_sqlite: dict[str, Any]) -> None:
    assert "to run 2 workers, set DATABASE_URL=postgresql://..." in await refused(on_sqlite, "--workers", "2")


async def test_a_second_server_on_the_same_sqlite_file_is_refused_until_the_first_is_gone(
    on_sqlite: dict[str, Any], tmp_path: Path
) -> None:
    by_another_name = tmp_path / "linked.db"
    async with Node(as_environment(on_sqlite), tmp_path / "log") as first:
        by_another_name.symlink_to(tmp_path / "parley.db")
        line = await refused({**on_sqlite, "database_url": f"sqlite:///{by_another_name}"})
        assert f"Another server (process {first.pid}) has {tmp_path}/parley.db" in line
        assert "DATABASE_URL=postgresql://... and BROADCAST_URL=redis://..." in line
        assert await first.is_ready()
        first.kill()
        async with Node(as_environment(on_sqlite), tmp_path / "second.log") as second:
            assert second.pid != first.pid


class Uvicorn(Node):
    """`uvicorn app:app`, without our command."""

    def launch(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(self.port), *arguments]
        self._process = spawn(command, log=self._log, cwd=ROOT, env=os.environ | self.environment)


async def test_uvicorn_alone_serves_and_keeps_a_second_server_out(settings: dict[str, Any], tmp_path: Path) -> None:
    async with Uvicorn(as_environment(settings), tmp_path / "log") as node:
        assert (await node.http.get("/healthz")).is_success
        if settings["database_url"].startswith("sqlite"):
            assert f"Another server (process {node.pid}) has" in await refused(settings)
            async with running(Uvicorn(as_environment(settings), tmp_path / "second.log")) as second:
                assert await second.ended(30) == 3
                assert f"Another server (process {node.pid}) has" in second.logs()
                assert "Traceback" not in second.logs()


async def test_nodes_that_start_together_on_an_empty_database_all_serve(
    postgres: Postgres, redis_server: Redis, tmp_path: Path
) -> None:
    with Stack(tmp_path, postgres, redis_server).fresh() as settings:
        one, two = (Node(as_environment(settings), tmp_path / f"{number}.log") for number in range(2))
        async with running(one), running(two):
            await eventually(one.is_ready, 60)
            await eventually(two.is_ready, 60)
        database = settings["database_url"].rsplit("/", 1)[1]
        assert postgres.run_sql("SELECT version_num FROM alembic_version", database) == migrate.HEAD


def worker_pids(pid: int) -> set[int]:
    """The workers of a serving parent; multiprocessing's own helpers are not among them."""
    found: set[int] = set()
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found |= {child.pid} if any("spawn_main" in word for word in child.cmdline()) else set()
    return found


async def test_workers_share_the_port_and_a_dead_one_is_replaced(
    postgres: Postgres, redis_server: Redis, tmp_path: Path
) -> None:
    with Stack(tmp_path, postgres, redis_server).fresh() as settings:
        async with running(Node(as_environment(settings), tmp_path / "log"), "--workers", "2") as node:
            await eventually(node.is_ready, 60)
            first = worker_pids(node.pid)
            assert len(first) == 2
            os.kill(min(first), signal.SIGKILL)
            await eventually(lambda: len(worker_pids(node.pid) - first) == 1, 30)
            await eventually(node.is_ready, 60)
            node.terminate()
            assert await node.ended(30) == 0
            assert "Traceback" not in node.logs()


async def test_serve_brings_an_older_schema_up_on_sqlite_and_names_the_command_elsewhere(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Settings(**settings)
    await migrate.migrate(given.database_url)
    one_revision_later(tmp_path, monkeypatch)
    if given.is_sqlite:
        await check_neighbours(given)
        monkeypatch.undo()
        with pytest.raises(migrate.SchemaError, match=r"is newer than this code"):
            await check_neighbours(given)
        return
    with pytest.raises(migrate.SchemaError, match=r"run `python3 dev\.py migrate` first"):
        await check_neighbours(given)


async def test_a_newer_schema_is_one_clear_line(settings: dict[str, Any]) -> None:
    given = Settings(**settings)
    await migrate.migrate(given.database_url)
    await execute(given.database_url, "UPDATE alembic_version SET version_num = '9000'")
    assert "is newer than this code" in await refused(settings)


async def test_frames_are_bounded_and_not_compressed(on_sqlite: dict[str, Any], tmp_path: Path) -> None:
    environment = as_environment({**on_sqlite, "max_frame_bytes": 1_000})
    async with Node(environment, tmp_path / "log") as node:
        protocol = [Subprotocol("graphql-transport-ws")]
        async with connect(node.socket_url, subprotocols=protocol, compression="deflate", proxy=None) as socket:
            assert socket.response is not None
            assert "Sec-WebSocket-Extensions" not in socket.response.headers
            await socket.send("x" * 1_001)
            await socket.wait_closed()
            assert socket.close_code == 1009


@pytest.mark.parametrize("outcome", [SystemExit(STARTUP_FAILURE), None])
def test_an_app_that_does_not_start_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, outcome: SystemExit | None) -> None:
    server = uvicorn.Server(uvicorn.Config("app:app"))
    monkeypatch.setattr(server, "run", Mock(side_effect=outcome))
    with listen("127.0.0.1", 0) as listener:
        if outcome is None:
            run_here(server, listener)
            return
        with pytest.raises(typer.Exit) as ended:
            run_here(server, listener)
        assert ended.value.exit_code == 1


def test_a_socket_is_made_so_that_small_answers_are_not_held_back() -> None:
    with listen("localhost", 0) as listener:
        assert listener.family == socket.AF_INET
        assert listener.proto == socket.IPPROTO_TCP


def test_no_ping_of_the_web_server_closes_a_socket_with_a_code_that_clients_take_as_final() -> None:
    assert options(Settings())["ws_ping_interval"] is None


def test_a_peer_that_takes_nothing_is_dropped_by_the_kernel_at_last() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        accepted.close()
