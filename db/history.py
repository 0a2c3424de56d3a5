"""Places in the messages of groups, and what lies around them. Knows nothing of the other rooms."""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Select, bindparam, case, cast, literal, select, union_all

from . import rows, tables
from .engine import Transaction
from .messages import EVERY_MESSAGE, WITHOUT_REPLIES
from .pages import Keys, page, read
from .records import Message
from .statements import COUNTS_REMEMBERED, Statement, numbered, parameters

GROUPS = tables.groups.c
MESSAGES = tables.messages.c


@lru_cache(COUNTS_REMEMBERED)
def _since(count: int) -> Statement:
    """In each group, halve what may hold the place until one seq is left. Moments rise with seq, because the clock of a
    log never goes back: 17 steps for 10^5 messages, 0.05 ms on SQLite where reading on to the moment takes 26, and no
    index that every send would have to write.
    """
    search = (
        select(GROUPS.id, cast(literal(1), BigInteger).label("low"), (GROUPS.head_seq + 1).label("high"))
        .where(GROUPS.id.in_(parameters(GROUPS.id, count)))
        .cte("search", recursive=True)
    )
    middle = (search.c.low + search.c.high) // 2
    next_moment = (
        select(MESSAGES.created_at)
        .where(MESSAGES.group_id == search.c.id, MESSAGES.seq >= middle)
        .order_by(MESSAGES.seq)
        .limit(1)
        .correlate(search)
        .scalar_subquery()
    )
    is_earlier = next_moment < bindparam("date", type_=MESSAGES.created_at.type)
    low = case((is_earlier, middle + 1), else_=search.c.low)
    high = case((is_earlier, search.c.high), else_=middle)
    whole = search.union_all(select(search.c.id, low, high).where(search.c.low < search.c.high))
    return Statement(whole.select().where(whole.c.low == whole.c.high))


async def since(transaction: Transaction, group_ids: Collection[UUID], date: datetime) -> dict[UUID, int]:
    """For each of these groups a seq that no message before this moment reaches, and every other one does: one
    statement.
    """
    values = {"date": date, **numbered(GROUPS.id, group_ids)}
    found = await transaction.run(_since(len(group_ids)), values) if group_ids else []
    return {row[0]: row[1] for row in found}


async def around(
    transaction: Transaction, places: Mapping[UUID, int], limit: int, *, replies: bool
) -> dict[UUID, list[Message]]:
    """For each group up to `limit` messages below its place (a seq) and up to `limit` from there on, oldest first;
    without `replies` only those that are none.
    """
    messages = EVERY_MESSAGE if replies else WITHOUT_REPLIES

    def of_group(group_id: UUID) -> Select[Any]:
        own, place = messages.where(MESSAGES.group_id == group_id), places[group_id]
        before = page(own, MESSAGES.seq, Keys(None, place, limit, newest=True))
        rest = page(own, MESSAGES.seq, Keys(place - 1, None, limit, newest=False))
        return select(union_all(select(before.subquery()), select(rest.subquery())).subquery())

    return await read(transaction, list(places), of_group, rows.message, attrgetter("group_id"), attrgetter("seq"))
