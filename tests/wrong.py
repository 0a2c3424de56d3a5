"""Parley with one rule broken, for each rule of the log: what somebody in a hurry would write. See `tests.sabotage`."""
# pyright: reportPrivateUsage=false

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import repeat
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, and_, delete, event, exists, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from db import events, faults, groups, memberships, messages, postgres, rows, sqlite, tables, users
from db.engine import Database, Transaction
from db.events import GroupLog, UserLogs
from db.records import Group, MemberRole, Membership, MembershipStatus, Message, Standing, User
from db.statements import Statement, Values
from db.transactions import LoopTransaction
from resolvers import access, reader, resuming
from resolvers import groups as deleting
from resolvers import messages as sending
from resolvers.access import Operation, Viewer, judge
from resolvers.cursors import Position, invalid_position
from resolvers.messages import Sent
from resolvers.services import Services
from tests.sabotage import Version, Work, always

GROUPS, MEMBERSHIPS = tables.groups.c, tables.memberships.c


# Rule 1


async def _locked_and_judged_at_once(
    transaction: Transaction, viewer_id: UUID, group_id: UUID, operation: Operation
) -> tuple[GroupLog, Membership]:
    own = and_(MEMBERSHIPS.group_id == GROUPS.id, MEMBERSHIPS.user_id == viewer_id)
    statement = (
        select(*rows.GROUP.columns, *rows.MEMBERSHIP.columns)
        .select_from(tables.groups.outerjoin(tables.memberships, own))
        .where(GROUPS.id == group_id)
        .with_for_update(of=tables.groups, key_share=True)
    )
    row = (await transaction.execute(statement)).one()
    group = rows.group(row[: rows.GROUP.width])
    membership = rows.optional(rows.membership, row[rows.GROUP.width :])
    judge(Standing(group, membership), operation)
    assert membership is not None
    return GroupLog(transaction, group), membership


JUDGES_IN_THE_STATEMENT_THAT_LOCKS = Version(
    "judges in the statement that locks",
    (
        ("resolvers.messages.locked", _locked_and_judged_at_once),
        ("resolvers.memberships.locked", _locked_and_judged_at_once),
    ),
)


async def _sent_by_an_earlier_judgement(
    services: Services, viewer: Viewer, group_id: UUID, *, content: str, client_message_id: str | None, **_: Any
) -> Sent:
    async with services.read() as transaction:
        own = (await access.readable(transaction, viewer.id, group_id)).membership

    async def work(transaction: Transaction) -> Sent:
        group = await groups.lock(transaction, group_id)
        assert group is not None
        assert own is not None
        log = GroupLog(transaction, group)
        message = await sending._append(transaction, log, own, content, client_message_id)
        await log.write()
        return Sent(message, replayed=False)

    return await services.write(work)


JUDGES_BEFORE_IT_LOCKS = Version(
    "judges before it locks", (("resolvers.messages.send", _sent_by_an_earlier_judgement),)
)

# Rule 2


async def _lock_by_taking_the_number(transaction: Transaction, group_id: UUID) -> Group | None:
    statement = (
        update(tables.groups)
        .where(GROUPS.id == group_id)
        .values(head_seq=GROUPS.head_seq + 1)
        .returning(*rows.GROUP.columns)
    )
    found = (await transaction.execute(statement)).first()
    return replace(group := rows.group(found), head_seq=group.head_seq - 1) if found else None


TAKES_THE_NUMBER_FIRST = Version("takes the number first", (("db.groups.lock", _lock_by_taking_the_number),))


async def _keep_sent_id_unless_taken(transaction: Transaction, message: Message, digest: bytes) -> None:
    sent = tables.sent_ids.c
    taken = exists().where(sent.sender_id == message.sender_id, sent.client_message_id == message.client_message_id)
    if not (await transaction.execute(select(taken))).scalar_one():
        values = {
            "sender_id": message.sender_id,
            "client_message_id": message.client_message_id,
            "group_id": message.group_id,
            "message_id": message.id,
            "digest": digest,
        }
        await transaction.execute(_insert_or_nothing(transaction).values(values))


def _insert_or_nothing(transaction: Any) -> Any:
    if transaction.connection.dialect.name == "sqlite":
        return insert(tables.sent_ids).prefix_with("OR IGNORE")
    from sqlalchemy.dialects.postgresql import insert as postgres_insert  # noqa: PLC0415

    return postgres_insert(tables.sent_ids).on_conflict_do_nothing()


DOES_NOTHING_ON_CONFLICT = Version(
    "does nothing on conflict", (("db.messages.keep_sent_id", _keep_sent_id_unless_taken),)
)


async def _commit_and_go_on(transaction: LoopTransaction) -> None:
    if transaction.driver.is_in_transaction():
        await transaction.say("COMMIT")
        await transaction.say(postgres.BEGIN_WRITE)


async def _execute_and_commit(self: LoopTransaction, statement: Any, parameters: Any = None) -> Any:
    found = await self.connection.execute(statement, parameters)
    await _commit_and_go_on(self)
    return found


