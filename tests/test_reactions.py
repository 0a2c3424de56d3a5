"""Reactions: what may be one, who may, what everybody sees of them, and that their counts are exact."""

import asyncio
import random

import pytest
from sqlalchemy import select

from db import tables
from resolvers.reactions import MOST_EMOJI
from schema import ids
from tests.harness import Json, Person, Stack, World, eventually, refused
from tests.inside import cohorts
from tests.reading import ended, polled, read, whole_log
from tests.sabotage import Bench, code_of, quiet_server

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

COUNTS = "fragment Counts on Message { id seq version content reactions { emoji count } }"
OWN = "fragment Counts on Message { id version reactions { emoji count viewerHasReacted } }"
USERS = "users(first: 2) { nodes { username } }"
PAGE = (
    f"query ($id: ID!) {{ group(id: $id) {{ headCursor messages(last: 100) {{ nodes {{ ...Counts }} }} }} }} {COUNTS}"
)
FOLLOW = f"""subscription ($groupId: ID!, $after: String) {{ groupMessages(groupId: $groupId, after: $after) {{
    cursor kind seq message {{ ...Counts }} }} }} {COUNTS}"""
FOLLOW_OWN = FOLLOW.replace(COUNTS, OWN)
FOLLOW_USERS = FOLLOW.replace("emoji count }", f"emoji count {USERS} }}")
WHO = """query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) { node(id: $id) { ... on Message {
    reactions { emoji users(first: $first, after: $after, last: $last, before: $before) {
        edges { cursor node { username } } nodes { username }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } } } }"""
ADD = "mutation ($input: AddReactionInput!) { addReaction(input: $input) { message { id } } }"
REMOVE = "mutation ($input: RemoveReactionInput!) { removeReaction(input: $input) { message { id } } }"
THUMB, HEART, FAMILY, ENGLAND = "👍", "❤️", "👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"


async def add(person: Person, message: Json, emoji: str = THUMB) -> Json:
    given = {"messageId": message["id"], "emoji": emoji}
    return (await person.run("AddReaction", input=given))["message"]


async def remove(person: Person, message: Json, emoji: str = THUMB) -> Json:
    given = {"messageId": message["id"], "emoji": emoji}
    return (await person.run("RemoveReaction", input=given))["message"]


async def shown(person: Person, message: Json) -> list[tuple[str, int, bool, list[str]]]:
    """The reactions with the names of who they are of."""
    found = (await person.run("MessageReactions", id=message["id"]))["reactions"]
    return [
        (
            each["emoji"],
            each["count"],
            each["viewerHasReacted"],
            [user["username"] for user in each["users"]["nodes"]],
        )
        for each in found
    ]


async def history(person: Person, group_id: str) -> list[Json]:
    return (await person.client.execute(PAGE, {"id": group_id}))["group"]["messages"]["nodes"]


async def kinds(person: Person, group_id: str) -> list[str]:
    return [event["kind"] for event in await whole_log(person, group_id)]


# What everybody sees


