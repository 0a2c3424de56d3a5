"""Threads: what a reply is, what everybody sees of a thread on every way of reading, and that its counts are exact."""

import asyncio
import hashlib
import random
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import insert, text, update
from uuid_utils.compat import uuid7

from db import messages, tables
from db.engine import Transaction, utc_now
from db.history import around
from db.pages import Keys
from schema import ids
from tests.harness import Json, Person, Stack, World, eventually, refused
from tests.inside import cohorts
from tests.reading import ended, read, start
from tests.sabotage import Bench, quiet_server
from tests.standings import NO_MEMBERS, Standing, scene_for

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

COUNTED = "thread { replyCount lastReply { id seq version content deletedAt } }"
PARTS = f"fragment Parts on Message {{ id seq version content deletedAt threadRoot {{ id }} {COUNTED} }}"
SEND = f"""mutation ($input: SendGroupMessageInput!) {{ sendGroupMessage(input: $input) {{
  replayed message {{ ...Parts threadRoot {{ id version {COUNTED} }} }} }} }} {PARTS}"""
MESSAGE = f"query ($id: ID!) {{ message(id: $id) {{ ...Parts }} }} {PARTS}"
PAGE = f"""query ($id: ID!, $replies: Boolean, $around: MessagesAround) {{ group(id: $id) {{ headCursor
  messages(first: 100, replies: $replies, around: $around) {{ nodes {{ ...Parts }} }} }} }} {PARTS}"""
REPLIES = """query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) { message(id: $id) { thread {
  replies(first: $first, after: $after, last: $last, before: $before) {
    edges { cursor } nodes { id deletedAt } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    headCursor } } } }"""
FOLLOW = f"""subscription ($groupId: ID!, $after: String, $filter: MessageEventFilter) {{
  groupMessages(groupId: $groupId, after: $after, filter: $filter) {{
    cursor seq kind message {{ ...Parts threadRoot {{ ...Root }} }} }} }}
fragment Root on Message {{ id seq version content deletedAt threadRoot {{ id }} {COUNTED} }} {PARTS}"""


async def reply(person: Person, group_id: str, to: Json, content: str = "a reply", **more: Any) -> Json:
    """The reply as the payload shows it."""
    given = {"groupId": group_id, "content": content, "replyToId": to["id"], **more}
    return (await person.client.execute(SEND, {"input": given}))["sendGroupMessage"]["message"]


async def shown(person: Person, message: Json) -> Json:
    return (await person.client.execute(MESSAGE, {"id": message["id"]}))["message"]


async def thread(person: Person, root: Json) -> Json:
    return (await shown(person, root))["thread"]


async def history(person: Person, group_id: str, **given: Any) -> list[Json]:
    return (await person.client.execute(PAGE, {"id": group_id} | given))["group"]["messages"]["nodes"]


async def replies(person: Person, root: Json, **given: Any) -> Json:
    return (await person.client.execute(REPLIES, {"id": root["id"]} | given))["message"]["thread"]["replies"]


async def delete(person: Person, message: Json) -> None:
    await person.run("DeleteMessage", input={"messageId": message["id"]})


def named(messages: Sequence[Json]) -> list[str]:
    return [message["id"] for message in messages]


# What a reply is


