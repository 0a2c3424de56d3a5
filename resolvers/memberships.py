"""Members: adding, inviting, answering, removing, leaving, and roles. Knows nothing of SQL or GraphQL."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from db import events, memberships
from db.engine import Transaction
from db.events import GroupLog, UserLogs
from db.records import Group, GroupEventKind, MemberRole, Membership, MembershipStatus, UserEventKind
from settings import Settings

from .access import Door, Operation, Viewer, forbidden, locked
from .groups import check_room_for_group, check_room_in_group, end_invitations, join, lock_people, tell_added
from .pages import Page, PageRequest, behind_door
from .refusals import Refusal, conflict, not_found
from .services import Services

PENDING, ACCEPTED = MembershipStatus.PENDING, MembershipStatus.ACCEPTED
RANK = {MemberRole.MEMBER: 0, MemberRole.MODERATOR: 1, MemberRole.ADMIN: 2}


async def add(services: Services, viewer: Viewer, group_id: UUID, user_id: UUID, role: MemberRole) -> Membership:
    """Make a user a member at once, whatever they were.

    Raises NOT_FOUND (user), CONFLICT for a member or above a bound.
    """

    async def work(transaction: Transaction) -> Membership:
        log, _ = await locked(transaction, viewer.id, group_id, Operation.ADD_MEMBER)
        logs = await lock_people(transaction, [user_id])
        before = await memberships.get(transaction, group_id, user_id)
        if before and before.status is ACCEPTED:
            raise conflict("This user is a member already. Use changeMemberRole to change the role.")
        await _check_room(transaction, services.settings, log.group, user_id)
        log.append(GroupEventKind.MEMBER_ADDED, viewer.id, subject_id=user_id, data={"role": role.value})
        return await _enter(transaction, log, logs, before, viewer.id, user_id, role=role, added_by=viewer.id)

    return await services.write(work)


async def answer(services: Services, viewer: Viewer, group_id: UUID, *, accept: bool) -> Membership:
    """Accept or decline the viewer's open invitation."""

    async def work(transaction: Transaction) -> Membership:
        log, before = await locked(transaction, viewer.id, group_id, Operation.ANSWER_INVITATION)
        logs = await lock_people(transaction, [viewer.id])
        if not accept:
            return await _decline(transaction, log, logs, before)
        await _check_room(transaction, services.settings, log.group, viewer.id)
        log.append(GroupEventKind.MEMBER_JOINED, viewer.id, subject_id=viewer.id, data={"role": before.role.value})
        return await _enter(
            transaction, log, logs, before, viewer.id, viewer.id, role=before.role, added_by=before.added_by
        )

    return await services.write(work)


async def _check_room(transaction: Transaction, settings: Settings, group: Group, user_id: UUID) -> None:
    check_room_in_group(settings, group.member_count)
    await check_room_for_group(transaction, settings, user_id)


async def _enter(
    transaction: Transaction,
    log: GroupLog,
    logs: UserLogs,
    before: Membership | None,
    actor_id: UUID,
    user_id: UUID,
    *,
    role: MemberRole,
    added_by: UUID | None,
) -> Membership:
    """Write the membership that the log's last event made; an open invitation ends with it."""
    membership = join(log, user_id, role=role, added_by=added_by, created_at=before.created_at if before else None)
    if before is None:
        await memberships.put(transaction, [membership])
    else:
        await memberships.change(transaction, membership)
    if before and before.status is PENDING:
        _tell_ended(logs, log, user_id, actor_id, "ACCEPTED")
    tell_added(logs, log, actor_id, [membership])
    await log.write()
    await logs.write()
    return membership


async def _decline(transaction: Transaction, log: GroupLog, logs: UserLogs, before: Membership) -> Membership:
    membership = replace(before, status=MembershipStatus.REJECTED, invitation_seq=None)
    log.append(GroupEventKind.INVITATION_DECLINED, before.user_id, subject_id=before.user_id)
    await memberships.change(transaction, membership)
    _tell_ended(logs, log, before.user_id, before.user_id, "DECLINED")
    await log.write()
    await logs.write()
    return membership


def _tell_ended(logs: UserLogs, log: GroupLog, user_id: UUID, actor_id: UUID, reason: str) -> None:
    logs.append(
        user_id, UserEventKind.INVITATION_ENDED, actor_id=actor_id, group_id=log.group.id, data={"reason": reason}
    )


async def invite(services: Services, viewer: Viewer, group_id: UUID, user_id: UUID) -> Membership:
    """Invite a user; of somebody invited already the same membership, without an event. Raises NOT_FOUND (user),
    CONFLICT.
    """

    async def work(transaction: Transaction) -> Membership:
        log, _ = await locked(transaction, viewer.id, group_id, Operation.INVITE_MEMBER)
        logs = await lock_people(transaction, [user_id])
        before = await memberships.get(transaction, group_id, user_id)
        if before and before.status is PENDING:
            return before
        if before and before.status is ACCEPTED:
            raise conflict("This user is a member already.")
        await _check_room_for_invitation(transaction, services.settings, log.group, user_id)
        log.append(GroupEventKind.MEMBER_INVITED, viewer.id, subject_id=user_id)
        shown = {"name": log.group.name, "description": log.group.description}
        told = logs.append(user_id, UserEventKind.INVITED, actor_id=viewer.id, group_id=group_id, data=shown)
        membership = Membership(
            group_id, user_id, PENDING, MemberRole.MEMBER, viewer.id, told.occurred_at, invitation_seq=told.seq
        )
        await (memberships.change(transaction, membership) if before else memberships.put(transaction, [membership]))
        await log.write()
        await logs.write()
        return membership

    return await services.write(work)


