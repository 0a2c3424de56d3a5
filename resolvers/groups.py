"""Groups: creating, changing and deleting them, and the list of one's own. Knows nothing of SQL or GraphQL."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from uuid_utils.compat import uuid7

from db import events, groups, memberships
from db.engine import Transaction
from db.events import GroupLog, UserLogs
from db.records import Group, GroupEventKind, MemberRole, Membership, MembershipStatus, UserEvent, UserEventKind
from settings import Settings

from . import text
from .access import Door, Operation, Viewer, locked, readable
from .cursors import ACTIVITY_MARK, ActivityKey
from .pages import Page, by_activity
from .refusals import Refusal, conflict, not_found
from .services import Services

MAX_INITIAL_MEMBERS = 100


async def create(
    services: Services, viewer: Viewer, *, name: str, description: str, member_ids: Sequence[UUID]
) -> Group:
    """A group whose creator is its admin and whose initial members are in it at once, in one transaction.

    Duplicates and the creator's own id are ignored. Raises BAD_USER_INPUT, NOT_FOUND for a user that does not exist,
    CONFLICT above a bound.
    """
    name, description = text.group_name(name), text.description(description)
    added = [user_id for user_id in dict.fromkeys(member_ids) if user_id != viewer.id]
    if len(added) > MAX_INITIAL_MEMBERS:
        raise conflict(f"At most {MAX_INITIAL_MEMBERS} memberIds can be given; add the others with addMember.")
    check_room_in_group(services.settings, len(added))

    async def work(transaction: Transaction) -> Group:
        logs = await lock_people(transaction, [viewer.id, *added])
        for user_id in (viewer.id, *added):
            await check_room_for_group(transaction, services.settings, user_id)
        group = await groups.create(
            transaction, group_id=uuid7(), name=name, description=description, created_by=viewer.id
        )
        log = GroupLog(transaction, group)
        log.append(GroupEventKind.GROUP_CREATED, viewer.id, subject_id=viewer.id)
        members = [join(log, viewer.id, role=MemberRole.ADMIN, added_by=None)]
        for user_id in added:
            log.append(
                GroupEventKind.MEMBER_ADDED, viewer.id, subject_id=user_id, data={"role": MemberRole.MEMBER.value}
            )
            members.append(join(log, user_id, role=MemberRole.MEMBER, added_by=viewer.id))
        await memberships.put(transaction, members)
        tell_added(logs, log, viewer.id, members)
        group = await log.write()
        await logs.write()
        return group

    return await services.write(work)


async def lock_people(transaction: Transaction, user_ids: Sequence[UUID]) -> UserLogs:
    """The logs of these users, locked. Raises NOT_FOUND if one of them does not exist or is disabled."""
    logs = await events.lock_users(transaction, user_ids)
    if any(user_id not in logs.heads for user_id in user_ids):
        raise not_found("user")
    return logs


def check_room_in_group(settings: Settings, people: int) -> None:
    """Raises CONFLICT if one more than so many people are more than a group can have."""
    if people >= settings.max_members_per_group:
        raise conflict(f"A group can have at most {settings.max_members_per_group:,} members and open invitations.")


async def check_room_for_group(transaction: Transaction, settings: Settings, user_id: UUID) -> None:
    """Raises CONFLICT if the user, whose log is locked, is in as many groups as one can be."""
    if await groups.count_of(transaction, user_id) >= settings.max_groups_per_user:
        raise conflict(f"A user can be a member of at most {settings.max_groups_per_user:,} groups.")


def join(
    log: GroupLog, user_id: UUID, *, role: MemberRole, added_by: UUID | None, created_at: datetime | None = None
) -> Membership:
    """The membership that the log's last event made, counted."""
    log.change(member_count=log.group.member_count + 1)
    return Membership(
        group_id=log.group.id,
        user_id=user_id,
        status=MembershipStatus.ACCEPTED,
        role=role,
        added_by=added_by,
        created_at=created_at or log.now,
        joined_seq=log.group.head_seq,
    )


