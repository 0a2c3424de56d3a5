"""Whom messages mention: who can be, and by whom they are found. Knows nothing of the other rooms."""

from collections.abc import Collection
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, insert, select, update

from . import tables
from .engine import Transaction
from .records import MembershipStatus, Mentioned, Message
from .statements import COUNTS_REMEMBERED, Statement, numbered, parameters

MEMBERSHIPS = tables.memberships.c
MENTIONS = tables.mentions.c
USERS = tables.users.c

OF_MESSAGE = and_(
    MENTIONS.whom_id == bindparam("whom"), MENTIONS.group_id == bindparam("group"), MENTIONS.seq == bindparam("seq")
)
NAMED: tuple[ColumnElement[Any], ...] = (USERS.username, USERS.id)
KEEP = Statement(insert(tables.mentions))
CHANGE = Statement(update(tables.mentions).where(OF_MESSAGE).values(present=bindparam("present")))


@lru_cache(COUNTS_REMEMBERED)
def _named(count: int) -> Statement:
    return Statement(
        select(*NAMED)
        .join_from(tables.users, tables.memberships, MEMBERSHIPS.user_id == USERS.id)
        .where(
            USERS.username.in_(parameters(USERS.username, count)),
            MEMBERSHIPS.group_id == bindparam("group"),
            MEMBERSHIPS.status == MembershipStatus.ACCEPTED.value,
        )
    )


async def named(transaction: Transaction, group_id: UUID, usernames: Collection[str]) -> dict[str, UUID]:
    """The members of the group that have one of these names, in one statement."""
    values = {"group": group_id, **numbered(USERS.username, usernames)}
    return {row[0]: row[1] for row in await transaction.run(_named(len(usernames)), values)}


async def keep(transaction: Transaction, message: Message, mentioned: Collection[Mentioned]) -> None:
    """Write that the message mentions these, who it has not mentioned before."""
    of_message = {
        "group_id": message.group_id,
        "seq": message.seq,
        "sender_id": message.sender_id,
        "created_at": message.created_at,
    }
    values = [
        of_message | {"whom_id": each.user_id or message.group_id, "since": each.since, "present": True}
        for each in mentioned
    ]
    if values:
        await transaction.run_many(KEEP, values)


async def change(transaction: Transaction, message: Message, mentioned: Collection[Mentioned]) -> None:
    """Write whether the message mentions these now."""
    of_message = {"group": message.group_id, "seq": message.seq}
    values = [
        of_message | {"whom": each.user_id or message.group_id, "present": bool(each.places)} for each in mentioned
    ]
    if values:
        await transaction.run_many(CHANGE, values)
