"""Objects with a global id, and the one that needs no group: the user. Knows no SQL."""

from typing import Any
from uuid import UUID

import strawberry

from db import records

from . import ids
from .context import Info


@strawberry.interface(description="An object with a global id: fetch it anew with `node(id:)`.")
class Node:
    @strawberry.field(description="The global id. Opaque: keep it, compare it, hand it back.")
    def id(self) -> strawberry.ID:
        raise NotImplementedError


@strawberry.type(description="A person.")
class User(Node):
    record: strawberry.Private[records.User]

    @strawberry.field(description="The global id of the user.")
    def id(self) -> strawberry.ID:
        return ids.encode(ids.USER, self.record.id)

    @strawberry.field(description="The name to log in with and to be found by: 3 to 32 of a-z, 0-9, `_`, `.`, `-`.")
    def username(self) -> str:
        return self.record.username

    @strawberry.field(description="The first name, as the user wrote it.")
    def first_name(self) -> str:
        return self.record.first_name

    @strawberry.field(description="The last name, as the user wrote it.")
    def last_name(self) -> str:
        return self.record.last_name

    @strawberry.field(description="What the user likes to be called, if they said.")
    def nickname(self) -> str | None:
        return self.record.nickname

    @strawberry.field(description="The address of a picture: an http(s) URL or a path of this site.")
    def avatar_url(self) -> str | None:
        return self.record.avatar_url

    @strawberry.field(description="The name to show: the nickname, else first and last name, else the username.")
    def display_name(self) -> str:
        full_name = f"{self.record.first_name} {self.record.last_name}".strip()
        return self.record.nickname or full_name or self.record.username

    @strawberry.field(
        description="Whether others see in `Message.seenBy` how far you have read, and you see it of them. Null for "
        "everybody but you: it is nobody else's to know."
    )
    async def shares_read_positions(self, info: Info) -> bool | None:
        return self.record.shares_read_positions if await info.context.is_viewer(self.record.id) else None


def user_at_once(info: Info, user_id: UUID) -> Any:
    """The user where it was read with what is shown, else something to wait for: a task for each sender of a page, or
    for the one of an event that is shown to many, costs more than the rest of the message.
    """
    known = info.context.people.get(user_id)
    return user(info, user_id) if known is None else User(record=known)


async def user(info: Info, user_id: UUID) -> User:
    return User(record=await (await info.context.loaders()).user.load(user_id))


async def user_or_none(info: Info, user_id: UUID | None) -> User | None:
    return await user(info, user_id) if user_id is not None else None
