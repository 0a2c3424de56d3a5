"""Subscribers that share one execution: each still gets exactly what would be shown to it alone."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from graphql import OperationType

from schema import frames, ids
from tests.conftest import OwnServer
from tests.everything import documents, variables
from tests.harness import GraphQLFailure, Json, Person, Subscription, World, eventually, operation
from tests.inside import cohorts, followers
from tests.reading import contents, read

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

OF_VIEWER = """subscription ($groupId: ID!, $after: String) {
    groupMessages(groupId: $groupId, after: $after) {
        message { content group { viewerMembership { user { username } role } } }
    }
}"""
SIZED = """subscription ($groupId: ID!, $after: String) {
    groupMessages(groupId: $groupId, after: $after) { message { content } }
}"""
WITH_FRAGMENTS = """subscription ($groupId: ID!, $after: String) { ...Messages }
fragment Messages on Subscription { groupMessages(groupId: $groupId, after: $after) { cursor message { ...Text } } }
fragment Text on Message { content }"""


async def follow(person: Person, document: str, group_id: str, after: str, **more: Any) -> Subscription:
    socket = await person.socket()
    return await socket.subscribe(document, {"groupId": group_id, "after": after, **more})


async def joined(world: World, number: int) -> None:
    await eventually(lambda: sum(cohorts(world.server)) == number)


@pytest.mark.parametrize("document", [operation("GroupMessages"), SIZED, WITH_FRAGMENTS])
async def test_who_asks_the_same_is_shown_each_event_once_wherever_they_began(world: World, document: str) -> None:
    ada, *people = await world.users("ada", "ben", "cleo", "dan")
    group_id = await world.group(ada, *people)
    positions = [await ada.head(group_id)]
    for content in ("one", "two"):
        await world.send(ada, group_id, content)
        positions.append(await ada.head(group_id))
    streams = [await follow(person, document, group_id, after) for person, after in zip(people, positions, strict=True)]
    await joined(world, 3)
    assert cohorts(world.server) == [3]
    await world.send(ada, group_id, "three")
    everything = ["one", "two", "three"]
    assert [contents(await read(stream, 3 - number)) for number, stream in enumerate(streams)] == [
        everything[number:] for number in range(3)
    ]


async def test_another_variable_another_operation_or_another_group_is_another_cohort(world: World) -> None:
    ada = await world.user()
    first, second = [await world.group(ada) for _ in range(2)]
    switched = SIZED.replace("$after: String)", "$after: String, $wide: Boolean!)").replace(
        "content", "content seq @include(if: $wide)"
    )
    heads = {group_id: await ada.head(group_id) for group_id in (first, second)}
    streams = [
        await follow(ada, SIZED, first, heads[first]),
        await follow(ada, SIZED, second, heads[second]),
        await follow(ada, switched, first, heads[first], wide=True),
        await follow(ada, switched, first, heads[first], wide=False),
    ]
    await joined(world, 4)
    assert cohorts(world.server) == [1, 1, 1, 1]
    for group_id in (first, second):
        await world.send(ada, group_id, "hello")
    shown = [set((await stream.event())["message"]) for stream in streams]
    assert shown == [{"content"}, {"content"}, {"content", "seq"}, {"content"}]


async def test_a_field_of_the_viewer_is_shown_to_each_viewer_as_their_own(world: World) -> None:
    ada, ben = await world.users("ada", "ben")
    group_id = await world.group(ada, ben)
    head = await ada.head(group_id)
    streams = {person: [await follow(person, OF_VIEWER, group_id, head) for _ in range(2)] for person in (ada, ben)}
    await joined(world, 4)
    assert sorted(cohorts(world.server)) == [2, 2]
    await world.send(ada, group_id, "hello")
    for person, own in streams.items():
        for stream in own:
            membership = (await stream.event())["message"]["group"]["viewerMembership"]
            assert membership["user"]["username"] == person.username


async def test_a_field_that_asks_for_the_viewer_without_saying_so_is_shown_to_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schema.sharing.VIEWER_FIELDS", frozenset[str]())
    monkeypatch.setattr("resolvers.following.PAUSE_SECONDS", 0)
    ada, ben = await world.users("ada", "ben")
    group_id = await world.group(ada, ben)
    # A document that no other test has: who shares is remembered for each.
    document = OF_VIEWER.replace("content", "undeclared: content")
    streams = [await follow(person, document, group_id, await ada.head(group_id)) for person in (ada, ben)]
    await joined(world, 2)
    await world.send(ada, group_id, "hello")
    for stream in streams:
        with pytest.raises(GraphQLFailure) as failure:
            await stream.event()
        assert failure.value.code == "SERVICE_UNAVAILABLE"


async def test_what_a_cohort_is_shown_of_every_field_is_what_each_member_is_shown_alone(world: World) -> None:
    ada, ben = await world.users("ada", "ben")
    group_id = await world.group(ada, ben)
    for document in documents(OperationType.SUBSCRIPTION):
        if "groupMessages" not in document:
            continue
        head = await ada.head(group_id)
        given: Mapping[str, str] = {"groupId": group_id, "after": head}
        together = {person: await (await person.socket()).subscribe(document, variables(document, given))
                    for person in (ada, ben)}  # fmt: skip
        await joined(world, 2)
        await world.send(ada, group_id, "hello")
        live = {person: await stream.event() for person, stream in together.items()}
        for person, event in live.items():
            resumed = document.replace("($groupId: ID!)", "($groupId: ID!, $after: String!)").replace(
                "groupMessages(groupId: $groupId)", "groupMessages(groupId: $groupId, after: $after)"
            )
            alone = await (await person.socket()).subscribe(resumed, variables(resumed, given))
            assert await alone.event() == event
            await alone.complete()
        assert mentions(live[ada], ada) and not mentions(live[ada], ben, "viewerMembership")  # noqa: PT018
        for stream in together.values():
            await stream.complete()
        await joined(world, 0)


def mentions(event: Json, person: Person, below: str | None = None) -> bool:
    part = event["message"]["group"]["viewerMembership"] if below else event
    return person.username in str(part)


async def test_the_last_who_leaves_ends_the_cohort(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    streams = [await follow(ada, SIZED, group_id, await ada.head(group_id)) for _ in range(2)]
    await joined(world, 2)
    for number, stream in enumerate(streams, 1):
        await stream.complete()
        await eventually(lambda left=2 - number: sum(cohorts(world.server)) == left)
    assert not cohorts(world.server)
    await eventually(lambda: followers(world.server, ids.group(group_id)) == 0)


async def test_one_who_is_removed_gets_everything_before_and_the_others_go_on(world: World) -> None:
    ada, ben, cleo = await world.users("ada", "ben", "cleo")
    group_id = await world.group(ada, ben, cleo)
    head = await ada.head(group_id)
    gone, stays = [await follow(person, SIZED, group_id, head) for person in (ben, cleo)]
    await joined(world, 2)
    await world.send(ada, group_id, "before")
    assert contents([await gone.event()]) == ["before"]
    await ada.run("RemoveMember", input={"groupId": group_id, "userId": ben.id})
    await world.send(ada, group_id, "after")
    with pytest.raises(GraphQLFailure) as end:
        await gone.event()
    assert end.value.code == "MEMBERSHIP_ENDED"
    assert contents(await read(stays, 2)) == ["before", "after"]


@pytest.fixture(params=["frames", "asgi"])
async def either_way(
    request: pytest.FixtureRequest, own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """A server whose events go straight to the transport, and one under any other ASGI server."""
    if request.param == "asgi":
        monkeypatch.setattr("commands.server.FrameProtocol", "websockets-sansio")
    async with World(await own_server()) as world:
        yield world


async def test_frames_of_every_size_arrive_whole_and_in_order(either_way: World) -> None:
    world = either_way
    ada = await world.user()
    group_id = await world.group(ada)
    aliases = " ".join(f"c{number}: content" for number in range(20))
    wide = SIZED.replace("{ content }", f"{{ {aliases} content }}")
    streams = [await follow(ada, document, group_id, await ada.head(group_id)) for document in (SIZED, wide)]
    await joined(world, 2)
    # Around the lengths at which the header of a frame grows: 126 and 65,536 bytes.
    sizes = [*range(1, 60), 3_117, 3_118, 3_119, 3_120, 3_121, 4_000]
    sent = [(await world.send(ada, group_id, "x" * size))["content"] for size in sizes]
    for stream in streams:
        assert contents(await read(stream, len(sent))) == sent


async def test_events_go_to_a_reader_that_pauses_as_to_one_that_does_not(
    either_way: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_OUTBOX_BYTES", 1_000_000)
    world = either_way
    ada, ben = await world.users("ada", "ben")
    group_id = await world.group(ada, ben)
    head = await ada.head(group_id)
    streams = [await follow(person, SIZED, group_id, head) for person in (ada, ben)]
    await joined(world, 2)
    sends = (world.send(ada, group_id, f"{number}") for number in range(50))
    sent = {message["content"] for message in await asyncio.gather(*sends)}
    first, second = [contents(await read(stream, 50)) for stream in streams]
    assert first == second
    assert set(first) == sent
