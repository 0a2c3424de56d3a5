"""Many who come back from nearby positions: each event is executed once for all who ask the same, and each of them is
shown what they would have been shown alone.
"""

import asyncio
from collections import Counter
from typing import Any

import pytest

from schema import execution, replays
from tests.harness import Json, Person, World, eventually
from tests.inside import process_of

CONTENT = "subscription($groupId: ID!, $after: String) { groupMessages(groupId: $groupId, after: $after) { %s } }"
PLAIN = CONTENT % "seq cursor message { content deletedAt sender { displayName } }"
OF_GROUP = CONTENT % "seq cursor message { content group { name } }"
OF_THREAD = CONTENT % "seq cursor message { threadRoot { content thread { replyCount } } }"
OF_VIEWER = CONTENT % "seq cursor message { group { viewerMembership { user { id } } } }"


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each event of a subscription was executed, by its seq."""
    seen: Counter[int] = Counter()
    begun = execution.Planned.build_per_event_executor

    def counted(executor: execution.Planned, event: Any) -> execution.Planned:
        seen[event.fact.event.seq] += 1
        return begun(executor, event)

    monkeypatch.setattr(execution.Planned, "build_per_event_executor", counted)
    return seen


@pytest.fixture
def remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> replays.Replays:
    """What the server remembers from here on."""
    own = replays.Replays()
    monkeypatch.setattr(process_of(world.server).sockets, "replays", own)
    return own


async def five_messages(world: World) -> tuple[Person, str, str, list[int]]:
    """Who sent them to which group, the position before them, and their places in its log."""
    ada = await world.user("ada")
    group_id = await world.group(ada)
    start = (await ada.run("Group", id=group_id))["headCursor"]
    sent = [(await world.send(ada, group_id, f"number {n}"))["seq"] for n in range(5)]
    return ada, group_id, start, sent


async def replayed(person: Person, document: str, group_id: str, after: str, count: int) -> list[Json]:
    stream = await (await person.socket()).subscribe(document, {"groupId": group_id, "after": after})
    return [await stream.event() for _ in range(count)]


async def test_who_comes_back_from_a_nearby_position_shares_what_is_shown(
    world: World, executed: Counter[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "SECONDS", 60)
    ada, *others = await world.users("ada", "bob", "cyd", "dan")
    group_id = await world.group(ada, *others)
    start = (await ada.run("Group", id=group_id))["headCursor"]
    sent = [(await world.send(ada, group_id, f"number {n}"))["seq"] for n in range(10)]
    (first, *_) = whole = await replayed(ada, PLAIN, group_id, start, 10)
    answers = await asyncio.gather(
        *(replayed(each, PLAIN, group_id, start, 10) for each in others),
        *(replayed(each, PLAIN, group_id, first["cursor"], 9) for each in others),
    )
    assert answers == [whole] * 3 + [whole[1:]] * 3
    assert executed == Counter(sent)


async def test_nothing_is_shown_again_that_has_changed_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "SECONDS", 60)
    ada, bob = await world.users("ada", "bob")
    group_id = await world.group(ada, bob)
    start = (await ada.run("Group", id=group_id))["headCursor"]
    message = await world.send(bob, group_id, "a secret")
    for document in (PLAIN, OF_GROUP):
        (event,) = await replayed(ada, document, group_id, start, 1)
        assert event["message"]["content"] == "a secret"
    await bob.run("UpdateViewer", input={"nickname": "Bobby"})
    (event,) = await replayed(ada, PLAIN, group_id, start, 1)
    assert event["message"]["sender"] == {"displayName": "Bobby"}
    await ada.run("UpdateGroup", input={"groupId": group_id, "name": "Another"})
    (event,) = await replayed(bob, OF_GROUP, group_id, start, 1)
    assert event["message"]["group"] == {"name": "Another"}
    await bob.run("DeleteMessage", input={"messageId": message["id"]})
    for document in (PLAIN, OF_GROUP):
        (event, _) = await replayed(ada, document, group_id, start, 2)
        assert event["message"]["content"] == ""


async def test_no_thread_is_shown_again_that_has_changed_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "SECONDS", 60)
    ada = await world.user("ada")
    group_id = await world.group(ada)
    root = await world.send(ada, group_id)
    start = await ada.head(group_id)
    for count in (1, 2, 3):
        reply = {"groupId": group_id, "content": f"number {count}", "replyToId": root["id"]}
        await ada.run("SendGroupMessage", input=reply)
        first, *_ = await replayed(ada, OF_THREAD, group_id, start, count)
        assert first["message"]["threadRoot"] == {"content": "hello", "thread": {"replyCount": count}}
    await ada.run("EditMessage", input={"messageId": root["id"], "content": "edited"})
    first, *_ = await replayed(ada, OF_THREAD, group_id, start, 4)
    assert first["message"]["threadRoot"]["content"] == "edited"


async def test_what_differs_from_viewer_to_viewer_is_shared_with_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "SECONDS", 60)
    people = await world.users("ada", "bob")
    group_id = await world.group(*people)
    start = (await people[0].run("Group", id=group_id))["headCursor"]
    await world.send(people[0], group_id)
    for person in people:
        (event,) = await replayed(person, OF_VIEWER, group_id, start, 1)
        assert event["message"]["group"]["viewerMembership"]["user"]["id"] == person.id


async def test_a_process_remembers_a_bounded_number_of_events(
    world: World, executed: Counter[int], remembered: replays.Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "REMEMBERED", 3)
    monkeypatch.setattr(replays, "SECONDS", 60)
    ada, group_id, start, sent = await five_messages(world)
    for _ in range(2):
        await replayed(ada, PLAIN, group_id, start, 5)
        assert len(remembered) == 3
    assert executed == Counter(2 * sent)


async def test_what_was_shown_to_those_who_came_back_is_let_go_of_when_no_more_come(
    world: World, executed: Counter[int], remembered: replays.Replays
) -> None:
    ada, group_id, start, sent = await five_messages(world)
    for _ in range(2):
        await replayed(ada, PLAIN, group_id, start, 5)
        await eventually(lambda: not remembered)
    assert executed == Counter(2 * sent)
