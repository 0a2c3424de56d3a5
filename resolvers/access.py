"""Who may do what in a group: the table, and the only doors to a group's data. Knows nothing of SQL or GraphQL."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from db import groups, memberships
from db.engine import Transaction
from db.events import GroupLog
from db.records import Group, MemberRole, Membership, MembershipStatus, Standing, User
from frozen import frozen

from .refusals import ErrorCode, Refusal, conflict, not_found

PENDING, ACCEPTED, REJECTED = MembershipStatus.PENDING, MembershipStatus.ACCEPTED, MembershipStatus.REJECTED
MEMBER, MODERATOR, ADMIN = MemberRole.MEMBER, MemberRole.MODERATOR, MemberRole.ADMIN
EVERY_ROLE = frozenset(MemberRole)


class Operation(StrEnum):
    """What can be done in a group; the value is a phrase for 'you may not …'."""

    READ = "read this group"
    MARK = "mark messages of this group as read"
    FOLLOW = "follow threads of this group"
    SEND = "send messages to this group"
    CHANGE_OWN_MESSAGE = "change messages of this group"
    DELETE_ANY_MESSAGE = "delete messages of others in this group"
    REACT = "react to messages of this group"
    ADD_MEMBER = "add members to this group"
    INVITE_MEMBER = "invite people to this group"
    REMOVE_MEMBER = "remove this person from this group"
    CHANGE_ROLE = "change roles in this group"
    UPDATE_GROUP = "change this group"
    DELETE_GROUP = "delete this group"
    LEAVE = "leave this group"
    ANSWER_INVITATION = "answer an invitation to this group"


ALLOWED: Mapping[Operation, frozenset[tuple[MembershipStatus, MemberRole]]] = {
    Operation.READ: frozenset((ACCEPTED, role) for role in EVERY_ROLE),
    Operation.MARK: frozenset((ACCEPTED, role) for role in EVERY_ROLE),
    Operation.FOLLOW: frozenset((ACCEPTED, role) for role in EVERY_ROLE),
    Operation.SEND: frozenset((ACCEPTED, role) for role in EVERY_ROLE),
    Operation.CHANGE_OWN_MESSAGE: frozenset((ACCEPTED, role) for role in EVERY_ROLE),
    Operation.DELETE_ANY_MESSAGE: frozenset({(ACCEPTED, ADMIN), (ACCEPTED, MODERATOR)}),
    Operation.REACT: frozenset((ACCEPTED, role) for role in EVERY_ROLE),
    Operation.ADD_MEMBER: frozenset({(ACCEPTED, ADMIN)}),
    Operation.INVITE_MEMBER: frozenset({(ACCEPTED, ADMIN), (ACCEPTED, MODERATOR)}),
    Operation.REMOVE_MEMBER: frozenset({(ACCEPTED, ADMIN), (ACCEPTED, MODERATOR)}),
    Operation.CHANGE_ROLE: frozenset({(ACCEPTED, ADMIN)}),
    Operation.UPDATE_GROUP: frozenset({(ACCEPTED, ADMIN)}),
    Operation.DELETE_GROUP: frozenset({(ACCEPTED, ADMIN)}),
    Operation.LEAVE: frozenset((ACCEPTED, role) for role in EVERY_ROLE),
    Operation.ANSWER_INVITATION: frozenset((PENDING, role) for role in EVERY_ROLE),
}
"""The one table of permissions: what is not in it is refused. The tests and the table in `docs/features.md` are made
from it.
"""


@frozen
class Viewer:
    """The person that makes a request, and the log-in it is made with."""

    user: User
    token_id: UUID

    @property
    def id(self) -> UUID:
        return self.user.id


def group_deleted() -> Refusal:
    return Refusal(ErrorCode.GROUP_DELETED, "This group was deleted.")


def forbidden(operation: Operation, status: MembershipStatus | None) -> Refusal:
    """What a person who may not learns: the operation, and their own status. Nothing of the group."""
    why = {
        PENDING: "Membership status: PENDING; answer the invitation first.",
        REJECTED: "Membership status: REJECTED.",
        ACCEPTED: "Your role does not allow it.",
        None: "You are not a member.",
    }[status]
    return Refusal(
        ErrorCode.FORBIDDEN, f"You may not {operation.value}. {why}", membershipStatus=status.value if status else None
    )


def allows(membership: Membership | None, operation: Operation) -> bool:
    return membership is not None and (membership.status, membership.role) in ALLOWED[operation]


def may_mention_all(membership: Membership) -> bool:
    """Whether `@all` in what a member writes means everybody. From others it is plain text, and not refused."""
    return membership.role is not MEMBER


def judge(standing: Standing | None, operation: Operation) -> Standing:
    """The standing, if it allows the operation.

    Raises NOT_FOUND, GROUP_DELETED (to those who were members then) or FORBIDDEN.
    """
    if standing is None:
        raise not_found("group")
    if standing.group.deleted_at is not None:
        raise group_deleted() if standing.is_member else not_found("group")
    if not allows(standing.membership, operation):
        if operation is Operation.ANSWER_INVITATION and standing.is_member:
            raise conflict("You are a member of this group already.")
        raise forbidden(operation, standing.status)
    return standing


async def readable(transaction: Transaction, viewer_id: UUID, group_id: UUID) -> Standing:
    """The door under every read of one group. Raises what `judge` raises."""
    standings = await memberships.standings(transaction, viewer_id, [group_id])
    return judge(standings.get(group_id), Operation.READ)


async def locked(
    transaction: Transaction, viewer_id: UUID, group_id: UUID, operation: Operation
) -> tuple[GroupLog, Membership]:
    """The door under every write: lock the end of the log, then judge by what a later statement reads.

    In one statement the membership would be read as it was before the lock was waited for, and a removed member's
    message would get the next seq. Returns the log and the viewer's membership. Raises what `judge` raises.
    """
    group = await groups.lock(transaction, group_id)
    if group is None:
        raise not_found("group")
    membership, actor = await memberships.acting(transaction, group_id, viewer_id) or (None, None)
    judge(Standing(group, membership), operation)
    assert membership is not None
    return GroupLog(transaction, group, actor), membership


class Door(Protocol):
    """How nested fields reach groups: a group, or the refusal to show instead of anything under it."""

    async def open(self, transaction: Transaction, group_ids: Collection[UUID]) -> Mapping[UUID, Group | Refusal]:
        """Call it in the transaction that reads what lies behind the door."""
        ...


@frozen
class ViewerDoor:
    """The door of a query or a mutation: every group that the viewer is a member of at the moment of reading."""

    viewer_id: UUID

    async def open(self, transaction: Transaction, group_ids: Collection[UUID]) -> Mapping[UUID, Group | Refusal]:
        standings = await memberships.standings(transaction, self.viewer_id, group_ids)
        return {group_id: self._judged(standings.get(group_id)) for group_id in group_ids}

    @staticmethod
    def _judged(standing: Standing | None) -> Group | Refusal:
        try:
            return judge(standing, Operation.READ).group
        except Refusal as refusal:
            return refusal


class ClosedDoor:
    """The door inside an event about a group that the viewer is not a member of any more: it opens nothing."""

    async def open(self, transaction: Transaction, group_ids: Collection[UUID]) -> Mapping[UUID, Group | Refusal]:  # noqa: ARG002
        return {group_id: not_found("group") for group_id in group_ids}


@dataclass(slots=True)
class EventDoor:
    """The door inside an event: only the event's own group, in the state it has at the moment of reading.

    `seen` is the newest `access_seq` that anything was read under. Before the event is sent, permissions up to there
    are applied to its stream, and whoever they ended gets only the end.
    """

    group_id: UUID
    seen: int = field(default=0)

    async def open(self, transaction: Transaction, group_ids: Collection[UUID]) -> Mapping[UUID, Group | Refusal]:
        own = (await groups.get_many(transaction, [self.group_id])).get(self.group_id)
        if own is not None:
            self.seen = max(self.seen, own.access_seq)
        return {group_id: self._own(own) if group_id == self.group_id else not_found("group") for group_id in group_ids}

    @staticmethod
    def _own(group: Group | None) -> Group | Refusal:
        if group is None:
            return not_found("group")
        return group_deleted() if group.deleted_at is not None else group
