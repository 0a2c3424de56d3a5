"""Editing and deleting: who may, what everybody sees of it, what is kept of it, and what is gone."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import tables
from resolvers.revisions import MOST_REVISIONS
from schema import ids
from settings import Settings
from tests.conftest import OwnServer
from tests.harness import Json, Person, Server, Stack, World, eventually, refused
from tests.inside import cohorts, process_of
from tests.reading import ended, polled, read, whole_log
from tests.sabotage import Bench, code_of, quiet_server

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

PARTS = "fragment Parts on Message { id version content revisions { content version createdAt } }"
MESSAGE = f"query ($id: ID!) {{ node(id: $id) {{ ... on Message {{ ...Parts deletedBy {{ id }} }} }} }} {PARTS}"
PAGE = f"query ($id: ID!) {{ group(id: $id) {{ messages {{ nodes {{ ...Parts }} }} }} }} {PARTS}"
FOLLOW = f"""subscription ($groupId: ID!, $after: String) {{ groupMessages(groupId: $groupId, after: $after) {{
    kind message {{ ...Parts }} }} }} {PARTS}"""


async def edit(person: Person, message: Json, content: str) -> Json:
    return (await person.run("EditMessage", input={"messageId": message["id"], "content": content}))["message"]


async def delete(person: Person, message: Json) -> Json:
    return (await person.run("DeleteMessage", input={"messageId": message["id"]}))["message"]


async def role(admin: Person, group_id: str, person: Person, role: str) -> None:
    await admin.run("ChangeMemberRole", input={"groupId": group_id, "userId": person.id, "role": role})


async def history(person: Person, group_id: str) -> list[Json]:
    return [edge["node"] for edge in (await person.run("GroupHistory", id=group_id))["messages"]["edges"]]


async def revisions(person: Person, message: Json) -> list[Json] | None:
    return (await person.client.execute(MESSAGE, {"id": message["id"]}))["node"]["revisions"]


async def kinds(person: Person, group_id: str) -> list[str]:
    return [event["kind"] for event in await whole_log(person, group_id)]


async def moderated(world: World) -> tuple[str, Person, Person, Person, Person]:
    """A group, its admin, a moderator, and two other members."""
    ada, mod, bob, cyd = await world.users("ada", "mod", "bob", "cyd")
    group_id = await world.group(ada, mod, bob, cyd)
    await role(ada, group_id, mod, "MODERATOR")
    return group_id, ada, mod, bob, cyd


# What everybody sees


async def test_an_edited_message_says_the_new_in_every_way_of_reading(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    sent = await world.send(bob, group_id, "Pizza?", "bob-1")
    await world.send(ada, group_id, "Yes.")
    stream, before = await ada.messages(group_id), await ada.head(group_id)
    edited = await edit(bob, sent, "Pasta?")
    changed = {"content", "version", "updatedAt", "editedAt"}
    assert {name: value for name, value in edited.items() if sent[name] != value}.keys() == changed
    assert edited["content"] == "Pasta?"
    assert edited["version"] == sent["seq"] + 2
    assert edited["updatedAt"] == edited["editedAt"] > sent["createdAt"]
    event = await stream.event()
    assert (event["kind"], event["seq"], event["actor"]["id"]) == ("EDITED", edited["version"], bob.id)
    assert (event["occurredAt"], event["message"]) == (edited["updatedAt"], edited)
    assert (await polled(ada, group_id, before))["events"] == [event]
    assert await read(await ada.messages(group_id, before), 1) == [event]
    assert (await history(ada, group_id))[0] == edited
    assert (await ada.run("Node", id=sent["id"]))["content"] == "Pasta?"
    # What is shown of the older event is the message as it is now.
    first = (await whole_log(ada, group_id))[0]
    assert (first["kind"], first["message"]) == ("SENT", edited)


async def test_a_deleted_message_is_a_tombstone_in_its_place(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    sent = [await world.send(bob, group_id, content) for content in ("one", "two", "three")]
    stream = await ada.messages(group_id)
    deleted = await delete(bob, sent[1])
    changed = {"content", "version", "updatedAt", "deletedAt"}
    assert {name: value for name, value in deleted.items() if sent[1][name] != value}.keys() == changed
    assert deleted["content"] == ""
    event = await stream.event()
    assert (event["kind"], event["seq"], event["actor"]["id"]) == ("DELETED", deleted["version"], bob.id)
    assert (event["occurredAt"], event["message"]) == (deleted["deletedAt"], deleted)
    assert await history(ada, group_id) == [sent[0], deleted, sent[2]]
    shown = (await ada.client.execute(MESSAGE, {"id": sent[1]["id"]}))["node"]
    assert (shown["content"], shown["deletedBy"]["id"]) == ("", bob.id)


async def test_the_newest_message_of_a_group_is_shown_as_it_is_now(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    sent = await world.send(ada, group_id, "one")
    for change in (edit(ada, sent, "two"), delete(ada, sent)):
        now = await change
        assert (await ada.run("Group", id=group_id))["lastMessage"] == now


async def test_whoever_shares_an_execution_is_shown_edits_and_deletions(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    streams = [await person.messages(group_id) for person in (bob, cyd)]
    await eventually(lambda: cohorts(world.server) == [2])
    sent = await world.send(ada, group_id, "one")
    await edit(ada, sent, "two")
    await delete(ada, sent)
    first, second = [await read(stream, 3) for stream in streams]
    assert first == second
    assert [event["kind"] for event in first] == ["SENT", "EDITED", "DELETED"]


async def test_who_resumes_and_who_loads_afresh_end_with_the_same(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    sent = [await world.send(ada, group_id, f"{number}") for number in range(6)]
    page = await bob.run("GroupHistory", id=group_id)
    kept = {edge["node"]["id"]: edge["node"] for edge in page["messages"]["edges"]}
    cursor = page["headCursor"]
    for number in range(3):
        await edit(ada, sent[number], f"{number} again")
        await delete(ada, sent[number + 3])
        await world.send(ada, group_id, f"more {number}")
        stream = await bob.messages(group_id, cursor)
        for event in await read(stream, 3):
            message, cursor = event["message"], event["cursor"]
            if message["version"] >= kept.get(message["id"], message)["version"]:
                kept[message["id"]] = message
    assert sorted(kept.values(), key=lambda message: message["seq"]) == await history(bob, group_id)


# Who may


async def test_only_its_sender_edits_a_message(world: World) -> None:
    group_id, ada, mod, bob, cyd = await moderated(world)
    sent = await world.send(bob, group_id)
    for person in (ada, mod, cyd):
        with refused("FORBIDDEN") as refusal:
            await edit(person, sent, "mine now")
        assert refusal.value.extensions["membershipStatus"] == "ACCEPTED"
    assert (await history(ada, group_id)) == [sent]


async def test_members_delete_their_own_and_moderators_and_admins_anybodys(world: World) -> None:
    group_id, ada, mod, bob, cyd = await moderated(world)
    of_bob, of_ada = await world.send(bob, group_id), await world.send(ada, group_id)
    for message in (of_bob, of_ada):
        with refused("FORBIDDEN") as refusal:
            await delete(cyd, message)
        assert refusal.value.extensions["membershipStatus"] == "ACCEPTED"
    for person, message in ((bob, await world.send(bob, group_id)), (ada, of_bob), (mod, of_ada)):
        await delete(person, message)
        shown = (await cyd.client.execute(MESSAGE, {"id": message["id"]}))["node"]
        assert shown["deletedBy"]["id"] == person.id


async def test_a_sender_who_is_no_member_any_more_changes_nothing(world: World) -> None:
    group_id, ada, _, bob, _ = await moderated(world)
    sent = await world.send(bob, group_id)
    await ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
    for change in (edit(bob, sent, "still here"), delete(bob, sent)):
        with refused("FORBIDDEN") as refusal:
            await change
        assert refusal.value.extensions["membershipStatus"] is None
    assert await history(ada, group_id) == [sent]


async def test_an_id_of_no_message_is_not_found(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    for message_id in ("nonsense", "", group_id, ada.id, ids.encode(ids.MESSAGE, ids.group(group_id))):
        for change in (edit(ada, {"id": message_id}, "?"), delete(ada, {"id": message_id})):
            with refused("NOT_FOUND"):
                await change


@pytest.mark.parametrize("content", ["", "  ", "x" * 4_001])
async def test_other_content_is_refused_and_takes_no_number(world: World, content: str) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    sent, before = await world.send(ada, group_id), await ada.head(group_id)
    with refused("BAD_USER_INPUT") as refusal:
        await edit(ada, sent, content)
    assert refusal.value.extensions["field"] == "content"
    assert await ada.head(group_id) == before


async def test_after_the_set_time_only_moderators_and_admins_delete(own_server: OwnServer) -> None:
    async with World(await own_server(message_edit_seconds=1)) as world:
        group_id, ada, mod, bob, _ = await moderated(world)
        sent, of_mod = await world.send(bob, group_id, "one"), await world.send(mod, group_id)
        assert (await edit(bob, sent, "two"))["content"] == "two"

        async def is_late() -> bool:
            return await code_of(edit(mod, of_mod, "hello" if await is_edited() else "edited")) == "CONFLICT"

        async def is_edited() -> bool:
            return (await history(mod, group_id))[1]["content"] == "edited"

        await eventually(is_late)
        for late in (edit(bob, sent, "three"), delete(bob, sent)):
            with refused("CONFLICT") as refusal:
                await late
            assert "too late" in str(refusal.value)
        assert (await edit(bob, sent, "two"))["content"] == "two", "a repeat of what was in time is answered"
        await delete(mod, of_mod)
        await delete(ada, sent)
        assert [message["content"] for message in await history(bob, group_id)] == ["", ""]


# Repeats and races


async def test_what_a_message_says_already_makes_no_event(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    sent = await world.send(ada, group_id, "one")
    assert await edit(ada, sent, "one") == sent
    edits = await asyncio.gather(*(edit(ada, sent, "two") for _ in range(5)))
    assert all(each == edits[0] for each in edits)
    assert await kinds(ada, group_id) == ["SENT", "EDITED"]
    assert len(await revisions(ada, sent) or ()) == 1


async def test_a_message_is_deleted_once_however_many_do(world: World) -> None:
    group_id, ada, mod, bob, _ = await moderated(world)
    sent = await world.send(bob, group_id)
    done = await asyncio.gather(*(delete(person, sent) for person in (ada, mod, bob) for _ in range(2)))
    assert all(each == done[0] for each in done)
    assert await delete(bob, sent) == done[0]
    assert await kinds(ada, group_id) == ["SENT", "DELETED"]


async def test_a_deleted_message_cannot_be_edited(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    sent = await world.send(ada, group_id, "one")
    deleted = await delete(ada, sent)
    with refused("CONFLICT"):
        await edit(ada, sent, "back again")
    assert await history(ada, group_id) == [deleted]


async def test_of_edits_and_a_deletion_at_once_nothing_comes_after_the_deletion(world: World) -> None:
    group_id, ada, _, bob, cyd = await moderated(world)
    sent, stream = await world.send(bob, group_id), await cyd.messages(group_id)
    changes = [code_of(edit(bob, sent, f"{number}")) for number in range(8)]
    codes = await asyncio.gather(*changes[:4], code_of(delete(ada, sent)), *changes[4:])
    assert set(codes) <= {"OK", "CONFLICT"}
    events = await read(stream, codes.count("OK"))
    assert [event["kind"] for event in events] == ["EDITED"] * (len(events) - 1) + ["DELETED"]
    assert [message["content"] for message in await history(bob, group_id)] == [""]
    assert await revisions(bob, sent) == []


async def test_a_repeat_of_a_send_gives_the_message_as_it_is_now(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    first = {"groupId": group_id, "content": "one", "clientMessageId": "the id"}
    sent = (await ada.run("SendGroupMessage", input=first))["message"]
    for change in (edit(ada, sent, "two"), delete(ada, sent)):
        now = await change
        repeat = await ada.run("SendGroupMessage", input=first)
        assert (repeat["replayed"], repeat["message"]) == (True, now)
    with refused("CONFLICT"):
        await ada.run("SendGroupMessage", input=first | {"content": "two"})
    assert await kinds(ada, group_id) == ["SENT", "EDITED", "DELETED"]


# What a message said before


async def test_what_a_message_said_before_is_for_its_sender_moderators_and_admins(world: World) -> None:
    group_id, ada, mod, bob, cyd = await moderated(world)
    sent = await world.send(bob, group_id, "one")
    assert [await revisions(person, sent) for person in (ada, mod, bob, cyd)] == [[], [], [], None]
    second = await edit(bob, sent, "two")
    await edit(bob, sent, "three")
    before = [
        {"content": "one", "version": sent["seq"], "createdAt": sent["createdAt"]},
        {"content": "two", "version": second["version"], "createdAt": second["editedAt"]},
    ]
    assert [await revisions(person, sent) for person in (ada, mod, bob, cyd)] == [before, before, before, None]
    await delete(mod, sent)
    assert [await revisions(person, sent) for person in (ada, mod, bob, cyd)] == [[], [], [], None]


async def test_after_a_demotion_no_event_shows_what_a_message_said_before(world: World) -> None:
    group_id, ada, mod, bob, cyd = await moderated(world)
    head = await ada.head(group_id)
    streams = [
        await (await person.socket()).subscribe(FOLLOW, {"groupId": group_id, "after": head})
        for person in (mod, mod, cyd)
    ]
    await eventually(lambda: sorted(cohorts(world.server)) == [1, 2])
    sent = await world.send(bob, group_id, "one")
    await edit(bob, sent, "two")
    await role(ada, group_id, mod, "MEMBER")
    await edit(bob, sent, "three")
    await role(ada, group_id, cyd, "MODERATOR")
    await edit(bob, sent, "four")
    of_mod, again, of_cyd = [
        [None if event["message"]["revisions"] is None else len(event["message"]["revisions"]) for event in events]
        for events in [await read(stream, 4) for stream in streams]
    ]
    # What is read for an event is possibly newer: the demotion may show before its place, never after.
    assert of_mod == again
    assert of_mod[2:] == [None, None]
    assert of_cyd[3] == 3
    resumed = await (await mod.socket()).subscribe(FOLLOW, {"groupId": group_id, "after": head})
    assert [event["message"]["revisions"] for event in await read(resumed, 4)] == [None] * 4


async def test_a_member_who_leaves_sees_nothing_more_of_it(world: World) -> None:
    group_id, _, mod, bob, _ = await moderated(world)
    stream = await (await mod.socket()).subscribe(FOLLOW, {"groupId": group_id, "after": await mod.head(group_id)})
    sent = await world.send(bob, group_id, "one")
    await mod.run("LeaveGroup", input={"groupId": group_id})
    await edit(bob, sent, "two")
    events, end = await ended(stream)
    assert [event["kind"] for event in events] in (["SENT"], [])
    assert end["code"] == "MEMBERSHIP_ENDED"
    assert (await mod.client.execute(MESSAGE, {"id": sent["id"]}))["node"] is None


async def test_a_message_is_edited_so_often_and_no_more(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    sent = await world.send(ada, group_id, "0")
    for number in range(1, MOST_REVISIONS + 1):
        await edit(ada, sent, f"{number}")
    with refused("CONFLICT"):
        await edit(ada, sent, "once more")
    kept = await revisions(ada, sent)
    assert [each["content"] for each in kept or ()] == [f"{number}" for number in range(MOST_REVISIONS)]
    assert (await history(ada, group_id))[0]["content"] == f"{MOST_REVISIONS}"
    await delete(ada, sent)


async def test_what_a_page_of_messages_said_before_is_read_by_one_statement(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        ada = await bench.world.user()
        group_id = await bench.world.group(ada)
        for number in range(10):
            await edit(ada, await bench.world.send(ada, group_id, f"{number}"), f"{number} again")
        with bench.statements.recorded() as statements:
            nodes = (await ada.client.execute(PAGE, {"id": group_id}))["group"]["messages"]["nodes"]
        assert [node["revisions"][0]["content"] for node in nodes] == [f"{number}" for number in range(10)]
        assert sum("message_revisions" in statement for _, statement in statements) == 1
        assert len(statements) < 10


# What is gone


async def everything_kept(server: Server) -> str:
    """Every row of every table, as text."""
    found: list[Sequence[Any]] = []
    async with process_of(server).database.read() as transaction:
        for table in tables.metadata.sorted_tables:
            found += [tuple(row) for row in await transaction.execute(select(table))]
    return repr(found)


@pytest.mark.parametrize("length", [1, 3_000])
async def test_nothing_of_a_deleted_message_is_left_in_the_database(own_server: OwnServer, length: int) -> None:
    server = await own_server()
    async with World(server) as world:
        ada, bob = await world.users("ada", "bob")
        group_id = await world.group(ada, bob)
        secrets = [f"{word} " * length for word in ("avocado", "bergamot", "chicory")]
        sent = await world.send(bob, group_id, secrets[0][:4_000], "bob-1")
        for secret in secrets[1:]:
            await edit(bob, sent, secret[:4_000])
        await world.send(bob, group_id, "something else")
        kept = await everything_kept(server)
        assert all(secret[:8] in kept for secret in ("avocado ", "bergamot", "chicory "))
        await delete(ada, sent)
        kept = await everything_kept(server) + repr(await whole_log(bob, group_id))
        assert not any(secret[:7] in kept for secret in secrets)
        if server.settings.is_sqlite:
            raw = file_of(server.settings)
            assert b"something else" in raw
            assert not any(secret[:7].encode() in raw for secret in secrets), "what is deleted is overwritten"


def file_of(settings: Settings) -> bytes:
    """The SQLite file as it is once the write-ahead log has been moved into it."""
    file = Path(settings.database_url.split("///", 1)[1])
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file.read_bytes()
