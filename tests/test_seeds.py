"""What Parley was asked for: its five test cases under their titles, and a test for each line of the core.

`LINES` says where each line is tested; what nothing else tests is tested here.
"""

import asyncio
import importlib
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.counting import statements
from tests.harness import Json, Person, Server, Subscription, World, operation, refused
from tests.harness.client import JsonValue
from tests.harness.world import PASSWORD

LINES: Mapping[str, tuple[str, ...]] = {
    "Send a group message": (
        "test_messages.test_a_sent_message_is_answered_whole_and_is_there_for_every_member",
        "test_messages.test_a_repeat_gives_the_same_message_and_makes_no_event",
    ),
    "The membership status is checked on every send, inside the creation of the message": (
        "test_permissions.test_a_standing_allows_exactly_what_the_table_says",
        "test_permissions.test_within_one_request_a_member_who_has_left_is_refused_from_there_on",
        "test_messages.test_membership_is_judged_before_a_repeat",
    ),
    "A message goes to members whose status is accepted, and to nobody else": (
        "test_seeds.test_only_accepted_members_get_a_message",
    ),
    "The membership counts as it is at every broadcast": (
        "test_seeds.test_a_removed_member_gets_nothing_that_was_sent_after_the_removal",
    ),
    "No message leaks to who is not a member": (
        "test_leaks.test_what_is_said_in_a_group_is_shown_to_those_who_may_see_it_and_to_nobody_else",
        "test_leaks.test_no_byte_that_an_outsider_gets_depends_on_what_happens_in_the_group",
        "test_leaks.test_whoever_is_removed_gets_the_end_of_every_stream_and_nothing_that_came_after",
        "test_permissions.test_a_refusal_does_not_tell_who_is_in_the_group",
    ),
    "Who is online gets a message at once, others at their next login": (
        "test_seeds.test_who_was_away_catches_up_at_the_next_login",
    ),
    "Accepted: sends and receives": ("test_seeds.test_an_accepted_member_sends_and_receives",),
    "Pending: neither sends nor receives": ("test_seeds.test_a_pending_member_neither_sends_nor_receives",),
    "Rejected: no access to the messages at all": ("test_seeds.test_a_rejected_member_has_no_access_at_all",),
    "The event of a message: type, sender, group, message": (
        "test_seeds.test_the_event_of_a_message_says_what_happened_who_did_it_and_where",
    ),
    "The fields of a message: id, content, sender, group, time": (
        "test_seeds.test_the_event_of_a_message_says_what_happened_who_did_it_and_where",
        "test_messages.test_a_message_names_its_group_and_its_sender",
    ),
    "The embedded sender: id, first and last name, avatar, nickname": (
        "test_seeds.test_a_message_shows_its_sender_with_names_and_picture",
    ),
    "A message is read with full details after it was written, and then published": (
        "test_seeds.test_a_message_can_be_read_by_all_when_its_event_comes",
    ),
    "The sender receives the event as well": (
        "test_messages.test_the_sender_hears_of_their_own_message_on_every_device",
        "test_messages.test_racing_repeats_give_one_message",
    ),
    "An event for each change of the members": ("test_seeds.test_members_hear_of_every_change_among_them",),
    "What happened to a member: joined, left, promoted, demoted": (
        "test_seeds.test_members_hear_of_every_change_among_them",
    ),
    "The number of members is live": ("test_seeds.test_the_number_of_members_is_live",),
    "Looking up the members costs the same for any number of connections": (
        "test_seeds.test_a_delivery_asks_the_database_as_often_for_one_connection_as_for_ten",
    ),
    "The list of members is read in a batch": (
        "test_seeds.test_a_page_of_members_asks_the_database_as_often_for_two_as_for_twenty",
        "test_pages.test_pages_forward_give_the_whole_list_in_order",
    ),
    "Several connections of one user": ("test_messages.test_the_sender_hears_of_their_own_message_on_every_device",),
    "Failed connections are cleaned up": ("test_seeds.test_a_broken_connection_leaves_nothing_behind",),
    "The size of a message is limited": (
        "test_messages.test_content_of_1_to_4000_code_points_is_taken",
        "test_messages.test_other_content_is_refused_and_takes_no_number",
    ),
    "403: not a member": ("test_permissions.test_who_is_not_a_member_reads_nothing_in_any_way",),
    "403 says the membership status": (
        "test_permissions.test_a_standing_allows_exactly_what_the_table_says",
        "test_memberships.test_declining_an_invitation_shows_nothing_of_the_group",
    ),
    "404: no such group, said before membership is looked at": (
        "test_permissions.test_an_id_of_no_group_is_not_found_wherever_a_group_is_needed",
    ),
    "400: content that is not valid": ("test_messages.test_other_content_is_refused_and_takes_no_number",),
    "The causes can be told apart: status changed, group deleted, data that does not fit": (
        "test_seeds.test_the_causes_of_a_refusal_can_be_told_apart",
        "test_permissions.test_a_deleted_group_is_deleted_for_its_members_and_unknown_to_others",
    ),
    "The members of a group can be asked for, with their status": (
        "test_groups.test_initial_members_are_members_at_once_in_the_given_order",
        "test_memberships.test_an_invited_user_is_pending_and_no_member",
    ),
    "What came while one was disconnected is there afterwards": (
        "test_seeds.test_websocket_reconnection",
        "test_messages.test_a_repeat_gives_the_same_message_and_makes_no_event",
    ),
    "Polling where sockets fail": (
        "test_messages.test_polling_gives_the_same_events_and_cursors_as_the_stream",
        "test_messages.test_polling_page_by_page_misses_nothing_while_people_write",
    ),
    "Permissions validated everywhere, transactions, structured logs, a pool of connections": (
        "test_permissions.test_a_standing_allows_exactly_what_the_table_says",
        "test_groups.test_a_group_is_created_whole_or_not_at_all",
        "test_seeds.test_every_operation_is_one_line_of_the_log_without_secrets",
        "test_seeds.test_more_requests_than_connections_are_all_answered",
    ),
    "Create a group, whose creator is its admin": (
        "test_groups.test_the_creator_is_an_accepted_admin_and_the_only_member",
    ),
    "Add members with a role, one after the other, by admins only": (
        "test_memberships.test_an_added_user_is_a_member_with_the_given_role_at_once",
        "test_permissions.test_a_standing_allows_exactly_what_the_table_says",
        "test_seeds.test_multiple_members",
    ),
    "The creator hears of the new group": ("test_seeds.test_creator_sees_group",),
    "The added user hears of it, with the group, who added them and their role": (
        "test_seeds.test_member_added_while_online",
    ),
    "The admin who acted hears of it as well": ("test_seeds.test_member_added_while_online",),
    "The list of one's groups, loaded at login and kept by events": (
        "test_seeds.test_the_list_of_groups_is_kept_by_its_events_alone",
    ),
    "Events go to those whom they concern and never to all connections": (
        "test_permissions.test_ones_own_groups_never_tell_of_a_group_one_is_not_a_member_of",
        "test_seeds.test_only_accepted_members_get_a_message",
    ),
    "A push that fails never fails the write": ("test_seeds.test_a_push_that_fails_never_fails_the_write",),
    "Being added works like accepting an invitation": (
        "test_seeds.test_being_added_and_accepting_an_invitation_look_alike",
    ),
    "Events are typed, and new types are easy to add": (
        "test_seeds.test_every_event_of_a_group_is_a_type_of_its_own_with_what_all_have_in_common",
    ),
}


