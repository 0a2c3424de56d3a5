"""Who has seen a message: what members said they have read, for members alone, and for those who share theirs."""

from collections.abc import Sequence

import pytest

from tests.conftest import OwnServer
from tests.counting import statements
from tests.harness import Json, Person, World, refused
from tests.harness.client import JsonValue
from tests.standings import NO_MEMBERS, Standing, scene_for
from tests.test_unread import mark, mark_unread

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

SEEN = "query ($id: ID!) { group(id: $id) { messages(last: 100) { nodes { seenBy { id } } } } }"
FOLLOW = """subscription ($groupId: ID!, $after: String) { groupMessages(groupId: $groupId, after: $after) {
  message { seenBy { username } } } }"""


def ids_of(people: Sequence[Json] | None) -> list[str] | None:
    return None if people is None else [person["id"] for person in people]


async def seen_by(person: Person, group_id: str) -> list[list[str] | None]:
    """Whom the person is shown for each message of a group."""
    group = (await person.client.execute(SEEN, {"id": group_id}))["group"]
    return [ids_of(message["seenBy"]) for message in group["messages"]["nodes"]]


async def share(person: Person, value: bool | None) -> JsonValue:
    return await person.run("UpdateViewer", input={"sharesReadPositions": value})


async def test_who_marked_a_group_read_up_to_a_message_has_seen_it(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    first, second = [await world.send(ada, group_id) for _ in range(2)]
    assert await seen_by(ada, group_id) == [[], []]
    await mark(cyd, group_id, first["seq"])
    assert await seen_by(ada, group_id) == [[cyd.id], []]
    await mark(bob, group_id, second["seq"])
    for member in (ada, bob, cyd):
        assert await seen_by(member, group_id) == [[bob.id, cyd.id], [bob.id]], "in the order in which they joined"
    assert ids_of((await ada.run("SeenBy", id=first["id"]))["seenBy"]) == [bob.id, cyd.id]


async def test_its_sender_is_not_among_those_who_have_seen_a_message(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    await world.send(bob, group_id)
    last = await world.send(ada, group_id)
    for person in (ada, bob):
        await mark(person, group_id, last["seq"])
    assert await seen_by(ada, group_id) == [[ada.id], [bob.id]]


async def test_who_marks_a_message_unread_has_not_seen_it(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    _, second = [await world.send(ada, group_id) for _ in range(2)]
    await mark(bob, group_id, second["seq"])
    await mark_unread(bob, group_id, second["id"])
    assert await seen_by(ada, group_id) == [[bob.id], []]


async def test_an_edited_or_deleted_message_stays_seen(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    edited, deleted = [await world.send(ada, group_id) for _ in range(2)]
    await mark(bob, group_id, deleted["seq"])
    await ada.run("EditMessage", input={"messageId": edited["id"], "content": "better"})
    await ada.run("DeleteMessage", input={"messageId": deleted["id"]})
    assert await seen_by(ada, group_id) == [[bob.id], [bob.id]]


async def test_who_joined_later_has_seen_nothing_until_they_say_so(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    message = await world.send(ada, group_id)
    await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
    assert await seen_by(ada, group_id) == [[]], "what was before counts as read, and was not seen"
    await mark(bob, group_id, message["seq"] + 1)
    assert await seen_by(ada, group_id) == [[]], "nor does a mark at where they begin say anything"
    later = await world.send(ada, group_id)
    await mark(bob, group_id, later["seq"])
    assert await seen_by(ada, group_id) == [[bob.id], [bob.id]]


async def test_who_left_is_not_shown_and_comes_back_with_what_they_had_read(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    first = await world.send(ada, group_id)
    await mark(bob, group_id, first["seq"])
    await bob.run("LeaveGroup", input={"groupId": group_id})
    await world.send(ada, group_id)
    assert await seen_by(ada, group_id) == [[], []]
    await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
    assert await seen_by(ada, group_id) == [[bob.id], []]


@pytest.mark.parametrize("standing", NO_MEMBERS, ids=lambda standing: standing.name)
async def test_who_is_not_a_member_learns_nothing_of_who_has_seen_what(world: World, standing: Standing) -> None:
    scene = await scene_for(world, standing)
    await mark(scene.member, scene.group_id, 3)
    with refused("FORBIDDEN"):
        await seen_by(scene.actor, scene.group_id)
    assert await scene.actor.run("SeenBy", id=scene.other_id) is None


async def test_who_does_not_share_is_not_shown_and_is_shown_nobody(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    message = await world.send(ada, group_id)
    for person in (bob, cyd):
        await mark(person, group_id, message["seq"])
    await share(bob, value=False)
    assert [await seen_by(person, group_id) for person in (ada, bob, cyd)] == [[[cyd.id]], [None], [[cyd.id]]]
    await share(bob, value=True)
    assert [await seen_by(person, group_id) for person in (ada, bob)] == [[[bob.id, cyd.id]]] * 2


async def test_whether_one_shares_is_shown_to_oneself_alone(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    await world.group(ada, bob)
    assert (await share(bob, value=False))["viewer"]["sharesReadPositions"] is False
    for person, own in ((ada, True), (bob, False)):
        viewer = (await person.client.execute("{ viewer { sharesReadPositions } }"))["viewer"]
        assert viewer["sharesReadPositions"] is own
    document = "query ($name: String!) { user(username: $name) { username sharesReadPositions } }"
    shown = await ada.client.execute(document, {"name": bob.username})
    assert shown == {"user": {"username": bob.username, "sharesReadPositions": None}}
    login = "mutation ($input: LoginInput!) { login(input: $input) { viewer { sharesReadPositions } } }"
    answer = await world.server.client().execute(
        login, {"input": {"username": bob.username, "password": "correct horse battery"}}
    )
    assert answer == {"login": {"viewer": {"sharesReadPositions": None}}}, "the mutation was sent by nobody"


async def test_sharing_is_on_or_off(world: World) -> None:
    ada = await world.user("ada")
    with refused("BAD_USER_INPUT") as refusal:
        await share(ada, value=None)
    assert refusal.value.extensions["field"] == "sharesReadPositions"


async def test_a_group_above_the_bound_does_not_tell_who_has_seen_what(own_server: OwnServer) -> None:
    async with World(await own_server(seen_by_members=2)) as world:
        ada, bob, cyd = await world.users("ada", "bob", "cyd")
        group_id = await world.group(ada, bob, cyd)
        message = await world.send(ada, group_id)
        await mark(bob, group_id, message["seq"])
        assert await seen_by(ada, group_id) == [None]
        await cyd.run("LeaveGroup", input={"groupId": group_id})
        assert await seen_by(ada, group_id) == [[bob.id]]


async def test_inside_an_event_each_viewer_is_shown_what_is_theirs_to_see(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    await share(bob, value=False)
    variables = {"groupId": group_id, "after": await ada.head(group_id)}
    streams = [await (await person.socket()).subscribe(FOLLOW, variables) for person in (ada, bob)]
    await world.send(ada, group_id)
    assert [(await stream.event())["message"]["seenBy"] for stream in streams] == [[], None]


async def test_a_page_of_messages_asks_the_database_as_often_as_one_message(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    costs: list[int] = []
    for count in (1, 60):
        group_id = await world.group(ada, bob)
        last = [await world.send(ada, group_id) for _ in range(count)][-1]
        await mark(bob, group_id, last["seq"])
        with statements(world.server) as seen:
            assert await seen_by(ada, group_id) == [[bob.id]] * count
        costs.append(len(seen))
    assert costs[0] == costs[1] > 0
