"""Jumping into a group's messages: to one of them, to a date, to the first unread, and on from there both ways."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.counting import statements
from tests.harness import GraphQLFailure, Json, Person, Server, Socket, World, eventually, refused
from tests.inside import cohorts, many_groups
from tests.standings import NO_MEMBERS, Standing, scene_for

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

PAGE = "edges { cursor } nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"
DOCUMENT = f"""query ($id: ID!, $around: MessagesAround, $first: Int, $after: String, $last: Int, $before: String) {{
  group(id: $id) {{
    page: messages(around: $around, first: $first, after: $after, last: $last, before: $before) {{ {PAGE} }}
  }}
}}"""
SENDING = 'm%d: sendGroupMessage(input: {groupId: $id, content: "%d"}) { message { id createdAt } }'
FOLLOW = """subscription ($groupId: ID!, $after: String, $around: MessagesAround!) {
  groupMessages(groupId: $groupId, after: $after) {
    message { group { messages(around: $around, first: 1) { nodes { content } } } }
  }
}"""
MANY = """query ($first: Int!, $around: MessagesAround!) {
  myGroups(first: $first) { nodes { messages(around: $around, first: 5) { nodes { seq } } } }
}"""
MICROSECOND = timedelta(microseconds=1)
FIRST_UNREAD = {"firstUnread": True}
COUNT = 120


async def page(person: Person, group_id: str, **given: Any) -> Json:
    """A page, after a check that its cursors agree."""
    data = await person.client.execute(DOCUMENT, {"id": group_id, **given})
    found: Json = data["group"]["page"]
    cursors, info = [edge["cursor"] for edge in found["edges"]], found["pageInfo"]
    assert [info["startCursor"], info["endCursor"]] == ([cursors[0], cursors[-1]] if cursors else [None, None])
    return found


def shown(found: Json) -> list[str]:
    return [node["id"] for node in found["nodes"]]


def middle(whole: Sequence[str], place: int, size: int) -> list[str]:
    """The page around a place, by its rule: half of it before, half from there on, and full where that can be."""
    start = max(0, min(place - size // 2, len(whole) - size))
    return list(whole[start : start + size])


async def send_many(person: Person, group_id: str, count: int) -> list[Json]:
    """So many new messages, in their order, from one request."""
    body = " ".join(SENDING % (number, number) for number in range(count))
    sent = await person.client.execute(f"mutation ($id: ID!) {{ {body} }}", {"id": group_id})
    return [each["message"] for each in sent.values()]


@dataclass(frozen=True, slots=True)
class Library:
    """A group of messages with other events between them, of which the reader has read none. Nobody writes in it."""

    reader: Person
    group_id: str
    whole: list[str]
    moments: list[datetime]

    async def page(self, around: Json, **given: Any) -> Json:
        return await page(self.reader, self.group_id, around=around, **given)

    async def walk(self, found: Json, size: int) -> list[str]:
        """The whole list, from a page of it on in both directions."""
        seen, info = shown(found), found["pageInfo"]
        while info["hasPreviousPage"]:
            before = await page(self.reader, self.group_id, last=size, before=info["startCursor"])
            seen, info = shown(before) + seen, before["pageInfo"]
        info = found["pageInfo"]
        while info["hasNextPage"]:
            rest = await page(self.reader, self.group_id, first=size, after=info["endCursor"])
            seen, info = seen + shown(rest), rest["pageInfo"]
        return seen


@pytest.fixture(scope="session")
async def library(server: Server) -> AsyncIterator[Library]:
    async with World(server) as world:
        writer, reader = await world.users("writer", "reader")
        group_id, sent = await world.group(writer, reader), list[Json]()
        while len(sent) < COUNT:
            sent += await send_many(writer, group_id, 40)
            await writer.run("UpdateGroup", input={"groupId": group_id, "description": f"{len(sent)}"})
        moments = [datetime.fromisoformat(message["createdAt"]) for message in sent]
        yield Library(reader, group_id, [message["id"] for message in sent], moments)


@pytest.mark.parametrize("size", [1, 2, 7, 50, 100])
async def test_a_page_around_a_message_has_it_in_its_middle_and_goes_on_both_ways(library: Library, size: int) -> None:
    for place in (0, 1, 3, 25, 60, 95, COUNT - 2, COUNT - 1):
        found = await library.page({"messageId": library.whole[place]}, first=size)
        assert shown(found) == middle(library.whole, place, size)
        info = found["pageInfo"]
        assert info["hasPreviousPage"] == (shown(found)[0] != library.whole[0])
        assert info["hasNextPage"] == (shown(found)[-1] != library.whole[-1])
        if size > 2:
            assert await library.walk(found, size) == library.whole


async def test_a_page_around_a_place_has_50_messages_unless_it_is_said(library: Library) -> None:
    found = await library.page({"messageId": library.whole[60]})
    assert shown(found) == library.whole[35:85]


async def test_a_page_around_a_date_begins_its_half_with_the_first_message_from_then_on(library: Library) -> None:
    moments = library.moments
    assert moments == sorted(moments)
    tried = [moments[0], moments[-1], *(moments[each] + shift for each in (1, 39, 40, 77) for shift in
             (-MICROSECOND, timedelta(), MICROSECOND))]  # fmt: skip
    for date in tried:
        place = next((each for each, moment in enumerate(moments) if moment >= date), COUNT)
        found = await library.page({"date": date.isoformat()}, first=8)
        assert shown(found) == middle(library.whole, place, 8)
        assert await library.walk(found, 50) == library.whole


@pytest.mark.parametrize("early", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00+02:00"])
async def test_a_date_before_the_first_message_gives_the_first_page(library: Library, early: str) -> None:
    found = await library.page({"date": early}, first=20)
    assert shown(found) == library.whole[:20]
    assert (found["pageInfo"]["hasPreviousPage"], found["pageInfo"]["hasNextPage"]) == (False, True)


async def test_a_date_after_the_last_message_gives_the_newest_page(library: Library) -> None:
    found = await library.page({"date": "9999-12-31T23:59:59.999999Z"}, first=20)
    assert shown(found) == library.whole[-20:]
    assert (found["pageInfo"]["hasPreviousPage"], found["pageInfo"]["hasNextPage"]) == (True, False)


async def test_a_date_means_the_same_moment_in_every_offset(library: Library) -> None:
    date = library.moments[50]
    for written in (
        date.isoformat(),
        (date.replace(tzinfo=None) + timedelta(hours=5, minutes=45)).isoformat() + "+05:45",
    ):
        assert shown(await library.page({"date": written}, first=1)) == [library.whole[50]]


async def test_of_messages_of_one_moment_a_date_gives_the_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes back: the log's stands still."""
    ada = await world.user()
    group_id = await world.group(ada)
    first = (await send_many(ada, group_id, 3))[-1]
    with monkeypatch.context() as patched:
        patched.setattr("db.events.GroupLog.now", property(lambda log: log.group.active_at))
        same = await send_many(ada, group_id, 5)
    assert {message["createdAt"] for message in same} == {first["createdAt"]}
    assert shown(await page(ada, group_id, around={"date": first["createdAt"]}, first=1)) == [first["id"]]