def test_every_line_is_tested_by_tests_that_there_are() -> None:
    missing = [
        name
        for names in LINES.values()
        for module, name in (each.split(".") for each in names)
        if not hasattr(importlib.import_module(f"tests.{module}"), name)
    ]
    assert not missing
    assert all(LINES.values())


class Sidebar:
    """The list of groups that a client shows: the snapshot, then each event applied. It asks for nothing else."""

    def __init__(self, stream: Subscription) -> None:
        self.groups: dict[str, Json] = {}
        self.invitations: dict[str, Json] = {}
        self._stream = stream

    @classmethod
    async def open(cls, person: Person) -> "Sidebar":
        sidebar = cls(await (await person.socket()).follow("MyGroupEvents", snapshot=True))
        await sidebar.take()
        return sidebar

    async def take(self) -> Json:
        """Wait for the next event and apply it as the schema's descriptions say."""
        news: Json = await self._stream.event()
        match news["__typename"]:
            case "GroupsSnapshotEvent":
                self.groups = {group["id"]: group for group in news["groups"]}
                self.invitations = {each["groupId"]: each for each in news["invitations"]}
            case "InvitedToGroupEvent":
                self.invitations[news["groupId"]] = news["invitation"]
            case "InvitationEndedEvent":
                self.invitations.pop(news["groupId"], None)
            case _ if news["group"] is None:
                self.groups.pop(news["groupId"], None)
            case _:
                self.groups[news["groupId"]] = news["group"]
        return news

    async def nothing(self) -> None:
        await self._stream.nothing()


