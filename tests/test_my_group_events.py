"""`myGroupEvents`: who gets what when groups change, on all their devices, and a list that begins without a race."""

import asyncio
import gc
import random
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any, TypeAlias

import pytest

from app import Process
from db import records
from schema import ids
from tests.conftest import OwnServer
from tests.folding import FOLLOW, Device, check
from tests.harness import GraphQLFailure, Json, Person, Subscription, World, eventually, refused
from tests.inside import many_groups

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

Expected: TypeAlias = dict[str, list[str]]

# Events after which the group is not the viewer's (any more).
WITHOUT_GROUP = {
    "RemovedFromGroupEvent",
    "GroupDeletedEvent",
    "InvitedToGroupEvent",
    "InvitationEndedEvent",
}


@dataclass
class Cast:
    """A group and everybody who stands in some relation to it; each of them follows on two devices."""

    world: World
    people: dict[str, Person]
    group_id: str
    devices: dict[str, list[Subscription]]

    def told(self, event: Json) -> str:
        """An event in one line: type, action or reason, whom it is about, and who did it."""
        names = {person.id: name for name, person in self.people.items()}
        group, kind = event["group"], event["__typename"]
        assert event["groupId"] == self.group_id, event
        assert (group is None) == (kind in WITHOUT_GROUP), event
        assert group is None or (group["id"] == self.group_id and group["viewerMembership"]["status"] == "ACCEPTED")
        words = [kind.removesuffix("Event"), event.get("action") or event.get("reason") or ""]
        words.append(names[event["user"]["id"]] if event.get("user") else "")
        return " ".join(filter(None, [*words, "by", names[event["actor"]["id"]]]))

    async def tell(self, expected: Expected) -> dict[str, Json]:
        """Each device of these people gets exactly these events and nobody else anything; the last event of each."""
        last = dict[str, Json]()
        for name, lines in expected.items():
            for device in self.devices[name]:
                events = [await device.event() for _ in lines]
                assert [self.told(event) for event in events] == lines, name
                last[name] = events[-1]
        await self.world.group(
            self.people["ada"], *(self.people[name] for name in self.people if name != "ada"), name="Marker"
        )
        for name, devices in self.devices.items():
            for device in devices:
                event = await device.event()
                assert event["group"] is not None, f"{name} also got {event}"
                assert event["group"]["name"] == "Marker", f"{name} also got {event}"
        return last

    async def run(self, who: str, operation: str, /, **input: Any) -> None:
        await self.people[who].run(operation, input={"groupId": self.group_id, **input})

    async def of(self, who: str, operation: str, subject: str, /, **input: Any) -> None:
        """Do something to somebody."""
        await self.run(who, operation, userId=self.people[subject].id, **input)


@pytest.fixture
async def cast(world: World) -> Cast:
    """ada is the admin, mod a moderator, bob a member, pia invited; rex has declined, and eve is a stranger."""
    names = ["ada", "mod", "bob", "pia", "rex", "eve"]
    people = dict(zip(names, await world.users(*names), strict=True))
    group_id = await world.group(people["ada"], people["mod"], people["bob"])
    cast = Cast(world, people, group_id, {})
    await cast.of("ada", "ChangeMemberRole", "mod", role="MODERATOR")
    for name in ("pia", "rex"):
        await cast.of("ada", "InviteMember", name)
    await cast.run("rex", "AnswerInvitation", accept=False)
    for name, person in people.items():
        cast.devices[name] = [await person.group_events() for _ in range(2)]
    return cast


def everybody(*names: str, line: str) -> Expected:
    return {name: [line] for name in names}


MEMBERS = ("ada", "mod", "bob")


# Who gets what


async def test_creating_a_group_tells_its_creator_and_its_first_members(cast: Cast) -> None:
    ada, bob, eve = (cast.people[name] for name in ("ada", "bob", "eve"))
    cast.group_id = await cast.world.group(ada, bob, eve)
    last = await cast.tell(
        {"ada": ["GroupCreated by ada"], "bob": ["AddedToGroup by ada"], "eve": ["AddedToGroup by ada"]}
    )
    assert last["ada"]["group"]["memberCount"] == 3
    assert last["bob"]["membership"]["role"] == "MEMBER"
    assert last["bob"]["membership"]["addedBy"]["id"] == ada.id


