"""Following threads: who does and from where on, exact counts of what is unread in them, and all of one's devices."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import func, select

from db import tables
from tests.harness import Json, Person, Stack, World, refused
from tests.reading import read
from tests.sabotage import Bench, quiet_server
from tests.standings import NO_MEMBERS, Standing, scene_for

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

OWN = "viewerFollows readSeq unreadCount"
THREAD = f"query ($id: ID!) {{ message(id: $id) {{ thread {{ {OWN} }} }} }}"
MINE = f"""query ($first: Int, $after: String) {{ myThreads(first: $first, after: $after) {{
  edges {{ cursor }} nodes {{ id thread {{ {OWN} }} }} pageInfo {{ hasNextPage hasPreviousPage endCursor }} }} }}"""
FOLLOW = f"""subscription ($groupId: ID!, $after: String) {{ groupMessages(groupId: $groupId, after: $after) {{
  seq message {{ threadRoot {{ thread {{ {OWN} }} }} }} }} }}"""
NOT_FOLLOWED = {"viewerFollows": False, "readSeq": None, "unreadCount": 0}


async def reply(person: Person, group_id: str, to: Json) -> Json:
    given = {"groupId": group_id, "content": "a reply", "replyToId": to["id"]}
    return (await person.run("SendGroupMessage", input=given))["message"]


async def own(person: Person, root: Json) -> Json:
    return (await person.client.execute(THREAD, {"id": root["id"]}))["message"]["thread"]


async def follow(person: Person, message: Json) -> Json:
    return (await person.run("FollowThread", input={"messageId": message["id"]}))["root"]


async def unfollow(person: Person, message: Json) -> Json:
    return (await person.run("UnfollowThread", input={"messageId": message["id"]}))["root"]


async def mark(person: Person, message: Json, up_to: int) -> Json:
    return (await person.run("MarkThreadRead", input={"messageId": message["id"], "upTo": up_to}))["root"]


async def mine(person: Person, **given: Any) -> Json:
    return (await person.client.execute(MINE, given))["myThreads"]


async def listed(person: Person) -> list[str]:
    return [node["id"] for node in (await mine(person))["nodes"]]


def following(read_seq: int, unread: int) -> Json:
    return {"viewerFollows": True, "readSeq": read_seq, "unreadCount": unread}


def named(messages: Sequence[Json]) -> list[str]:
    return [message["id"] for message in messages]


# Who follows


async def test_who_replies_follows_and_so_does_who_began_the_thread_and_nobody_else(world: World) -> None:
    ada, bob, cyd, dan = await world.users("ada", "bob", "cyd", "dan")
    group_id = await world.group(ada, bob, cyd, dan)
    root = await world.send(ada, group_id)
    first = await reply(bob, group_id, root)
    assert await own(ada, root) == following(root["seq"], 1)
    assert await own(bob, root) == following(first["seq"], 0)
    second = await reply(cyd, group_id, root)
    assert await own(bob, root) == following(first["seq"], 1)
    assert await own(cyd, root) == following(second["seq"], 0), "what was said before they replied counts as read"
    assert await own(dan, root) == NOT_FOLLOWED


async def test_who_answers_themselves_follows_with_nothing_unread(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    root = await world.send(ada, group_id)
    answered = await reply(ada, group_id, root)
    assert await own(ada, root) == following(answered["seq"], 0)


async def test_following_and_unfollowing_twice_is_harmless(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    root = await world.send(ada, group_id)
    answered = await reply(bob, group_id, root)
    device = await cyd.group_events()
    for change, message in ((follow, root), (follow, answered)):
        assert (await change(cyd, message))["id"] == root["id"]
        assert await own(cyd, root) == following(answered["seq"], 0)
    for message in (answered, root):
        assert (await unfollow(cyd, message))["thread"]["viewerFollows"] is False
        assert await own(cyd, root) == NOT_FOLLOWED
    told = await read(device, 2)
    assert [(event["__typename"], event["root"]["id"]) for event in told] == [("ThreadChangedEvent", root["id"])] * 2
    await device.nothing()


async def test_who_follows_no_more_does_so_again_only_by_replying_or_following(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    root = await world.send(ada, group_id)
    await reply(bob, group_id, root)
    for person in (ada, bob):
        await unfollow(person, root)
    last = await reply(bob, group_id, root)
    assert (await own(ada, root), await own(bob, root)) == (NOT_FOLLOWED, following(last["seq"], 0))
    await follow(ada, root)
    assert await own(ada, root) == following(last["seq"], 0)


async def test_what_nobody_replied_to_is_no_thread_to_follow(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    root = await world.send(ada, group_id)
    with refused("CONFLICT"):
        await follow(ada, root)
    assert (await unfollow(ada, root))["thread"] is None
    assert (await mark(ada, root, root["seq"]))["thread"] is None
    for message_id in (group_id, ada.id, "nonsense", ""):
        for change in (
            follow(ada, {"id": message_id}),
            unfollow(ada, {"id": message_id}),
            mark(ada, {"id": message_id}, 1),
        ):
            with refused("NOT_FOUND"):
                await change


async def test_who_began_the_thread_and_left_since_is_told_of_nothing(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    root = await world.send(bob, group_id)
    await bob.run("LeaveGroup", input={"groupId": group_id})
    device = await bob.group_events()
    await reply(ada, group_id, root)
    await reply(cyd, group_id, root)
    await device.nothing()
    await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
    assert await own(bob, root) == NOT_FOLLOWED


async def test_of_replies_at_once_each_makes_its_sender_follow_once(world: World) -> None:
    ada, *people = await world.users("ada", "bob", "cyd", "dan", "eve")
    group_id = await world.group(ada, *people)
    root = await world.send(ada, group_id)
    devices = [await person.group_events() for person in (ada, *people)]
    await asyncio.gather(*(reply(person, group_id, root) for person in people for _ in range(3)))
    assert (await own(ada, root))["unreadCount"] == 12
    for device in devices:
        assert (await device.event())["root"]["id"] == root["id"]
        await device.nothing()


async def test_of_a_reply_and_a_follow_at_once_one_begins_and_is_told(world: World) -> None:
    ada, *people = await world.users("ada", "bob", "cyd", "dan", "eve")
    group_id = await world.group(ada, *people)
    root = await world.send(ada, group_id)
    await reply(ada, group_id, root)
    devices = [await person.group_events() for person in people]
    await asyncio.gather(*(change for each in people for change in (follow(each, root), reply(each, group_id, root))))
    for person, device in zip(people, devices, strict=True):
        assert (await own(person, root))["viewerFollows"]
        assert (await device.event())["__typename"] == "ThreadChangedEvent"
        await device.nothing()


# What is unread


async def test_replies_of_others_are_unread_until_they_are_marked(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    root, other = [await world.send(ada, group_id) for _ in range(2)]
    sent = [await reply(person, group_id, root) for person in (bob, cyd, ada, bob)]
    await reply(bob, group_id, other)
    await bob.run("EditMessage", input={"messageId": sent[3]["id"], "content": "better"})
    assert await own(ada, root) == following(root["seq"], 3)
    await bob.run("DeleteMessage", input={"messageId": sent[0]["id"]})
    assert await own(ada, root) == following(root["seq"], 2)
    assert (await mark(ada, root, sent[1]["seq"]))["thread"]["unreadCount"] == 1
    assert await own(ada, root) == following(sent[1]["seq"], 1)
    await mark(ada, sent[0], sent[3]["seq"])
    assert await own(ada, root) == following(sent[3]["seq"], 0)
    assert (await own(ada, other))["unreadCount"] == 1
    unread = "query ($id: ID!) { group(id: $id) { unreadCount } }"
    in_group = (await ada.client.execute(unread, {"id": group_id}))["group"]["unreadCount"]
    assert in_group == 3, "what is read in a thread stays unread in the group"


async def test_a_mark_never_goes_back_and_one_that_moves_nothing_tells_nobody(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    root = await world.send(ada, group_id)
    sent = [await reply(bob, group_id, root) for _ in range(3)]
    devices = [await person.group_events() for person in (ada, ada, bob, cyd)]
    await asyncio.gather(*(mark(ada, root, message["seq"]) for message in sent))
    for late in (*(message["seq"] for message in sent), 1, 0, -5):
        await mark(ada, root, late)
        await mark(cyd, root, late)
    with refused("BAD_USER_INPUT"):
        await mark(ada, root, sent[-1]["seq"] + 1)
    assert (await own(ada, root), await own(cyd, root)) == (following(sent[-1]["seq"], 0), NOT_FOLLOWED)
    for device in devices[:2]:
        seqs = list[int]()
        while not seqs or seqs[-1] < sent[-1]["seq"]:
            event = await device.event()
            assert (event["__typename"], event["groupId"], event["actor"]["id"]) == (
                "ThreadChangedEvent",
                group_id,
                ada.id,
            )
            seqs.append(event["root"]["thread"]["readSeq"])
        assert seqs == sorted(seqs)
    for device in devices[2:]:
        await device.nothing()


@pytest.mark.parametrize("field", OWN.split())
async def test_each_viewer_of_an_event_is_shown_what_the_thread_is_to_them(world: World, field: str) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    root = await world.send(ada, group_id)
    given = {"groupId": group_id, "after": await ada.head(group_id)}
    document = FOLLOW.replace(OWN, field)
    streams = [await (await person.socket()).subscribe(document, given) for person in (ada, bob, cyd)]
    sent = await reply(bob, group_id, root)
    expected = [following(root["seq"], 1), following(sent["seq"], 0), NOT_FOLLOWED]
    for stream, wanted in zip(streams, expected, strict=True):
        assert (await stream.event())["message"]["threadRoot"]["thread"] == {field: wanted[field]}


async def test_ones_threads_come_most_recently_active_first_with_what_is_unread(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    groups = [await world.group(ada, bob) for _ in range(2)]
    roots = [await world.send(ada, group_id) for group_id in (*groups, groups[0])]
    for root, group_id in zip(roots, (*groups, groups[0]), strict=True):
        await reply(bob, group_id, root)
    last = await reply(bob, groups[1], roots[1])
    page = await mine(ada)
    assert named(page["nodes"]) == named([roots[1], roots[2], roots[0]])
    assert [node["thread"]["unreadCount"] for node in page["nodes"]] == [2, 1, 1]
    await bob.run("DeleteMessage", input={"messageId": last["id"]})
    assert await listed(ada) == named([roots[1], roots[2], roots[0]]), "activity never goes back"
    await unfollow(ada, roots[2])
    assert await listed(ada) == named([roots[1], roots[0]])
    assert [edge["node"]["id"] for edge in (await ada.run("MyThreads"))["edges"]] == named([roots[1], roots[0]])


async def test_threads_are_paged_whole_while_they_move_to_the_top(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    roots = [await world.send(ada, group_id, f"{number}") for number in range(7)]
    for root in roots:
        await reply(bob, group_id, root)
    found, after, more = list[str](), None, True
    while more:
        page = await mine(ada, first=2, after=after)
        found += named(page["nodes"])
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
        await reply(bob, group_id, roots[0])
        await reply(bob, group_id, roots[-1])
        late = await world.send(ada, group_id)
        await reply(bob, group_id, late)
    assert found == named(roots[::-1])
    groups = (await ada.run("MyGroups"))["pageInfo"]["endCursor"]
    for cursor in (groups, await ada.head(group_id), "nonsense"):
        with refused("CURSOR_INVALID"):
            await mine(ada, after=cursor)
    with refused("CURSOR_INVALID"):
        await ada.run("MyGroups", after=after)
    with refused("BAD_USER_INPUT"):
        await mine(ada, first=101)


async def test_threads_of_a_group_come_and_go_with_the_membership(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    root = await world.send(bob, group_id)
    await reply(ada, group_id, root)
    assert await listed(bob) == [root["id"]]
    await bob.run("LeaveGroup", input={"groupId": group_id})
    await reply(ada, group_id, root)
    assert await listed(bob) == []
    await ada.run("InviteMember", input={"groupId": group_id, "userId": bob.id})
    assert await listed(bob) == []
    await bob.run("AnswerInvitation", input={"groupId": group_id, "accept": False})
    assert await listed(bob) == []
    await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
    assert await listed(bob) == [root["id"]]
    assert (await own(bob, root))["unreadCount"] == 0, "what was before they joined stays read"
    await reply(ada, group_id, root)
    assert (await own(bob, root))["unreadCount"] == 1
    await ada.run("DeleteGroup", input={"groupId": group_id})
    assert await listed(bob) == []


# Who may, and what it costs


@pytest.mark.parametrize("standing", NO_MEMBERS, ids=lambda standing: standing.name)
async def test_who_is_not_a_member_follows_and_marks_nothing(world: World, standing: Standing) -> None:
    scene = await scene_for(world, standing)
    root = {"id": scene.other_id}
    for change in (follow(scene.actor, root), unfollow(scene.actor, root), mark(scene.actor, root, 1)):
        with refused("FORBIDDEN") as refusal:
            await change
        assert refusal.value.extensions["membershipStatus"] == standing.status
    assert await listed(scene.actor) == []


async def test_a_reply_writes_nothing_for_members_who_do_not_begin_to_follow(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        people = await bench.world.users("ada", "bob", "cyd", "dan")
        group_id = await bench.world.group(*people)
        root = await bench.world.send(people[0], group_id)

        async def told() -> int:
            async with bench.process.database.read() as transaction:
                return (await transaction.execute(select(func.count()).select_from(tables.user_events))).scalar_one()

        before = await told()
        for person, more in ((people[1], 2), (people[1], 0), (people[0], 0), (people[2], 1), (people[2], 0)):
            await reply(person, group_id, root)
            after = await told()
            assert after - before == more
            before = after


async def test_a_page_of_threads_takes_as_many_statements_as_one_thread(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        costs = list[int]()
        for count in (1, 12):
            ada, bob = await bench.world.users("ada", "bob")
            for group_id in [await bench.world.group(ada, bob) for _ in range(min(count, 3))]:
                for _ in range(count // min(count, 3)):
                    await reply(bob, group_id, await bench.world.send(ada, group_id))
            with bench.statements.recorded() as statements:
                nodes = (await mine(ada))["nodes"]
            assert [node["thread"]["unreadCount"] for node in nodes] == [1] * count
            costs.append(len(statements))
        assert costs[0] == costs[1]
