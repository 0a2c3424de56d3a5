"""The filter by whom messages mention: the same live, replayed and polled, whatever was edited in between."""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from resolvers.filters import Filter
from resolvers.reader import LogReader, group_log
from schema import ids
from schema.types import MESSAGE_EVENT_KINDS
from tests.harness import Endpoint, Json, Person, Subscription, World, eventually
from tests.inside import cohorts, process_of
from tests.reading import start, whole_log
from tests.test_filters import Reader, follow, named, polled
from tests.test_mentions import delete, edit, send
from tests.test_reactions import add

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

FOLD = """query ($id: ID!, $after: String!, $filter: MessageEventFilter) { group(id: $id) {
  messageEvents(after: $after, first: 100, filter: $filter) {
    hasMore events { message { id seq version mentions { user { id } } } } } } }"""


async def replayed(person: Person, group_id: str, after: str, only: Json, count: int) -> list[Json]:
    """So many events of a stream, after which nothing comes."""
    stream = await follow(person, group_id, after, only)
    found = [await stream.event() for _ in range(count)]
    await stream.nothing()
    await stream.complete()
    return found


async def in_every_way(person: Person, group_id: str, after: str, only: Json, live: Subscription) -> list[str]:
    """The kinds of what the filter shows, which is the same in every way."""
    events = await polled(person, group_id, after, only)
    assert [await live.event() for _ in events] == events
    await live.nothing()
    assert await replayed(person, group_id, after, only, len(events)) == events
    return [event["kind"] for event in events]