def tell_added(logs: UserLogs, log: GroupLog, actor_id: UUID, members: Sequence[Membership]) -> None:
    """Tell each new member, in their own log, that they are in, and from which seq on the group's log is theirs."""
    for member in members:
        created = log.group.created_by == member.user_id and member.added_by is None and member.joined_seq == 1
        logs.append(
            member.user_id,
            UserEventKind.GROUP_CREATED if created else UserEventKind.ADDED_TO_GROUP,
            actor_id=actor_id,
            group_id=log.group.id,
            data={
                "after": log.group.head_seq,
                "role": member.role.value,
                "added_by": member.added_by and member.added_by.hex,
            },
        )


async def update(services: Services, viewer: Viewer, group_id: UUID, *, given: Mapping[str, str | None]) -> Group:
    """Change the name or the description, whichever is given. What stays the same makes no event."""
    checks = {"name": text.group_name, "description": text.description}
    wanted = {field: checks[field](value) for field, value in given.items()}

    async def work(transaction: Transaction) -> Group:
        log, _ = await locked(transaction, viewer.id, group_id, Operation.UPDATE_GROUP)
        changed = {field: value for field, value in wanted.items() if value != getattr(log.group, field)}
        if not changed:
            return log.group
        event = log.append(GroupEventKind.DETAILS_CHANGED, viewer.id, data={"changed": sorted(changed)})
        log.change(updated_at=event.occurred_at, **changed)
        return await log.write()

    return await services.write(work)


async def delete(services: Services, viewer: Viewer, group_id: UUID) -> None:
    """Delete the group: members learn it from its log, invited people from their own. Nothing of the log is lost."""

    async def work(transaction: Transaction) -> None:
        log, _ = await locked(transaction, viewer.id, group_id, Operation.DELETE_GROUP)
        event = log.append(GroupEventKind.GROUP_DELETED, viewer.id)
        log.change(deleted_at=event.occurred_at, updated_at=event.occurred_at)
        await end_invitations(transaction, log, viewer.id, "GROUP_DELETED")
        await log.write()

    await services.write(work)


async def end_invitations(transaction: Transaction, log: GroupLog, actor_id: UUID, reason: str) -> None:
    """Take back every open invitation to the locked group and tell the invited people."""
    invited = sorted(membership.user_id for membership in await memberships.pending_in(transaction, log.group.id))
    if not invited:
        return
    logs = await events.lock_users(transaction, invited)
    for user_id in (user_id for user_id in invited if user_id in logs.heads):
        logs.append(
            user_id, UserEventKind.INVITATION_ENDED, actor_id=actor_id, group_id=log.group.id, data={"reason": reason}
        )
    await logs.write()
    await memberships.remove(transaction, log.group.id, invited)


async def get(services: Services, viewer: Viewer, group_id: UUID) -> Group:
    async with services.read() as transaction:
        return (await readable(transaction, viewer.id, group_id)).group


async def get_many(services: Services, door: Door, group_ids: Collection[UUID]) -> Mapping[UUID, Group | Refusal]:
    async with services.read() as transaction:
        return await door.open(transaction, group_ids)


async def page(
    services: Services, viewer: Viewer, *, first: int | None, after: ActivityKey | None
) -> tuple[Page[Group], Sequence[str]]:
    """The viewer's groups, most recently active first, in the order of the first page; with the cursor of each."""
    async with services.read() as transaction:
        return await by_activity(partial(groups.page_of, transaction, viewer.id), ACTIVITY_MARK, first, after)


async def invitations(services: Services, viewer: Viewer) -> Sequence[UserEvent]:
    """The viewer's open invitations, as the events that made them, oldest first."""
    async with services.read() as transaction:
        return await memberships.invitations_of(transaction, viewer.id)
