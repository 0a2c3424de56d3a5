"""Who falls behind on `myGroupEvents(snapshot: true)` gets a new snapshot for what waits, and keeps the socket."""
# pyright: reportPrivateUsage=false

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from delivery.events import Batch, Log
from resolvers import news
from resolvers.news import NewsFollowing
from resolvers.pace import Pace
from schema import frames, ids
from tests.conftest import OwnServer
from tests.folding import FOLLOW, Device, fetched
from tests.harness import Person, Server, Socket, World, eventually
from tests.inside import followers, open_sockets, process_of
from tests.test_slow_readers import small_socket

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

WAITING = 5
BURST = 8
NEVER = 3_600.0
# 800 kB an event: a few fill what the kernel holds for a reader, and the rest waits in the server.
DESCRIPTION = "\N{GRINNING FACE}" * 2_000
WIDE = FOLLOW.replace("... on GroupUpdatedEvent {", "... on GroupUpdatedEvent { wide: group { %s }") % " ".join(
    f"d{number}: description" for number in range(100)
)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "FIRST_PAUSE", 0.02)


@contextmanager
def nothing_read(server: Server) -> Generator[None]:
    """What is committed meanwhile is handed to every follower at once, when this ends."""
    reader, go = process_of(server).streams.reader, asyncio.Event()
    with pytest.MonkeyPatch.context() as patch:
        after = reader.after

        async def late(log: Log, seq: int, limit: int) -> Batch:
            await go.wait()
            return await after(log, seq, limit)

        patch.setattr(reader, "after", late)
        yield
        go.set()


async def rename(person: Person, group_id: str, times: int = BURST, **changes: Any) -> None:
    for number in range(times):
        await person.run("UpdateGroup", input={"groupId": group_id, "name": f"Name {number}", **changes})


async def catch_up(device: Device) -> None:
    """Read until the device's list is what queries answer. Nothing may change meanwhile."""
    fresh = await fetched(device.person)
    async with asyncio.timeout(20):
        while device.mine != fresh:
            await device.read()


def snapshots(device: Device) -> int:
    return sum(event["__typename"] == "GroupsSnapshotEvent" for event in device.events)


async def check(admin: Person, group_id: str, *devices: Device) -> None:
    """Each device got another snapshot in place of events, holds what queries answer, and is live again."""
    for device in devices:
        await catch_up(device)
        assert snapshots(device) >= 2
        updates = sum(event["__typename"] == "GroupUpdatedEvent" for event in device.events)
        assert updates < BURST, "it was told everything: nothing was left out, and nothing had to be renewed"
    await admin.run("UpdateGroup", input={"groupId": group_id, "name": "Live again"})
    for device in devices:
        event = await device.read()
        assert (event["__typename"], event["group"]["name"]) == ("GroupUpdatedEvent", "Live again")


@asynccontextmanager
async def slow_device(person: Person, server: Server) -> AsyncGenerator[Device]:
    """A device that reads only when it is told to."""
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
        await connection.send(json.dumps(init))
        assert json.loads(await connection.recv()) == {"type": "connection_ack"}
        device = Device(person, Socket(connection))
        device.stream = await device.socket.subscribe(WIDE)
        await device.read()
        yield device


async def test_a_burst_of_changes_throws_nobody_out(own_server: OwnServer) -> None:
    server = await own_server(max_waiting_events=WAITING)
    async with World(server) as world:
        ada, *others = await world.users("ada", *("ben",) * 8)
        group_id = await world.group(ada, *others)
        devices = [await Device.of(person) for person in others]
        with nothing_read(server):
            await rename(ada, group_id)
        await check(ada, group_id, *devices)


async def test_what_ends_and_begins_in_a_burst_is_in_the_new_snapshot(own_server: OwnServer) -> None:
    server = await own_server(max_waiting_events=WAITING)
    async with World(server) as world:
        ada, ben = await world.users("ada", "ben")
        stays, ends, invited, comes = [await world.group(ada, name=name) for name in ("S", "E", "I", "C")]
        for group_id in (stays, ends):
            await ada.run("AddMember", input={"groupId": group_id, "userId": ben.id})
        device = await Device.of(ben)
        with nothing_read(server):
            await rename(ada, stays)
            await ada.run("RemoveMember", input={"groupId": ends, "userId": ben.id})
            await ada.run("InviteMember", input={"groupId": invited, "userId": ben.id})
            await ada.run("AddMember", input={"groupId": comes, "userId": ben.id})
        await catch_up(device)
        assert set(device.mine.groups) == {stays, comes}
        assert set(device.mine.invitations) == {invited}
        await check(ada, comes, device)


