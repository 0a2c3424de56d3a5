"""How nested fields are read: batched, behind a door, remembered for one operation or one event. Knows no SQL."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import TypeVar
from uuid import UUID

from strawberry import dataloader

from db.records import Follow, Group, Membership, Message, MessageRevision, Reacted, Reaction, Thread, Unread, User
from resolvers import follows, groups, history, memberships, messages, reactions, revisions, threads, unread, users
from resolvers.access import Door, Viewer
from resolvers.history import Around
from resolvers.pages import Page, PageRequest
from resolvers.reactions import Emoji
from resolvers.refusals import Refusal, not_found
from resolvers.services import Services

T = TypeVar("T")
K = TypeVar("K")
Request = TypeVar("Request")
PageKey = tuple[UUID, PageRequest]
AroundKey = tuple[UUID, Around]
ReadPages = Callable[[Services, Door, Sequence[K], Request], Awaitable[Mapping[K, Page[T] | Refusal]]]
MembershipKey = tuple[UUID, UUID]


class DataLoader(dataloader.DataLoader[K, T]):
    """One that a field which is dropped, because another below the same null was refused, does not cancel for all."""

    def load(self, key: K) -> Awaitable[T]:
        return asyncio.shield(super().load(key))


class Loaders:
    """One set of loaders, each made when it is asked for (five of them take 12 µs); every group's data comes through
    `door`.
    """

    def __init__(self, services: Services, viewer: Viewer | None, door: Door) -> None:
        self.services = services
        self._viewer = viewer
        self.door = door
        self.people: dict[UUID, User] = {}  # who was read with what is shown
        self.groups: dict[UUID, Group] = {}  # and which groups

    @cached_property
    def user(self) -> DataLoader[UUID, User]:
        return DataLoader(self._users)

    @cached_property
    def group(self) -> DataLoader[UUID, Group]:
        return DataLoader(self._groups)

    @cached_property
    def membership(self) -> DataLoader[MembershipKey, Membership | None]:
        return DataLoader(self._memberships)

    @cached_property
    def messages(self) -> DataLoader[PageKey, Page[Message]]:
        return DataLoader(self._messages)

    @cached_property
    def without_replies(self) -> DataLoader[PageKey, Page[Message]]:
        return DataLoader(self._without_replies)

    @cached_property
    def around(self) -> DataLoader[AroundKey, Page[Message]]:
        return DataLoader(self._around)

    @cached_property
    def unread(self) -> DataLoader[UUID, Unread]:
        return DataLoader(self._unread)

    @cached_property
    def members(self) -> DataLoader[PageKey, Page[Membership]]:
        return DataLoader(self._members)

    @cached_property
    def newest(self) -> DataLoader[UUID, Message | None]:
        return DataLoader(self._newest)

    @cached_property
    def revisions(self) -> DataLoader[Message, Sequence[MessageRevision] | None]:
        return DataLoader(self._revisions)

    @cached_property
    def seen_by(self) -> DataLoader[Message, Sequence[UUID] | None]:
        return DataLoader(self._seen_by)

    @cached_property
    def reactions(self) -> DataLoader[Message, Sequence[Reaction]]:
        return DataLoader(self._reactions)

    @cached_property
    def reacted(self) -> DataLoader[tuple[Emoji, PageRequest], Page[Reacted]]:
        return DataLoader(self._reacted)

    @cached_property
    def thread(self) -> DataLoader[Message, Thread | None]:
        return DataLoader(self._threads)

    @cached_property
    def message(self) -> DataLoader[tuple[UUID, UUID], Message]:
        return DataLoader(self._message)

    @cached_property
    def follow(self) -> DataLoader[Message, Follow | None]:
        return DataLoader(self._follows)

    @cached_property
    def replies(self) -> DataLoader[tuple[Message, PageRequest], Page[Message]]:
        return DataLoader(self._replies)

    @property
    def viewer(self) -> Viewer:
        """Raises LookupError in an event that is shown to many: the field has to be named in VIEWER_FIELDS."""
        if self._viewer is None:
            raise LookupError("a field shows something of the viewer and does not say so")
        return self._viewer

    async def group_or_none(self, group_id: UUID) -> Group | None:
        """The group, None where the door refuses."""
        try:
            return await self.group.load(group_id)
        except Refusal:
            return None

    async def _users(self, ids: list[UUID]) -> Sequence[User | Refusal]:
        if missing := [user_id for user_id in ids if user_id not in self.people]:
            self.people.update(await users.get_many(self.services, missing))
        return [self.people.get(user_id) or not_found("user") for user_id in ids]

    async def _groups(self, ids: list[UUID]) -> Sequence[Group | Refusal]:
        missing = [group_id for group_id in ids if group_id not in self.groups]
        opened: Mapping[UUID, Group | Refusal] = {}
        if missing:
            opened = await groups.get_many(self.services, self.door, missing)
        return [self.groups.get(group_id) or opened[group_id] for group_id in ids]

    async def _memberships(self, keys: list[MembershipKey]) -> Sequence[Membership | None]:
        found = await memberships.get_many(self.services, self.door, keys)
        return [found.get(key) for key in keys]

    async def _messages(self, keys: list[PageKey]) -> Sequence[Page[Message] | Refusal]:
        return await self._pages(keys, messages.pages)

    async def _without_replies(self, keys: list[PageKey]) -> Sequence[Page[Message] | Refusal]:
        return await self._pages(keys, messages.pages_without_replies)

    async def _around(self, keys: list[AroundKey]) -> Sequence[Page[Message] | Refusal]:
        async def read(
            services: Services, door: Door, group_ids: Sequence[UUID], request: Around
        ) -> Mapping[UUID, Page[Message] | Refusal]:
            return await history.pages(services, self.viewer, door, group_ids, request)

        return await self._pages(keys, read)

    async def _newest(self, ids: list[UUID]) -> Sequence[Message | Refusal | None]:
        found = await messages.newest(self.services, self.door, ids)
        return [found[group_id] for group_id in ids]

    async def _unread(self, ids: list[UUID]) -> Sequence[Unread | Refusal]:
        found = await unread.of_groups(self.services, self.viewer, self.door, ids)
        return [found[group_id] for group_id in ids]

    async def _members(self, keys: list[PageKey]) -> Sequence[Page[Membership] | Refusal]:
        return await self._pages(keys, memberships.pages)

    async def _revisions(self, shown: list[Message]) -> Sequence[Sequence[MessageRevision] | None]:
        return await revisions.get_many(self.services, self.viewer, self.door, shown)

    async def _seen_by(self, shown: list[Message]) -> Sequence[Sequence[UUID] | None]:
        return await unread.seen_by(self.services, self.viewer, self.door, shown)

    async def _reactions(self, shown: list[Message]) -> Sequence[Sequence[Reaction] | Refusal]:
        return await reactions.get_many(self.services, self._viewer, self.door, shown)

    async def _reacted(self, keys: list[tuple[Emoji, PageRequest]]) -> Sequence[Page[Reacted] | Refusal]:
        return await self._pages(keys, reactions.pages)

    async def _threads(self, shown: list[Message]) -> Sequence[Thread | Refusal | None]:
        return await threads.get_many(self.services, self.door, shown)

    async def _message(self, keys: list[tuple[UUID, UUID]]) -> Sequence[Message | Refusal]:
        return await messages.behind(self.services, self.door, keys)

    async def _follows(self, roots: list[Message]) -> Sequence[Follow | Refusal | None]:
        return await follows.get_many(self.services, self.viewer, self.door, roots)

    async def _replies(self, keys: list[tuple[Message, PageRequest]]) -> Sequence[Page[Message] | Refusal]:
        return await self._pages(keys, threads.pages)

    async def _pages(
        self, keys: list[tuple[K, Request]], read: ReadPages[K, Request, T]
    ) -> Sequence[Page[T] | Refusal]:
        """One read for each different request, whatever the number of lists."""
        found: dict[tuple[K, Request], Page[T] | Refusal] = {}
        for request in dict.fromkeys(request for _, request in keys):
            of = [each for each, wanted in keys if wanted == request]
            pages = await read(self.services, self.door, of, request)
            found |= {(each, request): page for each, page in pages.items()}
        return [found[key] for key in keys]
