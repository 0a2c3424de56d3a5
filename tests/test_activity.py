"""`myGroupEvents(activity: true)`: that messages were sent, now and then and never in a queue."""

import asyncio
import uuid
from collections.abc import Sequence

import pytest

from delivery.events import Event, Log
from delivery.latest import Latest
from resolvers import news
from tests.conftest import OwnServer
from tests.harness import Json, Person, Subscription, World
from tests.inside import many_groups

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

FOLLOW = """subscription ($activity: Boolean) { myGroupEvents(snapshot: true, activity: $activity) {
  __typename groupId actor { id } group { name } ... on GroupActivityEvent { lastSeq } } }"""


async def follow(person: Person, activity: bool = True) -> Subscription:
    """Live when this returns."""
    stream = await (await person.socket()).subscribe(FOLLOW, {"activity": activity})
    await stream.event()
    return stream


async def up_to(stream: Subscription, seq: int) -> list[Json]:
    """Every event up to the activity with this seq."""
    events = [await stream.event()]
    while events[-1].get("lastSeq") != seq:
        events.append(await stream.event())
    return events


async def test_every_member_who_asks_is_told_that_messages_were_sent(world: World) -> None:
    ada, bob, cyd = await world.users("ada", "bob", "cyd")
    group_id = await world.group(ada, bob, cyd)
    streams, unasked = [await follow(person) for person in (ada, bob, bob)], await follow(cyd, activity=False)
    message = await world.send(ada, group_id)
    for stream in streams:
        assert await stream.event() == {
            "__typename": "GroupActivityEvent",
            "groupId": group_id,
            "actor": {"id": ada.id},
            "group": {"name": "Chess"},
            "lastSeq": message["seq"],
        }
    await unasked.nothing()


async def test_a_burst_is_told_at_most_once_a_second_and_its_last_message_always(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    stream, clock = await follow(bob), asyncio.get_running_loop()
    began = clock.time()
    sent = [await world.send(ada, group_id) for _ in range(20)]
    told = [event["lastSeq"] for event in await up_to(stream, sent[-1]["seq"])]
    assert told == sorted(set(told))
    assert told[0] == sent[0]["seq"]
    assert len(told) <= clock.time() - began + 2
    await stream.nothing()


async def test_busy_groups_never_make_their_reader_fall_behind(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "ACTIVITY_GAP", 0.001)
    server = await own_server(max_waiting_events=5)
    async with World(server) as world:
        ada, bob = await world.users("ada", "bob")
        made = await many_groups(world, ada, bob, 60)
        stream = await follow(bob)
        await asyncio.gather(*(world.send(ada, group_id) for group_id in made))
        sent = await asyncio.gather(*(world.send(ada, group_id) for group_id in made))
        last = {group_id: message["seq"] for group_id, message in zip(made, sent, strict=True)}
        told: dict[str, int] = {}
        while told != last:
            event = await stream.event()
            told[event["groupId"]] = event["lastSeq"]
        await ada.run("UpdateGroup", input={"groupId": made[0], "name": "Go"})
        assert (await stream.event())["group"]["name"] == "Go"


async def test_activity_that_waits_shows_the_group_no_older_than_what_went_before_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "ACTIVITY_SECONDS", 4.0)
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    stream = await follow(bob)
    await up_to(stream, (await world.send(ada, group_id))["seq"])
    waiting = await world.send(ada, group_id)
    await ada.run("UpdateGroup", input={"groupId": group_id, "name": "Go"})
    events = await up_to(stream, waiting["seq"])
    assert [event["__typename"] for event in events] == ["GroupUpdatedEvent", "GroupActivityEvent"]
    assert {event["group"]["name"] for event in events} == {"Go"}


async def test_who_was_removed_is_told_of_no_activity_any_more(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id, other = [await world.group(ada, bob) for _ in range(2)]
    stream = await follow(bob)
    await up_to(stream, (await world.send(ada, group_id))["seq"])
    await world.send(ada, group_id)  # it waits for its second
    await ada.run("RemoveMember", input={"groupId": group_id, "userId": bob.id})
    await world.send(ada, group_id)
    while (await stream.event())["__typename"] != "RemovedFromGroupEvent":
        pass
    for _ in range(2):  # the second of them comes a second later, and so later than what waited would have come
        later = await world.send(ada, other)
        assert [event["groupId"] for event in await up_to(stream, later["seq"])] == [other]


async def test_who_comes_in_is_told_of_what_is_sent_from_then_on(world: World) -> None:
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada)
    stream = await follow(bob)
    await world.send(ada, group_id)
    await ada.run("AddMember", input={"groupId": group_id, "userId": bob.id})
    message = await world.send(ada, group_id)
    events = await up_to(stream, message["seq"])
    assert [event["__typename"] for event in events] == ["AddedToGroupEvent", "GroupActivityEvent"]


# One for each log


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def logs(count: int) -> Sequence[Log]:
    return [Log("group", uuid.uuid4()) for _ in range(count)]


async def test_the_newest_of_each_log_goes_out_at_its_pace_and_what_has_waited_longest_first() -> None:
    clock = Clock()
    latest = Latest(lambda event: event.seq > 0, per_log=1.0, between=0.1, clock=clock)
    one, two = logs(2)
    assert latest.delay is None
    assert [latest.take(Event(one, seq, None, None)) for seq in (0, 1, 2)] == [False, True, False]
    assert latest.take(Event(two, 7, None, None))
    assert latest.delay == 0
    assert (latest.pop().seq, latest.delay) == (2, pytest.approx(0.1))
    clock.now = 0.1
    assert (latest.pop().seq, latest.delay) == (7, None)
    latest.take(Event(two, 8, None, None))
    latest.take(Event(one, 3, None, None))
    assert latest.delay == pytest.approx(0.9)
    clock.now = 1.0
    assert (latest.pop().seq, latest.delay) == (3, pytest.approx(0.1))
    latest.drop(lambda event: event.log == two)
    assert latest.delay is None
    clock.now = 9.0
    latest.take(Event(one, 4, None, None))
    assert latest.delay == 0
