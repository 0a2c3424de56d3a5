"""What one has read and what not: positions that only move when one says so, exact counts, and all of one's devices."""

import asyncio
import uuid
from collections.abc import Mapping

import pytest

from schema import ids
from tests.counting import statements
from tests.harness import Json, Person, World, refused
from tests.inside import many_groups
from tests.standings import NO_MEMBERS, REMOVED, Standing, scene_for

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

UNREAD = "query ($id: ID!) { group(id: $id) { readSeq unreadCount mentionCount firstUnread { id seq } } }"
FOLLOW = """subscription ($groupId: ID!, $after: String) { groupMessages(groupId: $groupId, after: $after) {
  seq message { group { readSeq unreadCount firstUnread { id } } } } }"""


async def unread(person: Person, group_id: str) -> Json:
    return (await person.client.execute(UNREAD, {"id": group_id}))["group"]


async def mark(person: Person, group_id: str, up_to: int) -> Json:
    return (await person.run("MarkGroupRead", input={"groupId": group_id, "upTo": up_to}))["group"]


async def mark_unread(person: Person, group_id: str, message_id: str) -> Json:
    return (await person.run("MarkGroupUnread", input={"groupId": group_id, "messageId": message_id}))["group"]


def nothing_unread(read_seq: int) -> Json:
    return {"readSeq": read_seq, "unreadCount": 0, "mentionCount": 0, "firstUnread": None}


def without_id(group: Mapping[str, object]) -> Json:
    return {name: value for name, value in group.items() if name != "id"}


async def test_what_was_sent_before_one_joined_counts_as_read(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob)
    assert [(await unread(person, group_id))["readSeq"] for person in (ada, bob)] == [1, 2]
    last = await world.send(ada, group_id)
    await ada.run("AddMember", input={"groupId": group_id, "userId": cyd.id})
    assert await unread(cyd, group_id) == nothing_unread(last["seq"] + 1)
    assert (await unread(bob, group_id))["unreadCount"] == 1


