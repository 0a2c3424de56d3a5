"""What happens to server processes: killed, paused, told to stop, started at once, short of descriptors."""

import asyncio
import signal
from contextlib import AsyncExitStack
from functools import partial

import psutil

from failpoints import Name
from tests.chaos.faults import Fault
from tests.chaos.nodes import ChaosNode
from tests.chaos.scene import Scene, Talk, Void
from tests.chaos.wire import Refused, acknowledged

PAUSE_SECONDS = 0.8
KILLED = -signal.SIGKILL
NTH = 6  # the hit at which a failpoint acts


def victim(scene: Scene) -> ChaosNode:
    """The node that it happens to: the last, so that the first is the other one."""
    return scene.rig.nodes[-1]


async def killed(scene: Scene, talk: Talk) -> None:
    node = victim(scene)
    scene.strike("kill -9")
    node.kill()
    await scene.happened("a node ended by SIGKILL", lambda: node.process.returncode == KILLED)
    await _come_back(scene, talk, node)


async def _come_back(scene: Scene, talk: Talk, *nodes: ChaosNode) -> None:
    """Whoever was there goes on at another node at once, or here when it is back."""
    elsewhere = len(scene.rig.nodes) > len(nodes)
    if elsewhere:
        scene.heal()
        await talk.flow(3)
    await asyncio.gather(*(node.start() for node in nodes))
    if not elsewhere:
        scene.heal()


async def all_killed(scene: Scene, talk: Talk) -> None:
    scene.strike("kill -9 of every node")
    for node in scene.rig.nodes:
        node.kill()
    await scene.happened(
        "all ended by SIGKILL", lambda: all(node.process.returncode == KILLED for node in scene.rig.nodes)
    )
    await _come_back(scene, talk, *scene.rig.nodes)


async def restart_armed(node: ChaosNode, failpoints: str) -> None:
    """Stop it in order; its next process has these failpoints, the one after that has none."""
    node.terminate()
    await node.ended()
    node.failpoints = failpoints
    try:
        await node.start()
    finally:
        node.failpoints = ""


def stopped_at(name: Name, action: str) -> Fault:
    """A node stops itself in the middle of a send, or of a replay: `kill` or `pause`."""
    return partial(_killed_at if action == "kill" else _paused_at, name)


async def _armed(name: Name, action: str, scene: Scene, talk: Talk) -> ChaosNode:
    node = victim(scene)
    await restart_armed(node, f"{name}={action}@{NTH}")
    scene.strike(f"{action} at {name}")
    if name == "mid_replay":
        talk.follow(talk.members[0], len(scene.places) - 1)
    return node


async def _killed_at(name: Name, scene: Scene, talk: Talk) -> None:
    node = await _armed(name, "kill", scene, talk)
    await scene.happened(f"a node ended by SIGKILL at {name}", lambda: node.process.poll() == KILLED, 20)
    await _come_back(scene, talk, node)


async def _paused_at(name: Name, scene: Scene, talk: Talk) -> None:
    node = await _armed(name, "pause", scene, talk)
    await scene.happened(f"a node stood still at {name}", lambda: node.status == psutil.STATUS_STOPPED, 20)
    await asyncio.sleep(PAUSE_SECONDS)
    node.send(signal.SIGCONT)
    scene.heal()


async def paused(scene: Scene, talk: Talk) -> None:
    node = victim(scene)
    scene.strike("SIGSTOP")
    node.send(signal.SIGSTOP)
    await scene.happened("a node stood still", lambda: node.status == psutil.STATUS_STOPPED)
    await asyncio.sleep(PAUSE_SECONDS)
    node.send(signal.SIGCONT)
    scene.heal()


async def paused_past_patience(scene: Scene, talk: Talk) -> None:
    """So long that clients give their sockets up and go elsewhere."""
    node = victim(scene)
    scene.strike("SIGSTOP")
    node.send(signal.SIGSTOP)
    await scene.happened("a node stood still", lambda: node.status == psutil.STATUS_STOPPED)
    if len(scene.rig.nodes) > 1:
        await talk.flow(3)
    else:
        await asyncio.sleep(4)
    node.send(signal.SIGCONT)
    scene.heal()


async def deployed(scene: Scene, talk: Talk) -> None:
    """SIGTERM to each node in turn, the next one when the one before is back."""
    for node in scene.rig.nodes:
        scene.strike("SIGTERM")
        node.terminate()
        code = await node.ended()
        if code not in (0, -signal.SIGTERM):
            raise Void(f"the node ended with {code}")
        scene.evidence.append("a node ended in order")
        await _come_back(scene, talk, node)
        await talk.flow(3)


async def started_at_once(scene: Scene, talk: Talk) -> None:
    """All stop, all start in the same moment, and everybody comes at once."""
    scene.strike("SIGTERM to all")
    for node in scene.rig.nodes:
        node.terminate()
    for node in scene.rig.nodes:
        await node.ended()
    scene.evidence.append("no node was there")
    await _come_back(scene, talk, *scene.rig.nodes)


async def out_of_descriptors(scene: Scene, talk: Talk) -> None:
    """A node may open no further file: who is there goes on, who comes is turned away, and it ends with the cause."""
    node = victim(scene)
    process = psutil.Process(node.pid)
    _, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    before = process.rlimit(psutil.RLIMIT_NOFILE)[0]
    scene.strike("no descriptors")
    process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 4, hard))
    try:
        async with AsyncExitStack() as newcomers:
            refused = 0
            while not refused:
                try:
                    await newcomers.enter_async_context(acknowledged(node.place, talk.owner.token, timeout=1))
                except Refused:
                    refused += 1
            scene.evidence.append("a newcomer was turned away")
            await talk.flow(3)
    finally:
        process.rlimit(psutil.RLIMIT_NOFILE, (before, hard))
    scene.heal()


async def log_full(scene: Scene, talk: Talk) -> None:
    """What a node logs finds no room, just when it has something to say: that its broker is gone."""
    node, link = victim(scene), scene.rig.brokers[-1]
    process, size = psutil.Process(node.pid), len(node.logs().encode())
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    scene.strike("no room for logs")
    process.rlimit(psutil.RLIMIT_FSIZE, (size, before[1]))
    try:
        ended = link.cut()
        await scene.happened("connections to the broker broke", lambda: ended)
        await talk.flow(5)
        if len(node.logs().encode()) > size:
            raise Void("the log grew all the same")
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)
    scene.heal()
