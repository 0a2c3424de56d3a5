"""Who is what in which group. Knows nothing of the other rooms."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, bindparam, delete, func, insert, select, tuple_, update

from . import rows, tables
from .engine import Transaction
from .pages import Keys, page, read
from .records import Membership, MembershipStatus, Standing, User, UserEvent
from .statements import COUNTS_REMEMBERED, Statement, numbered, padded, parameters

GROUPS = tables.groups.c
MEMBERSHIPS = tables.memberships.c
USER_EVENTS = tables.user_events.c
PENDING = MembershipStatus.PENDING.value
ACCEPTED = MembershipStatus.ACCEPTED.value

GET = Statement(
    select(*rows.MEMBERSHIP.columns).where(
        MEMBERSHIPS.group_id == bindparam("group"), MEMBERSHIPS.user_id == bindparam("user")
    )
)


ACTING = Statement(
    select(*rows.MEMBERSHIP.columns, *rows.USER.columns)
    .join_from(tables.memberships, tables.users, tables.users.c.id == MEMBERSHIPS.user_id)
    .where(MEMBERSHIPS.group_id == bindparam("group"), MEMBERSHIPS.user_id == bindparam("user"))
)


@lru_cache(COUNTS_REMEMBERED)
def _standings(count: int) -> Statement:
    own = and_(MEMBERSHIPS.group_id == GROUPS.id, MEMBERSHIPS.user_id == bindparam("user"))
    return Statement(
        select(*rows.GROUP.columns, *rows.MEMBERSHIP.columns)
        .select_from(tables.groups.outerjoin(tables.memberships, own))
        .where(GROUPS.id.in_(parameters(GROUPS.id, count)))
    )


async def standings(transaction: Transaction, user_id: UUID, group_ids: Collection[UUID]) -> dict[UUID, Standing]:
    """What the user is in each of these groups: group and membership from one statement."""
    if not group_ids:
        return {}
    width, values = rows.GROUP.width, {"user": user_id, **numbered(GROUPS.id, group_ids)}
    found = [
        (rows.group(row[:width]), rows.optional(rows.membership, row[width:]))
        for row in await transaction.run(_standings(len(group_ids)), values)
    ]
    return {group.id: Standing(group, membership) for group, membership in found}


async def get(transaction: Transaction, group_id: UUID, user_id: UUID) -> Membership | None:
    found = await transaction.first(GET, {"group": group_id, "user": user_id})
    return rows.membership(found) if found else None


@lru_cache(COUNTS_REMEMBERED)
def _of_users(count: int) -> Statement:
    of_users = MEMBERSHIPS.user_id.in_(parameters(MEMBERSHIPS.user_id, count))
    return Statement(select(*rows.MEMBERSHIP.columns).where(MEMBERSHIPS.group_id == bindparam("group"), of_users))


async def of_users(transaction: Transaction, group_id: UUID, user_ids: Iterable[UUID]) -> dict[UUID, Membership]:
    """What these users, one at least, are in one group."""
    wanted = padded(user_ids)
    values = {"group": group_id, **numbered(MEMBERSHIPS.user_id, wanted)}
    found = map(rows.membership, await transaction.run(_of_users(len(wanted)), values))
    return {membership.user_id: membership for membership in found}


async def acting(transaction: Transaction, group_id: UUID, user_id: UUID) -> tuple[Membership, User] | None:
    """The membership with its user."""
    found = await transaction.first(ACTING, {"group": group_id, "user": user_id})
    if found is None:
        return None
    return rows.membership(found[: rows.MEMBERSHIP.width]), rows.user(found[rows.MEMBERSHIP.width :])


async def get_many(
    transaction: Transaction, keys: Collection[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], Membership]:
    """Memberships by (group, user)."""
    statement = select(*rows.MEMBERSHIP.columns).where(
        tuple_(MEMBERSHIPS.group_id, MEMBERSHIPS.user_id).in_(list(keys))
    )
    found = map(rows.membership, await transaction.execute(statement))
    return {(membership.group_id, membership.user_id): membership for membership in found}


async def pending_in(transaction: Transaction, group_id: UUID) -> list[Membership]:
    statement = select(*rows.MEMBERSHIP.columns).where(MEMBERSHIPS.group_id == group_id, MEMBERSHIPS.status == PENDING)
    return [rows.membership(row) for row in await transaction.execute(statement)]


async def count_pending_in(transaction: Transaction, group_id: UUID) -> int:
    statement = select(func.count()).where(MEMBERSHIPS.group_id == group_id, MEMBERSHIPS.status == PENDING)
    return (await transaction.execute(statement)).scalar_one()


async def invitations_of(transaction: Transaction, user_id: UUID) -> list[UserEvent]:
    """The user's open invitations, as the events that made them, oldest first. Their number has a bound (100)."""
    made_by = and_(USER_EVENTS.user_id == MEMBERSHIPS.user_id, USER_EVENTS.seq == MEMBERSHIPS.invitation_seq)
    statement = (
        select(*rows.USER_EVENT.columns)
        .select_from(tables.memberships.join(tables.user_events, made_by))
        .where(MEMBERSHIPS.user_id == user_id, MEMBERSHIPS.status == PENDING)
        .order_by(USER_EVENTS.seq)
    )
    return [rows.user_event(row) for row in await transaction.execute(statement)]


async def count_invitations_of(transaction: Transaction, user_id: UUID) -> int:
    statement = select(func.count()).where(MEMBERSHIPS.user_id == user_id, MEMBERSHIPS.status == PENDING)
    return (await transaction.execute(statement)).scalar_one()


async def count_with_role(transaction: Transaction, group_id: UUID, role: str) -> int:
    """How many members of the group have this role."""
    statement = select(func.count()).where(
        MEMBERSHIPS.group_id == group_id, MEMBERSHIPS.status == ACCEPTED, MEMBERSHIPS.role == role
    )
    return (await transaction.execute(statement)).scalar_one()


async def pages(transaction: Transaction, group_ids: Sequence[UUID], keys: Keys) -> Mapping[UUID, list[Membership]]:
    """For each group its members between the keys (`joined_seq`), in the order in which they joined."""

    def of_group(group_id: UUID) -> Select[Any]:
        members = and_(MEMBERSHIPS.group_id == group_id, MEMBERSHIPS.status == ACCEPTED)
        return page(select(*rows.MEMBERSHIP.columns).where(members), MEMBERSHIPS.joined_seq, keys)

    return await read(
        transaction, group_ids, of_group, rows.membership, attrgetter("group_id"), attrgetter("joined_seq")
    )


async def put(transaction: Transaction, memberships: Sequence[Membership]) -> None:
    """Insert these memberships."""
    if memberships:
        await transaction.execute(insert(tables.memberships), [_columns(membership) for membership in memberships])


async def change(transaction: Transaction, membership: Membership) -> None:
    """Write every column of a membership whose row is there."""
    statement = update(tables.memberships).where(
        MEMBERSHIPS.group_id == membership.group_id, MEMBERSHIPS.user_id == membership.user_id
    )
    await transaction.execute(statement.values(_columns(membership)))


async def remove(transaction: Transaction, group_id: UUID, user_ids: Collection[UUID]) -> None:
    await transaction.execute(
        delete(tables.memberships).where(MEMBERSHIPS.group_id == group_id, MEMBERSHIPS.user_id.in_(user_ids))
    )


def _columns(membership: Membership) -> dict[str, Any]:
    values = {column.name: getattr(membership, column.name) for column in rows.MEMBERSHIP.columns}
    return values | {"status": membership.status.value, "role": membership.role.value}
