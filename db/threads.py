"""Threads: a message and the replies to it. Knows nothing of the other rooms."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, insert, select, update

from . import rows, tables
from .engine import Transaction
from .pages import Keys, page, read
from .records import Message, Thread
from .statements import COUNTS_REMEMBERED, Row, Statement, numbered, parameters

MESSAGES = tables.messages.c
THREADS = tables.threads.c

SHOWN: tuple[ColumnElement[Any], ...] = (THREADS.root_id, THREADS.reply_count, THREADS.active_at, *rows.MESSAGE.columns)
OF_ROOT = THREADS.root_id == bindparam("root")
WITH_LAST_REPLY = tables.threads.outerjoin(tables.messages, MESSAGES.id == THREADS.last_reply_id)
GET = Statement(select(*SHOWN).select_from(WITH_LAST_REPLY).where(OF_ROOT))
LAST_REPLY = Statement(
    select(*rows.MESSAGE.columns)
    .where(
        MESSAGES.thread_root_id == bindparam("root"), MESSAGES.seq < bindparam("below"), MESSAGES.deleted_at.is_(None)
    )
    .order_by(MESSAGES.seq.desc())
    .limit(1)
)
KEEP = Statement(insert(tables.threads))
CHANGING = ("reply_count", "last_reply_id", "active_at")
CHANGE = Statement(update(tables.threads).where(OF_ROOT).values({name: bindparam(name) for name in CHANGING}))


@lru_cache(COUNTS_REMEMBERED)
def _many(count: int) -> Statement:
    return Statement(
        select(*SHOWN).select_from(WITH_LAST_REPLY).where(THREADS.root_id.in_(parameters(THREADS.root_id, count)))
    )


def _thread(row: Row) -> Thread:
    root_id, reply_count, active_at, *last_reply = row
    return Thread(root_id, reply_count, active_at, rows.optional(rows.message, last_reply))


async def get(transaction: Transaction, root_id: UUID) -> Thread | None:
    """The thread, None for a message that nobody has replied to."""
    found = await transaction.first(GET, {"root": root_id})
    return _thread(found) if found else None


async def get_many(transaction: Transaction, root_ids: Collection[UUID]) -> dict[UUID, Thread]:
    """The threads of those of these messages that have one: one statement."""
    found = await transaction.run(_many(len(root_ids)), numbered(THREADS.root_id, root_ids)) if root_ids else []
    return {thread.root_id: thread for thread in map(_thread, found)}


async def replies(transaction: Transaction, root_ids: Sequence[UUID], keys: Keys) -> Mapping[UUID, list[Message]]:
    """For each thread its replies between the keys (`seq`), oldest first; a statement for a hundred threads."""

    def of_root(root_id: UUID) -> Select[Any]:
        return page(select(*rows.MESSAGE.columns).where(MESSAGES.thread_root_id == root_id), MESSAGES.seq, keys)

    owner, key = attrgetter("thread_root_id"), attrgetter("seq")
    return await read(transaction, root_ids, of_root, rows.message, owner, key)


async def last_reply(transaction: Transaction, root_id: UUID, below: int) -> Message | None:
    """The newest reply below this seq that was not deleted: 10^5 deleted ones are 10 ms of SQLite's to step over."""
    found = await transaction.first(LAST_REPLY, {"root": root_id, "below": below})
    return rows.message(found) if found else None


async def keep(transaction: Transaction, thread: Thread, *, first: bool) -> None:
    """Write what is counted of the replies. `first`: there is no row yet. Call it under the lock of the group."""
    values = {
        "reply_count": thread.reply_count,
        "last_reply_id": thread.last_reply and thread.last_reply.id,
        "active_at": thread.active_at,
    }
    if first:
        await transaction.write(KEEP, {"root_id": thread.root_id, **values})
    else:
        await transaction.write(CHANGE, {"root": thread.root_id, **values})
