"""Cohorts that show their events more slowly than their log grows: they lose nothing, keep little, and nobody waits for
them.
"""
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, nullcontext, suppress

import pytest

from delivery.cohort import Cohort, Member
from delivery.events import Event
from delivery.stream import Streams
from resolvers.messages import MessagesFollowing, SharedMessages
from resolvers.reader import Shown
from schema import ids
from schema.cohorts import Cohorts
from settings import Settings
from tests import wrong_streams as wrong
from tests.harness import GraphQLFailure, Person, Server, Stack, Subscription, eventually, running_tasks, serving
from tests.inside import cohorts, is_live
from tests.sabotage import Bench, Version, against, name_of

CONTENT = "subscription ($groupId: ID!, $after: String) { groupMessages(groupId: $groupId, after: $after) { %s } }"
PLAIN = CONTENT % "message { content }"
NESTED = CONTENT % "message { content group { lastMessage { id } } }"
# Which reads nothing beside what it does: the only loaders that run are those of the cohort.
SEND = "mutation ($input: SendGroupMessageInput!) { sendGroupMessage(input: $input) { message { seq } } }"
STREAM, LOADER, LEADER, DRAIN = "run_operation", "dispatch_batch", "Cohorts._lead", "Stream._read_on"
BATCH = 5
BURST = [f"number {number}" for number in range(4 * BATCH - 2)]  # whoever reads up to its end reads further
PATIENCE = 2.0


