"""The logs: appending to them under their lock, and reading them. Knows nothing of the other rooms."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, bindparam, insert, literal, select, update

from . import rows, tables
from .engine import Appended, LogKind, Transaction
from .records import (
    ACCESS_KINDS,
    Group,
    GroupEvent,
    GroupEventKind,
    Membership,
    Message,
    UserEvent,
    UserEventKind,
)

GROUPS = tables.groups.c
USERS = tables.users.c
EVENTS = tables.group_events.c
USER_EVENTS = tables.user_events.c
NONCE_BITS = 32
NOTHING: Mapping[str, Any] = {}


@dataclass(slots=True)
class GroupLog:
    """The locked end of one group's log.

    `append` numbers an event at once; `write` writes all of them and the group's row. A number is taken only by what is
    written: whoever refuses does so before the append, and a fault rolls the whole transaction back.
    """

    transaction: Transaction
    group: Group
    _events: list[GroupEvent] = field(default_factory=list[GroupEvent])

    @property
    def now(self) -> datetime:
        """The moment of this transaction, never before the log's last event, whatever the clocks of the nodes say."""
        return max(self.transaction.now, self.group.active_at)

    def change(self, **columns: Any) -> None:
        self.group = replace(self.group, **columns)

    def append(
        self,
        kind: GroupEventKind,
        actor_id: UUID,
        *,
        subject_id: UUID | None = None,
        message_id: UUID | None = None,
        data: Mapping[str, Any] = NOTHING,
    ) -> GroupEvent:
        event = GroupEvent(
            self.group.id,
            self.group.head_seq + 1,
            secrets.randbits(NONCE_BITS),
            kind,
            self.now,
            actor_id,
            subject_id,
            message_id,
            data,
        )
        self._events.append(event)
        self.change(head_seq=event.seq, head_nonce=event.nonce)
        if kind in ACCESS_KINDS:
            self.change(access_seq=event.seq)
        return event

    async def write(self) -> Group:
        """Write what was appended and changed. Returns the group as it is now."""
        self.change(active_at=self.now)
        if self._events:
            await self.transaction.execute(insert(tables.group_events), [_columns(event) for event in self._events])
        values = {column.name: getattr(self.group, column.name) for column in rows.GROUP.columns}
        await self.transaction.execute(update(tables.groups).where(GROUPS.id == self.group.id).values(values))
        self.transaction.appended.append(Appended(LogKind.GROUP, self.group.id, self.group.head_seq))
        self._events.clear()
        return self.group


@dataclass(slots=True)
class UserLogs:
    """The locked ends of some users' logs. Lock the group first, then all users at once: their order is by id."""

    transaction: Transaction
    heads: dict[UUID, int]
    _events: list[UserEvent] = field(default_factory=list[UserEvent])

    def append(
        self,
        user_id: UUID,
        kind: UserEventKind,
        *,
        actor_id: UUID | None = None,
        group_id: UUID | None = None,
        data: Mapping[str, Any] = NOTHING,
    ) -> UserEvent:
        seq = self.heads[user_id] + 1
        self.heads[user_id] = seq
        event = UserEvent(user_id, seq, kind, self.transaction.now, actor_id, group_id, data)
        self._events.append(event)
        return event

    async def write(self) -> None:
        if not self._events:
            return
        await self.transaction.execute(insert(tables.user_events), [_columns(event) for event in self._events])
        touched = sorted({event.user_id for event in self._events})
        statement = update(tables.users).where(USERS.id == bindparam("user")).values(head_seq=bindparam("head"))
        await self.transaction.execute(
            statement, [{"user": user_id, "head": self.heads[user_id]} for user_id in touched]
        )
        self.transaction.appended.extend(Appended(LogKind.USER, user_id, self.heads[user_id]) for user_id in touched)
        self._events.clear()


async def lock_users(transaction: Transaction, user_ids: Collection[UUID]) -> UserLogs:
    """Lock the logs of the users that exist and are not disabled; the others are not in `heads`."""
    statement = (
        select(USERS.id, USERS.head_seq)
        .where(USERS.id.in_(user_ids), USERS.disabled_at.is_(None))
        .order_by(USERS.id)
        .with_for_update(key_share=True)
    )
    found = await transaction.execute(statement)
    return UserLogs(transaction, {row[0]: row[1] for row in found})


def _columns(event: GroupEvent | UserEvent) -> dict[str, Any]:
    shape = rows.GROUP_EVENT if isinstance(event, GroupEvent) else rows.USER_EVENT
    return {column.name: getattr(event, column.name) for column in shape.columns} | {
        "kind": event.kind.value,
        "data": dict(event.data),
    }


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """A row of a group's log with its message as it is now."""

    event: GroupEvent
    message: Message | None


