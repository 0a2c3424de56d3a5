"""What a client keeps: its groups and invitations, brought up to date by events, and a group's messages.

Knows no Python of Parley: it does what `docs/protocol.md` asks of every client.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.harness import Json, Person, Socket, Subscription

SETTLE_SECONDS = 10
MARKER = "Marker"

PARTS = """fragment Parts on Group {
  id name description createdAt updatedAt memberCount
  viewerMembership { id status role createdAt user { id } addedBy { id } } }
fragment Card on Invitation { groupId groupName groupDescription createdAt invitedBy { id } }"""
FRESH = f"""query {{
  myGroups(first: 100) {{ nodes {{ ...Parts }} pageInfo {{ hasNextPage }} }}
  myInvitations {{ ...Card }} }}
{PARTS}"""
FOLLOW = f"""subscription {{ myGroupEvents(snapshot: true) {{
  __typename occurredAt groupId actor {{ id }} group {{ ...Parts }}
  ... on GroupsSnapshotEvent {{ groups {{ ...Parts }} invitations {{ ...Card }} }}
  ... on AddedToGroupEvent {{ membership {{ role status addedBy {{ id }} }} }}
  ... on InvitedToGroupEvent {{ invitation {{ ...Card }} }}
  ... on InvitationEndedEvent {{ reason }}
  ... on GroupUpdatedEvent {{ action user {{ id }} }}
  ... on GroupReadEvent {{ readSeq }} ... on ThreadChangedEvent {{ rootId }} }} }}
{PARTS}"""


@dataclass
class GroupList:
    """One user's groups and open invitations, by the group's id."""

    groups: dict[str, Json] = field(default_factory=dict[str, Json])
    invitations: dict[str, Json] = field(default_factory=dict[str, Json])

    def replace(self, groups: Iterable[Json], invitations: Iterable[Json]) -> None:
        self.groups = {group["id"]: group for group in groups}
        self.invitations = {invitation["groupId"]: invitation for invitation in invitations}

    def apply(self, event: Json) -> None:
        """Bring the list up to date. An event of a type that is not known here says all in `group`."""
        group_id = event["groupId"]
        match event["__typename"]:
            case "GroupsSnapshotEvent":
                self.replace(event["groups"], event["invitations"])
            case "InvitedToGroupEvent":
                self.invitations[group_id] = event["invitation"]
            case "InvitationEndedEvent":
                self.invitations.pop(group_id, None)
            case _ if event["group"] is None:
                self.groups.pop(group_id, None)
            case _:
                self.groups[group_id] = event["group"]


async def fetched(person: Person) -> GroupList:
    """The list as queries answer it now."""
    data = await person.client.execute(FRESH)
    assert not data["myGroups"]["pageInfo"]["hasNextPage"], "this client reads one page"
    fresh = GroupList()
    fresh.replace(data["myGroups"]["nodes"], data["myInvitations"])
    return fresh


@dataclass
class Device:
    """A device that follows `myGroupEvents` from a snapshot on: every event so far, and the list that they make."""

    person: Person
    socket: Socket
    mine: GroupList = field(default_factory=GroupList)
    events: list[Json] = field(default_factory=list[Json])
    stream: Subscription = field(init=False)

    @classmethod
    async def of(cls, person: Person) -> "Device":
        """A device with a socket of its own that has read its snapshot."""
        device = cls(person, await person.socket())
        await device.follow()
        return device

    async def follow(self) -> None:
        """Subscribe, and read the snapshot."""
        self.stream = await self.socket.subscribe(FOLLOW)
        snapshot = await self.read()
        assert snapshot["__typename"] == "GroupsSnapshotEvent"

    async def read(self) -> Json:
        event = await self.stream.event()
        self.events.append(event)
        self.mine.apply(event)
        return event

    async def read_until(self, group_id: str) -> None:
        """Read up to the first event about this group."""
        while (await self.read())["groupId"] != group_id:
            pass


async def check(person: Person, *devices: Device) -> None:
    """Snapshot and events give, on each of the person's devices, the list that queries answer. Nothing may change
    meanwhile but by a group that this makes, so that what comes late is seen as well.
    """
    marker = (await person.run("CreateGroup", input={"name": MARKER}))["group"]["id"]
    await check_from(marker, person, *devices)


async def check_from(marker: str, person: Person, *devices: Device) -> None:
    """`check`, with a group that was made for it: of several people, after everything that happened."""
    fresh = await fetched(person)
    for device in devices:
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await device.read_until(marker)
                while device.mine != fresh:  # what other groups' logs tell may come after the marker
                    await device.read()
        except TimeoutError:
            assert device.mine == fresh, "snapshot and events do not give what queries answer"
