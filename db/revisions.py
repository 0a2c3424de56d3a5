"""What messages said before they were edited. Knows nothing of the other rooms."""

from collections.abc import Collection
from functools import lru_cache
from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, select

from . import rows, tables
from .engine import Transaction
from .records import MessageRevision
from .statements import COUNTS_REMEMBERED, Statement, numbered, parameters

REVISIONS = tables.message_revisions.c

KEEP = Statement(insert(tables.message_revisions))
OF_MESSAGE = REVISIONS.message_id == bindparam("message")
COUNT = Statement(select(func.count()).select_from(tables.message_revisions).where(OF_MESSAGE))
REMOVE = Statement(delete(tables.message_revisions).where(OF_MESSAGE))


@lru_cache(COUNTS_REMEMBERED)
def _many(count: int) -> Statement:
    of_messages = REVISIONS.message_id.in_(parameters(REVISIONS.message_id, count))
    return Statement(select(*rows.MESSAGE_REVISION.columns).where(of_messages).order_by(REVISIONS.version))


async def of_messages(transaction: Transaction, ids: Collection[UUID]) -> dict[UUID, list[MessageRevision]]:
    """What each of these messages said before, oldest first, in one statement. How many one can have has a bound."""
    found: dict[UUID, list[MessageRevision]] = {message_id: [] for message_id in ids}
    for row in await transaction.run(_many(len(found)), numbered(REVISIONS.message_id, found)) if found else ():
        revision = rows.message_revision(row)
        found[revision.message_id].append(revision)
    return found


async def count(transaction: Transaction, message_id: UUID) -> int:
    (found,) = await transaction.run(COUNT, {"message": message_id})
    return found[0]


async def keep(transaction: Transaction, revision: MessageRevision) -> None:
    await transaction.write(KEEP, rows.MESSAGE_REVISION.values(revision))


async def remove(transaction: Transaction, message_id: UUID) -> None:
    await transaction.write(REMOVE, {"message": message_id})