async def test_a_page_around_the_first_unread_begins_its_half_there(library: Library) -> None:
    found = await library.page(FIRST_UNREAD, first=10)
    assert shown(found) == library.whole[:10]


async def test_the_first_unread_is_the_viewers_own(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    whole = [message["id"] for message in await send_many(ada, group_id, 12)]
    for person, place in ((bob, 4), (cyd, 9)):
        await person.run("MarkGroupUnread", input={"groupId": group_id, "messageId": whole[place]})
    await ada.run("DeleteMessage", input={"messageId": whole[4]})
    assert shown(await page(bob, group_id, around=FIRST_UNREAD, first=4)) == whole[3:7], "a tombstone is not unread"
    assert shown(await page(cyd, group_id, around=FIRST_UNREAD, first=4)) == whole[7:11]
    assert shown(await page(ada, group_id, around=FIRST_UNREAD, first=4)) == whole[8:], "who has read all"


async def test_a_group_without_messages_has_an_empty_page_around_every_place(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    for around in (FIRST_UNREAD, {"date": "2026-01-01T00:00:00Z"}):
        found = await page(ada, group_id, around=around)
        assert not shown(found)
        assert (found["pageInfo"]["hasPreviousPage"], found["pageInfo"]["hasNextPage"]) == (False, False)


async def test_a_tombstone_can_be_jumped_to(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    whole = [message["id"] for message in await send_many(ada, group_id, 5)]
    await ada.run("DeleteMessage", input={"messageId": whole[2]})
    assert shown(await page(ada, group_id, around={"messageId": whole[2]}, first=3)) == whole[1:4]


async def test_the_stream_that_belongs_to_a_page_around_a_place_misses_nothing(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    sent = await send_many(ada, group_id, 9)
    data = await ada.run("MessagesAround", id=group_id, around={"messageId": sent[0]["id"]}, first=3)
    await world.send(ada, group_id, "later")
    stream = await ada.messages(group_id, data["headCursor"])
    assert (await stream.event())["message"]["content"] == "later"


# What is refused


async def test_a_message_of_another_group_or_of_nothing_is_not_found(world: World, library: Library) -> None:
    other = await world.group(library.reader)
    for message_id in (library.whole[0], library.whole[0][:-1], library.group_id, "", "nonsense"):
        with refused("NOT_FOUND"):
            await page(library.reader, other, around={"messageId": message_id})


@pytest.mark.parametrize(
    "given",
    [
        {"last": 5}, {"after": "x"}, {"before": "x"}, {"first": 5, "last": 5}, {"first": 0}, {"first": 101},
        {"around": {"firstUnread": False}}, {"around": {}}, {"around": {"date": None}},
        {"around": {"firstUnread": True, "date": "2026-01-01T00:00:00Z"}}, {"around": {"date": "2026-01-01T00:00:00"}},
        {"around": {"date": "yesterday"}}, {"around": {"date": 1}}, {"around": {"date": "0001-01-01T00:00:00+10:00"}},
        {"around": {"seq": 1}}, {"around": {"messageId": None, "firstUnread": True}},
    ],
    ids=str,
)  # fmt: skip
async def test_a_place_that_is_none_and_a_page_that_is_said_twice_are_refused(library: Library, given: Json) -> None:
    with refused("BAD_USER_INPUT"):
        await page(library.reader, library.group_id, **{"around": FIRST_UNREAD, **given})


@pytest.mark.parametrize("around", ["{}", "{firstUnread: null}", '{firstUnread: true, messageId: "x"}', '{date: "x"}'])
async def test_a_document_that_names_no_place_or_two_is_not_executed(library: Library, around: str) -> None:
    document = (
        f'{{ viewer {{ id }} group(id: "{library.group_id}") {{ messages(around: {around}) {{ nodes {{ id }} }} }} }}'
    )
    with refused("BAD_USER_INPUT") as refusal:
        await library.reader.client.execute(document)
    assert refusal.value.data is None


@pytest.mark.parametrize("around", [FIRST_UNREAD, {"date": "2026-01-01T00:00:00Z"}, {"messageId": None}], ids=str)
@pytest.mark.parametrize("standing", NO_MEMBERS, ids=lambda standing: standing.name)
async def test_who_is_not_a_member_jumps_nowhere(world: World, standing: Standing, around: Json) -> None:
    scene = await scene_for(world, standing)
    given = {"messageId": scene.own_id} if "messageId" in around else around
    with refused("FORBIDDEN") as refusal:
        await page(scene.actor, scene.group_id, around=given)
    assert refusal.value.extensions["membershipStatus"] == (standing.status and standing.status.value)


# One message


@pytest.mark.parametrize("standing", NO_MEMBERS, ids=lambda standing: standing.name)
async def test_a_message_is_refused_to_who_is_not_a_member_as_its_group_is(world: World, standing: Standing) -> None:
    scene = await scene_for(world, standing)
    assert (await scene.member.run("Message", id=scene.own_id))["group"]["id"] == scene.group_id
    with refused("FORBIDDEN") as refusal:
        await scene.actor.run("Message", id=scene.own_id)
    assert refusal.value.extensions["membershipStatus"] == (standing.status and standing.status.value)


async def test_a_message_is_found_by_its_id_also_when_it_was_deleted(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    sent = await world.send(ada, group_id, "one")
    assert (await ada.run("Message", id=sent["id"]))["content"] == "one"
    await ada.run("DeleteMessage", input={"messageId": sent["id"]})
    found = await ada.run("Message", id=sent["id"])
    assert (found["content"], found["seq"], found["deletedAt"] is None) == ("", sent["seq"], False)


async def test_an_id_of_no_message_is_not_found(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    for message_id in (group_id, ada.id, "", "nonsense"):
        with refused("NOT_FOUND"):
            await ada.run("Message", id=message_id)


async def test_a_message_of_a_deleted_group_is_gone_with_it(world: World) -> None:
    ada, eve = await world.users("ada", "eve")
    group_id = await world.group(ada)
    sent = await world.send(ada, group_id)
    await ada.run("DeleteGroup", input={"groupId": group_id})
    with refused("GROUP_DELETED"):
        await ada.run("Message", id=sent["id"])
    with refused("NOT_FOUND"):
        await eve.run("Message", id=sent["id"])


# Inside events


async def follow(person: Person, group_id: str, around: Json) -> Any:
    socket: Socket = await person.socket()
    after = await person.head(group_id)
    return await socket.subscribe(FOLLOW, {"groupId": group_id, "after": after, "around": around})


async def test_inside_an_event_each_viewer_is_shown_their_own_first_unread(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    sent = await send_many(ada, group_id, 6)
    for person, place in ((bob, 1), (cyd, 4)):
        await person.run("MarkGroupUnread", input={"groupId": group_id, "messageId": sent[place]["id"]})
    streams = [await follow(person, group_id, FIRST_UNREAD) for person in (bob, cyd, bob)]
    await eventually(lambda: sorted(cohorts(world.server)) == [1, 2])
    await world.send(ada, group_id, "news")
    found = [(await stream.event())["message"]["group"]["messages"]["nodes"] for stream in streams]
    assert [node["content"] for (node,) in found] == ["1", "4", "1"]


async def test_inside_an_event_no_message_of_another_group_is_reached(world: World) -> None:
    ada = await world.user()
    group_id, other = await world.group(ada), await world.group(ada)
    sent = await world.send(ada, other, "elsewhere")
    stream = await follow(ada, group_id, {"messageId": sent["id"]})
    await eventually(lambda: len(cohorts(world.server)) == 1)
    await world.send(ada, group_id)
    with pytest.raises(GraphQLFailure) as failure:
        await stream.event()
    assert failure.value.code == "NOT_FOUND"


# What it costs


@pytest.mark.parametrize("around", [FIRST_UNREAD, {"date": "2026-01-01T00:00:00Z"}], ids=str)
async def test_the_pages_of_many_groups_take_no_more_statements_than_one(world: World, around: Json) -> None:
    ada, bob = await world.users("ada", "bob")
    groups = await many_groups(world, ada, bob, 100)
    for group_id in groups[:3]:
        await world.send(ada, group_id)

    counts = list[int]()
    for first in (1, 100):
        with statements(world.server) as seen:
            data = await bob.client.execute(MANY, {"first": first, "around": around})
        counts.append(len(seen))
    assert sum(len(group["messages"]["nodes"]) for group in data["myGroups"]["nodes"]) == 3
    assert counts[0] == counts[1]
