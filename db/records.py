"""What reads hand out: plain records, frozen, with UTC moments. Knows nothing of SQL or of the other rooms."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from frozen import frozen


class MembershipStatus(StrEnum):
    PENDING = "PENDING"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"


class MemberRole(StrEnum):
    MEMBER = "MEMBER"
    MODERATOR = "MODERATOR"
    ADMIN = "ADMIN"


class GroupEventKind(StrEnum):
    """The kinds of a group's log."""

    GROUP_CREATED = "GROUP_CREATED"
    DETAILS_CHANGED = "DETAILS_CHANGED"
    GROUP_DELETED = "GROUP_DELETED"
    MEMBER_ADDED = "MEMBER_ADDED"
    MEMBER_JOINED = "MEMBER_JOINED"
    MEMBER_INVITED = "MEMBER_INVITED"
    INVITATION_DECLINED = "INVITATION_DECLINED"
    INVITATION_TAKEN_BACK = "INVITATION_TAKEN_BACK"
    MEMBER_REMOVED = "MEMBER_REMOVED"
    MEMBER_LEFT = "MEMBER_LEFT"
    MEMBER_PROMOTED = "MEMBER_PROMOTED"
    MEMBER_DEMOTED = "MEMBER_DEMOTED"
    MESSAGE_SENT = "MESSAGE_SENT"
    MESSAGE_EDITED = "MESSAGE_EDITED"
    MESSAGE_DELETED = "MESSAGE_DELETED"
    REACTION_ADDED = "REACTION_ADDED"
    REACTION_REMOVED = "REACTION_REMOVED"


MESSAGE_KINDS = frozenset(
    {
        GroupEventKind.MESSAGE_SENT,
        GroupEventKind.MESSAGE_EDITED,
        GroupEventKind.MESSAGE_DELETED,
        GroupEventKind.REACTION_ADDED,
        GroupEventKind.REACTION_REMOVED,
    }
)
ACCESS_KINDS = frozenset(GroupEventKind) - MESSAGE_KINDS - {GroupEventKind.DETAILS_CHANGED}


class UserEventKind(StrEnum):
    """The kinds of a user's log."""

    GROUP_CREATED = "GROUP_CREATED"
    ADDED_TO_GROUP = "ADDED_TO_GROUP"
    INVITED = "INVITED"
    INVITATION_ENDED = "INVITATION_ENDED"
    READ_MOVED = "READ_MOVED"
    THREAD_CHANGED = "THREAD_CHANGED"
    TOKEN_ENDED = "TOKEN_ENDED"  # noqa: S105  # a kind of event


@frozen
class User:
    id: UUID
    username: str
    first_name: str
    last_name: str
    nickname: str | None
    avatar_url: str | None
    created_at: datetime
    disabled_at: datetime | None
    head_seq: int
    shares_read_positions: bool


@frozen
class Token:
    id: UUID
    user_id: UUID
    expires_at: datetime
    ended_at: datetime | None


@frozen
class Group:
    id: UUID
    name: str
    description: str
    created_by: UUID
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    member_count: int
    head_seq: int
    head_nonce: int
    access_seq: int
    active_at: datetime


@frozen
class Membership:
    group_id: UUID
    user_id: UUID
    status: MembershipStatus
    role: MemberRole
    added_by: UUID | None
    created_at: datetime
    joined_seq: int | None = None
    readable_from: int = 0
    invitation_seq: int | None = None


@frozen
class Mentioned:
    """Whom a message mentions, everybody if `user_id` is None, since which event of the log, and where in its content:
    (start, length) in UTF-16 code units. Without places it does so no more.
    """

    user_id: UUID | None
    since: int
    places: tuple[tuple[int, int], ...]


@frozen
class Message:
    id: UUID
    group_id: UUID
    seq: int
    version: int
    sender_id: UUID
    content: str
    client_message_id: str | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None
    deleted_by: UUID | None = None
    edited_seq: int | None = None
    edited_at: datetime | None = None
    thread_root_id: UUID | None = None
    mentions: tuple[Mentioned, ...] = ()


@frozen
class MessageRevision:
    """What a message said before it was edited, and the event that had given it this content."""

    message_id: UUID
    version: int
    content: str
    created_at: datetime


@frozen
class Reaction:
    """All who reacted to a message with the same: how many they are, and the user who asks if they are one of them."""

    message_id: UUID
    emoji: str
    count: int
    own_id: UUID | None


@frozen
class Reacted:
    """That one user reacted, at `seq` of the group's log."""

    message_id: UUID
    user_id: UUID
    emoji: str
    seq: int


@frozen
class Thread:
    """The replies to a message: how many were not deleted, the newest of these, and when the last of all came."""

    root_id: UUID
    reply_count: int
    active_at: datetime
    last_reply: Message | None


@frozen
class Follow:
    """That a user follows a thread: how far they have read it, and how many replies of others lie after that."""

    root_id: UUID
    read_seq: int
    unread_count: int


@frozen
class Unread:
    """How far one member has read their group; how many messages of others lie after that, the oldest of them, and how
    many of them mention the member.
    """

    read_seq: int
    count: int
    first: Message | None
    mentions: int


@frozen
class GroupEvent:
    group_id: UUID
    seq: int
    nonce: int
    kind: GroupEventKind
    occurred_at: datetime
    actor_id: UUID | None
    subject_id: UUID | None
    message_id: UUID | None
    data: Mapping[str, Any]


@frozen
class LoggedEvent:
    """A row of a group's log with its message as it is now."""

    event: GroupEvent
    message: Message | None


@frozen
class GroupPage:
    """Rows of a group's log and the group's row, read by one statement: `group.access_seq` says how far permissions had
    changed by then.
    """

    group: Group
    events: Sequence[LoggedEvent]


@frozen
class UserEvent:
    user_id: UUID
    seq: int
    kind: UserEventKind
    occurred_at: datetime
    actor_id: UUID | None
    group_id: UUID | None
    data: Mapping[str, Any]


@frozen
class SentId:
    """The message that a sender's own id stands for."""

    group_id: UUID
    message_id: UUID
    digest: bytes


@frozen
class Standing:
    """A group and what one user is in it, read by one statement. `membership` is None where there is no row."""

    group: Group
    membership: Membership | None

    @property
    def status(self) -> MembershipStatus | None:
        return self.membership.status if self.membership else None

    @property
    def is_member(self) -> bool:
        return self.status is MembershipStatus.ACCEPTED

    @property
    def is_open(self) -> bool:
        """Whether the user is a member of a group that still is."""
        return self.is_member and self.group.deleted_at is None
