"""The rules of streams, each as built and, to show that the test can fail, with the rule broken.

What is shown with an event, how a stream begins, what a fault does to it, and what a slow reader costs.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import pytest

from delivery.bus import Bus
from delivery.events import Event, Hint
from delivery.feed import Feed
from delivery.latest import Latest
from delivery.stream import CHANNELS, READ_ATTEMPTS, Streams
from schema import ids
from tests import wrong_streams as wrong
from tests.harness import (
    GraphQLFailure,
    Json,
    Person,
    Server,
    Socket,
    SocketClosed,
    Subscription,
    eventually,
    running_tasks,
)
from tests.inside import followers, is_live
from tests.interleavings import LOG, NEVER, PEOPLE, Interleaving, Listener, StuckLog, turns
from tests.sabotage import (
    Bench,
    Hold,
    Version,
    against,
    code_of,
    extensions_of,
    name_of,
    only_on,
    running,
)

SEEDS = range(300)
# What reads nothing beside what it does: the only loaders that run are those of the stream that is looked at.
RENAME = "mutation ($input: UpdateGroupInput!) { updateGroup(input: $input) { group { id } } }"
ADD = "mutation ($input: AddMemberInput!) { addMember(input: $input) { membership { id } } }"
REMOVE = "mutation ($input: RemoveMemberInput!) { removeMember(input: $input) { groupId } }"
NESTED = """
subscription ($groupId: ID!, $after: String) {
  groupMessages(groupId: $groupId, after: $after) { cursor message { content group { %s } } }
}
"""
LAST = NESTED % "lastMessage { content }"
REACTIONS = """
subscription ($groupId: ID!, $after: String) {
  groupMessages(groupId: $groupId, after: $after) { kind message { id content reactions { count } } }
}
"""
REACT = "mutation ($input: AddReactionInput!) { addReaction(input: $input) { message { id } } }"
OWN = NESTED % "viewerMembership { role }"
NEWS = """
subscription {
  myGroupEvents(snapshot: true) {
    __typename groupId group { name lastMessage { content } }
    ... on GroupsSnapshotEvent { groups { id name lastMessage { content } } }
    ... on AddedToGroupEvent { membership { status group { name lastMessage { content } } } }
  }
}
"""
NO_PAGE = "messages(first: 0) { nodes { id } }"
MISTAKEN_NEWS = f"subscription {{ myGroupEvents(snapshot: true) {{ __typename group {{ {NO_PAGE} }} }} }}"
STREAM, LOADER, DRAIN = "run_operation", "dispatch_batch", "Stream._read_on"


@pytest.fixture
async def bench(quiet: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """Nothing pauses: what is tried again is tried again at once."""
    monkeypatch.setattr("resolvers.following.PAUSE_SECONDS", 0)
    monkeypatch.setattr("delivery.stream.FIRST_PAUSE", 0)
    async with Bench.on(quiet) as bench:
        yield bench


async def send(person: Person, group_id: str, *contents: str) -> None:
    """One message after the other, in one request."""
    fields = "".join(
        f"m{number}: sendGroupMessage(input: {{groupId: $id, content: {json.dumps(content)}}}) {{ message {{ seq }} }} "
        for number, content in enumerate(contents)
    )
    await person.client.execute(f"mutation ($id: ID!) {{ {fields} }}", {"id": group_id})


async def rename(admin: Person, group_id: str, name: str) -> None:
    await admin.client.execute(RENAME, {"input": {"groupId": group_id, "name": name}})


async def remove(admin: Person, group_id: str, person: Person) -> None:
    await admin.client.execute(REMOVE, {"input": {"groupId": group_id, "userId": person.id}})


async def add(admin: Person, group_id: str, person: Person) -> None:
    await admin.client.execute(ADD, {"input": {"groupId": group_id, "userId": person.id}})


async def live(person: Person, admin: Person, group_id: str, document: str = LAST) -> Subscription:
    """A subscription that has shown its first event and is live."""
    after = await person.head(group_id)
    subscription = await (await person.socket()).subscribe(document, {"groupId": group_id, "after": after})
    await send(admin, group_id, "the first")
    assert (await subscription.event())["message"]["content"] == "the first"
    await eventually(lambda: is_live(person.server, ids.group(group_id), ids.user(person.id)))
    return subscription


async def some_time(person: Person, group_id: str) -> None:
    """As long as five requests take: more turns of the loop than anything needs that waits for nothing."""
    for _ in range(5):
        await person.head(group_id)


async def until_the_end(subscription: Subscription) -> tuple[list[Json], Json]:
    """What came, and the extensions of the error that ended it."""
    came: list[Json] = []
    while True:
        try:
            came.append(await subscription.event())
        except GraphQLFailure as failure:
            return came, failure.extensions


async def close_code(work: Awaitable[object]) -> int | None:
    """What the socket was closed with before the work was done."""
    try:
        await work
    except SocketClosed as closed:
        return closed.code
    return None


async def until(subscription: Subscription, content: str) -> list[str]:
    """The contents that came, up to this one."""
    came: list[str] = []
    while content not in came:
        came.append((await subscription.event())["message"]["content"])
    return came


# Rule 6: inside an event only its own group is open, as far as permissions were applied


@asynccontextmanager
async def shown_slowly(
    bench: Bench, way: str, ada: Person, bob: Person, group_id: str
) -> AsyncGenerator[tuple[Subscription, Hold]]:
    """A subscription whose event is held while it is shown: it came live, in a replay, or where the two meet."""
    variables = {"groupId": group_id, "after": await bob.head(group_id)}
    socket = await bob.socket()
    if way == "live":
        following = await live(bob, ada, group_id)
        with bench.reads.held(LOADER) as nested:
            await send(ada, group_id, "while a member")
            yield following, nested
    elif way == "replayed":
        await send(ada, group_id, "while a member")
        with bench.reads.held(LOADER) as nested:
            yield await socket.subscribe(LAST, variables), nested
    else:
        with bench.reads.held(LOADER) as nested, bench.reads.held(STREAM, skip=2) as seat:
            following = await socket.subscribe(LAST, variables)
            await seat.reached()
            await send(ada, group_id, "while a member")
            seat.release()
            yield following, nested


@pytest.mark.parametrize("way", ["live", "replayed", "met"])
@against(wrong.DOORS_FORGET_HOW_NEW_THEY_SAW)
async def test_an_event_that_is_shown_while_its_reader_is_removed_shows_only_the_end(
    bench: Bench, version: Version, way: str
) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        async with shown_slowly(bench, way, ada, bob, group_id) as (following, nested):
            await nested.reached()
            with bench.reads.held(DRAIN) as drain:
                await remove(ada, group_id, bob)
                await send(ada, group_id, SECRET)
                nested.release()
                if way != "replayed":
                    await drain.reached()
                await some_time(ada, group_id)
        came, end = await until_the_end(following)
        if came:
            violations.append(f"before the end came {came}")
        assert end["code"] == "MEMBERSHIP_ENDED", end


@against(wrong.SHOWS_WHAT_IT_CAN)
async def test_who_is_removed_while_an_event_is_shown_gets_none_after_it_and_can_resume_before_it(
    bench: Bench, version: Version
) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        following = await live(bob, ada, group_id, REACTIONS)
        await send(ada, group_id, "reacted to")
        reacted_to = (await following.event())["message"]["id"]
        with bench.reads.held(LOADER) as nested:
            await ada.client.execute(REACT, {"input": {"messageId": reacted_to, "emoji": "\N{THUMBS UP SIGN}"}})
            await nested.reached()
            await send(ada, group_id, "shown without a read")
            await remove(ada, group_id, bob)
        came, end = await until_the_end(following)
        await add(ada, group_id, bob)
        await send(ada, group_id, "the last")
        resumed = await (await bob.socket()).subscribe(REACTIONS, {"groupId": group_id, "after": end["cursor"]})
        kinds = [each["kind"] for each in (*came, await resumed.event())]
        if kinds != ["REACTED"]:
            violations.append(f"there came {kinds}, {len(came)} of them before the end")


@against(wrong.READS_BESIDE_THE_DOOR)
async def test_memberships_are_read_through_the_door_as_well(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        following = await live(bob, ada, group_id, OWN)
        with bench.reads.held(LOADER) as nested:
            await send(ada, group_id, "while a member")
            await nested.reached()
            await remove(ada, group_id, bob)
        came, _ = await until_the_end(following)
        if came:
            violations.append(f"before the end came {came}")


@against(wrong.SENDS_BEFORE_PERMISSIONS_ARE_APPLIED)
async def test_an_event_waits_until_the_permissions_it_was_read_under_are_applied(
    bench: Bench, version: Version
) -> None:
    with version.judged() as violations:
        ada, bob, cyd = await bench.world.users("ada", "bob", "cyd")
        group_id = await bench.world.group(ada, bob, cyd)
        following = await live(bob, ada, group_id)
        with bench.reads.held(LOADER) as nested, bench.reads.held(DRAIN, skip=1) as drain:
            await send(ada, group_id, "shown slowly")
            await nested.reached()
            await remove(ada, group_id, cyd)
            await drain.reached()
            nested.release()
            await some_time(ada, group_id)
            try:
                await following.nothing()
            except AssertionError:
                violations.append("it was sent while the removal of another was not applied")
            drain.release()
        assert await until(following, "shown slowly") == ["shown slowly"], "who is still a member gets it"


@against(wrong.KEEPS_ITS_LOADERS)
async def test_each_event_shows_people_and_groups_as_they_are_now(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob, name="Chess")
        following = await live(bob, ada, group_id, NESTED % "name lastMessage { sender { displayName } content }")
        await send(ada, group_id, "before")
        await following.event()
        await ada.run("UpdateViewer", input={"nickname": "Countess"})
        await rename(ada, group_id, "Go")
        await send(ada, group_id, "renamed")
        group = (await following.event())["message"]["group"]
        shown = (group["name"], group["lastMessage"]["sender"]["displayName"], group["lastMessage"]["content"])
        if shown != ("Go", "Countess", "renamed"):
            violations.append(f"the event shows {shown}")


@against(wrong.TAKES_THE_ENDS_OF_OTHERS)
async def test_the_removal_of_somebody_else_ends_nobodys_stream(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob, cyd, dan = await bench.world.users("ada", "bob", "cyd", "dan")
        group_id = await bench.world.group(ada, bob, cyd, dan)
        following = await live(bob, ada, group_id)
        await remove(ada, group_id, cyd)
        await dan.run("LeaveGroup", input={"groupId": group_id})
        await send(ada, group_id, "after them")
        if (code := await code_of(until(following, "after them"))) != "OK":
            violations.append(f"the stream of a member ended with {code}")


async def all_news(subscription: Subscription, last: str) -> list[Json]:
    """The events up to the first of this type."""
    came: list[Json] = []
    while not came or came[-1]["__typename"] != last:
        came.append(await subscription.event())
    return came


async def news(person: Person, document: str = NEWS) -> Subscription:
    subscription = await (await person.socket()).subscribe(document)
    assert (await subscription.event())["__typename"] == "GroupsSnapshotEvent"
    return subscription


@against(wrong.OPENS_THE_DOOR_FOR_ANYBODY)
async def test_who_is_added_and_removed_again_sees_nothing_of_the_group(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada)
        following = await news(bob)
        with bench.reads.held(STREAM) as heads:
            await add(ada, group_id, bob)
            await heads.reached()
            await remove(ada, group_id, bob)
            await send(ada, group_id, SECRET)
        added, removed = await all_news(following, "RemovedFromGroupEvent")
        if SECRET in json.dumps(added):
            violations.append(f"came {added}")
        assert (added["__typename"], added["group"], removed["group"]) == ("AddedToGroupEvent", None, None)
        assert added["groupId"] == removed["groupId"] == group_id


@pytest.mark.parametrize("change", ["renamed", "added"])
@against(wrong.DOORS_FORGET_HOW_NEW_THEY_SAW)
async def test_news_of_a_group_shown_while_its_reader_is_removed_show_no_group(
    bench: Bench, version: Version, change: str
) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, *([bob] if change == "renamed" else []))
        following = await news(bob)
        with bench.reads.held(LOADER) as nested:
            await (rename(ada, group_id, "Go") if change == "renamed" else add(ada, group_id, bob))
            await nested.reached()
            with bench.reads.held(DRAIN) as drain:
                await remove(ada, group_id, bob)
                await drain.reached()
                await send(ada, group_id, SECRET)
                nested.release()
                await some_time(ada, group_id)
        shown, _ = await all_news(following, "RemovedFromGroupEvent")
        if shown["group"] is not None or SECRET in json.dumps(shown):
            violations.append(f"came {shown}")


@against(wrong.SENDS_AN_OLD_SNAPSHOT)
async def test_a_group_that_was_left_before_the_snapshot_is_shown_is_not_in_it(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        kept = await bench.world.group(ada, bob)
        with bench.reads.held(LOADER) as nested:
            following = await (await bob.socket()).subscribe(NEWS)
            await nested.reached()
            await remove(ada, group_id, bob)
        result = await following.next()
        shown = result["data"] and result["data"]["myGroupEvents"]
        groups = [group["id"] for group in shown["groups"]] if shown else []
        if groups != [kept] or result.get("errors"):
            violations.append(f"came {result}")
        await rename(ada, kept, FENCE)
        if (await following.event())["group"] is None:
            violations.append("news that the snapshot knew already")


# Rule 7: a stream begins whole

Story = Sequence[str]
Start = Literal["now", "replay"]
OLD = ("old 1", "old 2")
PATIENCE, NEWS_PATIENCE = 0.5, 3.0  # seconds, after which a fence is sent again, or news are lost
SECRET, FENCE = "a secret", "the fence"
STORIES: Sequence[Story] = [
    ("one", "two"),
    ("remove",),
    ("one", "remove", SECRET),
    ("remove", "between", "add"),
    ("one", "remove", "between", "add", "two"),
]


@dataclass(frozen=True)
class Case:
    """A story, and the read of a start at which it happens: before it, or when it is done."""

    story: Story
    point: int
    done: bool

    @property
    def is_member_after(self) -> bool:
        changes = [word for word in self.story if word in ("remove", "add")]
        return not changes or changes[-1] == "add"

    def __str__(self) -> str:
        return f"{', '.join(self.story)} {'after' if self.done else 'before'} read {self.point}"


async def tell(story: Story, ada: Person, bob: Person, group_id: str) -> None:
    for word in story:
        if word in ("remove", "add"):
            await (remove if word == "remove" else add)(ada, group_id, bob)
        else:
            await send(ada, group_id, word)


async def begin_during(
    bench: Bench, people: tuple[Person, Person], socket: Socket, start: Start, case: Case
) -> list[str]:
    """What is wrong with what came of a groupMessages that began while a story happened."""
    ada, bob = people
    group_id = await bench.world.group(ada, bob)
    await send(ada, group_id, *OLD)
    cursor = (await bob.run("Group", id=group_id))["startCursor"] if start == "replay" else None
    with bench.reads.held(STREAM, skip=case.point, done=case.done) as read:
        following = await socket.subscribe(LAST, {"groupId": group_id, "after": cursor})
        await read.reached()
        await tell(case.story, ada, bob, group_id)
    came: list[str] = []
    code = ""
    while code != "OK":
        await send(ada, group_id, FENCE)
        events, code = await until_fence(following)
        came += [event["message"]["content"] for event in events]
        cursor = events[-1]["cursor"] if events else cursor
        if code not in ("OK", "LOST"):
            if cursor is None or not case.is_member_after:
                break
            following = await socket.subscribe(LAST, {"groupId": group_id, "after": cursor})
    await following.complete()
    return [f"{fault}, {case}: {came}, {code}" for fault in faults(start, case, came, code)]


async def until_fence(following: Subscription) -> tuple[list[Json], str]:
    """The events up to the fence, which is left out, and the code of the end: "LOST" where the fence does not come."""
    events: list[Json] = []
    try:
        while True:
            event = await following.event(PATIENCE)
            if event["message"]["content"] == FENCE:
                return events, "OK"
            events.append(event)
    except TimeoutError:
        return events, "LOST"
    except GraphQLFailure as failure:
        return events, str(failure.code)


def faults(start: Start, case: Case, came: list[str], code: str) -> list[str]:
    told = [word for word in case.story if word not in ("remove", "add")]
    whole = [*OLD, *told] if start == "replay" else told
    if not case.is_member_after:
        seen = whole[: whole.index(SECRET)] if SECRET in whole else whole
        late = [] if code in ("MEMBERSHIP_ENDED", "FORBIDDEN") else ["the stream of no member goes on"]
        return late + ([] if came == seen[: len(came)] else ["not the beginning of what a member saw"])
    if start == "replay":
        return [] if came == whole else ["lost or doubled"]
    return [] if came == whole[len(whole) - len(came) :] else ["not everything from one point on"]


async def reads_of_a_start(bench: Bench, ada: Person, bob: Person, start: Start) -> int:
    """How often the start of a stream reads."""
    group_id = await bench.world.group(ada, bob)
    cursor = (await bob.run("Group", id=group_id))["startCursor"] if start == "replay" else None
    socket = await bob.socket()
    with bench.reads.counted(STREAM) as reads:
        following = await socket.subscribe(LAST, {"groupId": group_id, "after": cursor})
        while not following.waiting:
            await send(ada, group_id, FENCE)
            await socket.ping()
        await following.complete()
    return len(reads)


async def check_starts(bench: Bench, version: Version, start: Start) -> None:
    """Each story at each read of a start, before it and after it; a wrong version is left at its first violation."""
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        socket = await bob.socket()
        points = range(1, await reads_of_a_start(bench, ada, bob, start))  # the first reads the token
        for case in [Case(story, point, done) for story in STORIES for point in points for done in (False, True)]:
            violations.extend(await begin_during(bench, (ada, bob), socket, start, case))
            if violations:
                break


@against(wrong.BEGINS_AT_ZERO, wrong.SITS_AFTER_THE_HEAD_WAS_READ)
async def test_a_resumed_stream_misses_and_doubles_nothing_whatever_races_with_its_start(
    bench: Bench, version: Version
) -> None:
    await check_starts(bench, version, "replay")


@against(wrong.READS_THE_HEAD_AFTER_THE_JUDGEMENT)
async def test_a_stream_from_now_on_is_whole_from_its_first_event_whatever_races_with_its_start(
    bench: Bench, version: Version
) -> None:
    await check_starts(bench, version, "now")


@against(wrong.JUDGES_A_REPLAY_ONCE)
async def test_a_replay_is_judged_by_present_membership_in_each_batch(
    bench: Bench, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolvers.resuming.REPLAY_BATCH", 2)
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        after = await bob.head(group_id)
        await send(ada, group_id, *"abcdef")
        with bench.reads.held(STREAM, skip=2) as second_batch:
            following = await (await bob.socket()).subscribe(LAST, {"groupId": group_id, "after": after})
            await second_batch.reached()
            await remove(ada, group_id, bob)
            await send(ada, group_id, FENCE)
        events, code = await until_fence(following)
        if [event["message"]["content"] for event in events] != ["a", "b"]:
            violations.append(f"came {events}")
        if code != "MEMBERSHIP_ENDED":
            violations.append(f"the end is {code}")


NEWS_STORIES: Sequence[Story] = [
    ("add",),
    ("remove",),
    ("rename",),
    ("rename", "remove", "rename", "add"),
]


async def news_during(bench: Bench, ada: Person, case: Case) -> list[str]:
    """What differs between the folded news and the list fetched anew, for a myGroupEvents that began during a story."""
    bob = await bench.world.user("bob")
    old = await bench.world.group(ada, bob, name="old")
    told = await bench.world.group(ada, *([] if case.story[0] == "add" else [bob]), name="told")
    with bench.reads.held(STREAM, skip=case.point, done=case.done) as read:
        following = await (await bob.socket()).subscribe(NEWS)
        await read.reached()
        for number, word in enumerate(case.story):
            if word == "rename":
                await rename(ada, told, f"renamed {number}")
            else:
                await (add if word == "add" else remove)(ada, told, bob)
    await rename(ada, old, FENCE)
    await bench.world.group(ada, bob, name=FENCE)
    fetched = (await bob.run("MyGroups"))["edges"]
    expected = {edge["node"]["id"]: edge["node"]["name"] for edge in fetched}
    shown: dict[str, str] = {}
    with suppress(TimeoutError):
        while shown != expected:
            fold(shown, await following.event(NEWS_PATIENCE))
    await following.nothing()
    await following.complete()
    return [] if shown == expected else [f"{case}: {shown} for {expected}"]


def fold(shown: dict[str, str], event: Json) -> None:
    match event:
        case {"__typename": "GroupsSnapshotEvent"}:
            shown.update({group["id"]: group["name"] for group in event["groups"]})
        case {"group": None}:
            shown.pop(event["groupId"], None)
        case _:
            shown[event["groupId"]] = event["group"]["name"]


@against(wrong.LISTS_AND_THEN_SITS)
async def test_a_snapshot_and_the_news_after_it_meet_whatever_races_with_their_start(
    bench: Bench, version: Version
) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        await bench.world.group(ada, bob)
        with bench.reads.counted(STREAM) as reads:
            await news(bob)
        points = range(1, len(reads))
        for case in [Case(story, point, done) for story in NEWS_STORIES for point in points for done in (False, True)]:
            violations.extend(await news_during(bench, ada, case))
            if violations:
                break


@against(
    wrong.BEGINS_AT_ZERO,
    wrong.KEEPS_NOTHING_WHILE_IT_JOINS,
    wrong.ENDS_ONLY_AT_THE_END,
    wrong.SKIPS_WHAT_THE_STREAM_HAS_PASSED,
    wrong.LOSES_WHAT_IT_READ_TOO_MUCH,
    wrong.MISSES_PERMISSIONS_APPLIED_BEFORE,
    wrong.SKIPS_WHAT_IT_CANNOT_READ,
)
async def test_no_interleaving_of_joins_removals_and_faults_loses_doubles_or_leaks(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delivery.stream.BATCH", 3)
    monkeypatch.setattr("tests.wrong_streams.BATCH", 3)
    monkeypatch.setattr("delivery.stream.FIRST_PAUSE", 0)
    with version.judged() as violations:
        for seed in SEEDS:
            violations.extend(f"seed {seed}: {fault}" for fault in await Interleaving(seed).play())
            if violations:
                break


@against(wrong.DEAF_WHILE_A_STREAM_IS_MADE)
async def test_a_logout_while_the_socket_begins_is_felt_without_a_head_check(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada = await bench.world.user("ada")
        heard: list[str] = []
        for channel in CHANNELS:
            await bench.process.bus.join(channel, heard.append)
        with bench.reads.held("Socket._begin", skip=1, done=True) as heads:
            async with running(ada.socket()) as opening:
                await heads.reached()
                await ada.run("Logout")
                await eventually(lambda: heard)
                heads.release()
        for channel in CHANNELS:
            await bench.process.bus.leave(channel, heard.append)
        socket = await opening
        again = await bench.world.user("bob")
        await again.group_events()  # a socket that began later is live
        if (code := await close_code(socket.ping())) != 4403:
            violations.append(f"the socket outlives its log-in: {code}")


@against(wrong.STARTS_AGAIN_WHEN_IT_IS_STOPPED)
async def test_a_drain_that_is_stopped_in_the_middle_of_a_read_does_not_start_again(version: Version) -> None:
    with version.judged() as violations:
        log = StuckLog()
        before = running_tasks()
        async with Bus("memory://") as bus, Streams(bus, log, NEVER) as streams:
            (seat,) = await streams.seats([LOG], PEOPLE[0], Listener(PEOPLE[0]))
            seat.begin(0)
            log.append()
            streams.announce([(Hint(LOG, log.head), None)])
            await eventually(lambda: log.reads)
        await turns(10)
        left = [task for task in running_tasks() - before if not task.done()]
        violations.extend(map(name_of, left))
        seat.leave()  # nobody follows any more: what is stopped now is not begun again, not even by the broken version
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


# Rule 8: an event is never skipped


@against(wrong.SKIPS_A_FAULTY_EVENT, wrong.SENDS_A_FAULTY_EVENT)
async def test_an_event_that_meets_a_fault_comes_whole_when_it_is_over(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        following = await live(bob, ada, group_id)
        with bench.reads.broken(LOADER, times=2) as faults:
            await send(ada, group_id, "through two faults", FENCE)
            events, code = await until_fence(following)
        assert faults
        contents = [event["message"]["content"] for event in events]
        if (contents, code) != (["through two faults"], "OK"):
            violations.append(f"came {contents}, {code}")


@against(wrong.MOVES_THE_CURSOR_BEFORE_IT_SENDS)
async def test_a_fault_that_stays_ends_the_stream_with_the_cursor_of_the_last_event_that_came(
    bench: Bench, version: Version
) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        following = await live(bob, ada, group_id)
        await send(ada, group_id, "before")
        last = await following.event()
        with bench.reads.broken(LOADER):
            await send(ada, group_id, "during", FENCE)
            came, end = await until_the_end(following)
        assert (came, end["code"], end["retry"]) == ([], "SERVICE_UNAVAILABLE", True)
        if end["cursor"] != last["cursor"]:
            violations.append(f"the cursor is {end['cursor']}, the last event's is {last['cursor']}")
        again = await (await bob.socket()).subscribe(LAST, {"groupId": group_id, "after": end["cursor"]})
        events, _ = await until_fence(again)
        if [event["message"]["content"] for event in events] != ["during"]:
            violations.append(f"after that cursor came {events}")


@against(wrong.SKIPS_WHAT_IT_CANNOT_READ)
async def test_a_log_that_cannot_be_read_for_a_while_loses_nothing(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        following = await live(bob, ada, group_id)
        with bench.as_if_by_another_node(), bench.reads.broken(DRAIN, times=3) as faults:
            await send(ada, group_id, "during")
            await eventually(lambda: len(faults) > 0)
        await send(ada, group_id, "after", FENCE)
        events, code = await until_fence(following)
        contents = [event["message"]["content"] for event in events]
        if (contents, code) != (["during", "after"], "OK"):
            violations.append(f"came {contents}, {code}")


@against(wrong.SKIPS_WHAT_IT_GIVES_UP)
async def test_a_log_that_stays_unreadable_ends_its_streams_and_they_resume(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        following = await live(bob, ada, group_id)
        with bench.as_if_by_another_node(), bench.reads.broken(DRAIN) as faults:
            await send(ada, group_id, "unread")
            await eventually(lambda: len(faults) >= READ_ATTEMPTS)
        await send(ada, group_id, FENCE)
        end = await extensions_of(until(following, FENCE))
        if end.get("code") != "SERVICE_UNAVAILABLE":
            violations.append(f"went on without what it could not read: {end}")
        else:
            variables = {"groupId": group_id, "after": end["cursor"]}
            again = await (await bob.socket()).subscribe(LAST, variables)
            assert await until(again, FENCE) == ["unread", FENCE]


@against(wrong.TAKES_A_FAULT_FOR_AN_END)
async def test_a_fault_while_permissions_are_applied_tells_no_member_that_they_are_none(
    bench: Bench, version: Version
) -> None:
    with version.judged() as violations:
        ada, bob, cyd = await bench.world.users("ada", "bob", "cyd")
        group_id = await bench.world.group(ada, bob, cyd)
        following = await news(bob)
        with bench.reads.held(LOADER) as nested:
            await rename(ada, group_id, "Go")
            await nested.reached()
            with bench.reads.broken(DRAIN):
                await remove(ada, group_id, cyd)
                nested.release()
                came, end = await until_the_end(following)
        if came:
            violations.append(f"came {came}")
        assert end["code"] == "SERVICE_UNAVAILABLE", end


@against(wrong.HAS_NO_PATIENCE)
async def test_a_fault_in_the_judgement_of_a_replayed_event_is_tried_again(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob, cyd = await bench.world.users("ada", "bob", "cyd")
        group_id = await bench.world.group(ada, bob, cyd)
        after = await bob.head(group_id)
        await send(ada, group_id, "replayed")
        with bench.reads.held(LOADER) as nested:
            following = await (await bob.socket()).subscribe(LAST, {"groupId": group_id, "after": after})
            await nested.reached()
            await remove(ada, group_id, cyd)
            with bench.reads.broken(STREAM, times=1) as faults:
                nested.release()
                try:
                    await until(following, "replayed")
                except GraphQLFailure as failure:
                    violations.append(f"ended with {failure}")
        assert faults


@against(wrong.TAKES_MISTAKES_FOR_FAULTS)
async def test_a_mistake_in_a_nullable_field_travels_with_the_event_and_one_that_nulls_it_all_ends(
    bench: Bench, version: Version
) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        own = await news(bob, MISTAKEN_NEWS)
        try:
            for name in ("Go", "Draughts"):
                await rename(ada, group_id, name)
                result = await own.next()
                assert [error["extensions"]["code"] for error in result["errors"]] == ["BAD_USER_INPUT"]
                event = result["data"]["myGroupEvents"]
                assert (event["__typename"], event["group"]) == ("GroupUpdatedEvent", None)
        except GraphQLFailure as failure:
            violations.append(f"the whole stream ended: {failure}")
        variables = {"groupId": group_id, "after": await bob.head(group_id)}
        mistaken = await (await bob.socket()).subscribe(NESTED % NO_PAGE, variables)
        await send(ada, group_id, "shown by nobody")
        came, end = await until_the_end(mistaken)
        if (came, end["code"]) != ([], "BAD_USER_INPUT"):
            violations.append(f"the end of what nothing is left of: {end}")


# The outbox


def small_feed(_: int, wants: Callable[[Event], bool], latest: Latest | None = None) -> Feed:
    return Feed(3, wants, latest)


@against(wrong.FEEDS_WITHOUT_BOUND)
async def test_who_follows_their_groups_and_lags_too_far_is_closed(
    bench: Bench, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolvers.news.Feed", small_feed)
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id = await bench.world.group(ada, bob)
        following = await (await bob.socket()).subscribe(
            "subscription { myGroupEvents { group { lastMessage { id } } } }"
        )
        await eventually(lambda: followers(bob.server, ids.group(group_id)))
        with bench.reads.held(LOADER) as nested:
            for number in range(10):  # the first one or two may come before it is live
                await rename(ada, group_id, f"renamed {number}")
            await nested.reached()
        try:
            async with asyncio.timeout(PATIENCE):
                code = await close_code(_read_for_ever(following))
        except TimeoutError:
            code = None
        if code != 1013:
            violations.append(f"a lagging subscriber was fed: {code}")


async def _read_for_ever(following: Subscription) -> None:
    while True:
        await following.event()


async def test_however_much_comes_while_one_catches_up_nothing_is_lost(bench: Bench) -> None:
    ada, bob = await bench.world.users("ada", "bob")
    group_id = await bench.world.group(ada, bob)
    async with shown_slowly(bench, "met", ada, bob, group_id) as (following, nested):
        await nested.reached()
        await send(ada, group_id, *"bcdef", FENCE)
        nested.release()
        events, code = await until_fence(following)
    assert ([event["message"]["content"] for event in events], code) == (["while a member", *"bcdef"], "OK")


@only_on("postgres")
@against(wrong.LOOKS_ONLY_FORWARD)
async def test_a_backup_that_is_restored_under_a_running_server_ends_the_streams_it_concerns(
    bench: Bench, version: Version
) -> None:
    with version.judged() as violations:
        ada, bob = await bench.world.users("ada", "bob")
        group_id, other = [await bench.world.group(ada, bob) for _ in range(2)]
        following, untouched = await live(bob, ada, group_id), await live(bob, ada, other)
        async with bench.connection() as connection:
            log = ids.group(group_id)
            await connection.execute("DELETE FROM group_events WHERE group_id = $1 AND seq > 2", log)
            await connection.execute("DELETE FROM messages WHERE group_id = $1 AND seq > 2", log)
            await connection.execute("UPDATE groups SET head_seq = 2, access_seq = 2 WHERE id = $1", log)
        await bench.process.streams.check_heads()
        await send(ada, group_id, "written anew")
        ended = {"code": "NOT_ENDED"}
        with suppress(TimeoutError):
            ended = await extensions_of(following.event(PATIENCE))
        if ended.get("code") != "SERVICE_UNAVAILABLE":
            violations.append(f"the old stream goes on: {ended}")
        else:
            variables = {"groupId": group_id, "after": ended["cursor"]}
            again = await (await bob.socket()).subscribe(LAST, variables)
            assert (await until_the_end(again))[1]["code"] == "CURSOR_INVALID"
        await send(ada, other, "as before")
        assert await until(untouched, "as before") == ["as before"]


@only_on("postgres")
async def test_a_group_that_a_restored_backup_does_not_have_ends_its_streams(bench: Bench) -> None:
    ada, bob = await bench.world.users("ada", "bob")
    group_id = await bench.world.group(ada, bob)
    following = await live(bob, ada, group_id)
    async with bench.connection() as connection:
        await connection.execute("SET session_replication_role = replica")  # nothing else is asked for the group's row
        await connection.execute("DELETE FROM groups WHERE id = $1", ids.group(group_id))
    await bench.process.streams.check_heads()
    ended = await extensions_of(following.event(PATIENCE))
    assert (ended["code"], ended["retry"]) == ("SERVICE_UNAVAILABLE", True)
    variables = {"groupId": group_id, "after": ended["cursor"]}
    again = await (await bob.socket()).subscribe(LAST, variables)
    assert (await until_the_end(again))[1]["code"] == "NOT_FOUND"
