"""Cursors: the one place where they are made and read. To a client they are opaque text.

A stream cursor names its row: group, seq, and the 32 random bits stored in that row. A cursor of another group, of the
future or from before a restored backup therefore matches nothing. Page cursors hold a row's key and its
group, or the id of the emoji and message, or of the root of a thread, that it is in the list of; where a list goes over
groups, a moment as well.
"""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from frozen import frozen

from .refusals import ErrorCode, Refusal

STREAM = struct.Struct(">c16sQI")
KEY = struct.Struct(">c16sQ")
ACTIVITY = struct.Struct(">cqq16s")
MENTION = struct.Struct(">cq16sQ")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LONGEST = 64
STREAM_MARK, MESSAGE_MARK, MEMBER_MARK, REACTION_MARK, REPLY_MARK = b"s", b"m", b"u", b"r", b"t"
ACTIVITY_MARK, THREAD_MARK, MENTION_MARK = b"a", b"h", b"@"
BIGGEST_SEQ = 2**63 - 1


@frozen
class Position:
    """A place in a group's log; seq 0 is before its first event."""

    group_id: UUID
    seq: int
    nonce: int

    def encode(self) -> str:
        return _text(STREAM.pack(STREAM_MARK, self.group_id.bytes, self.seq, self.nonce))


def invalid_position() -> Refusal:
    return Refusal(
        ErrorCode.CURSOR_INVALID,
        "This cursor is not a position in this group's log. Fetch the group anew and subscribe with its headCursor.",
    )


def position(text: str, group_id: UUID) -> Position:
    """The position that `text` claims, of this group.

    Whether that row exists is for the database to say. Raises CURSOR_INVALID.
    """
    try:
        mark, group, seq, nonce = STREAM.unpack(_raw(text))
    except (ValueError, struct.error):
        raise invalid_position() from None
    if mark != STREAM_MARK or group != group_id.bytes or seq > BIGGEST_SEQ:
        raise invalid_position()
    return Position(group_id, seq, nonce)


def of_message(group_id: UUID, seq: int) -> str:
    return _text(KEY.pack(MESSAGE_MARK, group_id.bytes, seq))


def of_member(group_id: UUID, joined_seq: int) -> str:
    return _text(KEY.pack(MEMBER_MARK, group_id.bytes, joined_seq))


def of_reaction(emoji_id: UUID, seq: int) -> str:
    return _text(KEY.pack(REACTION_MARK, emoji_id.bytes, seq))


def of_reply(root_id: UUID, seq: int) -> str:
    return _text(KEY.pack(REPLY_MARK, root_id.bytes, seq))


def message_key(argument: str, text: str | None, group_id: UUID) -> int | None:
    return _key(MESSAGE_MARK, argument, text, group_id)


def member_key(argument: str, text: str | None, group_id: UUID) -> int | None:
    return _key(MEMBER_MARK, argument, text, group_id)


def reaction_key(argument: str, text: str | None, emoji_id: UUID) -> int | None:
    return _key(REACTION_MARK, argument, text, emoji_id)


def reply_key(argument: str, text: str | None, root_id: UUID) -> int | None:
    return _key(REPLY_MARK, argument, text, root_id)


@frozen
class ActivityKey:
    """A place in a list by activity, of groups or of threads (`mark` says which), as that list was at `as_of`."""

    as_of: datetime
    active_at: datetime
    id: UUID

    def encode(self, mark: bytes = ACTIVITY_MARK) -> str:
        return _text(ACTIVITY.pack(mark, _microseconds(self.as_of), _microseconds(self.active_at), self.id.bytes))


def thread_key(argument: str, text: str | None) -> ActivityKey | None:
    return activity_key(argument, text, THREAD_MARK)


def activity_key(argument: str, text: str | None, mark: bytes = ACTIVITY_MARK) -> ActivityKey | None:
    if (found := _unpacked(ACTIVITY, mark, argument, text)) is None:
        return None
    as_of, active_at, raw = found
    return ActivityKey(_moment(argument, as_of), _moment(argument, active_at), UUID(bytes=raw))


def of_mention(created_at: datetime, group_id: UUID, seq: int) -> str:
    return _text(MENTION.pack(MENTION_MARK, _microseconds(created_at), group_id.bytes, seq))


def mention_key(argument: str, text: str | None) -> tuple[datetime, UUID, int] | None:
    """When a message was sent, its group and its seq: its place in the list of what mentions somebody."""
    if (found := _unpacked(MENTION, MENTION_MARK, argument, text)) is None:
        return None
    created_at, group, seq = found
    if seq > BIGGEST_SEQ:
        raise _bad_key(argument)
    return _moment(argument, created_at), UUID(bytes=group), seq


def _key(mark: bytes, argument: str, text: str | None, group_id: UUID) -> int | None:
    if (found := _unpacked(KEY, mark, argument, text)) is None:
        return None
    group, key = found
    if group != group_id.bytes or key > BIGGEST_SEQ:
        raise _bad_key(argument)
    return key


def _unpacked(shape: struct.Struct, mark: bytes, argument: str, text: str | None) -> list[Any] | None:
    """What stands behind the mark of a cursor; None where none is given. Raises CURSOR_INVALID for any other text."""
    if text is None:
        return None
    try:
        found, *rest = shape.unpack(_raw(text))
    except (ValueError, struct.error):
        raise _bad_key(argument) from None
    if found != mark:
        raise _bad_key(argument)
    return rest


def _bad_key(argument: str) -> Refusal:
    return Refusal(
        ErrorCode.CURSOR_INVALID,
        f"{argument} is not a cursor of this connection. Fetch its first page anew.",
        field=argument,
    )


def _moment(argument: str, microseconds: int) -> datetime:
    try:
        return EPOCH + microseconds * MICROSECOND
    except OverflowError:
        raise _bad_key(argument) from None


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(text: str) -> bytes:
    """Raises ValueError unless `text` is exactly what `_text` gives."""
    if len(text) > LONGEST:
        raise ValueError
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except NotBase64:
        raise ValueError from None
    if _text(raw) != text:
        raise ValueError
    return raw
