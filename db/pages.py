"""Pages by key: rows between two keys, of several owners in one statement. Knows nothing of the other rooms."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, Select, select, union_all

from frozen import frozen

from .engine import Transaction
from .statements import Row

PAGES_PER_STATEMENT = 100  # SQLite takes 500

Owner = TypeVar("Owner", bound=Hashable)
Record = TypeVar("Record")


@frozen
class Keys:
    """Rows with keys strictly between `after` and `before`: the last `limit` of them if `newest`, else the first."""

    after: int | None
    before: int | None
    limit: int
    newest: bool


def page(statement: Select[Any], key: Column[Any], keys: Keys) -> Select[Any]:
    """The statement cut to one page. It stops at its limit in the index of the key, whatever lies behind it."""
    if keys.after is not None:
        statement = statement.where(key > keys.after)
    if keys.before is not None:
        statement = statement.where(key < keys.before)
    return statement.order_by(key.desc() if keys.newest else key).limit(keys.limit)


async def read(
    transaction: Transaction,
    owners: Sequence[Owner],
    of_owner: Callable[[Owner], Select[Any]],
    record: Callable[[Row], Record],
    owner: Callable[[Record], Owner],
    key: Callable[[Record], int],
) -> dict[Owner, list[Record]]:
    """The page of each owner, oldest first, in one statement for a hundred of them."""
    found: dict[Owner, list[Record]] = {each: [] for each in owners}
    for start in range(0, len(owners), PAGES_PER_STATEMENT):
        parts = [select(of_owner(each).subquery()) for each in owners[start : start + PAGES_PER_STATEMENT]]
        for row in await transaction.execute(union_all(*parts)):
            each = record(row)
            found[owner(each)].append(each)
    return {each: sorted(rows, key=key) for each, rows in found.items()}
