"""What somebody can be in a group, people who are that in one group, and an action for each operation."""

import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from db import memberships
from db.engine import Transaction
from db.records import MemberRole, MembershipStatus
from resolvers.access import ALLOWED, Operation
from schema import ids
from tests.harness import Json, Person, Server, World
from tests.harness.client import JsonValue
from tests.inside import database_of

PENDING, ACCEPTED, REJECTED = MembershipStatus.PENDING, MembershipStatus.ACCEPTED, MembershipStatus.REJECTED


@dataclass(frozen=True, slots=True)
class Standing:
    """What somebody is in a group; `status` None: nothing, either never or not any more."""

    name: str
    status: MembershipStatus | None = None
    role: MemberRole | None = None

    def may(self, wanted: Operation) -> bool:
        return self.status is not None and self.role is not None and (self.status, self.role) in ALLOWED[wanted]


OUTSIDER, REMOVED, LEFT = Standing("an outsider"), Standing("a removed member"), Standing("who left")
INVITED = Standing("an invited user", PENDING, MemberRole.MEMBER)
DECLINED = Standing("who declined", REJECTED, MemberRole.MEMBER)
NO_MEMBERS = [OUTSIDER, REMOVED, LEFT, INVITED, DECLINED]
MEMBER, MODERATOR, ADMIN = [Standing(f"a member with the role {role}", ACCEPTED, role) for role in MemberRole]
MEMBERS = [MEMBER, MODERATOR, ADMIN]
NO_MEMBERS_WITH_ROLES = [
    Standing(f"{each.name} with the role {role}", each.status, role)
    for each in (INVITED, DECLINED)
    for role in (MemberRole.MODERATOR, MemberRole.ADMIN)
]
EVERY_STANDING = [*NO_MEMBERS, *NO_MEMBERS_WITH_ROLES, *MEMBERS]


@dataclass(frozen=True, slots=True)
class Scene:
    """A group with a secret name, its admin, a member, a stranger, and the actor whose standing is tried out.

    `own_id` is a message that the actor sent while they were a member, or else anybody's; `other_id` is not theirs.
    """

    world: World
    group_id: str
    secret: str
    admin: Person
    member: Person
    stranger: Person
    actor: Person
    own_id: str
    other_id: str

    def input(self, **more: Any) -> Json:
        """Variables of a mutation about the group."""
        return {"input": {"groupId": self.group_id, **more}}

    async def head(self) -> str:
        return await self.admin.head(self.group_id)


ACTIONS: Mapping[Operation, Callable[[Scene], Awaitable[JsonValue]]] = {
    Operation.READ: lambda scene: scene.actor.run("Group", id=scene.group_id),
    Operation.MARK: lambda scene: scene.actor.run("MarkGroupRead", **scene.input(upTo=1)),
    Operation.FOLLOW: lambda scene: scene.actor.run("FollowThread", input={"messageId": scene.other_id}),
    Operation.SEND: lambda scene: scene.actor.run("SendGroupMessage", **scene.input(content="hello")),
    Operation.CHANGE_OWN_MESSAGE: lambda scene: scene.actor.run(
        "EditMessage", input={"messageId": scene.own_id, "content": "edited"}
    ),
    Operation.DELETE_ANY_MESSAGE: lambda scene: scene.actor.run("DeleteMessage", input={"messageId": scene.other_id}),
    Operation.REACT: lambda scene: scene.actor.run("AddReaction", input={"messageId": scene.other_id, "emoji": "👍"}),
    Operation.ADD_MEMBER: lambda scene: scene.actor.run("AddMember", **scene.input(userId=scene.stranger.id)),
    Operation.INVITE_MEMBER: lambda scene: scene.actor.run("InviteMember", **scene.input(userId=scene.stranger.id)),
    Operation.REMOVE_MEMBER: lambda scene: scene.actor.run("RemoveMember", **scene.input(userId=scene.member.id)),
    Operation.CHANGE_ROLE: lambda scene: scene.actor.run(
        "ChangeMemberRole", **scene.input(userId=scene.member.id, role="MODERATOR")
    ),
    Operation.UPDATE_GROUP: lambda scene: scene.actor.run("UpdateGroup", **scene.input(name="Another name")),
    Operation.DELETE_GROUP: lambda scene: scene.actor.run("DeleteGroup", **scene.input()),
    Operation.LEAVE: lambda scene: scene.actor.run("LeaveGroup", **scene.input()),
    Operation.ANSWER_INVITATION: lambda scene: scene.actor.run("AnswerInvitation", **scene.input(accept=True)),
}


async def scenes_for(world: World, standings: Iterable[Standing]) -> dict[Standing, Scene]:
    """One new group with an actor for each standing, reached through the API as far as that leads there."""
    admin, member, stranger = await world.users("admin", "member", "stranger")
    secret = f"secret-{uuid.uuid4().hex}"
    group_id = await world.group(admin, member, name=secret)
    message_id = (await world.send(admin, group_id))["id"]
    await member.run("SendGroupMessage", input={"groupId": group_id, "content": "yes", "replyToId": message_id})
    scenes: dict[Standing, Scene] = {}
    for standing in standings:
        actor = await world.user("actor")
        scene = Scene(world, group_id, secret, admin, member, stranger, actor, message_id, message_id)
        scenes[standing] = await _take_place(scene, standing)
    return scenes


async def scene_for(world: World, standing: Standing) -> Scene:
    """A new group for one actor."""
    return (await scenes_for(world, [standing]))[standing]


async def _take_place(scene: Scene, standing: Standing) -> Scene:
    subject = scene.input(userId=scene.actor.id)
    if standing in (REMOVED, LEFT):
        await scene.admin.run("AddMember", **subject)
        scene = await _spoken(scene)
        if standing is REMOVED:
            await scene.admin.run("RemoveMember", **subject)
        else:
            await scene.actor.run("LeaveGroup", **scene.input())
    elif standing.status is ACCEPTED:
        await scene.admin.run("AddMember", **scene.input(userId=scene.actor.id, role=standing.role))
        scene = await _spoken(scene)
    elif standing.status is not None:
        await scene.admin.run("InviteMember", **subject)
        if standing.status is REJECTED:
            await scene.actor.run("AnswerInvitation", **scene.input(accept=False))
        if standing in NO_MEMBERS_WITH_ROLES:
            await _forge_role(scene, standing)
    return scene


async def _spoken(scene: Scene) -> Scene:
    return replace(scene, own_id=(await scene.world.send(scene.actor, scene.group_id))["id"])


async def _forge_role(scene: Scene, standing: Standing) -> None:
    """Write a role that no mutation gives to somebody who is not a member: the table has an answer for it."""
    assert isinstance(scene.world.server, Server)
    assert standing.role is not None
    key, role = (ids.group(scene.group_id), ids.user(scene.actor.id)), standing.role

    async def work(transaction: Transaction) -> None:
        membership = await memberships.get(transaction, *key)
        assert membership is not None
        assert membership.status is standing.status
        await memberships.change(transaction, replace(membership, role=role))

    async with database_of(scene.world.server) as database:
        await database.write(work)