@dataclass(frozen=True, slots=True)
class GroupPage:
    """Rows of a group's log and the group's row, read by one statement: `group.access_seq` says how far permissions had
    changed by then.
    """

    group: Group
    events: Sequence[LoggedEvent]


async def after(
    transaction: Transaction, group_id: UUID, seq: int, limit: int, *, kinds: Collection[GroupEventKind] | None = None
) -> GroupPage | None:
    """The rows after `seq` in order, at most `limit`, only of `kinds` if given; with the messages and the group as they
    are. None: no group.
    """
    return (await _after(transaction, group_id, None, seq, limit, kinds))[0]


async def after_as(
    transaction: Transaction, user_id: UUID, group_id: UUID, seq: int, limit: int, *, kinds: Collection[GroupEventKind]
) -> tuple[GroupPage | None, Membership | None]:
    """As `after`, with the present membership of one user from the same statement: what a replay is judged by."""
    return await _after(transaction, group_id, user_id, seq, limit, kinds)


async def _after(
    transaction: Transaction,
    group_id: UUID,
    user_id: UUID | None,
    seq: int,
    limit: int,
    kinds: Collection[GroupEventKind] | None,
) -> tuple[GroupPage | None, Membership | None]:
    wanted = (
        select(*rows.GROUP_EVENT.columns)
        .where(EVENTS.group_id == group_id, EVENTS.seq > seq)
        .order_by(EVENTS.seq)
        .limit(limit)
    )
    if kinds is not None:
        wanted = wanted.where(EVENTS.kind.in_([kind.value for kind in kinds]))
    return await _page(transaction, group_id, user_id, wanted)


async def _page(
    transaction: Transaction, group_id: UUID, user_id: UUID | None, wanted: Select[Any]
) -> tuple[GroupPage | None, Membership | None]:
    """The wanted rows of the log beside the group, one user's membership, and the messages: one statement, so one
    state.
    """
    events = wanted.subquery()
    own = and_(tables.memberships.c.group_id == GROUPS.id, tables.memberships.c.user_id == user_id)
    statement = (
        select(*rows.GROUP.columns, *rows.MEMBERSHIP.columns, *events.c, *rows.MESSAGE.columns)
        .select_from(
            tables.groups.outerjoin(tables.memberships, own)
            .outerjoin(events, events.c.group_id == GROUPS.id)
            .outerjoin(tables.messages, tables.messages.c.id == events.c.message_id)
        )
        .where(GROUPS.id == group_id)
        .order_by(events.c.seq)
    )
    found = (await transaction.execute(statement)).all()
    if not found:
        return None, None
    first, second, third = rows.GROUP.width, rows.GROUP.width + rows.MEMBERSHIP.width, -rows.MESSAGE.width
    logged = [
        LoggedEvent(event, rows.optional(rows.message, row[third:]))
        for row in found
        if (event := rows.optional(rows.group_event, row[second:third])) is not None
    ]
    return GroupPage(rows.group(found[0][:first]), logged), rows.optional(rows.membership, found[0][first:second])


async def access_between(transaction: Transaction, group_id: UUID, after_seq: int, up_to: int) -> GroupPage | None:
    """The rows in (after_seq, up_to] that changed who may do what. None: no group."""
    wanted = select(*rows.GROUP_EVENT.columns).where(
        EVENTS.group_id == group_id,
        EVENTS.seq > after_seq,
        EVENTS.seq <= up_to,
        EVENTS.kind.in_([kind.value for kind in ACCESS_KINDS]),
    )
    return (await _page(transaction, group_id, None, wanted.order_by(EVENTS.seq)))[0]


async def nonce_at(transaction: Transaction, group_id: UUID, seq: int) -> int | None:
    """The random bits of one row, None where there is no such row."""
    statement = select(EVENTS.nonce).where(EVENTS.group_id == group_id, EVENTS.seq == seq)
    return (await transaction.execute(statement)).scalar_one_or_none()


async def user_events_after(transaction: Transaction, user_id: UUID, seq: int, limit: int) -> list[UserEvent]:
    statement = (
        select(*rows.USER_EVENT.columns)
        .where(USER_EVENTS.user_id == user_id, USER_EVENTS.seq > seq)
        .order_by(USER_EVENTS.seq)
        .limit(limit)
    )
    return [rows.user_event(row) for row in await transaction.execute(statement)]


async def heads(transaction: Transaction, log: LogKind, ids: Collection[UUID]) -> dict[UUID, tuple[int, int]]:
    """The last seq of each of these logs and the last that changed who may do what (0 in a user's log), in one
    statement.
    """
    if log is LogKind.GROUP:
        statement = select(GROUPS.id, GROUPS.head_seq, GROUPS.access_seq).where(GROUPS.id.in_(ids))
    else:
        statement = select(USERS.id, USERS.head_seq, literal(0)).where(USERS.id.in_(ids))
    return {row[0]: (row[1], row[2]) for row in await transaction.execute(statement)}