async def test_a_message_is_shown_from_the_event_on_that_first_mentions_one_whatever_comes_later(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    begin, only = await start(ada, group_id), {"mentions": bob.id}
    live = await follow(ada, group_id, begin, only)
    late, named_at_once = await send(ada, group_id, "hello"), await send(ada, group_id, f"@{bob.username}")
    await add(bob, late)
    await edit(ada, late, f"hello @{bob.username}")
    await edit(ada, late, "hello you")
    await add(ada, late)
    await edit(ada, late, "hello @all")
    await send(bob, group_id, f"@{bob.username}")
    to_all = await send(ada, group_id, "@all")
    await edit(ada, to_all, "nobody")
    kinds = ["SENT", "EDITED", "EDITED", "REACTED", "EDITED", "SENT", "EDITED"]
    assert await in_every_way(ada, group_id, begin, only, live) == kinds
    for message in (late, named_at_once, to_all):
        await delete(ada, message)
    assert [(await live.event())["kind"] for _ in range(3)] == ["DELETED"] * 3
    again = await follow(bob, group_id, begin, only)
    kinds += ["DELETED"] * 3
    assert await in_every_way(bob, group_id, begin, only, again) == kinds, "deletion takes nothing back"
    assert await polled(bob, group_id, begin, {"mentions": ada.id}) == []
    assert await read_late(world.server, group_id, bob) == kinds


async def read_late(server: Endpoint, group_id: str, whom: Person) -> list[str]:
    """What a stream shows that reads the log only now, with the messages as they have become."""
    batch = await LogReader(process_of(server).database).after(group_log(ids.group(group_id)), 0, 100)
    shown = filter(Filter(mentioned_id=ids.user(whom.id)).shows, batch.events)
    return [str(MESSAGE_EVENT_KINDS[event.fact.event.kind].name) for event in shown]


async def test_who_filters_by_the_same_person_shares_each_event(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    head = await ada.head(group_id)
    streams = [await follow(person, group_id, head, {"mentions": bob.id}) for person in (ada, bob)]
    other = await follow(ada, group_id, head, {"mentions": ada.id})
    await eventually(lambda: sorted(cohorts(world.server)) == [1, 2])
    sent = await send(ada, group_id, f"@{bob.username}")
    assert [(await stream.event())["message"]["id"] for stream in streams] == [sent["id"]] * 2
    await other.nothing()


class Talk:
    """People who write to each other and to all, and edit and delete that, at random; and what the filter by one of
    them has to show of it.
    """

    def __init__(self, group_id: str, people: Sequence[Person], whom: Person, random: Random) -> None:
        self._group_id = group_id
        self._people = people
        self._whom = whom
        self._random = random
        self._sent: dict[str, tuple[Person, Json]] = {}
        self._since: dict[str, int] = {}  # the event that first made a message mention them

    async def go(self, steps: int) -> None:
        for number in range(steps):
            kept = list(self._sent.values())
            act = self._random.choice(["send", "send", "edit", "edit", "react", "delete"]) if kept else "send"
            sender, message = self._random.choice(kept or [(self._random.choice(self._people), {})])
            if act == "send":
                self._said(sender, await send(sender, self._group_id, self._text(number)))
            elif act == "edit":
                self._said(sender, await edit(sender, message, self._text(number)))
            elif act == "react":
                await add(self._random.choice(self._people), message, f"{number}")
            else:
                await delete(sender, message)
                del self._sent[message["id"]]

    def _text(self, number: int) -> str:
        said = self._random.choice(["nothing", "@all", *(f"@{person.username}" for person in self._people)])
        return f"{number} {said}"

    def _said(self, sender: Person, message: Json) -> None:
        self._sent[message["id"]] = sender, message
        mentioned = {each["user"] and each["user"]["id"] for each in message["mentions"]}
        if sender is not self._whom and mentioned & {None, self._whom.id}:
            self._since.setdefault(message["id"], message["version"])

    def shows(self, event: Json) -> bool:
        """Of what happened, judged by what each message had said until then."""
        since = self._since.get(event["message"]["id"])
        return since is not None and since <= event["seq"]


async def folded(person: Person, group_id: str, after: str) -> list[str]:
    """What a client has that folds the filtered events: newest first, as the list of mentions."""
    answer = await person.client.execute(FOLD, {"id": group_id, "after": after, "filter": {"mentions": person.id}})
    page: Json = answer["group"]["messageEvents"]
    assert not page["hasMore"]
    kept: dict[str, Json] = {}
    for event in page["events"]:
        message = event["message"]
        if message["id"] not in kept or message["version"] >= kept[message["id"]]["version"]:
            kept[message["id"]] = message
    mentioning = [
        message
        for message in kept.values()
        if {each["user"] and each["user"]["id"] for each in message["mentions"]} & {None, person.id}
    ]
    return [message["id"] for message in sorted(mentioning, key=lambda message: -message["seq"])]


@pytest.mark.parametrize("window", [3, 10_000])
@pytest.mark.parametrize("seed", range(2))
async def test_whatever_is_edited_the_filter_is_the_same_live_replayed_and_polled_and_folds_to_the_truth(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int, window: int
) -> None:
    monkeypatch.setattr("resolvers.resuming.WINDOW", window)
    random = Random(seed)
    people = await world.users("ada", "bob", "cyd")
    group_id = await world.group(*people)
    begin, whom = await start(people[0], group_id), random.choice(people)
    only = {"mentions": whom.id}
    readers = [Reader(person, group_id, begin, only, Random(f"{seed} {person.id}")) for person in people[:2]]
    talk = Talk(group_id, people, whom, random)
    async with asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(reader.go()) for reader in readers]
        await talk.go(50)
        whole = await whole_log(people[0], group_id)
        wanted = named(list(filter(talk.shows, whole)))
        for reader in readers:
            reader.wanted = len(wanted)
    for reader, stream in zip(readers, reading, strict=True):
        assert named(reader.events) == wanted
        await stream.result().nothing()
    for place in range(0, len(whole), 9):
        rest = named(list(filter(talk.shows, whole[place + 1 :])))
        assert named(await polled(people[2], group_id, whole[place]["cursor"], only)) == rest
        assert named(await replayed(people[2], group_id, whole[place]["cursor"], only, len(rest))) == rest
    if window > len(whole):
        listed = (await whom.run("MyMentions", first=100))["edges"]
        assert await folded(whom, group_id, begin) == [edge["node"]["id"] for edge in listed]