async def test_messages_of_others_are_unread_until_they_are_marked(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    first, second, third = [await world.send(ada, group_id) for _ in range(3)]
    found = await unread(bob, group_id)
    oldest = {"id": first["id"], "seq": first["seq"]}
    assert found == {"readSeq": 2, "unreadCount": 3, "mentionCount": 0, "firstUnread": oldest}
    marked = await mark(bob, group_id, first["seq"])
    assert without_id(marked) == await unread(bob, group_id)
    assert (marked["unreadCount"], marked["firstUnread"]["id"]) == (2, second["id"])
    assert without_id(await mark(bob, group_id, third["seq"])) == nothing_unread(third["seq"])


async def test_ones_own_messages_are_never_unread(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    await world.send(ada, group_id)
    theirs = await world.send(bob, group_id)
    await world.send(ada, group_id)
    found = await unread(ada, group_id)
    assert (found["unreadCount"], found["firstUnread"]["id"]) == (1, theirs["id"])


async def test_what_is_no_message_is_never_unread(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob)
    await ada.run("UpdateGroup", input={"groupId": group_id, "name": "Go"})
    await ada.run("AddMember", input={"groupId": group_id, "userId": cyd.id})
    assert await unread(bob, group_id) == nothing_unread(2)


async def test_a_deleted_message_is_not_unread_and_one_that_was_edited_still_is(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    first, second, third = [await world.send(ada, group_id) for _ in range(3)]
    await ada.run("EditMessage", input={"messageId": second["id"], "content": "better"})
    await ada.run("DeleteMessage", input={"messageId": first["id"]})
    found = await unread(bob, group_id)
    assert (found["unreadCount"], found["firstUnread"]["id"]) == (2, second["id"])
    for message in (second, third):
        await ada.run("DeleteMessage", input={"messageId": message["id"]})
    assert await unread(bob, group_id) == nothing_unread(2)


async def test_a_mark_never_goes_back_and_a_late_one_tells_nobody(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    first, second = [await world.send(ada, group_id) for _ in range(2)]
    device = await bob.group_events()
    await mark(bob, group_id, second["seq"])
    for late in (second["seq"], first["seq"], 1, 0, -5):
        assert without_id(await mark(bob, group_id, late)) == nothing_unread(second["seq"])
    assert (await device.event())["readSeq"] == second["seq"]
    await device.nothing()


async def test_a_mark_beyond_the_end_of_the_log_is_refused_and_changes_nothing(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    message = await world.send(ada, group_id)
    for beyond in (message["seq"] + 1, 2**31 - 1):
        with refused("BAD_USER_INPUT") as refusal:
            await mark(bob, group_id, beyond)
        assert refusal.value.extensions["field"] == "upTo"
    assert (await unread(bob, group_id))["unreadCount"] == 1


async def test_from_a_message_on_all_is_unread_again(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    sent = [await world.send(ada, group_id) for _ in range(3)]
    await mark(bob, group_id, sent[-1]["seq"])
    again = await mark_unread(bob, group_id, sent[1]["id"])
    assert (again["readSeq"], again["unreadCount"]) == (sent[1]["seq"] - 1, 2)
    assert again["firstUnread"]["id"] == sent[1]["id"]
    assert without_id(again) == await unread(bob, group_id)


async def test_what_was_before_one_joined_stays_read(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    before = await world.send(ada, group_id)
    await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
    joined = (await unread(bob, group_id))["readSeq"]
    await mark(bob, group_id, (await world.send(ada, group_id))["seq"])
    assert (await mark_unread(bob, group_id, before["id"]))["readSeq"] == joined
    assert (await unread(bob, group_id))["unreadCount"] == 1


async def test_only_a_message_of_the_group_can_be_the_first_unread(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id, other = [await world.group(ada, bob) for _ in range(2)]
    elsewhere = await world.send(ada, other)
    for message_id in (elsewhere["id"], group_id, "nonsense", ""):
        with refused("NOT_FOUND"):
            await mark_unread(bob, group_id, message_id)
    assert await unread(bob, group_id) == nothing_unread(2)


async def test_who_comes_back_is_where_they_were_or_where_they_joined_if_that_is_further(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    subject = {"groupId": group_id, "userId": bob.id}
    await mark(bob, group_id, (await world.send(ada, group_id))["seq"])
    await bob.run("LeaveGroup", input={"groupId": group_id})
    missed = await world.send(ada, group_id)
    await ada.run("AddMember", input=subject)
    assert await unread(bob, group_id) == nothing_unread(missed["seq"] + 1)
    await world.send(ada, group_id)
    assert (await unread(bob, group_id))["unreadCount"] == 1


async def test_all_of_ones_devices_are_told_and_nobody_else(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    message = await world.send(ada, group_id)
    devices, other = [await bob.group_events() for _ in range(2)], await ada.group_events()
    await mark(bob, group_id, message["seq"])
    await mark_unread(bob, group_id, message["id"])
    for device in devices:
        moved = [await device.event() for _ in range(2)]
        assert [event["__typename"] for event in moved] == ["GroupReadEvent"] * 2
        assert [event["readSeq"] for event in moved] == [message["seq"], message["seq"] - 1]
        assert {event["groupId"] for event in moved} == {group_id}
        assert {event["actor"]["id"] for event in moved} == {bob.id}
        assert moved[-1]["group"]["unreadCount"] == 1
    await other.nothing()


async def test_a_list_shows_what_is_unread_in_each_group_and_the_events_after_it_agree(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    quiet, busy = [await world.group(ada, bob) for _ in range(2)]
    sent = [await world.send(ada, busy) for _ in range(2)]
    stream = await (await bob.socket()).follow("MyGroupEvents", snapshot=True)
    listed = {group["id"]: group for group in (await stream.event())["groups"]}
    assert {group_id: group["unreadCount"] for group_id, group in listed.items()} == {quiet: 0, busy: 2}
    assert listed[busy]["firstUnread"]["id"] == sent[0]["id"]
    assert listed[quiet]["firstUnread"] is None
    assert [edge["node"] for edge in (await bob.run("MyGroups"))["edges"]] == list(listed.values())
    await mark(bob, busy, sent[0]["seq"])
    event = await stream.event()
    assert (event["group"]["unreadCount"], event["group"]["firstUnread"]["id"]) == (1, sent[1]["id"])


async def test_marks_that_race_end_at_the_furthest_and_tell_only_of_steps_forward(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    seqs = [(await world.send(ada, group_id))["seq"] for _ in range(12)]
    device = await bob.group_events()
    await asyncio.gather(*(mark(bob, group_id, seq) for seq in seqs[::-1] for _ in range(2)))
    assert await unread(bob, group_id) == nothing_unread(seqs[-1])
    told = [(await device.event())["readSeq"]]
    while told[-1] != seqs[-1]:
        told.append((await device.event())["readSeq"])
    assert told == sorted(set(told))
    await device.nothing()


async def test_two_marks_of_one_request_show_what_each_made(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    sent = [await world.send(ada, group_id) for _ in range(3)]
    document = """mutation ($one: MarkGroupReadInput!, $two: MarkGroupReadInput!) {
      one: markGroupRead(input: $one) { group { unreadCount } }
      two: markGroupRead(input: $two) { group { unreadCount } } }"""
    inputs = {name: {"groupId": group_id, "upTo": sent[place]["seq"]} for place, name in enumerate(("one", "two"))}
    answer = await bob.client.execute(document, inputs)
    assert [payload["group"]["unreadCount"] for payload in answer.values()] == [2, 1]


@pytest.mark.parametrize("standing", NO_MEMBERS, ids=lambda standing: standing.name)
async def test_who_is_not_a_member_can_mark_nothing_as_unread(world: World, standing: Standing) -> None:
    scene = await scene_for(world, standing)
    message = await world.send(scene.admin, scene.group_id)
    nothing = ids.encode(ids.MESSAGE, uuid.uuid4())
    answers: list[list[Json]] = []
    for message_id in (message["id"], nothing):
        with refused("FORBIDDEN") as refusal:
            await mark_unread(scene.actor, scene.group_id, message_id)
        answers.append(refusal.value.errors)
    assert answers[0] == answers[1], "a refusal does not tell whether there is such a message"


async def test_a_removed_member_sees_no_count_of_what_is_sent_then(world: World) -> None:
    scene = await scene_for(world, REMOVED)
    await world.send(scene.admin, scene.group_id)
    with refused("FORBIDDEN"):
        await unread(scene.actor, scene.group_id)
    assert (await scene.actor.run("MyGroups"))["edges"] == []


async def test_who_follows_one_group_with_others_is_shown_what_they_have_not_read_themselves(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    variables = {"groupId": group_id, "after": await ada.head(group_id)}
    streams = {person: await (await person.socket()).subscribe(FOLLOW, variables) for person in (ada, bob, cyd)}
    first = await world.send(ada, group_id)
    await mark(cyd, group_id, first["seq"])
    second = await world.send(ada, group_id)
    expected = {ada: (0, None), bob: (2, first["id"]), cyd: (1, second["id"])}
    for person, stream in streams.items():
        await stream.event()
        shown = (await stream.event())["message"]["group"]
        oldest = shown["firstUnread"] and shown["firstUnread"]["id"]
        assert (shown["unreadCount"], oldest) == expected[person]


async def test_a_list_of_500_groups_asks_the_database_as_often_as_one_of_three(world: World) -> None:
    ada, *readers = await world.users("ada", "few", "many")
    costs: list[int] = []
    for reader, count in zip(readers, (3, 500), strict=True):
        made = await many_groups(world, ada, reader, count)
        sent = [await world.send(ada, group_id) for group_id in (made[0], made[0], made[-1])]
        await mark(reader, made[0], sent[0]["seq"])
        socket = await reader.socket()
        with statements(world.server) as seen:
            groups = (await (await socket.follow("MyGroupEvents", snapshot=True)).event())["groups"]
        found = {group["id"]: (group["unreadCount"], group["firstUnread"], group["lastMessage"]) for group in groups}
        assert len(found) == count
        for group_id, message in ((made[0], sent[1]), (made[-1], sent[2])):
            assert found[group_id] == (1, {"id": message["id"], "seq": message["seq"]}, message)
        assert sum(unread for unread, *_ in found.values()) == 2
        # In how many turns people are read depends on which of them are known when the others are asked for.
        costs.append(sum("FROM users" not in statement for statement in seen))
        assert len(seen) <= costs[-1] + 6
    assert costs[0] == costs[1] > 0
