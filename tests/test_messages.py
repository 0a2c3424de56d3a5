"""Messages: sending, what a message may say, repeats of one clientMessageId, and reading them back in every way."""

import asyncio
import itertools
import uuid
from typing import Any

import pytest
from sqlalchemy import func, select

from db.tables import metadata
from tests.harness import Json, Person, Stack, World, refused
from tests.sabotage import Bench, quiet_server

NUL, HALF = "a\x00b", "a\ud800b"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
ODD_TEXTS = [
    *(FAMILY, "👍🏽", "🇩🇪", "e\u0301 is not é", "\ufb01 is not fi", "a\u200bb", "\ufeffbom", "\U0010ffff\U00010000"),
    *("مرحبا بالعالم", "\u202eright to left\u202c", "\u2066isolated\u2069", "नमस्ते", "한국어 \u1112\u1161\u11ab"),
    *("  spaces around  ", "\ttab\r\nand\rlines\n", "a\u2028b\u2029c", "\x01\x1f\x7f\x85", "\u3000a"),
    *('"quoted" \\ and \\u0041 \\n', "<script>alert(1)</script>", "&amp; %00 {} $1 :id", "'; DROP TABLE messages; --"),
]


async def send(person: Person, group_id: str, content: str = "hello", **given: Any) -> Json:
    """The whole payload."""
    return await person.run("SendGroupMessage", input={"groupId": group_id, "content": content} | given)


async def send_by_socket(person: Person, group_id: str, **given: Any) -> Json:
    """On a socket, which carries every text that JSON can write, halves of surrogate pairs included."""
    socket = await person.socket()
    sent = {"groupId": group_id, "content": "hello"} | given
    return await (await socket.follow("SendGroupMessage", input=sent)).event()


async def history(person: Person, group_id: str) -> list[Json]:
    found = await person.run("GroupHistory", id=group_id)
    return [edge["node"] for edge in found["messages"]["edges"]]


async def polled(person: Person, group_id: str, after: str, first: int | None = None) -> Json:
    return (await person.run("GroupMessageEvents", id=group_id, after=after, first=first))["messageEvents"]


async def start_of(person: Person, group_id: str) -> str:
    return (await person.run("Group", id=group_id))["startCursor"]


def fresh_id() -> str:
    return uuid.uuid4().hex


# Sending


