"""Many who come back at once: what they missed is read for all of them together, and each is judged by themselves."""
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import count

import pytest

from resolvers.pace import RoundFailed, Rounds, Turns
from tests import wrong_streams as wrong
from tests.harness import Person, Server, Subscription, eventually
from tests.reading import start
from tests.sabotage import Bench, Hold, Version, against, code_of

FOLLOW = """subscription ($groupId: ID!, $after: String) {
    groupMessages(groupId: $groupId, after: $after) { cursor message { content } }
}"""
STREAM = "run_operation"
MISSED = [f"number {number}" for number in range(20)]
DEVICES = 20  # of each person, on one socket
CATCHES_UP_SECONDS = 30


@pytest.fixture
async def bench(quiet: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr("resolvers.following.PAUSE_SECONDS", 0)
    async with Bench.on(quiet) as bench:
        yield bench


class Gate:
    """Nobody has a turn until so many wait for one read of the log: they share it, and take turns from then on."""

    def __init__(self, bench: Bench) -> None:
        self._rounds = bench.process.services.replays
        self._is_open = asyncio.Event()

    async def turn(self, turns: Turns) -> None:
        await self._is_open.wait()
        await TURN(turns)

    async def asked_by(self, number: int) -> None:
        await eventually(lambda: [len(asked) for asked in self._rounds._asked.values()] == [number])

    async def open_for(self, number: int) -> None:
        await self.asked_by(number)
        self._is_open.set()


TURN = Turns.turn


@pytest.fixture
def gate(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate(bench)

    async def turn(self: Turns) -> None:
        await gate.turn(self)

    monkeypatch.setattr(Turns, "turn", turn)
    return gate


async def resume(people: Sequence[Person], group_id: str, after: Sequence[str]) -> list[Subscription]:
    """Each on a socket of their own, after a position of their own."""
    sockets = [await person.socket() for person in people]
    return [
        await socket.subscribe(FOLLOW, {"groupId": group_id, "after": cursor})
        for socket, cursor in zip(sockets, after, strict=True)
    ]


async def told(stream: Subscription, number: int) -> list[str]:
    return [(await stream.event())["message"]["content"] for _ in range(number)]


async def talk(bench: Bench, sender: Person, group_id: str, contents: Sequence[str]) -> None:
    for content in contents:
        await bench.world.send(sender, group_id, content)


async def test_two_hundred_who_come_back_at_once_read_the_log_together(bench: Bench, gate: Gate) -> None:
    people = await bench.world.users(*(f"user{number}" for number in range(10)))
    group_id = await bench.world.group(*people)
    after = await people[0].head(group_id)
    await talk(bench, people[0], group_id, MISSED)
    sockets = [await person.socket() for person in people]
    given = {"groupId": group_id, "after": after}
    with bench.statements.recorded() as statements:
        streams = [await socket.subscribe(FOLLOW, given) for socket in sockets for _ in range(DEVICES)]
        await gate.open_for(len(streams))
        for stream in streams:
            assert await told(stream, len(MISSED)) == MISSED
        # One alone takes two of each, so 400 for all of them.
        assert sum("group_events" in statement for _, statement in statements) <= 40
        assert sum("memberships" in statement for _, statement in statements) <= 40
    await bench.world.send(people[0], group_id, "the last")
    for stream in streams:
        assert await told(stream, 1) == ["the last"]


async def test_two_hundred_who_come_back_while_others_write_without_a_pause_catch_up_with_them(bench: Bench) -> None:
    people = await bench.world.users(*(f"user{number}" for number in range(10)))
    group_id = await bench.world.group(*people)
    given = {"groupId": group_id, "after": await people[0].head(group_id)}
    await talk(bench, people[0], group_id, MISSED)
    sockets, sent = [await person.socket() for person in people], list[str]()
    are_back = asyncio.Event()

    async def write(sender: Person) -> None:
        for number in count():
            if are_back.is_set():
                return
            sent.append(f"{sender.id} {number}")
            await talk(bench, sender, group_id, sent[-1:])

    async def come(streams: dict[Subscription, list[str]], content: str) -> None:
        async def until(stream: Subscription, found: list[str]) -> None:
            while content not in found:
                found += await told(stream, 1)

        async with asyncio.timeout(CATCHES_UP_SECONDS):
            await asyncio.gather(*(until(*each) for each in streams.items()))

    async with asyncio.TaskGroup() as writing:
        for sender in people[:4]:
            writing.create_task(write(sender))
        await eventually(lambda: len(sent) > len(people))
        streams = {await socket.subscribe(FOLLOW, given): list[str]() for socket in sockets for _ in range(DEVICES)}
        newest = len(sent)
        await eventually(lambda: len(sent) > newest)
        await come(streams, sent[newest])
        are_back.set()
    await talk(bench, people[0], group_id, ["the last"])
    await come(streams, "the last")
    first, *others = streams.values()
    assert sorted(first) == sorted([*MISSED, *sent, "the last"])
    assert all(found == first for found in others)


@against(wrong.JUDGES_A_REPLAY_ONCE)
async def test_who_is_removed_between_two_batches_that_are_shared_is_shown_nothing_of_the_second(
    bench: Bench, gate: Gate, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolvers.resuming.REPLAY_BATCH", 10)
    with version.judged() as violations:
        ada, *people = await bench.world.users("ada", "bob", "cyd", "dan")
        group_id = await bench.world.group(ada, *people)
        after = await ada.head(group_id)
        await talk(bench, ada, group_id, MISSED)
        with bench.reads.held(STREAM, skip=len(people) + 1) as second:  # after the tokens and the first batch
            bob, cyd, dan = await resume(people, group_id, [after] * 3)
            await gate.open_for(3)
            await second.reached()
            await ada.run("RemoveMember", input={"groupId": group_id, "userId": people[1].id})
        for stays in (bob, dan):
            assert await told(stays, len(MISSED)) == MISSED
        assert await told(cyd, 10) == MISSED[:10]
        if (code := await code_of(cyd.event())) != "MEMBERSHIP_ENDED":
            violations.append(f"after the removal came {code}")
        for stream in (bob, dan):
            await stream.complete()


async def test_what_is_wrong_with_one_who_comes_back_concerns_nobody_else(bench: Bench, gate: Gate) -> None:
    ada, bob, gone, wrong_place = await bench.world.users("ada", "bob", "cyd", "dan")
    group_id = await bench.world.group(ada, bob, gone, wrong_place)
    after = await ada.head(group_id)
    await talk(bench, ada, group_id, MISSED)
    await ada.run("RemoveMember", input={"groupId": group_id, "userId": gone.id})
    forged = after[:-2] + ("AA" if after[-2:] != "AA" else "BB")
    own, left, lost = await resume([bob, gone, wrong_place], group_id, [after, after, forged])
    await gate.open_for(3)
    assert await code_of(left.event()) == "FORBIDDEN"
    assert await code_of(lost.event()) == "CURSOR_INVALID"
    assert await told(own, len(MISSED)) == MISSED


async def test_those_who_are_far_apart_each_get_their_own_part(
    bench: Bench, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolvers.resuming.REPLAY_BATCH", 3)
    ada, *people = await bench.world.users("ada", "bob", "cyd", "dan", "eve")
    group_id = await bench.world.group(ada, *people)
    positions = [await start(ada, group_id)]
    for content in MISSED:
        await bench.world.send(ada, group_id, content)
        positions.append(await ada.head(group_id))
    behind = [1, 11, 13, 20]
    streams = await resume(people, group_id, [positions[number] for number in behind])
    await gate.open_for(4)
    for number, stream in zip(behind, streams, strict=True):
        assert await told(stream, len(MISSED) - number) == MISSED[number:]
    await bench.world.send(ada, group_id, "the last")
    for stream in streams:
        assert await told(stream, 1) == ["the last"]


async def test_a_fault_in_a_shared_read_is_tried_again_by_everybody(bench: Bench, gate: Gate) -> None:
    ada, *people = await bench.world.users("ada", "bob", "cyd", "dan")
    group_id = await bench.world.group(ada, *people)
    after = await ada.head(group_id)
    await talk(bench, ada, group_id, MISSED)
    streams = await resume(people, group_id, [after] * 3)
    await gate.asked_by(3)
    with bench.reads.broken(STREAM, times=2) as faults:
        await gate.open_for(3)
        for stream in streams:
            assert await told(stream, len(MISSED)) == MISSED
    assert len(faults) == 2


# Rounds by themselves


class Log:
    """Something that is read, slowly."""

    def __init__(self) -> None:
        self.head = 0
        self.reads: list[Sequence[int]] = []
        self.hold: Hold | None = None
        self.is_away = False

    async def read(self, questions: Sequence[int]) -> Sequence[int | None]:
        self.reads.append(questions)
        head = self.head
        if self.hold is not None:
            await self.hold.stand_still()
        if self.is_away:
            raise ConnectionResetError
        return [head if number < 2 else None for number, _ in enumerate(questions)]


async def test_no_answer_is_older_than_its_question() -> None:
    rounds, log = Rounds(between=2), Log()
    log.hold = Hold()
    early = asyncio.create_task(rounds.ask("it", 1, log.read))
    await log.hold.reached()
    log.head = 1
    late = [asyncio.create_task(rounds.ask("it", number, log.read)) for number in (2, 3)]
    await eventually(lambda: len(log.reads) == 2)
    log.hold.release()
    assert (await early, *await asyncio.gather(*late)) == (0, 1, 1)
    assert log.reads == [[1], [2, 3]]


async def test_whoever_gets_no_answer_at_one_turn_gets_it_at_another() -> None:
    rounds, log = Rounds(between=2), Log()
    assert await asyncio.gather(*(rounds.ask("it", number, log.read) for number in range(5))) == [0] * 5
    assert log.reads == [[0, 1, 2, 3, 4], [2, 3, 4], [4]]


async def test_kinds_have_nothing_to_do_with_each_other() -> None:
    rounds, log = Rounds(between=2), Log()
    await asyncio.gather(*(rounds.ask(kind, 1, log.read) for kind in "ab"))
    assert log.reads == [[1], [1]]


@pytest.mark.parametrize("reason", ["fault", "cancelled", "cancelled early"])
async def test_the_end_of_whoever_reads_for_all_holds_up_nobody(reason: str) -> None:
    rounds, log = Rounds(between=2), Log()
    log.hold, log.is_away = Hold(), reason == "fault"
    asked = [asyncio.create_task(rounds.ask("it", number, log.read)) for number in (1, 2)]
    await (asyncio.sleep(0) if reason == "cancelled early" else log.hold.reached())
    if reason == "fault":
        log.hold.release()
    else:
        asked[0].cancel()
    first, second = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, ConnectionResetError if reason == "fault" else asyncio.CancelledError)
    assert isinstance(second, RoundFailed)
    log.hold, log.is_away = None, False
    assert await rounds.ask("it", 3, log.read) == 0
    assert not rounds._asked


async def test_whoever_stops_waiting_for_an_answer_takes_nobody_elses() -> None:
    rounds, log = Rounds(between=2), Log()
    log.hold = Hold()
    first, second = [asyncio.create_task(rounds.ask("it", number, log.read)) for number in (1, 2)]
    await log.hold.reached()
    second.cancel()
    log.hold.release()
    assert await first == 0
