"""The logs: appending to them under their lock, and reading them. Knows nothing of the other rooms."""

import os
from array import array
from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    bindparam,
    exists,
    false,
    insert,
    literal,
    or_,
    select,
    update,
)

from frozen import frozen

from . import rows, tables
from .engine import Appended, LogKind, Transaction
from .records import (
    ACCESS_KINDS,
    Group,
    GroupEvent,
    GroupEventKind,
    GroupPage,
    LoggedEvent,
    Message,
    User,
    UserEvent,
    UserEventKind,
)
from .statements import COUNTS_REMEMBERED, Statement, numbered, padded, parameters

GROUPS = tables.groups.c
USERS = tables.users.c
EVENTS = tables.group_events.c
MENTIONS = tables.mentions.c
USER_EVENTS = tables.user_events.c
NONCES_AT_ONCE = 1_024
NOTHING: Mapping[str, Any] = {}
KINDS_REMEMBERED = 64

GROUP = GROUPS.id == bindparam("group")
END_OF_LOG = ("head_seq", "head_nonce", "access_seq", "active_at")
APPEND = Statement(insert(tables.group_events))
MOVE_END = Statement(update(tables.groups).where(GROUP).values({name: bindparam(name) for name in END_OF_LOG}))
CHANGE_GROUP = Statement(
    update(tables.groups)
    .where(GROUP)
    .values({column.name: bindparam(column.name) for column in rows.GROUP.columns if column is not GROUPS.id})
)


def _nonces() -> Generator[int]:
    """32 random bits each. To ask the system for them each time costs a send 0.3 µs, with `secrets` 1.0."""
    while True:
        yield from array("I", os.urandom(4 * NONCES_AT_ONCE))


NONCES = _nonces()


@dataclass(slots=True)
class GroupLog:
    """The locked end of one group's log.

    `append` numbers an event at once; `write` writes all of them and the group's row. A number is taken only by what is
    written: whoever refuses does so before the append, and a fault rolls the whole transaction back.
    """

    transaction: Transaction
    group: Group
    actor: User | None = None
    _events: list[GroupEvent] = field(default_factory=list[GroupEvent])
    _messages: dict[UUID, Message] = field(default_factory=dict[UUID, Message])
    _is_changed: bool = field(default=False)

    @property
    def now(self) -> datetime:
        """The moment of this transaction, never before the log's last event, whatever the clocks of the nodes say."""
        return max(self.transaction.now, self.group.active_at)

    def change(self, **columns: Any) -> None:
        self.group = replace(self.group, active_at=self.now, **columns)
        self._is_changed = True

    def append(
        self,
        kind: GroupEventKind,
        actor_id: UUID,
        *,
        subject_id: UUID | None = None,
        message_id: UUID | None = None,
        data: Mapping[str, Any] = NOTHING,
    ) -> GroupEvent:
        group = self.group
        event = GroupEvent(
            group.id, group.head_seq + 1, next(NONCES), kind, self.now, actor_id, subject_id, message_id, data
        )
        self._events.append(event)
        self.group = _moved(group, event)
        return event

    def shows(self, message: Message) -> None:
        """What an event of the actor shows: whoever follows in this process gets it without reading it again."""
        self._messages[message.id] = message

    async def write(self) -> Group:
        """Write what was appended and changed. Returns the group as it is now."""
        if self._events:
            await self.transaction.run_many(APPEND, [_columns(event) for event in self._events])
        values = rows.GROUP.values(self.group) | {"group": self.group.id}
        await self.transaction.write(CHANGE_GROUP if self._is_changed else MOVE_END, values)
        self.transaction.appended.append(self._appended())
        self._events.clear()
        return self.group

    def _appended(self) -> Appended:
        head = LogKind.GROUP, self.group.id, self.group.head_seq
        logged = [
            LoggedEvent(event, message)
            for event in self._events
            if event.message_id is not None and (message := self._messages.get(event.message_id))
        ]
        if not logged or len(logged) < len(self._events) or self.actor is None:
            return Appended(*head)
        return Appended(*head, GroupPage(self.group, logged), (self.actor,))


def _moved(group: Group, event: GroupEvent) -> Group:
    """The group with this event at the end of its log. With `replace` it would take 1.3 µs, so 0.2."""
    return Group(
        group.id, group.name, group.description, group.created_by, group.created_at, group.updated_at,
        group.deleted_at, group.member_count,
        head_seq=event.seq, head_nonce=event.nonce, active_at=event.occurred_at,
        access_seq=event.seq if event.kind in ACCESS_KINDS else group.access_seq,
    )  # fmt: skip


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
    return shape.values(event) | {"kind": event.kind.value}


@frozen
class Part:
    """Which rows of a log: those of `kinds`, about messages of `sender_id`, about the message `thread_id` and the
    replies to it, about messages of others that had mentioned `mentioned_id` by then, and none beyond `up_to`; each as
    far as it is given.
    """

    kinds: frozenset[GroupEventKind] | None = None
    sender_id: UUID | None = None
    thread_id: UUID | None = None
    mentioned_id: UUID | None = None
    up_to: int | None = None


