"""Readers that do not keep up: they cost the others nothing, are let go, and resume without a loss."""

import asyncio
import gc
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from schema import frames, ids
from schema.socket import Socket, SocketOperation
from tests.conftest import OwnServer
from tests.harness import Endpoint, Json, Person, Server, World, eventually
from tests.inside import followers, open_sockets

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

# 100 times 16 kB: a few events fill what the kernel holds for a reader, and the rest waits in the server.
CONTENT = "\N{GRINNING FACE}" * 4_000
WIDE = f"""subscription ($groupId: ID!, $after: String) {{
    groupMessages(groupId: $groupId, after: $after) {{
        cursor seq message {{ {" ".join(f"c{number}: content" for number in range(100))} }}
    }}
}}"""
PLAIN = "subscription ($groupId: ID!) { groupMessages(groupId: $groupId) { message { content } } }"
# Left alone, some kernels give a reader 32 MB.
RECEIVE_BYTES = 262_144
EVENTS = 25
WAITING = 5


async def small_socket(server: Endpoint) -> socket.socket:
    """A connection that keeps little for its reader."""
    connected = socket.socket()
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    connected.setblocking(False)
    address = urlsplit(server.url)
    await asyncio.get_running_loop().sock_connect(connected, (address.hostname, address.port))
    return connected


