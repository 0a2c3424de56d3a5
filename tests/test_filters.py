"""Filters on a group's events: what they show is the filtered whole, live, replayed and polled, whatever happens."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from tests.harness import Json, Person, Subscription, World, eventually, refused
from tests.inside import cohorts
from tests.reading import start
from tests.standings import NO_MEMBERS, Standing, scene_for

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

EVENT = "cursor seq kind message { id sender { id } threadRoot { id } }"
FOLLOW = f"""subscription ($groupId: ID!, $after: String, $filter: MessageEventFilter) {{
  groupMessages(groupId: $groupId, after: $after, filter: $filter) {{ {EVENT} }}
}}"""
POLL = f"""query ($id: ID!, $after: String!, $first: Int, $filter: MessageEventFilter) {{
  group(id: $id) {{ page: messageEvents(after: $after, first: $first, filter: $filter) {{
    events {{ {EVENT} }} cursor hasMore }} }}
}}"""
KINDS = ["SENT", "EDITED", "DELETED"]
SETS = [list(each) for size in (1, 2, 3) for each in itertools.combinations(KINDS, size)]
SENT = {"kinds": ["SENT"]}


async def follow(person: Person, group_id: str, after: str | None, only: Json | None) -> Subscription:
    socket = await person.socket()
    return await socket.subscribe(FOLLOW, {"groupId": group_id, "after": after, "filter": only})


async def poll(person: Person, group_id: str, after: str, only: Json | None, first: int = 2) -> Json:
    given = {"id": group_id, "after": after, "first": first, "filter": only}
    return (await person.client.execute(POLL, given))["group"]["page"]


def shows(only: Json | None) -> Callable[[Json], bool]:
    if only is None:
        return lambda _: True
    if "kinds" in only:
        return lambda event: event["kind"] in only["kinds"]
    if "thread" in only:
        return lambda event: {"id": only["thread"]} in ({"id": event["message"]["id"]}, event["message"]["threadRoot"])
    return lambda event: event["message"]["sender"]["id"] == only["sender"]


def named(events: Sequence[Json]) -> list[tuple[str, int, str, str]]:
    return [(each["cursor"], each["seq"], each["kind"], each["message"]["id"]) for each in events]


class Talk:
    """People who send, reply, edit and delete at random, and an admin who changes the group in between."""

    def __init__(self, group_id: str, people: Sequence[Person], random: Random) -> None:
        self._group_id = group_id
        self._people = people
        self._random = random
        self._sent: list[tuple[Person, str]] = []
        self._gone: set[str] = set()

    async def go(self, steps: int) -> str:
        """The message that was sent first."""
        for number in range(steps):
            await self._step(number)
        return self._sent[0][1]

    async def _step(self, number: int) -> None:
        kept = [each for each in self._sent if each[1] not in self._gone]
        act = self._random.choice(["send", "send", "edit", "delete", "change"]) if kept else "send"
        if act == "send":
            person, root = self._random.choice(self._people), self._random.choice([None, *(of for _, of in kept[:2])])
            given = {"groupId": self._group_id, "content": f"{number}", "replyToId": root}
            self._sent.append((person, (await person.run("SendGroupMessage", input=given))["message"]["id"]))
        elif act == "change":
            await self._people[0].run("UpdateGroup", input={"groupId": self._group_id, "description": f"{number}"})
        else:
            sender, message_id = self._random.choice(kept)
            if act == "edit":
                await sender.run("EditMessage", input={"messageId": message_id, "content": f"edited {number}"})
            else:
                deleter = self._random.choice([sender, self._people[0]])
                await deleter.run("DeleteMessage", input={"messageId": message_id})
                self._gone.add(message_id)


class Reader:
    """A client that follows with a filter, and goes away and comes back with its last cursor at random."""

    def __init__(self, person: Person, group_id: str, after: str, only: Json, random: Random) -> None:
        self._person = person
        self._group_id = group_id
        self._cursor = after
        self._only = only
        self._random = random
        self._patience = 0.1
        self.events: list[Json] = []
        self.wanted: int | None = None  # how many there are in all, once that is known

    async def go(self) -> Subscription:
        while True:
            stream = await follow(self._person, self._group_id, self._cursor, self._only)
            for _ in range(self._random.randint(1, 6)):
                if len(self.events) == self.wanted:
                    return stream
                if not await self._take(stream):
                    break
            await stream.complete()

    async def _take(self, stream: Subscription) -> bool:
        try:
            event = await stream.event(timeout=self._patience)
        except TimeoutError:
            self._patience *= 2  # on a machine that is busy nothing comes sooner than that
            return False
        self._patience = 0.1
        self.events.append(event)
        self._cursor = event["cursor"]
        return True


@pytest.mark.parametrize("window", [3, 10_000])
@pytest.mark.parametrize("seed", range(2))
async def test_a_filtered_stream_is_the_filtered_whole_live_and_over_reconnects_at_any_point(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int, window: int
) -> None:
    monkeypatch.setattr("resolvers.resuming.WINDOW", window)
    random = Random(seed)
    people = await world.users("ada", "bob", "cyd")
    group_id = await world.group(*people)
    after = await start(people[0], group_id)
    talk = Talk(group_id, people, random)
    filters = [*random.sample(SETS, 3), {"sender": random.choice(people).id}, {"thread": await talk.go(1)}]
    filters = [each if isinstance(each, dict) else {"kinds": each} for each in filters]
    readers = [Reader(random.choice(people), group_id, after, each, Random(f"{seed} {each}")) for each in filters]
    async with asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(reader.go()) for reader in readers]
        await talk.go(40)
        whole = await polled(people[0], group_id, after, None, 100)
        for reader, only in zip(readers, filters, strict=True):
            reader.wanted = len(list(filter(shows(only), whole)))
    for reader, only, stream in zip(readers, filters, reading, strict=True):
        assert named(reader.events) == named(list(filter(shows(only), whole))), only
        await stream.result().nothing()


@pytest.mark.parametrize("window", [2, 10_000])
async def test_from_any_cursor_a_filter_gives_the_filtered_rest_replayed_and_polled(
    world: World, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr("resolvers.resuming.WINDOW", window)
    people = await world.users("ada", "bob", "cyd")
    stranger = await world.user()
    group_id = await world.group(*people)
    first = await Talk(group_id, people, Random(window)).go(25)
    after = await start(people[0], group_id)
    whole = await polled(people[0], group_id, after, None, 100)
    filters: list[Json | None] = [None, *({"kinds": each} for each in SETS)]
    filters += [{"sender": each.id} for each in (*people, stranger)]
    filters += [{"thread": each} for each in (first, whole[-1]["message"]["id"])]
    cursors = [after, *(event["cursor"] for event in whole)]
    for only in filters:
        for place in (0, len(whole) // 2, len(whole)):
            wanted = named([each for each in whole[place:] if shows(only)(each)])
            assert named(await polled(people[1], group_id, cursors[place], only)) == wanted
            stream = await follow(people[1], group_id, cursors[place], only)
            assert named([await stream.event() for _ in wanted]) == wanted
            await stream.nothing()
            await stream.complete()


async def polled(person: Person, group_id: str, after: str, only: Json | None, first: int = 2) -> list[Json]:
    """Everything after a cursor, page by page, each of which goes on from the one before."""
    found, more = list[Json](), True
    while more:
        page = await poll(person, group_id, after, only, first)
        assert page["cursor"] != after or not page["hasMore"], "polling makes progress"
        found, after, more = found + page["events"], page["cursor"], page["hasMore"]
    assert after == await person.head(group_id), "after everything that was looked at"
    return found


async def test_a_cursor_means_the_same_with_every_filter(world: World) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    first = await world.send(ada, group_id, "one")
    await ada.run("EditMessage", input={"messageId": first["id"], "content": "two"})
    after = (await poll(ada, group_id, await start(ada, group_id), SENT))["cursor"]
    await world.send(ada, group_id, "three")
    (event,) = (await poll(ada, group_id, after, {"sender": ada.id}))["events"]
    assert event["kind"] == "SENT"


async def test_who_filters_by_the_same_shares_each_event_and_others_do_not(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    head = await ada.head(group_id)
    of_kind = [await follow(person, group_id, head, SENT) for person in (ada, bob)]
    others = [await follow(ada, group_id, head, only) for only in ({"sender": bob.id}, {"kinds": ["DELETED"]}, None)]
    await eventually(lambda: sorted(cohorts(world.server)) == [1, 1, 1, 2])
    sent = await world.send(ada, group_id, "hello")
    await ada.run("DeleteMessage", input={"messageId": sent["id"]})
    await world.send(bob, group_id, "bye")
    expected = [["SENT", "SENT"]] * 2 + [["SENT"], ["DELETED"], ["SENT", "DELETED", "SENT"]]
    for stream, kinds in zip([*of_kind, *others], expected, strict=True):
        assert [(await stream.event())["kind"] for _ in kinds] == kinds
        await stream.nothing()


@pytest.mark.parametrize("only", [{"kinds": ["DELETED"]}, {"sender": None}], ids=str)
async def test_no_filter_leaves_out_the_end(world: World, only: Json) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    given = only if "kinds" in only else {"sender": bob.id}
    streams = [await follow(person, group_id, await ada.head(group_id), given) for person in (ada, bob)]
    await eventually(lambda: cohorts(world.server) == [2])
    await world.send(ada, group_id)
    await ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
    with refused("MEMBERSHIP_ENDED"):
        await streams[1].event()
    await ada.run("DeleteGroup", input={"groupId": group_id})
    with refused("GROUP_DELETED"):
        await streams[0].event()


@pytest.mark.parametrize(
    "only",
    [
        {"kinds": []}, {"kinds": ["NOTHING"]}, {"kinds": None}, {"sender": ""}, {"sender": "nobody"}, {},
        {"kinds": ["SENT"], "sender": "nobody"}, {"sender": None}, {"kinds": [None]},
        {"thread": ""}, {"thread": "nothing"}, {"thread": None}, {"mentions": ""}, {"mentions": None},
    ],
    ids=str,
)  # fmt: skip
async def test_a_filter_that_is_none_is_refused(world: World, only: Json) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    head = await ada.head(group_id)
    with refused("BAD_USER_INPUT"):
        await poll(ada, group_id, head, only)
    with refused("BAD_USER_INPUT"):
        await (await follow(ada, group_id, head, only)).event()


@pytest.mark.parametrize("name", ["sender", "thread", "mentions"])
async def test_the_id_of_something_else_is_none_to_filter_by(world: World, name: str) -> None:
    ada = await world.user()
    group_id = await world.group(ada)
    with refused("BAD_USER_INPUT"):
        await poll(ada, group_id, await ada.head(group_id), {name: group_id})


@pytest.mark.parametrize("standing", NO_MEMBERS, ids=lambda standing: standing.name)
async def test_a_filter_opens_no_door(world: World, standing: Standing) -> None:
    scene = await scene_for(world, standing)
    given: dict[str, Any] = {"after": await scene.head(), "only": SENT}
    with refused("FORBIDDEN"):
        await poll(scene.actor, scene.group_id, **given)
    with refused("FORBIDDEN"):
        await (await follow(scene.actor, scene.group_id, **given)).event()
