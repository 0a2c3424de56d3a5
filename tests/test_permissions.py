"""Who may do what in a group: the one table of the code, tried out row by row; and that nobody else learns anything."""

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from resolvers.access import Operation
from schema import ids
from tests.harness import GraphQLFailure, Json, Person, Server, World, operation, refused
from tests.harness.client import ROOT, JsonValue
from tests.permission_table import SHOWN, permission_table
from tests.standings import (
    ACCEPTED,
    ACTIONS,
    ADMIN,
    EVERY_STANDING,
    INVITED,
    MEMBER,
    MEMBERS,
    NO_MEMBERS,
    Scene,
    Standing,
    scene_for,
    scenes_for,
)

OPERATIONS = ROOT / "graphql" / "operations"
NEEDS_NOBODY = {"Login", "Register"}
READS = ("Group", "GroupHistory", "GroupMembers", "GroupMessageEvents")


def named(standing: Standing) -> str:
    return standing.name


@pytest.fixture(scope="session")
async def scenes(server: Server) -> AsyncIterator[Mapping[Standing, Scene]]:
    """One group with an actor for each standing, for tests that leave everybody where they are."""
    async with World(server) as world:
        yield await scenes_for(world, EVERY_STANDING)


@pytest.fixture(scope="session")
async def deleted(server: Server) -> AsyncIterator[tuple[Mapping[Standing, Scene], str]]:
    """The same in a group that was deleted, and a stream position of it."""
    async with World(server) as world:
        scenes = await scenes_for(world, [*NO_MEMBERS, *MEMBERS])
        scene = scenes[MEMBER]
        cursor = await scene.head()
        await scene.admin.run("DeleteGroup", **scene.input())
        yield scenes, cursor


# The table


@pytest.mark.parametrize("wanted", Operation, ids=lambda wanted: wanted.name)
@pytest.mark.parametrize("standing", EVERY_STANDING, ids=named)
async def test_a_standing_allows_exactly_what_the_table_says(
    world: World, scenes: Mapping[Standing, Scene], standing: Standing, wanted: Operation
) -> None:
    may = standing.may(wanted)
    scene = await scene_for(world, standing) if may else scenes[standing]
    before = await scene.head()
    if may:
        await ACTIONS[wanted](scene)
        await check_done(scene, wanted, before)
        return
    with pytest.raises(GraphQLFailure) as refusal:
        await ACTIONS[wanted](scene)
    check_refusal(refusal.value, scene, standing, wanted)
    assert await scene.head() == before, "a refusal takes no number in the log"


async def check_done(scene: Scene, wanted: Operation, before: str) -> None:
    if wanted is Operation.DELETE_GROUP:
        with refused("GROUP_DELETED"):
            await scene.head()
    else:
        changed = await scene.head() != before
        assert changed == (wanted not in (Operation.READ, Operation.MARK, Operation.FOLLOW))


def check_refusal(failure: GraphQLFailure, scene: Scene, standing: Standing, wanted: Operation) -> None:
    assert scene.secret not in json.dumps([failure.errors, failure.data])
    assert failure.data is not None
    assert set(failure.data.values()) == {None}
    if wanted is Operation.ANSWER_INVITATION and standing.status is ACCEPTED:
        assert failure.code == "CONFLICT"
    else:
        assert (failure.code, failure.extensions["membershipStatus"]) == ("FORBIDDEN", standing.status)


def test_the_table_in_the_documents_has_a_row_for_each_operation_and_a_column_for_each_standing() -> None:
    head, rule, *rows = [line.strip("|").split("|") for line in permission_table().splitlines()]
    assert [cell.strip() for cell in head[1:]] == [
        *("not a member", "PENDING", "REJECTED"),
        *("MEMBER", "MODERATOR", "ADMIN"),
    ]
    assert {cell.strip() for cell in rule} == {"---"}
    assert [row[0].strip() for row in rows] == [SHOWN[each] for each in Operation]
    assert all(each in ACTIONS for each in Operation)
    sends = rows[list(Operation).index(Operation.SEND)]
    assert [cell.strip() for cell in sends[1:]] == ["no", "no", "no", "yes", "yes", "yes"]


# Reads are refused alike


async def read(scene: Scene, name: str, cursor: str) -> JsonValue:
    more = {"after": cursor} if name == "GroupMessageEvents" else {}
    return await scene.actor.run(name, id=scene.group_id, **more)


@pytest.mark.parametrize("standing", NO_MEMBERS, ids=named)
async def test_who_is_not_a_member_reads_nothing_in_any_way(
    world: World, scenes: Mapping[Standing, Scene], standing: Standing
) -> None:
    scene = scenes[standing]
    message = await world.send(scene.admin, scene.group_id)
    cursor = await scene.head()
    for name in READS:
        with refused("FORBIDDEN") as refusal:
            await read(scene, name, cursor)
        assert refusal.value.extensions["membershipStatus"] == standing.status
        assert refusal.value.data == {"group": None}
    for node_id in (scene.group_id, message["id"], membership_id(scene.admin, scene.group_id)):
        assert await scene.actor.run("Node", id=node_id) is None
    assert (await scene.actor.run("MyGroups"))["edges"] == []


