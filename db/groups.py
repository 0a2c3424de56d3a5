"""Groups: their rows, their locks, and the list of one user's. Knows nothing of the other rooms."""

from collections.abc import Collection
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, case, func, insert, or_, select
from sqlalchemy.orm import aliased

from . import rows, tables
from .engine import Transaction
from .records import Group, MembershipStatus
from .statements import COUNTS_REMEMBERED, Statement, numbered, parameters

GROUPS = tables.groups.c
MEMBERSHIPS = tables.memberships.c

LOCK = Statement(select(*rows.GROUP.columns).where(GROUPS.id == bindparam("group")).with_for_update(key_share=True))
CREATE = Statement(insert(tables.groups))


@lru_cache(COUNTS_REMEMBERED)
def _many(count: int) -> Statement:
    return Statement(select(*rows.GROUP.columns).where(GROUPS.id.in_(parameters(GROUPS.id, count))))


async def get_many(transaction: Transaction, ids: Collection[UUID]) -> dict[UUID, Group]:
    found = await transaction.run(_many(len(ids)), numbered(GROUPS.id, ids)) if ids else []
    return {group.id: group for group in map(rows.group, found)}


async def lock(transaction: Transaction, group_id: UUID) -> Group | None:
    """The group with its log's end locked until the transaction ends. Whatever is judged is read after this."""
    found = await transaction.first(LOCK, {"group": group_id})
    transaction.was_waited_for()
    return rows.group(found) if found else None


async def create(transaction: Transaction, *, group_id: UUID, name: str, description: str, created_by: UUID) -> Group:
    """A group with an empty log. Nobody else can know it yet, so it needs no lock."""
    group = Group(
        id=group_id,
        name=name,
        description=description,
        created_by=created_by,
        created_at=transaction.now,
        updated_at=transaction.now,
        deleted_at=None,
        member_count=0,
        head_seq=0,
        head_nonce=0,
        access_seq=0,
        active_at=transaction.now,
    )
    await transaction.write(CREATE, rows.GROUP.values(group))
    return group


def _member_of(user_id: UUID) -> ColumnElement[bool]:
    return and_(
        MEMBERSHIPS.user_id == user_id,
        MEMBERSHIPS.status == MembershipStatus.ACCEPTED.value,
        GROUPS.deleted_at.is_(None),
    )


async def all_of(transaction: Transaction, user_id: UUID) -> list[Group]:
    """Every group that the user is a member of, most recently active first. Their number has a bound (1,000)."""
    statement = (
        select(*rows.GROUP.columns)
        .join_from(tables.memberships, tables.groups)
        .where(_member_of(user_id))
        .order_by(GROUPS.active_at.desc(), GROUPS.id)
    )
    return [rows.group(row) for row in await transaction.execute(statement)]


async def count_of(transaction: Transaction, user_id: UUID) -> int:
    statement = select(func.count()).select_from(tables.memberships.join(tables.groups)).where(_member_of(user_id))
    return (await transaction.execute(statement)).scalar_one()


async def page_of(
    transaction: Transaction, user_id: UUID, *, as_of: datetime | None, after: tuple[datetime, UUID] | None, limit: int
) -> list[tuple[Group, datetime]]:
    """Groups of the user with their last activity, most recent first, as that order was at `as_of`.

    Groups move to the top while people page through them; ordering every page by the activity up to the moment of the
    first page keeps each group in its place: nothing is missed and nothing comes twice.
    """
    active_at = GROUPS.active_at if as_of is None else _active_until(as_of)
    inner = (
        select(*rows.GROUP.columns, active_at.label("active_then"))
        .join_from(tables.memberships, tables.groups)
        .where(_member_of(user_id))
        .subquery()
    )
    then = inner.c.active_then
    statement = select(inner).where(then.is_not(None)).order_by(then.desc(), inner.c.id).limit(limit)
    if after is not None:
        moment, group_id = after
        statement = statement.where(or_(then < moment, and_(then == moment, inner.c.id > group_id)))
    return [(rows.group(row[:-1]), row[-1]) for row in await transaction.execute(statement)]


def _active_until(moment: datetime) -> ColumnElement[datetime]:
    """The time of the last event up to `moment`: a look back over what came since, in the few groups where anything
    did.
    """
    events = aliased(tables.group_events)
    last = (
        select(events.c.occurred_at)
        .where(events.c.group_id == GROUPS.id, events.c.occurred_at <= moment)
        .order_by(events.c.seq.desc())
        .limit(1)
        .correlate(tables.groups)
        .scalar_subquery()
    )
    return case((GROUPS.active_at <= moment, GROUPS.active_at), else_=last)
