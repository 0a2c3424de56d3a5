"""The tables, each with what it promises. Knows nothing of the other rooms.

Two logs carry everything durable: `group_events` and `user_events`. Their `seq` is dense, starts at 1 and follows the
order of commits, because whoever appends holds the lock on the log's owner (the row in `groups` or `users`).
"""

import json
import re
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    text,
    true,
)
from sqlalchemy.orm import declared_attr
from sqlmodel import Field, SQLModel

from .records import Mentioned

NOT_DELETED = text("deleted_at IS NULL")
IS_REPLY, IS_NO_REPLY = text("thread_root_id IS NOT NULL"), text("thread_root_id IS NULL")
PRESENT, PRESENT_IN_SQLITE = text("present"), text("present = 1")

metadata: MetaData = SQLModel.metadata
metadata.naming_convention = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC with microseconds, aware in Python on both databases (SQLite hands back naive ones)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.replace(tzinfo=UTC)


class Mentions(TypeDecorator[tuple[Mentioned, ...]]):
    """Whom a message mentions, as JSON: `[user or null, since, start, length, start, length, ...]` for each. Null where
    there is nobody, as in most messages.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[Mentioned, ...] | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        if not value:
            return None
        flat = [[each.user_id and each.user_id.hex, each.since, *sum(each.places, ())] for each in value]
        return json.dumps(flat, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[Mentioned, ...]:  # noqa: ARG002
        return tuple(_mentioned(*each) for each in json.loads(value)) if value else ()


def _mentioned(user_id: str | None, since: int, *places: int) -> Mentioned:
    return Mentioned(UUID(user_id) if user_id else None, since, tuple(zip(places[::2], places[1::2], strict=True)))


def _moment(**options: Any) -> Any:
    return Field(sa_type=UtcDateTime, **options)


def _id(*foreign: str, primary: bool = False, nullable: bool = False) -> Any:
    return Field(
        sa_type=Uuid, primary_key=primary, nullable=nullable, sa_column_args=[ForeignKey(key) for key in foreign]
    )


def _text(length: int | None = None, **options: Any) -> Any:
    return Field(sa_type=Text if length is None else String(length), **options)


def _number(**options: Any) -> Any:
    return Field(sa_type=BigInteger, **options)


class Row(SQLModel):
    """A table's class is named for one row, its table for all of them: `GroupEventRow` is in `group_events`."""

    @declared_attr  # pyright: ignore[reportArgumentType]  # as SQLModel's own
    def __tablename__(cls) -> str:  # noqa: N805  # pyright: ignore[reportIncompatibleVariableOverride]
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix("Row")).lower() + "s"


class UserRow(Row, table=True):
    """A person. Erasing empties the row and keeps it, so that every event can still be shown."""

    id: UUID = _id(primary=True)
    username: str = _text(32, unique=True)
    password_hash: str | None = _text(255, nullable=True)
    first_name: str = _text(100)
    last_name: str = _text(100)
    nickname: str | None = _text(100, nullable=True)
    avatar_url: str | None = _text(2048, nullable=True)
    created_at: datetime = _moment()
    disabled_at: datetime | None = _moment(nullable=True)
    head_seq: int = _number(default=0)
    shares_read_positions: bool = Field(default=True, sa_column_kwargs={"server_default": true()})


class TokenRow(Row, table=True):
    """A log-in. Only the SHA-256 digest of the token is kept."""

    digest: bytes = Field(sa_type=LargeBinary(32), primary_key=True)
    id: UUID = Field(sa_type=Uuid, unique=True)
    user_id: UUID = Field(sa_type=Uuid, foreign_key="users.id", index=True)
    created_at: datetime = _moment()
    expires_at: datetime = _moment()
    ended_at: datetime | None = _moment(nullable=True)


class GroupRow(Row, table=True):
    """A group and the end of its log: whoever appends locks this row first.

    `access_seq` is the seq of the last row that changed who may do what; `head_nonce` repeats the nonce of the last
    row, so that a cursor of the head needs no second read; `active_at` never goes back, whatever the clocks of the
    nodes say.
    """

    id: UUID = _id(primary=True)
    name: str = _text(100)
    description: str = _text(2000)
    created_by: UUID = _id("users.id")
    created_at: datetime = _moment()
    updated_at: datetime = _moment()
    deleted_at: datetime | None = _moment(nullable=True)
    member_count: int = _number()
    head_seq: int = _number()
    head_nonce: int = _number()
    access_seq: int = _number()
    active_at: datetime = _moment()