WHOLE = Part()


async def after(
    transaction: Transaction, group_id: UUID, seq: int, limit: int, *, part: Part = WHOLE
) -> GroupPage | None:
    """The rows after `seq` in order, at most `limit`; with the messages and the group as they are. None: no group."""
    statement = _after_statement(
        part.kinds,
        by_sender=part.sender_id is not None,
        in_thread=part.thread_id is not None,
        by_mention=part.mentioned_id is not None,
        ends=part.up_to is not None,
    )
    values = {
        "group": group_id, "seq": seq, "limit": limit,
        "sender": part.sender_id, "thread": part.thread_id, "mentioned": part.mentioned_id, "up_to": part.up_to,
    }  # fmt: skip
    return await _page(transaction, statement, values)


IN_GROUP = select(*rows.GROUP_EVENT.columns).where(EVENTS.group_id == bindparam("group"), EVENTS.seq > bindparam("seq"))


def _of_kinds(wanted: Select[Any], kinds: Collection[GroupEventKind]) -> Select[Any]:
    return wanted.where(EVENTS.kind.in_([literal(kind.value) for kind in sorted(kinds)]) if kinds else false())


@lru_cache(KINDS_REMEMBERED)
def _after_statement(
    kinds: frozenset[GroupEventKind] | None,
    *,
    by_sender: bool = False,
    in_thread: bool = False,
    by_mention: bool = False,
    ends: bool = False,
) -> Statement:
    wanted = IN_GROUP.order_by(EVENTS.seq).limit(bindparam("limit"))
    about = tables.messages.alias()
    if by_sender or in_thread or by_mention:
        wanted = wanted.join(about, about.c.id == EVENTS.message_id)
    if by_sender:
        wanted = wanted.where(about.c.sender_id == bindparam("sender"))
    if in_thread:
        wanted = wanted.where(or_(about.c.id == bindparam("thread"), about.c.thread_root_id == bindparam("thread")))
    if by_mention:
        wanted = wanted.where(about.c.mentions.is_not(None), _mentioned_by_then(about))
    if ends:
        wanted = wanted.where(EVENTS.seq <= bindparam("up_to"))
    return _page_statement(wanted if kinds is None else _of_kinds(wanted, kinds))


def _mentioned_by_then(about: FromClause) -> ColumnElement[bool]:
    """Whether the message had mentioned somebody, by name or with everybody, when the event happened."""
    return exists().where(
        MENTIONS.whom_id.in_([bindparam("mentioned"), EVENTS.group_id]),
        MENTIONS.group_id == EVENTS.group_id,
        MENTIONS.seq == about.c.seq,
        MENTIONS.since <= EVENTS.seq,
        MENTIONS.sender_id != bindparam("mentioned"),
    )


def _page_statement(wanted: Select[Any]) -> Statement:
    """The wanted rows of the log beside the group, and the messages: one statement, so one state."""
    events = wanted.subquery()
    return Statement(
        select(*rows.GROUP.columns, *events.c, *rows.MESSAGE.columns)
        .select_from(
            tables.groups.outerjoin(events, events.c.group_id == GROUPS.id).outerjoin(
                tables.messages, tables.messages.c.id == events.c.message_id
            )
        )
        .where(GROUP)
        .order_by(events.c.seq)
    )


async def _page(transaction: Transaction, statement: Statement, values: Mapping[str, Any]) -> GroupPage | None:
    found = await transaction.run(statement, values)
    if not found:
        return None
    group, message = rows.GROUP.width, -rows.MESSAGE.width
    logged = [
        LoggedEvent(event, rows.optional(rows.message, row[message:]))
        for row in found
        if (event := rows.optional(rows.group_event, row[group:message])) is not None
    ]
    return GroupPage(rows.group(found[0][:group]), logged)


async def access_between(transaction: Transaction, group_id: UUID, after_seq: int, up_to: int) -> GroupPage | None:
    """The rows in (after_seq, up_to] that changed who may do what. None: no group."""
    return await _page(transaction, ACCESS_BETWEEN, {"group": group_id, "seq": after_seq, "up_to": up_to})


ACCESS_BETWEEN = _page_statement(
    _of_kinds(IN_GROUP.where(EVENTS.seq <= bindparam("up_to")), ACCESS_KINDS).order_by(EVENTS.seq)
)


@lru_cache(COUNTS_REMEMBERED)
def _nonces_at(count: int) -> Statement:
    columns: list[ColumnElement[Any]] = [EVENTS.seq, EVENTS.nonce]
    at = EVENTS.seq.in_(parameters(EVENTS.seq, count))
    return Statement(select(*columns).where(EVENTS.group_id == bindparam("group"), at))


async def nonces_at(transaction: Transaction, group_id: UUID, seqs: Iterable[int]) -> dict[int, int]:
    """The random bits of the rows at these places, one at least, by their seq; a row that is not there is left out."""
    wanted = padded(seqs)
    found = await transaction.run(_nonces_at(len(wanted)), {"group": group_id, **numbered(EVENTS.seq, wanted)})
    return {row[0]: row[1] for row in found}


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