async def test_a_reaction_is_seen_in_every_way_of_reading(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    sent = await world.send(ada, group_id)
    stream, before = await ada.messages(group_id), await ada.head(group_id)
    reacted = await add(bob, sent)
    assert reacted["version"] == sent["seq"] + 1
    assert reacted["updatedAt"] > sent["updatedAt"]
    assert reacted["reactions"] == [{"emoji": THUMB, "count": 1, "viewerHasReacted": True}]
    event = await stream.event()
    assert (event["kind"], event["seq"], event["actor"]["id"]) == ("REACTED", reacted["version"], bob.id)
    assert event["message"] == sent | {"version": reacted["version"], "updatedAt": reacted["updatedAt"]}
    assert (await polled(ada, group_id, before))["events"] == [event]
    assert [message["reactions"] for message in await history(ada, group_id)] == [[{"emoji": THUMB, "count": 1}]]
    assert await shown(ada, sent) == [(THUMB, 1, False, [bob.username])]
    assert await shown(bob, sent) == [(THUMB, 1, True, [bob.username])]
    taken_back = await remove(bob, sent)
    assert (taken_back["version"], taken_back["reactions"]) == (sent["seq"] + 2, [])
    assert (await stream.event())["kind"] == "REACTED"
    assert await shown(ada, sent) == []


async def test_reactions_stand_in_the_order_of_their_first_and_people_in_that_of_reacting(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    sent = await world.send(ada, group_id)
    for person, emoji in ((cyd, "z"), (bob, "a"), (ada, "z"), (ada, "a"), (bob, HEART)):
        await add(person, sent, emoji)
    assert await shown(bob, sent) == [
        ("z", 2, False, [cyd.username, ada.username]),
        ("a", 2, True, [bob.username, ada.username]),
        (HEART, 1, True, [bob.username]),
    ]
    await remove(cyd, sent, "z")
    await add(cyd, sent, "z")
    assert [(emoji, names) for emoji, _, _, names in await shown(bob, sent)] == [
        ("a", [bob.username, ada.username]),
        ("z", [ada.username, cyd.username]),
        (HEART, [bob.username]),
    ]


async def test_whoever_shares_an_execution_is_shown_the_counts_and_whoever_asks_for_their_own_gets_them(
    world: World,
) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    given = {"groupId": group_id, "after": await ada.head(group_id)}
    together = [await (await person.socket()).subscribe(FOLLOW, given) for person in (bob, cyd)]
    own = [await (await person.socket()).subscribe(FOLLOW_OWN, given) for person in (bob, cyd)]
    await eventually(lambda: sorted(cohorts(world.server)) == [1, 1, 2])
    await add(bob, await world.send(ada, group_id))
    for stream in together:
        assert (await read(stream, 2))[1]["message"]["reactions"] == [{"emoji": THUMB, "count": 1}]
    of_bob, of_cyd = [(await read(stream, 2))[1]["message"]["reactions"] for stream in own]
    assert of_bob == [{"emoji": THUMB, "count": 1, "viewerHasReacted": True}]
    assert of_cyd == [{"emoji": THUMB, "count": 1, "viewerHasReacted": False}]


async def test_who_resumes_and_who_loads_afresh_end_with_the_same(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    sent = [await world.send(ada, group_id, f"{number}") for number in range(3)]
    page = (await bob.client.execute(PAGE, {"id": group_id}))["group"]
    kept = {message["id"]: message for message in page["messages"]["nodes"]}
    cursor = page["headCursor"]
    for number in range(3):
        for message in sent:
            await add(ada, message, f"{number}")
            await add(cyd, message, f"{number}")
        await remove(ada, sent[number], f"{number}")
        await remove(cyd, sent[1], f"{number}")
        stream = await (await bob.socket()).subscribe(FOLLOW, {"groupId": group_id, "after": cursor})
        for event in await read(stream, 8):
            message, cursor = event["message"], event["cursor"]
            if message["version"] >= kept[message["id"]]["version"]:
                kept[message["id"]] = message
    assert sorted(kept.values(), key=lambda message: message["seq"]) == await history(bob, group_id)


async def test_who_reacted_is_paged_in_both_directions(world: World) -> None:
    people = await world.users("ada", "bob", "cyd", "dan", "eve")
    names = [person.username for person in people]
    group_id = await world.group(*people)
    sent = await world.send(people[0], group_id)
    for person in people:
        await add(person, sent, "one")
        await add(person, sent, "two")

    async def page(**given: int | str) -> list[Json]:
        found = (await people[0].client.execute(WHO, {"id": sent["id"]} | given))["node"]["reactions"]
        return [each["users"] for each in found]

    def named(found: Json) -> list[str]:
        assert [edge["node"] for edge in found["edges"]] == found["nodes"]
        return [user["username"] for user in found["nodes"]]

    assert [named(each) for each in await page()] == [names, names]
    first, other = await page(first=2)
    assert (named(first), first["pageInfo"]["hasNextPage"]) == (names[:2], True)
    assert (named(other), other["pageInfo"]["hasPreviousPage"]) == (names[:2], False)
    last, _ = await page(last=2)
    assert (named(last), last["pageInfo"]["hasPreviousPage"]) == (names[3:], True)
    alone = WHO.replace("reactions {", "reactions { count")
    assert await code_of(people[0].client.execute(alone, {"id": sent["id"], "first": 101})) == "BAD_USER_INPUT"
    for person in people:
        await remove(person, sent, "two")
    (second,) = await page(first=2, after=first["pageInfo"]["endCursor"])
    assert (named(second), second["pageInfo"]["hasPreviousPage"]) == (names[2:4], True)
    (before,) = await page(last=5, before=last["pageInfo"]["startCursor"])
    assert named(before) == names[:3]
    for cursor in (other["pageInfo"]["endCursor"], await people[0].head(group_id), "nonsense"):
        with refused("CURSOR_INVALID"):
            await page(after=cursor)


# What may be one


@pytest.mark.parametrize(
    "emoji", [THUMB, "👍🏽", HEART, "❤", FAMILY, ENGLAND, "🇫🇷", "1️⃣", "#️⃣", "™", "‼️", "㊙️", "🫨", "+1", "tada", "x" * 32]
)
async def test_any_emoji_and_any_short_name_is_shown_byte_for_byte(world: World, emoji: str) -> None:
    ada = await world.user()
    sent = await world.send(ada, await world.group(ada))
    assert (await add(ada, sent, emoji))["reactions"] == [{"emoji": emoji, "count": 1, "viewerHasReacted": True}]
    assert (await remove(ada, sent, emoji))["reactions"] == []


async def test_a_short_name_is_one_with_and_without_colons(world: World) -> None:
    ada = await world.user()
    sent = await world.send(ada, await world.group(ada))
    reacted = await add(ada, sent, ":white_check_mark:")
    assert reacted["reactions"][0]["emoji"] == "white_check_mark"
    assert await add(ada, sent, "white_check_mark") == reacted
    assert (await remove(ada, sent, ":white_check_mark:"))["reactions"] == []


NONSENSE = [
    *("", " ", ":", "::", ":tada", "tada:", "::tada::", "Tada", "x" * 33, THUMB * 33, "ü", "👍a", "👍 👍", "👍\n"),
    *("\N{ZERO WIDTH JOINER}", "#", "\N{VARIATION SELECTOR-16}", "👍\0", "👍\u202e", "tada\n", "дa", "."),
]


@pytest.mark.parametrize("emoji", NONSENSE)
async def test_anything_else_is_refused_and_takes_no_number(world: World, emoji: str) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    sent = await world.send(ada, group_id)
    before = await ada.head(group_id)
    for change in (add(ada, sent, emoji), remove(ada, sent, emoji)):
        with refused("BAD_USER_INPUT") as refusal:
            await change
        assert refusal.value.extensions["field"] == "emoji"
    assert await ada.head(group_id) == before


async def test_a_message_has_so_many_different_reactions_and_no_more(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    sent = await world.send(ada, group_id)
    for number in range(MOST_EMOJI):
        await add(ada, sent, f"{number}")
    for person in (ada, bob):
        with refused("CONFLICT"):
            await add(person, sent, "one-more")
    assert (await add(bob, sent, "0"))["reactions"][0]["count"] == 2
    await remove(ada, sent, "7")
    assert len((await add(bob, sent, "one-more"))["reactions"]) == MOST_EMOJI
    assert await kinds(ada, group_id) == ["SENT"] + ["REACTED"] * (MOST_EMOJI + 3)


# Repeats and races


async def test_adding_twice_and_removing_twice_is_harmless(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    sent = await world.send(ada, group_id)
    assert (await remove(bob, sent))["version"] == sent["version"]
    added = await asyncio.gather(*(add(bob, sent) for _ in range(5)))
    assert all(each == added[0] for each in added)
    assert await remove(ada, sent) != added[0], "it is not theirs"
    assert (await remove(ada, sent))["version"] == added[0]["version"]
    removed = await asyncio.gather(*(remove(bob, sent) for _ in range(5)))
    assert all(each == removed[0] for each in removed)
    assert await kinds(ada, group_id) == ["SENT", "REACTED", "REACTED"]


async def test_counts_are_exact_under_a_thousand_concurrent_toggles(world: World) -> None:
    people = [await world.user(f"p{number}") for number in range(10)]
    group_id = await world.group(*people)
    sent = [await world.send(people[0], group_id, f"{number}") for number in range(2)]
    head = await people[0].head(group_id)
    stream = await (await people[0].socket()).subscribe(FOLLOW_OWN, {"groupId": group_id, "after": head})
    chance = random.Random(1)
    is_there = dict[tuple[str, str, str], bool]()

    async def toggle(person: Person, message: Json, emoji: str, times: int) -> None:
        """One after the other for one reaction of one person, so that what is there in the end is known."""
        for number in range(times):
            toggled = (ADD, REMOVE)[number % 2]
            given = {"input": {"messageId": message["id"], "emoji": emoji}}
            # Where there is no room for a request, it is repeated like any other.
            while await code_of(person.client.execute(toggled, given)) == "SERVICE_UNAVAILABLE":
                pass
        is_there[person.username, message["id"], emoji] = times % 2 == 1

    numbers = [10 + chance.choice((-1, 1)) for _ in range(100)]
    wanted = [
        (person, message, emoji) for person in people for message in sent for emoji in (THUMB, HEART, "a", "b", "c")
    ]
    await asyncio.gather(*(toggle(*each, times) for each, times in zip(wanted, numbers, strict=True)))
    made = sum(numbers)
    events = await read(stream, made)
    assert {event["kind"] for event in events} == {"REACTED"}
    for message in sent:
        expected = {
            emoji: sorted(
                name for (name, of, which), there in is_there.items() if there and (of, which) == (message["id"], emoji)
            )
            for emoji in (THUMB, HEART, "a", "b", "c")
        }
        found = await shown(people[0], message)
        assert {emoji: sorted(names) for emoji, _, _, names in found} == {
            emoji: names for emoji, names in expected.items() if names
        }
        assert all(count == len(names) for _, count, _, names in found)
        last = [event["message"] for event in events if event["message"]["id"] == message["id"]][-1]
        assert last["reactions"] == [
            {"emoji": emoji, "count": count, "viewerHasReacted": own} for emoji, count, own, _ in found
        ]


# Deleting


async def test_a_deleted_message_loses_its_reactions_and_takes_none(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        sent = await bench.world.send(ada, group_id)
        await add(bob, sent)
        await ada.run("DeleteMessage", input={"messageId": sent["id"]})
        assert await shown(bob, sent) == []
        with refused("CONFLICT"):
            await add(bob, sent)
        assert (await remove(bob, sent))["reactions"] == []
        assert await kinds(ada, group_id) == ["SENT", "REACTED", "DELETED"]
        async with bench.process.database.read() as transaction:
            assert (await transaction.execute(select(tables.reactions))).all() == []


# Who may


async def test_who_is_no_member_reacts_to_nothing_and_sees_no_reaction(world: World) -> None:
    ada, bob, out, pending = await world.users("ada", "bob", "out", "pending")
    group_id = await world.group(ada, bob)
    await ada.run("InviteMember", input={"groupId": group_id, "userId": pending.id})
    sent = await world.send(ada, group_id)
    await add(bob, sent)
    await add(ada, sent)
    await ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
    for person, status in ((out, None), (pending, "PENDING"), (bob, None)):
        for change in (add(person, sent, HEART), remove(person, sent)):
            with refused("FORBIDDEN") as refusal:
                await change
            assert refusal.value.extensions["membershipStatus"] == status
        assert await person.run("MessageReactions", id=sent["id"]) is None
    assert await shown(ada, sent) == [(THUMB, 2, True, [bob.username, ada.username])]


async def test_after_a_removal_no_event_shows_who_reacted(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    sent = await world.send(ada, group_id)
    given = {"groupId": group_id, "after": await ada.head(group_id)}
    stream = await (await bob.socket()).subscribe(FOLLOW_USERS, given)
    await add(ada, sent)
    await ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
    await add(cyd, sent)
    events, end = await ended(stream)
    assert end["code"] == "MEMBERSHIP_ENDED"
    assert cyd.username not in str(events)


async def test_an_id_of_no_message_is_not_found(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    for message_id in ("nonsense", "", group_id, ada.id, ids.encode(ids.MESSAGE, ids.group(group_id))):
        for change in (add(ada, {"id": message_id}), remove(ada, {"id": message_id})):
            with refused("NOT_FOUND"):
                await change


# What it costs


async def test_the_reactions_of_a_page_are_read_by_one_statement(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        ada = await bench.world.user()
        group_id = await bench.world.group(ada)
        for number in range(10):
            await add(ada, await bench.world.send(ada, group_id, f"{number}"))
        with bench.statements.recorded() as statements:
            nodes = await history(ada, group_id)
        assert [node["reactions"] for node in nodes] == [[{"emoji": THUMB, "count": 1}]] * 10
        assert sum("reactions" in statement for _, statement in statements) == 1
        assert len(statements) < 10


async def test_for_messages_that_nothing_happened_to_no_reactions_are_read(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        ada = await bench.world.user()
        group_id = await bench.world.group(ada)
        given = {"groupId": group_id, "after": await ada.head(group_id)}
        stream = await (await ada.socket()).subscribe(FOLLOW_OWN, given)
        with bench.statements.recorded() as statements:
            await bench.world.send(ada, group_id)
            assert (await stream.event())["message"]["reactions"] == []
            assert [node["reactions"] for node in await history(ada, group_id)] == [[]]
        assert not [statement for _, statement in statements if "reactions" in statement]


async def test_the_streams_of_the_same_process_are_handed_a_reaction_without_reading_the_log(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        given = {"groupId": group_id, "after": await ada.head(group_id)}
        stream = await (await ada.socket()).subscribe(FOLLOW, given)
        sent = await bench.world.send(ada, group_id)
        await stream.event()
        with bench.reads.counted("Stream._read_on") as reads:
            await add(bob, sent)
            assert (await stream.event())["message"]["reactions"] == [{"emoji": THUMB, "count": 1}]
        assert not reads
