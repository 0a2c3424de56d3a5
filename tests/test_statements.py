"""Statements that are compiled once give what SQLAlchemy gives, rows and faults, on both databases."""
# pyright: reportPrivateUsage=false

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from db import (
    events,
    follows,
    groups,
    history,
    memberships,
    mentions,
    messages,
    reactions,
    revisions,
    tables,
    threads,
    unread,
    users,
)
from db.engine import Database, Transaction
from db.faults import TAKEN, Unavailable, state_of
from db.records import MESSAGE_KINDS
from db.statements import Prepared, Statement, read_moment, write_moment
from resolvers.users import digest
from schema import ids
from tests.counting import statements
from tests.harness import Server, Stack, World
from tests.inside import database_of
from tests.sabotage import only_on, quiet_server

MODULES: list[ModuleType] = [
    *(events, follows, groups, memberships, mentions, messages, reactions),
    *(revisions, threads, unread, users),
]
THREAD = {"last_reply_id": None, "active_at": datetime(2026, 1, 1, tzinfo=UTC)}
WRITES = {
    "ADD",
    "KEEP_SENT_ID",
    "CREATE",
    "APPEND",
    "MOVE_END",
    "CHANGE_GROUP",
    "CHANGE",
    "KEEP",
    "MOVE",
    "REMOVE",
    "REMOVE_ALL",
}


async def values_of(world: World) -> Mapping[str, Any]:
    """A group with an event of every column filled, and what the statements can be asked about it."""
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    sent = {"groupId": group_id, "content": "grüße 🎈", "clientMessageId": "an-id"}
    await world.send(ada, group_id, "@all")
    message_id = (await bob.run("SendGroupMessage", input=sent))["message"]["id"]
    await bob.run("EditMessage", input={"messageId": message_id, "content": "grüß dich"})
    await bob.run("AddReaction", input={"messageId": message_id, "emoji": "tada"})
    reply = {"groupId": group_id, "content": "and back", "replyToId": message_id}
    await ada.run("SendGroupMessage", input=reply)
    await bob.run("MarkGroupRead", input={"groupId": group_id, "upTo": 4})
    return {
        "group": ids.group(group_id), "group_id_0": ids.group(group_id), "group_id_1": ids.user(ada.id),
        "user": ids.user(bob.id), "sender": ids.user(bob.id), "mentioned": ids.user(bob.id), "id": "an-id",
        "id_0": ids.group(group_id), "id_1": ids.user(bob.id), "id_2": ids.user(ada.id),
        "message": ids.message(message_id), "message_id_0": ids.message(message_id), "message_id_1": ids.user(bob.id),
        "root": ids.message(message_id), "root_id_0": ids.message(message_id), "root_id_1": ids.user(bob.id),
        "username_0": ada.username, "username_1": "nobody", "thread": ids.message(message_id), "emoji": "tada",
        "digest": digest(bob.token), "date": datetime.now(UTC), "seq": 0, "below": 100, "up_to": 100, "limit": 10,
        "rows": 10, "seq_0": 1, "seq_1": 2, "user_id_0": ids.user(ada.id), "user_id_1": ids.user(bob.id),
        "created_at": datetime.now(UTC),
    }  # fmt: skip


def reads() -> Mapping[str, Statement]:
    found = {
        f"{module.__name__}.{name}": each
        for module in MODULES
        for name, each in vars(module).items()
        if isinstance(each, Statement) and name not in WRITES
    }
    after = {f"after {kinds and sorted(kinds)}": events._after_statement(kinds) for kinds in (None, MESSAGE_KINDS)}
    after |= {
        f"filtered {each}": events._after_statement(MESSAGE_KINDS, by_sender=each, ends=True) for each in (True, False)
    }
    after["mentions"] = events._after_statement(MESSAGE_KINDS, by_mention=True, ends=True)
    after["a thread"] = events._after_statement(MESSAGE_KINDS, in_thread=True, ends=True)
    several = {f"{module.__name__}.many": module._many(3) for module in (groups, users)}
    rest = {
        "standings": memberships._standings(2), "newest": messages._newest(2), "revisions": revisions._many(2),
        "reactions": reactions._many(2), "unread": unread._many(2), "first unread": unread._firsts(2),
        "since a date": history._since(3), "threads": threads._many(2), "follows": follows._many(2),
        "named": mentions._named(2), "seen by": unread._shared(2),
        "of users": memberships._of_users(2), "nonces": events._nonces_at(2),
    }  # fmt: skip
    return found | after | several | rest


