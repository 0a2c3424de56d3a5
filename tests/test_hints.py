"""News travel between processes by their hints alone, on every broker that processes can share."""
# ruff: noqa: ARG002  (a log without end needs to know nothing of what it is asked)

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from uuid import UUID

import pytest

import app
from db.engine import Appended
from delivery.bus import Bus
from delivery.events import Batch, Event, Head, Hint, Log
from delivery.feed import EndReason
from delivery.stream import CHANNELS, HEADS_PER_STATEMENT, Streams
from schema import ids
from tests.engines import Postgres
from tests.harness import Node, Stack, World, as_environment, eventually
from tests.inside import followers

NEVER = 3_600.0
"""Seconds between two checks of the heads: nothing but a hint tells of news."""
SEQ = 2**63 - 1
"""The longest that PostgreSQL stores."""


class EndlessLogs:
    """Every log goes from nothing to its last row."""

    async def heads(self, logs: Sequence[Log]) -> Mapping[Log, Head]:
        return dict.fromkeys(logs, Head(0, 0))

    async def after(self, log: Log, seq: int, limit: int) -> Batch:
        return Batch([Event(log, SEQ, None, None)] if seq < SEQ else [], 0)

    async def access_between(self, log: Log, after: int, up_to: int) -> Sequence[Event]:
        return []


class Listener:
    """Notes whose news came."""

    def __init__(self) -> None:
        self.heard: set[Log] = set()

    def take(self, event: Event) -> None:
        self.heard.add(event.log)

    def end(self, reason: EndReason) -> None:
        raise AssertionError(reason)