async def act(person: Person, name: str, group_id: str, /, **given: Any) -> JsonValue:
    return await person.run(name, input={"groupId": group_id} | given)


async def log_in_again(person: Person) -> None:
    """A new session of the same user, as after a time away."""
    payload = await person.client.run("Login", input={"username": person.username, "password": PASSWORD})
    person.token = person.client.token = payload["token"]


async def fetched_groups(person: Person) -> dict[str, Json]:
    return {edge["node"]["id"]: edge["node"] for edge in (await person.run("MyGroups"))["edges"]}


async def codes_at_the_end(stream: Subscription) -> list[str]:
    return [error["extensions"]["code"] for error in await stream.end()]


# The five test cases


async def test_creator_sees_group(world: World) -> None:
    """
    - Create a new group
    - Verify group appears in sidebar immediately
    - Verify no page refresh needed
    """
    ada = await world.user()
    sidebar, other_device = await Sidebar.open(ada), await Sidebar.open(ada)
    group_id = await world.group(ada, name="Chess")
    for each in (sidebar, other_device):
        news = await each.take()
        assert (news["__typename"], news["groupId"], news["actor"]["id"]) == ("GroupCreatedEvent", group_id, ada.id)
        assert (each.groups[group_id]["name"], each.groups[group_id]["memberCount"]) == ("Chess", 1)
        assert each.groups[group_id]["viewerMembership"]["role"] == "ADMIN"
        await each.nothing()


async def test_member_added_while_online(world: World) -> None:
    """
    - User A creates group
    - User A adds User B (who is online)
    - Verify User B sees group appear immediately
    - Verify User A sees updated member count
    """
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, name="Chess")
    of_ada, of_bob = await Sidebar.open(ada), await Sidebar.open(bob)
    await act(ada, "AddMember", group_id, userId=bob.id, role="MODERATOR")

    news = await of_bob.take()
    assert (news["__typename"], news["groupId"], news["actor"]["id"]) == ("AddedToGroupEvent", group_id, ada.id)
    membership = news["membership"]
    assert (membership["role"], membership["status"], membership["addedBy"]["id"]) == ("MODERATOR", "ACCEPTED", ada.id)
    assert of_bob.groups[group_id]["name"] == "Chess"

    news = await of_ada.take()
    assert (news["__typename"], news["action"]) == ("GroupUpdatedEvent", "MEMBER_ADDED")
    assert (news["user"]["id"], news["actor"]["id"]) == (bob.id, ada.id)
    assert of_ada.groups[group_id]["memberCount"] == of_bob.groups[group_id]["memberCount"] == 2


async def test_multiple_members(world: World) -> None:
    """
    - User A creates group
    - User A adds Users B, C, D
    - Verify all users see group
    - Verify correct member count
    """
    ada, *others = await world.users("ada", "bob", "cleo", "dan")
    sidebars = [await Sidebar.open(person) for person in (ada, *others)]
    group_id = await world.group(ada)
    await sidebars[0].take()
    for count, person in enumerate(others, start=1):
        await act(ada, "AddMember", group_id, userId=person.id)
        for sidebar in sidebars[: count + 1]:
            await sidebar.take()
    for sidebar in sidebars:
        await sidebar.nothing()
        assert sidebar.groups[group_id]["memberCount"] == 4
    for person in (ada, *others):
        assert list(await fetched_groups(person)) == [group_id]


