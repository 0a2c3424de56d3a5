"""Groups: creating, changing and deleting them, their texts and bounds, and the list of one's own."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from schema import ids
from settings import Settings
from tests.harness import GraphQLFailure, Json, Person, Server, Stack, World, refused, serving
from tests.harness.client import JsonValue

NUL, HALF = "a\x00b", "a\ud800b"
ASTRONAUT, FULL_WIDTH_SPACE = "\U0001f9d1\u200d\U0001f680", "\u3000"
ODD_TEXTS = [ASTRONAUT, "خير \u200fخير", "e\u0301 is not é", "<b>&amp;", "\\u0041", "a\u200bb\x01c"]
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def create(person: Person, **given: Any) -> Json:
    return (await person.run("CreateGroup", input={"name": "Chess"} | given))["group"]


async def update(person: Person, group_id: str, **given: Any) -> Json:
    return (await person.run("UpdateGroup", input={"groupId": group_id} | given))["group"]


async def by_socket(person: Person, name: str, **variables: Any) -> JsonValue:
    """On a socket, which carries every text that JSON can write, halves of surrogate pairs included."""
    return await (await (await person.socket()).follow(name, **variables)).event()


async def members_of(person: Person, group_id: str) -> list[Json]:
    found = await person.run("GroupMembers", id=group_id)
    return [edge["node"] for edge in found["members"]["edges"]]


async def own_groups(person: Person) -> list[str]:
    return [edge["node"]["id"] for edge in (await person.run("MyGroups"))["edges"]]


def unknown_user() -> str:
    return ids.encode(ids.USER, uuid.uuid4())


# Creating


async def test_the_creator_is_an_accepted_admin_and_the_only_member(world: World) -> None:
    ada = await world.user()
    created = await create(ada, name="Chess", description="Every Tuesday")
    assert (created["name"], created["description"], created["memberCount"]) == ("Chess", "Every Tuesday", 1)
    assert created["lastMessage"] is None
    own = created["viewerMembership"]
    assert (own["status"], own["role"], own["addedBy"], own["user"]["id"]) == ("ACCEPTED", "ADMIN", None, ada.id)
    fetched = await ada.run("Group", id=created["id"])
    assert fetched.items() >= created.items()
    assert fetched["createdBy"]["id"] == ada.id
    assert await members_of(ada, created["id"]) == [own]
    assert await own_groups(ada) == [created["id"]]


async def test_initial_members_are_members_at_once_in_the_given_order(world: World) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    created = await create(ada, memberIds=[cleo.id, bob.id])
    assert created["memberCount"] == 3
    members = await members_of(bob, created["id"])
    assert [member["user"]["id"] for member in members] == [ada.id, cleo.id, bob.id]
    assert [member["role"] for member in members] == ["ADMIN", "MEMBER", "MEMBER"]
    assert {member["status"] for member in members} == {"ACCEPTED"}
    assert [member["addedBy"] and member["addedBy"]["id"] for member in members] == [None, ada.id, ada.id]
    assert await own_groups(cleo) == [created["id"]]
    assert await cleo.run("MyInvitations") == []


async def test_everybody_who_is_in_a_new_group_hears_of_it_once(world: World) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    streams = [await person.group_events() for person in (ada, bob, cleo)]
    created = await create(ada, memberIds=[bob.id, cleo.id])
    events = [await stream.event() for stream in streams]
    assert [event["__typename"] for event in events] == ["GroupCreatedEvent", "AddedToGroupEvent", "AddedToGroupEvent"]
    assert [event["group"]["memberCount"] for event in events] == [3, 3, 3]
    assert {(event["groupId"], event["actor"]["id"]) for event in events} == {(created["id"], ada.id)}
    for stream in streams:
        await stream.nothing()


async def test_duplicates_and_the_creators_own_id_are_ignored(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    created = await create(ada, memberIds=[ada.id, bob.id, bob.id, ada.id, bob.id])
    assert created["memberCount"] == 2
    assert created["viewerMembership"]["role"] == "ADMIN"
    assert [member["user"]["id"] for member in await members_of(ada, created["id"])] == [ada.id, bob.id]


@pytest.mark.parametrize("given", [{}, {"description": None, "memberIds": None}, {"description": "", "memberIds": []}])
async def test_description_and_members_may_be_left_out(world: World, given: Json) -> None:
    created = await create(await world.user(), **given)
    assert (created["description"], created["memberCount"]) == ("", 1)


async def test_a_group_is_created_whole_or_not_at_all(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    for nobody in (unknown_user(), "nonsense", ada.id + "=", await world.group(bob)):
        with refused("NOT_FOUND"):
            await create(ada, memberIds=[bob.id, nobody])
    assert await own_groups(ada) == []
    assert len(await own_groups(bob)) == 1


async def test_up_to_100_others_can_be_given(world: World) -> None:
    ada = await world.user()
    others = [unknown_user() for _ in range(101)]
    with refused("CONFLICT"):
        await create(ada, memberIds=others)
    with refused("NOT_FOUND"):
        await create(ada, memberIds=[*others[:100], ada.id, *others[:100]])


async def test_moments_are_written_in_one_way(world: World) -> None:
    ada = await world.user()
    created = await create(ada)
    message = await world.send(ada, created["id"])
    moments = [created["createdAt"], created["updatedAt"], created["viewerMembership"]["createdAt"]]
    moments += [message["createdAt"], message["updatedAt"]]
    assert all(MOMENT.fullmatch(moment) for moment in moments)
    assert moments == sorted(moments)


# Texts


async def test_a_name_has_1_to_100_code_points_after_trimming(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    good = {" x ": "x", "🧑" * 100: "🧑" * 100, f"{FULL_WIDTH_SPACE}Go\n": "Go", " " * 90 + "y" * 100: "y" * 100}
    for given, kept in good.items():
        assert (await create(ada, name=given))["name"] == kept
        assert (await update(ada, group_id, name=given))["name"] == kept
    for given in ("", " ", f" {FULL_WIDTH_SPACE}\t\n", "x" * 101, "🧑" * 101, NUL, HALF):
        for name, more in (("CreateGroup", {}), ("UpdateGroup", {"groupId": group_id})):
            with refused("BAD_USER_INPUT") as refusal:
                await by_socket(ada, name, input={"name": given} | more)
            assert refusal.value.extensions["field"] == "name"
    assert (await ada.run("Group", id=group_id))["name"] == "y" * 100


async def test_a_description_has_up_to_2000_code_points_and_is_not_trimmed(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    for given in ("", "  two\r\n\tlines  ", "x" * 2_000, "🧑" * 2_000):
        assert (await create(ada, description=given))["description"] == given
        assert (await update(ada, group_id, description=given))["description"] == given
    for given in ("x" * 2_001, "🧑" * 2_001, NUL, HALF):
        for name, more in (("CreateGroup", {"name": "Go"}), ("UpdateGroup", {"groupId": group_id})):
            with refused("BAD_USER_INPUT") as refusal:
                await by_socket(ada, name, input={"description": given} | more)
            assert refusal.value.extensions["field"] == "description"
    assert (await ada.run("Group", id=group_id))["description"] == "🧑" * 2_000


@pytest.mark.parametrize("odd", ODD_TEXTS)
async def test_names_and_descriptions_come_back_byte_for_byte(world: World, odd: str) -> None:
    ada, bob = await world.users("ada", "bob")
    created = await create(ada, name=odd, description=odd, memberIds=[bob.id])
    fetched = await bob.run("Group", id=created["id"])
    assert (fetched["name"], fetched["description"]) == (odd, odd)


# Changing


async def test_an_update_changes_what_is_given_and_nothing_else(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    before = await create(ada, name="Chess", description="Tuesdays", memberIds=[bob.id])
    renamed = await update(ada, before["id"], name="Go")
    assert (renamed["name"], renamed["description"]) == ("Go", "Tuesdays")
    described = await update(ada, before["id"], description="")
    assert (described["name"], described["description"]) == ("Go", "")
    both = await update(ada, before["id"], name="Chess", description="Tuesdays")
    assert before["updatedAt"] < renamed["updatedAt"] < described["updatedAt"] < both["updatedAt"]
    same = ("id", "name", "description", "createdAt", "memberCount", "lastMessage", "viewerMembership")
    assert {name: both[name] for name in same} == {name: before[name] for name in same}
    assert (await bob.run("Group", id=before["id"]))["updatedAt"] == both["updatedAt"]


async def test_an_update_that_changes_nothing_makes_no_event(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    before = await create(ada, name="Chess", description="Tuesdays", memberIds=[bob.id])
    events = await bob.group_events()
    for given in (
        {},
        {"name": "Chess"},
        {"name": " Chess "},
        {"description": "Tuesdays"},
        {"name": "Chess", "description": "Tuesdays"},
    ):
        assert await update(ada, before["id"], **given) == before
    changed = await update(ada, before["id"], name="Go")
    event = await events.event()
    assert (event["action"], event["occurredAt"]) == ("DETAILS_CHANGED", changed["updatedAt"])
    await events.nothing()


async def test_null_is_no_name_and_no_description(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    for field in ("name", "description"):
        with refused("BAD_USER_INPUT") as refusal:
            await update(ada, group_id, **{field: None})
        assert refusal.value.extensions["field"] == field


async def test_only_a_change_of_details_changes_the_moment_of_the_last_one(world: World) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    before = await create(ada, memberIds=[bob.id])
    subject = {"groupId": before["id"], "userId": cleo.id}
    await world.send(bob, before["id"])
    await ada.run("AddMember", input=subject)
    await ada.run("ChangeMemberRole", input=subject | {"role": "ADMIN"})
    await ada.run("RemoveMember", input=subject)
    after = await ada.run("Group", id=before["id"])
    assert after["updatedAt"] == before["updatedAt"]
    assert after["headCursor"] != before["headCursor"]


# Deleting


async def test_a_deleted_group_is_gone_for_its_members(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id, kept = await world.group(ada, bob), await world.group(ada, bob)
    message = await world.send(bob, group_id)
    assert await ada.run("DeleteGroup", input={"groupId": group_id}) == {"groupId": group_id}
    for member in (ada, bob):
        with refused("GROUP_DELETED"):
            await member.run("Group", id=group_id)
        with refused("GROUP_DELETED"):
            await world.send(member, group_id)
        assert await own_groups(member) == [kept]
        assert await member.run("Node", id=message["id"]) is None


async def test_of_many_deletions_at_once_one_is_done(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    tries = (ada.run("DeleteGroup", input={"groupId": group_id}) for _ in range(5))
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert [each.code for each in done if isinstance(each, GraphQLFailure)] == ["GROUP_DELETED"] * 4


async def test_deleting_a_group_ends_its_open_invitations(world: World) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    group_id = await world.group(ada)
    await ada.run("InviteMember", input={"groupId": group_id, "userId": bob.id})
    await ada.run("InviteMember", input={"groupId": group_id, "userId": cleo.id})
    await cleo.run("AnswerInvitation", input={"groupId": group_id, "accept": False})
    declined, events = await cleo.group_events(), await bob.group_events()
    await ada.run("DeleteGroup", input={"groupId": group_id})
    event = await events.event()
    assert (event["__typename"], event["reason"]) == ("InvitationEndedEvent", "GROUP_DELETED")
    assert (event["groupId"], event["group"]) == (group_id, None)
    assert await bob.run("MyInvitations") == []
    with refused("NOT_FOUND"):
        await bob.run("AnswerInvitation", input={"groupId": group_id, "accept": True})
    await declined.nothing()


# One's own groups


async def test_own_groups_come_most_recently_active_first(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    first, second, third = [await world.group(ada, bob, name=name) for name in ("1", "2", "3")]
    assert await own_groups(bob) == [third, second, first]
    await world.send(bob, first)
    assert await own_groups(bob) == [first, third, second]
    await update(ada, second, name="Two")
    assert await own_groups(bob) == [second, first, third]


async def test_a_group_shows_its_newest_message(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id, silent = await world.group(ada, bob), await world.group(ada, bob)
    sent = [await world.send(person, group_id, f"{person.username} says hello") for person in (ada, bob, ada)]
    shown = {edge["node"]["id"]: edge["node"]["lastMessage"] for edge in (await bob.run("MyGroups"))["edges"]}
    assert shown == {group_id: sent[-1], silent: None}


async def test_invitations_show_the_group_as_it_was_when_they_were_made_and_come_oldest_first(world: World) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    made = [
        await create(person, name=name, description=name * 2) for person, name in ((ada, "A"), (bob, "B"), (ada, "C"))
    ]
    for person, group in zip((ada, bob, ada), made, strict=True):
        await person.run("InviteMember", input={"groupId": group["id"], "userId": cleo.id})
    await update(bob, made[1]["id"], name="Bee")
    found = await cleo.run("MyInvitations")
    shown = [(each["groupId"], each["groupName"], each["groupDescription"], each["invitedBy"]["id"]) for each in found]
    assert shown == [
        (made[0]["id"], "A", "AA", ada.id),
        (made[1]["id"], "B", "BB", bob.id),
        (made[2]["id"], "C", "CC", ada.id),
    ]
    assert [each["createdAt"] for each in found] == sorted(each["createdAt"] for each in found)


# Bounds


@pytest.fixture(scope="session")
async def narrow_server(stack: Stack) -> AsyncIterator[Server]:
    """Two of everything: groups of a user, members of a group, open invitations of a user."""
    bounds: dict[str, Any] = {"max_groups_per_user": 2, "max_members_per_group": 2, "max_invitations_per_user": 2}
    with stack.fresh() as settings:
        async with serving(Settings(**settings, **bounds)) as server:
            yield server


@pytest.fixture
async def narrow_world(narrow_server: Server) -> AsyncIterator[World]:
    async with World(narrow_server) as world:
        yield world


async def test_a_user_can_be_in_so_many_groups_and_no_more(narrow_world: World) -> None:
    world = narrow_world
    ada, bob = await world.users("ada", "bob")
    first, second = await world.group(ada), await world.group(ada)
    others = await world.group(bob)
    await bob.run("InviteMember", input={"groupId": others, "userId": ada.id})
    for name, given in (
        ("CreateGroup", {"name": "One more"}),
        ("AnswerInvitation", {"groupId": others, "accept": True}),
    ):
        with refused("CONFLICT"):
            await ada.run(name, input=given)
    for name, given in (
        ("CreateGroup", {"name": "With Ada", "memberIds": [ada.id]}),
        ("AddMember", {"groupId": others, "userId": ada.id}),
    ):
        with refused("CONFLICT"):
            await bob.run(name, input=given)
    assert len(await ada.run("MyInvitations")) == 1
    await ada.run("LeaveGroup", input={"groupId": first})
    await ada.run("AnswerInvitation", input={"groupId": others, "accept": True})
    await ada.run("DeleteGroup", input={"groupId": second})
    await world.group(ada)
    assert len(await own_groups(ada)) == 2


async def test_racing_creations_stop_at_the_bound(narrow_world: World) -> None:
    world = narrow_world
    ada = await world.user()
    done = await asyncio.gather(*(create(ada) for _ in range(8)), return_exceptions=True)
    assert [each.code for each in done if isinstance(each, GraphQLFailure)] == ["CONFLICT"] * 6
    assert len(await own_groups(ada)) == 2


async def test_a_group_can_have_so_many_members_and_no_more(narrow_world: World) -> None:
    world = narrow_world
    ada, bob, cleo, dan = await world.users("ada", "bob", "cleo", "dan")
    with refused("CONFLICT"):
        await world.group(ada, bob, cleo)
    group_id = await world.group(ada)
    await ada.run("InviteMember", input={"groupId": group_id, "userId": bob.id})
    with refused("CONFLICT"):
        await ada.run("InviteMember", input={"groupId": group_id, "userId": cleo.id})
    await ada.run("AddMember", input={"groupId": group_id, "userId": dan.id})
    for name, user in (("AddMember", cleo), ("InviteMember", cleo)):
        with refused("CONFLICT"):
            await ada.run(name, input={"groupId": group_id, "userId": user.id})
    with refused("CONFLICT"):
        await bob.run("AnswerInvitation", input={"groupId": group_id, "accept": True})
    assert [each["groupId"] for each in await bob.run("MyInvitations")] == [group_id]
    await dan.run("LeaveGroup", input={"groupId": group_id})
    await bob.run("AnswerInvitation", input={"groupId": group_id, "accept": True})
    assert (await ada.run("Group", id=group_id))["memberCount"] == 2


async def test_a_user_can_have_so_many_open_invitations_and_no_more(narrow_world: World) -> None:
    world = narrow_world
    bob, *admins = await world.users("bob", "ada", "cleo", "dan")
    made = [(admin, {"groupId": await world.group(admin), "userId": bob.id}) for admin in admins]
    for admin, subject in (*made[:2], *made[:2]):
        await admin.run("InviteMember", input=subject)
    last, subject = made[2]
    with refused("CONFLICT"):
        await last.run("InviteMember", input=subject)
    await last.run("AddMember", input=subject)
    admin, subject = made[0]
    await bob.run("AnswerInvitation", input={"groupId": subject["groupId"], "accept": False})
    await admin.run("InviteMember", input=subject)
    invited_to = {each["groupId"] for each in await bob.run("MyInvitations")}
    assert invited_to == {subject["groupId"] for _, subject in made[:2]}


async def test_the_dates_of_a_group_are_those_of_its_events(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    events = await bob.group_events()
    created = await create(ada, memberIds=[bob.id])
    added = await events.event()
    assert added["occurredAt"] == created["createdAt"] == added["membership"]["createdAt"]
    assert datetime.fromisoformat(created["createdAt"]).utcoffset() is not None