async def both_ways(transaction: Transaction, statement: Statement, values: Mapping[str, Any]) -> tuple[Any, Any]:
    connection: Any = vars(transaction)["connection"]
    wanted = statement.on(connection.dialect).names
    given = {name: value for name, value in values.items() if name in wanted}
    plain = [list(row) for row in await transaction.execute(statement._statement, given)]
    return plain, [list(row) for row in await transaction.run(statement, given)]


async def test_every_read_gives_the_rows_that_core_gives(server: Server, world: World) -> None:
    values = await values_of(world)
    async with database_of(server) as database, database.read() as transaction:
        for name, statement in reads().items():
            if name.endswith(".LOCK"):
                continue
            plain, prepared = await both_ways(transaction, statement, values)
            assert plain, name
            assert prepared == plain, name
            assert [list(map(type, row)) for row in prepared] == [list(map(type, row)) for row in plain], name


async def test_a_lock_gives_the_row_that_core_gives(server: Server, world: World) -> None:
    values = await values_of(world)

    async def work(transaction: Transaction) -> tuple[Any, Any]:
        return await both_ways(transaction, groups.LOCK, values)

    async with database_of(server) as database:
        plain, prepared = await database.write(work)
    assert plain
    assert prepared == plain


def recording(work: Callable[[Transaction], Awaitable[None]], states: list[str]) -> Callable[[Transaction], Any]:
    """The work, noting the states of the faults that it meets."""

    async def recorded(transaction: Transaction) -> None:
        try:
            await work(transaction)
        except DBAPIError as error:
            states.append(f"{state_of(error)} {'an-id' in str(error)}")
            raise

    return recorded


async def test_a_taken_key_is_told_as_core_tells_it(server: Server, world: World) -> None:
    await values_of(world)
    states: list[str] = []
    async with database_of(server) as database:
        async with database.read() as transaction:
            (row,) = await transaction.run(Statement(select(tables.sent_ids).limit(1)), {})
        values = dict(zip(tables.sent_ids.c.keys(), row, strict=True))
        for prepared in (False, True):

            async def work(transaction: Transaction, prepared: bool = prepared) -> None:
                if prepared:
                    await transaction.run(messages.KEEP_SENT_ID, values)
                else:
                    await transaction.execute(messages.KEEP_SENT_ID._statement, values)

            with pytest.raises(Unavailable):
                await database.write(recording(work, states))
    assert len(set(states)) == 1, "both ways, each time again"
    assert set(states) <= {f"{state} False" for state in TAKEN}, "and no word of the rows"


async def test_what_was_written_is_seen_by_whatever_is_run_next_and_the_last_of_two_writes_of_a_row_stays(
    server: Server, world: World
) -> None:
    values = await values_of(world)
    position = {"user": values["user"], "group": values["group"]}

    async def work(transaction: Transaction) -> list[Any]:
        seen: list[Any] = []
        for read_seq in (2, 3):
            await transaction.write(unread.MOVE, {**position, "read_seq": read_seq})
            await transaction.write(threads.CHANGE, THREAD | {"root": values["root"], "reply_count": read_seq})
            await transaction.write(unread.MOVE, {**position, "read_seq": read_seq - 1})
            seen += [await transaction.first(unread.KEPT, position), await transaction.first(threads.GET, values)]
        await transaction.write(unread.MOVE, {**position, "read_seq": 1})
        return seen

    async with database_of(server) as database:
        first, thread, second, thread_again = await database.write(work)
        assert (first[0], second[0]) == (1, 2)
        assert [row[1] for row in (thread, thread_again)] == [2, 3]
        async with database.read() as transaction:
            assert await unread.kept(transaction, position["user"], position["group"]) == 1, "what came last, too"