async def test_offline_member(world: World) -> None:
    """
    - User A creates group
    - User A adds User B (who is offline)
    - User B logs in later
    - Verify User B sees group on login
    """
    ada, bob = await world.users("ada", "bob")
    await bob.run("Logout")
    group_id = await world.group(ada, name="Chess")
    await act(ada, "AddMember", group_id, userId=bob.id)
    await world.send(ada, group_id, "Welcome")
    await log_in_again(bob)
    shown = (await fetched_groups(bob))[group_id]
    assert (shown["name"], shown["memberCount"], shown["lastMessage"]["content"]) == ("Chess", 2, "Welcome")
    assert (await Sidebar.open(bob)).groups == {group_id: shown}


async def test_websocket_reconnection(world: World) -> None:
    """
    - Create group
    - Disconnect WebSocket
    - Reconnect
    - Verify groups still load correctly
    """
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    async with world.server.socket(bob.token) as socket:
        stream = await socket.follow("GroupMessages", groupId=group_id, after=await bob.head(group_id))
        sent = await world.send(ada, group_id, "before")
        last = await stream.event()
        assert last["message"] == sent
    missed = [await world.send(ada, group_id, content) for content in ("one", "two", "three")]
    await act(ada, "UpdateGroup", group_id, name="Go")
    other = await world.group(ada, bob)

    sidebar = await Sidebar.open(bob)
    assert sidebar.groups == await fetched_groups(bob)
    assert (sidebar.groups[group_id]["name"], set(sidebar.groups)) == ("Go", {group_id, other})
    stream = await bob.messages(group_id, after=last["cursor"])
    assert [(await stream.event())["message"] for _ in missed] == missed
    live = await world.send(ada, group_id, "live again")
    assert (await stream.event())["message"] == live


# Who gets what


async def test_only_accepted_members_get_a_message(world: World) -> None:
    ada, bob, *others = await world.users("ada", "bob", "pending", "rejected", "removed", "outsider")
    pending, rejected, removed, _ = others
    group_id = await world.group(ada, bob, removed)
    for person in (pending, rejected):
        await act(ada, "InviteMember", group_id, userId=person.id)
    await act(rejected, "AnswerInvitation", group_id, accept=False)
    await act(ada, "RemoveMember", group_id, userId=removed.id)
    listening = [await person.messages(group_id) for person in (ada, bob)]
    bystanders = [await Sidebar.open(person) for person in others]
    refused_streams = [await (await person.socket()).follow("GroupMessages", groupId=group_id) for person in others]
    assert [await codes_at_the_end(stream) for stream in refused_streams] == [["FORBIDDEN"]] * len(others)
    message = await world.send(bob, group_id)
    assert [(await stream.event())["message"] for stream in listening] == [message] * 2
    for sidebar in bystanders:
        await sidebar.nothing()


