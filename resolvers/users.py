"""People: registering, logging in and out, and what they say about themselves. Knows nothing of SQL or GraphQL."""

import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from db import events, users
from db.engine import Transaction
from db.records import User, UserEventKind
from frozen import frozen

from . import text
from .access import Viewer
from .refusals import ErrorCode, Refusal, bad_input, conflict, not_found
from .services import Services

TOKEN_BYTES = 32
LONGEST_TOKEN = 128


@frozen
class LoggedIn:
    """A fresh token: the only time that it is seen."""

    user: User
    token: str
    expires_at: datetime


@frozen
class Session:
    """A token that was good when it was read."""

    viewer: Viewer
    expires_at: datetime


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def authenticate(services: Services, token: str) -> Session | None:
    """Whose token this is, read from the database each time; None for one that is unknown, ended or expired, or of a
    disabled user.
    """
    if not 1 <= len(token) <= LONGEST_TOKEN or not text.is_carryable(token):
        return None
    async with services.glance() as transaction:
        found = await users.by_digest(transaction, digest(token))
        if found is None:
            return None
        owned, user = found
        good = owned.ended_at is None and owned.expires_at > transaction.now and user.disabled_at is None
        return Session(Viewer(user, owned.id), owned.expires_at) if good else None


@frozen
class Registration:
    """Who is to be registered, as they wrote it."""

    username: str
    password: str
    first_name: str
    last_name: str
    nickname: str | None = None
    avatar_url: str | None = None


async def register(services: Services, registration: Registration) -> LoggedIn:
    """A new user, logged in. Raises BAD_USER_INPUT, CONFLICT for a username that is taken."""
    new = await _checked(services, registration)

    async def work(transaction: Transaction) -> LoggedIn:
        return await _log_in(transaction, await _create(transaction, new), services.settings.token_days)

    return await services.write(work)


async def create(services: Services, registration: Registration) -> User:
    """As `register`, without a token."""
    new = await _checked(services, registration)
    return await services.write(lambda transaction: _create(transaction, new))


async def _checked(services: Services, registration: Registration) -> Mapping[str, Any]:
    """The columns of the new user. The password is hashed last: it costs most."""
    return {
        "username": text.new_username(registration.username),
        "first_name": text.person_name("firstName", registration.first_name),
        "last_name": text.person_name("lastName", registration.last_name),
        "nickname": text.nickname(registration.nickname),
        "avatar_url": text.avatar_url(registration.avatar_url),
        "password_hash": await services.hasher.hash(text.password(registration.password, "password")),
    }


async def _create(transaction: Transaction, columns: Mapping[str, Any]) -> User:
    if await users.by_username(transaction, columns["username"]):
        raise conflict("This username is taken.")
    user_id = uuid7()
    await users.create(transaction, id=user_id, **columns)
    return (await users.get_many(transaction, [user_id]))[user_id]


def wrong_password() -> Refusal:
    return Refusal(ErrorCode.UNAUTHENTICATED, "The username or the password is wrong.")


async def login(services: Services, *, username: str, password: str) -> LoggedIn:
    """A new token.

    One answer, in the same time, for a wrong password, an unknown or a disabled user: UNAUTHENTICATED.
    """
    name = username.lower() if text.USERNAME.fullmatch(username.lower()) else None
    async with services.read() as transaction:
        user = await users.by_username(transaction, name) if name else None
        known = await users.password_hash(transaction, user.id) if user and user.disabled_at is None else None
    given = password if len(password) <= text.MAX_PASSWORD_BYTES and text.is_carryable(password) else ""
    if not await services.hasher.verify(known, given) or user is None:
        raise wrong_password()
    return await issue_token(services, user, services.settings.token_days, proven=known)


async def issue_token(services: Services, user: User, days: int, *, proven: str | None = None) -> LoggedIn:
    """A token for a user whose right to it was proven (by the password whose hash is `proven`); beyond the bound the
    oldest ends.

    Raises NOT_FOUND if the user was disabled meanwhile.
    """

    async def work(transaction: Transaction) -> LoggedIn:
        logs = await events.lock_users(transaction, [user.id])
        if user.id not in logs.heads:
            raise not_found("user")
        if proven is not None and await users.password_hash(transaction, user.id) != proven:
            raise wrong_password()  # it was changed while it was being verified
        await users.drop_dead_tokens(transaction, user.id)
        if oldest := await users.tokens_beyond(transaction, user.id, services.settings.max_tokens_per_user - 1):
            _log_ended(logs, user.id, await users.end_tokens(transaction, user.id, only=oldest))
            await logs.write()
        return await _log_in(transaction, user, days)

    return await services.write(work)


