"""What happens to the broker, to the way to it, and to the hints that it carries."""

import asyncio
from collections.abc import Callable
from functools import partial

import asyncpg
import psutil
from redis.asyncio import Redis as RedisClient

from delivery.postgres import LISTENS, PUBLISHES
from tests.chaos.faults import Fault
from tests.chaos.proxy import Flow, Proxy
from tests.chaos.scene import Scene, Talk

DOWN_SECONDS = 0.7
SILENT_SECONDS = 2.0  # a silent death is noticed after one


def _losses(scene: Scene) -> int:
    return sum(node.logs().count('"broker_lost"') for node in scene.rig.nodes)


async def _redis(scene: Scene, *words: str) -> object:
    client = RedisClient.from_url(scene.rig.redis.url())  # pyright: ignore[reportUnknownMemberType]
    async with client:
        return await client.execute_command(*words)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]


async def restarted(scene: Scene, talk: Talk) -> None:
    """Redis in order and at once; PostgreSQL as a broker: every session that listens is ended."""
    before = _losses(scene)
    scene.strike("broker restarted")
    if scene.rig.backend == "redis":
        scene.rig.redis.restart()
    else:
        await listeners_ended(scene, talk)
    await scene.happened("a node lost its broker", lambda: _losses(scene) > before)
    scene.heal()


async def killed(scene: Scene, talk: Talk) -> None:
    before = _losses(scene)
    scene.strike("broker killed")
    scene.rig.redis.kill()
    try:
        await scene.happened("a node lost its broker", lambda: _losses(scene) > before)
        await talk.flow(3)
        await asyncio.sleep(DOWN_SECONDS)
    finally:
        scene.rig.redis.start()
    scene.heal()


async def flushed(scene: Scene, talk: Talk) -> None:
    scene.strike("FLUSHALL")
    answer = await _redis(scene, "FLUSHALL")
    await scene.happened("Redis forgot everything", lambda: answer)
    scene.heal()


def clients_killed(kind: str) -> Fault:
    """Redis ends the connections that listen (`pubsub`) or that publish (`normal`)."""

    async def fault(scene: Scene, talk: Talk) -> None:
        scene.strike(f"CLIENT KILL {kind}")
        ended = await _redis(scene, "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        await scene.happened("connections were ended", lambda: ended)
        scene.heal()

    return fault


async def commands_paused(scene: Scene, talk: Talk) -> None:
    scene.strike("CLIENT PAUSE")
    scene.rig.redis.pause(SILENT_SECONDS)
    scene.evidence.append("Redis says that it pauses")
    await talk.flow(3)
    await asyncio.sleep(SILENT_SECONDS)
    scene.heal()


async def sleeping(scene: Scene, talk: Talk) -> None:
    """Redis runs one command for a second, and nothing else."""
    scene.strike("DEBUG SLEEP")
    await _redis(scene, "DEBUG", "SLEEP", "1")
    scene.evidence.append("Redis has slept")
    scene.heal()


async def stopped(scene: Scene, talk: Talk) -> None:
    scene.strike("broker SIGSTOP")
    with scene.rig.redis.paused():
        process = psutil.Process(scene.rig.redis.pid)
        await scene.happened("Redis stands still", lambda: process.status() == psutil.STATUS_STOPPED)
        await talk.flow(3)
        await asyncio.sleep(SILENT_SECONDS)
    scene.heal()


async def _end_sessions(scene: Scene, name: str) -> int:
    connection = await asyncpg.connect(scene.rig.postgres.url())
    try:
        return await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1", name
        )
    finally:
        await connection.close()


async def listeners_ended(scene: Scene, talk: Talk) -> None:
    scene.strike("listening sessions ended")
    ended = await _end_sessions(scene, LISTENS)
    await scene.happened("sessions that listen were ended", lambda: ended)
    scene.heal()


async def publishers_ended(scene: Scene, talk: Talk) -> None:
    scene.strike("publishing sessions ended")
    ended = await _end_sessions(scene, PUBLISHES)
    await scene.happened("sessions that publish were ended", lambda: ended)
    scene.heal()


# The way to the broker. `whole`: of every node, else of the last one only.


def links(scene: Scene, *, whole: bool) -> list[Proxy]:
    return scene.rig.brokers if whole else scene.rig.brokers[-1:]


