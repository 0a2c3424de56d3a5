"""`groupMessages` and its polling twin `messageEvents`: everything once and in order, and nothing to anybody else."""

import asyncio
import random
from collections.abc import Sequence
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from app import Process
from db import groups, messages
from db.engine import Transaction
from db.events import GroupLog
from db.records import GroupEventKind
from db.records import Message as MessageRecord
from resolvers.cursors import Position
from schema import ids
from tests.conftest import OwnServer
from tests.harness import (
    Json,
    Person,
    Server,
    Subscription,
    World,
    eventually,
    operation,
    refused,
)
from tests.reading import chatter, contents, ended, polled, read, seqs, start, the_gap, whole_log

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

MANY = 2_000


async def fill(server: Server, sender: Person, group_id: str, number: int) -> None:
    """Put messages into the log in one transaction (a send each costs 10 ms)."""
    process: Process = server.app.state.process

    async def work(transaction: Transaction) -> None:
        group = await groups.lock(transaction, ids.group(group_id))
        assert group is not None
        log, sender_id = GroupLog(transaction, group), ids.user(sender.id)
        for index in range(number):
            message_id = uuid7()
            event = log.append(GroupEventKind.MESSAGE_SENT, sender_id, message_id=message_id)
            record = MessageRecord(
                id=message_id, group_id=group.id, seq=event.seq, version=event.seq,
                sender_id=sender_id, content=f"old {index}", client_message_id=None,
                created_at=event.occurred_at, updated_at=event.occurred_at, deleted_at=None,
            )  # fmt: skip
            await messages.add(transaction, record)
        await log.write()

    await process.database.write(work)


# What comes