async def test_adding_somebody_tells_them_and_every_other_member(cast: Cast) -> None:
    await cast.of("ada", "AddMember", "eve", role="MODERATOR")
    last = await cast.tell(
        {"eve": ["AddedToGroup by ada"], **everybody(*MEMBERS, line="GroupUpdated MEMBER_ADDED eve by ada")}
    )
    assert last["eve"]["membership"]["role"] == last["eve"]["group"]["viewerMembership"]["role"] == "MODERATOR"
    assert last["bob"]["group"]["memberCount"] == 4


async def test_adding_somebody_who_was_invited_also_ends_the_invitation(cast: Cast) -> None:
    await cast.of("ada", "AddMember", "pia")
    await cast.tell(
        {
            "pia": ["InvitationEnded ACCEPTED by ada", "AddedToGroup by ada"],
            **everybody(*MEMBERS, line="GroupUpdated MEMBER_ADDED pia by ada"),
        }
    )


async def test_adding_somebody_who_had_declined_tells_them(cast: Cast) -> None:
    await cast.of("ada", "AddMember", "rex")
    await cast.tell(
        {"rex": ["AddedToGroup by ada"], **everybody(*MEMBERS, line="GroupUpdated MEMBER_ADDED rex by ada")}
    )


async def test_accepting_an_invitation_tells_every_device_and_every_other_member(cast: Cast) -> None:
    await cast.run("pia", "AnswerInvitation", accept=True)
    await cast.tell(
        {
            "pia": ["InvitationEnded ACCEPTED by pia", "AddedToGroup by pia"],
            **everybody(*MEMBERS, line="GroupUpdated MEMBER_JOINED pia by pia"),
        }
    )


@pytest.mark.parametrize("who", ["eve", "rex"])
@pytest.mark.parametrize("inviter", ["ada", "mod"])
async def test_inviting_somebody_tells_only_them(cast: Cast, who: str, inviter: str) -> None:
    await cast.of(inviter, "InviteMember", who)
    last = await cast.tell({who: [f"InvitedToGroup by {inviter}"]})
    invitation = last[who]["invitation"]
    assert (invitation["groupId"], invitation["groupName"]) == (cast.group_id, "Chess")
    assert invitation["invitedBy"]["id"] == cast.people[inviter].id


async def test_inviting_somebody_twice_tells_nobody(cast: Cast) -> None:
    await cast.of("mod", "InviteMember", "pia")
    await cast.tell({})


async def test_declining_an_invitation_tells_only_ones_own_devices(cast: Cast) -> None:
    await cast.run("pia", "AnswerInvitation", accept=False)
    await cast.tell({"pia": ["InvitationEnded DECLINED by pia"]})


async def test_taking_an_invitation_back_tells_only_the_invited_person(cast: Cast) -> None:
    await cast.of("mod", "RemoveMember", "pia")
    await cast.tell({"pia": ["InvitationEnded TAKEN_BACK by mod"]})


async def test_removing_a_member_tells_them_and_every_other_member(cast: Cast) -> None:
    await cast.of("mod", "RemoveMember", "bob")
    last = await cast.tell(
        {"bob": ["RemovedFromGroup by mod"], **everybody("ada", "mod", line="GroupUpdated MEMBER_REMOVED bob by mod")}
    )
    assert last["ada"]["group"]["memberCount"] == 2


async def test_leaving_a_group_tells_ones_own_devices_and_every_other_member(cast: Cast) -> None:
    await cast.run("bob", "LeaveGroup")
    await cast.tell(
        {"bob": ["RemovedFromGroup by bob"], **everybody("ada", "mod", line="GroupUpdated MEMBER_LEFT bob by bob")}
    )


async def test_a_role_that_rises_is_told_to_every_member(cast: Cast) -> None:
    await cast.of("ada", "ChangeMemberRole", "bob", role="ADMIN")
    last = await cast.tell(everybody(*MEMBERS, line="GroupUpdated MEMBER_PROMOTED bob by ada"))
    assert last["bob"]["group"]["viewerMembership"]["role"] == "ADMIN"


