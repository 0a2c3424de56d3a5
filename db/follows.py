"""Who follows which threads, and what they have not read of them. Knows nothing of the other rooms."""

from collections.abc import Collection
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, case, delete, func, insert, or_, select, update

from . import rows, tables
from .engine import Transaction
from .records import Follow, MembershipStatus, Message
from .statements import COUNTS_REMEMBERED, Statement, numbered, parameters

FOLLOWS = tables.thread_follows.c
GROUPS = tables.groups.c
MEMBERSHIPS = tables.memberships.c
MESSAGES = tables.messages.c
THREADS = tables.threads.c

OWN = and_(FOLLOWS.user_id == bindparam("user"), FOLLOWS.root_id == bindparam("root"))
KEPT = Statement(select(FOLLOWS.read_seq).where(OWN))
KEEP = Statement(insert(tables.thread_follows))
MOVE = Statement(update(tables.thread_follows).where(OWN).values(read_seq=bindparam("read_seq")))
REMOVE = Statement(delete(tables.thread_follows).where(OWN))

IS_MEMBER = and_(
    MEMBERSHIPS.group_id == FOLLOWS.group_id,
    MEMBERSHIPS.user_id == FOLLOWS.user_id,
    MEMBERSHIPS.status == MembershipStatus.ACCEPTED.value,
)
AS_MEMBER = tables.thread_follows.join(tables.memberships, IS_MEMBER)
READ_SEQ = case((FOLLOWS.read_seq > MEMBERSHIPS.joined_seq, FOLLOWS.read_seq), else_=MEMBERSHIPS.joined_seq)
UNREAD = and_(
    MESSAGES.thread_root_id == FOLLOWS.root_id,
    MESSAGES.seq > READ_SEQ,
    MESSAGES.sender_id != FOLLOWS.user_id,
    MESSAGES.deleted_at.is_(None),
)
OUTSIDE = (tables.thread_follows, tables.memberships)
COUNT = select(func.count()).select_from(tables.messages).where(UNREAD).correlate(*OUTSIDE).scalar_subquery()
SHOWN: tuple[ColumnElement[Any], ...] = (FOLLOWS.root_id, READ_SEQ, COUNT)


@lru_cache(COUNTS_REMEMBERED)
def _many(count: int) -> Statement:
    wanted = FOLLOWS.user_id == bindparam("user"), FOLLOWS.root_id.in_(parameters(FOLLOWS.root_id, count))
    return Statement(select(*SHOWN).select_from(AS_MEMBER).where(*wanted))


async def get_many(transaction: Transaction, user_id: UUID, root_ids: Collection[UUID]) -> dict[UUID, Follow]:
    """Those of these threads that the user follows, in groups that they are a member of: one statement."""
    values = {"user": user_id, **numbered(FOLLOWS.root_id, root_ids)}
    found = await transaction.run(_many(len(root_ids)), values) if root_ids else []
    return {row[0]: Follow(*row) for row in found}


async def page_of(
    transaction: Transaction, user_id: UUID, *, as_of: datetime | None, after: tuple[datetime, UUID] | None, limit: int
) -> list[tuple[Message, datetime]]:
    """The roots of the threads that the user follows, with the moment of their newest reply, most recent first, as that
    order was at `as_of`; without those in groups that they are no member of. As `groups.page_of`.
    """
    active_at = THREADS.active_at if as_of is None else _active_until(as_of)
    followed = (
        select(FOLLOWS.root_id, active_at.label("active_then"))
        .select_from(
            AS_MEMBER.join(tables.groups, GROUPS.id == FOLLOWS.group_id).join(
                tables.threads, THREADS.root_id == FOLLOWS.root_id
            )
        )
        .where(FOLLOWS.user_id == user_id, GROUPS.deleted_at.is_(None))
        .subquery()
    )
    then = followed.c.active_then
    wanted = select(followed).where(then.is_not(None)).order_by(then.desc(), followed.c.root_id).limit(limit)
    if after is not None:
        moment, root_id = after
        wanted = wanted.where(or_(then < moment, and_(then == moment, followed.c.root_id > root_id)))
    page = wanted.subquery()
    statement = (
        select(*rows.MESSAGE.columns, page.c.active_then)
        .join_from(page, tables.messages, MESSAGES.id == page.c.root_id)
        .order_by(page.c.active_then.desc(), page.c.root_id)
    )
    return [(rows.message(row[:-1]), row[-1]) for row in await transaction.execute(statement)]


def _active_until(moment: datetime) -> ColumnElement[datetime]:
    """The time of the last reply up to `moment`: a look back over what came since, in the few threads where anything
    did.
    """
    replies = tables.messages.alias()
    last = (
        select(replies.c.created_at)
        .where(replies.c.thread_root_id == THREADS.root_id, replies.c.created_at <= moment)
        .order_by(replies.c.seq.desc())
        .limit(1)
        .correlate(tables.threads)
        .scalar_subquery()
    )
    return case((THREADS.active_at <= moment, THREADS.active_at), else_=last)


async def kept(transaction: Transaction, user_id: UUID, root_id: UUID) -> int | None:
    """How far the user has read a thread that they follow; None if they do not."""
    found = await transaction.first(KEPT, {"user": user_id, "root": root_id})
    return found[0] if found else None


async def keep(transaction: Transaction, user_id: UUID, root: Message, read_seq: int) -> None:
    """The user follows the thread from here on. Call what writes here under the lock of the user's log."""
    values = {"user_id": user_id, "root_id": root.id, "group_id": root.group_id, "read_seq": read_seq}
    await transaction.write(KEEP, values)


async def move(transaction: Transaction, user_id: UUID, root_id: UUID, read_seq: int) -> None:
    await transaction.write(MOVE, {"user": user_id, "root": root_id, "read_seq": read_seq})


async def remove(transaction: Transaction, user_id: UUID, root_id: UUID) -> None:
    await transaction.write(REMOVE, {"user": user_id, "root": root_id})