async def test_a_message_reaches_every_member_as_it_is_sent(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    streams = [await person.messages(group_id) for person in (ada, bob, cyd)]
    message = await world.send(ada, group_id, "Ich heiße Ada 👋")
    events = [await stream.event() for stream in streams]
    assert events[0] == events[1] == events[2]
    assert events[0]["kind"] == "SENT"
    assert events[0]["message"] == message
    assert events[0]["seq"] == message["seq"] == message["version"]
    assert events[0]["occurredAt"] == message["createdAt"]
    assert events[0]["actor"]["id"] == ada.id


async def test_the_sender_receives_their_own_message_with_its_client_message_id(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    own, other = await ada.messages(group_id), await bob.messages(group_id)
    await world.send(ada, group_id, "mine", "temp-1")
    assert (await own.event())["message"]["clientMessageId"] == "temp-1"
    assert (await other.event())["message"]["clientMessageId"] == "temp-1"


async def test_a_repeated_send_makes_no_second_event(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    stream = await ada.messages(group_id)
    await asyncio.gather(*(world.send(ada, group_id, "once", "the id") for _ in range(5)))
    await world.send(ada, group_id, "marker")
    assert contents(await read(stream, 2)) == ["once", "marker"]


async def test_every_device_of_a_user_receives_everything(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    one_socket = await bob.socket()
    head = await bob.head(group_id)
    streams = [
        await one_socket.follow("GroupMessages", groupId=group_id, after=head),
        await one_socket.follow("GroupMessages", groupId=group_id, after=head),
        await bob.messages(group_id, head),
    ]
    for number in range(5):
        await world.send(ada, group_id, f"{number}")
    for stream in streams:
        assert contents(await read(stream, 5)) == ["0", "1", "2", "3", "4"]


async def test_without_after_a_stream_begins_now(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    for number in range(3):
        await world.send(ada, group_id, f"before {number}")
    stream = await (await bob.socket()).follow("GroupMessages", groupId=group_id)
    async with chatter(world, group_id, ada):
        events = await read(stream, 5)
    came = [int(content.removeprefix(f"{ada.username} ")) for content in contents(events)]
    assert came == list(range(came[0], came[0] + 5))


async def test_the_start_cursor_replays_everything_to_whoever_joined_late(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    for number in range(5):
        await world.send(ada, group_id, f"{number}")
    await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
    stream = await bob.messages(group_id, await start(bob, group_id))
    await world.send(ada, group_id, "live")
    assert contents(await read(stream, 6)) == ["0", "1", "2", "3", "4", "live"]


async def test_streams_of_other_groups_stay_apart(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    here, there = await world.group(ada, bob), await world.group(ada, bob)
    stream_here, stream_there = await bob.messages(here), await bob.messages(there)
    for number in range(3):
        await world.send(ada, there, f"there {number}")
        await world.send(ada, here, f"here {number}")
    assert contents(await read(stream_here, 3)) == ["here 0", "here 1", "here 2"]
    assert contents(await read(stream_there, 3)) == ["there 0", "there 1", "there 2"]


async def test_everybody_sees_the_same_order_and_seq_always_rises(world: World) -> None:
    people = await world.users("ada", "bob", "cyd", "dan")
    group_id = await world.group(*people)
    streams = [await person.messages(group_id) for person in people]
    sends = [world.send(person, group_id, f"{number}") for number in range(8) for person in people]
    sent = await asyncio.gather(*sends)
    orders = [seqs(await read(stream, len(sends))) for stream in streams]
    assert orders[0] == sorted(message["seq"] for message in sent)
    assert all(order == orders[0] for order in orders)


async def test_what_is_nested_in_an_event_can_be_selected(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    document = """subscription ($id: ID!, $after: String) { groupMessages(groupId: $id, after: $after) {
        message { group { id name memberCount viewerMembership { role user { id } } lastMessage { content }
        members { nodes { user { id } } } messages { nodes { content } } } } } }"""
    stream = await (await bob.socket()).subscribe(document, {"id": group_id, "after": await bob.head(group_id)})
    await world.send(ada, group_id, "hello")
    assert (await stream.event())["message"]["group"] == {
        "id": group_id,
        "name": "Chess",
        "memberCount": 2,
        "viewerMembership": {"role": "MEMBER", "user": {"id": bob.id}},
        "lastMessage": {"content": "hello"},
        "members": {"nodes": [{"user": {"id": ada.id}}, {"user": {"id": bob.id}}]},
        "messages": {"nodes": [{"content": "hello"}]},
    }


async def test_a_mistake_that_leaves_nothing_of_an_event_ends_only_that_operation(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    document = """subscription ($id: ID!, $after: String) { groupMessages(groupId: $id, after: $after) {
        message { group { messages(first: 0) { nodes { id } } } } } }"""
    socket, head = await ada.socket(), await ada.head(group_id)
    wrong = await socket.subscribe(document, {"id": group_id, "after": head})
    right = await socket.follow("GroupMessages", groupId=group_id, after=head)
    await world.send(ada, group_id, "hello")
    assert [error["extensions"]["code"] for error in await wrong.end()] == ["BAD_USER_INPUT"]
    assert contents(await read(right, 1)) == ["hello"]


# The seam between what was missed and what comes


@pytest.mark.parametrize("missed", [0, 1, 99, 100, 101, 200])
async def test_a_replay_of_any_length_goes_over_into_the_live_part(world: World, server: Server, missed: int) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    await world.send(ada, group_id, "seen")
    head = await bob.head(group_id)
    await fill(server, ada, group_id, missed)
    stream = await bob.messages(group_id, head)
    await world.send(ada, group_id, "marker")
    assert contents(await read(stream, missed + 1)) == [*(f"old {number}" for number in range(missed)), "marker"]


LEAN = """subscription ($groupId: ID!, $after: String) { groupMessages(groupId: $groupId, after: $after) {
    cursor message { seq content } } }"""


async def test_thousands_of_missed_messages_and_those_sent_meanwhile_come_once_and_in_order(
    world: World, server: Server
) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    everything = await start(bob, group_id)
    await fill(server, ada, group_id, MANY - 150)
    the_last_page = await bob.head(group_id)
    await fill(server, ada, group_id, 150)

    async def follow(after: str, received: list[Json]) -> None:
        stream = await (await bob.socket()).subscribe(LEAN, {"groupId": group_id, "after": after})
        while not received or received[-1]["message"]["content"] != "marker":
            received.append(await stream.event())

    long, short = list[Json](), list[Json]()
    async with asyncio.TaskGroup() as following:
        async with chatter(world, group_id, ada):
            following.create_task(follow(everything, long))
            following.create_task(follow(the_last_page, short))
            await eventually(lambda: len(long) > MANY and len(short) > 150, 60)
        await world.send(ada, group_id, "marker")
    log = [(event["cursor"], event["seq"]) for event in await whole_log(bob, group_id)]
    assert len(log) > MANY + 1
    assert [(event["cursor"], event["message"]["seq"]) for event in long] == log
    assert [(event["cursor"], event["message"]["seq"]) for event in short] == log[MANY - 150 :]


async def test_streams_that_begin_while_others_send_miss_nothing_and_double_nothing(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    heads, streams = list[str](), list[Subscription]()
    async with chatter(world, group_id, ada, bob):
        for _ in range(20):
            heads.append(await cyd.head(group_id))
            streams.append(await cyd.messages(group_id, heads[-1]))
    await world.send(ada, group_id, "marker")
    for head, stream in zip(heads, streams, strict=True):
        log = await whole_log(cyd, group_id, head)
        assert await read(stream, len(log)) == log


async def test_a_client_that_is_cut_again_and_again_resumes_to_exactly_the_whole_log(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    cursor, received, dice = await start(cyd, group_id), list[Json](), random.Random(7)
    async with chatter(world, group_id, ada, bob):
        for _ in range(15):
            async with world.server.socket(cyd.token) as socket:
                stream = await socket.follow("GroupMessages", groupId=group_id, after=cursor)
                received += await read(stream, dice.randint(1, 12))
                cursor = received[-1]["cursor"]
    marker = await world.send(ada, group_id, "marker")
    stream = await cyd.messages(group_id, cursor)
    while received[-1]["seq"] < marker["seq"]:
        received.append(await stream.event())
    assert received == await whole_log(cyd, group_id)


async def test_nothing_between_the_query_of_the_head_and_the_subscription_is_missed(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    page = await bob.run("GroupHistory", id=group_id)
    await world.send(ada, group_id, "between")
    stream = await bob.messages(group_id, page["headCursor"])
    assert contents(await read(stream, 1)) == ["between"]


# Polling


async def test_polling_gives_the_same_events_and_cursors_as_the_stream(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    stream = await bob.messages(group_id)
    for number in range(7):
        await world.send(ada, group_id, f"{number}", f"id {number}")
        await ada.run("UpdateGroup", input={"groupId": group_id, "name": f"Name {number}"})
    live = await read(stream, 7)
    begin = await start(bob, group_id)
    assert await whole_log(bob, group_id) == live
    assert await read(await bob.messages(group_id, begin), 7) == live
    for number, event in enumerate(live):
        assert (await polled(bob, group_id, event["cursor"]))["events"] == live[number + 1 :]
        assert await read(await bob.messages(group_id, event["cursor"]), 6 - number) == live[number + 1 :]


async def test_a_page_of_events_says_whether_there_are_more(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    for number in range(5):
        await world.send(ada, group_id, f"{number}")
    cursor, pages = await start(ada, group_id), list[Json]()
    for _ in range(3):
        pages.append(await polled(ada, group_id, cursor, 2))
        cursor = pages[-1]["cursor"]
    assert [contents(page["events"]) for page in pages] == [["0", "1"], ["2", "3"], ["4"]]
    assert [page["hasMore"] for page in pages] == [True, True, False]
    assert pages[0]["cursor"] == pages[0]["events"][-1]["cursor"]
    empty = await polled(ada, group_id, cursor)
    assert empty == {"events": [], "cursor": cursor, "hasMore": False}
    await world.send(ada, group_id, "5")
    assert contents((await polled(ada, group_id, cursor))["events"]) == ["5"]


async def test_a_full_last_page_has_no_more(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    for number in range(4):
        await world.send(ada, group_id, f"{number}")
    page = await polled(ada, group_id, await start(ada, group_id), 4)
    assert len(page["events"]) == 4
    assert not page["hasMore"]


async def test_a_polled_cursor_moves_past_events_that_are_not_about_messages(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    before = await ada.head(group_id)
    await ada.run("UpdateGroup", input={"groupId": group_id, "name": "Go"})
    page = await polled(ada, group_id, before)
    assert page["events"] == []
    assert not page["hasMore"]
    assert page["cursor"] == await ada.head(group_id) != before


async def test_a_client_may_poll_and_stream_in_turns(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    cursor, received = await start(bob, group_id), list[Json]()
    for turn in range(4):
        for number in range(3):
            await world.send(ada, group_id, f"{turn}.{number}")
        if turn % 2:
            events = await read(await bob.messages(group_id, cursor), 3)
            cursor = events[-1]["cursor"]
        else:
            page = await polled(bob, group_id, cursor)
            events, cursor = page["events"], page["cursor"]
        received += events
    assert received == await whole_log(bob, group_id)


@pytest.mark.parametrize("first", [0, -1, 101])
async def test_a_page_of_events_has_1_to_100(world: World, first: int) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    with refused("BAD_USER_INPUT"):
        await polled(ada, group_id, await start(ada, group_id), first)


# Cursors


WRONG_TEXTS = {"empty": "", "not ours": "bm9wZQ", "a number": "1", "not ASCII": "ü", "long": "A" * 5_000}


async def not_a_position_here(world: World, ada: Person, group_id: str, kind: str) -> str:
    """A text that is not a stream position of this group."""
    head, other = await ada.head(group_id), await world.group(ada)
    of_a_page = (await ada.run("GroupHistory", id=group_id))["messages"]["edges"][-1]["cursor"]
    return {
        "of another group": await ada.head(other),
        "the start of another group": await start(ada, other),
        "of a page": of_a_page,
        "with one character changed": head[:-3] + ("A" if head[-3] != "A" else "B") + head[-2:],
        "of the future": Position(ids.group(group_id), 10_000, 1).encode(),
        "of a row that a restored backup replaced": Position(ids.group(group_id), 1, 1).encode(),
        **WRONG_TEXTS,
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "of another group", "the start of another group", "of a page", "with one character changed", "of the future",
        "of a row that a restored backup replaced", *WRONG_TEXTS,
    ],
)  # fmt: skip
async def test_a_cursor_that_is_no_position_in_this_log_is_refused(world: World, kind: str) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    await world.send(ada, group_id)
    wrong = await not_a_position_here(world, ada, group_id, kind)
    with refused("CURSOR_INVALID"):
        await polled(ada, group_id, wrong)
    stream = await (await ada.socket()).follow("GroupMessages", groupId=group_id, after=wrong)
    (error,) = await stream.end()
    assert error["extensions"]["code"] == "CURSOR_INVALID"
    assert error["extensions"]["retry"] is False


# Ends

NESTED = """subscription ($groupId: ID!, $after: String) { groupMessages(groupId: $groupId, after: $after) {
    cursor seq message { group { memberCount lastMessage { seq } messages(last: 3) { nodes { seq } } } } } }"""


async def end_membership(how: str, admin: Person, member: Person, group_id: str) -> None:
    if how == "leaving":
        await member.run("LeaveGroup", input={"groupId": group_id})
    else:
        await admin.run("RemoveMember", input={"groupId": group_id, "userId": member.id})


HOW = pytest.mark.parametrize("how", ["leaving", "being removed"])


@HOW
async def test_a_membership_that_ends_ends_its_streams_on_every_device(world: World, how: str) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    socket, head = await bob.socket(), await bob.head(group_id)
    streams = [await socket.follow("GroupMessages", groupId=group_id, after=head) for _ in range(2)]
    streams.append(await bob.messages(group_id))
    other = await cyd.messages(group_id)
    await world.send(ada, group_id, "last words")
    last = [await stream.event() for stream in streams]
    assert contents(last) == ["last words"] * 3
    await end_membership(how, ada, bob, group_id)
    await world.send(ada, group_id, "without bob")
    for stream, event in zip(streams, last, strict=True):
        events, extensions = await ended(stream)
        assert events == []
        assert extensions == {"code": "MEMBERSHIP_ENDED", "retry": False, "cursor": event["cursor"]}
    await world.send(ada, group_id, "later")
    assert contents(await read(other, 3)) == ["last words", "without bob", "later"]
    await socket.ping()  # fails on anything that came after the ends


async def test_the_other_streams_on_the_socket_of_a_removed_member_go_on(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    left, kept = await world.group(ada, bob), await world.group(ada, bob)
    socket = await bob.socket()
    ending = await socket.follow("GroupMessages", groupId=left, after=await bob.head(left))
    going_on = await socket.follow("GroupMessages", groupId=kept, after=await bob.head(kept))
    await world.send(ada, left)
    await ending.event()
    await end_membership("being removed", ada, bob, left)
    assert (await ended(ending))[1]["code"] == "MEMBERSHIP_ENDED"
    await world.send(ada, kept, "still here")
    assert contents(await read(going_on, 1)) == ["still here"]


@HOW
async def test_nothing_beyond_the_end_of_a_membership_is_seen_while_others_send(world: World, how: str) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    for _ in range(5):
        group_id = await world.group(ada, bob, cyd)
        socket, head = await bob.socket(), await bob.head(group_id)
        plain = await socket.follow("GroupMessages", groupId=group_id, after=head)
        nested = await socket.subscribe(NESTED, {"groupId": group_id, "after": head})
        async with chatter(world, group_id, ada, cyd, ada, cyd, ada):
            first, nested_first = await plain.event(), await nested.event()
            await end_membership(how, ada, bob, group_id)
            events, end = await ended(plain)
            nested_events, nested_end = await ended(nested)
        await world.send(ada, group_id, "after the end")
        log = await whole_log(ada, group_id)
        events, nested_events = [first, *events], [nested_first, *nested_events]
        assert events == log[: len(events)]
        assert seqs(nested_events) == seqs(log[: len(nested_events)])
        assert end["code"] == nested_end["code"] == "MEMBERSHIP_ENDED"
        assert max(seen(nested_events) + seqs(events)) < the_gap(log)
        assert {event["message"]["group"]["memberCount"] for event in nested_events} == {3}
        await socket.ping()


def seen(nested_events: Sequence[Json]) -> list[int]:
    """Every seq that was shown anywhere in these events."""
    shown = [event["message"]["group"] for event in nested_events]
    listed = [message["seq"] for group in shown for message in group["messages"]["nodes"]]
    return [*seqs(nested_events), *(group["lastMessage"]["seq"] for group in shown), *listed]


async def test_a_removal_ends_a_replay_that_is_still_far_from_its_end(world: World, server: Server) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    await fill(server, ada, group_id, 400)
    socket = await bob.socket()
    stream = await socket.follow("GroupMessages", groupId=group_id, after=await start(bob, group_id))
    first = await stream.event()
    await end_membership("being removed", ada, bob, group_id)
    await world.send(ada, group_id, "without bob")
    events, end = await ended(stream)
    log = await whole_log(ada, group_id)
    assert [first, *events] == log[: len(events) + 1]
    assert "without bob" not in contents(events)
    assert end == {"code": "MEMBERSHIP_ENDED", "retry": False, "cursor": [first, *events][-1]["cursor"]}
    await socket.ping()


async def test_who_comes_back_resumes_where_the_stream_ended_and_misses_nothing(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    stream = await bob.messages(group_id)
    await world.send(ada, group_id, "with bob")
    assert contents(await read(stream, 1)) == ["with bob"]
    await end_membership("being removed", ada, bob, group_id)
    _, end = await ended(stream)
    await world.send(ada, group_id, "without bob")
    await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
    await world.send(ada, group_id, "with bob again")
    again = await read(await bob.messages(group_id, end["cursor"]), 2)
    assert contents(again) == ["without bob", "with bob again"]


async def test_the_deletion_of_a_group_ends_the_streams_of_all_its_members(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    sockets = [await person.socket() for person in (ada, bob)]
    head = await bob.head(group_id)
    streams = [await socket.follow("GroupMessages", groupId=group_id, after=head) for socket in sockets]
    await world.send(bob, group_id, "last words")
    last = [await stream.event() for stream in streams]
    assert contents(last) == ["last words"] * 2
    await ada.run("DeleteGroup", input={"groupId": group_id})
    for stream in streams:
        end = {"code": "GROUP_DELETED", "retry": False, "cursor": last[0]["cursor"]}
        assert await ended(stream) == ([], end)
    for socket in sockets:
        await socket.ping()


async def test_the_deletion_of_a_group_ends_a_replay(world: World, server: Server) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    await fill(server, ada, group_id, 400)
    stream = await bob.messages(group_id, await start(bob, group_id))
    await stream.event()
    await ada.run("DeleteGroup", input={"groupId": group_id})
    assert (await ended(stream))[1]["code"] == "GROUP_DELETED"


# Refusals

NOT_MEMBERS = [
    ("never a member", "FORBIDDEN"), ("pending", "FORBIDDEN"), ("rejected", "FORBIDDEN"), ("removed", "FORBIDDEN"),
    ("nobody's id", "NOT_FOUND"), ("no id", "NOT_FOUND"), ("an empty id", "NOT_FOUND"), ("a user's id", "NOT_FOUND"),
    ("deleted", "GROUP_DELETED"), ("deleted, never a member", "NOT_FOUND"), ("not logged in", "UNAUTHENTICATED"),
]  # fmt: skip
WHO_MAY_NOT = pytest.mark.parametrize(("who", "code"), NOT_MEMBERS, ids=[who for who, _ in NOT_MEMBERS])


async def make(who: str, world: World, admin: Person, bob: Person, group_id: str) -> str:
    """Let bob be this to the group; the id that he asks with."""
    subject = {"groupId": group_id, "userId": bob.id}
    if who in ("pending", "rejected"):
        await admin.run("InviteMember", input=subject)
    if who == "rejected":
        await bob.run("AnswerInvitation", input={"groupId": group_id, "accept": False})
    if who in ("removed", "deleted"):
        await admin.run("AddMember", input=subject)
    if who == "removed":
        await admin.run("RemoveMember", input=subject)
    if who.startswith("deleted"):
        await admin.run("DeleteGroup", input={"groupId": group_id})
    if who == "nobody's id":
        return ids.encode(ids.GROUP, UUID(int=7))
    return {"no id": "nothing", "an empty id": "", "a user's id": bob.id}.get(who, group_id)


@WHO_MAY_NOT
async def test_who_is_no_member_is_refused_alike_whatever_the_cursor(world: World, who: str, code: str) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await world.send(ada, group_id, "not for bob")
    cursor = await start(ada, group_id)
    asked = await make(who, world, ada, bob, group_id)
    status = {"membershipStatus": {"pending": "PENDING", "rejected": "REJECTED"}.get(who)}
    refusal = {"code": code, "retry": False} | (status if code == "FORBIDDEN" else {})
    async with world.server.socket(None if who == "not logged in" else bob.token) as socket:
        for after in (None, cursor, "wrong"):
            stream = await socket.follow("GroupMessages", groupId=asked, after=after)
            (error,) = await stream.end()
            assert error["extensions"] == refusal
        if not who.startswith("deleted"):
            await world.send(ada, group_id, "not for bob either")
        await socket.ping()


@WHO_MAY_NOT
async def test_who_is_no_member_polls_nothing(world: World, who: str, code: str) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await world.send(ada, group_id, "not for bob")
    cursor = await start(ada, group_id)
    asked = await make(who, world, ada, bob, group_id)
    client = world.server.client() if who == "not logged in" else bob.client
    with refused(code) as failure:
        await client.run("GroupMessageEvents", id=asked, after=cursor)
    assert failure.value.data == {"group": None}


# What is left when a stream is over


async def test_streams_that_end_in_any_way_leave_nothing_behind(own_server: OwnServer) -> None:
    server = await own_server()
    process: Process = server.app.state.process
    async with World(server) as world:
        ada, bob, cyd = await world.users("ada", "bob", "cyd")
        group_id, outside = await world.group(ada, bob, cyd), await world.group(ada)
        async with server.socket(bob.token) as socket:
            head = await bob.head(group_id)
            completed = await socket.follow("GroupMessages", groupId=group_id, after=head)
            await socket.follow("GroupMessages", groupId=outside)
            await socket.follow("GroupMessages", groupId=group_id, after="wrong")
            await socket.follow("MyGroupEvents")
            open_until_the_end = await socket.follow("GroupMessages", groupId=group_id, after=head)
            ended_by_removal = await cyd.messages(group_id)
            await world.send(ada, group_id)
            await completed.event()
            await completed.complete()
            await open_until_the_end.event()
            await end_membership("being removed", ada, cyd, group_id)
            await ended(ended_by_removal)
            assert len(process.streams) > 0
    await eventually(lambda: len(process.streams) == 0)


async def test_an_unsubscribed_operation_gets_nothing_more_and_its_id_may_be_used_again(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    socket, head = await bob.socket(), await bob.head(group_id)
    stream = await socket.follow("GroupMessages", groupId=group_id, after=head)
    await world.send(ada, group_id, "one")
    one = await stream.event()
    await socket.send({"type": "complete", "id": stream.id})
    await socket.ping()
    await world.send(ada, group_id, "two")
    await stream.nothing()
    again = await socket.subscribe(
        operation("GroupMessages"), {"groupId": group_id, "after": one["cursor"]}, id=stream.id
    )
    assert contents(await read(again, 1)) == ["two"]