async def _check_room_for_invitation(transaction: Transaction, settings: Settings, group: Group, user_id: UUID) -> None:
    if await memberships.count_invitations_of(transaction, user_id) >= settings.max_invitations_per_user:
        raise conflict(f"A user can have at most {settings.max_invitations_per_user} open invitations.")
    check_room_in_group(settings, group.member_count + await memberships.count_pending_in(transaction, group.id))


async def remove(services: Services, viewer: Viewer, group_id: UUID, user_id: UUID) -> Group | None:
    """Remove a member, or take an invitation back. The group as it is now, None where the viewer removed themselves.

    A moderator removes people with the role MEMBER, an admin anybody. Raises NOT_FOUND for somebody who is neither
    member nor invited.
    """

    async def work(transaction: Transaction) -> Group | None:
        log, own = await locked(transaction, viewer.id, group_id, Operation.REMOVE_MEMBER)
        subject = await memberships.get(transaction, group_id, user_id)
        if subject is None or subject.status not in (PENDING, ACCEPTED):
            raise not_found("member of this group")
        if own.role is not MemberRole.ADMIN and subject.role is not MemberRole.MEMBER and user_id != viewer.id:
            raise forbidden(Operation.REMOVE_MEMBER, own.status)
        if subject.status is PENDING:
            return await _take_back(transaction, log, viewer.id, subject)
        group = await _go(transaction, log, viewer.id, subject, GroupEventKind.MEMBER_REMOVED)
        return group if user_id != viewer.id else None

    return await services.write(work)


async def leave(services: Services, viewer: Viewer, group_id: UUID) -> None:
    """Leave a group. Raises CONFLICT for its last admin while others remain."""

    async def work(transaction: Transaction) -> None:
        log, own = await locked(transaction, viewer.id, group_id, Operation.LEAVE)
        await _go(transaction, log, viewer.id, own, GroupEventKind.MEMBER_LEFT)

    await services.write(work)


async def _take_back(transaction: Transaction, log: GroupLog, actor_id: UUID, subject: Membership) -> Group:
    logs = await events.lock_users(transaction, [subject.user_id])
    log.append(GroupEventKind.INVITATION_TAKEN_BACK, actor_id, subject_id=subject.user_id)
    await memberships.remove(transaction, log.group.id, [subject.user_id])
    if subject.user_id in logs.heads:
        _tell_ended(logs, log, subject.user_id, actor_id, "TAKEN_BACK")
    group = await log.write()
    await logs.write()
    return group


async def _go(
    transaction: Transaction, log: GroupLog, actor_id: UUID, subject: Membership, kind: GroupEventKind
) -> Group:
    """End a membership. With the last member the open invitations end too: nobody could answer for them."""
    await _check_not_last_admin(transaction, log.group, subject)
    log.append(kind, actor_id, subject_id=subject.user_id)
    log.change(member_count=log.group.member_count - 1)
    await memberships.remove(transaction, log.group.id, [subject.user_id])
    if log.group.member_count == 0:
        await end_invitations(transaction, log, actor_id, "TAKEN_BACK")
    return await log.write()


async def _check_not_last_admin(transaction: Transaction, group: Group, subject: Membership) -> None:
    if subject.role is not MemberRole.ADMIN or group.member_count <= 1:
        return
    if await memberships.count_with_role(transaction, group.id, MemberRole.ADMIN.value) <= 1:
        raise conflict("This is the group's last admin. Make another member an admin first, or delete the group.")


async def change_role(
    services: Services, viewer: Viewer, group_id: UUID, user_id: UUID, role: MemberRole
) -> Membership:
    """Give a member another role; the same role makes no event. Raises NOT_FOUND, CONFLICT for the last admin."""

    async def work(transaction: Transaction) -> Membership:
        log, _ = await locked(transaction, viewer.id, group_id, Operation.CHANGE_ROLE)
        subject = await memberships.get(transaction, group_id, user_id)
        if subject is None or subject.status is not ACCEPTED:
            raise not_found("member of this group")
        if subject.role is role:
            return subject
        await _check_not_last_admin(transaction, log.group, subject)
        kind = GroupEventKind.MEMBER_PROMOTED if RANK[role] > RANK[subject.role] else GroupEventKind.MEMBER_DEMOTED
        log.append(kind, viewer.id, subject_id=user_id, data={"role": role.value})
        membership = replace(subject, role=role)
        await memberships.change(transaction, membership)
        await log.write()
        return membership

    return await services.write(work)


async def pages(
    services: Services, door: Door, group_ids: Sequence[UUID], request: PageRequest
) -> Mapping[UUID, Page[Membership] | Refusal]:
    """The same page of several groups' members, in the order in which they joined."""
    async with services.read() as transaction:
        return await behind_door(transaction, door, group_ids, request, memberships.pages)


async def get_many(
    services: Services, door: Door, keys: Collection[tuple[UUID, UUID]]
) -> Mapping[tuple[UUID, UUID], Membership]:
    """Memberships by (group, user), for keys that the caller may see: one's own, or of a group behind an open door.

    The door is passed in the same snapshot, so that it knows how new a state is shown.
    """
    async with services.read() as transaction:
        await door.open(transaction, {group_id for group_id, _ in keys})
        return await memberships.get_many(transaction, keys)


async def visible(services: Services, viewer: Viewer, group_id: UUID, user_id: UUID) -> Membership | None:
    """A membership that is the viewer's own, or of a group that the viewer is a member of; else None."""
    async with services.read() as transaction:
        found = await memberships.get_many(transaction, [(group_id, user_id)])
        standing = (await memberships.standings(transaction, viewer.id, [group_id])).get(group_id)
    membership = found.get((group_id, user_id))
    if membership is None or standing is None or standing.group.deleted_at is not None:
        return None
    return membership if user_id == viewer.id or standing.is_open else None