async def test_a_removed_member_gets_nothing_that_was_sent_after_the_removal(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    for content in ("sent in one request with the removal", "and again"):
        group_id = await world.group(ada, bob)
        stream, witness = await bob.messages(group_id), await ada.messages(group_id)
        document = """mutation ($id: ID!, $user: ID!, $content: String!) {
          before: sendGroupMessage(input: {groupId: $id, content: "before"}) { replayed }
          removeMember(input: {groupId: $id, userId: $user}) { groupId }
          after: sendGroupMessage(input: {groupId: $id, content: $content}) { replayed }
        }"""
        await ada.client.execute(document, {"id": group_id, "user": bob.id, "content": content})
        assert [(await witness.event())["message"]["content"] for _ in range(2)] == ["before", content]
        assert await contents_until_the_end(stream) in (["before"], []), "it may end before the removal, never after"
        with refused("FORBIDDEN"):
            await bob.run("GroupHistory", id=group_id)


async def contents_until_the_end(stream: Subscription) -> list[str]:
    """What came before the stream ended with the membership."""
    contents: list[str] = []
    with refused("MEMBERSHIP_ENDED"):
        while True:
            contents.append((await stream.event())["message"]["content"])
    return contents


async def test_who_was_away_catches_up_at_the_next_login(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    seen = await bob.head(group_id)
    await bob.run("Logout")
    online, missed = await ada.messages(group_id), await world.send(ada, group_id, "Are you there?")
    assert (await online.event())["message"] == missed
    await log_in_again(bob)
    stream = await bob.messages(group_id, after=seen)
    assert (await stream.event())["message"] == missed
    assert (await bob.run("Group", id=group_id))["lastMessage"] == missed


async def test_an_accepted_member_sends_and_receives(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await act(ada, "InviteMember", group_id, userId=bob.id)
    await act(bob, "AnswerInvitation", group_id, accept=True)
    streams = [await person.messages(group_id) for person in (ada, bob)]
    for sender in (bob, ada):
        message = await world.send(sender, group_id)
        assert [(await stream.event())["message"] for stream in streams] == [message] * 2


async def test_a_pending_member_neither_sends_nor_receives(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await act(ada, "InviteMember", group_id, userId=bob.id)
    await check_shut_out(world, ada, bob, group_id, "PENDING")


async def test_a_rejected_member_has_no_access_at_all(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await act(ada, "InviteMember", group_id, userId=bob.id)
    await act(bob, "AnswerInvitation", group_id, accept=False)
    await check_shut_out(world, ada, bob, group_id, "REJECTED")


async def check_shut_out(world: World, ada: Person, bob: Person, group_id: str, status: str) -> None:
    with refused("FORBIDDEN") as refusal:
        await world.send(bob, group_id)
    assert refusal.value.extensions["membershipStatus"] == status
    assert f"Membership status: {status}" in refusal.value.errors[0]["message"]
    stream = await (await bob.socket()).follow("GroupMessages", groupId=group_id)
    await world.send(ada, group_id)
    (error,) = await stream.end()
    assert (error["extensions"]["code"], error["extensions"]["membershipStatus"]) == ("FORBIDDEN", status)
    with refused("FORBIDDEN"):
        await bob.run("GroupHistory", id=group_id)


async def test_members_hear_of_every_change_among_them(world: World) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    group_id = await world.group(ada, bob)
    sidebar = await Sidebar.open(bob)
    subject: Json = {"userId": cleo.id}
    steps: list[tuple[str | None, Person, str, Json]] = [
        ("MEMBER_ADDED", ada, "AddMember", subject),
        ("MEMBER_PROMOTED", ada, "ChangeMemberRole", subject | {"role": "MODERATOR"}),
        ("MEMBER_PROMOTED", ada, "ChangeMemberRole", subject | {"role": "ADMIN"}),
        ("MEMBER_DEMOTED", ada, "ChangeMemberRole", subject | {"role": "MEMBER"}),
        ("MEMBER_LEFT", cleo, "LeaveGroup", {}),
        (None, ada, "InviteMember", subject),
        ("MEMBER_JOINED", cleo, "AnswerInvitation", {"accept": True}),
        ("MEMBER_REMOVED", ada, "RemoveMember", subject),
    ]
    for action, actor, name, given in steps:
        await act(actor, name, group_id, **given)
        if action is not None:
            news = await sidebar.take()
            assert (news["__typename"], news["action"]) == ("GroupUpdatedEvent", action)
            assert (news["user"]["id"], news["actor"]["id"]) == (cleo.id, actor.id)
    await sidebar.nothing()


async def test_the_number_of_members_is_live(world: World) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    group_id = await world.group(ada, bob)
    sidebar = await Sidebar.open(ada)
    for actor, name, given, count in (
        (ada, "AddMember", {"userId": cleo.id}, 3),
        (cleo, "LeaveGroup", {}, 2),
        (ada, "RemoveMember", {"userId": bob.id}, 1),
    ):
        await act(actor, name, group_id, **given)
        await sidebar.take()
        assert sidebar.groups[group_id]["memberCount"] == count
        assert (await ada.run("Group", id=group_id))["memberCount"] == count


async def test_being_added_and_accepting_an_invitation_look_alike(world: World) -> None:
    ada, added, invited = await world.users("ada", "added", "invited")
    group_id = await world.group(ada)
    of_added, of_invited = await Sidebar.open(added), await Sidebar.open(invited)
    await act(ada, "AddMember", group_id, userId=added.id)
    await act(ada, "InviteMember", group_id, userId=invited.id)
    await of_invited.take()
    assert list(of_invited.invitations) == [group_id]
    await act(invited, "AnswerInvitation", group_id, accept=True)
    assert (await of_invited.take())["reason"] == "ACCEPTED"
    for sidebar, actor in ((of_added, ada), (of_invited, invited)):
        news = await sidebar.take()
        assert (news["__typename"], news["actor"]["id"]) == ("AddedToGroupEvent", actor.id)
        entered = news["membership"]
        assert (entered["status"], entered["role"], entered["addedBy"]["id"]) == ("ACCEPTED", "MEMBER", ada.id)
        assert list(sidebar.groups) == [group_id]
        assert sidebar.invitations == {}


async def test_the_list_of_groups_is_kept_by_its_events_alone(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    kept, left, deleted, removed = [await world.group(ada, bob) for _ in range(4)]
    sidebar = await Sidebar.open(bob)
    assert sidebar.groups == await fetched_groups(bob)
    joined = await world.group(ada)
    steps: list[tuple[Person, str, str, Json]] = [
        (bob, "LeaveGroup", left, {}),
        (ada, "DeleteGroup", deleted, {}),
        (ada, "RemoveMember", removed, {"userId": bob.id}),
        (ada, "AddMember", joined, {"userId": bob.id}),
        (ada, "UpdateGroup", kept, {"name": "Another name"}),
    ]
    for actor, name, group_id, given in steps:
        await act(actor, name, group_id, **given)
        await sidebar.take()
        assert sidebar.groups == await fetched_groups(bob)
    await sidebar.nothing()
    assert set(sidebar.groups) == {kept, joined}


# What is in an event


async def test_the_event_of_a_message_says_what_happened_who_did_it_and_where(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    document = """subscription ($groupId: ID!, $after: String) { groupMessages(groupId: $groupId, after: $after) {
      kind actor { id } message { id content createdAt group { id } sender { id } }
    } }"""
    variables = {"groupId": group_id, "after": await bob.head(group_id)}
    stream = await (await bob.socket()).subscribe(document, variables)
    sent = await world.send(ada, group_id, "Hello")
    message = {"id": sent["id"], "content": "Hello", "createdAt": sent["createdAt"]}
    whole = message | {"group": {"id": group_id}, "sender": {"id": ada.id}}
    assert await stream.event() == {"kind": "SENT", "actor": {"id": ada.id}, "message": whole}


async def test_a_message_shows_its_sender_with_names_and_picture(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    names = {"firstName": "Ada", "lastName": "Lovelace", "nickname": "Countess", "avatarUrl": "/ada.png"}
    await ada.run("UpdateViewer", input=names)
    group_id = await world.group(ada, bob)
    stream = await bob.messages(group_id)
    sent = await world.send(ada, group_id)
    for message in (sent, (await stream.event())["message"]):
        assert message["sender"].items() >= (names | {"id": ada.id, "displayName": "Countess"}).items()


async def test_a_message_can_be_read_by_all_when_its_event_comes(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    stream = await bob.messages(group_id)
    sending = asyncio.create_task(world.send(ada, group_id))
    told = (await stream.event())["message"]
    assert (await bob.run("Group", id=group_id))["lastMessage"] == told
    assert await sending == told


async def test_every_event_of_a_group_is_a_type_of_its_own_with_what_all_have_in_common(world: World) -> None:
    ada = await world.user()
    document = (
        """{ __type(name: "GroupEvent") { fields { name } possibleTypes { name description fields { name } } } }"""
    )
    shown = (await ada.client.execute(document))["__type"]
    common = {field["name"] for field in shown["fields"]}
    assert common == {"occurredAt", "actor", "groupId", "group"}
    assert len(shown["possibleTypes"]) >= 8
    for each in shown["possibleTypes"]:
        assert each["name"].endswith("Event")
        assert each["description"]
        assert common <= {field["name"] for field in each["fields"]}


async def test_the_causes_of_a_refusal_can_be_told_apart(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    ended, deleted, kept = [await world.group(ada, bob) for _ in range(3)]
    streams = [await bob.messages(group_id) for group_id in (ended, deleted)]
    cursors = {group_id: await bob.head(group_id) for group_id in (ended, deleted, kept)}
    await act(ada, "RemoveMember", ended, userId=bob.id)
    await act(ada, "DeleteGroup", deleted)
    assert [await codes_at_the_end(stream) for stream in streams] == [["MEMBERSHIP_ENDED"], ["GROUP_DELETED"]]
    later = {ended: ("FORBIDDEN", ended), deleted: ("GROUP_DELETED", deleted), kept: ("CURSOR_INVALID", ended)}
    for group_id, (code, cursor_of) in later.items():
        stream = await (await bob.socket()).follow("GroupMessages", groupId=group_id, after=cursors[cursor_of])
        assert await codes_at_the_end(stream) == [code]


# What it costs, and what fails


async def test_a_delivery_asks_the_database_as_often_for_one_connection_as_for_ten(world: World) -> None:
    ada, *people = await world.users("ada", *["reader"] * 10)
    group_id = await world.group(ada, *people)
    costs: list[int] = []
    streams: list[Subscription] = []
    for more in (people[:1], people[1:]):
        streams += [await person.messages(group_id) for person in more]
        for _ in range(2):  # the replay of a start may still bring the first, and what it read last the second
            await world.send(ada, group_id, "warm up")
            await asyncio.gather(*(stream.event() for stream in streams))
        with statements(world.server) as seen:
            message = await world.send(ada, group_id)
            assert [(await stream.event())["message"] for stream in streams] == [message] * len(streams)
        costs.append(len(seen))
    assert costs[0] == costs[1] > 0


async def test_a_page_of_members_asks_the_database_as_often_for_two_as_for_twenty(world: World) -> None:
    ada, *people = await world.users("ada", *["member"] * 19)
    group_id = await world.group(ada, *people)
    costs: list[int] = []
    for size in (2, 20):
        with statements(world.server) as seen:
            found = await ada.run("GroupMembers", id=group_id, first=size)
        assert len(found["members"]["edges"]) == size
        costs.append(len(seen))
    assert costs[0] == costs[1] > 0


@pytest.mark.usefixtures("leaves_nothing_behind")
async def test_a_broken_connection_leaves_nothing_behind(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    async with world.server.socket(bob.token) as socket:
        await (await socket.follow("MyGroupEvents", snapshot=True)).event()
        stream = await socket.follow("GroupMessages", groupId=group_id, after=await bob.head(group_id))
        await world.send(ada, group_id)
        await stream.event()
        socket.lose()
    await world.send(ada, group_id)
    assert (await bob.run("Group", id=group_id))["memberCount"] == 2


async def test_a_push_that_fails_never_fails_the_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    position = await bob.head(group_id)

    async def broken(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr("broadcaster.Broadcast.publish", broken)
        message = await world.send(ada, group_id)
        await act(ada, "UpdateGroup", group_id, name="Go")
    page = (await bob.run("GroupMessageEvents", id=group_id, after=position))["messageEvents"]
    assert [each["message"] for each in page["events"]] == [message]
    assert (await bob.run("Group", id=group_id))["name"] == "Go"


async def test_every_operation_is_one_line_of_the_log_without_secrets(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    capfd.readouterr()
    await world.send(ada, group_id, "a secret of Ada's", "a-client-message-id")
    with refused("FORBIDDEN"):
        await world.send(bob, group_id, "a secret of Bob's")
    await bob.client.run("Login", input={"username": bob.username, "password": PASSWORD})
    await ada.client.execute(operation("Viewer"))
    written = capfd.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    shown = [(each["kind"], each["name"], each["code"]) for each in lines if each["event"] == "operation"]
    assert shown == [
        ("mutation", "SendGroupMessage", "OK"),
        ("mutation", "SendGroupMessage", "FORBIDDEN"),
        ("mutation", "Login", "OK"),
        ("query", "Viewer", "OK"),
    ]
    assert all(each["ms"] > 0 and each["request_id"] for each in lines if each["event"] == "operation")
    for secret in ("a secret of", "a-client-message-id", ada.token, bob.token, PASSWORD):
        assert secret not in written


async def test_more_requests_than_connections_are_all_answered(world: World) -> None:
    assert isinstance(world.server, Server)
    many = 3 * world.server.settings.database_pool_size
    ada = await world.user()
    group_id = await world.group(ada)
    sent = await asyncio.gather(*(world.send(ada, group_id, str(number)) for number in range(many)))
    shown = await asyncio.gather(*(ada.run("Group", id=group_id) for _ in range(many)))
    last = max(sent, key=lambda message: message["seq"])
    assert [group["lastMessage"] for group in shown] == [last] * many
