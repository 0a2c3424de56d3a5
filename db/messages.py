"""Messages, and the ids that their senders gave them. Knows nothing of the other rooms."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, bindparam, insert, select, update

from . import rows, tables
from .engine import Transaction
from .pages import Keys, page, read
from .records import Message, SentId
from .statements import COUNTS_REMEMBERED, Statement, numbered, parameters

GROUPS = tables.groups.c
MESSAGES = tables.messages.c
SENT_IDS = tables.sent_ids.c

EVERY_MESSAGE = select(*rows.MESSAGE.columns)
WITHOUT_REPLIES = EVERY_MESSAGE.where(MESSAGES.thread_root_id.is_(None))
ADD = Statement(insert(tables.messages))
MESSAGE = MESSAGES.id == bindparam("message")
GET = Statement(select(*rows.MESSAGE.columns).where(MESSAGE))
CHANGING = ("version", "content", "updated_at", "deleted_at", "deleted_by", "edited_seq", "edited_at", "mentions")
CHANGE = Statement(update(tables.messages).where(MESSAGE).values({name: bindparam(name) for name in CHANGING}))
SENT_ID = Statement(
    select(*rows.SENT_ID.columns).where(
        SENT_IDS.sender_id == bindparam("sender"), SENT_IDS.client_message_id == bindparam("id")
    )
)
KEEP_SENT_ID = Statement(insert(tables.sent_ids))


async def get(transaction: Transaction, message_id: UUID) -> Message | None:
    found = await transaction.first(GET, {"message": message_id})
    return rows.message(found) if found else None


async def get_many(transaction: Transaction, ids: Collection[UUID]) -> dict[UUID, Message]:
    found = await transaction.execute(select(*rows.MESSAGE.columns).where(MESSAGES.id.in_(ids)))
    return {message.id: message for message in map(rows.message, found)}


async def pages(transaction: Transaction, group_ids: Sequence[UUID], keys: Keys) -> Mapping[UUID, list[Message]]:
    """For each group its messages between the keys (`seq`), oldest first."""
    return await _pages(transaction, group_ids, keys, EVERY_MESSAGE)


async def pages_without_replies(
    transaction: Transaction, group_ids: Sequence[UUID], keys: Keys
) -> Mapping[UUID, list[Message]]:
    """As `pages`, of what is no reply."""
    return await _pages(transaction, group_ids, keys, WITHOUT_REPLIES)


async def _pages(
    transaction: Transaction, group_ids: Sequence[UUID], keys: Keys, messages: Select[Any]
) -> Mapping[UUID, list[Message]]:
    def of_group(group_id: UUID) -> Select[Any]:
        return page(messages.where(MESSAGES.group_id == group_id), MESSAGES.seq, keys)

    return await read(transaction, group_ids, of_group, rows.message, attrgetter("group_id"), attrgetter("seq"))


@lru_cache(COUNTS_REMEMBERED)
def _newest(count: int) -> Statement:
    last = tables.messages.alias()
    seq = select(last.c.seq).where(last.c.group_id == GROUPS.id).order_by(last.c.seq.desc()).limit(1)
    newest = and_(MESSAGES.group_id == GROUPS.id, MESSAGES.seq == seq.correlate(tables.groups).scalar_subquery())
    return Statement(
        select(*rows.MESSAGE.columns)
        .select_from(tables.groups.join(tables.messages, newest))
        .where(GROUPS.id.in_(parameters(GROUPS.id, count)))
    )


async def newest(transaction: Transaction, group_ids: Collection[UUID]) -> dict[UUID, Message]:
    """The newest message of each of these groups that has one."""
    found = await transaction.run(_newest(len(group_ids)), numbered(GROUPS.id, group_ids)) if group_ids else []
    return {message.group_id: message for message in map(rows.message, found)}


async def add(transaction: Transaction, message: Message) -> None:
    await transaction.write(ADD, rows.MESSAGE.values(message))


async def change(transaction: Transaction, message: Message) -> None:
    """Write what may change of a message whose row is there."""
    await transaction.write(CHANGE, {"message": message.id} | {name: getattr(message, name) for name in CHANGING})


async def sent_id(transaction: Transaction, sender_id: UUID, client_message_id: str) -> SentId | None:
    found = await transaction.first(SENT_ID, {"sender": sender_id, "id": client_message_id})
    return rows.sent_id(found) if found else None


async def keep_sent_id(transaction: Transaction, message: Message, digest: bytes) -> None:
    """Remember what this id of this sender stands for.

    A racing twin in another group runs into the unique key and judges again.
    """
    values = {
        "sender_id": message.sender_id,
        "client_message_id": message.client_message_id,
        "group_id": message.group_id,
        "message_id": message.id,
        "digest": digest,
    }
    await transaction.write(KEEP_SENT_ID, values)
