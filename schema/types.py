"""The objects of the API that live in a group: each shows one record, as far as the viewer may see it. Knows no SQL."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import strawberry

from db import records
from db.records import GroupEventKind
from resolvers import cursors, mentions, messages
from resolvers.filters import Filter
from resolvers.history import Anchor, Around
from resolvers.messages import EventPage, cursor_of, head_cursor, start_cursor
from resolvers.pages import Page, requested
from resolvers.reactions import Emoji
from resolvers.reader import Shown
from resolvers.refusals import bad_input
from resolvers.threads import may_have_replies

from . import ids
from .connections import After, Before, First, Last, PageInfo, page_info
from .context import Info
from .enums import MemberRole, MembershipStatus, MessageEventKind
from .inputs import UNSET, MessageEventFilter, MessagesAround
from .loaders import Loaders
from .nodes import Node, User, user, user_at_once, user_or_none

MESSAGE_EVENT_KINDS = {
    GroupEventKind.MESSAGE_SENT: MessageEventKind.SENT,
    GroupEventKind.MESSAGE_EDITED: MessageEventKind.EDITED,
    GroupEventKind.MESSAGE_DELETED: MessageEventKind.DELETED,
    GroupEventKind.REACTION_ADDED: MessageEventKind.REACTED,
    GroupEventKind.REACTION_REMOVED: MessageEventKind.REACTED,
}
OnlyEvents = Annotated[
    MessageEventFilter | None,
    strawberry.argument(
        name="filter", description="Leave out the other events. A position means the same with every filter."
    ),
]


def event_filter(given: MessageEventFilter | None) -> Filter | None:
    """Raises BAD_USER_INPUT for no kinds, for a user that is no user's id, and for a thread that is no message's."""
    if given is None:
        return None
    if given.kinds is not UNSET:
        if not given.kinds:
            raise bad_input("kinds must name at least one kind.", field="filter")
        return Filter(kinds=frozenset(kind for kind, shown in MESSAGE_EVENT_KINDS.items() if shown in given.kinds))
    if given.thread is not UNSET:
        return Filter(thread_id=_id(ids.MESSAGE, given.thread, "thread must be the id of a message."))
    if given.mentions is not UNSET:
        return Filter(mentioned_id=_id(ids.USER, given.mentions, "mentions must be the id of a user."))
    return Filter(sender_id=_id(ids.USER, given.sender, "sender must be the id of a user."))


def _id(mark: bytes, text: str | None, wanted: str) -> UUID:
    found = ids.decode(text or "")
    if found is None or found[0] != mark:
        raise bad_input(wanted, field="filter")
    return found[1][0]


@strawberry.type(description="One user's standing in one group.")
class Membership(Node):
    record: strawberry.Private[records.Membership]

    @strawberry.field(description="The global id of the membership: it stays the same for this user in this group.")
    def id(self) -> strawberry.ID:
        return ids.encode(ids.MEMBERSHIP, self.record.group_id, self.record.user_id)

    @strawberry.field(description="The group; null unless you are an accepted member of it.")
    async def group(self, info: Info) -> "Group | None":
        found = await (await info.context.loaders()).group_or_none(self.record.group_id)
        return Group(record=found) if found else None

    @strawberry.field(description="Whose standing this is.")
    async def user(self, info: Info) -> User:
        return await user(info, self.record.user_id)

    @strawberry.field(description="Whether the user is a member (ACCEPTED), invited (PENDING), or declined (REJECTED).")
    def status(self) -> MembershipStatus:
        return MembershipStatus[self.record.status.value]

    @strawberry.field(description="What the user may do once they are a member.")
    def role(self) -> MemberRole:
        return MemberRole[self.record.role.value]

    @strawberry.field(description="Who added or invited the user; null for the creator of the group.")
    async def added_by(self, info: Info) -> User | None:
        return await user_or_none(info, self.record.added_by)

    @strawberry.field(description="When the user was added or invited.")
    def created_at(self) -> datetime:
        return self.record.created_at


@strawberry.type(description="What an invited user sees of a group before answering.")
class Invitation:
    group_id: strawberry.ID = strawberry.field(
        description="The group, to answer with `answerInvitation`. `group(id:)` is not yours to read yet."
    )
    group_name: str = strawberry.field(description="The name of the group when you were invited.")
    group_description: str = strawberry.field(description="Its description when you were invited.")
    created_at: datetime = strawberry.field(description="When you were invited.")
    inviter: strawberry.Private[UUID | None]

    @strawberry.field(description="Who invited you.")
    async def invited_by(self, info: Info) -> User | None:
        return await user_or_none(info, self.inviter)


def invitation(event: records.UserEvent) -> Invitation:
    """What the user was shown when invited: later names are not theirs to see, and once it has ended nothing is."""
    assert event.group_id is not None
    return Invitation(
        group_id=ids.encode(ids.GROUP, event.group_id),
        group_name=event.data["name"],
        group_description=event.data["description"],
        created_at=event.occurred_at,
        inviter=event.actor_id,
    )


@strawberry.type(description="The place where members talk. Only its accepted members can read anything of it.")
class Group(Node):
    record: strawberry.Private[records.Group]

    @strawberry.field(description="The global id of the group.")
    def id(self) -> strawberry.ID:
        return ids.encode(ids.GROUP, self.record.id)

    @strawberry.field(description="The name: 1 to 100 characters.")
    def name(self) -> str:
        return self.record.name

    @strawberry.field(description="What the group is about: up to 2,000 characters, possibly empty.")
    def description(self) -> str:
        return self.record.description

    @strawberry.field(description="Who created the group. They may have left since.")
    async def created_by(self, info: Info) -> User:
        return await user(info, self.record.created_by)

    @strawberry.field(description="When the group was created.")
    def created_at(self) -> datetime:
        return self.record.created_at

    @strawberry.field(description="When its name or description changed last.")
    def updated_at(self) -> datetime:
        return self.record.updated_at

    @strawberry.field(description="How many accepted members there are.")
    def member_count(self) -> int:
        return self.record.member_count

    @strawberry.field(description="Your own membership.")
    async def viewer_membership(self, info: Info) -> Membership | None:
        loaders = await info.context.loaders()
        found = await loaders.membership.load((self.record.id, loaders.viewer.id))
        return Membership(record=found) if found else None

    @strawberry.field(description="The accepted members, in the order in which they joined; by default the first 50.")
    async def members(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> "MembershipConnection":
        return await member_page(info, self.record.id, first, after, last, before)

    @strawberry.field(
        description="The messages, oldest first; by default the newest 50. `last: 50, before: startCursor` is the page "
        "before. With `around` the page holds that place in its middle, and goes on in both directions."
    )
    async def messages(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        around: Annotated[
            MessagesAround | None,
            strawberry.argument(
                description="Jump to a place. Beside it only `first` (the size of the page, by default 50) and "
                "`replies` may be given."
            ),
        ] = None,
        replies: Annotated[
            bool | None,
            strawberry.argument(
                description="false: leave out replies, for clients that show threads aside. All of them are in the log."
            ),
        ] = True,
    ) -> "MessageConnection":
        if around is None:
            return await message_page(info, self.record.id, first, after, last, before, replies is not False)
        if any(each is not None for each in (after, last, before)):
            raise bad_input("Beside around only first may be given.", field="around")
        return await messages_around(info, self.record.id, around, first, replies is not False)

    @strawberry.field(description="The newest message, for a list of groups; null in a group without messages.")
    async def last_message(self, info: Info) -> "Message | None":
        found = await (await info.context.loaders()).newest.load(self.record.id)
        return Message(record=found) if found else None

    @strawberry.field(
        description="How many messages you have not read: those of others after `readSeq` that were not deleted."
    )
    async def unread_count(self, info: Info) -> int:
        return (await (await info.context.loaders()).unread.load(self.record.id)).count

    @strawberry.field(
        description="How many of the messages that you have not read mention you, by name or with `@all`."
    )
    async def mention_count(self, info: Info) -> int:
        return (await (await info.context.loaders()).unread.load(self.record.id)).mentions

    @strawberry.field(description="The oldest message that you have not read; null when you have read everything.")
    async def first_unread(self, info: Info) -> "Message | None":
        found = (await (await info.context.loaders()).unread.load(self.record.id)).first
        return Message(record=found) if found else None

    @strawberry.field(
        description="How far you have read, on any device: everything up to this seq. It begins where you joined; move "
        "it with `markGroupRead` and `markGroupUnread`."
    )
    async def read_seq(self, info: Info) -> int:
        return (await (await info.context.loaders()).unread.load(self.record.id)).read_seq

    @strawberry.field(
        description="The stream position that everything under this group is at least as new as. "
        "Subscribe to `groupMessages` with `after: headCursor`, and nothing between this query and the subscription is "
        "missed."
    )
    def head_cursor(self) -> str:
        return head_cursor(self.record)

    @strawberry.field(description="The stream position before the first event: replay the whole log from here.")
    def start_cursor(self) -> str:
        return start_cursor(self.record.id)

    @strawberry.field(
        description="The events after a stream position, for clients without a socket: the same events with the same "
        "cursors as `groupMessages`. "
        "Poll with the `cursor` of the page before. A page may be empty, and `hasMore` all the same."
    )
    async def message_events(
        self,
        info: Info,
        after: Annotated[
            str,
            strawberry.argument(
                description="A stream position: `headCursor`, `startCursor`, or the cursor of an event or a page."
            ),
        ],
        first: Annotated[
            int | None, strawberry.argument(description="At most so many events: 1 to 100, by default 50.")
        ] = None,
        only: OnlyEvents = None,
    ) -> "GroupMessageEventPage":
        loaders = await info.context.loaders()
        page = await messages.events_after(
            loaders.services, loaders.door, self.record.id, after=after, first=first, only=event_filter(only)
        )
        return message_event_page(loaders, page)


def group_at_once(info: Info, group_id: UUID) -> Any:
    """The group behind the door of this operation: as it was read with what is shown, else something to wait for, which
    raises what the door refuses with.
    """
    known = info.context.groups.get(group_id)
    return group(info, group_id) if known is None else Group(record=known)


async def group(info: Info, group_id: UUID) -> Group:
    return Group(record=await (await info.context.loaders()).group.load(group_id))


@strawberry.type(description="What a message said before it was edited.")
class MessageRevision:
    content: str = strawberry.field(description="What it said.")
    version: int = strawberry.field(description="The seq of the event that had given it this content.")
    created_at: datetime = strawberry.field(description="When it was given this content.")


@strawberry.type(description="What a member sent.")
class Message(Node):
    record: strawberry.Private[records.Message]

    @strawberry.field(description="The global id of the message.")
    def id(self) -> strawberry.ID:
        return ids.encode(ids.MESSAGE, self.record.id)

    @strawberry.field(description="The group that it was sent to.")
    def group(self, info: Info) -> Group:
        return group_at_once(info, self.record.group_id)

    @strawberry.field(description="Who sent it.")
    def sender(self, info: Info) -> User:
        return user_at_once(info, self.record.sender_id)

    @strawberry.field(
        description="What it says, byte for byte: 1 to 4,000 characters. Empty once it is deleted: show a tombstone."
    )
    def content(self) -> str:
        return self.record.content

    @strawberry.field(
        description="Its place in the group's log: sort by this, never by time. It rises with gaps, because other "
        "events take numbers too."
    )
    def seq(self) -> int:
        return self.record.seq

    @strawberry.field(
        description="The seq of the last event that changed it: of two copies keep the one with the higher version."
    )
    def version(self) -> int:
        return self.record.version

    @strawberry.field(
        description="The id that its sender gave it, visible to all members. Replace your own optimistic copy that has "
        "this id, and no other."
    )
    def client_message_id(self) -> str | None:
        return self.record.client_message_id

    @strawberry.field(description="When it was accepted.")
    def created_at(self) -> datetime:
        return self.record.created_at

    @strawberry.field(description="When it changed last.")
    def updated_at(self) -> datetime:
        return self.record.updated_at

    @strawberry.field(description="When its sender edited it last; null if they never did.")
    def edited_at(self) -> datetime | None:
        return self.record.edited_at

    @strawberry.field(description="When it was deleted; null while it is not. It keeps its place in the lists.")
    def deleted_at(self) -> datetime | None:
        return self.record.deleted_at

    @strawberry.field(description="Who deleted it: its sender, a moderator or an admin. Null while it is not deleted.")
    async def deleted_by(self, info: Info) -> User | None:
        return await user_or_none(info, self.record.deleted_by)

    @strawberry.field(
        description="What it said before it was edited, oldest first: up to 100, and none once it is deleted. For its "
        "sender, moderators and admins; null for others."
    )
    async def revisions(self, info: Info) -> list[MessageRevision] | None:
        found = await (await info.context.loaders()).revisions.load(self.record)
        return None if found is None else [_revision(each) for each in found]

    @strawberry.field(
        description="The places of its `content` that mention somebody, in their order: at most 50. The server finds "
        "them when it is sent or edited; none once it is deleted."
    )
    def mentions(self) -> list["Mention"]:
        return [
            Mention(user_id=user_id, start=start, length=length)
            for (start, length), user_id in mentions.in_order(self.record)
        ]

    @strawberry.field(
        description="Whether it mentions everybody in the group: `@all`, written by a moderator or an admin."
    )
    def mentions_all(self) -> bool:
        return any(each.user_id is None and each.places for each in self.record.mentions)

    @strawberry.field(
        description="What people reacted with, at most 20, in the order in which each was first there; none once it is "
        "deleted. Read when the message is shown: never older than `version`, possibly newer."
    )
    async def reactions(self, info: Info) -> list["Reaction"]:
        found = await (await info.context.loaders()).reactions.load(self.record)
        return [Reaction(group_id=self.record.group_id, record=each) for each in found]

    @strawberry.field(description="The root of the thread that it is a reply in; null if it is no reply.")
    def thread_root(self, info: Info) -> "Message | None":
        return thread_root(info, self.record)

    @strawberry.field(
        description="The replies to it; null while nobody has replied, and for what is a reply itself. Read when the "
        "message is shown: never older than `version`, possibly newer."
    )
    def thread(self, info: Info) -> "Thread | None":
        return thread(info, self.record)

    @strawberry.field(
        description="The members who have seen it, in the order in which they joined: those but its sender who marked "
        "the group as read up to here or beyond. Who does not share how far they have read is not among them. Null for "
        "you while you do not (`sharesReadPositions`), and in groups that are too large for it, by default those of "
        "more than 100 members. No event tells of a change: ask again."
    )
    async def seen_by(self, info: Info) -> list[User] | None:
        loaders = await info.context.loaders()
        found = await loaders.seen_by.load(self.record)
        return None if found is None else [User(record=each) for each in await loaders.user.load_many(found)]


def _revision(record: records.MessageRevision) -> MessageRevision:
    return MessageRevision(content=record.content, version=record.version, created_at=record.created_at)


@strawberry.type(description="A place in a message's content that mentions somebody.")
class Mention:
    user_id: strawberry.Private[UUID | None]
    start: int = strawberry.field(
        description="Where its `@` stands in `content`, in UTF-16 code units: as strings of JavaScript are indexed."
    )
    length: int = strawberry.field(description="Its length, with the `@`, in the same units.")

    @strawberry.field(
        description="Who is mentioned: a member when it was written, who may have left since. Null: `@all`, everybody."
    )
    def user(self, info: Info) -> User | None:
        return None if self.user_id is None else user_at_once(info, self.user_id)


@strawberry.type(description="All who reacted to a message with the same.")
class Reaction:
    group_id: strawberry.Private[UUID]
    record: strawberry.Private[records.Reaction]

    @strawberry.field(description="An emoji, byte for byte, or a short name without colons, as `tada`.")
    def emoji(self) -> str:
        return self.record.emoji

    @strawberry.field(description="How many people they are.")
    def count(self) -> int:
        return self.record.count

    @strawberry.field(description="Whether you are one of them.")
    async def viewer_has_reacted(self, info: Info) -> bool:
        return self.record.own_id == (await info.context.loaders()).viewer.id

    @strawberry.field(description="Who they are, in the order in which they reacted; by default the first 50.")
    async def users(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> "UserConnection":
        emoji = Emoji(self.group_id, self.record.message_id, self.record.emoji)
        return await reacted_page(info, emoji, first, after, last, before)


@strawberry.type(
    description="The replies to a message. They are messages of the group like all others, in its log, its lists and "
    "its events."
)
class Thread:
    root: strawberry.Private[records.Message]
    record: strawberry.Private[records.Thread]

    @strawberry.field(description="How many replies there are; deleted ones do not count.")
    def reply_count(self) -> int:
        return self.record.reply_count

    @strawberry.field(description="The newest reply that was not deleted; null if all were.")
    def last_reply(self) -> Message | None:
        return Message(record=self.record.last_reply) if self.record.last_reply else None

    @strawberry.field(description="The replies, oldest first, deleted ones in their place; by default the newest 50.")
    async def replies(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> "MessageConnection":
        return await reply_page(info, self.root, first, after, last, before)

    @strawberry.field(
        description="Whether you follow it: since you replied, or somebody did to your message, or by `followThread`."
    )
    async def viewer_follows(self, info: Info) -> bool:
        return await (await info.context.loaders()).follow.load(self.root) is not None

    @strawberry.field(
        description="How far you have read it, on any device: everything up to this seq. Null while you do not follow "
        "it; move it with `markThreadRead`."
    )
    async def read_seq(self, info: Info) -> int | None:
        found = await (await info.context.loaders()).follow.load(self.root)
        return found.read_seq if found else None

    @strawberry.field(
        description="How many replies you have not read: those of others after `readSeq` that were not deleted. 0 "
        "while you do not follow it."
    )
    async def unread_count(self, info: Info) -> int:
        found = await (await info.context.loaders()).follow.load(self.root)
        return found.unread_count if found else 0


def thread_root(info: Info, message: records.Message) -> Any:
    """None at once for what is no reply: most messages, and a task for each would cost more than the rest of them."""
    return message_of(info, message.group_id, message.thread_root_id) if message.thread_root_id else None


async def message_of(info: Info, group_id: UUID, message_id: UUID) -> Message:
    """A message of this group. Raises what the door refuses with."""
    return Message(record=await (await info.context.loaders()).message.load((group_id, message_id)))


def thread(info: Info, message: records.Message) -> Any:
    """None at once for what can have no replies."""
    return _thread(info, message) if may_have_replies(message) else None


async def _thread(info: Info, root: records.Message) -> Thread | None:
    found = await (await info.context.loaders()).thread.load(root)
    return Thread(root=root, record=found) if found else None


@strawberry.type(description="A person in a list.")
class UserEdge:
    cursor: str = strawberry.field(description="The person's place in this list.")
    node: User = strawberry.field(description="The person.")


@strawberry.type(description="A page of people, in the order in which they reacted.")
class UserConnection:
    edges: list[UserEdge] = strawberry.field(description="The people with their cursors.")
    nodes: list[User] = strawberry.field(description="The people alone.")
    page_info: PageInfo = strawberry.field(description="Where this page lies.")


@strawberry.type(description="A message in a list.")
class MessageEdge:
    cursor: str = strawberry.field(description="The message's place in this list. Not a stream position.")
    node: Message = strawberry.field(description="The message.")


@strawberry.type(description="A page of messages, oldest first.")
class MessageConnection:
    edges: list[MessageEdge] = strawberry.field(description="The messages with their cursors.")
    nodes: list[Message] = strawberry.field(description="The messages alone.")
    page_info: PageInfo = strawberry.field(description="Where this page lies.")
    head_cursor: str = strawberry.field(
        description="The stream position that belongs to this page: subscribe with `after: headCursor`, and nothing "
        "falls between page and stream. `Group.headCursor` may have moved on in a cache; this one stays with the list."
    )


@strawberry.type(description="A page of the messages that mention you, newest first.")
class MentionConnection:
    edges: list[MessageEdge] = strawberry.field(description="The messages with their cursors.")
    nodes: list[Message] = strawberry.field(description="The messages alone.")
    page_info: PageInfo = strawberry.field(description="Where this page lies.")


@strawberry.type(
    description="A page of threads, most recently active first. A cursor names a thread's place as it was when the "
    "first page was read."
)
class ThreadConnection:
    edges: list[MessageEdge] = strawberry.field(description="The roots of the threads with their cursors.")
    nodes: list[Message] = strawberry.field(description="The roots of the threads alone.")
    page_info: PageInfo = strawberry.field(description="Where this page lies.")


@strawberry.type(description="A member in a list.")
class MembershipEdge:
    cursor: str = strawberry.field(description="The member's place in this list.")
    node: Membership = strawberry.field(description="The membership.")


@strawberry.type(description="A page of members, in the order in which they joined.")
class MembershipConnection:
    edges: list[MembershipEdge] = strawberry.field(description="The memberships with their cursors.")
    nodes: list[Membership] = strawberry.field(description="The memberships alone.")
    page_info: PageInfo = strawberry.field(description="Where this page lies.")


@strawberry.type(description="A group in a list.")
class GroupEdge:
    cursor: str = strawberry.field(
        description="The group's place in this list, as it was when its first page was read."
    )
    node: Group = strawberry.field(description="The group.")


@strawberry.type(description="A page of groups, most recently active first.")
class GroupConnection:
    edges: list[GroupEdge] = strawberry.field(description="The groups with their cursors.")
    nodes: list[Group] = strawberry.field(description="The groups alone.")
    page_info: PageInfo = strawberry.field(description="Where this page lies.")


def message_edge(message: Message) -> MessageEdge:
    return MessageEdge(cursor=_cursor_in_group(message.record), node=message)


def _cursor_in_group(message: records.Message) -> str:
    return cursors.of_message(message.group_id, message.seq)


async def message_page(
    info: Info,
    group_id: UUID,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    replies: bool,
) -> MessageConnection:
    keys = cursors.message_key("after", after, group_id), cursors.message_key("before", before, group_id)
    request = requested(first, last, *keys, newest_by_default=True)
    loaders = await info.context.loaders()
    pages = loaders.messages if replies else loaders.without_replies
    return _message_connection(await pages.load((group_id, request)))


async def reply_page(
    info: Info, root: records.Message, first: int | None, after: str | None, last: int | None, before: str | None
) -> MessageConnection:
    keys = cursors.reply_key("after", after, root.id), cursors.reply_key("before", before, root.id)
    request = requested(first, last, *keys, newest_by_default=True)
    page = await (await info.context.loaders()).replies.load((root, request))
    return _message_connection(page, lambda reply: cursors.of_reply(root.id, reply.seq))


async def messages_around(
    info: Info, group_id: UUID, around: MessagesAround, first: int | None, replies: bool
) -> MessageConnection:
    limit = requested(first, None, None, None, newest_by_default=False).limit
    request = Around(limit, _anchor(around), replies)
    return _message_connection(await (await info.context.loaders()).around.load((group_id, request)))


def _anchor(around: MessagesAround) -> Anchor:
    if around.message_id is not UNSET and around.message_id is not None:
        return ids.message(around.message_id)
    if around.date is not UNSET:
        return around.date
    if not around.first_unread:
        raise bad_input("firstUnread can only be true.", field="around")
    return None


def _message_connection(
    page: Page[records.Message], cursor: Callable[[records.Message], str] = _cursor_in_group
) -> MessageConnection:
    edges = [MessageEdge(cursor=cursor(message), node=Message(record=message)) for message in page.rows]
    assert page.group is not None
    return MessageConnection(
        head_cursor=head_cursor(page.group),
        edges=edges,
        nodes=[edge.node for edge in edges],
        page_info=page_info(page, [edge.cursor for edge in edges]),
    )


def mention_page(page: Page[records.Message]) -> MentionConnection:
    edges = [
        MessageEdge(cursor=cursors.of_mention(each.created_at, each.group_id, each.seq), node=Message(record=each))
        for each in page.rows
    ]
    return MentionConnection(
        edges=edges, nodes=[edge.node for edge in edges], page_info=page_info(page, [edge.cursor for edge in edges])
    )


async def member_page(
    info: Info, group_id: UUID, first: int | None, after: str | None, last: int | None, before: str | None
) -> MembershipConnection:
    keys = cursors.member_key("after", after, group_id), cursors.member_key("before", before, group_id)
    request = requested(first, last, *keys, newest_by_default=False)
    page = await (await info.context.loaders()).members.load((group_id, request))
    edges = [
        MembershipEdge(
            cursor=cursors.of_member(member.group_id, member.joined_seq or 0), node=Membership(record=member)
        )
        for member in page.rows
    ]
    return MembershipConnection(
        edges=edges, nodes=[edge.node for edge in edges], page_info=page_info(page, [edge.cursor for edge in edges])
    )


async def reacted_page(
    info: Info, emoji: Emoji, first: int | None, after: str | None, last: int | None, before: str | None
) -> UserConnection:
    keys = cursors.reaction_key("after", after, emoji.id), cursors.reaction_key("before", before, emoji.id)
    request = requested(first, last, *keys, newest_by_default=False)
    loaders = await info.context.loaders()
    page = await loaders.reacted.load((emoji, request))
    people = await loaders.user.load_many([each.user_id for each in page.rows])
    edges = [
        UserEdge(cursor=cursors.of_reaction(emoji.id, each.seq), node=User(record=person))
        for each, person in zip(page.rows, people, strict=True)
    ]
    return UserConnection(
        edges=edges, nodes=[edge.node for edge in edges], page_info=page_info(page, [edge.cursor for edge in edges])
    )


@strawberry.type(description="Something that happened to a message, at its place in the group's log.")
class GroupMessageEvent:
    fact: strawberry.Private[Shown]

    @strawberry.field(
        description="The stream position of this event: hand it back as `after` to go on from here, on any node, at "
        "any time."
    )
    def cursor(self) -> str:
        return cursor_of(self.fact)

    @strawberry.field(description="The event's own place in the log.")
    def seq(self) -> int:
        return self.fact.event.seq

    @strawberry.field(description="What happened. More kinds will come: keep a default branch.")
    def kind(self) -> MessageEventKind:
        return MESSAGE_EVENT_KINDS[self.fact.event.kind]

    @strawberry.field(description="When it happened.")
    def occurred_at(self) -> datetime:
        return self.fact.event.occurred_at

    @strawberry.field(description="Who did it.")
    def actor(self, info: Info) -> User | None:
        actor_id = self.fact.event.actor_id
        return None if actor_id is None else user_at_once(info, actor_id)

    @strawberry.field(
        description="The message, read when the event is shown: never older than this event, possibly newer."
    )
    def message(self) -> Message:
        assert self.fact.message is not None
        return Message(record=self.fact.message)

    @strawberry.field(description="The message as an edge of `Group.messages`, for clients that keep connections.")
    def message_edge(self) -> MessageEdge:
        assert self.fact.message is not None
        return message_edge(Message(record=self.fact.message))


@strawberry.type(description="A page of events after a stream position.")
class GroupMessageEventPage:
    events: list[GroupMessageEvent] = strawberry.field(description="The events, in the order of the log.")
    cursor: str = strawberry.field(description="The stream position after this page: poll with it the next time.")
    has_more: bool = strawberry.field(description="Whether there are more events already.")


def message_event(loaders: Loaders, fact: Shown) -> GroupMessageEvent:
    remember(loaders, fact)
    return GroupMessageEvent(fact=fact)


def remember(loaders: Loaders, fact: Shown) -> None:
    """What was read together with the event needs no second read."""
    loaders.people.update(fact.people)
    loaders.groups[fact.group.id] = fact.group


def message_event_page(loaders: Loaders, page: EventPage) -> GroupMessageEventPage:
    return GroupMessageEventPage(
        events=[message_event(loaders, fact) for fact in page.events], cursor=page.cursor, has_more=page.has_more
    )