_run = LoopTransaction.run


async def _run_and_commit(self: LoopTransaction, statement: Statement, values: Values) -> Any:
    found = await _run(self, statement, values)
    await _commit_and_go_on(self)
    return found


WRITES_PIECEMEAL = Version(
    "writes piecemeal",
    (
        ("db.transactions.LoopTransaction.execute", _execute_and_commit),
        ("db.transactions.LoopTransaction.run", _run_and_commit),
        ("db.transactions.LoopTransaction.write", _run_and_commit),
    ),
)


def _without_rolling_back(self: sqlite.Writer, _: object, job: Any) -> None:
    try:
        self._perform(self._connection, job)  # pyright: ignore[reportArgumentType]
    except Exception as error:  # noqa: BLE001
        job.fail(faults.translated(error, committed=False))


COMMITS_WHAT_FAILED_HALFWAY = Version(
    "commits what failed halfway", (("db.sqlite.Writer._in_batch", _without_rolling_back),)
)


async def _write_unshielded(self: postgres.Writer, work: Any) -> Any:
    return await self._write(work)


CANCELS_THE_WRITE_WITH_ITS_CALLER = Version(
    "cancels the write with its caller", (("db.postgres.Writer.write", _write_unshielded),)
)

# Rule 3

_lock_users = events.lock_users


async def _lock_as_they_come(transaction: Transaction, user_ids: Collection[UUID]) -> UserLogs:
    heads: dict[UUID, int] = {}
    for user_id in user_ids:
        heads |= (await _lock_users(transaction, [user_id])).heads
    return UserLogs(transaction, heads)


LOCKS_PEOPLE_AS_THEY_COME = Version("locks people as they come", (("db.events.lock_users", _lock_as_they_come),))

_locked = access.locked


async def _people_first(
    transaction: Transaction, viewer_id: UUID, group_id: UUID, operation: Operation
) -> tuple[GroupLog, Membership]:
    await _lock_users(transaction, [viewer_id])
    return await _locked(transaction, viewer_id, group_id, operation)


LOCKS_PEOPLE_FIRST = Version("locks people first", (("resolvers.memberships.locked", _people_first),))
NEVER_RUNS_AGAIN = Version("never runs again", (("db.postgres.may_run_again", always(answer=False)),))

# Rule 4


def _translated_as(committed: bool | None) -> Callable[..., Exception]:
    translated = faults.translated

    def certain(error: Exception, **_: object) -> Exception:
        return translated(error, committed=committed)

    return certain


CLAIMS_THAT_NOTHING_WAS_DONE = Version(
    "claims that nothing was done",
    (("db.postgres.translated", _translated_as(False)), ("db.sqlite.translated", _translated_as(False))),
)
NEVER_SAYS_WHAT_IS_CERTAIN = Version(
    "never says what is certain",
    (("db.postgres.translated", _translated_as(None)), ("db.sqlite.translated", _translated_as(None))),
)


_create_engine: Any = postgres.create_async_engine


def _create_patient_engine(url: str, *, connect_args: dict[str, Any], **options: Any) -> AsyncEngine:
    return _create_engine(url, connect_args=connect_args | {"command_timeout": None}, **options)


WAITS_FOR_SILENCE = Version("waits for silence", (("db.postgres.create_async_engine", _create_patient_engine),))


async def _end_nobody(*_: object) -> None:
    pass


