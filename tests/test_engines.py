"""The launchers of PostgreSQL and Redis do what the other tests rely on."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis as RedisClient

from tests.engines import EngineFailure, Postgres, Redis
from tests.harness.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
START_BOTH_AND_WAIT = """
from tests.engines import Postgres, Redis
engines = [Postgres(), Redis()]
for engine in engines:
    engine.start()
print(*(engine.port for engine in engines), *(engine._folder for engine in engines), flush=True)
input()
"""


def start_both_and_wait() -> "subprocess.Popen[str]":
    """A process with both engines that prints their ports and ends at a line of input."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", START_BOTH_AND_WAIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    with closing(Postgres()) as engine:
        engine.start()
        yield engine


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    with closing(Redis()) as engine:
        engine.start()
        yield engine


async def count_rows(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval("SELECT count(*) FROM kept")
    finally:
        await connection.close()


async def set_and_get(url: str) -> str:
    async with RedisClient.from_url(url, decode_responses=True) as client:  # pyright: ignore[reportUnknownMemberType]
        await client.set("greeting", "hello")
        return str(await client.get("greeting"))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("how", ["stop", "crash", "kill"])
async def test_postgres_keeps_its_port_and_its_rows_over_a_restart(own_postgres: Postgres, how: str) -> None:
    url = own_postgres.create_database()
    name = url.rsplit("/", 1)[1]
    own_postgres.run_sql("CREATE TABLE kept AS SELECT 1 AS n", name)
    if how == "kill":
        own_postgres.kill()
        assert not listens(own_postgres.port)
        own_postgres.start()
    else:
        own_postgres.restart(immediate=how == "crash")
    assert await count_rows(url) == 1
    own_postgres.drop_database(url)
    with pytest.raises(EngineFailure, match="does not exist"):
        own_postgres.run_sql("SELECT 1", name)


async def test_redis_answers_on_the_same_port_after_stop_kill_and_pause(own_redis: Redis) -> None:
    assert await set_and_get(own_redis.url()) == "hello"
    own_redis.restart()
    assert await set_and_get(own_redis.url(db=3)) == "hello"
    own_redis.kill()
    assert not listens(own_redis.port)
    own_redis.start()
    own_redis.pause(0.05)
    assert await set_and_get(own_redis.url()) == "hello"


def test_neither_engine_answers_without_its_password(own_postgres: Postgres, own_redis: Redis) -> None:
    with socket.create_connection(("127.0.0.1", own_redis.port)) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(100).startswith(b"-NOAUTH")
    with pytest.raises(EngineFailure, match="password authentication failed"):
        own_postgres.run_sql("SELECT 1", "postgres?password=wrong")


if sys.platform == "linux":  # elsewhere nothing ends the children of a killed process

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    async def test_the_engines_end_with_a_test_run_that_is_killed(number: signal.Signals) -> None:
        with start_both_and_wait() as run:
            assert run.stdout is not None
            ports = [int(word) for word in run.stdout.readline().split()[:2]]
            assert [listens(port) for port in ports] == [True, True]
            run.send_signal(number)
        await eventually(lambda: not any(listens(port) for port in ports))


def test_the_engines_leave_neither_process_nor_folder_behind() -> None:
    with start_both_and_wait() as run:
        output, errors = run.communicate("\n")
    assert (run.returncode, errors) == (0, "")
    first, second, *folders = output.split()
    assert [listens(int(port)) for port in (first, second)] == [False, False]
    assert [Path(folder).exists() for folder in folders] == [False, False]


def test_what_a_killed_run_left_is_removed_by_the_next() -> None:
    with start_both_and_wait() as run:
        assert run.stdout is not None
        folders = [Path(word) for word in run.stdout.readline().split()[2:]]
        run.kill()
    assert [folder.exists() for folder in folders] == [True, True]
    with closing(Redis()) as engine:
        engine.start()
    assert [folder.exists() for folder in folders] == [False, False]