async def test_a_sent_message_is_answered_whole_and_is_there_for_every_member(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    events = await bob.messages(group_id)
    sent = await send(ada, group_id, "Hello, Bob", clientMessageId="mine-1")
    message = sent["message"]
    assert (message["content"], message["clientMessageId"], sent["replayed"]) == ("Hello, Bob", "mine-1", False)
    assert (message["sender"]["id"], message["version"]) == (ada.id, message["seq"])
    assert message["updatedAt"] == message["createdAt"]
    event = await events.event()
    assert event["message"] == message
    assert (event["kind"], event["seq"], event["actor"]["id"]) == ("SENT", message["seq"], ada.id)
    assert event["occurredAt"] == message["createdAt"]
    for member in (ada, bob):
        assert await history(member, group_id) == [message]
        assert (await member.run("Group", id=group_id))["lastMessage"] == message
        assert (await member.run("Node", id=message["id"]))["content"] == "Hello, Bob"


async def test_the_sender_hears_of_their_own_message_on_every_device(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    devices = [await ada.messages(group_id) for _ in range(2)]
    message = await world.send(ada, group_id, client_message_id="mine")
    assert [(await device.event())["message"] for device in devices] == [message, message]


async def test_the_edge_of_a_sent_message_is_its_place_in_the_history(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    payloads = [await send(ada, group_id, content) for content in ("one", "two", "three")]
    after = payloads[0]["messageEdge"]["cursor"]
    found = await ada.run("GroupHistory", id=group_id, first=10, after=after)
    edges = found["messages"]["edges"]
    assert [edge["node"] for edge in edges] == [payload["message"] for payload in payloads[1:]]
    assert [edge["cursor"] for edge in edges] == [payload["messageEdge"]["cursor"] for payload in payloads[1:]]


async def test_a_message_names_its_group_and_its_sender(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob, name="Go")
    document = """mutation ($input: SendGroupMessageInput!) {
      sendGroupMessage(input: $input) { message { group { id name memberCount } sender { username } } }
    }"""
    payload = await bob.client.execute(document, {"input": {"groupId": group_id, "content": "hello"}})
    assert payload["sendGroupMessage"]["message"] == {
        "group": {"id": group_id, "name": "Go", "memberCount": 2},
        "sender": {"username": bob.username},
    }


async def test_seqs_rise_with_gaps_where_other_events_stand(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    first = await world.send(ada, group_id)
    await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
    second, third = await world.send(bob, group_id), await world.send(ada, group_id)
    assert [first["seq"], second["seq"], third["seq"]] == [2, 4, 5]


async def test_messages_sent_at_once_get_one_order_that_everybody_sees(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    events = await bob.messages(group_id)
    sent = await asyncio.gather(*(world.send(person, group_id, str(n)) for n in range(10) for person in (ada, bob)))
    ordered = sorted(sent, key=lambda message: message["seq"])
    assert await history(ada, group_id) == await history(bob, group_id) == ordered
    assert [(await events.event())["message"] for _ in sent] == ordered
    assert len({message["seq"] for message in sent}) == len(sent)


# What a message may say


async def test_every_text_comes_back_byte_for_byte_in_every_way_of_reading(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    events, start = await bob.messages(group_id), await start_of(bob, group_id)
    for odd in ODD_TEXTS:
        sent = await send(ada, group_id, odd, clientMessageId=odd)
        assert (sent["message"]["content"], sent["message"]["clientMessageId"]) == (odd, odd)
        assert (await bob.run("Node", id=sent["message"]["id"]))["content"] == odd
    assert [(await events.event())["message"]["content"] for _ in ODD_TEXTS] == ODD_TEXTS
    assert [message["content"] for message in await history(bob, group_id)] == ODD_TEXTS
    page = await polled(bob, group_id, start)
    assert [event["message"]["content"] for event in page["events"]] == ODD_TEXTS
    assert [event["message"]["clientMessageId"] for event in page["events"]] == ODD_TEXTS


@pytest.mark.parametrize("content", ["x", "x" * 4_000, "🧑" * 4_000, FAMILY * 571, "\u200b", " " * 3_999 + "x", "0"])
async def test_content_of_1_to_4000_code_points_is_taken(world: World, content: str) -> None:
    ada = await world.user()
    assert (await world.send(ada, await world.group(ada), content))["content"] == content


async def test_other_content_is_refused_and_takes_no_number(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    for content in ("", " ", "\n\t\r ", "\u3000\u2003\u00a0", "x" * 4_001, "🧑" * 4_001, NUL, HALF, "\udfff\ud83e"):
        with refused("BAD_USER_INPUT") as refusal:
            await send_by_socket(ada, group_id, content=content)
        assert refusal.value.extensions["field"] == "content"
    assert (await world.send(ada, group_id))["seq"] == 2


async def test_a_client_message_id_has_1_to_64_code_points(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    for client_id in ("x", "🧑" * 64, " ", FAMILY):
        assert (await send(ada, group_id, clientMessageId=client_id))["message"]["clientMessageId"] == client_id
    for client_id in ("", "x" * 65, "🧑" * 65, NUL, HALF):
        with refused("BAD_USER_INPUT") as refusal:
            await send_by_socket(ada, group_id, clientMessageId=client_id)
        assert refusal.value.extensions["field"] == "clientMessageId"
    assert len(await history(ada, group_id)) == 4


# Repeats of one clientMessageId


async def test_a_repeat_gives_the_same_message_and_makes_no_event(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    events = await bob.messages(group_id)
    first = await send(ada, group_id, "hello", clientMessageId="mine")
    head = await ada.head(group_id)
    for _ in range(3):
        again = await send(ada, group_id, "hello", clientMessageId="mine")
        assert again == first | {"replayed": True}
    assert await ada.head(group_id) == head
    assert await history(ada, group_id) == [first["message"]]
    last = await world.send(ada, group_id, "last")
    assert [(await events.event())["message"] for _ in range(2)] == [first["message"], last]


async def test_racing_repeats_give_one_message(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    payloads = await asyncio.gather(*(send(ada, group_id, "hello", clientMessageId="mine") for _ in range(10)))
    assert len({payload["message"]["id"] for payload in payloads}) == 1
    assert sorted(payload["replayed"] for payload in payloads) == [False] + [True] * 9
    assert len(await history(ada, group_id)) == 1


async def test_without_a_client_message_id_every_send_is_a_message(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    ways: list[Json] = [{}, {}, {"clientMessageId": None}, {"clientMessageId": None}]
    payloads = [await send(ada, group_id, **given) for given in ways]
    assert not any(payload["replayed"] for payload in payloads)
    assert await history(ada, group_id) == [payload["message"] for payload in payloads]


async def test_the_same_id_with_other_content_or_in_another_group_is_a_conflict(world: World) -> None:
    ada = await world.user()
    group_id, other = await world.group(ada), await world.group(ada)
    first = await send(ada, group_id, "hello", clientMessageId="mine")
    heads = [await ada.head(each) for each in (group_id, other)]
    for where, content in (
        (group_id, "hello!"),
        (group_id, "Hello"),
        (group_id, "hello "),
        (other, "hello"),
        (other, "hi"),
    ):
        with refused("CONFLICT"):
            await send(ada, where, content, clientMessageId="mine")
    assert [await ada.head(each) for each in (group_id, other)] == heads
    assert await history(ada, group_id) == [first["message"]]


async def test_racing_uses_of_one_id_in_two_groups_give_one_message(world: World) -> None:
    ada = await world.user()
    groups = [await world.group(ada) for _ in range(2)]
    tries = (send(ada, group_id, "hello", clientMessageId="mine") for group_id in groups * 3)
    done = await asyncio.gather(*tries, return_exceptions=True)
    first = {each["message"]["id"] for each in done if not isinstance(each, BaseException)}
    assert len(first) == 1
    kept = [message["id"] for group_id in groups for message in await history(ada, group_id)]
    assert kept == list(first)


async def test_the_same_id_of_another_user_is_another_message(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    payloads = [await send(person, group_id, "hello", clientMessageId="same") for person in (ada, bob)]
    assert [payload["replayed"] for payload in payloads] == [False, False]
    assert len(await history(ada, group_id)) == 2


async def test_membership_is_judged_before_a_repeat(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    first = await send(bob, group_id, "hello", clientMessageId="mine")
    await ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
    for content in ("hello", "other"):
        with refused("FORBIDDEN"):
            await send(bob, group_id, content, clientMessageId="mine")
    await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
    assert await send(bob, group_id, "hello", clientMessageId="mine") == first | {"replayed": True}


async def test_a_refused_send_does_not_use_its_id_up(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    with refused("FORBIDDEN"):
        await send(bob, group_id, "hello", clientMessageId="mine")
    with refused("BAD_USER_INPUT"):
        await send(ada, group_id, " ", clientMessageId="mine")
    await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
    for person in (ada, bob):
        assert not (await send(person, group_id, "hello again", clientMessageId="mine"))["replayed"]


# Polling: the same events with the same cursors


async def test_polling_gives_the_same_events_and_cursors_as_the_stream(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    start = await start_of(bob, group_id)
    live = await bob.messages(group_id, after=start)
    for number in range(5):
        await world.send(ada, group_id, str(number))
    followed = [await live.event() for _ in range(5)]
    page = await polled(bob, group_id, start)
    assert page["events"] == followed
    assert (page["hasMore"], page["cursor"]) == (False, await bob.head(group_id))
    for position, event in enumerate(followed):
        resumed = await bob.messages(group_id, after=event["cursor"])
        rest = followed[position + 1 :]
        assert (await polled(bob, group_id, event["cursor"]))["events"] == rest
        assert [await resumed.event() for _ in rest] == rest


async def test_polling_page_by_page_misses_nothing_while_people_write(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    for number in range(5):
        await world.send(ada, group_id, str(number))
    cursor, seen = await start_of(bob, group_id), list[str]()
    for number in itertools.count(5):
        page = await polled(bob, group_id, cursor, first=2)
        assert len(page["events"]) <= 2
        seen += [event["message"]["content"] for event in page["events"]]
        cursor = page["cursor"]
        if not page["hasMore"]:
            break
        if number < 8:
            await world.send(ada, group_id, str(number))
            await ada.run("UpdateGroup", input={"groupId": group_id, "description": str(number)})
    assert seen == [str(number) for number in range(8)]
    assert await polled(bob, group_id, cursor) == {"events": [], "cursor": cursor, "hasMore": False}


async def test_polling_passes_by_what_is_no_message(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    start, before = await start_of(bob, group_id), await bob.head(group_id)
    assert await polled(bob, group_id, start) == {"events": [], "cursor": before, "hasMore": False}
    await ada.run("UpdateGroup", input={"groupId": group_id, "name": "Go"})
    page = await polled(bob, group_id, before)
    assert page["events"] == []
    assert page["cursor"] == await bob.head(group_id) != before


@pytest.mark.parametrize("first", [0, -1, 101])
async def test_a_page_of_events_has_1_to_100(world: World, first: int) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    with refused("BAD_USER_INPUT"):
        await polled(ada, group_id, await start_of(ada, group_id), first=first)


async def test_a_stream_position_is_good_in_its_own_log_only(world: World) -> None:
    ada = await world.user()
    group_id, other = await world.group(ada), await world.group(ada)
    sent = await send(ada, group_id)
    await send(ada, other)
    head = await ada.head(group_id)
    changed = [
        head[:-2] + ("A" if head[-2] != "A" else "B") + head[-1],
        head[:-4],
        head + "=",
        head + "A",
        head.lower(),
    ]
    others = [await ada.head(other), await start_of(ada, other), sent["messageEdge"]["cursor"]]
    socket = await ada.socket()
    for cursor in (*changed, *others, "", "nonsense", "ö", group_id, "A" * 5_000):
        with refused("CURSOR_INVALID"):
            await polled(ada, group_id, cursor)
        with refused("CURSOR_INVALID"):
            await (await socket.follow("GroupMessages", groupId=group_id, after=cursor)).event()
    assert (await polled(ada, group_id, head))["events"] == []


# What it costs


async def rows(bench: Bench) -> int:
    """How many there are in all tables."""
    async with bench.process.database.read() as transaction:
        counts = [select(func.count()).select_from(table) for table in metadata.sorted_tables]
        return sum([(await transaction.execute(count)).scalar_one() for count in counts])


async def costs(bench: Bench, admin: Person, group_id: str) -> list[tuple[int, int]]:
    """Of all that can be done with messages: how many rows it adds, and how many statements it takes."""
    sent = (await send(admin, group_id))["message"]
    of_message = {"messageId": sent["id"]}
    acts: list[tuple[str, Json]] = [
        ("SendGroupMessage", {"groupId": group_id, "content": "hello", "clientMessageId": fresh_id()}),
        ("SendGroupMessage", {"groupId": group_id, "content": f"@all @{admin.username}"}),
        ("SendGroupMessage", {"groupId": group_id, "content": "hello", "replyToId": sent["id"]}),
        ("EditMessage", of_message | {"content": "hello, @all"}),
        ("AddReaction", of_message | {"emoji": "tada"}),
        ("RemoveReaction", of_message | {"emoji": "tada"}),
        ("MarkGroupRead", {"groupId": group_id, "upTo": sent["seq"]}),
        ("DeleteMessage", of_message),
    ]
    found = list[tuple[int, int]]()
    for name, given in acts:
        before = await rows(bench)
        with bench.statements.recorded() as statements:
            await admin.run(name, input=given)
        found.append((await rows(bench) - before, len(statements)))
    return found


async def test_what_happens_to_a_message_costs_the_same_however_many_members_there_are(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        people = await bench.world.users(*["ada"] * 30)
        groups = [await bench.world.group(*people[:count]) for count in (2, 30)]
        few, many = [await costs(bench, people[0], group_id) for group_id in groups]
        assert few == many
        assert few[0][0] == 3, "the message, its event and its id"
