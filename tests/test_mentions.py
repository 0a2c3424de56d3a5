"""Mentions: what in a text is one, whom it means, and that they belong to the content that is shown."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from db import tables
from schema import ids
from settings import Settings
from tests.counting import statements
from tests.harness import Json, Person, Stack, World, eventually, refused, serving
from tests.harness.world import PASSWORD
from tests.inside import cohorts
from tests.reading import read, start
from tests.sabotage import Bench, quiet_server

MENTIONS = "content mentionsAll mentions { start length user { id username } }"
PARTS = f"fragment Parts on Message {{ id seq version {MENTIONS} }}"
PAGE = f"query ($id: ID!) {{ group(id: $id) {{ messages(last: 100) {{ nodes {{ ...Parts }} }} }} }} {PARTS}"
LOG = f"""query ($id: ID!, $after: String!) {{ group(id: $id) {{ messageEvents(after: $after) {{
    events {{ kind message {{ ...Parts }} }} }} }} }} {PARTS}"""
FOLLOW = f"""subscription ($groupId: ID!, $after: String) {{ groupMessages(groupId: $groupId, after: $after) {{
    kind message {{ ...Parts }} }} }} {PARTS}"""
SEND = f"""mutation ($input: SendGroupMessageInput!) {{ sendGroupMessage(input: $input) {{
    message {{ ...Parts }} }} }} {PARTS}"""
EDIT = f"mutation ($input: EditMessageInput!) {{ editMessage(input: $input) {{ message {{ ...Parts }} }} }} {PARTS}"
ALL = "@all"

# What is in brackets mentions; `{a}` and `{b}` are the names of members, `{dot}` is one that ends with a dot.
TEXTS = [
    "[@{a}]", "hi [@{a}]!", "[@{a}], [@{b}] and [@{a}]", "([@{a}])", '"[@{a}]"', "*[@{a}]*", "[@{a}]:", "[@{a}]?!",
    "[@{a}].", "[@{a}]...", "[@{a}]-", "[@{a}]._-", "_ [@{a}]_", "[@{dot}]", "[@{b}]..", "[@{a}]'s", "[@{a}]\n[@{b}]",
    "[@{A}]", "\t[@{a}]\t", "#[@{a}]", "`[@{a}]`", "<[@{a}]>", "[@{a}]/@{b}",
    "👍[@{a}]👍 [@{b}]", "👩‍👩‍👧‍👦 [@{a}]", "\U0001d49c [@{a}]", "ü [@{a}]", "请[@{a}]看", "ねえ[@{a}]さん", "[@{a}]님",
    "\u202e[@{a}]", "\ufeff[@{a}]", "…[@{a}]…",
    "{a}", "@", "@@", "@ {a}", "@@{a}", "@{a}@", "x@{a}", "é@{a}", "д@{a}", "1@{a}", "_@{a}", "mail.@{a}", "a+@{a}",
    "me@{a}.org", "@{a}@example.org", "https://example.org/@{a}", "@{a}x", "@{a}é", "@{a}\u0301", "@x{a}", "@{a}-x",
    "@{a}.x", "@no", "@nobody", "@{out}", "@{pending}", "\uff20{a}", "@\u200b{a}", "@" + "a" * 3_000, "@." * 1_000,
]  # fmt: skip


async def send(person: Person, group_id: str, content: str, client_id: str | None = None) -> Json:
    given = {"groupId": group_id, "content": content, "clientMessageId": client_id}
    return (await person.client.execute(SEND, {"input": given}))["sendGroupMessage"]["message"]


async def edit(person: Person, message: Json, content: str) -> Json:
    given = {"messageId": message["id"], "content": content}
    return (await person.client.execute(EDIT, {"input": given}))["editMessage"]["message"]


async def delete(person: Person, message: Json) -> None:
    await person.run("DeleteMessage", input={"messageId": message["id"]})


async def shown(person: Person, message: Json) -> Json:
    return await person.run("MessageMentions", id=message["id"])


def places(message: Json) -> list[tuple[int, int]]:
    return [(each["start"], each["length"]) for each in message["mentions"]]


def names(message: Json) -> list[str]:
    """Whom it mentions at each place. That is what stands there, as JavaScript reads it."""
    units = message["content"].encode("utf-16-le")
    for each in message["mentions"]:
        found = units[2 * each["start"] : 2 * (each["start"] + each["length"])].decode("utf-16-le")
        assert found.lower() == "@" + (each["user"]["username"] if each["user"] else "all")
    assert message["mentionsAll"] == any(each["user"] is None for each in message["mentions"])
    return [each["user"]["username"] if each["user"] else ALL for each in message["mentions"]]


def marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """A text without its brackets, and what they enclosed, in UTF-16 code units."""
    content, found = "", list[tuple[int, int]]()
    for number, part in enumerate(text.replace("]", "[").split("[")):
        if number % 2:
            found.append((len(content.encode("utf-16-le")) // 2, len(part)))
        content += part
    return content, found


# What is one


async def test_a_mention_is_found_where_people_expect_one_and_nowhere_else(world: World) -> None:
    ada, bob, out, pending = await world.users("ada", "bob", "out", "pending")
    group_id = await world.group(bob, ada)
    await bob.run("InviteMember", input={"groupId": group_id, "userId": pending.id})
    named = {"username": f"{ada.username}."[-32:], "password": PASSWORD, "firstName": "Dot", "lastName": "Dot"}
    dot = (await world.server.client().run("Register", input=named))["viewer"]
    await bob.run("AddMember", input={"groupId": group_id, "userId": dot["id"]})
    assert dot["username"] == ada.username + "."
    known = {"a": bob.username, "b": ada.username, "dot": dot["username"], "A": bob.username.upper()}
    known |= {"out": out.username, "pending": pending.username}
    for text in TEXTS:
        content, expected = marked(text.format(**known))
        found = await send(ada, group_id, content)
        assert (found["content"], places(found)) == (content, expected)
        names(found)


async def test_all_means_everybody_when_a_moderator_or_an_admin_writes_it(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    role = {"groupId": group_id, "userId": bob.id}
    await ada.run("ChangeMemberRole", input=role | {"role": "MODERATOR"})
    for content, expected in (("@all", [0]), ("Hi @ALL, @all.", [3, 9]), ("@all-hands, @alle, x@all", [])):
        for person in (ada, bob):
            found = await send(person, group_id, content)
            assert [start for start, _ in places(found)] == expected
            assert set(names(found)) <= {ALL}
        assert names(await send(cyd, group_id, content)) == []
    before = await send(bob, group_id, "@all come")
    await ada.run("ChangeMemberRole", input=role | {"role": "MEMBER"})
    assert names(await shown(ada, before)) == [ALL], "it was written by a moderator"
    assert names(await edit(bob, before, "@all go")) == [], "it is written by a member"


async def test_only_who_is_a_member_when_it_is_written_is_mentioned_and_stays_so(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob)
    subject = {"groupId": group_id, "userId": cyd.id}
    sent = await send(ada, group_id, f"@{cyd.username} @{bob.username} @{ada.username}")
    assert names(sent) == [bob.username, ada.username], "oneself is a member"
    await ada.run("AddMember", input=subject)
    assert await shown(cyd, sent) == await shown(ada, sent)
    assert names(await shown(ada, sent)) == [bob.username, ada.username]
    edited = await edit(ada, sent, f"@{bob.username} @{cyd.username}")
    assert names(edited) == [bob.username, cyd.username]
    await cyd.run("LeaveGroup", input={"groupId": group_id})
    assert names(await shown(bob, sent)) == [bob.username, cyd.username], "who has left stays mentioned"
    assert names(await edit(ada, sent, f"@{cyd.username} @{bob.username}!")) == [bob.username]
    await ada.run("AddMember", input=subject)
    assert names(await edit(ada, sent, f"@{cyd.username}")) == [cyd.username]


async def test_so_many_places_are_looked_at_and_so_many_people_mentioned_in_a_messages_life(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = await world.users("ada", "bob", "cyd", "dan", "eve")
    group_id = await world.group(*people)
    named = [f"@{person.username}" for person in people]
    sent = await send(people[0], group_id, " ".join([named[1]] * 60))
    assert len(sent["mentions"]) == 50
    monkeypatch.setattr("resolvers.mentions.MOST_MENTIONS", 3)
    assert names(await edit(people[0], sent, f"@nobody {' '.join(named)}")) == [each.username for each in people[:2]]
    assert names(await edit(people[0], sent, " ".join(named[2:]))) == [people[2].username], "the third in its life"
    assert names(await edit(people[0], sent, " ".join(named[:3]))) == [each.username for each in people[:3]]


# What is shown


async def test_every_way_of_reading_shows_the_mentions_of_the_content_that_it_shows(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    begin = await start(ada, group_id)
    given = {"groupId": group_id, "after": begin}
    streams = [await (await person.socket()).subscribe(FOLLOW, given) for person in (ada, bob)]
    await eventually(lambda: cohorts(world.server) == [2])
    sent = await send(ada, group_id, f"👋 @{bob.username}", "once")
    assert await send(ada, group_id, f"👋 @{bob.username}", "once") == sent
    edited = await edit(ada, sent, f"@all, or @{cyd.username}")
    other = await send(bob, group_id, "nobody")
    await delete(ada, other)
    assert [names(each) for each in (sent, edited, other)] == [[bob.username], [ALL, cyd.username], []]
    page = (await cyd.client.execute(PAGE, {"id": group_id}))["group"]["messages"]["nodes"]
    assert page[0] == edited
    tombstone: Json = page[1]
    assert (names(tombstone), tombstone["mentionsAll"]) == ([], False)
    for stream in streams:
        events = [event["message"] for event in await read(stream, 4)]
        assert [events[0] in (sent, edited), *events[1:]] == [True, edited, *events[2:3], tombstone]
    late = await (await cyd.socket()).subscribe(FOLLOW, given)
    last = [edited, edited, tombstone, tombstone]
    assert [event["message"] for event in await read(late, 4)] == last
    log = (await cyd.client.execute(LOG, {"id": group_id, "after": begin}))["group"]["messageEvents"]["events"]
    assert [event["message"] for event in log] == last


async def test_a_deleted_message_mentions_nobody(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        sent = await send(ada, group_id, f"@{bob.username} @all")
        await delete(ada, sent)
        gone = await shown(bob, sent)
        assert (gone["content"], gone["mentions"], gone["mentionsAll"]) == ("", [], False)
        async with bench.process.database.read() as transaction:
            rows = (await transaction.execute(select(tables.mentions.c.whom_id, tables.mentions.c.present))).all()
            ((mentioned,),) = (await transaction.execute(select(tables.messages.c.mentions))).all()
        assert sorted(rows) == sorted([(ids.user(bob.id), False), (ids.group(group_id), False)])
        assert {each.places for each in mentioned} == {()}


async def test_who_is_no_member_sees_no_mention(world: World) -> None:
    ada, bob, out = await world.users("ada", "bob", "out")
    group_id = await world.group(ada, bob)
    sent = await send(ada, group_id, f"@{bob.username} @{out.username}")
    await ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
    for person in (bob, out):
        with refused("FORBIDDEN"):
            await shown(person, sent)


# What it costs


async def test_a_text_without_an_at_costs_no_statement_and_all_names_of_a_text_one(stack: Stack) -> None:
    async with quiet_server(stack) as server, Bench.on(server) as bench:
        people = await bench.world.users("ada", "bob", "cyd")
        ada, group_id = people[0], await bench.world.group(*people)
        said = ["nobody", "me@", "@all", " ".join(f"@{person.username}" for person in people)]
        costs: list[list[str]] = []
        for content in said:
            await send(ada, group_id, "as before")
            with statements(server) as seen:
                await bench.world.send(ada, group_id, content)
            costs.append(list(seen))
        plain, address, *_ = costs
        assert plain == address
        assert not any(" mentions" in statement and "INTO messages" not in statement for statement in plain)
        without = [[each for each in cost if not each.startswith("INSERT INTO mentions")] for cost in costs]
        assert len(without[2]) == len(plain)
        assert len(without[3]) == len(plain) + 1
        with statements(server) as seen:
            assert len((await ada.client.execute(PAGE, {"id": group_id}))["group"]["messages"]["nodes"]) == 8
        assert sum("FROM users" in statement for statement in seen) <= 3
        assert not any("FROM mentions" in statement for statement in seen)


# Any text, beside a finder that looks at every character


def is_letter(character: str) -> bool:
    """Of a script whose words do not touch each other."""
    return character == "_" or (character.isalnum() and not "\u3000" < character < "\ud7ff")


def expected(content: str, members: Sequence[Person]) -> list[tuple[int, str]]:
    """The places and names in what an admin writes, by looking at every `@`."""
    known = {person.username: person.username for person in members} | {"all": ALL}
    found: list[tuple[int, str]] = []
    looked_at = 0
    for place in (place for place, character in enumerate(content) if character == "@"):
        before = content[place - 1] if place else " "
        end = place + 1
        while end < len(content) and (content[end].isascii() and (content[end].isalnum() or content[end] in "._-")):
            end += 1
        after = content[end] if end < len(content) else " "
        if is_letter(before) or before in "@/.+-" or is_letter(after) or after in "@\u0301":
            continue
        run = content[place + 1 : end].lower()
        either = [name for name in (run, run.rstrip("._-")) if 3 <= len(name) <= 32]
        looked_at += bool(either)
        means = [known[name] for name in either if name in known]
        if means and looked_at <= 50:
            found.append((len(content[:place].encode("utf-16-le")) // 2, means[0]))
    return found


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """Hypothesis calls plain functions: a loop of their own, which moves only while one of them runs."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def own_world(stack: Stack, loop: asyncio.Runner) -> Iterator[World]:
    with stack.fresh() as fresh:
        running = serving(Settings(**fresh))
        yield World(loop.run(running.__aenter__()))
        loop.run(running.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def members(own_world: World, loop: asyncio.Runner) -> list[Person]:
    return loop.run(own_world.users("ada", "bob", "cyd"))


PIECES = ["@", "@", "@", "{0}", "{1}", "{2}", "{0}", "all", "ALL", " ", " ", ".", "-", "_", "/", "+", "x", "é", "看"]
TEXT = st.lists(st.sampled_from([*PIECES, "👍", "\u0301", ",", "\n", "@{1} ", "@{0} "]), min_size=1, max_size=120)
WRITTEN = st.lists(st.tuples(st.booleans(), TEXT), min_size=1, max_size=6)


@settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(written=WRITTEN)
def test_whatever_is_written_and_edited_the_places_are_those_that_a_look_at_every_character_finds(
    own_world: World, members: list[Person], loop: asyncio.Runner, written: list[tuple[bool, list[str]]]
) -> None:
    async def write_it() -> None:
        group_id = await own_world.group(*members)
        sent: list[Json] = []
        for is_edit, pieces in written:
            content = "".join(pieces).format(*(person.username for person in members))
            if content.isspace():
                continue
            if is_edit and sent:
                found = await edit(members[0], sent[0], content)
            else:
                found = await send(members[0], group_id, content)
            sent.append(found)
            starts = [start for start, _ in places(found)]
            assert list(zip(starts, names(found), strict=True)) == expected(content, members)

    loop.run(write_it())