async def test_a_reply_makes_a_thread_of_the_message_that_it_replies_to(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    root, plain = await world.send(ada, group_id), await world.send(ada, group_id)
    first = await reply(bob, group_id, root, "one")
    assert first["threadRoot"]["id"] == root["id"]
    assert (first["thread"], first["threadRoot"]["version"]) == (None, first["seq"])
    last = await reply(ada, group_id, root, "two")
    assert await thread(bob, root) == {
        "replyCount": 2,
        "lastReply": {
            "id": last["id"],
            "seq": last["seq"],
            "version": last["seq"],
            "content": "two",
            "deletedAt": None,
        },
    }
    found = await shown(bob, plain)
    assert (found["thread"], found["threadRoot"]) == (None, None)


async def test_a_reply_to_a_reply_is_one_in_the_same_thread(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    root = await world.send(ada, group_id)
    first = await reply(bob, group_id, root)
    second = await reply(ada, group_id, first)
    assert second["threadRoot"]["id"] == root["id"]
    assert (await thread(bob, root))["replyCount"] == 2
    assert await thread(bob, first) is None
    assert named((await replies(bob, root))["nodes"]) == [first["id"], second["id"]]


async def test_replies_are_messages_of_the_group_and_a_client_may_ask_for_the_others_alone(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    sent = [await world.send(ada, group_id, f"{number}") for number in range(3)]
    answered = [await reply(bob, group_id, each) for each in (sent[0], sent[1], sent[0])]
    sent.append(await world.send(bob, group_id, "last"))
    assert named(await history(bob, group_id)) == named([*sent[:3], *answered, sent[3]])
    assert named(await history(bob, group_id, replies=False)) == named(sent)
    around = {"messageId": answered[1]["id"]}
    assert named(await history(bob, group_id, around=around, replies=False)) == named(sent)
    document = PAGE.replace("first: 100,", "last: 2,")
    page = (await bob.client.execute(document, {"id": group_id, "replies": False}))["group"]["messages"]
    assert named(page["nodes"]) == named(sent[2:])


async def test_what_cannot_be_replied_to_is_not_found_and_takes_no_number(world: World) -> None:
    ada = await world.user()
    group_id, other = [await world.group(ada) for _ in range(2)]
    elsewhere = await world.send(ada, other)
    before = await ada.head(group_id)
    unknown = ids.encode(ids.MESSAGE, ids.group(group_id))
    for message_id in (elsewhere["id"], unknown, group_id, ada.id, "nonsense", ""):
        with refused("NOT_FOUND"):
            await reply(ada, group_id, {"id": message_id})
    assert await ada.head(group_id) == before
    assert await thread(ada, elsewhere) is None


@pytest.mark.parametrize("standing", NO_MEMBERS, ids=lambda standing: standing.name)
async def test_who_is_not_a_member_replies_to_nothing_and_sees_no_thread(world: World, standing: Standing) -> None:
    scene = await scene_for(world, standing)
    root = await world.send(scene.admin, scene.group_id)
    await reply(scene.member, scene.group_id, root)
    unknown = {"id": ids.encode(ids.MESSAGE, ids.group(scene.group_id))}
    answers: list[list[Json]] = []
    for message in (root, unknown):
        with refused("FORBIDDEN") as refusal:
            await reply(scene.actor, scene.group_id, message)
        answers.append(refusal.value.errors)
    assert answers[0] == answers[1], "a refusal does not tell whether there is such a message"
    with refused("FORBIDDEN"):
        await shown(scene.actor, root)
    assert (await thread(scene.admin, root))["replyCount"] == 1


# Deleting


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
async def test_a_deleted_reply_does_not_count_and_keeps_its_place(world: World, order: Sequence[int]) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    root = await world.send(ada, group_id)
    sent = [await reply(bob, group_id, root, f"{number}") for number in range(3)]
    left = [*sent]
    for gone in (sent[number] for number in order):
        left.remove(gone)
        await delete(bob, gone)
        found = await shown(ada, root)
        assert found["thread"]["replyCount"] == len(left)
        last = found["thread"]["lastReply"]
        assert (last and last["id"]) == (left[-1]["id"] if left else None)
        assert found["version"] == (await shown(ada, gone))["version"]
        await delete(bob, gone)
        assert await shown(ada, root) == found, "deleting twice counts once"
    nodes = (await replies(ada, root))["nodes"]
    assert named(nodes) == named(sent)
    assert all(node["deletedAt"] for node in nodes)


async def test_a_thread_outlives_its_deleted_root_and_none_begins_with_a_deleted_message(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    root, alone = [await world.send(ada, group_id) for _ in range(2)]
    answered = await reply(bob, group_id, root)
    for message in (root, alone):
        await delete(ada, message)
    await reply(bob, group_id, root)
    await reply(bob, group_id, answered)
    found = await shown(bob, root)
    assert (found["content"], found["thread"]["replyCount"]) == ("", 3)
    with refused("CONFLICT"):
        await reply(bob, group_id, alone)
    await delete(bob, answered)
    assert (await reply(bob, group_id, answered))["threadRoot"]["id"] == root["id"], "a deleted reply is in a thread"


# Repeats and races


async def test_a_repeated_reply_is_one_and_another_target_is_a_conflict(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    root, other = [await world.send(ada, group_id) for _ in range(2)]
    given = {"content": "same", "clientMessageId": "an-id"}
    first = await reply(bob, group_id, root, **given)
    repeats = await asyncio.gather(*(reply(bob, group_id, root, **given) for _ in range(5)))
    assert {each["id"] for each in repeats} == {first["id"]}
    for target in (other, first):
        with refused("CONFLICT"):
            await reply(bob, group_id, target, **given)
    with refused("CONFLICT"):
        await world.send(bob, group_id, "same", "an-id")
    assert (await thread(bob, root))["replyCount"] == 1
    await world.send(bob, group_id, "plain", "another-id")
    with refused("CONFLICT"):
        await reply(bob, group_id, root, content="plain", clientMessageId="another-id")
    await delete(bob, first)
    assert (await reply(bob, group_id, root, **given))["deletedAt"], "the id stands for it, also once it is deleted"
    assert (await thread(bob, root))["replyCount"] == 0


async def test_ids_that_were_kept_before_there_were_replies_stay_good(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        ada = await bench.world.user()
        group_id = await bench.world.group(ada)
        sent = await bench.world.send(ada, group_id, "grüße", "an-id")
        digest = hashlib.sha256(ids.group(group_id).bytes + "grüße".encode()).digest()
        change = update(tables.sent_ids).where(tables.sent_ids.c.client_message_id == "an-id").values(digest=digest)

        async def work(transaction: Any) -> None:
            await transaction.execute(change)

        await bench.process.database.write(work)
        for more in ({}, {"replyToId": None}):
            given = {"groupId": group_id, "content": "grüße", "clientMessageId": "an-id", **more}
            again = (await ada.client.execute(SEND, {"input": given}))["sendGroupMessage"]
            assert (again["replayed"], again["message"]["id"]) == (True, sent["id"])


async def test_counts_are_exact_whatever_is_sent_and_deleted_at_once(world: World) -> None:
    people = await world.users("ada", "bob", "cyd", "dan")
    group_id = await world.group(*people)
    roots = [await world.send(people[0], group_id, f"{number}") for number in range(2)]
    stream = await (await people[0].socket()).subscribe(
        FOLLOW, {"groupId": group_id, "after": await people[0].head(group_id)}
    )
    chance = random.Random(1)

    async def talk(person: Person, wanted: Sequence[tuple[Json, bool]]) -> list[Json]:
        kept = list[Json]()
        for root, stays in wanted:
            sent = await reply(person, group_id, root)
            if stays:
                kept.append(sent)
            else:
                await delete(person, sent)
        return kept

    wanted = [[(chance.choice(roots), chance.random() < 0.5) for _ in range(12)] for _ in people]
    kept = [each for sent in await asyncio.gather(*map(talk, people, wanted)) for each in sent]
    events = await read(stream, sum(2 - stays for each in wanted for _, stays in each))
    for root in roots:
        mine = sorted((each for each in kept if each["threadRoot"]["id"] == root["id"]), key=lambda each: each["seq"])
        found = await shown(people[0], root)
        assert found["thread"]["replyCount"] == len(mine)
        assert found["thread"]["lastReply"]["id"] == mine[-1]["id"]
        last = [event for event in events if event["message"]["threadRoot"]["id"] == root["id"]][-1]
        assert last["message"]["threadRoot"] == found | {"threadRoot": None}


# In events


async def test_each_event_of_a_reply_shows_the_thread_no_older_than_itself(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    head = await ada.head(group_id)
    stream = await (await bob.socket()).subscribe(FOLLOW, {"groupId": group_id, "after": head})
    root = await world.send(ada, group_id)
    sent = [await reply(ada, group_id, root, f"{number}") for number in range(2)]
    await delete(ada, sent[1])
    counts = list[int]()
    first, *events = await read(stream, 4)
    assert (first["message"]["threadRoot"], first["message"]["id"]) == (None, root["id"])
    for event in events:
        shown_root = event["message"]["threadRoot"]
        assert shown_root["id"] == root["id"]
        assert shown_root["version"] >= event["seq"]
        counts.append(shown_root["thread"]["replyCount"])
    assert counts[-1] == 1
    again = await (await bob.socket()).subscribe(FOLLOW, {"groupId": group_id, "after": head})
    assert [each["message"]["threadRoot"] for each in await read(again, 4)][1:] == [
        events[-1]["message"]["threadRoot"]
    ] * 3


async def test_who_resumes_and_who_loads_afresh_end_with_the_same_threads(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    sent = [await world.send(ada, group_id, f"{number}") for number in range(3)]
    page = (await bob.client.execute(PAGE, {"id": group_id}))["group"]
    kept = {message["id"]: message for message in page["messages"]["nodes"]}
    cursor = page["headCursor"]

    def take(message: Json) -> None:
        if message["version"] >= kept.get(message["id"], message)["version"]:
            kept[message["id"]] = message

    for number in range(3):
        answers = [await reply(person, group_id, root) for person in (ada, cyd) for root in sent]
        await delete(ada, answers[number])
        await delete(ada, sent[number])
        stream = await (await bob.socket()).subscribe(FOLLOW, {"groupId": group_id, "after": cursor})
        for event in await read(stream, 8):
            cursor, message = event["cursor"], event["message"]
            if root := message["threadRoot"]:
                take(root)
            take(message | {"threadRoot": root and {"id": root["id"]}})
    found = {message["id"]: message for message in await history(bob, group_id)}
    last_replies = {each["thread"]["lastReply"]["id"] for each in found.values() if each["thread"]}
    assert last_replies <= set(kept)
    assert kept == found


async def test_whoever_shares_an_execution_is_shown_the_threads(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    given = {"groupId": group_id, "after": await ada.head(group_id)}
    streams = [await (await person.socket()).subscribe(FOLLOW, given) for person in (bob, cyd)]
    await eventually(lambda: cohorts(world.server) == [2])
    root = await world.send(ada, group_id)
    await reply(bob, group_id, root)
    for stream in streams:
        assert (await read(stream, 2))[1]["message"]["threadRoot"]["thread"]["replyCount"] == 1


async def test_after_a_removal_no_event_shows_a_thread(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    root = await world.send(ada, group_id)
    given = {"groupId": group_id, "after": await ada.head(group_id)}
    stream = await (await bob.socket()).subscribe(FOLLOW, given)
    await reply(ada, group_id, root)
    await ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
    await reply(cyd, group_id, root, "a secret")
    events, end = await ended(stream)
    assert end["code"] == "MEMBERSHIP_ENDED"
    assert "a secret" not in str(events)


async def test_a_thread_is_a_filter_of_the_stream(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    after = await start(ada, group_id)
    root, other = [await world.send(ada, group_id) for _ in range(2)]
    only = {"groupId": group_id, "filter": {"thread": root["id"]}}
    stream = await (await bob.socket()).subscribe(FOLLOW, {"after": after, **only})
    answered = await reply(bob, group_id, root)
    await reply(bob, group_id, other)
    await bob.run("EditMessage", input={"messageId": answered["id"], "content": "edited"})
    await ada.run("AddReaction", input={"messageId": answered["id"], "emoji": "tada"})
    await ada.run("AddReaction", input={"messageId": other["id"], "emoji": "tada"})
    await delete(bob, answered)
    await ada.run("AddReaction", input={"messageId": root["id"], "emoji": "tada"})
    wanted = (
        [(root, "SENT")] + [(answered, kind) for kind in ("SENT", "EDITED", "REACTED", "DELETED")] + [(root, "REACTED")]
    )
    for each in (stream, await (await ada.socket()).subscribe(FOLLOW, {"after": after, **only})):
        events = await read(each, len(wanted))
        assert [(event["message"]["id"], event["kind"]) for event in events] == [
            (of["id"], kind) for of, kind in wanted
        ]
        await each.nothing()


# Pages


async def test_replies_are_paged_in_both_directions(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    root, other = [await world.send(ada, group_id) for _ in range(2)]
    sent = [await reply(ada, group_id, root, f"{number}") for number in range(5)]
    await reply(ada, group_id, other)
    whole = await replies(ada, root)
    assert (named(whole["nodes"]), whole["headCursor"]) == (named(sent), await ada.head(group_id))
    newest = await replies(ada, root, last=2)
    assert (named(newest["nodes"]), newest["pageInfo"]["hasPreviousPage"]) == (named(sent[3:]), True)
    before = await replies(ada, root, last=2, before=newest["pageInfo"]["startCursor"])
    assert named(before["nodes"]) == named(sent[1:3])
    first = await replies(ada, root, first=3)
    assert (named(first["nodes"]), first["pageInfo"]["hasNextPage"]) == (named(sent[:3]), True)
    after = await replies(ada, root, first=3, after=first["pageInfo"]["endCursor"])
    assert (named(after["nodes"]), after["pageInfo"]["hasNextPage"]) == (named(sent[3:]), False)
    of_other = (await replies(ada, other))["pageInfo"]["endCursor"]
    in_group = (await ada.run("GroupHistory", id=group_id))["messages"]["pageInfo"]["startCursor"]
    for cursor in (of_other, in_group, whole["headCursor"], "nonsense"):
        with refused("CURSOR_INVALID"):
            await replies(ada, root, after=cursor)
    for size in (0, 101):
        with refused("BAD_USER_INPUT"):
            await replies(ada, root, first=size)


# What it costs


async def test_the_threads_of_a_page_take_as_many_statements_as_one(stack: Stack) -> None:
    document = PAGE.replace(PARTS, PARTS.replace("replyCount", "replyCount replies(last: 2) { nodes { id } }"))
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        ada = await bench.world.user()
        costs = list[int]()
        for count in (1, 12):
            group_id = await bench.world.group(ada)
            roots = [await bench.world.send(ada, group_id, f"{number}") for number in range(count)]
            for root in roots:
                for _ in range(3):
                    await reply(ada, group_id, root)
            with bench.statements.recorded() as statements:
                nodes = (await ada.client.execute(document, {"id": group_id}))["group"]["messages"]["nodes"]
            assert [len(each["thread"]["replies"]["nodes"]) for each in nodes if each["thread"]] == [2] * count
            costs.append(len(statements))
        assert costs[0] == costs[1]


async def test_what_is_no_reply_is_sent_and_shown_without_a_statement_about_threads(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        ada = await bench.world.user()
        group_id = await bench.world.group(ada)
        await reply(ada, group_id, await bench.world.send(ada, group_id))
        given = {"groupId": group_id, "after": await ada.head(group_id)}
        stream = await (await ada.socket()).subscribe(FOLLOW, given)
        with bench.statements.recorded() as statements:
            sent = await bench.world.send(ada, group_id, "plain", "an-id")
            event = await stream.event()
        assert (event["message"]["id"], event["message"]["thread"]) == (sent["id"], None)
        assert statements
        for _, statement in statements:
            assert "thread" not in statement.replace("messages.thread_root_id", "").replace(
                "thread_root_id, mentions)", ""
            )


MANY = 2_000
SHAPES = [(None, None, True), (None, None, False), (1_500, None, False), (None, 1_500, True), (1_000, 1_500, False)]


class Explained:
    """A transaction that has the database say, before each statement, by which way it will read."""

    def __init__(self, transaction: Transaction, plans: list[str]) -> None:
        self._transaction, self._plans = transaction, plans

    async def execute(self, statement: Any) -> Any:
        dialect = vars(self._transaction)["connection"].dialect
        words = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN QUERY PLAN" if dialect.name == "sqlite" else "EXPLAIN"
        rows = await self._transaction.execute(text(f"{explain} {words}"))
        self._plans.append("\n".join(str(row[-1]) for row in rows))
        return await self._transaction.execute(statement)


async def fill(bench: Bench, group_id: str, sender: Person, root: Json) -> None:
    """Replies in a row, past the use case: a send each costs 10 ms."""
    same = {
        "group_id": ids.group(group_id), "sender_id": ids.user(sender.id), "content": "a reply",
        "thread_root_id": ids.message(root["id"]), "created_at": utc_now(), "updated_at": utc_now(),
    }  # fmt: skip
    rows = [{"id": uuid7(), "seq": seq, "version": seq, **same} for seq in range(10, MANY)]

    async def work(transaction: Transaction) -> None:
        await transaction.execute(insert(tables.messages), rows)

    await bench.process.database.write(work)


async def test_a_page_without_replies_steps_over_none_of_them(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        ada = await bench.world.user()
        group_id = await bench.world.group(ada)
        sent = [await bench.world.send(ada, group_id) for _ in range(3)]
        await fill(bench, group_id, ada, sent[0])
        group, plans = ids.group(group_id), list[str]()
        async with bench.process.database.read() as transaction:
            explained: Any = Explained(transaction, plans)
            for shape in SHAPES:
                await messages.pages_without_replies(explained, [group], Keys(shape[0], shape[1], 51, shape[2]))
            await around(explained, {group: 1_000}, 51, replies=False)
        assert len(plans) == len(SHAPES) + 1
        for plan in plans:
            assert plan.count("ix_messages_no_reply") == (2 if plan is plans[-1] else 1), plan
        assert named(await history(ada, group_id, replies=False)) == named(sent)
