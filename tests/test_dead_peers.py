"""Peers that are gone without a word: they are asked, and let go in bounded time, with nothing kept for them."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from schema import frames, heartbeat, ids
from schema import socket as socket_module
from schema.heartbeat import Heartbeat
from tests.conftest import OwnServer
from tests.harness import Json, Person, Server, World, eventually
from tests.inside import followers, open_sockets
from tests.test_slow_readers import CONTENT, Reader, operations

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

PING, PONG = 0.3, 2.0  # seconds; on a crowded machine a peer that lives may take one to answer
SLACK = 5.0  # for a machine that is busy with other things
PROTOCOL = [Subprotocol("graphql-transport-ws")]


@asynccontextmanager
async def raw_socket(server: Server, person: Person | None = None, port: int = 0) -> AsyncGenerator[ClientConnection]:
    """A socket that answers nothing by itself; with a person it is acknowledged."""
    url = f"ws://127.0.0.1:{port or urlsplit(server.url).port}/graphql"
    async with connect(
        url, subprotocols=PROTOCOL, compression=None, proxy=None, ping_interval=None, close_timeout=1
    ) as socket:
        if person is not None:
            init = {"type": "connection_init", "payload": {"authorization": f"Bearer {person.token}"}}
            await socket.send(json.dumps(init))
            assert await read(socket) == {"type": "connection_ack"}
        yield socket


async def read(socket: ClientConnection) -> Json:
    async with asyncio.timeout(PING + PONG + SLACK):
        return json.loads(await socket.recv())


async def subscribe(socket: ClientConnection, group_id: str) -> None:
    query = "subscription ($groupId: ID!) { groupMessages(groupId: $groupId) { seq } }"
    payload = {"query": query, "variables": {"groupId": group_id}}
    await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))


class SilentProxy:
    """Stands between clients and a server until it goes silent: both keep their connections, and nothing moves."""

    def __init__(self) -> None:
        self._speaks, self._over = asyncio.Event(), asyncio.Event()
        self._speaks.set()

    @classmethod
    @asynccontextmanager
    async def before(cls, server_port: int) -> AsyncGenerator[tuple["SilentProxy", int]]:
        """The proxy, and the port of 127.0.0.1 that it listens on."""
        proxy = cls()
        handlers: set[asyncio.Task[None]] = set()

        async def connected(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
            server, to_server = await asyncio.open_connection("127.0.0.1", server_port)
            ways = [proxy._carry(client, to_server), proxy._carry(server, to_client), proxy._over.wait()]
            tasks = [asyncio.create_task(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for writer in (to_client, to_server):
                writer.close()

        def handle(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
            handlers.add(asyncio.create_task(connected(client, to_client)))

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as listener:
            try:
                yield proxy, listener.sockets[0].getsockname()[1]
            finally:
                proxy._over.set()
                await asyncio.gather(*handlers)

    def fall_silent(self) -> None:
        self._speaks.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._speaks.wait()
                writer.write(data)


def without_protocol(_: object) -> None:
    """As under any other web server."""


def connections(server: Server) -> int:
    """How many connections to the server's port this process holds at the server's end."""
    port = urlsplit(server.url).port
    return sum(
        each.laddr.port == port and each.status != psutil.CONN_LISTEN
        for each in psutil.Process().net_connections("tcp")
    )


async def test_a_silent_socket_is_asked_and_lives_as_long_as_it_answers(own_server: OwnServer) -> None:
    server = await own_server(ping_seconds=PING, pong_seconds=PONG)
    async with World(server) as world, raw_socket(server, await world.user()) as socket:
        begun = time.monotonic()
        while time.monotonic() < begun + 2 * (PING + PONG):
            assert await read(socket) == {"type": "ping"}
            await socket.send('{"type": "pong"}')
        await socket.send('{"type": "ping"}')
        assert await read(socket) == {"type": "pong"}


async def test_whatever_a_socket_sends_says_that_it_lives(own_server: OwnServer) -> None:
    server = await own_server(ping_seconds=PING, pong_seconds=PONG)
    async with World(server) as world, raw_socket(server, await world.user()) as socket:
        for _ in range(3):
            assert await read(socket) == {"type": "ping"}
            await socket.send('{"type": "complete", "id": "no such"}')
        assert await read(socket) == {"type": "ping"}


async def test_a_socket_that_answers_nothing_is_closed_with_1013_in_time(own_server: OwnServer) -> None:
    server = await own_server(ping_seconds=PING, pong_seconds=PONG)
    async with World(server) as world:
        ada = await world.user()
        before, begun = connections(server), time.monotonic()
        async with raw_socket(server, ada) as socket:
            assert await read(socket) == {"type": "ping"}
            with pytest.raises(ConnectionClosed):
                await read(socket)
            assert socket.close_code == 1013
            assert PING * heartbeat.EARLIEST + PONG <= time.monotonic() - begun < PING + PONG + SLACK
            await eventually(lambda: (open_sockets(server), connections(server)) == (0, before))


async def test_nothing_is_asked_before_the_socket_is_acknowledged(own_server: OwnServer) -> None:
    server = await own_server(ping_seconds=0.05, pong_seconds=0.05, connection_init_seconds=1)
    async with raw_socket(server) as socket:
        with pytest.raises(ConnectionClosed):
            await read(socket)
        assert socket.close_code == 4408


async def test_a_peer_that_vanishes_without_a_word_is_let_go_while_others_live(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "CLOSE_SECONDS", 0.1)
    # The other one answers only while this test reads it, which a crowded machine keeps from it for a second.
    server = await own_server(ping_seconds=PING, pong_seconds=10 * PONG)
    port = urlsplit(server.url).port
    assert port is not None
    async with World(server) as world, SilentProxy.before(port) as (proxy, by_proxy):
        ada, ben = await world.users("ada", "ben")
        group_id = await world.group(ada, ben)
        others = await ada.messages(group_id)
        async with raw_socket(server, ben, by_proxy) as socket:
            await subscribe(socket, group_id)
            await eventually(lambda: followers(server, ids.group(group_id)) == 2)
            proxy.fall_silent()
            for _ in range(3):
                assert (await world.send(ada, group_id))["seq"] == (await others.event())["seq"]
            async with asyncio.timeout(PING + 10 * PONG + SLACK):
                while (open_sockets(server), followers(server, ids.group(group_id)), operations()) != (1, 1, 1):
                    await others.nothing()  # it is asked as well, and answers
            assert (await world.send(ada, group_id))["seq"] == (await others.event())["seq"]


async def read_on(reader: Reader) -> None:
    while True:
        await reader.read()


async def test_a_peer_that_vanishes_while_much_is_sent_to_it_keeps_no_connection(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its buffers are full: neither the ping nor the close frame can leave, and the kernel would keep what waits."""
    monkeypatch.setattr(frames, "CLOSE_SECONDS", 0.1)
    server = await own_server(ping_seconds=PING, pong_seconds=PONG)
    async with World(server) as world:
        ada, ben = await world.users("ada", "ben")
        group_id = await world.group(ada, ben)
        before = connections(server)
        async with Reader.following(ben, server, group_id) as reader:
            await eventually(lambda: followers(server, ids.group(group_id)) == 1)
            for _ in range(25):
                await world.send(ada, group_id, CONTENT)
            await eventually(lambda: (open_sockets(server), operations()) == (0, 0))
            await eventually(lambda: connections(server) == before)
            with pytest.raises(ConnectionClosed) as closed:
                await read_on(reader)
            assert isinstance(closed.value.__cause__, ConnectionResetError)


