"""The list of what mentions one, and how much of it is unread: in all of one's groups, page by page, within bounds."""

from datetime import datetime

import pytest
from sqlalchemy import update

from db import tables
from db.engine import Transaction
from tests.counting import statements
from tests.harness import Json, Person, Stack, World, refused
from tests.inside import many_groups
from tests.reading import chatter
from tests.sabotage import Bench, quiet_server
from tests.standings import NO_MEMBERS, Standing, scene_for
from tests.test_mentions import delete, edit, names, send
from tests.test_unread import mark, mark_unread, unread

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

FOLLOW = """subscription ($groupId: ID!, $after: String) { groupMessages(groupId: $groupId, after: $after) {
    message { id group { mentionCount } } } }"""
COUNTS = "query { myGroups(first: 100) { nodes { id mentionCount unreadCount } } }"


async def page(person: Person, first: int | None = None, after: str | None = None) -> Json:
    return await person.run("MyMentions", first=first, after=after)


async def listed(person: Person) -> list[str]:
    """The ids of what mentions the person, newest first."""
    return [edge["node"]["id"] for edge in (await page(person, 100))["edges"]]


async def by_pages(person: Person, first: int) -> list[str]:
    found, after = list[str](), None
    while True:
        got = await page(person, first, after)
        found += [edge["node"]["id"] for edge in got["edges"]]
        assert len(got["edges"]) == first or not got["pageInfo"]["hasNextPage"]
        after = got["pageInfo"]["endCursor"]
        if not got["pageInfo"]["hasNextPage"]:
            return found


async def count(person: Person, group_id: str) -> int:
    return (await unread(person, group_id))["mentionCount"]