class Reader:
    """Follows a group with large events and reads only when it is told to."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.seqs: list[int] = []
        self.cursor: str | None = None
        self.contents: list[str] = []
        self.ended: dict[str, str] = {}

    @classmethod
    @asynccontextmanager
    async def following(cls, person: Person, server: Server, group_id: str) -> AsyncGenerator["Reader"]:
        after = await person.head(group_id)
        async with connect(
            server.socket_url,
            sock=await small_socket(server),
            subprotocols=[Subprotocol("graphql-transport-ws")],
            compression=None,
            proxy=None,
            ping_interval=None,
            close_timeout=2,
            max_size=None,
            max_queue=1,
        ) as connection:
            init = {"type": "connection_init", "payload": {"authorization": f"Bearer {person.token}"}}
            asked = {"query": WIDE, "variables": {"groupId": group_id, "after": after}}
            await connection.send(json.dumps(init))
            await connection.send(json.dumps({"type": "subscribe", "id": "1", "payload": asked}))
            assert json.loads(await connection.recv()) == {"type": "connection_ack"}
            yield cls(connection)

    async def follow(self, id: str, document: str, group_id: str) -> None:
        """Another subscription on the same socket."""
        asked = {"query": document, "variables": {"groupId": group_id}}
        await self._connection.send(json.dumps({"type": "subscribe", "id": id, "payload": asked}))

    async def read(self) -> None:
        """One frame more."""
        frame: Json = json.loads(await self._connection.recv())
        if frame["type"] == "error":
            self.ended[frame["id"]] = frame["payload"][0]["extensions"]["code"]
        elif frame["id"] != "1":
            self.contents.append(frame["payload"]["data"]["groupMessages"]["message"]["content"])
        else:
            event = frame["payload"]["data"]["groupMessages"]
            self.seqs.append(event["seq"])
            self.cursor = event["cursor"]

    async def read_to_the_end(self) -> int:
        """All that was under way, and how the socket ended."""
        async with asyncio.timeout(20):
            try:
                while True:
                    await self.read()
            except ConnectionClosed:
                return self._connection.close_code or 1006


def operations() -> int:
    """How many operations run on sockets in this process."""
    return sum(len(each.operations) for each in gc.get_objects() if type(each) is Socket)


def held() -> int:
    """How many operations of sockets this process holds anything for."""
    gc.collect()
    return sum(type(each) is SocketOperation for each in gc.get_objects())


async def talk(world: World, ada: Person, group_id: str) -> list[int]:
    """Send the large messages, one after the other; their seqs."""
    return [(await world.send(ada, group_id, CONTENT))["seq"] for _ in range(EVENTS)]


async def resumed(person: Person, group_id: str, reader: Reader, number: int) -> list[int]:
    """The seqs that come after the last one that the reader got."""
    messages = await person.messages(group_id, after=reader.cursor)
    found = [(await messages.event())["seq"] for _ in range(number)]
    await messages.nothing()
    return found


async def test_a_reader_that_stops_is_let_go_while_others_receive_and_it_resumes_without_loss(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "SEND_SECONDS", 0.5)
    monkeypatch.setattr(frames, "CLOSE_SECONDS", 0.1)
    before = held()
    server = await own_server(max_waiting_events=WAITING)
    async with World(server) as world:
        ada, ben, slow = await world.users("ada", "ben", "slow")
        group = await world.group(ada, ben, slow)
        others = await ben.messages(group)
        async with Reader.following(slow, server, group) as reader:
            sent = [(await world.send(ada, group))["seq"]]
            await reader.read()
            await eventually(lambda: followers(server, ids.group(group)) == 2)
            for _ in range(EVENTS):
                sent.append((await world.send(ada, group, CONTENT))["seq"])
                assert (await others.event(timeout=5))["seq"] in sent
            # It still reads nothing: the server ends it by itself and holds nothing for it.
            await eventually(lambda: open_sockets(server) == 1)
            await eventually(lambda: (followers(server, ids.group(group)), operations()) == (1, 1))
            assert held() == before + 1
            assert await reader.read_to_the_end() in (1006, 1013)
        assert 1 <= len(reader.seqs) < len(sent)
        assert reader.seqs + await resumed(slow, group, reader, len(sent) - len(reader.seqs)) == sent


async def test_a_reader_that_falls_too_far_behind_is_closed_with_1013_and_resumes_without_loss(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "CLOSE_SECONDS", 20)  # it reads again in time for the close frame
    server = await own_server(max_waiting_events=WAITING)
    async with World(server) as world:
        ada, slow = await world.users("ada", "slow")
        group = await world.group(ada, slow)
        async with Reader.following(slow, server, group) as reader:
            sent = [(await world.send(ada, group))["seq"]]
            await reader.read()
            sent += await talk(world, ada, group)
            assert await reader.read_to_the_end() == 1013
        assert 1 <= len(reader.seqs) < len(sent)
        assert reader.seqs + await resumed(slow, group, reader, len(sent) - len(reader.seqs)) == sent


async def test_a_reader_that_is_slow_but_within_the_bound_misses_nothing(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_OUTBOX_BYTES", EVENTS * 2_000_000)
    server = await own_server(max_waiting_events=EVENTS + 1)
    async with World(server) as world:
        ada, slow = await world.users("ada", "slow")
        group = await world.group(ada, slow)
        async with Reader.following(slow, server, group) as reader:
            sent = await talk(world, ada, group)
            while len(reader.seqs) < len(sent):
                await reader.read()
            assert reader.seqs == sent


async def test_nothing_is_kept_for_a_slow_reader_that_was_sent_after_the_end_of_its_session(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_OUTBOX_BYTES", EVENTS * 2_000_000)
    server = await own_server()
    async with World(server) as world:
        ada, slow = await world.users("ada", "slow")
        wide, plain = await world.group(ada, slow), await world.group(ada, slow)
        async with Reader.following(slow, server, wide) as reader:
            await reader.follow("2", PLAIN, plain)
            await eventually(lambda: followers(server, ids.group(plain)) == 1)
            await world.send(ada, plain, "before")
            await talk(world, ada, wide)
            await slow.run("Logout")
            await eventually(lambda: operations() < 2)
            await world.send(ada, plain, "after")
            assert await reader.read_to_the_end() == 4403
        assert reader.contents == ["before"]
        assert reader.ended == {"1": "SESSION_EXPIRED", "2": "SESSION_EXPIRED"}