async def test_a_device_that_reads_slowly_gets_a_new_snapshot(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "SEND_SECONDS", NEVER)  # on a crowded machine the changes alone take half a minute
    server = await own_server(max_waiting_events=WAITING)
    async with World(server) as world:
        ada, slow = await world.users("ada", "slow")
        group_id = await world.group(ada, slow)
        await ada.run("UpdateGroup", input={"groupId": group_id, "description": DESCRIPTION})
        async with slow_device(slow, server) as device:
            await rename(ada, group_id, 40)
            await catch_up(device)
            assert snapshots(device) >= 2
            assert len(device.events) < 40
            await rename(ada, group_id, 2)
            await catch_up(device)


async def test_a_device_that_reads_nothing_is_let_go_all_the_same(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "SEND_SECONDS", 0.5)
    monkeypatch.setattr(frames, "CLOSE_SECONDS", 0.1)
    server = await own_server(max_waiting_events=WAITING)
    async with World(server) as world:
        ada, slow = await world.users("ada", "slow")
        group_id = await world.group(ada, slow)
        await ada.run("UpdateGroup", input={"groupId": group_id, "description": DESCRIPTION})
        async with slow_device(slow, server) as device:
            await rename(ada, group_id, 40)
            await eventually(lambda: (open_sockets(server), followers(server, ids.group(group_id))) == (0, 0))
            assert await device.socket.closed() in (1006, 1013)


async def test_without_a_snapshot_who_falls_behind_is_closed_with_1013(own_server: OwnServer) -> None:
    server = await own_server(max_waiting_events=WAITING)
    async with World(server) as world:
        ada, ben = await world.users("ada", "ben")
        group_id = await world.group(ada, ben)
        socket = await ben.socket()
        await socket.follow("MyGroupEvents")
        await eventually(lambda: followers(server, ids.group(group_id)) == 1)
        with nothing_read(server):
            await rename(ada, group_id)
        assert await socket.closed() == 1013


async def test_nothing_is_kept_for_a_device_until_its_new_snapshot_and_it_may_go_meanwhile(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "FIRST_PAUSE", NEVER)
    monkeypatch.setattr(news, "LONGEST_PAUSE", NEVER)
    server = await own_server(max_waiting_events=WAITING)
    async with World(server) as world:
        ada, ben = await world.users("ada", "ben")
        group_id = await world.group(ada, ben)
        device = await Device.of(ben)
        with nothing_read(server):
            await rename(ada, group_id)
        await eventually(lambda: followers(server, ids.group(group_id)) == 0)
        await rename(ada, group_id)
        assert len(process_of(server).streams) == 1  # the log of its user, which says when its token ends
        await device.stream.complete()
        await device.follow()
        await catch_up(device)


async def test_the_pauses_of_a_device_that_keeps_lagging_grow_until_it_keeps_up(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def note(_: NewsFollowing, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(NewsFollowing, "_wait", note)
    monkeypatch.setattr(news, "FIRST_PAUSE", 100.0)
    monkeypatch.setattr(news, "LONGEST_PAUSE", 300.0)
    server = await own_server(max_waiting_events=WAITING)
    async with World(server) as world:
        ada, ben = await world.users("ada", "ben")
        group_id = await world.group(ada, ben)
        device = await Device.of(ben)

        async def lag(times: int) -> list[float]:
            pauses.clear()
            for _ in range(times):
                with nothing_read(server):
                    await rename(ada, group_id)
                await catch_up(device)
            return pauses[::2]  # beside each is the wait for a turn of the process

        assert await lag(4) == [100, 200, 300, 300]
        monkeypatch.setattr(news, "LONGEST_PAUSE", 0.0)  # it has kept up for longer than that
        assert await lag(1) == [100]


async def test_turns_come_at_equal_distances_and_at_once_after_a_calm() -> None:
    pace = Pace(per_second=10)
    first, second, third = pace.turn(), pace.turn(), pace.turn()
    assert first == 0
    assert second == pytest.approx(0.1, abs=0.05)
    assert third == pytest.approx(0.2, abs=0.05)
    assert third > second
    await eventually(lambda: asyncio.get_running_loop().time() > pace._free)
    assert pace.turn() == 0