def membership_id(person: Person, group_id: str) -> str:
    return ids.encode(ids.MEMBERSHIP, ids.group(group_id), ids.user(person.id))


@pytest.mark.parametrize("standing", NO_MEMBERS, ids=named)
@pytest.mark.parametrize("resumed", [False, True], ids=["from now on", "after a cursor"])
async def test_who_is_not_a_member_cannot_follow_the_messages(
    world: World, scenes: Mapping[Standing, Scene], standing: Standing, resumed: bool
) -> None:
    scene = scenes[standing]
    after = await scene.head() if resumed else None
    async with world.server.socket(scene.actor.token) as socket:
        stream = await socket.follow("GroupMessages", groupId=scene.group_id, after=after)
        await world.send(scene.admin, scene.group_id, scene.secret)
        (error,) = await stream.end()
    assert error["extensions"]["code"] == "FORBIDDEN"
    assert error["extensions"]["membershipStatus"] == standing.status
    assert scene.secret not in json.dumps(error)


@pytest.mark.parametrize("standing", NO_MEMBERS, ids=named)
async def test_ones_own_groups_never_tell_of_a_group_one_is_not_a_member_of(
    world: World, scenes: Mapping[Standing, Scene], standing: Standing
) -> None:
    scene = scenes[standing]
    async with world.server.socket(scene.actor.token) as socket, world.server.socket(scene.member.token) as other:
        stream = await socket.follow("MyGroupEvents", snapshot=True)
        witness = await other.follow("MyGroupEvents", snapshot=True)
        snapshot, _ = await stream.event(), await witness.event()
        assert snapshot["groups"] == []
        invited_to = [each["groupId"] for each in snapshot["invitations"]]
        assert invited_to == ([scene.group_id] if standing is INVITED else [])
        for _ in range(2):
            await scene.admin.run("UpdateGroup", **scene.input(description=uuid.uuid4().hex))
            await world.send(scene.admin, scene.group_id)
            await witness.event()
        await stream.nothing()


@pytest.mark.parametrize("standing", MEMBERS, ids=named)
async def test_a_member_of_any_role_reads_in_every_way(world: World, standing: Standing) -> None:
    scene = await scene_for(world, standing)
    start = (await scene.actor.run("Group", id=scene.group_id))["startCursor"]
    stream = await scene.actor.messages(scene.group_id)
    message = await world.send(scene.admin, scene.group_id)
    for name in READS:
        assert (await read(scene, name, start))["id"] == scene.group_id
    for node_id in (scene.group_id, message["id"], membership_id(scene.admin, scene.group_id)):
        assert (await scene.actor.run("Node", id=node_id))["id"] == node_id
    assert [edge["node"]["id"] for edge in (await scene.actor.run("MyGroups"))["edges"]] == [scene.group_id]
    assert (await stream.event())["message"]["id"] == message["id"]