class MembershipRow(Row, table=True):
    """One user's standing in one group. Removal and leaving delete the row; deletion of the group keeps it.

    `joined_seq` is the seq at which the user became a member: dense in time, so pages of members are keyed by it.
    `invitation_seq` is the row of the user's own log that says what they were shown when they were invited.
    `readable_from` leaves room for groups whose members read only what came after they joined; today it is 0.
    """

    __table_args__ = (
        Index("ix_memberships_user_id_status", "user_id", "status"),
        Index("ix_memberships_group_id_joined_seq", "group_id", "joined_seq"),
        CheckConstraint("(status = 'ACCEPTED') = (joined_seq IS NOT NULL)", name="joined_when_accepted"),
        CheckConstraint("(status = 'PENDING') = (invitation_seq IS NOT NULL)", name="invitation_while_pending"),
    )

    group_id: UUID = _id("groups.id", primary=True)
    user_id: UUID = _id("users.id", primary=True)
    status: str = _text(16)
    role: str = _text(16)
    added_by: UUID | None = _id("users.id", nullable=True)
    created_at: datetime = _moment()
    joined_seq: int | None = _number(nullable=True)
    readable_from: int = _number(default=0)
    invitation_seq: int | None = _number(nullable=True)


class MessageRow(Row, table=True):
    """A message as it is now. `seq` is its place in the log, `version` the seq of the last event that changed it.

    `edited_seq` is the event that gave it this content, null while that is the one that sent it. A deleted message
    keeps its row and loses its content; of `mentions` it keeps whom its events concern, and no place. `thread_root_id`
    is the message that it replies to or that what it replies to does; no foreign key, because no row is removed and
    every send would have it checked.
    """

    __table_args__ = (
        UniqueConstraint("group_id", "seq"),
        # What counting the unread reads: without it 10^5 of them take 57 ms on SQLite, with it 9.
        Index(
            "ix_messages_unread", "group_id", "seq", "sender_id", sqlite_where=NOT_DELETED, postgresql_where=NOT_DELETED
        ),
        # Replies in their order and the unread among them; a send that is no reply writes nothing here.
        Index(
            "ix_messages_thread",
            "thread_root_id",
            "seq",
            "sender_id",
            "deleted_at",
            sqlite_where=IS_REPLY,
            postgresql_where=IS_REPLY,
        ),
        # Pages without replies: 10^5 replies in a row take SQLite 29 ms to step over and PostgreSQL 13, without this
        # index. A send of what is no reply costs 1 µs more, on SQLite 4 if it is alone in its commit. Two halves of the
        # index of the unread would do for both and cost nothing, but SQLite does not choose them for pages.
        Index("ix_messages_no_reply", "group_id", "seq", sqlite_where=IS_NO_REPLY, postgresql_where=IS_NO_REPLY),
    )

    id: UUID = _id(primary=True)
    group_id: UUID = _id("groups.id")
    seq: int = _number()
    version: int = _number()
    sender_id: UUID = _id("users.id")
    content: str = _text()
    client_message_id: str | None = _text(64, nullable=True)
    created_at: datetime = _moment()
    updated_at: datetime = _moment()
    deleted_at: datetime | None = _moment(nullable=True)
    deleted_by: UUID | None = _id("users.id", nullable=True)
    edited_seq: int | None = _number(nullable=True)
    edited_at: datetime | None = _moment(nullable=True)
    thread_root_id: UUID | None = _id(nullable=True)
    mentions: tuple[Mentioned, ...] = Field(sa_type=Mentions, nullable=True)


class MentionRow(Row, table=True):
    """That the message at `seq` of a group mentions somebody other than its sender: what `MessageRow.mentions` says, by
    whom. `whom_id` is a user's id, or the group's own for everybody in it.

    `since` is the event that mentioned them first, for ever; `present` says whether the message does so now.
    """

    __table_args__ = (
        ForeignKeyConstraint(["group_id", "seq"], ["messages.group_id", "messages.seq"]),
        # The inbox: the newest of each group before a moment.
        Index(
            "ix_mentions_present", "whom_id", "group_id", "created_at", "seq", "sender_id",
            sqlite_where=PRESENT_IN_SQLITE, postgresql_where=PRESENT,
        ),
        {"sqlite_with_rowid": False},
    )  # fmt: skip

    whom_id: UUID = Field(sa_type=Uuid, primary_key=True)
    group_id: UUID = Field(sa_type=Uuid, primary_key=True)
    seq: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    sender_id: UUID = _id("users.id")
    created_at: datetime = _moment()
    since: int = _number()
    present: bool = Field()