def way(how: str, *, whole: bool) -> Fault:
    """`cut`, `reset`, `blackholed`, `stalled`, `refused`, `delayed`, `throttled`."""
    return partial(WAYS[how], whole)


async def _ended(act: Callable[[Proxy], int], whole: bool, scene: Scene, talk: Talk) -> None:
    scene.strike("the way to the broker breaks")
    ended = sum(act(link) for link in links(scene, whole=whole))
    await scene.happened("connections broke", lambda: ended)
    scene.heal()


async def _refused(whole: bool, scene: Scene, talk: Talk) -> None:
    scene.strike("the way to the broker is closed")
    for link in links(scene, whole=whole):
        link.refuse(refusing=True)
        link.cut()
    before = _losses(scene)
    try:
        await talk.flow(3)
        await asyncio.sleep(DOWN_SECONDS)
    finally:
        for link in links(scene, whole=whole):
            link.refuse(refusing=False)
    await scene.happened("a node lost its broker", lambda: _losses(scene) > before or before)
    scene.heal()


async def _blackholed(flow: Flow, whole: bool, scene: Scene, talk: Talk) -> None:
    """Everything on the way vanishes (and the connections with it), or comes when it is over."""
    scene.strike(f"the way to the broker: {flow.value}")
    before = _losses(scene)
    for link in links(scene, whole=whole):
        link.flow = flow
    try:
        await talk.flow(3)
        await scene.happened("a node lost its broker", lambda: _losses(scene) > before)
    finally:
        for link in links(scene, whole=whole):
            link.flow = Flow.PASS
            if flow is Flow.SWALLOW:
                link.reset()
    scene.heal()


async def _slowed(delay: float, rate: float, whole: bool, scene: Scene, talk: Talk) -> None:
    scene.strike("the way to the broker is slow")
    before = sum(link.chunks for link in links(scene, whole=whole))
    for link in links(scene, whole=whole):
        link.delay, link.rate = delay, rate
    try:
        await talk.flow(6)
        await scene.happened(
            "hints came late", lambda: sum(link.chunks for link in links(scene, whole=whole)) > before + 3
        )
    finally:
        for link in links(scene, whole=whole):
            link.delay = link.rate = 0
    scene.heal()


WAYS = {
    "cut": partial(_ended, Proxy.cut),
    "reset": partial(_ended, Proxy.reset),
    "refused": _refused,
    "blackholed": partial(_blackholed, Flow.SWALLOW),
    "stalled": partial(_blackholed, Flow.STALL),
    "delayed": partial(_slowed, 0.15, 0.0),
    "throttled": partial(_slowed, 0.0, 800.0),
}


# Hints themselves


def astray(drop: float = 0, double: float = 0, shuffle: float = 0) -> Fault:
    """These shares of hints are lost, come twice, come late."""

    async def fault(scene: Scene, talk: Talk) -> None:
        scene.strike(f"hints: {drop:.0%} dropped, {double:.0%} doubled, {shuffle:.0%} shuffled")
        for node in scene.rig.nodes:
            await node.tell(drop=drop, double=double, shuffle=shuffle)
        try:
            await talk.flow(25)
            while drop and not sum([(await node.tell())["hints_lost"] for node in scene.rig.nodes]):
                await talk.flow(5)
            scene.evidence.append("hints went astray")
            await talk.level()
        finally:
            for node in scene.rig.nodes:
                await node.tell(drop=0, double=0, shuffle=0)
        scene.heal()

    return fault


async def all_lost(scene: Scene, talk: Talk) -> None:
    """Everything is sent at one node, and the other never hears of it: it finds out by itself."""
    await talk.quiet()
    scene.strike("no hint arrives")
    for node in scene.rig.nodes:
        await node.tell(drop=1.0)
    try:
        talk.send(talk.members[0], places=scene.places[:1])
        await talk.flow(25)
        await talk.quiet()
        lost = sum([(await node.tell())["hints_lost"] for node in scene.rig.nodes])
        await scene.happened("hints were lost", lambda: lost)
    finally:
        for node in scene.rig.nodes:
            await node.tell(drop=0)
    talk.send(talk.members[0])
    scene.heal()
