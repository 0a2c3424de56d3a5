"""The rules of the log, each as built and, to show that the test can fail, with the rule broken.

The lock and the judgement, numbers, the order of locks, what is unknown, what an event fixes, cursors, who may read,
repeats, erasing, and what an answer means.
"""

import asyncio
import shutil
import sqlite3
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from db import tables
from db.engine import Transaction
from resolvers import messages, users
from resolvers.cursors import STREAM
from schema import ids
from settings import Settings
from tests import wrong
from tests.cutting_proxy import Cut, CuttingProxy
from tests.engines import Postgres
from tests.harness import GraphQLFailure, Json, Person, Server, Stack, eventually, serving
from tests.harness.world import PASSWORD
from tests.sabotage import COMMIT, Bench, Version, against, code_of, extensions_of, only_on, quiet_server, running

FULL = 2  # PRAGMA synchronous
LOCK = "SELECT 1 FROM groups WHERE id = $1 FOR UPDATE"
PATIENCE = 5.0  # seconds; five times what a server that waits for half a second may take


@pytest.fixture
async def bench(quiet: Server) -> AsyncIterator[Bench]:
    async with Bench.on(quiet) as bench:
        yield bench


def sent(group_id: str, content: str, client_message_id: str | None = None) -> Json:
    return {"groupId": group_id, "content": content, "clientMessageId": client_message_id}


async def send(person: Person, group_id: str, content: str, client_message_id: str | None = None) -> Json:
    """The whole payload."""
    return await person.run("SendGroupMessage", input=sent(group_id, content, client_message_id))


# Rule 1: lock, then judge


async def remove_while_a_send_waits(bench: Bench, violations: list[str]) -> None:
    ada, bob = await bench.world.users("ada", "bob")
    group_id = await bench.world.group(ada, bob)
    removal = ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
    with bench.statements.held(COMMIT) as commit:
        async with running(removal) as removed:
            await commit.reached()
            async with running(code_of(send(bob, group_id, "too late"))) as answer:
                await bench.writes_wait(1, held=1)
                commit.release()
    await removed
    if await answer != "FORBIDDEN":
        violations.append("somebody who is no member was let in")
    if (await bench.log(group_id))[-1][1] != "MEMBER_REMOVED":
        violations.append(f"after the removal: {await bench.log(group_id)}")


