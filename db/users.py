"""Users and their tokens. Knows nothing of the other rooms."""

from collections.abc import Collection
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, delete, insert, or_, select, update

from . import rows, tables
from .engine import Transaction
from .records import Token, User
from .statements import COUNTS_REMEMBERED, Statement, numbered, parameters

USERS = tables.users.c
TOKENS = tables.tokens.c

BY_DIGEST = Statement(
    select(*rows.TOKEN.columns, *rows.USER.columns)
    .join_from(tables.tokens, tables.users)
    .where(TOKENS.digest == bindparam("digest"))
)


@lru_cache(COUNTS_REMEMBERED)
def _many(count: int) -> Statement:
    return Statement(select(*rows.USER.columns).where(USERS.id.in_(parameters(USERS.id, count))))


async def get_many(transaction: Transaction, ids: Collection[UUID]) -> dict[UUID, User]:
    """The users of these ids that exist, disabled ones included (their messages are still shown)."""
    found = await transaction.run(_many(len(ids)), numbered(USERS.id, ids)) if ids else []
    return {user.id: user for user in map(rows.user, found)}


async def exists(transaction: Transaction) -> bool:
    """Whether there is any user at all."""
    return (await transaction.execute(select(USERS.id).limit(1))).first() is not None


async def by_username(transaction: Transaction, username: str) -> User | None:
    found = (await transaction.execute(select(*rows.USER.columns).where(USERS.username == username))).first()
    return rows.user(found) if found else None


async def password_hash(transaction: Transaction, user_id: UUID) -> str | None:
    return (await transaction.execute(select(USERS.password_hash).where(USERS.id == user_id))).scalar_one_or_none()


async def create(transaction: Transaction, **columns: Any) -> None:
    await transaction.execute(insert(tables.users).values(created_at=transaction.now, head_seq=0, **columns))


async def change(transaction: Transaction, user_id: UUID, **columns: Any) -> None:
    await transaction.execute(update(tables.users).where(USERS.id == user_id).values(**columns))


async def create_token(
    transaction: Transaction, *, digest: bytes, token_id: UUID, user_id: UUID, expires_at: datetime
) -> None:
    await transaction.execute(
        insert(tables.tokens).values(
            digest=digest, id=token_id, user_id=user_id, created_at=transaction.now, expires_at=expires_at
        )
    )


async def by_digest(transaction: Transaction, digest: bytes) -> tuple[Token, User] | None:
    """The token of this digest, whatever became of it, and its user: one statement."""
    found = await transaction.first(BY_DIGEST, {"digest": digest})
    return (rows.token(found[: rows.TOKEN.width]), rows.user(found[rows.TOKEN.width :])) if found else None


async def drop_dead_tokens(transaction: Transaction, user_id: UUID) -> None:
    """Forget the tokens of a user that have ended or expired: nothing asks for them again."""
    dead = or_(TOKENS.ended_at.is_not(None), TOKENS.expires_at <= transaction.now)
    await transaction.execute(delete(tables.tokens).where(TOKENS.user_id == user_id, dead))


async def tokens_beyond(transaction: Transaction, user_id: UUID, kept: int) -> list[UUID]:
    """The tokens of a user beyond the `kept` newest."""
    newest_first = select(TOKENS.id).where(TOKENS.user_id == user_id).order_by(TOKENS.created_at.desc(), TOKENS.id)
    return list((await transaction.execute(newest_first.offset(kept))).scalars())


async def end_tokens(
    transaction: Transaction, user_id: UUID, *, only: Collection[UUID] | None = None, but: UUID | None = None
) -> list[UUID]:
    """End the tokens of a user that are still good (only some of them, or all but one) and say which."""
    statement = update(tables.tokens).where(TOKENS.user_id == user_id, TOKENS.ended_at.is_(None))
    if only is not None:
        statement = statement.where(TOKENS.id.in_(only))
    if but is not None:
        statement = statement.where(TOKENS.id != but)
    ended = await transaction.execute(statement.values(ended_at=transaction.now).returning(TOKENS.id))
    return list(ended.scalars())