async def test_one_refused_field_does_not_take_its_siblings_along(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    own, other = await world.group(ada, name="Own"), await world.group(bob)
    document = "query ($own: ID!, $other: ID!) { own: group(id: $own) { name } other: group(id: $other) { name } }"
    with refused("FORBIDDEN") as refusal:
        await ada.client.execute(document, {"own": own, "other": other})
    assert refusal.value.data == {"own": {"name": "Own"}, "other": None}
    assert [error["path"] for error in refusal.value.errors] == [["other"]]


async def test_within_one_request_a_member_who_has_left_is_refused_from_there_on(world: World) -> None:
    scene = await scene_for(world, MEMBER)
    document = """mutation ($id: ID!) {
      first: sendGroupMessage(input: {groupId: $id, content: "one"}) { message { group { name } } }
      leaveGroup(input: {groupId: $id}) { groupId }
      second: sendGroupMessage(input: {groupId: $id, content: "two"}) { message { group { name } } }
    }"""
    with refused("FORBIDDEN") as refusal:
        await scene.actor.client.execute(document, {"id": scene.group_id})
    assert refusal.value.data == {
        "first": {"message": {"group": {"name": scene.secret}}},
        "leaveGroup": {"groupId": scene.group_id},
        "second": None,
    }


@pytest.mark.parametrize("standing", NO_MEMBERS, ids=named)
async def test_a_refusal_does_not_tell_who_is_in_the_group(
    scenes: Mapping[Standing, Scene], standing: Standing
) -> None:
    scene = scenes[standing]
    for name in ("AddMember", "InviteMember", "RemoveMember", "ChangeMemberRole"):
        answers: list[list[Json]] = []
        for user in (scene.admin, scene.member, scenes[INVITED].actor, scene.stranger):
            more = {"role": "ADMIN"} if name == "ChangeMemberRole" else {}
            with refused("FORBIDDEN") as refusal:
                await scene.actor.run(name, **scene.input(userId=user.id, **more))
            answers.append(refusal.value.errors)
        assert all(answer == answers[0] for answer in answers)


# Anonymous, deleted, unknown


def needs_viewer(group_id: str, user_id: str, message_id: str) -> Mapping[str, Json]:
    """Variables for every document that needs somebody who is logged in."""
    group, subject = {"groupId": group_id}, {"groupId": group_id, "userId": user_id}
    message = {"messageId": message_id}
    return {
        "AddMember": {"input": subject},
        "AddReaction": {"input": message | {"emoji": "tada"}},
        "AnswerInvitation": {"input": group | {"accept": True}},
        "ChangeMemberRole": {"input": subject | {"role": "ADMIN"}},
        "ChangePassword": {"input": {"currentPassword": "correct horse battery", "newPassword": "another password"}},
        "CreateGroup": {"input": {"name": "Chess"}},
        "DeleteGroup": {"input": group},
        "DeleteMessage": {"input": message},
        "EditMessage": {"input": message | {"content": "nobody's"}},
        "Group": {"id": group_id},
        "GroupHistory": {"id": group_id},
        "GroupMembers": {"id": group_id},
        "GroupMessageEvents": {"id": group_id, "after": ""},
        "FollowThread": {"input": message},
        "GroupMessages": {"groupId": group_id},
        "InviteMember": {"input": subject},
        "LeaveGroup": {"input": group},
        "Logout": {},
        "MarkGroupRead": {"input": group | {"upTo": 1}},
        "MarkGroupUnread": {"input": group | {"messageId": "nothing"}},
        "MarkThreadRead": {"input": message | {"upTo": 1}},
        "MessageReactions": {"id": message_id},
        "MessageMentions": {"id": message_id},
        "Message": {"id": message["messageId"]},
        "MessagesAround": {"id": group_id, "around": {"firstUnread": True}},
        "MyGroupEvents": {"snapshot": True},
        "MyGroups": {},
        "MyInvitations": {},
        "MyThreads": {},
        "MyMentions": {},
        "Node": {"id": group_id},
        "RemoveMember": {"input": subject},
        "RemoveReaction": {"input": message | {"emoji": "tada"}},
        "SeenBy": {"id": message_id},
        "SendGroupMessage": {"input": group | {"content": "hello"}},
        "Thread": {"id": message_id},
        "UnfollowThread": {"input": message},
        "UpdateGroup": {"input": group | {"name": "Go"}},
        "UpdateViewer": {"input": {"nickname": "Nobody"}},
        "User": {"username": "nobody"},
        "Viewer": {},
    }


async def test_nobody_is_unauthenticated_for_every_operation_but_register_and_login(
    world: World, scenes: Mapping[Standing, Scene]
) -> None:
    scene = scenes[MEMBER]
    wanted, before = needs_viewer(scene.group_id, scene.member.id, scene.own_id), await scene.head()
    assert set(wanted) | NEEDS_NOBODY == {file.stem for file in OPERATIONS.glob("*.graphql")}
    async with world.server.socket() as socket:
        for name, given in wanted.items():
            if not operation(name).startswith("subscription"):
                with refused("UNAUTHENTICATED"):
                    await world.server.client().run(name, **given)
            stream = await socket.follow(name, **given)
            with refused("UNAUTHENTICATED"):
                await stream.event()
    assert await scene.head() == before


@pytest.mark.parametrize("standing", [*NO_MEMBERS, *MEMBERS], ids=named)
async def test_a_deleted_group_is_deleted_for_its_members_and_unknown_to_others(
    world: World, deleted: tuple[Mapping[Standing, Scene], str], standing: Standing
) -> None:
    scene, cursor = deleted[0][standing], deleted[1]
    code = "GROUP_DELETED" if standing.status is ACCEPTED else "NOT_FOUND"
    for action in ACTIONS.values():
        with refused(code) as refusal:
            await action(scene)
        assert "membershipStatus" not in refusal.value.extensions
    for name in READS:
        with refused(code):
            await read(scene, name, cursor)
    async with world.server.socket(scene.actor.token) as socket:
        for after in (None, cursor):
            with refused(code):
                await (await socket.follow("GroupMessages", groupId=scene.group_id, after=after)).event()
    assert await scene.actor.run("Node", id=scene.group_id) is None


async def test_an_id_of_no_group_is_not_found_wherever_a_group_is_needed(world: World) -> None:
    scene = await scene_for(world, ADMIN)
    start = (await scene.actor.run("Group", id=scene.group_id))["startCursor"]
    message_id = (await world.send(scene.admin, scene.group_id))["id"]
    socket = await scene.actor.socket()
    nothing = ("nonsense!", "", ids.encode(ids.GROUP, uuid.uuid4()), scene.group_id + "=", "A" * 1_000, "\0", "ö")
    for group_id in (*nothing, scene.actor.id, message_id):
        no_message = group_id if group_id != message_id else scene.group_id
        elsewhere = replace(scene, group_id=group_id, own_id=no_message, other_id=no_message)
        for action in ACTIONS.values():
            with refused("NOT_FOUND"):
                await action(elsewhere)
        for name in READS:
            with refused("NOT_FOUND"):
                await read(elsewhere, name, start)
        with refused("NOT_FOUND"):
            await (await socket.follow("GroupMessages", groupId=group_id)).event()
    for group_id in nothing:
        assert await scene.actor.run("Node", id=group_id) is None
