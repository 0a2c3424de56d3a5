"""A server that is told to stop: new work is refused, what is under way ends, and so does the process, in time."""

import asyncio
import json
import signal
import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import asyncpg
import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from app import END_SECONDS
from tests.harness import GraphQLFailure, Node, Person, SocketClosed, Stack, World, as_environment, eventually, refused
from tests.test_slow_readers import CONTENT, WIDE, small_socket
from tests.test_start import Uvicorn

GRACE = 2  # seconds
SLACK = 8  # for a machine that is busy with other things
LONG = 60
EVENTS = 12


class AsDocumented(Uvicorn):
    """`uvicorn app:app` with the options that docs/operations.md asks for."""

    def launch(self, *arguments: str) -> None:
        super().launch("--timeout-graceful-shutdown", str(GRACE), "--ws-ping-interval", "0", *arguments)


@pytest.fixture(params=[Node, AsDocumented], ids=["serve", "uvicorn"])
async def node(request: pytest.FixtureRequest, stack: Stack, tmp_path: Path) -> AsyncGenerator[Node]:
    """A process of this test, started in either way."""
    with stack.fresh() as settings:
        environment = as_environment({**settings, "shutdown_seconds": GRACE, "database_wait_seconds": LONG})
        async with request.param(environment, tmp_path / "log") as node:
            yield node


@asynccontextmanager
async def nothing_written(node: Node) -> AsyncGenerator[None]:
    """Whoever writes to the node's database waits, in the middle of a statement."""
    url = node.environment["DATABASE_URL"]
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
        return
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE group_events IN EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def under_way(world: World, person: Person, group_id: str, node: Node) -> asyncio.Task[str]:
    """A send that the node has begun; what came after it was answered already."""

    async def send() -> str:
        return (await world.send(person, group_id, "last words"))["content"]

    sending = asyncio.create_task(send())
    for _ in range(20):
        assert (await node.http.get("/healthz")).is_success
    assert not sending.done()
    return sending


def tell(node: Node) -> float:
    """Tell it to stop. When that was."""
    node.terminate()
    return time.monotonic()


async def ends_in_time(node: Node, told: float) -> None:
    """It is gone when the grace time and what follows it are over, and nothing went wrong."""
    assert await node.ended(GRACE + 2 * END_SECONDS + SLACK) == -signal.SIGTERM
    assert time.monotonic() - told < GRACE + 2 * END_SECONDS + SLACK
    assert "Traceback" not in node.logs()


async def refuses(node: Node) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", node.port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_what_is_under_way_ends_and_new_work_is_refused(node: Node) -> None:
    async with World(node) as world:
        ada, ben = await world.users("ada", "ben")
        group_id = await world.group(ada, ben)
        stream = await ben.messages(group_id)
        async with nothing_written(node):
            sending = await under_way(world, ada, group_id, node)
            told = tell(node)
            await eventually(lambda: refuses(node))
            assert not await node.is_ready()
            with pytest.raises(SocketClosed) as closed:
                await stream.event()
            assert closed.value.code == 1012
            assert not sending.done()
        assert await sending == "last words"
        await ends_in_time(node, told)
        await node.start()
        (edge,) = (await ada.run("GroupHistory", id=group_id))["messages"]["edges"]
        assert edge["node"]["content"] == "last words"


async def test_a_request_that_outlives_the_grace_time_is_told_that_it_is_not_known_what_became_of_it(
    node: Node,
) -> None:
    async with World(node) as world:
        ada = await world.user()
        group_id = await world.group(ada)
        async with nothing_written(node):
            sending = await under_way(world, ada, group_id, node)
            told = tell(node)
            with refused("SERVICE_UNAVAILABLE") as failure:
                await sending
            assert "committed" not in failure.value.extensions
            await ends_in_time(node, told)


async def test_a_request_that_never_came_whole_is_told_that_nothing_was_done(node: Node) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(
        b"POST /graphql HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    await writer.drain()
    assert (await node.http.get("/healthz")).is_success
    told = tell(node)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    extensions = json.loads(body)["errors"][0]["extensions"]
    assert (extensions["code"], extensions["committed"]) == ("SERVICE_UNAVAILABLE", False)
    await ends_in_time(node, told)
    writer.close()


@asynccontextmanager
async def stalled_reader(node: Node, person: Person, group_id: str) -> AsyncGenerator[ClientConnection]:
    """A socket that follows the group and reads nothing."""
    protocols = [Subprotocol("graphql-transport-ws")]
    variables = {"groupId": group_id, "after": await person.head(group_id)}
    async with connect(
        node.socket_url, sock=await small_socket(node), subprotocols=protocols, compression=None, proxy=None,
        ping_interval=None, close_timeout=1, max_size=None, max_queue=1,
    ) as connection:  # fmt: skip
        init = {"type": "connection_init", "payload": {"authorization": f"Bearer {person.token}"}}
        await connection.send(json.dumps(init))
        assert json.loads(await connection.recv()) == {"type": "connection_ack"}
        await connection.send(
            json.dumps({"type": "subscribe", "id": "1", "payload": {"query": WIDE, "variables": variables}})
        )
        yield connection


async def test_a_reader_that_reads_nothing_does_not_hold_up_the_end(node: Node) -> None:
    async with World(node) as world:
        ada, ben = await world.users("ada", "ben")
        group_id = await world.group(ada, ben)
        async with stalled_reader(node, ben, group_id):
            for _ in range(EVENTS):
                await world.send(ada, group_id, CONTENT)
            await ends_in_time(node, tell(node))


async def test_serve_does_not_wait_at_all_for_a_reader_that_reads_nothing(stack: Stack, tmp_path: Path) -> None:
    with stack.fresh() as settings:
        environment = as_environment({**settings, "shutdown_seconds": LONG})
        async with Node(environment, tmp_path / "log") as node, World(node) as world:
            ada, ben = await world.users("ada", "ben")
            group_id = await world.group(ada, ben)
            async with stalled_reader(node, ben, group_id):
                for _ in range(EVENTS):
                    await world.send(ada, group_id, CONTENT)
                await ends_in_time(node, tell(node))


@pytest.mark.parametrize("writes", [True, False], ids=["in the middle of a write", "with nothing under way"])
async def test_engines_that_do_not_answer_do_not_hold_up_the_end(
    own_engines: Stack, tmp_path: Path, *, writes: bool
) -> None:
    assert own_engines.postgres is not None
    assert own_engines.redis is not None
    with own_engines.fresh() as settings:
        environment = as_environment({**settings, "shutdown_seconds": GRACE})
        async with Node(environment, tmp_path / "log") as node, World(node) as world:
            ada = await world.user()
            group_id = await world.group(ada)
            stream = await ada.messages(group_id)
            with own_engines.postgres.paused(), own_engines.redis.paused():
                sending = [await under_way(world, ada, group_id, node)] if writes else []
                told = tell(node)
                with pytest.raises(SocketClosed) as closed:
                    await stream.event()
                assert closed.value.code == 1012
                await ends_in_time(node, told)
            for failed in await asyncio.gather(*sending, return_exceptions=True):
                assert isinstance(failed, GraphQLFailure | httpx2.TransportError)