async def test_a_role_that_falls_is_told_to_every_member(cast: Cast) -> None:
    await cast.of("ada", "ChangeMemberRole", "mod", role="MEMBER")
    last = await cast.tell(everybody(*MEMBERS, line="GroupUpdated MEMBER_DEMOTED mod by ada"))
    assert last["mod"]["group"]["viewerMembership"]["role"] == "MEMBER"


async def test_new_details_are_told_to_every_member(cast: Cast) -> None:
    await cast.run("ada", "UpdateGroup", name="Go", description="Black begins.")
    last = await cast.tell(everybody(*MEMBERS, line="GroupUpdated DETAILS_CHANGED by ada"))
    assert (last["bob"]["group"]["name"], last["bob"]["group"]["description"]) == ("Go", "Black begins.")


async def test_what_changes_nothing_is_told_to_nobody(cast: Cast) -> None:
    await cast.run("ada", "UpdateGroup", name="Chess")
    await cast.of("ada", "ChangeMemberRole", "mod", role="MODERATOR")
    await cast.tell({})


async def test_a_message_is_told_to_nobody_here(cast: Cast) -> None:
    await cast.world.send(cast.people["bob"], cast.group_id)
    await cast.tell({})


async def test_deleting_a_group_tells_its_members_and_ends_its_invitations(cast: Cast) -> None:
    await cast.run("ada", "DeleteGroup")
    await cast.tell(
        {"pia": ["InvitationEnded GROUP_DELETED by ada"], **everybody(*MEMBERS, line="GroupDeleted by ada")}
    )


async def test_a_refused_action_is_told_to_nobody(cast: Cast) -> None:
    with refused("FORBIDDEN"):
        await cast.run("bob", "DeleteGroup")
    with refused("FORBIDDEN"):
        await cast.of("mod", "AddMember", "eve")
    with refused("CONFLICT"):
        await cast.run("ada", "LeaveGroup")
    with refused("CONFLICT"):
        await cast.of("ada", "InviteMember", "bob")
    await cast.tell({})


# The start


