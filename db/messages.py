"""Messages, and the ids that their senders gave them. Knows nothing of the other rooms."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import Select, insert, select, union_all

from . import rows, tables
from .engine import Transaction
from .records import Message, SentId

MESSAGES = tables.messages.c
SENT_IDS = tables.sent_ids.c


async def get_many(transaction: Transaction, ids: Collection[UUID]) -> dict[UUID, Message]:
    found = await transaction.execute(select(*rows.MESSAGE.columns).where(MESSAGES.id.in_(ids)))
    return {message.id: message for message in map(rows.message, found)}


async def pages(
    transaction: Transaction,
    group_ids: Sequence[UUID],
    *,
    after: int | None,
    before: int | None,
    limit: int,
    newest: bool,
) -> Mapping[UUID, list[Message]]:
    """For each group the messages with `seq` strictly between the two keys, oldest first; the last `limit` with
    `newest`, else the first.

    One statement for all groups (at most 100 of them: a page): each part stops at its limit in the index, whatever lies
    behind it.
    """
    parts = [_page(group_id, after, before, limit, newest).subquery() for group_id in group_ids]
    found: dict[UUID, list[Message]] = {group_id: [] for group_id in group_ids}
    for row in await transaction.execute(union_all(*(select(part) for part in parts))):
        message = rows.message(row)
        found[message.group_id].append(message)
    return {group_id: sorted(page, key=lambda message: message.seq) for group_id, page in found.items()}


def _page(group_id: UUID, after: int | None, before: int | None, limit: int, newest: bool) -> Select[tuple[Message]]:
    statement = select(*rows.MESSAGE.columns).where(MESSAGES.group_id == group_id)
    if after is not None:
        statement = statement.where(MESSAGES.seq > after)
    if before is not None:
        statement = statement.where(MESSAGES.seq < before)
    return statement.order_by(MESSAGES.seq.desc() if newest else MESSAGES.seq).limit(limit)


async def add(transaction: Transaction, message: Message) -> None:
    await transaction.execute(
        insert(tables.messages).values({column.name: getattr(message, column.name) for column in rows.MESSAGE.columns})
    )


async def sent_id(transaction: Transaction, sender_id: UUID, client_message_id: str) -> SentId | None:
    statement = select(*rows.SENT_ID.columns).where(
        SENT_IDS.sender_id == sender_id, SENT_IDS.client_message_id == client_message_id
    )
    found = (await transaction.execute(statement)).first()
    return rows.sent_id(found) if found else None


async def keep_sent_id(transaction: Transaction, message: Message, digest: bytes) -> None:
    """Remember what this id of this sender stands for.

    A racing twin in another group runs into the unique key and judges again.
    """
    await transaction.execute(
        insert(tables.sent_ids).values(
            sender_id=message.sender_id,
            client_message_id=message.client_message_id,
            group_id=message.group_id,
            message_id=message.id,
            digest=digest,
        )
    )
