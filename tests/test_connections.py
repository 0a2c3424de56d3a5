"""The connections of a process to PostgreSQL: how many, and which of them are used again."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text

from db import postgres, transactions
from db.engine import Database, Transaction, Unavailable
from tests.harness import Server, Stack, eventually
from tests.inside import database_of
from tests.sabotage import Bench, Hold, only_on, quiet_server

pytestmark = only_on("postgres")

PID, SLEEP = text("SELECT pg_backend_pid()"), text("SELECT pg_sleep(60)")
OF_PARLEY = "FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()"


async def pid(transaction: Transaction) -> int:
    return (await transaction.execute(PID)).scalar_one()


async def pid_of_read(database: Database) -> int:
    async with database.read() as transaction:
        return await pid(transaction)


async def test_no_more_connections_are_opened_than_may_be_and_a_free_one_is_used_again(server: Server) -> None:
    async with database_of(server, pool_size=3) as database:
        assert len(set(await asyncio.gather(*(pid_of_read(database) for _ in range(30))))) == 3
        assert len({await pid_of_read(database) for _ in range(5)}) == 1, "the one that was used last"


async def test_whoever_waits_too_long_for_a_connection_is_told_that_nothing_was_done(server: Server) -> None:
    async with database_of(server, pool_size=1, wait_seconds=0.1) as database, database.read():
        for attempt in (database.write(pid), pid_of_read(database)):
            with pytest.raises(Unavailable) as told:
                await attempt
            assert told.value.committed is False


@pytest.mark.parametrize("statement", [SLEEP, None], ids=["in a statement", "at its end"])
async def test_a_read_that_is_given_up_takes_no_connection_along(
    server: Server, monkeypatch: pytest.MonkeyPatch, statement: Any
) -> None:
    on_postgres, end = transactions.on_postgres, Hold()

    async def held(connection: Any, call: Any, words: str, *parameters: Any) -> Any:
        if words == "ROLLBACK" and not end.is_reached:
            await end.stand_still()
        return await on_postgres(connection, call, words, *parameters)

    monkeypatch.setattr(transactions, "on_postgres", held)
    begun = asyncio.Event()

    async def read() -> None:
        async with database.read() as transaction:
            await pid(transaction)
            begun.set()
            if statement is not None:
                await transaction.execute(statement)

    async with database_of(server, pool_size=1) as database:
        reading = asyncio.create_task(read())
        await (begun.wait() if statement is not None else end.reached())
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        end.release()
        assert len({await pid_of_read(database) for _ in range(5)}) == 1
        assert await database.write(pid) == await pid_of_read(database)


async def test_a_read_changes_nothing_and_leaves_nothing_open(server: Server) -> None:
    async with database_of(server, pool_size=1) as database, database_of(server, pool_size=1) as other:
        number = await pid_of_read(database)
        with pytest.raises(Exception, match="read-only"):
            async with database.read() as transaction:
                await transaction.execute(text("UPDATE users SET head_seq = 7"))
        async with other.read() as transaction:
            state = text("SELECT state FROM pg_stat_activity WHERE pid = :number")
            assert (await transaction.execute(state, {"number": number})).scalar_one() == "idle"
        assert await pid_of_read(database) == number


async def test_connections_that_postgresql_has_ended_are_not_used_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_postgres, used = transactions.on_postgres, set[Any]()

    async def noted(connection: Any, *call: Any) -> Any:
        used.add(transactions.driver_of(connection))
        return await on_postgres(connection, *call)

    monkeypatch.setattr(transactions, "on_postgres", noted)
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        ada = await bench.world.user()
        group_id = await bench.world.group(ada)
        await asyncio.gather(*(bench.world.send(ada, group_id, f"{number}") for number in range(10)))
        assert len(used) > 1
        async with bench.connection() as other:
            await other.execute(f"SELECT pg_terminate_backend(pid) {OF_PARLEY}", postgres.APPLICATION)
        await eventually(lambda: all(connection.is_closed() for connection in used))
        await asyncio.gather(*(bench.world.send(ada, group_id, f"again {number}") for number in range(10)))
