"""How quickly those who were away catch up, and what those who were there notice of it."""

import asyncio
import time
from collections.abc import AsyncGenerator

from benchmarks import load
from benchmarks.load import Caller, Listener, Room
from benchmarks.parts import Part
from benchmarks.rig import MICRO, MILLI, Cost, Parley, Rig, Row, measured, quantile

USERS = 50
PRESENT, RATE = 10, 50.0  # subscribers of a group in which so many messages a second are sent meanwhile
MISSED = 20
AWAY = 2  # the group that those were away from; the others hear the ones before it


async def resume(rig: Rig) -> AsyncGenerator[Row]:
    """One client far behind, and many a little behind, each of a server that has just started."""
    (far,), (many,) = rig.sizes([300], [10_000]), rig.sizes([20], [1_000])
    async with rig.parley(reach=[3] * USERS, messages=[1, 1, far]) as parley:
        yield await caught_up(rig, parley, Room(0, PRESENT), Room(AWAY, 1, far))
        await parley.restart()
        yield await caught_up(rig, parley, Room(1, PRESENT), Room(AWAY, many, MISSED))


async def caught_up(rig: Rig, parley: Parley, present: Room, away: Room) -> Row:
    async with load.listening(parley, [present]) as there, load.calling(parley.port, 1) as (caller,):
        await load.warmed(parley, caller, [present], there)
        before = await talked(rig, parley, caller, present, there)
        meanwhile, cost = await talked_meanwhile(parley, caller, present, away)
    events = away.listeners * away.behind
    return {
        "clients": away.listeners,
        "missed": away.behind,
        "events_per_s": events / cost.seconds,
        "server_us": cost.server / events * MICRO,
        "seconds": cost.seconds,
        "quiet_p99_ms": before,
        "meanwhile_p99_ms": meanwhile,
    }


async def talked(rig: Rig, parley: Parley, caller: Caller, room: Room, there: list[Listener]) -> float:
    """The p99 of a delivery while nobody resumes; the room is as new afterwards."""
    end = time.perf_counter() + rig.seconds
    await load.at_a_rate(parley, caller, room, RATE, lambda: time.perf_counter() < end)
    p99 = quantile(room.late, 0.99) * MILLI
    room.forget()
    for each in there:
        each.begin()
    return p99


async def talked_meanwhile(parley: Parley, caller: Caller, room: Room, away: Room) -> tuple[float, Cost]:
    """The same while everybody of `away` connects and reads what they missed."""
    over = False
    with measured(parley.family) as cost:
        talk = asyncio.create_task(load.at_a_rate(parley, caller, room, RATE, lambda: not over))
        async with load.listening(parley, [away]):
            await away.until(away.listeners * away.behind)
        over = True
    await talk
    return quantile(room.late, 0.99) * MILLI, cost


RESUME = Part(
    "resume",
    {
        "clients": "clients that resume",
        "missed": "events that each has missed",
        "events_per_s": "events/s",
        "server_us": "server CPU, µs per event",
        "seconds": "until all have caught up, s",
        "quiet_p99_ms": "p99 of others before, ms",
        "meanwhile_p99_ms": "p99 of others meanwhile, ms",
    },
    resume,
)
