"""What may be asked. Knows no SQL."""

from typing import Annotated

import strawberry

from resolvers import cursors, follows, groups, memberships, mentions, messages, users

from . import ids
from .connections import After, First, page_info
from .context import Info
from .nodes import Node, User
from .types import (
    Group,
    GroupConnection,
    GroupEdge,
    Invitation,
    Membership,
    MentionConnection,
    Message,
    MessageEdge,
    ThreadConnection,
    invitation,
    mention_page,
)


@strawberry.type(
    description="What may be asked. Every field is nullable, so that one refusal does not take its siblings along."
)
class Query:
    @strawberry.field(description="You.")
    async def viewer(self, info: Info) -> User | None:
        return User(record=(await info.context.viewer()).user)

    @strawberry.field(
        description="Any object by its global id; null for nothing, or for something that is not yours to see."
    )
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="A global id.")]
    ) -> Node | None:
        viewer = await info.context.viewer()
        found = ids.decode(id)
        if found is None:
            return None
        services, (mark, keys) = info.context.services, found
        if mark == ids.GROUP:
            group = await (await info.context.loaders()).group_or_none(keys[0])
            return Group(record=group) if group else None
        if mark == ids.MESSAGE:
            message = await messages.visible(services, viewer, keys[0])
            return Message(record=message) if message else None
        if mark == ids.MEMBERSHIP:
            membership = await memberships.visible(services, viewer, keys[0], keys[1])
            return Membership(record=membership) if membership else None
        user = (await users.get_many(services, [keys[0]])).get(keys[0])
        return User(record=user) if user else None

    @strawberry.field(
        description="A group that you are an accepted member of. Else NOT_FOUND, GROUP_DELETED, or FORBIDDEN with your "
        "own `membershipStatus`."
    )
    async def group(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The id of the group.")]
    ) -> Group | None:
        loaders = await info.context.loaders()
        return Group(record=await loaders.group.load(ids.group(id)))

    @strawberry.field(
        description="A message of a group that you are an accepted member of. Else NOT_FOUND, GROUP_DELETED, or "
        "FORBIDDEN with your own `membershipStatus`. What lies around it is `Group.messages(around:)`."
    )
    async def message(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The id of the message.")]
    ) -> Message | None:
        viewer = await info.context.viewer()
        return Message(record=await messages.get(info.context.services, viewer, ids.message(id)))

    @strawberry.field(description="The groups that you are an accepted member of, most recently active first.")
    async def my_groups(self, info: Info, first: First = None, after: After = None) -> GroupConnection | None:
        loaders = await info.context.loaders()
        key = cursors.activity_key("after", after)
        page, page_cursors = await groups.page(loaders.services, loaders.viewer, first=first, after=key)
        for group in page.rows:
            loaders.groups[group.id] = group
        nodes = [Group(record=group) for group in page.rows]
        edges = [GroupEdge(cursor=cursor, node=node) for cursor, node in zip(page_cursors, nodes, strict=True)]
        return GroupConnection(edges=edges, nodes=nodes, page_info=page_info(page, list(page_cursors)))

    @strawberry.field(
        description="The threads that you follow, in groups that you are an accepted member of, most recently active "
        "first."
    )
    async def my_threads(self, info: Info, first: First = None, after: After = None) -> ThreadConnection | None:
        loaders = await info.context.loaders()
        key = cursors.thread_key("after", after)
        page, page_cursors = await follows.page(loaders.services, loaders.viewer, first=first, after=key)
        nodes = [Message(record=root) for root in page.rows]
        edges = [MessageEdge(cursor=cursor, node=node) for cursor, node in zip(page_cursors, nodes, strict=True)]
        return ThreadConnection(edges=edges, nodes=nodes, page_info=page_info(page, list(page_cursors)))

    @strawberry.field(
        description="The messages that mention you in the groups that you are an accepted member of, newest first: by "
        "name, and with `@all` since you joined. Your own are not among them, and what an edit mentions you in stands "
        "where it was sent."
    )
    async def my_mentions(self, info: Info, first: First = None, after: After = None) -> MentionConnection | None:
        key = cursors.mention_key("after", after)
        viewer = await info.context.viewer()
        return mention_page(await mentions.inbox(info.context.services, viewer, first=first, after=key))

    @strawberry.field(description="Your open invitations, oldest first; at most 100.")
    async def my_invitations(self, info: Info) -> list[Invitation] | None:
        viewer = await info.context.viewer()
        return [invitation(event) for event in await groups.invitations(info.context.services, viewer)]

    @strawberry.field(description="The user of that name, to add or invite; null if there is none.")
    async def user(
        self,
        info: Info,
        username: Annotated[str, strawberry.argument(description="The username; capitals are lowered.")],
    ) -> User | None:
        await info.context.viewer()
        found = await users.by_username(info.context.services, username)
        return User(record=found) if found else None
