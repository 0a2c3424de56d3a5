"""Pages by key: rows between two keys, of several groups in one statement. Knows nothing of the other rooms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Column, Select, select, union_all

from .engine import Transaction
from .statements import Row

GROUPS_PER_STATEMENT = 100  # a page of them; SQLite takes 500


class OfGroup(Protocol):
    @property
    def group_id(self) -> UUID: ...


Record = TypeVar("Record", bound=OfGroup)


@dataclass(frozen=True, slots=True)
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
    group_ids: Sequence[UUID],
    of_group: Callable[[UUID], Select[Any]],
    record: Callable[[Row], Record],
    key: Callable[[Record], int],
) -> dict[UUID, list[Record]]:
    """The page of each group, oldest first, in one statement for a hundred of them."""
    found: dict[UUID, list[Record]] = {group_id: [] for group_id in group_ids}
    for start in range(0, len(group_ids), GROUPS_PER_STATEMENT):
        parts = [select(of_group(group_id).subquery()) for group_id in group_ids[start : start + GROUPS_PER_STATEMENT]]
        for row in await transaction.execute(union_all(*parts)):
            each = record(row)
            found[each.group_id].append(each)
    return {group_id: sorted(rows, key=key) for group_id, rows in found.items()}
