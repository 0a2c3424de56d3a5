"""How nested fields are read: batched, behind a door, remembered for one operation or one event. Knows no SQL."""

from collections.abc import Sequence
from uuid import UUID

from strawberry.dataloader import DataLoader

from db.records import Group, Membership, Message, User
from resolvers import groups, memberships, messages, users
from resolvers.access import Door, Viewer
from resolvers.pages import Page, PageRequest
from resolvers.refusals import Refusal, not_found
from resolvers.services import Services

MessagesKey = tuple[UUID, PageRequest]
MembershipKey = tuple[UUID, UUID]


class Loaders:
    """One set of loaders; every group's data comes through `door`."""

    def __init__(self, services: Services, viewer: Viewer, door: Door) -> None:
        self.services = services
        self.viewer = viewer
        self.door = door
        self.user: DataLoader[UUID, User] = DataLoader(self._users)
        self.group: DataLoader[UUID, Group] = DataLoader(self._groups)
        self.membership: DataLoader[MembershipKey, Membership | None] = DataLoader(self._memberships)
        self.messages: DataLoader[MessagesKey, Page[Message]] = DataLoader(self._messages)

    async def group_or_none(self, group_id: UUID) -> Group | None:
        """The group, None where the door refuses."""
        try:
            return await self.group.load(group_id)
        except Refusal:
            return None

    async def _users(self, ids: list[UUID]) -> Sequence[User | Refusal]:
        found = await users.get_many(self.services, ids)
        return [found.get(user_id) or not_found("user") for user_id in ids]

    async def _groups(self, ids: list[UUID]) -> Sequence[Group | Refusal]:
        opened = await groups.get_many(self.services, self.door, ids)
        return [opened[group_id] for group_id in ids]

    async def _memberships(self, keys: list[MembershipKey]) -> Sequence[Membership | None]:
        found = await memberships.get_many(self.services, keys)
        return [found.get(key) for key in keys]

    async def _messages(self, keys: list[MessagesKey]) -> Sequence[Page[Message] | Refusal]:
        found: dict[MessagesKey, Page[Message] | Refusal] = {}
        for request in dict.fromkeys(request for _, request in keys):
            ids = list(dict.fromkeys(group_id for group_id, wanted in keys if wanted == request))
            pages = await messages.pages(self.services, self.door, ids, request)
            found |= {(group_id, request): page for group_id, page in pages.items()}
        return [found[key] for key in keys]
