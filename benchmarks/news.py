"""What it holds and costs that everybody follows all of their groups on one subscription, `myGroupEvents`."""

import asyncio
from collections.abc import AsyncGenerator

from benchmarks import load
from benchmarks.load import Room
from benchmarks.parts import Part
from benchmarks.rig import MICRO, MILLI, Rig, Row, measured

HEAD_CHECK_SECONDS = 0.25  # twenty times as often as it is by default, to measure it


async def news(rig: Rig) -> AsyncGenerator[Row]:
    for users, groups in rig.sizes([(10, 5)], [(100, 10), (100, 100), (1_000, 100)], [(10_000, 500)]):
        settings = {"HEAD_CHECK_SECONDS": str(HEAD_CHECK_SECONDS)}
        async with rig.parley(reach=[groups] * users, messages=[0] * groups, news=True, **settings) as parley:
            room, before = Room(0, users), parley.family.memory()
            with measured(parley.family) as opening:
                async with load.listening(parley, [room]) as listeners, load.calling(parley.port, 1) as calling:
                    await room.until(users)
                    opening.stop()
                    held = parley.family.memory() - before
                    with measured(parley.family) as resting:
                        await asyncio.sleep(rig.seconds)
                    await load.warmed(parley, calling[0], [room], listeners)
                    with measured(parley.family) as telling:
                        await load.converse(load.shared(parley, calling, [room]), rig.seconds)
            yield {
                "users": users,
                "groups": groups,
                "bytes": held / users / groups,
                "start_ms": opening.server / users * MILLI,
                "check_ms": once(resting.server / resting.seconds) * MILLI,
                "server_us": telling.server / room.heard * MICRO,
            }


def once(busy: float) -> float:
    """Seconds of one head check, from the share of the time that was spent in them."""
    return HEAD_CHECK_SECONDS * busy / max(1 - busy, 0.01)


NEWS = Part(
    "news",
    {
        "users": "users",
        "groups": "groups of each",
        "bytes": "memory, bytes per user and group",
        "start_ms": "server CPU to begin, ms per user",
        "check_ms": "one check of all heads, ms",
        "server_us": "server CPU, µs per delivery of a change",
    },
    news,
)
