"""How far members have read, and what they have not. Knows nothing of the other rooms."""

from collections.abc import Collection
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, case, func, insert, select, update

from . import mentions, messages, tables
from .engine import Transaction
from .records import MembershipStatus, Unread
from .statements import COUNTS_REMEMBERED, Statement, numbered, parameters

MEMBERSHIPS = tables.memberships.c
MESSAGES = tables.messages.c
POSITIONS = tables.read_positions.c
USERS = tables.users.c

OWN = and_(POSITIONS.user_id == MEMBERSHIPS.user_id, POSITIONS.group_id == MEMBERSHIPS.group_id)
READ_SEQ = case((POSITIONS.read_seq > MEMBERSHIPS.joined_seq, POSITIONS.read_seq), else_=MEMBERSHIPS.joined_seq)
UNREAD = and_(
    MESSAGES.group_id == MEMBERSHIPS.group_id,
    MESSAGES.seq > READ_SEQ,
    MESSAGES.sender_id != MEMBERSHIPS.user_id,
    MESSAGES.deleted_at.is_(None),
)
OUTSIDE = (tables.memberships, tables.read_positions)
COUNT = select(func.count()).select_from(tables.messages).where(UNREAD).correlate(*OUTSIDE).scalar_subquery()
FIRST = select(MESSAGES.id).where(UNREAD).order_by(MESSAGES.seq).limit(1).correlate(*OUTSIDE).scalar_subquery()
FIRST_SEQ = select(MESSAGES.seq).where(UNREAD).order_by(MESSAGES.seq).limit(1).correlate(*OUTSIDE).scalar_subquery()
MENTIONING = mentions.count_of(MEMBERSHIPS.user_id, MEMBERSHIPS.group_id, READ_SEQ, OUTSIDE)
SHOWN: tuple[ColumnElement[Any], ...] = (MEMBERSHIPS.group_id, READ_SEQ, COUNT, FIRST, MENTIONING)
SHARED: tuple[ColumnElement[Any], ...] = (MEMBERSHIPS.group_id, MEMBERSHIPS.user_id, POSITIONS.read_seq)

POSITION = and_(POSITIONS.user_id == bindparam("user"), POSITIONS.group_id == bindparam("group"))
KEPT = Statement(select(POSITIONS.read_seq).where(POSITION))
KEEP = Statement(insert(tables.read_positions))
MOVE = Statement(update(tables.read_positions).where(POSITION).values(read_seq=bindparam("read_seq")))


def _of_groups(count: int, *shown: ColumnElement[Any]) -> Statement:
    return Statement(
        select(*shown)
        .select_from(tables.memberships.outerjoin(tables.read_positions, OWN))
        .where(
            MEMBERSHIPS.user_id == bindparam("user"),
            MEMBERSHIPS.group_id.in_(parameters(MEMBERSHIPS.group_id, count)),
            MEMBERSHIPS.status == MembershipStatus.ACCEPTED.value,
        )
    )


@lru_cache(COUNTS_REMEMBERED)
def _many(count: int) -> Statement:
    return _of_groups(count, *SHOWN)


@lru_cache(COUNTS_REMEMBERED)
def _firsts(count: int) -> Statement:
    return _of_groups(count, MEMBERSHIPS.group_id, FIRST_SEQ)


@lru_cache(COUNTS_REMEMBERED)
def _shared(count: int) -> Statement:
    """What was before a member joined counts as read for them, and not as seen: only what they said is shown."""
    of_members = tables.memberships.join(tables.read_positions, OWN)
    return Statement(
        select(*SHARED)
        .select_from(of_members.join(tables.users, USERS.id == MEMBERSHIPS.user_id))
        .where(
            MEMBERSHIPS.group_id.in_(parameters(MEMBERSHIPS.group_id, count)),
            MEMBERSHIPS.status == MembershipStatus.ACCEPTED.value,
            USERS.shares_read_positions,
        )
        .order_by(MEMBERSHIPS.joined_seq)
    )


async def shared(transaction: Transaction, group_ids: Collection[UUID]) -> dict[UUID, dict[UUID, int]]:
    """For each of these groups how far its members said they have read, those who share it, in the order in which they
    joined. One statement.
    """
    found: dict[UUID, dict[UUID, int]] = {group_id: {} for group_id in group_ids}
    values = numbered(MEMBERSHIPS.group_id, found)
    for group_id, user_id, read_seq in await transaction.run(_shared(len(found)), values) if found else ():
        found[group_id][user_id] = read_seq
    return found


async def get_many(transaction: Transaction, user_id: UUID, group_ids: Collection[UUID]) -> dict[UUID, Unread]:
    """What the user has not read of each of these groups that they are a member of: two statements."""
    if not group_ids:
        return {}
    values = {"user": user_id, **numbered(MEMBERSHIPS.group_id, group_ids)}
    found = await transaction.run(_many(len(group_ids)), values)
    oldest = await messages.get_many(transaction, [first for *_, first, _ in found if first])
    return {
        group_id: Unread(read_seq, count, oldest.get(first), mentioning)
        for group_id, read_seq, count, first, mentioning in found
    }


async def firsts(transaction: Transaction, user_id: UUID, group_ids: Collection[UUID]) -> dict[UUID, int | None]:
    """The seq of the first unread message of each of these groups that the user is a member of, None where all is
    read.
    """
    values = {"user": user_id, **numbered(MEMBERSHIPS.group_id, group_ids)}
    found = await transaction.run(_firsts(len(group_ids)), values) if group_ids else []
    return {row[0]: row[1] for row in found}


async def kept(transaction: Transaction, user_id: UUID, group_id: UUID) -> int | None:
    """How far the user said they have read; None if they never did."""
    found = await transaction.first(KEPT, {"user": user_id, "group": group_id})
    return found[0] if found else None


async def keep(transaction: Transaction, user_id: UUID, group_id: UUID, read_seq: int, *, first: bool) -> None:
    """Write how far the user has read. `first`: there is no row yet. Call it under the lock of the user's log."""
    if first:
        await transaction.write(KEEP, {"user_id": user_id, "group_id": group_id, "read_seq": read_seq})
    else:
        await transaction.write(MOVE, {"user": user_id, "group": group_id, "read_seq": read_seq})
