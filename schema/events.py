"""The events of subscriptions and of polling. Knows no SQL.

An event fixes its existence, order, kind, actor and which objects it is about; the objects are read when it is shown.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry

from db import records
from db.records import GroupEventKind, UserEventKind
from resolvers.follows import root_of
from resolvers.news import GroupNews, News, OwnNews, SnapshotNews
from resolvers.unread import moved_to

from . import ids
from .context import Info
from .enums import GroupUpdateAction, InvitationEnd
from .loaders import Loaders
from .nodes import User, user_or_none
from .types import Group, Invitation, Membership, Message, invitation, message_of, remember


@strawberry.interface(
    description="Something that happened to a group of yours, or to your place in one. More types will come: keep a "
    "default branch that "
    "takes `group` as it is, or drops it where it is null."
)
class GroupEvent:
    occurred_at: datetime = strawberry.field(description="When it happened.")
    actor_id: strawberry.Private[UUID | None]
    about: strawberry.Private[UUID | None]
    record: strawberry.Private[records.Group | None]

    @strawberry.field(description="Who did it.")
    async def actor(self, info: Info) -> User | None:
        return await user_or_none(info, self.actor_id)

    @strawberry.field(description="Which group it is about; null in a snapshot.")
    def group_id(self) -> strawberry.ID | None:
        return ids.encode(ids.GROUP, self.about) if self.about else None

    @strawberry.field(description="The group as it is now; null if you are not a member of it any more.")
    def group(self) -> Group | None:
        return Group(record=self.record) if self.record else None


def _group_id(self: GroupEvent) -> strawberry.ID:
    assert self.about is not None
    return ids.encode(ids.GROUP, self.about)


@strawberry.type(
    description="The whole list as of the moment that the stream is live: the first event with `snapshot: true`, and "
    "again in place of events that a slow connection has not read. Replace what you have with it."
)
class GroupsSnapshotEvent(GroupEvent):
    news: strawberry.Private[SnapshotNews]

    @strawberry.field(
        description="Your groups, most recently active first. Replace your list with these; subscribe to each with its "
        "`headCursor`."
    )
    def groups(self) -> list[Group]:
        return [Group(record=group) for group in self.news.groups]

    @strawberry.field(description="Your open invitations, oldest first. Replace your list with these.")
    def invitations(self) -> list[Invitation]:
        return [invitation(event) for event in self.news.invitations]


@strawberry.type(description="You created a group, on this device or another. Add it.")
class GroupCreatedEvent(GroupEvent):
    group_id: strawberry.ID = strawberry.field(resolver=_group_id, description="Which group it is about.")


@strawberry.type(
    description="You are a member of a group now: added by an admin, or by accepting an invitation. Add it."
)
class AddedToGroupEvent(GroupEvent):
    group_id: strawberry.ID = strawberry.field(resolver=_group_id, description="Which group it is about.")
    entered: strawberry.Private[records.Membership]

    @strawberry.field(description="Your membership, as this event made it or newer.")
    async def membership(self, info: Info) -> Membership:
        key = (self.entered.group_id, self.entered.user_id)
        return Membership(record=await (await info.context.loaders()).membership.load(key) or self.entered)


@strawberry.type(description="You are invited to a group. Add the invitation.")
class InvitedToGroupEvent(GroupEvent):
    group_id: strawberry.ID = strawberry.field(resolver=_group_id, description="Which group it is about.")
    invitation: Invitation = strawberry.field(
        description="What you see of the group before you answer, as it was when you were invited."
    )


@strawberry.type(description="An invitation of yours is no longer open. Drop it.")
class InvitationEndedEvent(GroupEvent):
    group_id: strawberry.ID = strawberry.field(resolver=_group_id, description="Which group it is about.")
    reason: InvitationEnd = strawberry.field(description="Why it is no longer open.")


@strawberry.type(
    description="You have read a group up to another place, on this device or another. Ask `group` for what is unread "
    "now."
)
class GroupReadEvent(GroupEvent):
    group_id: strawberry.ID = strawberry.field(resolver=_group_id, description="Which group it is about.")
    read_seq: int = strawberry.field(
        description="How far you have read since this event. `group` is as new or newer: prefer its `readSeq`."
    )


@strawberry.type(
    description="You follow a thread, or do not any more, or have read it further, on this device or another. Take "
    "`root` as it is."
)
class ThreadChangedEvent(GroupEvent):
    group_id: strawberry.ID = strawberry.field(resolver=_group_id, description="Which group it is about.")
    thread_root_id: strawberry.Private[UUID]

    @strawberry.field(description="The root of the thread.")
    def root_id(self) -> strawberry.ID:
        return ids.encode(ids.MESSAGE, self.thread_root_id)

    @strawberry.field(description="The root as it is now; null if you are not a member of the group any more.")
    async def root(self, info: Info) -> Message | None:
        return await message_of(info, self.record.id, self.thread_root_id) if self.record else None


@strawberry.type(description="Something changed in a group of yours. Take `group` as it is.")
class GroupUpdatedEvent(GroupEvent):
    group_id: strawberry.ID = strawberry.field(resolver=_group_id, description="Which group it is about.")
    action: GroupUpdateAction = strawberry.field(
        description="What changed. More actions may come: keep a default branch."
    )
    subject_id: strawberry.Private[UUID | None]

    @strawberry.field(description="The member that it is about; null for details.")
    async def user(self, info: Info) -> User | None:
        return await user_or_none(info, self.subject_id)


@strawberry.type(
    description="Messages were sent in a group of yours: with `activity: true`, at most once a second for each "
    "group, and the last one always. Ask for `unreadCount` when you need it."
)
class GroupActivityEvent(GroupEvent):
    group_id: strawberry.ID = strawberry.field(resolver=_group_id, description="Which group it is about.")
    last_seq: int = strawberry.field(description="The seq of the newest message; `actor` sent it.")


@strawberry.type(
    description="You are no longer a member of a group: removed, or left on this device or another. Drop it."
)
class RemovedFromGroupEvent(GroupEvent):
    group_id: strawberry.ID = strawberry.field(resolver=_group_id, description="Which group it is about.")


@strawberry.type(description="A group of yours was deleted. Drop it.")
class GroupDeletedEvent(GroupEvent):
    group_id: strawberry.ID = strawberry.field(resolver=_group_id, description="Which group it is about.")


GROUP_EVENT_TYPES: list[type[GroupEvent]] = [
    GroupsSnapshotEvent,
    GroupCreatedEvent,
    AddedToGroupEvent,
    InvitedToGroupEvent,
    InvitationEndedEvent,
    GroupReadEvent,
    ThreadChangedEvent,
    GroupUpdatedEvent,
    GroupActivityEvent,
    RemovedFromGroupEvent,
    GroupDeletedEvent,
]


def group_event(loaders: Loaders, news: News) -> GroupEvent:
    """The event that shows a piece of news."""
    if isinstance(news, SnapshotNews):
        for group in news.groups:
            loaders.groups[group.id] = group
        return GroupsSnapshotEvent(occurred_at=news.occurred_at, actor_id=None, about=None, record=None, news=news)
    if isinstance(news, GroupNews):
        remember(loaders, news.fact)
        return _of_group_log(news)
    return _of_user_log(news)


def _of_group_log(news: GroupNews) -> GroupEvent:
    event = news.fact.event
    common: dict[str, Any] = {
        "occurred_at": event.occurred_at, "actor_id": event.actor_id, "about": event.group_id, "record": news.group,
    }  # fmt: skip
    if event.kind is GroupEventKind.GROUP_DELETED:
        return GroupDeletedEvent(**common)
    if news.ends:
        return RemovedFromGroupEvent(**common)
    if event.kind is GroupEventKind.MESSAGE_SENT:
        return GroupActivityEvent(**common, last_seq=event.seq)
    return GroupUpdatedEvent(**common, action=GroupUpdateAction[event.kind.value], subject_id=event.subject_id)


def _of_user_log(news: OwnNews) -> GroupEvent:
    event = news.event
    assert event.group_id is not None
    common: dict[str, Any] = {
        "occurred_at": event.occurred_at, "actor_id": event.actor_id, "about": event.group_id, "record": news.group,
    }  # fmt: skip
    if event.kind is UserEventKind.GROUP_CREATED:
        return GroupCreatedEvent(**common)
    if event.kind is UserEventKind.ADDED_TO_GROUP:
        return AddedToGroupEvent(**common, entered=_entered(event))
    if event.kind is UserEventKind.INVITED:
        return InvitedToGroupEvent(**common, invitation=invitation(event))
    if event.kind is UserEventKind.READ_MOVED:
        return GroupReadEvent(**common, read_seq=moved_to(event))
    if event.kind is UserEventKind.THREAD_CHANGED:
        return ThreadChangedEvent(**common, thread_root_id=root_of(event))
    return InvitationEndedEvent(**common, reason=InvitationEnd[event.data["reason"]])


def _entered(event: records.UserEvent) -> records.Membership:
    """The membership as the event made it, for an event that is shown after the membership has ended."""
    assert event.group_id is not None
    added_by = event.data["added_by"]
    return records.Membership(
        group_id=event.group_id,
        user_id=event.user_id,
        status=records.MembershipStatus.ACCEPTED,
        role=records.MemberRole(event.data["role"]),
        added_by=UUID(hex=added_by) if added_by else None,
        created_at=event.occurred_at,
        joined_seq=event.data["after"],
    )
