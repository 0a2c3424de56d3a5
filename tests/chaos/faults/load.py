"""What many clients do to servers at once without a single mistake: thousands sit there, hundreds log in."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import psutil

from tests.chaos.clients import PASSWORD, Person
from tests.chaos.crowd import crowd
from tests.chaos.faults import BEFORE, Fault
from tests.chaos.faults.nodes import victim
from tests.chaos.nodes import ChaosNode
from tests.chaos.report import percentiles
from tests.chaos.scene import Scene, Talk, Void
from tests.chaos.wire import Caller, acknowledged
from tests.harness import as_environment, operation

IDLE_SECONDS = 1.5
PRODUCTION_HASH: dict[str, Any] = {"argon2_time_cost": 2, "argon2_memory_kib": 19_456}
LOGINS, AT_ONCE = 48, 16
LAG_SECONDS = 0.02  # between two looks at how late the event loop is
BOUND_SECONDS = 10.0  # generous: other work may share the machine, and what it took is a figure


@asynccontextmanager
async def resettled(node: ChaosNode, **settings: Any) -> AsyncGenerator[None]:
    """The node has other settings meanwhile; it is restarted in order before and after."""
    before = node.environment
    await _restart(node, before | as_environment(settings))
    try:
        yield
    finally:
        await _restart(node, before)


async def _restart(node: ChaosNode, environment: dict[str, str]) -> None:
    node.terminate()
    await node.ended()
    node.environment = environment
    await node.start()


def idle_sockets(number: int) -> Fault:
    """So many sockets sit at one node and say nothing; a message still comes in time."""

    async def fault(scene: Scene, talk: Talk) -> None:
        node = victim(scene)
        process, person = psutil.Process(node.pid), (await scene.people("idler"))[0]
        growth = dict(scene.bounds.growth)
        scene.bounds = replace(scene.bounds, growth=growth | {"rss_mib": growth["rss_mib"] + number // 8})
        await talk.quiet()
        without = await _cpu(process)
        scene.strike(f"{number} sockets")
        before, began = process.memory_info().rss, time.monotonic()
        async with crowd(node.place, person.token, number) as idlers:
            took = time.monotonic() - began
            held = process.memory_info().rss - before
            used = await _cpu(process)
            since = time.monotonic()
            talk.send(talk.members[0], len(scene.places) - 1)
            await talk.flow(2 * BEFORE)
            if not all(idler.is_open for idler in idlers):
                raise AssertionError("an idle socket was closed")
            await scene.happened("all of them sit there", lambda: len(idlers) == number)
        scene.note("sockets", f"{number}, {held / number / 1024:.1f} KiB each, {number / took:.0f} connected a second")
        scene.note("idle CPU", f"{used:.1f} %, without them {without:.1f} %")
        _in_time(scene, "deliveries beside them", scene.delays(since))
        scene.heal()

    return fault


async def _cpu(process: psutil.Process) -> float:
    """Percent of one core."""
    before, began = process.cpu_times(), time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    after = process.cpu_times()
    return 100 * (after.user + after.system - before.user - before.system) / (time.monotonic() - began)


def _in_time(scene: Scene, what: str, seconds: list[float]) -> None:
    if len(seconds) < BEFORE:
        raise Void(f"{len(seconds)} {what} are too few")
    p50, p99 = percentiles(seconds)
    scene.note(what, f"p50 {p50:.0f} ms, p99 {p99:.0f} ms of {len(seconds)}")
    if p99 > BOUND_SECONDS * 1_000:
        raise AssertionError(f"{what} took {p99:.0f} ms")


async def many_log_in(scene: Scene, talk: Talk) -> None:
    """Passwords are hashed as production does it, at the node where others talk: its event loop goes on."""
    node = victim(scene)
    async with resettled(node, **PRODUCTION_HASH):
        await talk.flow(BEFORE)
        person = await scene.person("busy", [node.place])  # whose hash is made there, and so has its cost
        since, lags = time.monotonic(), list[float]()
        scene.strike(f"{LOGINS} log-ins")
        async with acknowledged(node.place, person.token) as connection:
            looking = asyncio.create_task(_look(connection, lags))
            try:
                done = await _log_ins(node, person)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
        took = time.monotonic() - since
        if done < LOGINS // 2:
            raise Void(f"only {done} log-ins were done")
        scene.evidence.append(f"{done} passwords were hashed")
        scene.note("log-ins", f"{done / took:.0f} a second, {LOGINS - done} refused")
        _in_time(scene, "ping to pong meanwhile", lags)
        _in_time(scene, "deliveries meanwhile", scene.delays(since))
        scene.heal()


async def _look(connection: Any, lags: list[float]) -> None:
    """How long a ping waits for its pong: as long as the event loop is busy with something else."""
    while True:
        began = time.monotonic()
        await connection.send('{"type":"ping"}')
        await connection.recv()
        lags.append(time.monotonic() - began)
        await asyncio.sleep(LAG_SECONDS)


async def _log_ins(node: ChaosNode, person: Person) -> int:
    """How many succeeded; the others were told that there are too many at once."""
    variables = {"input": {"username": person.username, "password": PASSWORD}}
    left, done = LOGINS, 0

    async def log_in() -> None:
        nonlocal left, done
        caller = Caller(node.place)
        while left > 0:
            left -= 1
            answer = await caller.run(operation("Login"), variables, timeout=30)
            if answer.kind == "ok":
                done += 1
            elif answer.code != "SERVICE_UNAVAILABLE":
                raise AssertionError(f"a log-in was {answer}")
        caller.close()

    await asyncio.gather(*(log_in() for _ in range(AT_ONCE)))
    return done
