"""What clients do to servers: read nothing, vanish, come back a thousand times, lose answers, repeat themselves."""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import psutil
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.chaos.clients import SEND, Position, Sender
from tests.chaos.faults import BEFORE
from tests.chaos.faults.load import resettled
from tests.chaos.nodes import ChaosNode
from tests.chaos.proxy import Flow, Proxy
from tests.chaos.readers import FOLLOW, Follower
from tests.chaos.scene import Scene, Talk, Void
from tests.chaos.wire import Caller, Place, acknowledged
from tests.harness import eventually

LOUD, LOUD_MESSAGES = "\N{LOUDLY CRYING FACE}" * 3_900, 480  # of 16 KB: the kernel buffers about 4 MB
LOUD_SECONDS = 150.0  # at a load of 15 on two cores 7 come a second
RETURNS, AT_ONCE = 30, 40
RACING = 12
PING_SECONDS = PONG_SECONDS = 1.0


async def reads_nothing(scene: Scene, talk: Talk) -> None:
    """One follower stops reading: it is cut off, the others notice nothing, and it resumes without a loss."""
    slow = talk.client(Follower, "slow", talk.members[0], len(scene.places) - 1, position=Position(talk.start))
    flood = [talk.client(Sender, "loud", talk.members[1], number, secret=LOUD) for number in range(8)]
    async with acknowledged(slow.desk.place, slow.person.token, buffer=4_096) as connection:
        payload = {"query": FOLLOW, "variables": {"groupId": talk.group, "after": talk.start}}
        await connection.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        node = scene.rig.nodes[-1]
        await _catch_up(connection, talk)
        scene.strike("a client reads nothing")
        connection.transport.pause_reading()
        began = time.monotonic()
        for each in flood:
            talk.begin(each)
        cutting = asyncio.create_task(_cut(node, connection.local_address[1]))
        await eventually(lambda: sum(each.sent for each in flood) > LOUD_MESSAGES, LOUD_SECONDS)
        for each in flood:
            each.stop()
        scene.note("cut", f"after {await cutting - began:.1f} s of {LOUD_MESSAGES} messages of 16 KB")
        connection.transport.resume_reading()
        try:
            async with asyncio.timeout(20):
                while True:
                    await connection.recv()
        except ConnectionClosed:
            scene.evidence.append(f"it was cut off with {connection.close_code}")
        if connection.close_code not in (1013, 1006):  # or aborted, when its buffers do not even take the close
            raise AssertionError(f"a slow reader was closed with {connection.close_code}")
    talk.begin(slow)
    await eventually(lambda: slow.received > LOUD_MESSAGES, 30)
    scene.heal()


async def _catch_up(connection: ClientConnection, talk: Talk) -> None:
    """Read until all that was acknowledged has come: for who catches up nothing waits, each frame takes its time."""
    seq = -1
    async with asyncio.timeout(20):
        while seq < talk.newest:
            frame = json.loads(await connection.recv())
            if frame["type"] == "next":
                seq = frame["payload"]["data"]["groupMessages"]["seq"]


async def _cut(node: ChaosNode, port: int) -> float:
    """The moment at which the node has let go of the connection from this port."""
    process = psutil.Process(node.pid)

    def is_gone() -> bool:
        return port not in {each.raddr.port for each in process.net_connections("tcp") if each.raddr}

    await eventually(is_gone, LOUD_SECONDS)
    return time.monotonic()


async def half_open(scene: Scene, talk: Talk) -> None:
    """A peer that is gone, and whose connection nobody closes: the node asks, gets no answer, and lets go of it."""
    node = scene.rig.nodes[-1]
    async with resettled(node, ping_seconds=PING_SECONDS, pong_seconds=PONG_SECONDS):
        async with Proxy.before(node.port) as hole, acknowledged(Place("hole", hole.port), talk.owner.token) as peer:
            await talk.flow(BEFORE)
            await peer.send('{"type":"ping"}')
            await peer.recv()
            scene.strike("a client is half open")
            hole.flow = Flow.SWALLOW
            began = time.monotonic()
            await eventually(lambda: not hole.connections, PING_SECONDS + PONG_SECONDS + 10)
            took = time.monotonic() - began
            scene.note(
                "cut", f"after {took:.1f} s (a ping after {PING_SECONDS:.0f} s, {PONG_SECONDS:.0f} s for a pong)"
            )
            await scene.happened("bytes were swallowed", lambda: hole.swallowed)
        scene.heal()


