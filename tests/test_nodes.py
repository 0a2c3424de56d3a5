"""Two server processes on one PostgreSQL and one Redis: to a client they are one, and either may go at any time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from itertools import count
from pathlib import Path

import httpx2
import pytest

from tests.engines import Postgres, Redis
from tests.folding import Device, check
from tests.harness import (
    Json,
    Node,
    Person,
    SocketClosed,
    Stack,
    World,
    as_environment,
    eventually,
)
from tests.harness.world import PASSWORD
from tests.reading import chatter, contents, ended, read, start, the_gap, whole_log
from tests.test_filters import follow

TwoNodes = tuple[Node, Node]
TRANSACTIONS_THAT_MADE_TABLES = """SELECT count(DISTINCT xmin::text) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"""


@pytest.fixture
async def world(two_nodes: TwoNodes) -> AsyncGenerator[World]:
    """People and groups made at the first of the two shared nodes."""
    async with World(two_nodes[0]) as world:
        yield world


@pytest.fixture
def engines(postgres: Postgres, redis_server: Redis, tmp_path: Path) -> Stack:
    return Stack(tmp_path, postgres, redis_server)


@asynccontextmanager
async def nodes_of(stack: Stack, folder: Path, **changes: object) -> AsyncGenerator[TwoNodes]:
    """Two nodes on a fresh database, which may be killed."""
    with stack.fresh() as settings:
        environment = as_environment({**settings, **changes})
        async with Node(environment, folder / "one.log") as one, Node(environment, folder / "two.log") as two:
            assert one.pid != two.pid
            yield one, two


# Both nodes at once


async def test_two_nodes_are_two_processes_and_both_are_ready(two_nodes: TwoNodes) -> None:
    one, two = two_nodes
    assert one.pid != two.pid
    assert one.port != two.port
    for node in two_nodes:
        assert (await node.http.get("/readyz")).json() == {"database": True, "schema": True, "broker": True}


async def test_a_message_sent_at_one_node_reaches_the_subscribers_of_both(world: World, two_nodes: TwoNodes) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    streams = [await bob.at(node).messages(group_id) for node in two_nodes]
    message = await world.send(ada, group_id, "hello", "temp-1")
    here, there = [await stream.event() for stream in streams]
    assert here == there
    assert here["message"] == message


async def test_everybody_at_both_nodes_sees_one_order(world: World, two_nodes: TwoNodes) -> None:
    people = await world.users("ada", "bob", "cyd", "dan")
    group_id = await world.group(*people)
    streams = [await person.at(node).messages(group_id) for person in people for node in two_nodes]

    async def talk(person: Person, node: Node) -> None:
        for number in range(5):
            await world.send(person.at(node), group_id, f"{person.username} at {node.port} {number}")

    await asyncio.gather(*(talk(person, node) for person in people for node in two_nodes))
    log = await whole_log(people[0], group_id)
    assert len(log) == 40
    for stream in streams:
        assert await read(stream, 40) == log


async def test_one_client_message_id_sent_to_both_nodes_at_once_is_one_message(
    world: World, two_nodes: TwoNodes
) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    for number in range(10):
        sends = [world.send(ada.at(node), group_id, "once", f"{number}") for node in two_nodes for _ in range(3)]
        assert len({message["id"] for message in await asyncio.gather(*sends)}) == 1
    assert contents(await whole_log(ada, group_id)) == ["once"] * 10


async def test_what_is_written_at_one_node_is_read_at_the_other_at_once(world: World, two_nodes: TwoNodes) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    bob_there = bob.at(two_nodes[1])
    for number in range(10):
        message = await world.send(ada, group_id, f"{number}")
        assert (await bob_there.run("Group", id=group_id))["lastMessage"] == message


async def test_a_stream_resumes_at_the_other_node_with_its_cursor(world: World, two_nodes: TwoNodes) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    cursor, received = await start(bob, group_id), list[str]()
    for turn in range(6):
        for number in range(3):
            await world.send(ada, group_id, f"{turn}.{number}")
        events = await read(await bob.at(two_nodes[turn % 2]).messages(group_id, cursor), 3)
        received += contents(events)
        cursor = events[-1]["cursor"]
    assert received == [f"{turn}.{number}" for turn in range(6) for number in range(3)]


async def test_what_becomes_of_a_message_at_one_node_is_followed_at_the_other(
    world: World, two_nodes: TwoNodes
) -> None:
    ada, bob = await world.users("ada", "bob")
    bob_there = bob.at(two_nodes[1])
    group_id = await world.group(ada, bob)
    root = await world.send(ada, group_id, "hello")
    begin, of_root = await ada.head(group_id), {"messageId": root["id"]}
    filters: list[Json | None] = [None, {"kinds": ["EDITED", "REACTED"]}, {"sender": ada.id}, {"thread": root["id"]}]
    filters.append({"mentions": bob.id})
    streams = [await follow(bob_there, group_id, begin, only) for only in filters]
    device = await Device.of(bob_there)
    await ada.run("EditMessage", input=of_root | {"content": f"hello @{bob.username}"})
    await bob.run("AddReaction", input=of_root | {"emoji": "tada"})
    answered = {"groupId": group_id, "content": "hello", "replyToId": root["id"]}
    reply = (await bob_there.run("SendGroupMessage", input=answered))["message"]
    await ada.run("DeleteMessage", input={"messageId": reply["id"]})
    await bob.run("RemoveReaction", input=of_root | {"emoji": "tada"})
    await bob.run("MarkGroupRead", input={"groupId": group_id, "upTo": root["seq"]})
    whole, of_the_root = ["EDITED", "REACTED", "SENT", "DELETED", "REACTED"], ["EDITED", "REACTED", "REACTED"]
    for stream, wanted in zip(streams, [whole, of_the_root, of_the_root, whole, of_the_root], strict=True):
        assert [(await stream.event())["kind"] for _ in wanted] == wanted
        await stream.nothing()
    told = [(await device.read())["__typename"] for _ in range(2)]
    assert told == ["ThreadChangedEvent", "GroupReadEvent"], "their own log is followed there as well"


async def test_a_removal_at_one_node_ends_the_stream_at_the_other(world: World, two_nodes: TwoNodes) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    for _ in range(5):
        group_id = await world.group(ada, bob, cyd)
        socket = await bob.at(two_nodes[1]).socket()
        stream = await socket.follow("GroupMessages", groupId=group_id, after=await start(bob, group_id))
        async with chatter(world, group_id, cyd, cyd.at(two_nodes[1])):
            first = await stream.event()
            await ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
            events, extensions = await ended(stream)
        received = [first, *events]
        assert extensions == {"code": "MEMBERSHIP_ENDED", "retry": False, "cursor": received[-1]["cursor"]}
        await world.send(ada, group_id, "after the end")
        log = await whole_log(ada, group_id)
        assert received == log[: len(received)]
        assert received[-1]["seq"] < the_gap(log)
        await socket.ping()


async def test_a_logout_at_one_node_closes_the_sockets_of_that_token_at_the_other(
    world: World, two_nodes: TwoNodes
) -> None:
    one, two = two_nodes
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    login = {"username": bob.username, "password": PASSWORD}
    token = (await one.client().run("Login", input=login))["token"]
    async with two.socket(token) as ending, two.socket(bob.token) as going_on:
        news = await ending.follow("MyGroupEvents", snapshot=True)
        messages = await ending.follow("GroupMessages", groupId=group_id, after=await bob.head(group_id))
        await news.event()
        await world.send(ada, group_id, "before")
        await messages.event()
        await one.client(token).run("Logout")
        for stream in (news, messages):
            (error,) = await stream.end()
            assert error["extensions"] == {"code": "SESSION_EXPIRED", "retry": False}
        assert await ending.closed() == 4403
        await going_on.ping()
    with pytest.raises(SocketClosed) as refusal:
        async with two.socket(token):
            pass
    assert refusal.value.code == 4403


async def test_groups_that_change_at_one_node_are_told_at_the_other(world: World, two_nodes: TwoNodes) -> None:
    ada, bob = await world.users("ada", "bob")
    devices = [await Device.of(bob.at(node)) for node in two_nodes]
    group_id = await world.group(ada, bob)
    subject = {"groupId": group_id, "userId": bob.id}
    await ada.run("UpdateGroup", input={"groupId": group_id, "name": "Go"})
    await ada.run("ChangeMemberRole", input={**subject, "role": "MODERATOR"})
    await ada.run("RemoveMember", input=subject)
    await ada.run("InviteMember", input=subject)
    await bob.run("AnswerInvitation", input={"groupId": group_id, "accept": True})
    await ada.run("DeleteGroup", input={"groupId": group_id})
    for device in devices:
        told = await tell_until_deleted(device, group_id)
        without_updates = [kind for kind in told if kind != "GroupUpdatedEvent"]
        assert without_updates == [
            "AddedToGroupEvent", "RemovedFromGroupEvent", "InvitedToGroupEvent", "InvitationEndedEvent",
            "AddedToGroupEvent", "GroupDeletedEvent",
        ]  # fmt: skip
    await check(bob, *devices)


async def tell_until_deleted(device: Device, group_id: str) -> list[str]:
    """The types of the events about a group up to its deletion; updates just before an end may be left out."""
    told = list[str]()
    while "GroupDeletedEvent" not in told:
        event = await device.read()
        assert event["groupId"] == group_id
        told.append(event["__typename"])
    return told


async def test_lists_that_begin_at_both_nodes_while_both_change_end_up_equal_to_a_fetched_one(
    world: World, two_nodes: TwoNodes
) -> None:
    ada, bob = await world.users("ada", "bob")
    group_ids = [await world.group(ada) for _ in range(3)]
    stop = asyncio.Event()

    async def come_and_go(group_id: str, admin: Person) -> None:
        for number in count():
            if stop.is_set():
                return
            await admin.run("AddMember", input={"groupId": group_id, "userId": bob.id})
            await admin.run("UpdateGroup", input={"groupId": group_id, "description": f"{number}"})
            await admin.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})

    async with asyncio.TaskGroup() as changing:
        for group_id, node in zip(group_ids, (*two_nodes, two_nodes[0]), strict=True):
            changing.create_task(come_and_go(group_id, ada.at(node)))
        devices = list[Device]()
        for number in range(10):
            devices.append(await Device.of(bob.at(two_nodes[number % 2])))
        stop.set()
    await check(bob, *devices)


# When a node goes


async def test_who_was_at_a_killed_node_resumes_at_the_other_with_exactly_what_was_missed(
    engines: Stack, tmp_path: Path
) -> None:
    async with nodes_of(engines, tmp_path) as (one, two), World(two) as world:
        ada, bob = await world.users("ada", "bob")
        group_id = await world.group(ada, bob)
        socket = await bob.at(one).socket()
        stream = await socket.follow("GroupMessages", groupId=group_id, after=await bob.head(group_id))
        await world.send(ada, group_id, "seen")
        seen = await stream.event()
        one.kill()
        assert await socket.closed() == 1006
        for number in range(3):
            await world.send(ada, group_id, f"missed {number}")
        again = await bob.messages(group_id, seen["cursor"])
        assert contents(await read(again, 3)) == ["missed 0", "missed 1", "missed 2"]
        await one.start()
        back = await bob.at(one).messages(group_id, seen["cursor"])
        await world.send(ada, group_id, "live")
        assert contents(await read(back, 4)) == ["missed 0", "missed 1", "missed 2", "live"]
        assert contents(await read(again, 1)) == ["live"]


async def test_sends_that_a_killed_node_left_unanswered_are_repeated_at_the_other_and_come_once(
    engines: Stack, tmp_path: Path
) -> None:
    async with nodes_of(engines, tmp_path) as (one, two), World(two) as world:
        ada, bob = await world.users("ada", "bob")
        group_id = await world.group(ada, bob)
        stream = await bob.messages(group_id)
        texts = [f"{number}" for number in range(120)]
        answered, unanswered = set[str](), list[str]()

        async def send(text: str) -> None:
            try:
                await world.send(ada.at(one), group_id, text, text)
            except httpx2.TransportError:
                unanswered.append(text)
            else:
                answered.add(text)
                if len(answered) == 5:
                    one.kill()

        async with asyncio.TaskGroup() as sending:
            for text in texts:
                sending.create_task(send(text))
        assert unanswered
        for text in unanswered:
            await world.send(ada, group_id, text, text)
        log = await whole_log(ada, group_id)
        assert sorted(contents(log)) == sorted(texts)
        assert await read(stream, len(texts)) == log


async def test_who_was_at_a_node_that_is_told_to_stop_is_sent_away_with_1012(engines: Stack, tmp_path: Path) -> None:
    async with nodes_of(engines, tmp_path) as (one, two), World(two) as world:
        ada, bob = await world.users("ada", "bob")
        group_id = await world.group(ada, bob)
        socket, head = await bob.at(one).socket(), await bob.head(group_id)
        await socket.follow("GroupMessages", groupId=group_id, after=head)
        news = await socket.follow("MyGroupEvents", snapshot=True)
        await news.event()
        one.terminate()
        assert await socket.closed() == 1012
        await one.ended()
        await world.send(ada, group_id, "missed")
        assert contents(await read(await bob.messages(group_id, head), 1)) == ["missed"]


# When Redis goes


@pytest.fixture(scope="module")
async def fragile(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[tuple[Redis, TwoNodes]]:
    """Two nodes with a Redis of their own that may be stopped; they ask the database for news five times a second."""
    folder = tmp_path_factory.mktemp("fragile")
    with closing(Postgres()) as postgres, closing(Redis()) as redis:
        postgres.start()
        redis.start()
        async with nodes_of(Stack(folder, postgres, redis), folder, head_check_seconds=0.2) as nodes:
            yield redis, nodes


async def both_say(nodes: TwoNodes, broker: bool) -> None:
    """Wait until both nodes know whether the broker can be used."""

    async def known() -> bool:
        return all([(await node.http.get("/readyz")).json()["broker"] is broker for node in nodes])

    await eventually(known, 20)


async def test_while_redis_is_away_everything_is_taken_and_delivered(fragile: tuple[Redis, TwoNodes]) -> None:
    redis, nodes = fragile
    one, two = nodes
    async with World(one) as world:
        ada, bob, cyd = await world.users("ada", "bob", "cyd")
        group_id = await world.group(ada, bob, cyd)
        token = (await one.client().run("Login", input={"username": cyd.username, "password": PASSWORD}))["token"]
        stream = await bob.at(two).messages(group_id)
        device = await Device.of(bob.at(two))
        async with two.socket(token) as ending:
            redis.kill()
            try:
                for number in range(5):
                    await world.send(ada, group_id, f"{number}")
                assert contents(await read(stream, 5)) == ["0", "1", "2", "3", "4"]
                await both_say(nodes, broker=False)
                resumed = await bob.at(two).messages(group_id, await start(bob, group_id))
                assert contents(await read(resumed, 5)) == ["0", "1", "2", "3", "4"]
                await one.client(token).run("Logout")
                assert await ending.closed() == 4403
                await ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
                for each in (stream, resumed):
                    assert (await ended(each))[1]["code"] == "MEMBERSHIP_ENDED"
                await check(bob.at(two), device)
            finally:
                redis.start()
        await both_say(nodes, broker=True)
        stream = await cyd.at(two).messages(group_id)
        await world.send(ada, group_id, "as before")
        assert contents(await read(stream, 1)) == ["as before"]


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_nothing_is_lost_or_doubled_when_redis_comes_back(fragile: tuple[Redis, TwoNodes], how: str) -> None:
    redis, nodes = fragile
    async with World(nodes[0]) as world:
        ada, bob = await world.users("ada", "bob")
        group_id = await world.group(ada, bob)
        streams = [await bob.at(node).messages(group_id) for node in nodes]
        sent = count()

        async def send_ten() -> None:
            for number in range(10):
                await world.send(ada.at(nodes[number % 2]), group_id, f"{next(sent)}")

        for _ in range(3):
            await send_ten()
            if how == "stopped":
                redis.stop()
            else:
                redis.kill()
            await send_ten()
            redis.start()
            await send_ten()
        log = await whole_log(ada, group_id)
        assert contents(log) == [f"{number}" for number in range(90)]
        for stream in streams:
            assert await read(stream, 90) == log
    await both_say(nodes, broker=True)


# The first start


async def test_two_nodes_that_start_at_once_on_an_empty_database_migrate_it_once(
    postgres: Postgres, engines: Stack, tmp_path: Path
) -> None:
    with engines.fresh() as settings:
        environment = as_environment(settings)
        async with AsyncExitStack() as stack:
            nodes = [Node(environment, tmp_path / f"{number}.log") for number in range(2)]
            for node in nodes:
                node.launch()
                stack.push_async_exit(node)
            for node in nodes:
                await eventually(node.is_ready, 60)
            assert nodes[0].pid != nodes[1].pid
            database = settings["database_url"].rsplit("/", 1)[1]
            assert postgres.run_sql("SELECT count(*) FROM alembic_version", database) == "1"
            assert postgres.run_sql(TRANSACTIONS_THAT_MADE_TABLES, database) == "1"
            async with World(nodes[0]) as world:
                ada = await world.user()
                await world.group(ada.at(nodes[1]))
        assert all("Traceback" not in node.logs() for node in nodes)