class MessageRevisionRow(Row, table=True):
    """What a message said before it was edited. `version` is the event that had given it this content, at `created_at`.

    With the message its revisions are deleted.
    """

    message_id: UUID = _id("messages.id", primary=True)
    version: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    content: str = _text()
    created_at: datetime = _moment()


class ReactionRow(Row, table=True):
    """That a user reacted to a message, by the event `seq`. With the message its reactions are deleted."""

    __table_args__ = (
        Index("ix_reactions_message_id_emoji_seq", "message_id", "emoji", "seq"),
        {"sqlite_with_rowid": False},
    )

    message_id: UUID = _id("messages.id", primary=True)
    user_id: UUID = _id("users.id", primary=True)
    emoji: str = _text(32, primary_key=True)
    seq: int = _number()


class ThreadRow(Row, table=True):
    """The replies to a message: how many were not deleted, the newest of these, and when the last one of all came."""

    __table_args__: ClassVar[Any] = {"sqlite_with_rowid": False}

    root_id: UUID = _id("messages.id", primary=True)
    reply_count: int = _number()
    last_reply_id: UUID | None = _id("messages.id", nullable=True)
    active_at: datetime = _moment()


class ThreadFollowRow(Row, table=True):
    """That a user follows a thread, and how far they have read it. It outlives the membership, as a read position."""

    __table_args__: ClassVar[Any] = {"sqlite_with_rowid": False}

    user_id: UUID = _id("users.id", primary=True)
    root_id: UUID = _id("messages.id", primary=True)
    group_id: UUID = _id("groups.id")
    read_seq: int = _number()


class ReadPositionRow(Row, table=True):
    """How far a user said they have read a group; what was before they joined counts as read without a row.

    The row outlives the membership: whoever comes back is where they were, or where they joined, if that is further.
    """

    __table_args__: ClassVar[Any] = {"sqlite_with_rowid": False}

    user_id: UUID = _id("users.id", primary=True)
    group_id: UUID = _id("groups.id", primary=True)
    read_seq: int = _number()


class GroupEventRow(Row, table=True):
    """One fact of a group's log. It fixes existence, order, kind, actor and which message; it holds no content."""

    __table_args__: ClassVar[Any] = {"sqlite_with_rowid": False}

    group_id: UUID = _id("groups.id", primary=True)
    seq: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    nonce: int = _number()
    kind: str = _text(32)
    occurred_at: datetime = _moment()
    actor_id: UUID | None = _id("users.id", nullable=True)
    subject_id: UUID | None = _id("users.id", nullable=True)
    message_id: UUID | None = _id(nullable=True)
    data: dict[str, Any] = Field(sa_type=JSON)


class UserEventRow(Row, table=True):
    """One fact of a user's log: what a process cannot learn from a group it already follows."""

    __table_args__: ClassVar[Any] = {"sqlite_with_rowid": False}

    user_id: UUID = _id("users.id", primary=True)
    seq: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    kind: str = _text(32)
    occurred_at: datetime = _moment()
    actor_id: UUID | None = _id("users.id", nullable=True)
    group_id: UUID | None = _id("groups.id", nullable=True)
    data: dict[str, Any] = Field(sa_type=JSON)


class SentIdRow(Row, table=True):
    """Which message a sender's own id stands for, for ever. `digest` is SHA-256 of the first request with that id."""

    __table_args__: ClassVar[Any] = {"sqlite_with_rowid": False}

    sender_id: UUID = _id("users.id", primary=True)
    client_message_id: str = _text(64, primary_key=True)
    group_id: UUID = _id("groups.id")
    message_id: UUID = _id()
    digest: bytes = Field(sa_type=LargeBinary(32))


users: Table = metadata.tables["users"]
tokens: Table = metadata.tables["tokens"]
groups: Table = metadata.tables["groups"]
memberships: Table = metadata.tables["memberships"]
messages: Table = metadata.tables["messages"]
mentions: Table = metadata.tables["mentions"]
message_revisions: Table = metadata.tables["message_revisions"]
reactions: Table = metadata.tables["reactions"]
threads: Table = metadata.tables["threads"]
thread_follows: Table = metadata.tables["thread_follows"]
read_positions: Table = metadata.tables["read_positions"]
group_events: Table = metadata.tables["group_events"]
user_events: Table = metadata.tables["user_events"]
sent_ids: Table = metadata.tables["sent_ids"]