@against(wrong.JUDGES_BEFORE_IT_LOCKS)
async def test_a_member_who_is_removed_while_the_send_waits_cannot_send(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        await remove_while_a_send_waits(bench, violations)


@only_on("postgres")
@against(wrong.JUDGES_IN_THE_STATEMENT_THAT_LOCKS)
async def test_the_judgement_is_read_after_the_lock_is_held(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        await remove_while_a_send_waits(bench, violations)


@only_on("postgres")
@against(wrong.JUDGES_IN_THE_STATEMENT_THAT_LOCKS)
async def test_an_admin_who_is_demoted_while_the_removal_waits_cannot_remove(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob, cyd = await bench.world.users("ada", "bob", "cyd")
        group_id = await bench.world.group(ada, bob, cyd)
        role = {"groupId": group_id, "userId": bob.id}
        await ada.run("ChangeMemberRole", input=role | {"role": "ADMIN"})
        with bench.statements.held(COMMIT) as commit:
            async with running(ada.run("ChangeMemberRole", input=role | {"role": "MEMBER"})) as demoted:
                await commit.reached()
                removal = bob.run("RemoveMember", input={"groupId": group_id, "userId": cyd.id})
                async with running(code_of(removal)) as answer:
                    await bench.writes_wait(1, held=1)
                    commit.release()
        await demoted
        if await answer != "FORBIDDEN":
            violations.append("somebody who is no admin removed a member")


# Rule 2: number only what is accepted


@against(wrong.TAKES_THE_NUMBER_FIRST, wrong.REMEMBERS_NO_IDS)
async def test_racing_repeats_give_one_message_and_leave_no_hole(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        (ada,) = await bench.world.users("ada")
        group_id = await bench.world.group(ada)
        before = len(await bench.log(group_id))
        async with bench.row_locked("groups", ids.group(group_id)):
            sends = [asyncio.create_task(send(ada, group_id, "once", "same-id")) for _ in range(5)]
            await bench.writes_wait(5)
        answers = await asyncio.gather(*sends)
        last = await send(ada, group_id, "the next")
        if len({answer["message"]["id"] for answer in answers}) != 1:
            violations.append("several messages under one id")
        if sorted(answer["replayed"] for answer in answers) != [False, True, True, True, True]:
            violations.append(f"replayed: {[answer['replayed'] for answer in answers]}")
        if holes := await bench.holes(group_id):
            violations.append(f"no row has the numbers {holes}")
        if last["message"]["seq"] != before + 2:
            violations.append(f"one message took {last['message']['seq'] - before - 1} numbers")


@only_on("postgres")
@against(wrong.DOES_NOTHING_ON_CONFLICT)
async def test_one_id_raced_in_two_groups_gives_one_message_and_a_conflict(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        (ada,) = await bench.world.users("ada")
        one, two = [await bench.world.group(ada) for _ in range(2)]
        with bench.statements.held(COMMIT) as commit:
            async with running(send(ada, one, "here", "same-id")) as first:
                await commit.reached()
                async with running(code_of(send(ada, two, "there", "same-id"))) as second:
                    await bench.writes_wait(1, held=1)
                    commit.release()
        assert not (await first)["replayed"]
        if await second != "CONFLICT":
            violations.append(f"the second group answered {await second}")
        if "MESSAGE_SENT" in {kind for _, kind in await bench.log(two)}:
            violations.append("the second group has a message of the same id")
        if holes := await bench.holes(two):
            violations.append(f"no row has the numbers {holes} of the second group")


@only_on("postgres")
@against(wrong.WRITES_PIECEMEAL)
async def test_a_fault_in_the_middle_of_a_write_takes_no_number(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        (ada,) = await bench.world.users("ada")
        group_id = await bench.world.group(ada)
        before = await bench.log(group_id)
        with bench.statements.broken("UPDATE groups SET"):
            failed = await extensions_of(send(ada, group_id, "broken", "an-id"))
        assert failed["code"] == "SERVICE_UNAVAILABLE", failed
        if await bench.log(group_id) != before:
            violations.append("what failed left rows behind")
        if code := await code_of(send(ada, group_id, "whole", "an-id")) != "OK":
            violations.append(f"the same request again: {code}")
        if await bench.holes(group_id):
            violations.append("what failed left a hole behind")


@only_on("sqlite")
@against(wrong.COMMITS_WHAT_FAILED_HALFWAY)
async def test_refusals_repeats_and_faults_of_a_batch_harm_nobody_else(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada)
        await send(ada, group_id, "before", "old-id")
        first = len(await bench.log(group_id)) + 1
        batch = [
            (ada, "one", "id-1"), (bob, "refused", "id-2"), (ada, "before", "old-id"), (ada, "faulty", "id-3"),
            (ada, "other content", "old-id"), (ada, "two", "id-4"), (ada, "one", "id-1"),
        ]  # fmt: skip
        with bench.statements.broken("INSERT INTO sent_ids", "id-3"):
            async with bench.row_locked("groups", ids.group(group_id)):
                sends = [asyncio.create_task(send(person, group_id, *rest)) for person, *rest in batch]
                await bench.writes_wait(len(batch))
            answers = await asyncio.gather(*(extensions_of(each) for each in sends))
        codes = [answer.get("code", "OK") for answer in answers]
        if codes != ["OK", "FORBIDDEN", "OK", "SERVICE_UNAVAILABLE", "CONFLICT", "OK", "OK"]:
            violations.append(f"answers: {codes}")
        kinds = [kind for seq, kind in await bench.log(group_id) if seq >= first]
        if kinds != ["MESSAGE_SENT"] * 2 or await bench.holes(group_id):
            violations.append(f"the log: {await bench.log(group_id)}")
        if (code := await code_of(send(ada, group_id, "faulty", "id-3"))) != "OK":
            violations.append(f"what failed, again: {code}")


@only_on("postgres")
@against(wrong.CANCELS_THE_WRITE_WITH_ITS_CALLER)
async def test_a_request_that_is_cancelled_does_not_cancel_its_write(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        events = await bob.messages(group_id)
        services = bench.process.services
        session = await users.authenticate(services, ada.token)
        assert session is not None
        with bench.statements.held(COMMIT) as commit:
            call = messages.send(
                services, session.viewer, ids.group(group_id), content="last words", client_message_id=None
            )
            async with running(call) as caller:
                await commit.reached()
                caller.cancel()
        await send(ada, group_id, "the next")
        if (content := (await events.event())["message"]["content"]) != "last words":
            violations.append(f"the write was cancelled; first came: {content}")


# Rule 3: groups by id, then users by id; a deadlock runs again


@only_on("postgres")
@against(wrong.LOCKS_PEOPLE_AS_THEY_COME)
async def test_nobody_holds_a_later_person_while_waiting_for_an_earlier_one(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        low, high, ada, bob = await bench.world.users("low", "high", "ada", "bob")
        first, last = sorted([ids.user(low.id), ids.user(high.id)])
        orders = [(ada, [low.id, high.id]), (bob, [high.id, low.id])]
        async with bench.row_locked("users", first):
            creations = [
                asyncio.create_task(code_of(person.run("CreateGroup", input={"name": "Chess", "memberIds": members})))
                for person, members in orders
            ]
            await bench.writes_wait(2)
            async with bench.connection() as connection:
                free = "SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED"
                if await connection.fetchval(free, last) is None:
                    violations.append("one holds the later person while both wait for the earlier one")
        codes = await asyncio.gather(*creations)
        if codes != ["OK", "OK"]:
            violations.append(f"answers: {codes}")


async def tour(bench: Bench) -> None:
    """Every kind of write once."""
    ada, bob, cyd, dan = await bench.world.users("ada", "bob", "cyd", "dan")
    group_id = await bench.world.group(ada, bob)

    async def run(person: Person, operation: str, **more: Any) -> None:
        await person.run(operation, input={"groupId": group_id, **more})

    await run(ada, "UpdateGroup", name="Go")
    await run(ada, "AddMember", userId=cyd.id)
    await run(ada, "InviteMember", userId=dan.id)
    await run(ada, "RemoveMember", userId=dan.id)
    for accept in (False, True):
        await run(ada, "InviteMember", userId=dan.id)
        await run(dan, "AnswerInvitation", accept=accept)
    await run(ada, "ChangeMemberRole", userId=bob.id, role="ADMIN")
    await run(bob, "SendGroupMessage", content="hello", clientMessageId="an-id")
    await run(ada, "RemoveMember", userId=cyd.id)
    await run(dan, "LeaveGroup")
    await run(ada, "InviteMember", userId=dan.id)
    await run(ada, "DeleteGroup")
    passwords = {"currentPassword": PASSWORD, "newPassword": PASSWORD}
    await bob.run("ChangePassword", input=passwords)
    await bob.run("UpdateViewer", input={"nickname": "Bobby"})
    await bob.run("Logout")


@only_on("postgres")
@against(wrong.LOCKS_PEOPLE_FIRST)
async def test_every_write_locks_its_group_before_its_people(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        with bench.statements.recorded() as statements:
            await tour(bench)
        locked: dict[int, list[str]] = {}
        for connection, statement in statements:
            held = locked.setdefault(connection, [])
            if statement == COMMIT:
                held.clear()
            elif "FOR NO KEY UPDATE" in statement:
                held.append("groups" if "FROM groups" in statement else "users")
                if held not in (["groups"], ["users"], ["groups", "users"]):
                    violations.append(f"locked in this order: {held}")
        assert sum("FOR NO KEY UPDATE" in statement for _, statement in statements) > 20


@only_on("postgres")
@against(wrong.NEVER_RUNS_AGAIN)
async def test_a_deadlock_is_run_again_inside(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada)
        addition = ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
        with bench.statements.held("FROM users", "FOR NO KEY UPDATE") as people:
            async with running(code_of(addition)) as answer:
                await people.reached()
                async with bench.connection() as other, other.transaction():
                    # Everybody looks for a deadlock once, after this time; who finds it is told. This one never looks.
                    await other.execute("SET LOCAL deadlock_timeout = '1h'")
                    await other.execute("SELECT 1 FROM users WHERE id = $1 FOR UPDATE", ids.user(bob.id))
                    async with running(other.execute(LOCK, ids.group(group_id))) as group:
                        await bench.writes_wait(1)
                        people.release()
                    await group
        if await answer != "OK":
            violations.append(f"the client was told of the deadlock: {await answer}")
        if [kind for _, kind in await bench.log(group_id)].count("MEMBER_ADDED") > 1:
            violations.append("added twice")


# Rule 4: unknown is honest


@asynccontextmanager
async def behind_a_proxy(stack: Stack, **changes: Any) -> AsyncGenerator[tuple[Bench, CuttingProxy]]:
    """A server whose way to PostgreSQL can be cut."""
    with stack.fresh() as settings:
        address, name = settings["database_url"].rsplit("/", 1)
        host, port = address.rsplit(":", 1)
        async with CuttingProxy.before(int(port)) as proxy:
            settings |= {"database_url": f"{host}:{proxy.port}/{name}", **changes}
            async with serving(Settings(**settings)) as server, Bench.on(server) as bench:
                yield bench, proxy


@only_on("postgres")
@against(wrong.CLAIMS_THAT_NOTHING_WAS_DONE, wrong.NEVER_SAYS_WHAT_IS_CERTAIN)
async def test_a_connection_cut_at_the_commit_is_told_as_unknown_and_before_it_as_not_done(
    stack: Stack, version: Version
) -> None:
    cuts: list[tuple[bytes, Cut, Json, bool]] = [
        (b"INSERT INTO messages", Cut.REQUEST, {"committed": False}, False),
        (b"COMMIT\0", Cut.REQUEST, {}, False),
        (b"COMMIT\0", Cut.ANSWER, {}, True),
    ]
    with version.judged() as violations:
        async with behind_a_proxy(stack) as (bench, proxy):
            ada = await bench.world.user("ada")
            group_id = await bench.world.group(ada)
            for number, (word, where, told, done) in enumerate(cuts):
                proxy.cut_at(word, where)
                failed = await extensions_of(send(ada, group_id, "perhaps", f"id-{number}"))
                assert proxy.cuts == number + 1
                assert failed["code"] == "SERVICE_UNAVAILABLE", failed
                if {key: failed[key] for key in ("committed",) if key in failed} != told:
                    violations.append(f"{word.decode()} cut {where.value}: {failed}")
                again = await send(ada, group_id, "perhaps", f"id-{number}")
                if again["replayed"] is not done:
                    violations.append(f"{word.decode()} cut {where.value}: replayed {again['replayed']}")
            if len(await bench.log(group_id)) != len(cuts) + 1 or await bench.holes(group_id):
                violations.append(f"the log: {await bench.log(group_id)}")


async def locked_for_good(person: Person, group_id: str) -> list[str]:
    """What is wrong if no send gets into the group for a while."""

    async def is_done() -> bool:
        return await code_of(send(person, group_id, "perhaps", "an-id")) == "OK"

    try:
        await eventually(is_done, PATIENCE)
    except AssertionError:
        return ["the group stays locked by a transaction that nobody will end"]
    return []


@only_on("postgres")
@against(wrong.WAITS_FOR_SILENCE)
async def test_a_connection_that_goes_silent_is_told_as_unavailable_in_time(stack: Stack, version: Version) -> None:
    with version.judged() as violations:
        async with behind_a_proxy(stack, database_wait_seconds=0.5) as (bench, proxy):
            ada = await bench.world.user("ada")
            group_id = await bench.world.group(ada)
            proxy.cut_at(b"INSERT INTO messages", Cut.SILENCE)
            failed = {"code": "NO_ANSWER"}
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    failed = await extensions_of(send(ada, group_id, "perhaps", "an-id"))
            if (failed["code"], failed.get("committed")) != ("SERVICE_UNAVAILABLE", False):
                violations.append(f"the answer is {failed}")
            violations.extend(await locked_for_good(ada, group_id))


@only_on("postgres")
@against(wrong.LEAVES_THE_SILENT, wrong.ENDS_WHOM_IT_MEETS)
async def test_a_node_that_stands_still_in_the_middle_of_a_statement_gives_its_group_back(
    stack: Stack, version: Version
) -> None:
    with version.judged() as violations:
        async with quiet_server(stack, database_wait_seconds=0.5) as server, Bench.on(server) as bench:
            ada = await bench.world.user("ada")
            mine, held, operators = [await bench.world.group(ada) for _ in range(3)]
            async with bench.connection(application_name="parley") as node, bench.connection() as operator:
                for connection, group_id in ((node, held), (operator, operators)):
                    await connection.execute("BEGIN")
                    await connection.fetchval(LOCK, ids.group(group_id))
                    await connection.prepare("SELECT 1")  # PostgreSQL waits for the second half, and calls this active
                codes = [await code_of(send(ada, each, "at once")) for each in (mine, held)]
                assert codes == ["OK", "SERVICE_UNAVAILABLE"]
                if node.is_closed():
                    violations.append("a node that may go on was ended")
                violations.extend(await locked_for_good(ada, held))
                if await code_of(send(ada, operators, "no")) == "OK" or operator.is_closed():
                    violations.append("somebody who is no node was ended")


@only_on("sqlite")
@against(wrong.CLAIMS_THAT_NOTHING_WAS_DONE, wrong.NEVER_SAYS_WHAT_IS_CERTAIN)
async def test_a_disk_fault_at_the_commit_is_told_as_unknown_and_before_it_as_not_done(
    bench: Bench, version: Version
) -> None:
    with version.judged() as violations:
        ada = await bench.world.user("ada")
        group_id = await bench.world.group(ada)
        for number, (word, told) in enumerate((("INSERT INTO messages", {"committed": False}), (COMMIT, {}))):
            with bench.statements.broken(word):
                failed = await extensions_of(send(ada, group_id, "perhaps", f"id-{number}"))
            assert failed["code"] == "SERVICE_UNAVAILABLE", failed
            if {key: failed[key] for key in ("committed",) if key in failed} != told:
                violations.append(f"fault at {word}: {failed}")
            if (code := await code_of(send(ada, group_id, "perhaps", f"id-{number}"))) != "OK":
                violations.append(f"after a fault at {word}: {code}")
        if await bench.holes(group_id):
            violations.append(f"the log: {await bench.log(group_id)}")


@only_on("sqlite")
@against(wrong.BELIEVES_THAT_IT_ROLLED_BACK)
async def test_the_writer_goes_on_after_a_commit_that_sqlite_refused(stack: Stack, version: Version) -> None:
    with version.judged() as violations:
        async with quiet_server(stack) as server, Bench.on(server) as bench:
            ada = await bench.world.user("ada")
            group_id = await bench.world.group(ada)
            with bench.statements.refused_commit():
                assert await code_of(send(ada, group_id, "refused")) != "OK"
            if (code := await code_of(send(ada, group_id, "the next"))) != "OK":
                violations.append(f"every later write: {code}")
            elif [kind for _, kind in await bench.log(group_id)].count("MESSAGE_SENT") != 1:
                violations.append(f"the log: {await bench.log(group_id)}")


# Rule 5: what an event fixes


@against(wrong.DATES_EVENTS_WHEN_IT_SHOWS_THEM)
async def test_an_event_is_the_same_live_replayed_and_polled(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        start = await bob.head(group_id)
        following = await bob.messages(group_id, start)
        for number in range(3):
            await send(ada, group_id, f"message {number}", f"id-{number}")
        live = [await following.event() for _ in range(3)]
        replaying = await bob.messages(group_id, start)
        replayed = [await replaying.event() for _ in range(3)]
        page = (await bob.run("GroupMessageEvents", id=group_id, after=start))["messageEvents"]
        if not live == replayed == page["events"]:
            violations.append("an event is not the same on every way")
        if page["cursor"] != live[-1]["cursor"]:
            violations.append("the page's cursor is another one than its last event's")
        seqs = [event["seq"] for event in live]
        assert seqs == list(range(seqs[0], seqs[0] + 3))


# Rule 9: a cursor names its row


@against(wrong.TAKES_ANY_CURSOR, wrong.COMPARES_NO_RANDOM_BITS)
async def test_a_cursor_that_names_no_row_of_this_log_is_invalid(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada = await bench.world.user("ada")
        group_id, other = [await bench.world.group(ada) for _ in range(2)]
        await send(ada, other, "hello")
        mark, group, seq, nonce = STREAM.unpack(urlsafe_b64decode(await ada.head(group_id) + "="))
        foreign = await ada.head(other)
        cursors = {
            "of another group": foreign,
            "of the future": encoded(mark, group, seq + 1, nonce),
            "with other random bits": encoded(mark, group, seq, nonce ^ 1),
            "of the beginning with random bits": encoded(mark, group, 0, 1),
            "garbage": "garbage",
            "empty": "",
            "a page's": (await send(ada, group_id, "hello"))["messageEdge"]["cursor"],
        }
        for name, cursor in cursors.items():
            polled = await code_of(ada.run("GroupMessageEvents", id=group_id, after=cursor))
            following = await (await ada.socket()).follow("GroupMessages", groupId=group_id, after=cursor)
            await send(ada, group_id, "what a taken cursor would bring")
            streamed = await code_of(following.event())
            if (polled, streamed) != ("CURSOR_INVALID", "CURSOR_INVALID"):
                violations.append(f"a cursor {name}: {polled}, {streamed}")


def encoded(*parts: Any) -> str:
    return urlsafe_b64encode(STREAM.pack(*parts)).rstrip(b"=").decode()


@against(wrong.CURSORS_WITHOUT_RANDOM_BITS, wrong.COMPARES_NO_RANDOM_BITS)
async def test_a_cursor_from_before_a_restored_backup_is_invalid(
    stack: Stack, tmp_path: Path, version: Version
) -> None:
    with version.judged() as violations, stack.fresh() as fresh:
        settings = Settings(**fresh)
        async with serving(settings) as server, Bench.on(server) as bench:
            ada = await bench.world.user("ada")
            group_id = await bench.world.group(ada)
            kept = await ada.head(group_id)
            restore = backup(stack, settings, tmp_path)
            await send(ada, group_id, "lost with the disk")
            lost = await ada.head(group_id)
        restore()
        async with serving(settings) as server, Bench.on(server) as bench:
            again = ada.at(server)
            await send(again, group_id, "after the backup")
            assert len(await bench.log(group_id)) == 2
            if (code := await code_of(again.run("GroupMessageEvents", id=group_id, after=lost))) != "CURSOR_INVALID":
                violations.append(f"polling with a cursor of the lost row: {code}")
            following = await again.messages(group_id, lost)
            await send(again, group_id, "what a taken cursor would bring")
            if (code := await code_of(following.event())) != "CURSOR_INVALID":
                violations.append(f"following from a cursor of the lost row: {code}")
            resumed = await again.messages(group_id, kept)
            assert (await resumed.event())["message"]["content"] == "after the backup"


def backup(stack: Stack, settings: Settings, folder: Path) -> Callable[[], None]:
    """Keep the database as it is now; what is returned puts it back, once the server has ended."""
    if stack.postgres:
        return backup_of_postgres(stack.postgres, settings.database_url.rsplit("/", 1)[1])
    file, copy = Path(settings.database_url.split("///", 1)[1]), folder / "backup.db"
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)

    def restore() -> None:
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        shutil.copy(copy, file)

    return restore


def backup_of_postgres(postgres: Postgres, database: str) -> Callable[[], None]:
    names = [table.name for table in tables.metadata.sorted_tables]
    copies = "".join(f"CREATE TABLE kept.{name} AS TABLE {name};" for name in names)
    postgres.run_sql(f"CREATE SCHEMA kept; {copies}", database)
    back = "".join(f"INSERT INTO {name} TABLE kept.{name};" for name in names)

    def restore() -> None:
        postgres.run_sql(f"TRUNCATE {', '.join(names)}; {back}", database)

    return restore


# Rule 10: who may read what


async def all_reads(admin: Person, person: Person, group_id: str, start: str) -> list[str]:
    """What a person reads of a group in each way, or the code that says why not."""
    following = await (await person.socket()).follow("GroupMessages", groupId=group_id, after=start)
    last = (await send(admin, group_id, "the end"))["message"]["seq"]

    async def streamed() -> list[Json]:
        read: list[Json] = []
        while not read or read[-1]["seq"] != last:
            read.append((await following.event())["message"])
        return read

    async def history() -> list[Json]:
        page = (await person.run("GroupHistory", id=group_id))["messages"]
        return [edge["node"] for edge in page["edges"]]

    async def polled() -> list[Json]:
        page = (await person.run("GroupMessageEvents", id=group_id, after=start))["messageEvents"]
        return [event["message"] for event in page["events"]]

    ways: list[str] = []
    for read in (history, polled, streamed):
        try:
            contents = [message["content"] for message in await read()]
            ways.append(",".join(content for content in contents if content != "the end"))
        except GraphQLFailure as failure:
            ways.append(str(failure.code))
    return ways


@against(wrong.INVITED_PEOPLE_READ, wrong.SHOWS_ONLY_WHAT_CAME_AFTER_JOINING)
async def test_a_member_reads_the_whole_log_and_nobody_else_reads_any_of_it(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob, eve = await bench.world.users("ada", "bob", "eve")
        group_id = await bench.world.group(ada)
        start = (await ada.run("Group", id=group_id))["startCursor"]
        bob_in_group = {"groupId": group_id, "userId": bob.id}

        async def check(who: str, person: Person, expected: str) -> None:
            if (ways := await all_reads(ada, person, group_id, start)) != [expected] * 3:
                violations.append(f"{who}: {ways}")

        await send(ada, group_id, "before")
        await ada.run("AddMember", input=bob_in_group)
        await ada.run("RemoveMember", input=bob_in_group)
        await send(ada, group_id, "between")
        await check("removed", bob, "FORBIDDEN")
        await ada.run("InviteMember", input=bob_in_group)
        await send(ada, group_id, "after")
        await check("invited", bob, "FORBIDDEN")
        await bob.run("AnswerInvitation", input={"groupId": group_id, "accept": False})
        await check("declined", bob, "FORBIDDEN")
        await check("a stranger", eve, "FORBIDDEN")
        await ada.run("AddMember", input=bob_in_group)
        await check("a member again", bob, "before,between,after")


# Rule 11: idempotency


@against(wrong.ANSWERS_REPEATS_WITHOUT_JUDGING)
async def test_membership_is_judged_before_a_repeat_is_answered(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        first = await send(bob, group_id, "mine", "an-id")
        await ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
        if (code := await code_of(send(bob, group_id, "mine", "an-id"))) != "FORBIDDEN":
            violations.append(f"the repeat of somebody who was removed: {code}")
        await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
        again = await send(bob, group_id, "mine", "an-id")
        assert again["replayed"]
        assert again["message"] == first["message"]


@against(wrong.REMEMBERS_NO_IDS, wrong.ANSWERS_REPEATS_WITHOUT_JUDGING)
async def test_an_id_stands_for_one_request_for_ever(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id, other = [await bench.world.group(ada, bob) for _ in range(2)]
        first = await send(ada, group_id, "mine", "an-id")
        if await code_of(send(ada, group_id, "another", "an-id")) != "CONFLICT":
            violations.append("another content was taken under the id")
        if await code_of(send(ada, other, "mine", "an-id")) != "CONFLICT":
            violations.append("another group was taken under the id")
        again = await send(ada, group_id, "mine", "an-id")
        if (again["message"]["id"], again["replayed"]) != (first["message"]["id"], True):
            violations.append("the repeat is another message")
        assert not (await send(bob, group_id, "mine", "an-id"))["replayed"], "an id belongs to its sender"


# Rule 12: erasing empties, never removes


@against(wrong.DISABLED_PEOPLE_ARE_GONE)
async def test_every_event_can_still_be_shown_when_its_people_are_gone(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        start = (await ada.run("Group", id=group_id))["startCursor"]
        await send(bob, group_id, "my last")
        await bob.run("LeaveGroup", input={"groupId": group_id})
        assert await users.disable(bench.process.services, bob.username)
        try:
            page = (await ada.run("GroupMessageEvents", id=group_id, after=start))["messageEvents"]
            assert [event["message"]["sender"]["id"] for event in page["events"]] == [bob.id]
            history = (await ada.run("GroupHistory", id=group_id))["messages"]
            assert [edge["node"]["sender"]["username"] for edge in history["edges"]] == [bob.username]
        except GraphQLFailure as failure:
            violations.append(f"cannot be shown: {failure}")


@against(wrong.ERASES_WITH_THE_GROUP)
async def test_deleting_a_group_removes_no_row_of_its_log(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada)
        await send(ada, group_id, "kept")
        await ada.run("InviteMember", input={"groupId": group_id, "userId": bob.id})
        before = await bench.log(group_id)
        await ada.run("DeleteGroup", input={"groupId": group_id})
        if (after := await bench.log(group_id)) != [*before, (len(before) + 1, "GROUP_DELETED")]:
            violations.append(f"{before} became {after}")


# Rule 13: acknowledged means durable


@against(wrong.PUBLISHES_BEFORE_THE_COMMIT, wrong.ANSWERS_BEFORE_THE_COMMIT)
async def test_nobody_hears_of_a_message_before_it_is_committed(bench: Bench, version: Version) -> None:
    ada, bob = await bench.world.users("ada", "bob")
    group_id = await bench.world.group(ada, bob)
    following = await bob.messages(group_id)
    with version.judged() as violations:
        with bench.announcements() as announced, bench.statements.held(COMMIT) as commit:
            async with running(send(ada, group_id, "first")) as answer:
                await commit.reached()
                for _ in range(5):
                    await bob.head(group_id)
                if answer.done():
                    violations.append("the sender has an answer")
                if announced:
                    violations.append(f"others are told: {announced}")
                commit.release()
        await send(ada, group_id, "second")
        assert [(await following.event())["message"]["content"] for _ in range(2)] == ["first", "second"]


@against(wrong.TRADES_DURABILITY_FOR_SPEED)
async def test_what_is_committed_is_on_the_disk(stack: Stack, version: Version) -> None:
    with version.judged() as violations:
        async with quiet_server(stack) as server, Bench.on(server) as bench:
            await bench.world.user("ada")
            check = durability_of_sqlite if bench.is_sqlite else durability_of_postgres
            violations.extend(await bench.process.database.write(check))


async def durability_of_sqlite(transaction: Transaction) -> list[str]:
    """Only FULL syncs the log at each commit: NORMAL survives a crash of the server, not one of the machine."""
    found = {
        name: (await transaction.execute(text(f"PRAGMA {name}"))).scalar_one()
        for name in ("journal_mode", "synchronous")
    }
    return [] if found == {"journal_mode": "wal", "synchronous": FULL} else [str(found)]


async def durability_of_postgres(transaction: Transaction) -> list[str]:
    """What an operator set stays as it is."""
    ours = await transaction.execute(text("SELECT name FROM pg_settings WHERE source IN ('client', 'session')"))
    weaker = {"fsync", "synchronous_commit", "full_page_writes", "commit_delay"}
    return sorted(weaker & {row[0] for row in ours})