async def _log_in(transaction: Transaction, user: User, days: int) -> LoggedIn:
    token = secrets.token_urlsafe(TOKEN_BYTES)
    expires_at = transaction.now + timedelta(days=days)
    await users.create_token(
        transaction, digest=digest(token), token_id=uuid7(), user_id=user.id, expires_at=expires_at
    )
    return LoggedIn(user, token, expires_at)


async def logout(services: Services, viewer: Viewer) -> None:
    """End the token of this request, on every node: open sockets learn it from the user's log."""

    async def work(transaction: Transaction) -> None:
        logs = await events.lock_users(transaction, [viewer.id])
        _log_ended(logs, viewer.id, await users.end_tokens(transaction, viewer.id, only=[viewer.token_id]))
        await logs.write()

    await services.write(work)


async def change_password(services: Services, viewer: Viewer, *, current: str, new: str) -> None:
    """Set the password and end every other token. Raises BAD_USER_INPUT for a wrong current password."""
    text.password(new, "newPassword")
    async with services.read() as transaction:
        known = await users.password_hash(transaction, viewer.id)
    given = current if len(current) <= text.MAX_PASSWORD_BYTES and text.is_carryable(current) else ""
    if not await services.hasher.verify(known, given):
        raise bad_input("The current password is wrong.", field="currentPassword")
    password_hash = await services.hasher.hash(new)

    async def work(transaction: Transaction) -> None:
        logs = await events.lock_users(transaction, [viewer.id])
        if viewer.id not in logs.heads or await users.password_hash(transaction, viewer.id) != known:
            raise conflict("The password was changed meanwhile. Log in again.")
        await users.change(transaction, viewer.id, password_hash=password_hash)
        _log_ended(logs, viewer.id, await users.end_tokens(transaction, viewer.id, but=viewer.token_id))
        await logs.write()

    await services.write(work)


async def disable(services: Services, username: str) -> bool:
    """End every token of the user and refuse new ones; memberships and messages stay. False if the user was disabled
    already.
    """

    async def work(transaction: Transaction) -> bool:
        user = await users.by_username(transaction, username.lower())
        if user is None:
            raise not_found("user")
        logs = await events.lock_users(transaction, [user.id])
        if user.id not in logs.heads:
            return False
        _log_ended(logs, user.id, await users.end_tokens(transaction, user.id))
        await logs.write()
        await users.change(transaction, user.id, disabled_at=transaction.now)
        return True

    return await services.write(work)


def _log_ended(logs: events.UserLogs, user_id: UUID, token_ids: Collection[UUID]) -> None:
    for token_id in token_ids:
        logs.append(user_id, UserEventKind.TOKEN_ENDED, actor_id=user_id, data={"token": token_id.hex})


def ended_token(data: Mapping[str, Any]) -> UUID:
    """Which token a TOKEN_ENDED event is about."""
    return UUID(hex=data["token"])


async def update(services: Services, viewer: Viewer, given: Mapping[str, Any]) -> User:
    """Change the fields that are given: firstName, lastName, sharesReadPositions (not null), nickname, avatarUrl (null
    clears). Raises BAD_USER_INPUT.
    """
    columns = {name: CHECKS[name](value) for name, value in given.items()}

    async def work(transaction: Transaction) -> User:
        if columns:
            await users.change(transaction, viewer.id, **columns)
        return (await users.get_many(transaction, [viewer.id]))[viewer.id]

    return await services.write(work)


def _checked_flag(value: bool | None) -> bool:
    if value is None:
        raise bad_input("sharesReadPositions must not be null.", field="sharesReadPositions")
    return value


CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "first_name": partial(text.person_name, "firstName"),
    "last_name": partial(text.person_name, "lastName"),
    "nickname": text.nickname,
    "avatar_url": text.avatar_url,
    "shares_read_positions": _checked_flag,
}


async def by_username(services: Services, username: str) -> User | None:
    """The user of that name that one can meet: a disabled one is nobody."""
    name = username.lower()
    if not text.USERNAME.fullmatch(name):
        return None
    async with services.read() as transaction:
        user = await users.by_username(transaction, name)
    return user if user and user.disabled_at is None else None


async def exists(services: Services) -> bool:
    """Whether anybody has registered yet."""
    async with services.read() as transaction:
        return await users.exists(transaction)


async def get_many(services: Services, ids: Collection[UUID]) -> Mapping[UUID, User]:
    async with services.read() as transaction:
        return await users.get_many(transaction, ids)