async def test_what_names_one_or_everybody_is_listed_and_counted_until_it_is_read(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    said = ["nobody", f"@{bob.username}", f"@{cyd.username}", "@all", f"@all @{bob.username}", bob.username]
    sent = [await send(ada, group_id, each) for each in said]
    own = await send(bob, group_id, f"@{bob.username}")
    assert names(own) == [bob.username]
    found = await page(bob)
    assert [edge["node"]["id"] for edge in found["edges"]] == [sent[4]["id"], sent[3]["id"], sent[1]["id"]]
    first = found["edges"][0]["node"]
    assert (first["content"], first["group"]["id"], first["mentionsAll"]) == (said[4], group_id, True)
    assert [each["user"] and each["user"]["id"] for each in first["mentions"]] == [None, bob.id]
    assert (await listed(ada), await count(ada, group_id)) == ([], 0), "one's own are not among them"
    assert [(await unread(bob, group_id))[name] for name in ("mentionCount", "unreadCount")] == [3, 6]
    assert (await mark(bob, group_id, sent[3]["seq"]))["mentionCount"] == 1
    assert (await mark_unread(bob, group_id, sent[1]["id"]))["mentionCount"] == 3
    assert len(await listed(bob)) == 3, "what is read stays in the list"


async def test_an_edit_and_a_deletion_change_the_list_and_the_count(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    first, second, third = [await send(ada, group_id, each) for each in ("one", f"@{bob.username}", "@all")]
    await edit(ada, first, f"@{bob.username}, one")
    assert await listed(bob) == [third["id"], second["id"], first["id"]], "in the place where it was sent"
    await edit(ada, second, "never mind")
    assert (await listed(bob), await count(bob, group_id)) == ([third["id"], first["id"]], 2)
    await edit(ada, third, f"@{bob.username}")
    await delete(ada, first)
    assert (await listed(bob), await count(bob, group_id)) == ([third["id"]], 1)
    await edit(ada, second, "@all, again")
    assert await listed(bob) == [third["id"], second["id"]]


async def test_the_list_holds_the_groups_of_now_and_what_was_sent_to_all_since_one_joined(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id, other = [await world.group(ada, bob) for _ in range(2)]
    by_name, to_all = await send(ada, group_id, f"@{bob.username}"), await send(ada, group_id, "@all")
    elsewhere = await send(ada, other, "@all")
    assert await listed(bob) == [elsewhere["id"], to_all["id"], by_name["id"]]
    await bob.run("LeaveGroup", input={"groupId": group_id})
    assert await listed(bob) == [elsewhere["id"]]
    await send(ada, group_id, "@all")
    await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
    since = await send(ada, group_id, "@all")
    assert await listed(bob) == [since["id"], elsewhere["id"], by_name["id"]]
    assert await count(bob, group_id) == 1
    await ada.run("DeleteGroup", input={"groupId": group_id})
    assert await listed(bob) == [elsewhere["id"]]


async def test_the_list_is_paged_whole_over_groups_while_messages_come(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_ids = [await world.group(ada, bob) for _ in range(3)]
    said = ["@all", f"@{bob.username}", f"@{bob.username} @all", "nobody"]
    sent = [await send(ada, group_ids[number % 3], said[number * 7 % 5 % 4]) for number in range(40)]
    expected = [message["id"] for message in sent if message["mentions"]][::-1]
    assert await listed(bob) == expected
    for first in (1, 2, 7):
        assert await by_pages(bob, first) == expected
    async with chatter(world, group_ids[0], ada):
        assert await by_pages(bob, 4) == expected
    begin = await page(bob, 5)
    later = [await send(ada, group_ids[number % 3], "@all") for number in range(4)]
    rest = await page(bob, 100, begin["pageInfo"]["endCursor"])
    assert [edge["node"]["id"] for edge in [*begin["edges"], *rest["edges"]]] == expected
    assert await by_pages(bob, 3) == [*(message["id"] for message in later[::-1]), *expected]


async def test_messages_of_one_moment_are_paged_whole(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        ada, bob = await bench.world.users("ada", "bob")
        group_ids = [await bench.world.group(ada, bob) for _ in range(3)]
        said = ["@all", f"@{bob.username} @all"]
        sent = [await send(ada, group_ids[number % 3], said[number % 2]) for number in range(18)]
        moment = datetime.fromisoformat((await page(bob, 1))["edges"][0]["node"]["createdAt"])

        async def at_once(transaction: Transaction) -> None:
            for table in (tables.messages, tables.mentions):
                await transaction.execute(update(table).values(created_at=moment))

        await bench.process.database.write(at_once)
        found = await listed(bob)
        assert sorted(found) == sorted(message["id"] for message in sent)
        for first in (1, 4, 5):
            assert await by_pages(bob, first) == found
        for place in range(3):
            of_group = [message["id"] for message in sent[place::3]]
            assert [each for each in found if each in of_group] == of_group[::-1]


async def test_a_page_size_or_a_cursor_that_is_none_is_refused(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    for first in (0, -1, 101):
        with refused("BAD_USER_INPUT"):
            await page(ada, first)
    for cursor in ("", "nonsense", await ada.head(group_id), (await ada.run("MyGroups"))["edges"][0]["cursor"]):
        with refused("CURSOR_INVALID"):
            await page(ada, 1, cursor)


@pytest.mark.parametrize("standing", NO_MEMBERS, ids=lambda standing: standing.name)
async def test_who_is_not_a_member_is_shown_no_mention(world: World, standing: Standing) -> None:
    scene = await scene_for(world, standing)
    await send(scene.admin, scene.group_id, f"@all @{scene.actor.username}")
    assert (await page(scene.actor))["edges"] == []
    with refused("FORBIDDEN"):
        await count(scene.actor, scene.group_id)


async def test_who_follows_one_group_with_others_is_shown_their_own_count(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    given = {"groupId": group_id, "after": await ada.head(group_id)}
    streams = [await (await person.socket()).subscribe(FOLLOW, given) for person in (ada, bob, cyd)]
    await send(ada, group_id, f"@{bob.username}")
    shown = [(await stream.event())["message"]["group"]["mentionCount"] for stream in streams]
    assert shown == [0, 1, 0]


async def test_a_list_of_500_groups_asks_the_database_as_often_as_one_of_three(world: World) -> None:
    ada, *readers = await world.users("ada", "few", "many")
    costs: list[tuple[int, int]] = []
    for reader, number in zip(readers, (3, 500), strict=True):
        made = await many_groups(world, ada, reader, number)
        sent = [await send(ada, made[place], f"@{reader.username}") for place in (0, 0, -1)]
        sent.append(await send(ada, made[0], "@all"))
        await mark(reader, made[0], sent[0]["seq"])
        with statements(world.server) as counting:
            groups = (await reader.client.execute(COUNTS))["myGroups"]["nodes"]
        with statements(world.server) as listing:
            assert await listed(reader) == [message["id"] for message in sent[::-1]]
        found = {group["id"]: group["mentionCount"] for group in groups if group["mentionCount"]}
        assert found == {made[0]: 2, made[-1]: 1}
        costs.append((len(counting), len(listing)))
    assert costs[0] == costs[1]