LEAVES_THE_SILENT = Version("leaves the silent alone", (("db.postgres.Writer._end_silent", _end_nobody),))
_END_ALL = text("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
    AND state = 'active' AND wait_event_type = 'Client' AND :application <> '' AND :seconds > 0""")
ENDS_WHOM_IT_MEETS = Version("ends whom it meets", (("db.postgres.END_SILENT", _END_ALL),))


def _half_rolled_back(connection: Connection) -> None:
    connection.rollback()


BELIEVES_THAT_IT_ROLLED_BACK = Version("believes that it rolled back", (("db.sqlite._roll_back", _half_rolled_back),))

# Rule 5

_shown = reader.shown


async def _shown_with_the_time_of_showing(transaction: Transaction, page: Any) -> list[reader.Shown]:
    facts = await _shown(transaction, page)
    return [replace(fact, event=replace(fact.event, occurred_at=datetime.now(UTC))) for fact in facts]


DATES_EVENTS_WHEN_IT_SHOWS_THEM = Version(
    "dates events when it shows them",
    (
        ("resolvers.reader.shown", _shown_with_the_time_of_showing),
        ("resolvers.messages.shown", _shown_with_the_time_of_showing),
    ),
)

# Rule 9


def _check_that_the_row_is_there(_: Position, nonce: int | None) -> None:
    if nonce is None:
        raise invalid_position()


def _check_nothing(*_: object) -> None:
    pass


CURSORS_WITHOUT_RANDOM_BITS = Version("cursors without random bits", (("db.events.NONCES", repeat(0)),))
COMPARES_NO_RANDOM_BITS = Version(
    "compares no random bits", (("resolvers.messages._check_row", _check_that_the_row_is_there),)
)
TAKES_ANY_CURSOR = Version("takes any cursor", (("resolvers.messages._check_row", _check_nothing),))

# Rule 10

_allowed = {**access.ALLOWED}
_pending_too = frozenset(
    (status, role) for status in (MembershipStatus.ACCEPTED, MembershipStatus.PENDING) for role in MemberRole
)
INVITED_PEOPLE_READ = Version(
    "invited people read", (("resolvers.access.ALLOWED", {**_allowed, Operation.READ: _pending_too}),)
)

_read_on = resuming.read_on


async def _read_on_after_joining(services: Any, group_id: UUID, places: Sequence[resuming.Place], only: Any) -> Any:
    async with services.read() as transaction:
        members = await memberships.of_users(transaction, group_id, {place.user_id for place in places})
    joined = {user_id: membership.joined_seq or 0 for user_id, membership in members.items()}
    later = [replace(place, seq=max(place.seq, joined.get(place.user_id, 0))) for place in places]
    return await _read_on(services, group_id, later, only)


SHOWS_ONLY_WHAT_CAME_AFTER_JOINING = Version(
    "shows only what came after joining", (("resolvers.resuming.read_on", _read_on_after_joining),)
)

# Rule 11

_send = sending.send


async def _look_for_the_repeat_first(
    services: Services, viewer: Viewer, group_id: UUID, *, content: str, client_message_id: str | None, **_: Any
) -> Sent:
    if client_message_id is not None:
        async with services.read() as transaction:
            kept = await messages.sent_id(transaction, viewer.id, client_message_id)
            if kept is not None:
                return Sent((await messages.get_many(transaction, [kept.message_id]))[kept.message_id], replayed=True)
    return await _send(services, viewer, group_id, content=content, client_message_id=client_message_id)


ANSWERS_REPEATS_WITHOUT_JUDGING = Version(
    "answers repeats without judging", (("resolvers.messages.send", _look_for_the_repeat_first),)
)


async def _forgets(*_: object) -> None:
    return None


REMEMBERS_NO_IDS = Version(
    "remembers no ids", (("db.messages.sent_id", _forgets), ("db.messages.keep_sent_id", _forgets))
)

# Rule 12

_get_users = users.get_many


async def _get_enabled_users(transaction: Transaction, ids: Collection[UUID]) -> Mapping[UUID, User]:
    return {each: user for each, user in (await _get_users(transaction, ids)).items() if user.disabled_at is None}


DISABLED_PEOPLE_ARE_GONE = Version("disabled people are gone", (("db.users.get_many", _get_enabled_users),))

_end_invitations = deleting.end_invitations


async def _end_invitations_and_erase(transaction: Transaction, log: GroupLog, actor_id: UUID, reason: str) -> None:
    await _end_invitations(transaction, log, actor_id, reason)
    await transaction.execute(delete(tables.group_events).where(tables.group_events.c.group_id == log.group.id))


ERASES_WITH_THE_GROUP = Version(
    "erases with the group", (("resolvers.groups.end_invitations", _end_invitations_and_erase),)
)

# Rule 13

_sqlite_engine, _postgres_engine = sqlite._engine, postgres.engine


def _lazy_sqlite(*arguments: Any) -> Engine:
    engine = _sqlite_engine(*arguments)

    def connected(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous=NORMAL")

    event.listen(engine, "connect", connected)
    return engine


def _lazy_postgres(*arguments: Any) -> AsyncEngine:
    engine = _postgres_engine(*arguments)

    def connected(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("SET SESSION synchronous_commit = off")
        connection.commit()
        cursor.close()

    event.listen(engine.sync_engine, "connect", connected)
    return engine


TRADES_DURABILITY_FOR_SPEED = Version(
    "trades durability for speed", (("db.sqlite._engine", _lazy_sqlite), ("db.postgres.engine", _lazy_postgres))
)

_write = Database.write
_behind: set[asyncio.Task[Any]] = set()


async def _write_and_announce_early(self: Database, work: Work) -> Any:
    async def announced(transaction: Transaction) -> Any:
        result = await work(transaction)
        self.after_commit(tuple(transaction.appended))
        return result

    return await _write(self, announced)


async def _write_behind(self: Database, work: Work) -> Any:
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def told(transaction: Transaction) -> Any:
        result = await work(transaction)
        answered.set_result(result)
        return result

    task = asyncio.create_task(_write(self, told))
    _behind.add(task)
    task.add_done_callback(_behind.discard)
    done, _ = await asyncio.wait({answered, task}, return_when=asyncio.FIRST_COMPLETED)
    return next(iter(done)).result()


PUBLISHES_BEFORE_THE_COMMIT = Version(
    "publishes before the commit", (("db.engine.Database.write", _write_and_announce_early),)
)
ANSWERS_BEFORE_THE_COMMIT = Version("answers before the commit", (("db.engine.Database.write", _write_behind),))