class WatchedLogs(EndlessLogs):
    """Notes for how many heads it was asked at a time, and in which turn of the loop; it waits for nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.turn = 0

    async def heads(self, logs: Sequence[Log]) -> Mapping[Log, Head]:
        self.asked.append((len(logs), self.turn))
        return await super().heads(logs)

    async def turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


async def test_a_check_of_many_heads_leaves_turns_of_the_loop_to_others() -> None:
    logs, reader = [Log("group", UUID(int=number)) for number in range(2 * HEADS_PER_STATEMENT + 1)], WatchedLogs()
    async with Bus("memory://") as bus, Streams(bus, reader, NEVER) as streams:
        await streams.seats(logs, UUID(int=1), Listener())
        reader.asked.clear()
        others = asyncio.create_task(reader.turns())
        await streams.check_heads()
        others.cancel()
    sizes, turns = zip(*reader.asked, strict=True)
    assert sizes == (HEADS_PER_STATEMENT, HEADS_PER_STATEMENT, 1)
    assert len(set(turns)) == len(turns)


async def test_a_flood_of_hints_at_once_reaches_another_process(node_stack: Stack) -> None:
    logs = [Log("group", UUID(int=number)) for number in range(1_000)]
    listener = Listener()
    with node_stack.fresh() as settings:
        url = settings["broadcast_url"]
        async with Bus(url) as here, Bus(url) as there:
            async with Streams(here, EndlessLogs(), NEVER) as speaking, Streams(there, EndlessLogs(), NEVER) as hearing:
                for seat in await hearing.seats(logs, UUID(int=1), listener):
                    seat.begin(0)
                speaking.announce((Hint(log, SEQ), None) for log in logs)
                await eventually(lambda: listener.heard == set(logs))
            assert (here.counts.lost, there.counts.lost) == (0, 0)


async def test_what_was_committed_together_is_told_in_one_text() -> None:
    logs = [Log("group", UUID(int=number)) for number in range(50)]
    async with Bus("memory://") as bus, Streams(bus, EndlessLogs(), NEVER) as streams:
        streams.announce((Hint(log, SEQ), None) for log in logs)
        await eventually(lambda: bus.counts.published)
    assert bus.counts.published == 1


@pytest.mark.parametrize("turns", range(8))
async def test_what_is_committed_in_any_turn_of_the_loop_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    monkeypatch.setattr("delivery.stream.PUBLISH_PAUSE", 0)
    heard: list[str] = []
    log = Log("group", UUID(int=1))
    async with Bus("memory://") as bus, Streams(bus, EndlessLogs(), NEVER) as streams:
        for channel in CHANNELS:
            await bus.join(channel, heard.append)
        streams.announce([(Hint(log, 1), None)])
        for _ in range(turns):
            await asyncio.sleep(0)
        streams.announce([(Hint(log, 2), None)])
        await eventually(lambda: Hint(log, 2).encode() in heard)
        for channel in CHANNELS:
            await bus.leave(channel, heard.append)


async def test_what_is_committed_soon_after_the_last_telling_is_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delivery.stream.PUBLISH_PAUSE", 0.2)
    heard: list[str] = []
    hints = [Hint(Log("group", UUID(int=number)), SEQ) for number in range(20)]
    async with Bus("memory://") as bus, Streams(bus, EndlessLogs(), NEVER) as streams:
        for channel in CHANNELS:
            await bus.join(channel, heard.append)
        streams.announce([(hints[0], None)])
        await eventually(lambda: heard)
        for hint in hints[1:]:
            streams.announce([(hint, None)])
            await asyncio.sleep(0)
        await eventually(lambda: len(heard) > 1)
        for channel in CHANNELS:
            await bus.leave(channel, heard.append)
    assert heard == [hints[0].encode(), "\n".join(hint.encode() for hint in hints[1:])]


@asynccontextmanager
async def two_nodes_that_never_look(stack: Stack, folder: Path) -> AsyncGenerator[tuple[Node, Node]]:
    with stack.fresh() as settings:
        environment = as_environment({**settings, "head_check_seconds": NEVER})
        async with Node(environment, folder / "one.log") as one, Node(environment, folder / "two.log") as two:
            yield one, two


async def test_news_of_one_node_reach_another_by_their_hints_alone(node_stack: Stack, tmp_path: Path) -> None:
    async with two_nodes_that_never_look(node_stack, tmp_path) as (here, there), World(here) as world:
        ada, bob = await world.users("ada", "bob")
        news = await bob.at(there).group_events()
        group = await world.group(ada, bob)
        assert (await news.event())["group"]["id"] == group
        messages = await bob.at(there).messages(group)
        for content in ("one", "two", "three"):
            await world.send(ada, group, content)
            assert (await messages.event())["message"]["content"] == content


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    with closing(Postgres()) as engine:
        engine.start()
        yield engine


async def test_nodes_on_postgresql_alone_go_on_when_it_has_crashed_and_come_back(
    own_postgres: Postgres, tmp_path: Path
) -> None:
    stack = Stack(tmp_path, own_postgres)
    async with two_nodes_that_never_look(stack, tmp_path) as nodes, World(nodes[0]) as world:
        ada = await world.user()
        group = await world.group(ada)
        messages = await ada.at(nodes[1]).messages(group)
        await world.send(ada, group, "before")
        await messages.event()
        own_postgres.restart(immediate=True)
        for node in nodes:
            await eventually(lambda node=node: "broker_recovered" in node.logs())
            await eventually(node.is_ready)
        await world.send(ada, group, "back")
        assert (await messages.event())["message"]["content"] == "back"


async def test_a_commit_that_nobody_here_follows_is_not_made_into_events(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Appended] = []
    make = app.batch_of

    def counted(appended: Appended) -> Batch | None:
        made.append(appended)
        return make(appended)

    monkeypatch.setattr(app, "batch_of", counted)
    ada = await world.user()
    group = await world.group(ada)
    await world.send(ada, group)
    assert made == []
    messages = await ada.messages(group)
    await eventually(lambda: followers(world.server, ids.group(group)) == 1)
    assert (await world.send(ada, group))["seq"] == (await messages.event())["seq"] == made[-1].seq
