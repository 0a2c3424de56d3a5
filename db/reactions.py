"""Who reacted to which message with what. Knows nothing of the other rooms."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, bindparam, delete, func, insert, select

from . import rows, tables
from .engine import Transaction
from .pages import Keys, page, read
from .records import Reacted, Reaction
from .statements import COUNTS_REMEMBERED, Statement, numbered, parameters

REACTIONS = tables.reactions.c

OF_MESSAGE = REACTIONS.message_id == bindparam("message")
WITH_EMOJI = and_(OF_MESSAGE, REACTIONS.emoji == bindparam("emoji"))
OF_USER = and_(WITH_EMOJI, REACTIONS.user_id == bindparam("user"))
KEPT = Statement(select(REACTIONS.seq).where(OF_USER))
USED = Statement(select(REACTIONS.seq).where(WITH_EMOJI).limit(1))
COUNT = Statement(select(func.count(REACTIONS.emoji.distinct())).where(OF_MESSAGE))
KEEP = Statement(insert(tables.reactions))
REMOVE = Statement(delete(tables.reactions).where(OF_USER))
REMOVE_ALL = Statement(delete(tables.reactions).where(OF_MESSAGE))


@lru_cache(COUNTS_REMEMBERED)
def _many(count: int) -> Statement:
    """The index gives the counts in their order; whether one is the user's own is found by key."""
    counted = (
        select(
            REACTIONS.message_id, REACTIONS.emoji, func.count().label("count"), func.min(REACTIONS.seq).label("first")
        )
        .where(REACTIONS.message_id.in_(parameters(REACTIONS.message_id, count)))
        .group_by(REACTIONS.message_id, REACTIONS.emoji)
        .subquery()
    )
    own = tables.reactions.alias("own")
    is_own = and_(
        own.c.message_id == counted.c.message_id, own.c.emoji == counted.c.emoji, own.c.user_id == bindparam("user")
    )
    shown: tuple[ColumnElement[Any], ...] = (*counted.c[:3], own.c.user_id)
    return Statement(select(*shown).select_from(counted.outerjoin(own, is_own)).order_by(counted.c.first))


async def of_messages(
    transaction: Transaction, ids: Collection[UUID], user_id: UUID | None
) -> dict[UUID, list[Reaction]]:
    """The reactions to each of these messages by what they were, the oldest first, in one statement."""
    found: dict[UUID, list[Reaction]] = {message_id: [] for message_id in ids}
    values = {"user": user_id, **numbered(REACTIONS.message_id, found)}
    for message_id, emoji, number, own_id in await transaction.run(_many(len(found)), values) if found else ():
        found[message_id].append(Reaction(message_id, emoji, number, own_id))
    return found


async def pages(
    transaction: Transaction, of: Sequence[tuple[UUID, str]], keys: Keys
) -> Mapping[tuple[UUID, str], list[Reacted]]:
    """For each (message, emoji) who reacted so between the keys (`seq`), in that order; a statement for a hundred."""

    def of_emoji(each: tuple[UUID, str]) -> Select[Any]:
        message_id, emoji = each
        reacted = select(*rows.REACTED.columns).where(REACTIONS.message_id == message_id, REACTIONS.emoji == emoji)
        return page(reacted, REACTIONS.seq, keys)

    return await read(transaction, of, of_emoji, rows.reacted, attrgetter("message_id", "emoji"), attrgetter("seq"))


async def is_kept(transaction: Transaction, message_id: UUID, user_id: UUID, emoji: str) -> bool:
    """Whether the user reacted so."""
    return await transaction.first(KEPT, {"message": message_id, "user": user_id, "emoji": emoji}) is not None


async def is_used(transaction: Transaction, message_id: UUID, emoji: str) -> bool:
    """Whether anybody reacted so."""
    return await transaction.first(USED, {"message": message_id, "emoji": emoji}) is not None


async def count(transaction: Transaction, message_id: UUID) -> int:
    """How many different emoji there are at the message."""
    (found,) = await transaction.run(COUNT, {"message": message_id})
    return found[0]


async def keep(transaction: Transaction, reacted: Reacted) -> None:
    await transaction.write(KEEP, rows.REACTED.values(reacted))


async def remove(transaction: Transaction, message_id: UUID, user_id: UUID, emoji: str) -> None:
    await transaction.write(REMOVE, {"message": message_id, "user": user_id, "emoji": emoji})


async def remove_all(transaction: Transaction, message_id: UUID) -> None:
    await transaction.write(REMOVE_ALL, {"message": message_id})
