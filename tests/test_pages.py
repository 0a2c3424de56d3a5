"""Pages of messages, members and groups: by the key of their last row, so that they stay whole while people write."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from schema import ids
from tests.harness import Json, Person, Server, World, refused

PAGE = "edges { cursor node { id } } nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"
IN_GROUP = """query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) {
  group(id: $id) { page: %s(first: $first, after: $after, last: $last, before: $before) { %s } }
}"""
DOCUMENTS = {
    "messages": IN_GROUP % ("messages", PAGE),
    "members": IN_GROUP % ("members", PAGE),
    "groups": f"query ($first: Int, $after: String) {{ page: myGroups(first: $first, after: $after) {{ {PAGE} }} }}",
}
BOTH_WAYS = ["messages", "members"]
SEND = "mutation ($id: ID!) { %s }"
SENDING = 'm%d: sendGroupMessage(input: {groupId: $id, content: "%d"}) { message { id } }'


@dataclass(frozen=True, slots=True)
class Page:
    ids: list[str]
    cursors: list[str]
    has_next: bool
    has_previous: bool


async def page(person: Person, kind: str, group_id: str = "", **given: Any) -> Page:
    """A page, after a check that all that it says of itself agrees."""
    variables = given if kind == "groups" else {"id": group_id} | given
    data = await person.client.execute(DOCUMENTS[kind], variables)
    found: Json = data["page"] if kind == "groups" else data["group"]["page"]
    cursors, info = [edge["cursor"] for edge in found["edges"]], found["pageInfo"]
    assert [edge["node"] for edge in found["edges"]] == found["nodes"]
    assert [info["startCursor"], info["endCursor"]] == ([cursors[0], cursors[-1]] if cursors else [None, None])
    return Page([node["id"] for node in found["nodes"]], cursors, info["hasNextPage"], info["hasPreviousPage"])


async def send_many(person: Person, group_id: str, count: int) -> list[str]:
    """The ids of so many new messages, in their order, from one request."""
    document = SEND % " ".join(SENDING % (number, number) for number in range(count))
    sent = await person.client.execute(document, {"id": group_id})
    return [each["message"]["id"] for each in sent.values()]


@dataclass(frozen=True, slots=True)
class Library:
    """More of everything than a page holds by default: each list in its order, by kind. Nobody writes in it."""

    reader: Person
    group_id: str
    lists: dict[str, list[str]]

    async def page(self, kind: str, **given: Any) -> Page:
        return await page(self.reader, kind, self.group_id, **given)


@pytest.fixture(scope="session")
async def library(server: Server) -> AsyncIterator[Library]:
    async with World(server) as world:
        reader, *members = await world.users("reader", *["member"] * 54)
        older = [await world.group(reader) for _ in range(54)]
        group_id = await world.group(reader, *members)
        people = (ids.user(person.id) for person in (reader, *members))
        lists: dict[str, list[str]] = {
            "messages": await send_many(reader, group_id, 55),
            "members": [ids.encode(ids.MEMBERSHIP, ids.group(group_id), each) for each in people],
            "groups": [group_id, *reversed(older)],
        }
        yield Library(reader, group_id, lists)


# Whole lists


@pytest.mark.parametrize("size", [1, 20, 50, 100])
@pytest.mark.parametrize("kind", DOCUMENTS)
async def test_pages_forward_give_the_whole_list_in_order(library: Library, kind: str, size: int) -> None:
    whole, after, seen = library.lists[kind][: size * 10], None, list[str]()
    while len(seen) < len(whole):
        found = await library.page(kind, first=size, after=after)
        assert found.ids == library.lists[kind][len(seen) : len(seen) + size]
        assert found.has_previous == bool(seen)
        seen += found.ids
        assert found.has_next == (len(seen) < len(library.lists[kind]))
        after = found.cursors[-1]
    assert seen == whole


@pytest.mark.parametrize("size", [1, 20, 50, 100])
@pytest.mark.parametrize("kind", BOTH_WAYS)
async def test_pages_backward_give_the_whole_list_in_order(library: Library, kind: str, size: int) -> None:
    whole, before, seen = library.lists[kind][-size * 10 :], None, list[str]()
    while len(seen) < len(whole):
        found = await library.page(kind, last=size, before=before)
        rest = library.lists[kind][: len(library.lists[kind]) - len(seen)]
        assert found.ids == rest[-size:]
        assert found.has_next == bool(seen)
        seen = found.ids + seen
        assert found.has_previous == (len(seen) < len(library.lists[kind]))
        before = found.cursors[0]
    assert seen == whole


async def test_without_a_size_a_page_is_the_newest_50_messages_or_else_the_first_50(library: Library) -> None:
    newest = await library.page("messages")
    assert newest.ids == library.lists["messages"][-50:]
    assert (newest.has_previous, newest.has_next) == (True, False)
    for kind in ("members", "groups"):
        first = await library.page(kind)
        assert first.ids == library.lists[kind][:50]
        assert (first.has_previous, first.has_next) == (False, True)


@pytest.mark.parametrize("kind", DOCUMENTS)
async def test_a_page_that_just_fits_has_no_next(library: Library, kind: str) -> None:
    whole = library.lists[kind]
    after = (await library.page(kind, first=40)).cursors[-1]
    for size, more in ((len(whole) - 40, False), (len(whole) - 41, True)):
        found = await library.page(kind, first=size, after=after)
        assert found.ids == whole[40 : 40 + size]
        assert found.has_next is more


@pytest.mark.parametrize("kind", BOTH_WAYS)
async def test_two_cursors_make_a_window_that_excludes_both(library: Library, kind: str) -> None:
    whole, known = library.lists[kind], await library.page(kind, first=20)
    window = {"after": known.cursors[4], "before": known.cursors[14]}
    assert (await library.page(kind, first=100, **window)).ids == whole[5:14]
    assert (await library.page(kind, last=100, **window)).ids == whole[5:14]
    assert (await library.page(kind, first=3, **window)).ids == whole[5:8]
    assert (await library.page(kind, last=3, **window)).ids == whole[11:14]
    assert (await library.page(kind, **window)).ids == whole[5:14]
    nothing = {"after": known.cursors[14], "before": known.cursors[4]}
    assert (await library.page(kind, first=100, **nothing)).ids == []


@pytest.mark.parametrize("kind", DOCUMENTS)
async def test_after_the_last_there_is_an_empty_page(library: Library, kind: str) -> None:
    end = (await library.page(kind, first=100)).cursors[-1]
    assert await library.page(kind, first=10, after=end) == Page([], [], has_next=False, has_previous=True)


@pytest.mark.parametrize("kind", BOTH_WAYS)
async def test_before_the_first_there_is_an_empty_page(library: Library, kind: str) -> None:
    start = (await library.page(kind, first=1)).cursors[0]
    assert await library.page(kind, last=10, before=start) == Page([], [], has_next=True, has_previous=False)


async def test_a_list_of_nothing_is_an_empty_page(world: World) -> None:
    ada = await world.user()
    nothing = Page([], [], has_next=False, has_previous=False)
    assert await page(ada, "groups") == nothing
    group_id = await world.group(ada)
    for given in ({}, {"first": 1}, {"last": 100}):
        assert await page(ada, "messages", group_id, **given) == nothing


# What is refused


@pytest.mark.parametrize("given", [{"first": 0}, {"first": -1}, {"first": 101}, {"first": 2**31 - 1}], ids=str)
@pytest.mark.parametrize("kind", DOCUMENTS)
async def test_a_size_below_1_or_above_100_is_refused(library: Library, kind: str, given: Json) -> None:
    with refused("BAD_USER_INPUT") as refusal:
        await library.page(kind, **given)
    assert refusal.value.extensions["field"] == "first"


@pytest.mark.parametrize(
    "given", [{"last": 0}, {"last": 101}, {"first": 5, "last": 5}, {"first": 0, "last": 0}], ids=str
)
@pytest.mark.parametrize("kind", BOTH_WAYS)
async def test_a_bad_last_and_both_at_once_are_refused(library: Library, kind: str, given: Json) -> None:
    with refused("BAD_USER_INPUT"):
        await library.page(kind, **given)


@pytest.mark.parametrize("kind", DOCUMENTS)
async def test_a_cursor_of_another_list_or_of_nothing_is_invalid(world: World, library: Library, kind: str) -> None:
    own = {each: (await library.page(each, first=1)).cursors[0] for each in DOCUMENTS}
    other = await world.group(library.reader)
    await world.send(library.reader, other)
    bad = {cursor for each, cursor in own.items() if each != kind} | {own[kind] + "=", own[kind] + "A", own[kind][:-1]}
    bad |= {await library.reader.head(library.group_id), library.group_id, "", "nonsense", "ö\x00", "A" * 5_000}
    if kind in BOTH_WAYS:
        bad.add((await page(library.reader, kind, other, first=1)).cursors[0])
    await library.reader.run("DeleteGroup", input={"groupId": other})
    for cursor in sorted(bad):
        for given in ({"first": 1, "after": cursor}, {"last": 1, "before": cursor}):
            if kind in BOTH_WAYS or "after" in given:
                with refused("CURSOR_INVALID"):
                    await library.page(kind, **given)
    assert (await library.page(kind, first=1, after=own[kind])).ids == library.lists[kind][1:2]


# Stable while people write


async def test_older_messages_are_paged_whole_while_new_ones_arrive(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    whole = await send_many(ada, group_id, 12)
    seen, before = list[str](), None
    for _ in range(4):
        found = await page(ada, "messages", group_id, last=3, before=before)
        seen, before = found.ids + seen, found.cursors[0]
        await send_many(ada, group_id, 2)
        await ada.run("UpdateGroup", input={"groupId": group_id, "description": before})
    assert seen == whole
    assert not (await page(ada, "messages", group_id, last=1, before=before)).ids


async def test_newer_messages_are_paged_whole_while_they_arrive(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    whole = await send_many(ada, group_id, 4)
    seen, after, more = list[str](), None, True
    while more:
        found = await page(ada, "messages", group_id, first=3, after=after)
        seen, after, more = seen + found.ids, found.cursors[-1], found.has_next
        if more and len(whole) < 9:
            whole += await send_many(ada, group_id, 1)
    assert seen == whole
    assert len(whole) > 4


async def test_members_are_paged_whole_while_people_come_and_go(world: World) -> None:
    ada, *people = await world.users("ada", *["member"] * 7)
    group_id = await world.group(ada, *people)
    first = await page(ada, "members", group_id, first=2)
    named_by_the_cursor, coming_back, gone = people[0], people[1], people[6]
    for person in (named_by_the_cursor, coming_back, gone):
        await person.run("LeaveGroup", input={"groupId": group_id})
    await ada.run("AddMember", input={"groupId": group_id, "userId": coming_back.id})
    seen, after, more = first.ids, first.cursors[-1], True
    while more:
        found = await page(ada, "members", group_id, first=2, after=after)
        seen, after, more = seen + found.ids, found.cursors[-1], found.has_next
    expected = (ada, named_by_the_cursor, *people[2:6], coming_back)
    assert seen == [ids.encode(ids.MEMBERSHIP, ids.group(group_id), ids.user(person.id)) for person in expected]


async def test_groups_are_paged_whole_while_they_move_to_the_top(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    whole = [await world.group(ada, bob) for _ in range(8)][::-1]
    seen, after, more = list[str](), None, True
    while more:
        found = await page(bob, "groups", first=2, after=after)
        seen, after, more = seen + found.ids, found.cursors[-1], found.has_next
        for group_id in (whole[7], whole[4], whole[0], whole[1]):
            await world.send(ada, group_id)
        await world.group(ada, bob)
    assert seen == whole
    assert (await page(bob, "groups", first=5)).ids[1:] == [whole[1], whole[0], whole[4], whole[7]]


async def test_groups_that_one_has_left_meanwhile_are_not_on_later_pages(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    whole = [await world.group(ada, bob) for _ in range(7)][::-1]
    first = await page(bob, "groups", first=2)
    await bob.run("LeaveGroup", input={"groupId": whole[1]})  # the one that the cursor names
    await bob.run("LeaveGroup", input={"groupId": whole[2]})
    await ada.run("DeleteGroup", input={"groupId": whole[4]})
    await bob.run("LeaveGroup", input={"groupId": whole[6]})
    await ada.run("AddMember", input={"groupId": whole[6], "userId": bob.id})
    rest = await page(bob, "groups", first=10, after=first.cursors[-1])
    assert first.ids + rest.ids == [whole[0], whole[1], whole[3], whole[5], whole[6]]