async def test_under_a_server_that_cannot_abort_a_peer_that_vanished_leaves_nothing_running(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_module, "protocol_of", without_protocol)
    monkeypatch.setattr(frames, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(socket_module, "LAST_WORDS_SECONDS", 0.1)
    server = await own_server(ping_seconds=PING, pong_seconds=PONG)
    async with World(server) as world:
        ada, ben = await world.users("ada", "ben")
        group_id = await world.group(ada, ben)
        async with Reader.following(ben, server, group_id):
            await eventually(lambda: followers(server, ids.group(group_id)) == 1)
            for _ in range(25):
                await world.send(ada, group_id, CONTENT)
            await eventually(lambda: (open_sockets(server), operations()) == (0, 0))
            assert followers(server, ids.group(group_id)) == 0


async def test_a_process_that_was_late_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came meanwhile lies in the kernel: to cut all sockets then would make them all come back at once."""
    monkeypatch.setattr(heartbeat, "LATE_SECONDS", 0.2)
    asked: list[float] = []
    lost = asyncio.Event()
    watched = Heartbeat(0.01, 0.05, lambda: asked.append(time.monotonic()), lost.set)
    watched.begin()
    await eventually(lambda: len(asked) == 1)
    time.sleep(0.3)  # noqa: ASYNC251  # the process stands still
    await eventually(lambda: len(asked) > 1)
    assert not lost.is_set()
    async with asyncio.timeout(5):
        await lost.wait()
    watched.stop()


async def test_sockets_that_were_opened_together_are_not_asked_together() -> None:
    asked: list[float] = []
    beginning = time.monotonic()
    watched = [Heartbeat(0.5, 60, lambda: asked.append(time.monotonic()), lambda: None) for _ in range(100)]
    for each in watched:
        each.begin()
    await eventually(lambda: len(asked) == len(watched))
    for each in watched:
        each.stop()
    assert min(asked) - beginning >= 0.5 * heartbeat.EARLIEST
    assert max(asked) - min(asked) > 0.25 * 0.5 * (1 - heartbeat.EARLIEST)
