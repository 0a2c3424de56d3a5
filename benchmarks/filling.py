"""Databases with much in them, written row by row past the use cases, which would take hours for what is measured here.

The rows are those that the use cases would have left, without the users' own logs: nothing measured here reads them.
"""

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Table, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from uuid_utils.compat import uuid7

from db import tables
from db.migrate import ensure
from resolvers import cursors
from schema import ids
from settings import Settings

ROWS_AT_ONCE = 5_000
CONTENT = "The quick brown fox jumps over the lazy dog, twice over the log."
BEGAN = datetime.now(UTC) - timedelta(days=2)
NONCE_FACTOR, NONCE_BITS = 2_654_435_761, 32  # any number will do, as long as we can say it again


def moment(seq: int) -> datetime:
    return BEGAN + timedelta(milliseconds=seq)


def nonce(seq: int) -> int:
    return seq * NONCE_FACTOR % 2**NONCE_BITS


@dataclass(frozen=True, slots=True)
class Group:
    """A group as it was filled: its first users, the creator first, and then so many messages."""

    uuid: UUID
    members: Sequence[UUID]
    messages: int

    @property
    def id(self) -> str:
        return ids.encode(ids.GROUP, self.uuid)

    @property
    def head(self) -> int:
        return len(self.members) + self.messages

    def position(self, seq: int) -> str:
        """The cursor of an event, 0 for before the first."""
        return cursors.Position(self.uuid, seq, nonce(seq)).encode()

    def page(self, seq: int) -> str:
        """The cursor of a message in a page."""
        return cursors.of_message(self.uuid, seq)


@dataclass(frozen=True, slots=True)
class World:
    tokens: Sequence[str]
    groups: Sequence[Group]


async def fill(url: str, *, reach: Sequence[int], messages: Sequence[int]) -> World:
    """A group with so many messages for each of `messages`; user number n is a member of the first `reach[n]` groups.

    The first user is the admin of all. Only for an empty database.
    """
    url = Settings(database_url=url).database_url
    await ensure(url, upgrade=True)
    users, tokens = [uuid7() for _ in reach], [secrets.token_urlsafe(32) for _ in reach]
    groups = [
        Group(uuid7(), [user for user, upto in zip(users, reach, strict=True) if number < upto], count)
        for number, count in enumerate(messages)
    ]
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            await connection.execute(text("PRAGMA synchronous=OFF"))
        await _write(connection, tables.users, map(_user, users, tokens))
        await _write(connection, tables.tokens, map(_token, users, tokens))
        await _write(connection, tables.groups, map(_group, groups))
        await _write(connection, tables.memberships, (row for each in groups for row in _memberships(each)))
        await _write(connection, tables.messages, (row for each in groups for row in _messages(each)))
        await _write(connection, tables.group_events, (row for each in groups for row in _events(each)))
        await connection.commit()
        if connection.dialect.name != "sqlite":
            await connection.execute(text("ANALYZE"))
            await connection.commit()
    await engine.dispose()
    return World(tokens, groups)


async def _write(connection: AsyncConnection, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    while chunk := list(islice(rows, ROWS_AT_ONCE)):
        await connection.execute(insert(table), chunk)


def _user(user: UUID, token: str) -> dict[str, Any]:
    name = f"u{hashlib.sha256(token.encode()).hexdigest()[:16]}"
    return {"id": user, "username": name, "first_name": "Ada", "last_name": "Bench", "created_at": BEGAN, "head_seq": 0}


def _token(user: UUID, token: str) -> dict[str, Any]:
    digest, end = hashlib.sha256(token.encode()).digest(), BEGAN + timedelta(days=30)
    return {"digest": digest, "id": uuid7(), "user_id": user, "created_at": BEGAN, "expires_at": end}


def _group(group: Group) -> dict[str, Any]:
    return {
        "id": group.uuid,
        "name": "Benchmark",
        "description": "",
        "created_by": group.members[0],
        "created_at": BEGAN,
        "updated_at": BEGAN,
        "member_count": len(group.members),
        "head_seq": group.head,
        "head_nonce": nonce(group.head),
        "access_seq": len(group.members),
        "active_at": moment(group.head),
    }


def _memberships(group: Group) -> Iterator[dict[str, Any]]:
    for seq, user in enumerate(group.members, 1):
        yield {
            "group_id": group.uuid,
            "user_id": user,
            "status": "ACCEPTED",
            "role": "ADMIN" if seq == 1 else "MEMBER",
            "added_by": None if seq == 1 else group.members[0],
            "created_at": BEGAN,
            "joined_seq": seq,
            "readable_from": 0,
        }


def _message_id(group: Group, seq: int) -> UUID:
    """Ordered as the ids of messages are that were sent one after the other."""
    return UUID(int=(group.uuid.int & ~0xFFFFFFFF) + seq)


def _messages(group: Group) -> Iterator[dict[str, Any]]:
    for seq in range(len(group.members) + 1, group.head + 1):
        yield {
            "id": _message_id(group, seq),
            "group_id": group.uuid,
            "seq": seq,
            "version": seq,
            "sender_id": group.members[0],
            "content": CONTENT,
            "created_at": moment(seq),
            "updated_at": moment(seq),
        }


def _events(group: Group) -> Iterator[dict[str, Any]]:
    for seq in range(1, group.head + 1):
        member = group.members[seq - 1] if seq <= len(group.members) else None
        kind = "GROUP_CREATED" if seq == 1 else "MEMBER_ADDED" if member else "MESSAGE_SENT"
        yield {
            "group_id": group.uuid,
            "seq": seq,
            "nonce": nonce(seq),
            "kind": kind,
            "occurred_at": moment(seq),
            "actor_id": group.members[0],
            "subject_id": member,
            "message_id": None if member else _message_id(group, seq),
            "data": {"role": "MEMBER"} if kind == "MEMBER_ADDED" else {},
        }