@only_on("postgres")
async def test_a_send_is_four_statements_under_the_lock_whatever_it_writes(stack: Stack) -> None:
    async with quiet_server(stack) as server, World(server) as world:
        ada = await world.user()
        group_id = await world.group(ada)
        sent = {"groupId": group_id, "content": "hello", "clientMessageId": "an-id"}
        with statements(server) as seen:
            await ada.run("SendGroupMessage", input=sent)
    writes = [statement for statement in seen if "INSERT" in statement or "UPDATE groups" in statement]
    (together,) = writes
    assert all(f"INTO {table}" in together for table in ("messages", "group_events", "sent_ids"))
    assert "UPDATE groups" in together
    locked = next(number for number, statement in enumerate(seen) if "FOR NO KEY UPDATE" in statement)
    assert seen.index(together) - locked == 3, "the lock, the member, the id, and all that is written"


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 2, 28, 23, 59, 59, 999_999, UTC),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2024, 2, 29, 12, 30, 0, 1, timezone(timedelta(hours=5, minutes=45))),
        datetime(999, 12, 31, 1, 2, 3, 40, UTC),
        None,
    ],
)
def test_sqlite_keeps_moments_as_sqlalchemy_does(moment: datetime | None) -> None:
    dialect: Any = sqlite.dialect()
    kind = tables.UtcDateTime().dialect_impl(dialect)
    writing, reading = kind.bind_processor(dialect), kind.result_processor(dialect, None)
    assert writing is not None
    assert reading is not None
    kept = writing(moment)
    assert write_moment(moment) == kept
    assert read_moment(kept) == reading(kept) == moment
    assert moment is None or read_moment(kept).tzinfo is UTC  # pyright: ignore[reportOptionalMemberAccess]


def test_constants_of_a_statement_need_no_value() -> None:
    statement = select(tables.users.c.id).where(
        tables.users.c.username == "ada", tables.users.c.head_seq > bindparam("n")
    )
    prepared = Prepared(statement, sqlite.dialect())
    assert prepared.parameters({"n": 3}) == ("ada", 3)


async def test_who_looks_in_one_turn_of_the_loop_sees_one_moment_and_in_the_next_what_was_committed(
    tmp_path: Path,
) -> None:
    file = tmp_path / "parley.db"
    database = Database(f"sqlite:///{file}")

    async def seen() -> int:
        async with database.glance() as transaction:
            return (await transaction.execute(text("SELECT count(*) FROM filling"))).scalar_one()

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TABLE filling (text TEXT)")
        try:
            for known in range(3):
                await asyncio.sleep(0)
                assert await seen() == known
                other.execute("INSERT INTO filling VALUES ('x')")
                assert await seen() == known
        finally:
            await database.stop()


def mebibytes_in(file: Path) -> float:
    return file.stat().st_size / 2**20


async def test_the_write_ahead_log_of_sqlite_has_a_bound(tmp_path: Path) -> None:
    file, row = tmp_path / "parley.db", {"text": "x" * 100_000}

    async def fill(transaction: Transaction) -> None:
        await transaction.execute(text("INSERT INTO filling VALUES (:text)"), [row] * 10)

    async def create(transaction: Transaction) -> None:
        await transaction.execute(text("CREATE TABLE filling (text TEXT)"))

    database = Database(f"sqlite:///{file}")
    try:
        await database.write(create)
        for _ in range(30):
            await database.write(fill)
        assert 16 <= mebibytes_in(Path(f"{file}-wal")) < 18, "of the 30 that were written"
    finally:
        await database.stop()