async def vanishes(scene: Scene, talk: Talk) -> None:
    """A client behind a network that swallows everything: it comes again by another way, from its cursor."""
    node = scene.rig.nodes[-1]
    async with Proxy.before(node.port) as proxy:
        ways = [Place(f"{node.name} (proxy)", proxy.port), *reversed(scene.places)]
        lost = talk.client(Follower, "lost", talk.members[0], places=ways, position=Position(talk.start))
        talk.begin(lost)
        await eventually(lambda: lost.received >= BEFORE, 20)
        scene.strike("a client is cut off without a word")
        proxy.flow = Flow.SWALLOW
        await scene.happened("bytes were swallowed", lambda: proxy.swallowed)
        await eventually(lambda: lost.desk.place == node.place and lost.is_open, 20)
        proxy.reset()
    scene.heal()


async def returns_again_and_again(scene: Scene, talk: Talk) -> None:
    """One client comes and goes many times; each time it goes on where it was."""
    restless = talk.client(Follower, "restless", talk.members[0], position=Position(talk.start))
    talk.begin(restless)
    scene.strike("a client comes and goes")
    for _ in range(RETURNS):
        await eventually(lambda: restless.is_open, 10)
        restless.drop()
        await eventually(lambda: not restless.is_open, 10)
    scene.evidence.append(f"it came {RETURNS} times")
    scene.heal()


async def all_return_at_once(scene: Scene, talk: Talk) -> None:
    """Everybody loses the connection in the same moment."""
    crowd = [
        talk.follow(talk.members[number % len(talk.members)], number) for number in range(AT_ONCE - len(talk.followers))
    ]
    await eventually(lambda: all(each.received for each in crowd), 20)
    scene.strike("everybody is disconnected")
    dropped = sum(each.drop() for each in talk.following)
    await scene.happened("sockets were closed", lambda: dropped >= AT_ONCE // 2)
    scene.heal()


async def loses_answers(scene: Scene, talk: Talk) -> None:
    """Messages are accepted and the answers lost: every repeat gets the same id and number."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy.before(node.port)) for node in scene.rig.nodes]
        ways = [Place(f"proxy {number}", proxy.port) for number, proxy in enumerate(proxies)]
        sender = talk.client(Sender, "unlucky", talk.members[0], places=ways, secret=talk.secret)
        scene.strike("answers are lost")
        for _ in range(RACING):
            for proxy in proxies:
                proxy.answers_to_lose = 1
            if not await sender.send(f"{sender.name}-{scene.number()}"):
                raise Void("a send was refused")
        await scene.happened("answers were lost", lambda: sum(proxy.answers_lost for proxy in proxies) >= RACING)
        sender.desk.close()
    scene.heal()


async def repeats_at_once(scene: Scene, talk: Talk) -> None:
    """The same message is sent many times at once, to every node, with two tokens of its sender."""
    person = talk.members[0]
    twin = replace(person, token=await scene.log_in(person))
    scene.strike("racing repeats")
    for _ in range(4):
        key = f"race-{scene.number()}"
        racers = [
            talk.client(Sender, "racer", who, number, secret=talk.secret)
            for number in range(RACING)
            for who in (person, twin)
        ]
        answers = await asyncio.gather(*(each.send(key) for each in racers))
        for each in racers:
            each.desk.close()
        if not all(answers):
            raise Void("a repeat was refused")
    scene.evidence.append(f"each of 4 messages was sent {2 * RACING} times at once")
    scene.heal()


async def takes_anothers_id(scene: Scene, talk: Talk) -> None:
    """The same clientMessageId with other content is a conflict; by somebody else it is another message."""
    ada, bob = talk.members[:2]
    key = f"same-{scene.number()}"
    sender = talk.client(Sender, "first", ada, secret=talk.secret)
    other = talk.client(Sender, "second", bob, secret=talk.secret)
    scene.strike("one id for two messages")
    await sender.send(key)
    await other.send(key)
    variables = {"input": {"groupId": talk.group, "content": "something else", "clientMessageId": key}}
    for number, place in enumerate(scene.places):
        caller = Caller(place)
        answer = await caller.run(SEND, variables, ada.token)
        caller.close()
        if answer.code != "CONFLICT":
            raise AssertionError(f"another content under {key} was {answer} at {number}")
    for each in (sender, other):
        each.desk.close()
    scene.evidence.append("a conflict was told at every node")
    scene.heal()