async def test_without_a_snapshot_the_stream_begins_now(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    stream = await (await ada.socket()).follow("MyGroupEvents")

    async def rename() -> None:
        for number in count():
            await ada.run("UpdateGroup", input={"groupId": group_id, "name": f"{number}"})

    renaming = asyncio.create_task(rename())
    try:
        events = [await stream.event() for _ in range(4)]
    finally:
        renaming.cancel()
        await asyncio.wait([renaming])
    assert {event["__typename"] for event in events} == {"GroupUpdatedEvent"}
    names = [int(event["group"]["name"]) for event in events]
    assert names == sorted(names)


async def test_a_snapshot_is_the_whole_list_of_groups_and_invitations(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    first, second, gone, left = [await world.group(bob, ada, name=name) for name in ("First", "Second", "Gone", "Left")]
    invited = [await world.group(bob, name=name) for name in ("Come", "Come too", "Not any more")]
    for group_id in invited:
        await bob.run("InviteMember", input={"groupId": group_id, "userId": ada.id})
    await bob.run("DeleteGroup", input={"groupId": gone})
    await ada.run("LeaveGroup", input={"groupId": left})
    await ada.run("AnswerInvitation", input={"groupId": invited[-1], "accept": False})
    await world.send(bob, first)
    event = await (await (await ada.socket()).follow("MyGroupEvents", snapshot=True)).event()
    assert event["__typename"] == "GroupsSnapshotEvent"
    assert event["groupId"] is event["group"] is event["actor"] is None
    assert event["groups"] == [edge["node"] for edge in (await ada.run("MyGroups"))["edges"]]
    assert [group["id"] for group in event["groups"]] == [first, second]
    assert event["invitations"] == await ada.run("MyInvitations")
    assert [invitation["groupId"] for invitation in event["invitations"]] == invited[:2]


async def test_the_snapshot_of_somebody_without_groups_is_empty(world: World) -> None:
    event = await (await (await (await world.user()).socket()).follow("MyGroupEvents", snapshot=True)).event()
    assert event["groups"] == event["invitations"] == []


async def test_a_snapshot_holds_more_groups_than_a_page(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    made = [await world.group(ada, bob) for _ in range(101)]
    device = await Device.of(bob)
    assert set(device.mine.groups) == set(made)
    for group_id in (made[0], made[50], made[100]):
        await ada.run("UpdateGroup", input={"groupId": group_id, "name": "Go"})
        assert (await device.read())["group"]["name"] == "Go"


async def test_a_snapshot_of_any_size_shows_what_is_in_each_group(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    made = await many_groups(world, ada, bob, 501)  # SQLite takes 500 parts of one statement
    for group_id in (made[0], made[250]):
        await world.send(ada, group_id, group_id)
    document = """subscription { myGroupEvents(snapshot: true) { ... on GroupsSnapshotEvent {
      groups { id lastMessage { content } messages(last: 1) { nodes { content } } } } } }"""
    (groups,) = (await (await (await bob.socket()).subscribe(document)).event()).values()
    assert {group["id"] for group in groups} == set(made)
    for group in groups:
        nodes = group["messages"]["nodes"]
        assert group["lastMessage"] == (nodes[0] if nodes else None)
        assert [node["content"] for node in nodes] == ([group["id"]] if group["id"] in (made[0], made[250]) else [])


async def test_the_heads_of_a_snapshot_begin_streams_that_miss_nothing(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    await world.send(ada, group_id, "before")
    socket = await bob.socket()
    (group,) = (await (await socket.follow("MyGroupEvents", snapshot=True)).event())["groups"]
    await world.send(ada, group_id, "after")
    stream = await socket.follow("GroupMessages", groupId=group_id, after=group["headCursor"])
    assert (await stream.event())["message"]["content"] == "after"


async def test_who_is_not_logged_in_is_refused(world: World) -> None:
    async with world.server.socket() as socket:
        (error,) = await (await socket.follow("MyGroupEvents", snapshot=True)).end()
    assert error["extensions"] == {"code": "UNAUTHENTICATED", "retry": False}


# A list that is kept equals a list that is fetched


async def test_lists_that_begin_in_the_middle_of_changes_end_up_equal_to_a_fetched_one(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    groups = {await world.group(ada): random.Random(seed) for seed in range(3)}

    async def change(group_id: str, dice: random.Random) -> None:
        """May be refused: what bob is to the group changes from turn to turn."""
        group, subject = {"groupId": group_id}, {"groupId": group_id, "userId": bob.id}
        name, input, who = dice.choice(
            [
                ("AddMember", subject, ada),
                ("AddMember", subject, ada),
                ("RemoveMember", subject, ada),
                ("InviteMember", subject, ada),
                ("AnswerInvitation", {**group, "accept": dice.random() < 0.7}, bob),
                ("ChangeMemberRole", {**subject, "role": dice.choice(["MEMBER", "MODERATOR"])}, ada),
                ("UpdateGroup", {**group, "name": f"{dice.random()}"}, ada),
                ("LeaveGroup", group, bob),
            ]
        )
        with suppress(GraphQLFailure):
            await who.run(name, input=input)

    async def begin(device: Device, dice: random.Random) -> None:
        for _ in range(dice.randint(0, 4)):
            await device.person.run("Viewer")  # begin somewhere in the middle
        await device.follow()

    dice = random.Random(7)
    for _ in range(12):
        devices = [Device(bob, await bob.socket()) for _ in range(4)]
        turn = [change(*group) for group in groups.items() for _ in range(2)]
        await asyncio.gather(*turn, *(begin(device, dice) for device in devices))
        await check(bob, *devices)
        for device in devices:
            await device.stream.complete()


async def test_who_is_removed_and_added_again_and_again_is_told_so_in_that_order(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    subject, turns = {"groupId": group_id, "userId": bob.id}, 12
    devices = [await Device.of(bob) for _ in range(2)]
    stop = asyncio.Event()

    async def rename() -> None:
        for number in count():
            if stop.is_set():
                return
            await ada.run("UpdateGroup", input={"groupId": group_id, "name": f"{number}"})

    async with asyncio.TaskGroup() as renaming:
        renaming.create_task(rename())
        for _ in range(turns):
            await ada.run("RemoveMember", input=subject)
            await ada.run("AddMember", input=subject)
        stop.set()
    await check(bob, *devices)
    for device in devices:
        told = [event["__typename"] for event in device.events if event["groupId"] == group_id]
        beginnings_and_ends = [kind for kind in told if kind != "GroupUpdatedEvent"]
        assert beginnings_and_ends == ["RemovedFromGroupEvent", "AddedToGroupEvent"] * turns
        after = {kind for before, kind in pairwise(told) if before == "RemovedFromGroupEvent"}
        assert after == {"AddedToGroupEvent"}, "a removed member was told what happens in the group"


async def test_who_declines_and_is_invited_again_is_told_so_in_that_order(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    device = await Device.of(bob)
    for _ in range(5):
        await ada.run("InviteMember", input={"groupId": group_id, "userId": bob.id})
        await bob.run("AnswerInvitation", input={"groupId": group_id, "accept": False})
    await check(bob, device)
    told = [event["__typename"] for event in device.events if event["groupId"] == group_id]
    assert told == ["InvitedToGroupEvent", "InvitationEndedEvent"] * 5


async def test_what_an_invited_person_keeps_is_what_a_query_answers_after_the_group_was_renamed(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    device = await Device.of(bob)
    await ada.run("InviteMember", input={"groupId": group_id, "userId": bob.id})
    await device.read_until(group_id)
    await ada.run("UpdateGroup", input={"groupId": group_id, "name": "Go", "description": "Black begins."})
    await check(bob, device)


async def test_who_joins_while_the_group_changes_is_told_exactly_what_comes_after_that(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    of_ada, *of_bob = await Device.of(ada), await Device.of(bob), await Device.of(bob)
    for _ in range(6):
        group_id = await world.group(ada)
        await of_ada.read_until(group_id)
        names = [{"groupId": group_id, "name": f"{number}"} for number in range(5)]
        renaming = [ada.run("UpdateGroup", input=name) for name in names]
        adding = ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
        await asyncio.gather(*renaming[:2], adding, *renaming[2:])
        in_order = [await of_ada.read() for _ in range(6)]
        (joined,) = [place for place, event in enumerate(in_order) if event["action"] == "MEMBER_ADDED"]
        for device in of_bob:
            assert (await device.read())["__typename"] == "AddedToGroupEvent"
            told = [await device.read() for _ in in_order[joined + 1 :]]
            assert [event["occurredAt"] for event in told] == [event["occurredAt"] for event in in_order[joined + 1 :]]
            assert {event["action"] for event in told} <= {"DETAILS_CHANGED"}
    await check(bob, *of_bob)


# What is left when a stream is over


async def test_streams_of_group_events_leave_nothing_behind(own_server: OwnServer) -> None:
    server = await own_server()
    process: Process = server.app.state.process
    async with World(server) as world:
        ada, bob = await world.users("ada", "bob")
        group_id = await world.group(ada, bob)
        async with server.socket(bob.token) as socket:
            completed = await socket.subscribe(FOLLOW)
            kept_open = await socket.subscribe(FOLLOW)
            await socket.follow("MyGroupEvents")
            for stream in (completed, kept_open):
                await stream.event()
            await completed.complete()
            await ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
            await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
            assert [(await kept_open.event())["__typename"] for _ in range(2)] == [
                "RemovedFromGroupEvent",
                "AddedToGroupEvent",
            ]
            assert len(process.streams) > 0
        await eventually(lambda: len(process.streams) == 0)


def kept_of_a_snapshot(group_id: str) -> int:
    """Records of the group, and snapshots as they were executed, that this process still holds."""
    gc.collect()
    wanted = ids.group(group_id)
    return sum(
        each.id == wanted
        if type(each) is records.Group
        else type(each) is dict and each.get("__typename") == "GroupsSnapshotEvent" and group_id in str(each)
        for each in gc.get_objects()
    )


async def test_a_snapshot_that_was_sent_is_not_kept_until_the_next_event(world: World) -> None:
    ada = await world.user("ada")
    group_id = await world.group(ada)
    events = await ada.group_events()
    await eventually(lambda: kept_of_a_snapshot(group_id) == 0)
    await ada.run("UpdateGroup", input={"groupId": group_id, "name": "Go"})
    assert (await events.event())["group"]["name"] == "Go"