@pytest.fixture
async def bench(quiet: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    for where in ("cohort", "stream"):
        monkeypatch.setattr(f"delivery.{where}.BATCH", BATCH)
    monkeypatch.setattr("delivery.stream.FIRST_PAUSE", 0)
    async with Bench.on(quiet) as bench:
        yield bench


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events waited in a cohort whenever one more did."""
    numbers: list[int] = []
    wait = Cohort._wait

    def counted(self: Cohort, event: Event, ended: list[Member]) -> None:
        wait(self, event, ended)
        numbers.append(len(self._waiting))

    monkeypatch.setattr(Cohort, "_wait", counted)
    return numbers


async def live(person: Person, group_id: str, document: str = NESTED, after: str | None = None) -> Subscription:
    """A subscription that is in its cohort, once it has shown what comes after a given position."""
    variables = {"groupId": group_id, "after": after or await person.head(group_id)}
    stream = await (await person.socket()).subscribe(document, variables)
    await eventually(lambda: is_live(person.server, ids.group(group_id), ids.user(person.id)))
    return stream


async def talk(sender: Person, group_id: str, *contents: str) -> None:
    for content in contents:
        await sender.client.execute(SEND, {"input": {"groupId": group_id, "content": content}})


def is_reading(bench: Bench) -> bool:
    """Whether a stream has more to read."""
    return any(stream._drain for stream in bench.process.streams._streams.values())


async def came(stream: Subscription, last: str = "the last") -> tuple[list[str], str]:
    """The contents up to the last, and how it ended: "LOST" where the last one does not come."""
    found: list[str] = []
    try:
        while last not in found:
            found.append((await stream.event(PATIENCE))["message"]["content"])
    except TimeoutError:
        return found, "LOST"
    except GraphQLFailure as failure:
        return found, str(failure.code)
    return found, "OK"


@pytest.mark.parametrize("node", ["here", "elsewhere"])
@against(wrong.KEEPS_WHATEVER_COMES, wrong.FORGETS_WHAT_IT_LET_GO, wrong.STOPS_READING_TOO_SOON)
async def test_a_burst_beyond_what_a_cohort_keeps_loses_nothing_and_holds_up_nobody(
    bench: Bench, waited: list[int], version: Version, node: str
) -> None:
    with version.judged() as violations, bench.as_if_by_another_node() if node == "elsewhere" else nullcontext():
        ada, *slow, quick = await bench.world.users("ada", "bob", "cyd", "dan")
        group_id = await bench.world.group(ada, *slow, quick)
        streams = [await live(person, group_id) for person in slow]
        beside = await live(quick, group_id, PLAIN)
        with bench.reads.held(LOADER) as nested:
            await talk(ada, group_id, *BURST, "the last")
            await nested.reached()
            assert await came(beside) == ([*BURST, "the last"], "OK")
        for found in await asyncio.gather(*map(came, streams)):
            if found != ([*BURST, "the last"], "OK"):
                violations.append(f"there came {found}")
        if max(waited) > BATCH:
            violations.append(f"{max(waited)} events waited")


@against(wrong.WAITS_FOR_ITS_TURN)
async def test_who_is_removed_in_a_burst_hears_of_it_within_a_second_although_the_cohort_stands_still(
    bench: Bench, version: Version
) -> None:
    with version.judged() as violations:
        ada, bob, cyd = await bench.world.users("ada", "bob", "cyd")
        group_id = await bench.world.group(ada, bob, cyd)
        stays, goes = [await live(person, group_id) for person in (bob, cyd)]
        with bench.reads.held(LOADER) as nested:
            await talk(ada, group_id, *BURST)
            await nested.reached()
            await ada.run("RemoveMember", input={"groupId": group_id, "userId": cyd.id})
            removed = asyncio.get_running_loop().time()
            await talk(ada, group_id, "the last")
            end = await came(goes)
            if end != ([], "MEMBERSHIP_ENDED") or asyncio.get_running_loop().time() > removed + 1:
                violations.append(f"there came {end}")
        assert await came(stays) == ([*BURST, "the last"], "OK")


@against(wrong.READS_WITHOUT_PERMISSIONS, wrong.TAKES_WHAT_IT_HAS)
async def test_what_a_cohort_reads_before_its_stream_does_is_shown_to_no_one_who_was_removed_and_never_twice(
    bench: Bench, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, wait = asyncio.Event(), SharedMessages._next

    async def gated(self: SharedMessages) -> Event | None:
        await gate.wait()
        return await wait(self)

    monkeypatch.setattr(SharedMessages, "_next", gated)
    with version.judged() as violations, bench.as_if_by_another_node():
        ada, bob, cyd = await bench.world.users("ada", "bob", "cyd")
        group_id = await bench.world.group(ada, bob, cyd)
        stays, goes = [await live(person, group_id, PLAIN) for person in (bob, cyd)]
        await talk(ada, group_id, *BURST)
        await eventually(lambda: not is_reading(bench))
        with bench.reads.held(DRAIN) as drain:
            await ada.run("RemoveMember", input={"groupId": group_id, "userId": cyd.id})
            await drain.reached()
            await talk(ada, group_id, "after the removal")
            gate.set()
            found, end = await came(goes, "after the removal")
            if (end, found) != ("MEMBERSHIP_ENDED", BURST[: len(found)]):
                violations.append(f"there came {found}, {end}")
            assert await came(stays, "after the removal") == ([*BURST, "after the removal"], "OK")
        await talk(ada, group_id, "the last")
        if (rest := await came(stays)) != (["the last"], "OK"):
            violations.append(f"then there came {rest}")


@against(wrong.BEGINS_ANYWHERE)
async def test_who_joins_a_cohort_that_is_behind_is_shown_nothing_twice(bench: Bench, version: Version) -> None:
    with version.judged() as violations:
        ada, bob, cyd = await bench.world.users("ada", "bob", "cyd")
        group_id = await bench.world.group(ada, bob, cyd)
        behind = await live(bob, group_id)
        with bench.reads.held(LOADER) as leader:
            await talk(ada, group_id, "the first")
            await leader.reached()
            variables = {"groupId": group_id, "after": await bob.head(group_id)}
            with bench.reads.held(LOADER) as own, bench.reads.held(STREAM, skip=2) as seat:
                late = await (await cyd.socket()).subscribe(NESTED, variables)
                await seat.reached()
                await talk(ada, group_id, "replayed")
                seat.release()
                await own.reached()
                await talk(ada, group_id, *BURST)
            await eventually(lambda: is_live(cyd.server, ids.group(group_id), ids.user(cyd.id)))
        await talk(ada, group_id, "the last")
        for stream, first in ((late, []), (behind, ["the first"])):
            if (found := await came(stream)) != ([*first, "replayed", *BURST, "the last"], "OK"):
                violations.append(f"there came {found}")


async def test_faults_while_a_cohort_reads_what_it_let_go_lose_nothing(bench: Bench) -> None:
    ada, bob = await bench.world.users("ada", "bob")
    group_id = await bench.world.group(ada, bob)
    stream = await live(bob, group_id)
    with bench.reads.broken(LEADER, times=3) as faults:
        with bench.reads.held(LOADER) as nested:
            await talk(ada, group_id, *BURST, "the last")
            await nested.reached()
        assert await came(stream) == ([*BURST, "the last"], "OK")
    assert len(faults) == 3


@against(wrong.GOES_WITH_WHOM_IT_MEETS)
async def test_who_comes_back_while_much_goes_on_is_taken_along_and_soon_in_one_cohort_with_the_others(
    bench: Bench, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their replays are over, and the cohort that is there has come further."""
    gate, replay, over = asyncio.Event(), MessagesFollowing._replay, list[MessagesFollowing]()

    async def gated(self: MessagesFollowing, after: str) -> AsyncIterator[Shown]:
        async for fact in replay(self, after):
            yield fact
        if not gate.is_set():
            over.append(self)
            await gate.wait()

    with version.judged() as violations:
        ada, bob, *late = await bench.world.users("ada", "bob", "cyd", "dan")
        group_id = await bench.world.group(ada, bob, *late)
        first = await live(bob, group_id, PLAIN)
        monkeypatch.setattr(MessagesFollowing, "_replay", gated)
        after, streams = await bob.head(group_id), list[Subscription]()
        for number, person in enumerate(late, start=1):
            await talk(ada, group_id, f"missed {number}")
            variables = {"groupId": group_id, "after": after}
            streams.append(await (await person.socket()).subscribe(PLAIN, variables))
            await eventually(lambda: len(over) == number)  # noqa: B023  # before the next number
        await talk(ada, group_id, *BURST)
        everything = ["missed 1", "missed 2", *BURST]
        assert await came(first, BURST[-1]) == (everything, "OK")
        gate.set()
        for found in await asyncio.gather(*(came(each, BURST[-1]) for each in streams)):
            if found != (everything, "OK"):
                violations.append(f"there came {found}")
        await eventually(lambda: cohorts(bob.server) == [3])
        await talk(ada, group_id, "the last")
        for found in await asyncio.gather(*map(came, (first, *streams))):
            if found != (["the last"], "OK"):
                violations.append(f"then there came {found}")


async def test_what_is_shown_when_the_process_ends_is_shown_before_its_engines_end(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, close, left = asyncio.Event(), Streams.__aexit__, list[str]()
    stop = Cohorts.stop

    async def noted(self: Cohorts) -> None:
        waits.set()
        await stop(self)

    async def counted(self: Streams, *error: object) -> None:
        left.extend(name for name in map(name_of, running_tasks()) if LEADER in name)
        await close(self, *error)

    monkeypatch.setattr(Cohorts, "stop", noted)
    monkeypatch.setattr(Streams, "__aexit__", counted)
    with stack.fresh() as settings:
        async with AsyncExitStack() as life:
            bench = await life.enter_async_context(
                Bench.on(await life.enter_async_context(serving(Settings(**settings))))
            )
            ada, bob = await bench.world.users("ada", "bob")
            group_id = await bench.world.group(ada, bob)
            await live(bob, group_id)
            with bench.reads.held(LOADER) as nested:
                await talk(ada, group_id, "the last")
                await nested.reached()
                ending = asyncio.create_task(life.aclose())
                with suppress(TimeoutError):
                    async with asyncio.timeout(2 * PATIENCE):
                        await waits.wait()
                nested.release()
                await ending
    assert left == []
