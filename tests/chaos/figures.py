"""One figure at a time, each with its own shape of load and the same judgement: what docs/guarantees.md quotes."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import asyncpg
import psutil

from schema import ids
from tests.chaos.clients import Position, Sender
from tests.chaos.playing import Outcome, played
from tests.chaos.readers import Follower
from tests.chaos.report import percentiles
from tests.chaos.rig import Engines, rigged
from tests.chaos.scene import Scene, Talk
from tests.harness import eventually

Play = Callable[[Scene, int], Coroutine[Any, Any, str]]
PAUSE_SECONDS = 0.05  # between two lost connections
AT_ONCE = 12  # groups
CALM_SECONDS = 0.01  # between two messages of a group, so that what is measured gets the processors
WAIT_SECONDS = 60  # for one step; what it took is the figure
AWAY = ("ConnectionRefusedError",)  # nothing was sent


@dataclass(frozen=True)
class Figure:
    """What is measured, how many times unless told otherwise, and how."""

    what: str
    number: int
    play: Play


async def _has(follower: Follower, number: int) -> None:
    await eventually(lambda: follower.received >= number, WAIT_SECONDS)


async def _end_of(follower: Follower) -> float:
    """Wait for it; the seconds that it took."""
    began = time.monotonic()
    await eventually(lambda: follower.ended, WAIT_SECONDS)
    return time.monotonic() - began


async def resumes(scene: Scene, number: int) -> str:
    """Ten clients lose their connection after every few events while eight people write."""
    async with scene.talk(8, 10, pollers=0, strangers=0) as talk:
        returns = 0
        await talk.flow(3)
        scene.strike("connections are lost")
        while (rows := sum(each.received for each in talk.followers)) < number:
            for each in talk.followers:
                returns += each.drop()
                await asyncio.sleep(PAUSE_SECONDS)
    return f"{rows} rows over {returns} resumes under 8 writers"


async def joins(scene: Scene, number: int) -> str:
    """The first subscriber of a group at its node, while somebody sends: nothing after its position is missed."""
    async with scene.talk(0, 0, pollers=0, strangers=0) as first:
        talks = [await scene.another_talk(first, followers=0, pause=CALM_SECONDS) for _ in range(AT_ONCE)]
        done = 0

        async def join(talk: Talk) -> None:
            nonlocal done
            while done < number:
                done += 1
                joiner = talk.client(Follower, "joiner", talk.members[-1], done, position=await scene.head(talk))
                talk.begin(joiner)
                await _has(joiner, 2)
                await talk.leave(joiner)

        await asyncio.gather(*map(join, talks))
    return f"{done} joins"


async def retries(scene: Scene, number: int) -> str:
    """Each message is sent fifty times at once, to both nodes."""
    racing = 50
    async with scene.talk(1, 2, pollers=0, strangers=0) as talk:
        racers = [talk.client(Sender, "racer", talk.members[0], place, secret=talk.secret) for place in range(racing)]
        for message in range(-(-number // racing)):
            await asyncio.gather(*(each.send(f"race-{message}") for each in racers))
        for each in racers:
            each.desk.close()
    return f"{racing * -(-number // racing)} attempts at {-(-number // racing)} messages"


async def removals(scene: Scene, number: int) -> str:
    """Somebody follows at one node and is removed at the other while messages flow, again and again."""
    took = list[float]()
    async with scene.talk(0, 0, pollers=0, strangers=0) as first:
        talks = [await scene.another_talk(first, followers=0, pause=CALM_SECONDS) for _ in range(AT_ONCE)]

        async def remove(talk: Talk) -> None:
            person = talk.members[-1]
            position = await scene.head(talk)
            changer = talk.changer()
            while len(took) < number:
                stream = talk.client(Follower, "victim", person, 1, position=position)
                talk.begin(stream)
                await _has(stream, 1)
                await changer.change("RemoveMember", "remove", person)
                took.append(await _end_of(stream))
                await talk.leave(stream)
                position = stream.position
                await changer.change("AddMember", "add", person)

        await asyncio.gather(*map(remove, talks))
    p50, p99 = percentiles(took)
    return f"{len(took)} removals at the other node; stream ended after p50 {p50:.0f} ms, p99 {p99:.0f} ms"


async def deploys(scene: Scene, number: int) -> str:
    """Each node in turn is told to stop and started again while people talk."""
    drained = list[float]()
    async with scene.talk(3, 6) as talk:
        for turn in range(number):
            node = scene.rig.nodes[turn % len(scene.rig.nodes)]
            await talk.flow(5)
            scene.strike("SIGTERM")
            node.terminate()
            began = time.monotonic()
            if (code := await node.ended()) not in (0, -signal.SIGTERM):
                raise AssertionError(f"a node ended with {code}")
            drained.append(time.monotonic() - began)
            scene.heal()
            await node.start()
        broken = sum(each.what == "unknown" and each.text not in AWAY for each in scene.history.happenings)
    p50, p99 = percentiles(drained)
    return f"{number} deploys, {broken} requests broken off; drained in p50 {p50:.0f} ms, p99 {p99:.0f} ms"


async def reach(scene: Scene, number: int) -> str:
    """One client comes back after so many messages, at another node than the one that it had left."""
    async with scene.talk(1, 1, pollers=0, strangers=0) as talk:
        await talk.flow(3)
        left = talk.client(Follower, "traveller", talk.members[0], 0, position=Position(talk.start))
        talk.begin(left)
        await eventually(lambda: left.received >= 3)
        await talk.quiet()
        for each in talk.following:  # what comes now is read by one only
            await talk.leave(each)
        await _written(scene, talk, number)
        node = scene.rig.nodes[-1]
        before, began = psutil.Process(node.pid).memory_info().rss, time.monotonic()
        back = talk.client(Follower, "traveller", talk.members[0], 1, position=left.position)
        talk.begin(back)
        most = before
        while back.received < number and not back.ended:
            await asyncio.sleep(0.1)
            most = max(most, psutil.Process(node.pid).memory_info().rss)
        took = time.monotonic() - began
        talk.send(talk.members[1], most=1)
        await eventually(lambda: back.received > number)
    grown = (most - before) >> 20
    return f"{back.received} messages in {took:.0f} s ({number / took:.0f}/s); its node grew by {grown} MiB"


async def _written(scene: Scene, talk: Talk, number: int) -> None:
    """As many messages as that, written beside the servers: sending them would take an hour."""
    group = ids.group(talk.group)
    connection = await asyncpg.connect(scene.rig.database_url)
    try:
        head = await connection.fetchval("SELECT head_seq FROM groups WHERE id = $1", group)
        sender = await connection.fetchval("SELECT created_by FROM groups WHERE id = $1", group)
        scene.history.add("filled", group=talk.group, after=head, seq=head + number)
        await connection.execute(FILL, group, head, number, sender)
        await connection.execute(
            "UPDATE groups g SET head_seq = e.seq, head_nonce = e.nonce FROM group_events e "
            "WHERE g.id = $1 AND e.group_id = g.id AND e.seq = $2",
            group, head + number,
        )  # fmt: skip
    finally:
        await connection.close()


FILL = """WITH made AS (
  INSERT INTO messages (id, group_id, seq, version, sender_id, content, created_at, updated_at)
  SELECT gen_random_uuid(), $1::uuid, $2 + n, $2 + n, $4::uuid, 'message ' || n, now(), now()
  FROM generate_series(1, $3::bigint) n RETURNING id, seq)
INSERT INTO group_events (group_id, seq, nonce, kind, occurred_at, actor_id, message_id, data)
SELECT $1::uuid, seq, (random() * 4294967295)::bigint, 'MESSAGE_SENT', now(), $4::uuid, id, '{}' FROM made"""
FIGURES = {
    each.play.__name__: each
    for each in (
        Figure("rows skipped by a resume under 8 writers", 100_000, resumes),
        Figure("messages missed by first subscribers that race with sends", 10_000, joins),
        Figure("double inserts in racing retries", 100_000, retries),
        Figure("deliveries to a removed member after the removal", 10_000, removals),
        Figure("deploys without a failed send", 100, deploys),
        Figure("resume reach, at another node", 1_000_000, reach),
    )
}


async def measured(engines: Engines, name: str, number: int | None, seed: str) -> tuple[str, Outcome]:
    """The figure as a sentence, and the judgement of its run."""
    figure = FIGURES[name]
    said = list[str]()

    async def body(scene: Scene) -> None:
        said.append(await figure.play(scene, number or figure.number))

    async with rigged(engines, "redis", 2, rows=0) as rig:
        outcome = await played(name, rig, body, seed)
    return f"{figure.what}: {len(outcome.violations)} ({'; '.join(said)})", outcome
