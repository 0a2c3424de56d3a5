"""Members: adding, inviting, answering, removing, leaving and roles, and who must stay."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from schema import ids
from tests.harness import GraphQLFailure, Json, Person, World, refused


async def act(person: Person, name: str, group_id: str, /, **given: Any) -> Json:
    return await person.run(name, input={"groupId": group_id} | given)


async def invite(admin: Person, group_id: str, user: Person) -> Json:
    return (await act(admin, "InviteMember", group_id, userId=user.id))["membership"]


async def add(admin: Person, group_id: str, user: Person, **given: Any) -> Json:
    return (await act(admin, "AddMember", group_id, userId=user.id, **given))["membership"]


async def answer(user: Person, group_id: str, *, accept: bool) -> Json:
    return (await act(user, "AnswerInvitation", group_id, accept=accept))["membership"]


async def remove(admin: Person, group_id: str, user: Person) -> Json:
    return await act(admin, "RemoveMember", group_id, userId=user.id)


async def change_role(admin: Person, group_id: str, user: Person, role: str) -> Json:
    return (await act(admin, "ChangeMemberRole", group_id, userId=user.id, role=role))["membership"]


async def roles(person: Person, group_id: str) -> dict[str, str]:
    """The members by username with their roles, after a check that all are accepted and counted."""
    found = await person.run("GroupMembers", id=group_id)
    members = [edge["node"] for edge in found["members"]["edges"]]
    assert {member["status"] for member in members} == {"ACCEPTED"}
    assert (await person.run("Group", id=group_id))["memberCount"] == len(members)
    return {member["user"]["username"]: member["role"] for member in members}


async def check_status(person: Person, group_id: str, status: str | None) -> None:
    """The status that a refusal names; None: no membership."""
    with refused("FORBIDDEN") as refusal:
        await person.run("Group", id=group_id)
    assert refusal.value.extensions["membershipStatus"] == status


# Adding


@pytest.mark.parametrize("role", ["MEMBER", "MODERATOR", "ADMIN"])
async def test_an_added_user_is_a_member_with_the_given_role_at_once(world: World, role: str) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    added = await add(ada, group_id, bob, role=role)
    assert (added["status"], added["role"]) == ("ACCEPTED", role)
    assert (added["user"]["id"], added["addedBy"]["id"]) == (bob.id, ada.id)
    assert (await bob.run("Group", id=group_id))["viewerMembership"] == added
    assert await roles(bob, group_id) == {ada.username: "ADMIN", bob.username: role}
    await world.send(bob, group_id)


@pytest.mark.parametrize("given", [{}, {"role": None}])
async def test_without_a_role_an_added_user_is_a_plain_member(world: World, given: Json) -> None:
    ada, bob = await world.users("ada", "bob")
    assert (await add(ada, await world.group(ada), bob, **given))["role"] == "MEMBER"


async def test_adding_an_invited_user_makes_a_member_and_ends_the_invitation(world: World) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    group_id = await world.group(ada, cleo)
    await change_role(ada, group_id, cleo, "MODERATOR")
    invited = await invite(cleo, group_id, bob)
    events = await bob.group_events()
    added = await add(ada, group_id, bob, role="MODERATOR")
    same = ("id", "createdAt")
    assert {name: added[name] for name in same} == {name: invited[name] for name in same}
    assert (added["status"], added["role"], added["addedBy"]["id"]) == ("ACCEPTED", "MODERATOR", ada.id)
    assert await bob.run("MyInvitations") == []
    ended, entered = await events.event(), await events.event()
    assert (ended["__typename"], ended["reason"]) == ("InvitationEndedEvent", "ACCEPTED")
    assert (entered["__typename"], entered["membership"]) == ("AddedToGroupEvent", added)


async def test_adding_somebody_who_declined_makes_a_member(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await invite(ada, group_id, bob)
    await answer(bob, group_id, accept=False)
    assert (await add(ada, group_id, bob))["status"] == "ACCEPTED"
    assert await roles(bob, group_id) == {ada.username: "ADMIN", bob.username: "MEMBER"}


async def test_adding_a_member_again_is_a_conflict_and_keeps_the_role(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    head = await ada.head(group_id)
    for user in (ada, bob):
        with refused("CONFLICT"):
            await add(ada, group_id, user, role="MODERATOR")
    assert await roles(ada, group_id) == {ada.username: "ADMIN", bob.username: "MEMBER"}
    assert await ada.head(group_id) == head


async def test_of_many_who_add_one_user_at_once_one_does(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    done = await asyncio.gather(*(add(ada, group_id, bob) for _ in range(5)), return_exceptions=True)
    assert [each.code for each in done if isinstance(each, GraphQLFailure)] == ["CONFLICT"] * 4
    assert await roles(bob, group_id) == {ada.username: "ADMIN", bob.username: "MEMBER"}


@pytest.mark.parametrize("name", ["AddMember", "InviteMember", "RemoveMember", "ChangeMemberRole"])
async def test_a_user_who_is_not_there_is_not_found(world: World, name: str) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    head = await ada.head(group_id)
    more = {"role": "ADMIN"} if name == "ChangeMemberRole" else {}
    for nobody in (ids.encode(ids.USER, uuid.uuid4()), "nonsense", "", group_id):
        with refused("NOT_FOUND"):
            await act(ada, name, group_id, userId=nobody, **more)
    assert await ada.head(group_id) == head


# Inviting and answering


async def test_an_invited_user_is_pending_and_no_member(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    invited = await invite(ada, group_id, bob)
    assert (invited["status"], invited["role"]) == ("PENDING", "MEMBER")
    assert (invited["user"]["id"], invited["addedBy"]["id"]) == (bob.id, ada.id)
    assert await roles(ada, group_id) == {ada.username: "ADMIN"}
    await check_status(bob, group_id, "PENDING")
    (invitation,) = await bob.run("MyInvitations")
    assert (invitation["groupId"], invitation["groupName"]) == (group_id, "Chess")
    assert (invitation["invitedBy"]["id"], invitation["createdAt"]) == (ada.id, invited["createdAt"])


async def test_a_pending_user_sees_their_own_membership_without_the_group(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    invited = await invite(ada, await world.group(ada), bob)
    document = "query ($id: ID!) { node(id: $id) { ... on Membership { id status role group { name } } } }"
    shown = await bob.client.execute(document, {"id": invited["id"]})
    assert shown["node"] == {"id": invited["id"], "status": "PENDING", "role": "MEMBER", "group": None}


async def test_inviting_a_pending_user_gives_the_same_membership_and_no_event(world: World) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    group_id = await world.group(ada, cleo)
    await change_role(ada, group_id, cleo, "MODERATOR")
    events, invited = await bob.group_events(), await invite(ada, group_id, bob)
    assert (await events.event())["invitation"]["createdAt"] == invited["createdAt"]
    head = await ada.head(group_id)
    for inviter in (ada, cleo, ada):
        assert await invite(inviter, group_id, bob) == invited
    assert await ada.head(group_id) == head
    assert len(await bob.run("MyInvitations")) == 1
    await remove(ada, group_id, bob)
    assert (await events.event())["__typename"] == "InvitationEndedEvent"


async def test_inviting_a_member_is_a_conflict(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    for user in (ada, bob):
        with refused("CONFLICT"):
            await invite(ada, group_id, user)


async def test_accepting_an_invitation_makes_a_member(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    invited = await invite(ada, group_id, bob)
    joined = await answer(bob, group_id, accept=True)
    same = ("id", "createdAt", "role", "addedBy", "user")
    assert {name: joined[name] for name in same} == {name: invited[name] for name in same}
    assert joined["status"] == "ACCEPTED"
    assert (joined["group"]["id"], joined["group"]["memberCount"]) == (group_id, 2)
    assert await bob.run("MyInvitations") == []
    assert await roles(bob, group_id) == {ada.username: "ADMIN", bob.username: "MEMBER"}
    with refused("CONFLICT"):
        await answer(bob, group_id, accept=True)


async def test_declining_an_invitation_shows_nothing_of_the_group(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await invite(ada, group_id, bob)
    declined = await answer(bob, group_id, accept=False)
    assert (declined["status"], declined["group"]) == ("REJECTED", None)
    assert await bob.run("MyInvitations") == []
    await check_status(bob, group_id, "REJECTED")
    assert await roles(ada, group_id) == {ada.username: "ADMIN"}
    for accept in (True, False):
        with refused("FORBIDDEN") as refusal:
            await answer(bob, group_id, accept=accept)
        assert refusal.value.extensions["membershipStatus"] == "REJECTED"


async def test_who_declined_can_be_invited_again(world: World) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    group_id = await world.group(ada, cleo)
    await change_role(ada, group_id, cleo, "ADMIN")
    first = await invite(ada, group_id, bob)
    await answer(bob, group_id, accept=False)
    events, second = await bob.group_events(), await invite(cleo, group_id, bob)
    assert (second["id"], second["status"]) == (first["id"], "PENDING")
    assert (second["addedBy"]["id"], second["createdAt"] > first["createdAt"]) == (cleo.id, True)
    event = await events.event()
    assert (event["__typename"], event["invitation"]["invitedBy"]["id"]) == ("InvitedToGroupEvent", cleo.id)
    assert (await answer(bob, group_id, accept=True))["status"] == "ACCEPTED"


async def test_an_invitation_is_answered_once_however_many_answer_at_once(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await invite(ada, group_id, bob)
    answers = (answer(bob, group_id, accept=accept) for accept in (True, False, True, False))
    done = await asyncio.gather(*answers, return_exceptions=True)
    won = [each for each in done if not isinstance(each, BaseException)]
    assert len(won) == 1
    accepted = won[0]["status"] == "ACCEPTED"
    assert {each.code for each in done if isinstance(each, GraphQLFailure)} == {"CONFLICT" if accepted else "FORBIDDEN"}
    assert (await ada.run("Group", id=group_id))["memberCount"] == 1 + accepted


async def test_of_an_answer_and_its_taking_back_at_once_exactly_one_counts(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await invite(ada, group_id, bob)
    answered, _ = await asyncio.gather(
        answer(bob, group_id, accept=True), remove(ada, group_id, bob), return_exceptions=True
    )
    if isinstance(answered, GraphQLFailure):
        assert answered.extensions["membershipStatus"] is None
    assert await roles(ada, group_id) == {ada.username: "ADMIN"}
    await check_status(bob, group_id, None)


# Removing and leaving


async def test_a_removed_member_is_a_stranger_again(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    assert await remove(ada, group_id, bob) == {"groupId": group_id, "group": {"id": group_id, "memberCount": 1}}
    await check_status(bob, group_id, None)
    assert await roles(ada, group_id) == {ada.username: "ADMIN"}
    with refused("NOT_FOUND"):
        await remove(ada, group_id, bob)


async def test_removing_a_pending_user_takes_the_invitation_back(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await invite(ada, group_id, bob)
    events = await bob.group_events()
    assert (await remove(ada, group_id, bob))["group"] == {"id": group_id, "memberCount": 1}
    event = await events.event()
    assert (event["__typename"], event["reason"]) == ("InvitationEndedEvent", "TAKEN_BACK")
    assert (event["groupId"], event["group"], event["actor"]["id"]) == (group_id, None, ada.id)
    assert await bob.run("MyInvitations") == []
    await check_status(bob, group_id, None)
    with refused("FORBIDDEN"):
        await answer(bob, group_id, accept=True)


async def test_there_is_nothing_to_remove_of_who_declined_or_never_was_there(world: World) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    group_id = await world.group(ada)
    await invite(ada, group_id, bob)
    await answer(bob, group_id, accept=False)
    for user in (bob, cleo):
        with refused("NOT_FOUND"):
            await remove(ada, group_id, user)
    await check_status(bob, group_id, "REJECTED")


async def test_a_moderator_removes_plain_members_and_invited_people_but_nobody_above(world: World) -> None:
    ada, bob, cleo, dan, eve = await world.users("ada", "bob", "cleo", "dan", "eve")
    group_id = await world.group(ada, bob, cleo, dan)
    for user in (bob, cleo):
        await change_role(ada, group_id, user, "MODERATOR")
    await invite(bob, group_id, eve)
    for above in (ada, cleo):
        with refused("FORBIDDEN") as refusal:
            await remove(bob, group_id, above)
        assert refusal.value.extensions["membershipStatus"] == "ACCEPTED"
    await remove(bob, group_id, eve)
    await remove(bob, group_id, dan)
    assert await roles(ada, group_id) == {ada.username: "ADMIN", bob.username: "MODERATOR", cleo.username: "MODERATOR"}


@pytest.mark.parametrize("role", ["MODERATOR", "ADMIN"])
async def test_who_removes_themselves_is_shown_nothing_of_the_group_any_more(world: World, role: str) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    await change_role(ada, group_id, bob, role)
    assert await remove(bob, group_id, bob) == {"groupId": group_id, "group": None}
    await check_status(bob, group_id, None)
    assert await roles(ada, group_id) == {ada.username: "ADMIN"}


async def test_a_member_leaves_and_the_others_stay(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    assert await act(bob, "LeaveGroup", group_id) == {"groupId": group_id}
    await check_status(bob, group_id, None)
    assert await roles(ada, group_id) == {ada.username: "ADMIN"}
    with refused("FORBIDDEN"):
        await act(bob, "LeaveGroup", group_id)


@pytest.mark.parametrize("way", ["leave", "remove"])
async def test_with_the_last_member_the_open_invitations_end(world: World, way: str) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await invite(ada, group_id, bob)
    events = await bob.group_events()
    await (act(ada, "LeaveGroup", group_id) if way == "leave" else remove(ada, group_id, ada))
    assert (await events.event())["reason"] == "TAKEN_BACK"
    assert await bob.run("MyInvitations") == []
    for user in (ada, bob):
        await check_status(user, group_id, None)


async def test_who_comes_back_reads_the_whole_log_also_of_the_time_between(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await world.send(ada, group_id, "before")
    await add(ada, group_id, bob)
    await world.send(bob, group_id, "within")
    await remove(ada, group_id, bob)
    await world.send(ada, group_id, "between")
    await invite(ada, group_id, bob)
    await answer(bob, group_id, accept=True)
    history = await bob.run("GroupHistory", id=group_id)
    assert [edge["node"]["content"] for edge in history["messages"]["edges"]] == ["before", "within", "between"]


async def test_a_membership_keeps_its_id_over_leaving_and_coming_back(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    first = await add(ada, group_id, bob)
    await act(bob, "LeaveGroup", group_id)
    assert await ada.run("Node", id=first["id"]) is None
    second = await add(ada, group_id, bob)
    assert (second["id"], second["createdAt"] > first["createdAt"]) == (first["id"], True)


# Roles


async def test_a_role_is_changed_up_and_down_and_counts_at_once(world: World) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    group_id = await world.group(ada, bob)
    for role, may_invite, may_update in (("MODERATOR", True, False), ("ADMIN", True, True), ("MEMBER", False, False)):
        changed = await change_role(ada, group_id, bob, role)
        assert (changed["role"], changed["status"], changed["user"]["id"]) == (role, "ACCEPTED", bob.id)
        for name, may, given in (
            ("InviteMember", may_invite, {"userId": cleo.id}),
            ("UpdateGroup", may_update, {"name": role}),
        ):
            if may:
                await act(bob, name, group_id, **given)
            else:
                with refused("FORBIDDEN"):
                    await act(bob, name, group_id, **given)


async def test_giving_the_role_that_one_has_makes_no_event(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    head = await ada.head(group_id)
    events = await bob.group_events()
    for user, role in ((bob, "MEMBER"), (ada, "ADMIN")):
        assert (await change_role(ada, group_id, user, role))["role"] == role
    assert await ada.head(group_id) == head
    await change_role(ada, group_id, bob, "MODERATOR")
    assert (await events.event())["action"] == "MEMBER_PROMOTED"


async def test_only_members_have_a_role_to_change(world: World) -> None:
    ada, bob, cleo, dan = await world.users("ada", "bob", "cleo", "dan")
    group_id = await world.group(ada)
    await invite(ada, group_id, bob)
    await invite(ada, group_id, cleo)
    await answer(cleo, group_id, accept=False)
    for user in (bob, cleo, dan):
        with refused("NOT_FOUND"):
            await change_role(ada, group_id, user, "ADMIN")
    assert (await answer(bob, group_id, accept=True))["role"] == "MEMBER"


# The last admin


async def test_the_last_admin_stays_while_other_members_do(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    head = await ada.head(group_id)
    for attempt in (
        lambda: act(ada, "LeaveGroup", group_id),
        lambda: remove(ada, group_id, ada),
        lambda: change_role(ada, group_id, ada, "MODERATOR"),
        lambda: change_role(ada, group_id, ada, "MEMBER"),
    ):
        with refused("CONFLICT") as refusal:
            await attempt()
        assert "another member an admin first" in refusal.value.errors[0]["message"], "what to do"
    assert await ada.head(group_id) == head
    await change_role(ada, group_id, bob, "ADMIN")
    await act(ada, "LeaveGroup", group_id)
    assert await roles(bob, group_id) == {bob.username: "ADMIN"}


async def test_open_invitations_do_not_keep_the_last_member(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    await invite(ada, group_id, bob)
    await act(ada, "LeaveGroup", group_id)
    await check_status(ada, group_id, None)


async def test_who_is_alone_may_give_up_the_role_of_admin(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    assert (await change_role(ada, group_id, ada, "MEMBER"))["role"] == "MEMBER"


GOING: Mapping[str, Callable[[Person, Person, str], Awaitable[Json]]] = {
    "demoting each other": lambda own, other, group_id: change_role(own, group_id, other, "MEMBER"),
    "demoting themselves": lambda own, _, group_id: change_role(own, group_id, own, "MEMBER"),
    "leaving": lambda own, _, group_id: act(own, "LeaveGroup", group_id),
    "removing each other": lambda own, other, group_id: remove(own, group_id, other),
}


@pytest.mark.parametrize("way", GOING)
async def test_two_admins_who_go_at_once_leave_one_behind(world: World, way: str) -> None:
    ada, bob, cleo = await world.users("ada", "bob", "cleo")
    for _ in range(3):
        group_id = await world.group(ada, bob, cleo)
        await change_role(ada, group_id, bob, "ADMIN")
        steps = (GOING[way](*pair, group_id) for pair in ((ada, bob), (bob, ada)))
        done = await asyncio.gather(*steps, return_exceptions=True)
        assert [each.code for each in done if isinstance(each, GraphQLFailure)] in (["CONFLICT"], ["FORBIDDEN"])
        assert list((await roles(cleo, group_id)).values()).count("ADMIN") == 1


async def test_each_mutation_of_a_request_shows_what_it_made(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada)
    document = """mutation ($bob: AddMemberInput!, $cyd: AddMemberInput!) {
      bob: addMember(input: $bob) { membership { group { memberCount } } }
      cyd: addMember(input: $cyd) { membership { group { memberCount } } } }"""
    inputs = {name: {"groupId": group_id, "userId": person.id} for name, person in (("bob", bob), ("cyd", cyd))}
    answer = await ada.client.execute(document, inputs)
    assert [payload["membership"]["group"]["memberCount"] for payload in answer.values()] == [2, 3]
